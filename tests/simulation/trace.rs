//! What happened, as a hash: the same seed gives the same hash. With `CORELAY_SIM_TRACE` it is printed as well.

use std::hash::{DefaultHasher, Hasher};

use corelay::shard::Output;

pub struct Trace {
    hasher: DefaultHasher,
    is_printed: bool,
}

impl Default for Trace {
    fn default() -> Self {
        Self { hasher: DefaultHasher::new(), is_printed: std::env::var_os("CORELAY_SIM_TRACE").is_some() }
    }
}

impl Trace {
    /// Something happened. Its text costs time, and is made only for a trace that is printed.
    #[allow(clippy::print_stderr, reason = "somebody asked for it")]
    pub fn note(&mut self, what: &str, text: impl FnOnce() -> String) {
        self.hasher.write(what.as_bytes());
        if self.is_printed {
            eprintln!("{what} {}", text());
        }
    }

    /// Bytes that a client is sent.
    pub fn bytes(&mut self, bytes: &[u8]) {
        self.hasher.write(bytes);
    }

    pub fn hash(&self) -> u64 {
        self.hasher.finish()
    }
}

/// What a client has written, for somebody to read.
pub fn unmasked(bytes: &[u8]) -> String {
    const MASK: [u8; 4] = [0x37, 0xFA, 0x21, 0x3D];
    let mut text = String::new();
    let mut rest = bytes;
    while let Some(start) = rest.windows(4).position(|window| window == MASK) {
        let end = rest[start + 4..].windows(4).position(|window| window == MASK);
        let frame = &rest[start + 4..end.map_or(rest.len(), |end| start + 4 + end)];
        let payload: Vec<u8> =
            frame.iter().zip(MASK.iter().cycle()).map(|(byte, mask)| byte ^ mask).collect();
        text.push_str(&String::from_utf8_lossy(&payload));
        rest = &rest[start + 4..];
    }
    text
}

/// An output without the bytes that it carries.
pub fn summary(output: &Output) -> String {
    match output {
        Output::Send { conn, frames } => {
            format!("send {conn:?}, {} frames", frames.as_slice().len())
        }
        other => format!("{other:?}"),
    }
}
