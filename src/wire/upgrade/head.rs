//! A request head as RFC 9112 wants it. What two readers could understand differently is refused, not repaired.

use std::str;

use super::refusal::{Refusal, bad_request, refuse};
use crate::limits::{REQUEST_HEAD_BYTES_MAX, REQUEST_HEADERS_MAX};
use crate::reasons::RefusalReason;

/// A whole request head without a body: HTTP/1.1, one `Host`.
pub(super) struct Head<'a> {
    pub(super) method: &'a str,
    pub(super) target: &'a str,
    pub(super) host: &'a str,
    /// Length, the empty line included.
    pub(super) bytes: usize,
    headers: Vec<httparse::Header<'a>>,
}

/// `Ok(None)`: more bytes are needed.
pub(super) fn parse(received: &[u8]) -> Result<Option<Head<'_>>, Refusal> {
    const TLS_HANDSHAKE: u8 = 0x16;
    if received.first() == Some(&TLS_HANDSHAKE) {
        let text = "this looks like TLS; this port speaks plain ws://, and `listen_tls` opens one for wss://";
        return Err(bad_request(text));
    }
    let received = &received[..received.len().min(REQUEST_HEAD_BYTES_MAX)];
    let mut headers = [httparse::EMPTY_HEADER; REQUEST_HEADERS_MAX];
    let mut request = httparse::Request::new(&mut headers);
    let status = request.parse(received).map_err(refuse_syntax)?;
    let bytes = match status {
        httparse::Status::Complete(bytes) => bytes,
        httparse::Status::Partial => received.len(),
    };
    if has_bare_line_feed(&received[..bytes]) {
        return Err(bad_request("a line ends in LF alone; every line of a request head ends in CR LF"));
    }
    let (httparse::Status::Complete(_), Some(method), Some(target), Some(version)) =
        (status, request.method, request.path, request.version)
    else {
        return incomplete(received);
    };
    if version != 1 {
        return Err(bad_request("HTTP/1.0 cannot be upgraded; send HTTP/1.1"));
    }
    let mut head = Head { method, target, host: "", bytes, headers: request.headers.to_vec() };
    head.host = head.single("Host")?.unwrap_or_default();
    if head.host.is_empty() {
        return Err(bad_request("`Host` is missing; HTTP/1.1 wants one"));
    }
    if head.single("Transfer-Encoding")?.is_some() || head.single("Content-Length")?.unwrap_or("0") != "0" {
        return Err(bad_request("the request announces a body; an upgrade has none"));
    }
    Ok(Some(head))
}

fn incomplete<T>(received: &[u8]) -> Result<Option<T>, Refusal> {
    if received.len() < REQUEST_HEAD_BYTES_MAX {
        return Ok(None);
    }
    let text = format!("the request head is longer than {REQUEST_HEAD_BYTES_MAX} bytes");
    refuse(RefusalReason::HeadTooLarge, text)
}

fn refuse_syntax(error: httparse::Error) -> Refusal {
    bad_request(match error {
        httparse::Error::TooManyHeaders => {
            let text = format!("the request has more than {REQUEST_HEADERS_MAX} header lines");
            return Refusal::new(RefusalReason::HeadTooLarge, text);
        }
        httparse::Error::HeaderName => {
            "a header line does not start with a name and a colon (no space before the colon, no folded lines)"
        }
        httparse::Error::HeaderValue => "a header value contains a control character",
        httparse::Error::Version => {
            "the request line does not end in HTTP/1.1; other versions are not spoken"
        }
        httparse::Error::NewLine => "a CR stands without its LF",
        httparse::Error::Token | httparse::Error::Status => {
            "this is not HTTP; open a WebSocket with `GET /play/{game} HTTP/1.1`"
        }
    })
}

fn has_bare_line_feed(bytes: &[u8]) -> bool {
    let mut previous = 0;
    bytes.iter().any(|&byte| std::mem::replace(&mut previous, byte) != b'\r' && byte == b'\n')
}

impl<'a> Head<'a> {
    /// Value of a header that may come only once; refused when it comes twice.
    pub(super) fn single(&self, name: &str) -> Result<Option<&'a str>, Refusal> {
        let mut values = self.values(name);
        let Some(value) = values.next() else { return Ok(None) };
        if values.next().is_some() {
            return Err(bad_request(format!("`{name}` comes more than once")));
        }
        let value = str::from_utf8(value).map_err(|_| bad_request(format!("`{name}` is not UTF-8")))?;
        Ok(Some(value))
    }

    /// Elements of a header that is a list, over all its lines.
    pub(super) fn list(&self, name: &str) -> impl Iterator<Item = &'a str> {
        let lines = self.values(name).filter_map(|value| str::from_utf8(value).ok());
        lines.flat_map(|line| line.split(',').map(|element| element.trim_matches([' ', '\t'])))
    }

    fn values(&self, name: &str) -> impl Iterator<Item = &'a [u8]> {
        let named = self.headers.iter().filter(move |header| header.name.eq_ignore_ascii_case(name));
        named.map(|header| header.value)
    }
}
