//! Lines of the log about players and refusals. In development mode they are for whoever writes a game, and bounded; else for
//! whoever asks for them with `RUST_LOG=info,corelay::players=debug`.

use std::net::IpAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tracing::Level;

use crate::ids::ShardId;
use crate::limits::{LOG_REPEAT_INTERVAL, NOTES_PER_SECOND_MAX};
use crate::note::{ModeratorAct, Note, Step};
use crate::time::{Instant, Throttle};
use crate::tls::TlsError;

/// What `RUST_LOG` calls these lines …
const TARGET: &str = "corelay::players";
/// … and those about moderators.
const MODERATION: &str = "corelay::moderation";

/// One throttle for all shards, because a page that is refused tries again, each time on another shard.
static REFUSALS: Mutex<Throttle> = Mutex::new(Throttle::new(LOG_REPEAT_INTERVAL));

/// One throttle for all shards, because each client that is refused comes by chance to any of them.
static TLS_FAILURES: Mutex<Throttle> = Mutex::new(Throttle::new(LOG_REPEAT_INTERVAL));

/// One throttle for all shards, because they stand still together.
static STANDSTILLS: Mutex<Throttle> = Mutex::new(Throttle::new(LOG_REPEAT_INTERVAL));

/// Logs that a shard stood still. `now`: by the clock of the process.
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

/// Logs why a client's TLS is over. On the Internet whoever scans ports sends anything; what an operator has to know is told always.
pub(super) fn tell_tls_failure(error: &TlsError, peer: Option<IpAddr>, development: bool, now: Instant) {
    let peer = peer.map(|peer| peer.to_canonical().to_string());
    let is_ours = match error {
        TlsError::CertificateRefused { .. } | TlsError::NothingInCommon(_) => true,
        TlsError::PlainHttp
        | TlsError::NotTls
        | TlsError::TooLong
        | TlsError::TooSilent
        | TlsError::Over
        | TlsError::Protocol(_) => false,
    };
    if !is_ours && !development {
        return tracing::debug!(target: TARGET, peer, "TLS of a client failed: {error}");
    }
    let passed = TLS_FAILURES.lock().unwrap_or_else(PoisonError::into_inner).admit(now);
    if let Some(before) = passed {
        tracing::warn!(target: TARGET, peer, before, "TLS of a client failed: {error}");
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

/// One bound for all shards.
static PLAYERS: Lines = Lines::new();

/// Bounds the lines about players per second. It is two atomic numbers, so no shard waits for another.
#[derive(Debug)]
struct Lines {
    /// The lowest byte is the number of lines that the second in the other bytes has had.
    second_and_lines: AtomicU64,
    /// Lines that were over the bound.
    left_out: AtomicU64,
}

const _: () = assert!(NOTES_PER_SECOND_MAX < u8::MAX as u32, "how many lines a second has had is one byte");

macro_rules! line {
    ($development:expr, $($fields:tt)*) => {
        if $development {
            tracing::info!(target: TARGET, $($fields)*);
        } else {
            tracing::debug!(target: TARGET, $($fields)*);
        }
    };
}

pub(super) fn write(note: &Note, development: bool, now: Instant) {
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
        Note::Moderated { room, moderator, act } => tell_moderation(room.as_str(), moderator, act),
        Note::Player { game, player, user, name, step } => {
            if development {
                let Some(left_out) = PLAYERS.admit(now) else { return };
                if left_out > 0 {
                    tracing::info!(target: TARGET, left_out, "more players came and went than are logged");
                }
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

/// Each act of a moderator is a line, which whoever is asked for it can find.
fn tell_moderation(room: &str, moderator: &str, act: &ModeratorAct) {
    match act {
        ModeratorAct::Delete { seq, author } => {
            tracing::info!(target: MODERATION, room, moderator, seq, user = &**author, "message deleted");
        }
        ModeratorAct::Restrict { what, user, seconds } => {
            let (act, user) = (what.word(), &**user);
            tracing::info!(target: MODERATION, room, moderator, act, user, seconds, "user restricted");
        }
        ModeratorAct::Lift { what, user } => {
            let (act, user) = (what.word(), &**user);
            tracing::info!(target: MODERATION, room, moderator, act, user, "restriction lifted");
        }
    }
}

impl Lines {
    const fn new() -> Self {
        Self { second_and_lines: AtomicU64::new(0), left_out: AtomicU64::new(0) }
    }

    /// Whether a line may be written: a crowd would fill the log, and the memory of its writer. Returns how many lines were left
    /// out before this one, or `None` if this one is.
    fn admit(&self, now: Instant) -> Option<u64> {
        // Counted from 1: 0 means that no line was written yet.
        let second = now.as_micros() / 1_000_000 + 1;
        let count = |before: u64| {
            // The clocks of shards differ: a line of a second that is over counts in the present one.
            let (open, lines) = (before >> 8, before & 0xFF);
            match second > open {
                true => Some(second << 8 | 1),
                false => (lines < u64::from(NOTES_PER_SECOND_MAX)).then_some(before + 1),
            }
        };
        match self.second_and_lines.fetch_update(Ordering::Relaxed, Ordering::Relaxed, count) {
            Ok(before) if before >> 8 < second => Some(self.left_out.swap(0, Ordering::Relaxed)),
            Ok(_) => Some(0),
            Err(_) => {
                self.left_out.fetch_add(1, Ordering::Relaxed);
                None
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_crowd_does_not_fill_the_log_however_many_shards_it_is_on() {
        let lines = Lines::new();
        let at = |us| Instant::from_micros(us);
        let crowd = (0..1_000).filter(|us| lines.admit(at(5 + us)).is_some()).count();
        assert_eq!(crowd, NOTES_PER_SECOND_MAX as usize);
        assert_eq!(lines.admit(at(1_000_000)), Some(1_000 - u64::from(NOTES_PER_SECOND_MAX)));
        // A shard whose clock is behind.
        assert_eq!(lines.admit(at(999_999)), Some(0));
        assert_eq!(
            (2..50).filter(|_| lines.admit(at(5)).is_some()).count(),
            NOTES_PER_SECOND_MAX as usize - 2
        );
    }
}
