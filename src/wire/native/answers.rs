//! Records that answer one client's record, ready to send.

use std::time::Duration;

use zerocopy::IntoBytes;

use super::{Ack, CorrectionHeader, ErrorHeader, NearHeader, Ping, Pong, RateLimited, kind};
use crate::reasons::{CorrectionReason, ErrorCode, RateClass};
use crate::wire::encoded::Encoded;
use crate::wire::frame::Opcode;

/// An Error record.
pub fn error(code: ErrorCode, text: &str) -> Encoded {
    let header = ErrorHeader { kind: kind::ERROR, code: code.index() as u8 + 1, reserved: 0.into() };
    Encoded::message(Opcode::Binary, &[header.as_bytes(), text.as_bytes()].concat())
}

/// A Correction record: the player stays at these coordinates, one for each axis of the game.
pub fn correction(reason: CorrectionReason, input_seq: u16, coordinates: &[f32]) -> Encoded {
    let (reason, input_seq) = (reason.index() as u8 + 1, input_seq.into());
    let header = CorrectionHeader { kind: kind::CORRECTION, reason, input_seq };
    let mut record = header.as_bytes().to_vec();
    record.extend(coordinates.iter().flat_map(|coordinate| coordinate.to_be_bytes()));
    Encoded::message(Opcode::Binary, &record)
}

/// A Near record.
pub fn near(code: u16, sender: u32, payload: &[u8]) -> Encoded {
    let header = NearHeader { kind: kind::NEAR, reserved: 0, code: code.into(), sender: sender.into() };
    Encoded::message(Opcode::Binary, &[header.as_bytes(), payload].concat())
}

/// An Ack record: an input, and how long before the tick it had come, in 0.1 ms.
pub fn ack((input_seq, slack): (u16, u16), tick: u32) -> Encoded {
    let (input_seq, tick, slack) = (input_seq.into(), tick.into(), slack.into());
    let ack = Ack { kind: kind::ACK, reserved: 0, input_seq, tick, slack, reserved_2: 0.into() };
    Encoded::message(Opcode::Binary, ack.as_bytes())
}

/// A Pong record. `server_time_us`: the relay's clock.
pub fn pong(ping: &Ping, tick: u32, server_time_us: u64) -> Encoded {
    let pong = Pong {
        kind: kind::PONG,
        reserved: [0; 3],
        nonce: ping.nonce,
        client_time_us: ping.client_time_us,
        server_time_us: server_time_us.into(),
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
