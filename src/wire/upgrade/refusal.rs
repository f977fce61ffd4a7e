//! The answer to a request that is not upgraded.

use crate::limits::REFUSAL_RETRY_AFTER;
use crate::reasons::RefusalReason;

/// A request that is answered with an error status and closed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// Status, and the label in `/metrics`.
    pub reason: RefusalReason,
    /// One line for a person: what was wrong, and what would be right.
    pub text: Box<str>,
}

impl Refusal {
    /// `text` is one line: what was wrong, and what would be right.
    pub fn new(reason: RefusalReason, text: impl Into<Box<str>>) -> Self {
        let text = text.into();
        debug_assert!(!text.contains(['\r', '\n']), "one line");
        Self { reason, text }
    }

    /// The error response; the connection is closed behind it.
    pub fn response(&self) -> Vec<u8> {
        let (phrase, headers) = match self.reason {
            RefusalReason::BadRequest => ("Bad Request", String::new()),
            RefusalReason::Origin | RefusalReason::Token | RefusalReason::Version => {
                ("Forbidden", String::new())
            }
            RefusalReason::NotFound => ("Not Found", String::new()),
            RefusalReason::Method => ("Method Not Allowed", "Allow: GET\r\n".to_owned()),
            RefusalReason::Timeout => ("Request Timeout", String::new()),
            RefusalReason::UpgradeRequired => (
                "Upgrade Required",
                "Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\n".to_owned(),
            ),
            RefusalReason::AddressLimit => ("Too Many Requests", retry_after()),
            RefusalReason::HeadTooLarge => ("Request Header Fields Too Large", String::new()),
            RefusalReason::Full | RefusalReason::Draining | RefusalReason::TokenRate => {
                ("Service Unavailable", retry_after())
            }
        };
        let (status, text) = (self.reason.status(), &self.text);
        let content_length = text.len() + 1;
        format!(
            "HTTP/1.1 {status} {phrase}\r\n{headers}Content-Type: text/plain; charset=utf-8\r\n\
             Content-Length: {content_length}\r\nConnection: close\r\n\r\n{text}\n"
        )
        .into_bytes()
    }
}

fn retry_after() -> String {
    format!("Retry-After: {}\r\n", REFUSAL_RETRY_AFTER.as_secs())
}

pub(super) fn bad_request(text: impl Into<Box<str>>) -> Refusal {
    Refusal::new(RefusalReason::BadRequest, text)
}

pub(super) fn refuse<T>(reason: RefusalReason, text: impl Into<Box<str>>) -> Result<T, Refusal> {
    Err(Refusal::new(reason, text))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refusal_is_a_whole_response() {
        let response = |reason| String::from_utf8(Refusal::new(reason, "Nö.").response()).unwrap();
        assert_eq!(
            response(RefusalReason::NotFound),
            "HTTP/1.1 404 Not Found\r\nContent-Type: text/plain; charset=utf-8\r\nContent-Length: 5\r\n\
             Connection: close\r\n\r\nNö.\n"
        );
        assert!(response(RefusalReason::Method).contains("\r\nAllow: GET\r\n"));
        assert!(response(RefusalReason::UpgradeRequired).contains("\r\nUpgrade: websocket\r\n"));
        assert!(response(RefusalReason::UpgradeRequired).contains("\r\nSec-WebSocket-Version: 13\r\n"));
        for reason in [RefusalReason::AddressLimit, RefusalReason::Full, RefusalReason::Draining] {
            assert!(response(reason).contains("\r\nRetry-After: 5\r\n"));
        }
        for &reason in RefusalReason::ALL {
            assert!(response(reason).starts_with(&format!("HTTP/1.1 {} ", reason.status())));
        }
    }
}
