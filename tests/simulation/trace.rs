//! What happened, as a hash: the same seed gives the same one. With `CORELAY_SIM_TRACE` it is printed as well.

use std::hash::{DefaultHasher, Hasher};

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
