//! Lines of the log about players and refusals. In development mode they are for whoever writes a game, and bounded; else for
//! whoever asks for them with `RUST_LOG=info,corelay::players=debug`.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tracing::Level;

use crate::ids::ShardId;
use crate::limits::{LOG_REPEAT_INTERVAL, NOTES_PER_SECOND_MAX};
use crate::note::{Note, Step};
use crate::time::{Instant, Throttle};

/// What `RUST_LOG` calls these lines.
const TARGET: &str = "corelay::players";
const SECOND: Duration = Duration::from_secs(1);

/// Of all shards: a page that may not connect tries again, each time on another one.
static REFUSALS: Mutex<Throttle> = Mutex::new(Throttle::new(LOG_REPEAT_INTERVAL));

/// Of all shards, which stand still together.
static STANDSTILLS: Mutex<Throttle> = Mutex::new(Throttle::new(LOG_REPEAT_INTERVAL));

/// Says that a shard stood still. `now`: by the clock of the process.
pub(super) fn tell_standstill(shard: ShardId, duration: Duration, now: Instant) {
    let passed = STANDSTILLS.lock().unwrap_or_else(PoisonError::into_inner).admit(now);
    if let Some(before) = passed {
        tracing::warn!(
            shard = shard.0,
            ms = duration.as_millis() as u64,
            before,
            "the relay stood still (it was stopped, or had no CPU); that time counts for no deadline"
        );
    }
}

/// Whether the log would take notes.
pub fn are_wanted(development: bool) -> bool {
    if development {
        tracing::enabled!(target: TARGET, Level::INFO)
    } else {
        tracing::enabled!(target: TARGET, Level::DEBUG)
    }
}

/// Writes the notes of a shard.
#[derive(Debug, Default)]
pub(super) struct Notes {
    /// A second, and how many lines it has had.
    window_end: Instant,
    lines: u32,
    /// Notes for which it had no room.
    left_out: u64,
}

macro_rules! line {
    ($development:expr, $($fields:tt)*) => {
        if $development {
            tracing::info!(target: TARGET, $($fields)*);
        } else {
            tracing::debug!(target: TARGET, $($fields)*);
        }
    };
}

impl Notes {
    pub(super) fn write(&mut self, note: &Note, development: bool, now: Instant) {
        match note {
            Note::Refused { reason, text } if development => {
                let passed = REFUSALS.lock().unwrap_or_else(PoisonError::into_inner).admit(now);
                if let Some(before) = passed {
                    tracing::warn!(target: TARGET, reason = reason.label(), before, "refused: {text}");
                }
            }
            Note::Refused { reason, text } => {
                tracing::debug!(target: TARGET, reason = reason.label(), "refused: {text}");
            }
            Note::Player { game, player, user, name, step } => {
                if development && !self.has_room(now) {
                    return;
                }
                let (game, player, user, name) = (game.as_str(), player.0, &**user, &**name);
                match step {
                    Step::Joined => line!(development, game, player, user, name, "joined"),
                    Step::Resumed => line!(development, game, player, user, name, "came back to its seat"),
                    Step::Lost => line!(development, game, player, user, name, "lost, its seat is held"),
                    Step::Left(reason) => {
                        line!(development, game, player, user, name, reason = reason.word(), "left");
                    }
                }
            }
        }
    }

    /// A crowd would fill the log, and the memory of what writes it.
    fn has_room(&mut self, now: Instant) -> bool {
        if now >= self.window_end {
            if self.left_out > 0 {
                tracing::info!(target: TARGET, left_out = self.left_out, "more players came and went than are logged");
            }
            *self = Self { window_end: now + SECOND, ..Self::default() };
        }
        let has_room = self.lines < NOTES_PER_SECOND_MAX;
        if has_room {
            self.lines += 1;
        } else {
            self.left_out += 1;
        }
        has_room
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_crowd_does_not_fill_the_log() {
        let mut notes = Notes::default();
        let crowd = (0..1_000).filter(|_| notes.has_room(Instant::from_micros(5))).count();
        assert_eq!(
            (crowd, notes.left_out),
            (NOTES_PER_SECOND_MAX as usize, 1_000 - u64::from(NOTES_PER_SECOND_MAX))
        );
        assert!(notes.has_room(Instant::from_micros(5) + SECOND));
        assert_eq!(notes.left_out, 0);
    }
}
