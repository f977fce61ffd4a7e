//! Why something is refused, as the JSON objects that say so.

use std::time::Duration;

use crate::wire::json::{object, object_of};

/// `{reason}`: a word of the protocol, or a sentence for a person.
pub fn reason(text: &str) -> String {
    object_of(REASON_FRAME_BYTES + text.len(), |refusal| {
        refusal.text("reason", text);
    })
}

/// `{reason: "rate_limited", retry_after}`: over a rate limit for so many ms more.
pub fn over_rate(wait: Duration) -> String {
    object(|refusal| {
        refusal.text("reason", "rate_limited").number("retry_after", whole_ms(wait));
    })
}

/// Payload of `rate_limited`.
pub fn rate_limited(class: &str, wait: Duration) -> String {
    let ms = whole_ms(wait);
    let message = format!("over the rate limit of {class}; try again in {ms} ms");
    object(|notice| {
        notice.text("class", class).text("message", &message).number("retry_after", ms);
    })
}

/// Rounded up, so that a client that waits that long has waited long enough.
fn whole_ms(time: Duration) -> u64 {
    time.as_micros().div_ceil(1000) as u64
}

/// Bytes of a reason besides its text.
const REASON_FRAME_BYTES: usize = r#"{"reason":""}"#.len();
