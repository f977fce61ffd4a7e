//! Frames, in pieces of a length that the first byte chooses: the messages must be those of the unsplit bytes.
#![no_main]

use corelay::wire::frame::{Decoder, MessageLimits};
use libfuzzer_sys::fuzz_target;

const LIMITS: MessageLimits = MessageLimits { bytes_max: 4096, fragments_max: 16 };

fuzz_target!(|input: &[u8]| {
    let Some((&piece_bytes, bytes)) = input.split_first() else { return };
    let whole = decode(bytes, bytes.len().max(1));
    assert_eq!(whole, decode(bytes, usize::from(piece_bytes).max(1)));
});

/// Every message, and the violation that ended them, as text.
fn decode(bytes: &[u8], piece_bytes: usize) -> Vec<String> {
    let mut decoder = Decoder::default();
    let mut seen = Vec::new();
    for piece in bytes.to_vec().chunks_mut(piece_bytes) {
        let mut input = piece;
        loop {
            match decoder.decode(&mut input, &LIMITS) {
                Ok(Some(message)) => {
                    seen.push(format!("{message:?}"));
                    if matches!(message, corelay::wire::frame::Incoming::Close(_)) {
                        return seen;
                    }
                }
                Ok(None) => break,
                Err(violation) => {
                    seen.push(format!("{violation:?}"));
                    return seen;
                }
            }
        }
        assert!(input.is_empty(), "whoever asks for more has taken everything");
    }
    seen
}
