//! The upgrade: one request, and what a server answers to it. Sans I/O.

use httparse::Status;
use tungstenite::handshake::derive_accept_key;

const HEADERS_MAX: usize = 32;
/// Longest answer that is kept, head and body.
const ANSWER_BYTES_MAX: usize = 8 * 1024;
/// All connections send the same key, so that its answer is computed once and every connection's is checked.
const KEY: &str = "Y29yZWxheS1sb2FkdGVzdA==";

/// What every connection of a run has in common: the host it asks for, and the answer it waits for.
#[derive(Clone, Debug)]
pub struct Handshake {
    host: String,
    accept_key: String,
}

/// What the bytes of an answer are so far.
#[derive(Debug, PartialEq, Eq)]
pub enum Answer {
    Incomplete,
    /// 101; what follows these bytes are frames.
    Upgraded(usize),
    /// Anything else: the status line and, as far as it came, the body.
    Refused(String),
}

impl Handshake {
    /// `host` is what stands in the `Host` header.
    pub fn new(host: String) -> Self {
        Self { host, accept_key: derive_accept_key(KEY.as_bytes()) }
    }

    /// The request for `path`, which offers `subprotocol`.
    pub fn request(&self, path: &str, subprotocol: Option<&str>) -> Vec<u8> {
        let offer = subprotocol.map(|name| format!("Sec-WebSocket-Protocol: {name}\r\n")).unwrap_or_default();
        format!(
            "GET {path} HTTP/1.1\r\nHost: {}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
             Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: {KEY}\r\n{offer}\r\n",
            self.host
        )
        .into_bytes()
    }

    /// Reads an answer. `ended`: nothing more will come, so that a body of unknown length is complete.
    pub fn read(&self, bytes: &[u8], ended: bool) -> Answer {
        let more_may_come = !ended && bytes.len() <= ANSWER_BYTES_MAX;
        let mut headers = [httparse::EMPTY_HEADER; HEADERS_MAX];
        let mut head = httparse::Response::new(&mut headers);
        let head_bytes = match head.parse(bytes) {
            Ok(Status::Complete(head_bytes)) => head_bytes,
            Ok(Status::Partial) if more_may_come => return Answer::Incomplete,
            Ok(Status::Partial) | Err(_) => {
                return Answer::Refused(format!("not an HTTP answer: {:?}", text_of(bytes)));
            }
        };
        let header = |name: &str| {
            let header = head.headers.iter().find(|header| header.name.eq_ignore_ascii_case(name))?;
            std::str::from_utf8(header.value).ok()
        };
        if head.code == Some(101) {
            return match header("sec-websocket-accept") {
                Some(accept) if accept == self.accept_key => Answer::Upgraded(head_bytes),
                accept => Answer::Refused(format!(
                    "101, but Sec-WebSocket-Accept is {:?} where {:?} is right",
                    accept.unwrap_or("absent"),
                    self.accept_key
                )),
            };
        }
        let body = &bytes[head_bytes..];
        let announced = header("content-length").and_then(|value| value.parse::<usize>().ok());
        if more_may_come && announced.is_none_or(|announced| body.len() < announced) {
            return Answer::Incomplete;
        }
        let (code, reason) = (head.code.unwrap_or_default(), head.reason.unwrap_or_default());
        Answer::Refused(format!("{code} {reason}: {}", text_of(body)))
    }
}

fn text_of(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).trim().chars().take(200).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn handshake() -> Handshake {
        Handshake::new("127.0.0.1:4000".into())
    }

    #[test]
    fn the_request_is_one_that_the_rfc_wants() {
        let request =
            |subprotocol| String::from_utf8(handshake().request("/play/a?b=c", subprotocol)).unwrap();
        assert!(request(None).starts_with("GET /play/a?b=c HTTP/1.1\r\nHost: 127.0.0.1:4000\r\n"));
        assert!(request(None).ends_with(&format!("Sec-WebSocket-Key: {KEY}\r\n\r\n")));
        assert!(request(Some("corelay.v1")).ends_with("\r\nSec-WebSocket-Protocol: corelay.v1\r\n\r\n"));
    }

    #[test]
    fn an_upgrade_ends_where_the_frames_begin() {
        let accept = derive_accept_key(KEY.as_bytes());
        let head = format!("HTTP/1.1 101 Switching Protocols\r\nsec-websocket-accept: {accept}\r\n\r\n");
        let bytes = [head.as_bytes(), &[0x82, 0]].concat();
        for cut in 0..head.len() {
            assert_eq!(handshake().read(&bytes[..cut], false), Answer::Incomplete, "cut at {cut}");
        }
        assert_eq!(handshake().read(&bytes, false), Answer::Upgraded(head.len()));
    }

    #[test]
    fn a_wrong_accept_key_is_no_upgrade() {
        for header in ["", "Sec-WebSocket-Accept: AAAA\r\n"] {
            let head = format!("HTTP/1.1 101 Switching Protocols\r\n{header}\r\n");
            let answer = handshake().read(head.as_bytes(), false);
            assert!(matches!(&answer, Answer::Refused(text) if text.contains("is right")), "{answer:?}");
        }
    }

    #[test]
    fn a_refusal_is_told_with_its_status_and_body() {
        let whole = b"HTTP/1.1 503 Service Unavailable\r\nContent-Length: 5\r\n\r\nfull\n";
        assert_eq!(handshake().read(whole, false), Answer::Refused("503 Service Unavailable: full".into()));
        let unknown_length = b"HTTP/1.1 404 Not Found\r\n\r\nno such path";
        assert_eq!(handshake().read(unknown_length, false), Answer::Incomplete);
        assert_eq!(
            handshake().read(unknown_length, true),
            Answer::Refused("404 Not Found: no such path".into())
        );
        assert!(matches!(handshake().read(b"SSH-2.0-x", true), Answer::Refused(_)));
    }
}
