//! After start-up a position allocates nothing: from the received bytes to the frame that every member is sent.

use std::sync::Arc;
use std::time::Duration;

use corelay::ids::{ConnId, ShardId};
use corelay::shard::settings::Settings;
use corelay::shard::{Admission, Output, Shard};
use corelay::time::{Instant, Now};

const REQUEST: &[u8] =
    b"GET /play/arena HTTP/1.1\r\nHost: relay\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
    Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";

/// A masked Move with an all-zero mask.
const MOVE: [u8; 18] = [0x82, 0x8C, 0, 0, 0, 0, 1, 0, 0, 1, 0x3F, 0x80, 0, 0, 0x40, 0, 0, 0];

struct Game {
    shard: Shard,
    players: Vec<ConnId>,
    now: Now,
}

impl Game {
    fn new(players: usize) -> Self {
        let mut shard = Shard::new(ShardId(0), Arc::new(Settings::default()), Arc::default(), [7; 32]);
        let now = Now { instant: Instant::from_micros(1_000_000), unix_us: 1_800_000_000_000_000 };
        let join = |_| {
            let conn = shard.handle_accepted(Admission::Admitted, now).expect("the table has room");
            shard.handle_received(conn, &mut REQUEST.to_vec(), now);
            conn
        };
        let players = (0..players).map(join).collect();
        Self { shard, players, now }
    }

    /// Everybody moves, a tick passes, every frame is taken by the kernel. Returns the frames sent.
    fn tick(&mut self) -> usize {
        for conn in &self.players {
            let mut bytes = MOVE;
            self.shard.handle_received(*conn, &mut bytes, self.now);
        }
        self.now.instant = self.now.instant + Duration::from_millis(50);
        self.shard.handle_timeout(self.now);
        let mut sent = 0;
        while let Some(output) = self.shard.poll_output() {
            if let Output::Send { conn, frames } = output {
                drop(frames);
                self.shard.handle_sent(conn, self.now);
                sent += 1;
            }
        }
        sent
    }
}

#[test]
fn a_move_allocates_nothing_from_its_bytes_to_the_frame_of_the_tick() {
    let mut game = Game::new(50);
    let warm_up: usize = (0..60).map(|_| game.tick()).sum();
    assert!(warm_up >= 60 * 50);
    let mut sent = 0;
    let counted = allocation_counter::measure(|| sent = (0..20).map(|_| game.tick()).sum());
    assert_eq!(sent, 20 * 50, "1,000 moves, and a frame for each of 50 players at each of 20 ticks");
    assert_eq!(counted.count_total, 0, "{counted:?}");
}

#[test]
fn the_counter_counts() {
    let counted = allocation_counter::measure(|| drop(std::hint::black_box(vec![1u8; 100])));
    assert_eq!(counted.count_total, 1);
}
