//! Pings of many silent clients are paced: those that are due at once go out in steps, and a game's ticks come in between.

use std::sync::Arc;
use std::time::Duration;

use corelay::ids::{ConnId, ShardId};
use corelay::limits::{CHECKS_PER_TURN, PLAY_CLOSE_AFTER, PLAY_PING_AFTER};
use corelay::metrics::{DurationHistogram, ShardMetrics};
use corelay::reasons::CloseReason;
use corelay::room::game::GameRules;
use corelay::shard::settings::Settings;
use corelay::shard::{Admission, Output, Shard};
use corelay::time::{Instant, Now};
use corelay::wire::upgrade::UpgradeRules;

const SILENT: usize = 10_000;
const TICK_HZ: u16 = 100;
const BUCKET: Duration = Duration::from_millis(50);
const MS: Duration = Duration::from_millis(1);

const PING: [u8; 2] = [0x89, 0];
const MASKED_PONG: [u8; 6] = [0x8A, 0x80, 0, 0, 0, 0];
/// A masked Move with an all-zero mask.
const MASKED_MOVE: [u8; 18] = [0x82, 0x8C, 0, 0, 0, 0, 1, 0, 0, 1, 0x3F, 0x80, 0, 0, 0x40, 0, 0, 0];

/// One shard, and a kernel that takes everything at once.
struct Crowd {
    shard: Shard,
    metrics: Arc<ShardMetrics>,
    now: Now,
    pinged: Vec<ConnId>,
}

impl Crowd {
    fn new() -> Self {
        let rules = GameRules { tick_hz: TICK_HZ, ..GameRules::default() };
        let settings = Settings {
            connections_per_shard_max: 2 * SILENT as u32,
            upgrade: UpgradeRules { allowed_origins: Vec::new(), development: true, echo: true },
            games: vec![rules],
            ..Settings::default()
        };
        let metrics: Arc<ShardMetrics> = Arc::default();
        let now = Now { instant: Instant::from_micros(1_000_000), unix_us: 1_800_000_000_000_000 };
        let shard = Shard::new(ShardId(0), Arc::new(settings), metrics.clone(), [7; 32]);
        Self { shard, metrics, now, pinged: Vec::new() }
    }

    fn connect(&mut self, target: &str) -> ConnId {
        let conn = self.shard.handle_accepted(Admission::Admitted, self.now).expect("the table has room");
        let head = format!(
            "GET {target} HTTP/1.1\r\nHost: relay\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
             Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
        );
        self.receive(conn, &mut head.into_bytes());
        conn
    }

    fn receive(&mut self, conn: ConnId, bytes: &mut [u8]) {
        self.shard.handle_received(conn, bytes, self.now);
        self.carry_out();
    }

    /// One turn of the loop, if something is due. Returns how many pings it sent.
    fn turn(&mut self) -> usize {
        let before = self.pinged.len();
        if self.is_due() {
            self.shard.handle_timeout(self.now);
            self.carry_out();
        }
        self.pinged.len() - before
    }

    fn is_due(&self) -> bool {
        self.shard.poll_timeout().is_some_and(|due| due <= self.now.instant)
    }

    fn pass(&mut self, duration: Duration) {
        self.now.instant = self.now.instant + duration;
        self.now.unix_us += duration.as_micros() as u64;
    }

    fn carry_out(&mut self) {
        while let Some(output) = self.shard.poll_output() {
            if let Output::Send { conn, frames } = output {
                let pings = frames.as_slice().iter().filter(|frame| frame.bytes() == PING);
                self.pinged.extend(pings.map(|_| conn));
                self.shard.handle_sent(conn, self.now);
            }
        }
    }

    fn closed_as_idle(&self) -> u64 {
        self.metrics.closes[CloseReason::Idle.index()].value()
    }

    /// Ticks that ran later than `limit_us`.
    fn ticks_later_than(&self, limit_us: u64) -> u64 {
        let counts = self.metrics.tick_lateness.counts();
        let late = counts.iter().enumerate().filter(|(index, _)| {
            DurationHistogram::upper_bound_us(*index).is_none_or(|upper_bound| upper_bound > limit_us)
        });
        late.map(|(_, count)| count).sum()
    }
}

#[test]
fn ten_thousand_pings_go_out_in_steps_with_ticks_in_between_and_silence_still_ends_in_time() {
    let mut crowd = Crowd::new();
    let player = crowd.connect("/play/arena");
    let silent: Vec<ConnId> = (0..SILENT).map(|_| crowd.connect("/echo")).collect();
    let began = crowd.now.instant;

    // The player moves every 20 ms, and is never silent.
    let turn_of_a_millisecond = |crowd: &mut Crowd| {
        crowd.pass(MS);
        if crowd.now.instant.as_micros().is_multiple_of(20_000) {
            crowd.receive(player, &mut MASKED_MOVE.clone());
        }
        crowd.turn()
    };
    let mut steps = Vec::new();
    while crowd.now.instant < began + PLAY_PING_AFTER + 2 * BUCKET {
        match turn_of_a_millisecond(&mut crowd) {
            0 => {}
            pings => {
                assert!(crowd.now.instant >= began + PLAY_PING_AFTER);
                steps.push(pings);
            }
        }
    }
    assert_eq!(steps.len(), SILENT.div_ceil(CHECKS_PER_TURN));
    assert!(steps.iter().all(|pings| *pings <= CHECKS_PER_TURN), "{steps:?}");
    let mut pinged = crowd.pinged.clone();
    pinged.sort_unstable();
    assert_eq!(pinged, silent, "everybody is pinged, and nobody twice");
    let ticks: u64 = crowd.metrics.tick_lateness.counts().iter().sum();
    assert!((250..=257).contains(&ticks), "a tick for each of the player's moves: {ticks}");
    assert_eq!(crowd.ticks_later_than(1_024), 0, "none waits longer than for one step");

    for conn in silent.iter().step_by(2) {
        crowd.receive(*conn, &mut MASKED_PONG.clone());
    }
    while crowd.now.instant < began + PLAY_CLOSE_AFTER {
        turn_of_a_millisecond(&mut crowd);
        assert_eq!(crowd.closed_as_idle(), 0);
    }
    let patience = BUCKET + MS * (SILENT / CHECKS_PER_TURN) as u32;
    while crowd.now.instant < began + PLAY_CLOSE_AFTER + patience {
        turn_of_a_millisecond(&mut crowd);
    }
    assert_eq!(crowd.closed_as_idle(), SILENT as u64 / 2, "who did not answer, and nobody else");
}

#[test]
fn what_is_left_is_due_at_once() {
    let mut crowd = Crowd::new();
    for _ in 0..2 * CHECKS_PER_TURN {
        crowd.connect("/echo");
    }
    crowd.pass(PLAY_PING_AFTER + 2 * BUCKET);
    assert_eq!([crowd.turn(), crowd.turn()], [CHECKS_PER_TURN; 2], "in two turns at the same time");
    assert!(!crowd.is_due());
}
