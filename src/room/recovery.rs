//! `catch_up`: what a member that comes back has missed, all of it or nothing (PROTOCOL 5).

use super::history::{History, Kept, Missed};
use crate::ids::StreamPosition;
use crate::limits::PRESENCE_TEXT_BYTES_MAX as TEXT_BYTES_MAX;
use crate::planted;
use crate::wire::json::{object, object_of, write_object};
use crate::wire::phoenix::Event;

/// The payload of the answer to a member that has seen `seen`.
#[derive(Debug, PartialEq, Eq)]
pub enum CatchUp {
    /// All that it missed.
    Recovered(String),
    /// It must start anew: the whole state follows.
    Lost(String),
}

/// Answers a member of the stream `epoch`. `write` appends a missed event as `{"event":…,"seq":…,"payload":…}`, or nothing
/// if it was not meant for the member.
pub fn catch_up<T: Kept>(
    history: &History<T>,
    epoch: u64,
    seen: StreamPosition,
    mut write: impl FnMut(&mut String, &T),
) -> CatchUp {
    if seen.epoch != epoch {
        return lost("epoch", epoch, history.seq());
    }
    let missed = match history.since(seen.seq) {
        Missed::Replay(missed) => missed,
        Missed::TooOld => return lost("too_old", epoch, history.seq()),
        Missed::Ahead => return lost("ahead", epoch, history.seq()),
    };
    let mut events = String::from("[");
    for event in missed.skip(usize::from(planted!(CatchesUpOffByOne))) {
        let before = events.len();
        if before > 1 {
            events.push(',');
        }
        let start = events.len();
        write(&mut events, event);
        if events.len() == start {
            events.truncate(before);
        }
        // It is one message, and it is never a part of what was missed.
        if events.len() > TEXT_BYTES_MAX {
            return lost("too_old", epoch, history.seq());
        }
    }
    events.push(']');
    CatchUp::Recovered(recovered(&events, epoch, history.seq()))
}

/// The payload that carries `events`.
fn recovered(events: &str, epoch: u64, seq: u64) -> String {
    object_of(events.len() + FRAME_BYTES, |answer| {
        answer.raw("events", events).boolean("recovered", true).plain("epoch", epoch).number("seq", seq);
    })
}

/// What a payload has besides its events.
const FRAME_BYTES: usize = 96;

/// The answer that nothing can be caught up with.
pub fn lost(reason: &str, epoch: u64, seq: u64) -> CatchUp {
    CatchUp::Lost(object(|answer| {
        answer.array("events", |_| {}).boolean("recovered", false).text("reason", reason);
        answer.plain("epoch", epoch).number("seq", seq);
    }))
}

/// Appends one event of `catch_up`.
pub fn write_event(events: &mut String, event: Event, seq: u64, payload: &str) {
    write_object(events, |missed| {
        missed.text("event", event.as_str()).number("seq", seq).raw("payload", payload);
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(history: &History<u64>, epoch: u64, seq: u64) -> CatchUp {
        catch_up(history, 7, StreamPosition { epoch, seq }, |events, event| {
            if !event.is_multiple_of(2) {
                write_event(events, Event::GameEvent, *event, "{}");
            }
        })
    }

    #[test]
    fn what_was_missed_comes_once_or_the_reason_why_not() {
        let mut history = History::new(3);
        for _ in 0..5 {
            history.push(|seq| seq);
        }
        let recovered = r#"{"events":[{"event":"game_event","seq":3,"payload":{}},{"event":"game_event","seq":5,"payload":{}}],"recovered":true,"epoch":"7","seq":5}"#;
        assert_eq!(answer(&history, 7, 2), CatchUp::Recovered(recovered.into()));
        for (epoch, seq, reason) in [(8, 2, "epoch"), (7, 1, "too_old"), (7, 6, "ahead")] {
            let CatchUp::Lost(text) = answer(&history, epoch, seq) else { panic!("{reason}") };
            assert!(
                text.contains(&format!(r#""recovered":false,"reason":"{reason}","epoch":"7","seq":5"#)),
                "{text}"
            );
        }
    }

    #[test]
    fn more_than_fits_into_a_message_is_too_old() {
        let mut history = History::new(300);
        for _ in 0..20 {
            history.push(|seq| seq);
        }
        let long =
            |events: &mut String, seq: &u64| write_event(events, Event::GameEvent, *seq, &"9".repeat(4096));
        let seen = |seq| StreamPosition { epoch: 7, seq };
        assert!(matches!(catch_up(&history, 7, seen(10), long), CatchUp::Recovered(_)));
        assert!(
            matches!(catch_up(&history, 7, seen(0), long), CatchUp::Lost(text) if text.contains("too_old"))
        );
    }
}
