//! A whole shard: two players, one of whom sends whatever the fuzzer likes, in whatever pieces, at whatever times. Nothing may
//! panic, and the other player's connection stays.
#![no_main]

use std::sync::Arc;
use std::time::Duration;

use corelay::ids::ShardId;
use corelay::shard::settings::Settings;
use corelay::shard::{Admission, Output, Shard};
use corelay::time::{Instant, Now};
use libfuzzer_sys::fuzz_target;

const REQUEST: &[u8] =
    b"GET /play/arena HTTP/1.1\r\nHost: relay\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
    Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";

fuzz_target!(|input: &[u8]| {
    let mut now = Now { instant: Instant::from_micros(1_000_000), unix_us: 1_800_000_000_000_000 };
    let mut shard = Shard::new(ShardId(0), Arc::new(Settings::default()), Arc::default(), [7; 32]);
    let mut join = |shard: &mut Shard| {
        let conn = shard.handle_accepted(Admission::Admitted, now).expect("the table has room");
        shard.handle_received(conn, &mut REQUEST.to_vec(), now);
        conn
    };
    let (rough, quiet) = (join(&mut shard), join(&mut shard));
    let mut rest = input;
    // A byte for the length of a piece, a byte for the time that passes after it, the piece.
    while let [length, pause, after @ ..] = rest {
        let (piece, after) = after.split_at(usize::from(*length).min(after.len()));
        rest = after;
        shard.handle_received(rough, &mut piece.to_vec(), now);
        // A Pong keeps the other one alive.
        shard.handle_received(quiet, &mut [0x8A, 0x80, 0, 0, 0, 0], now);
        now.instant = now.instant + Duration::from_millis(u64::from(*pause));
        shard.handle_timeout(now);
        while let Some(output) = shard.poll_output() {
            match output {
                // Every fourth send of the rough one takes until its connection ends.
                Output::Send { conn, .. } if conn == rough && length % 4 == 0 => {}
                Output::Send { conn, .. } => shard.handle_sent(conn, now),
                Output::Close { conn, .. } => {
                    assert_ne!(conn, quiet, "another client's bytes ended this one");
                    shard.handle_closed(conn, now);
                }
                _ => {}
            }
        }
    }
});
