//! TLS, in pieces of a length that the first byte chooses: any bytes are an answer or an error, and what is kept of them is bounded.
#![no_main]

use std::sync::{Arc, LazyLock};

use corelay::limits::TLS_PENDING_BYTES_MAX;
use corelay::tls::certificates::{Certificate, PemFile};
use corelay::tls::{Connection, ServerConfig, self_signed};
use libfuzzer_sys::fuzz_target;

static CONFIG: LazyLock<Arc<ServerConfig>> = LazyLock::new(|| {
    let pair = self_signed::make("localhost", 1_800_000_000).expect("a name");
    let file = |pem: String| PemFile { path: "a file".into(), pem: pem.into() };
    let certificate = Certificate::read(&file(pair.certificate), &file(pair.key)).expect("a pair");
    Arc::new(ServerConfig::new(vec![certificate]).expect("one of them"))
});

fuzz_target!(|input: &[u8]| {
    let Some((&piece_bytes, bytes)) = input.split_first() else { return };
    let mut connection = Connection::new(&CONFIG).expect("a configuration that works");
    let idle = connection.heap_bytes();
    let (mut plain, mut reply) = (Vec::new(), Vec::new());
    for piece in bytes.to_vec().chunks_mut(64 * usize::from(piece_bytes).max(1)) {
        let opened = connection.open(piece, &mut plain, &mut reply);
        assert!(plain.is_empty(), "nobody guesses a key");
        assert!(connection.heap_bytes() <= idle + 2 * (TLS_PENDING_BYTES_MAX + piece.len()));
        if opened.is_err() {
            assert!(connection.open(&mut [], &mut plain, &mut reply).is_err(), "an error is the end");
            return;
        }
    }
});
