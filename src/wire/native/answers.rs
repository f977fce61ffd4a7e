//! Records that answer one client's record, ready to send.

use std::time::Duration;

use zerocopy::IntoBytes;

use super::{Correction, ErrorHeader, Ping, Pong, RateLimited, kind};
use crate::reasons::{CorrectionReason, ErrorCode, RateClass};
use crate::time::Now;
use crate::wire::encoded::Encoded;
use crate::wire::frame::Opcode;

/// An Error record.
pub fn error(code: ErrorCode, text: &str) -> Encoded {
    let header = ErrorHeader { kind: kind::ERROR, code: code.index() as u8 + 1, reserved: 0.into() };
    Encoded::message(Opcode::Binary, &[header.as_bytes(), text.as_bytes()].concat())
}

/// A Correction record: the player stays at `x`, `y`.
pub fn correction(reason: CorrectionReason, input_seq: u16, x: f32, y: f32) -> Encoded {
    let (reason, input_seq) = (reason.index() as u8 + 1, input_seq.into());
    let correction = Correction { kind: kind::CORRECTION, reason, input_seq, x: x.into(), y: y.into() };
    Encoded::message(Opcode::Binary, correction.as_bytes())
}

/// A Pong record.
pub fn pong(ping: &Ping, tick: u32, now: Now) -> Encoded {
    let pong = Pong {
        kind: kind::PONG,
        reserved: [0; 3],
        nonce: ping.nonce,
        client_time_us: ping.client_time_us,
        server_time_us: now.unix_us.into(),
        tick: tick.into(),
    };
    Encoded::message(Opcode::Binary, pong.as_bytes())
}

/// A RateLimited record.
pub fn rate_limited(class: RateClass, retry_after: Duration) -> Encoded {
    let record = RateLimited {
        kind: kind::RATE_LIMITED,
        class: class.index() as u8 + 1,
        reserved: 0.into(),
        retry_after_ms: (retry_after.as_micros().div_ceil(1000) as u32).into(),
    };
    Encoded::message(Opcode::Binary, record.as_bytes())
}
