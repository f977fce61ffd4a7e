//! Whether what a client is shown is what the walks say: everybody that is in its view and nobody else, and not too old.
//!
//! Nobody but the relay knows in which cell somebody counted at which tick. So a player *must* be seen if it was in the view
//! wherever it may have counted for as long as `memory_ns`, and must *not* be seen if it was outside all that time; what is shown of
//! it must have been the newest within the period of the farthest ring in which it may have been: else it is stale, or late if it
//! was all right as of the tick of the last frame, so that a machine that is too busy is told from a wrong view. `memory_ns` is 20 ticks, the time for
//! which a view may lag behind its player, and the time on the way.

use std::fmt;

use hdrhistogram::Histogram;

use super::sight::{PERIOD_TICKS_MAX, Sight};
use super::trails::{Age, Trails};
use super::world::World;
use crate::views::microseconds;

/// Rings that are told apart: the last one is all that are farther.
pub const RINGS: usize = 3;
/// Ticks for which a player is in a view before it must be seen, or is outside before it must not.
const SETTLED_TICKS: u64 = 20;
/// How long a view may lag behind the cell of its player.
const HOLD_NS: u64 = 250_000_000;
/// Clients of which a fault of each kind is told.
const TOLD_MAX: usize = 3;

/// What is allowed.
#[derive(Clone, Copy, Debug)]
pub struct Rules {
    pub tick_ns: u64,
    /// Of views; `None`: everybody sees everybody, as of the last tick.
    pub radius: Option<u8>,
    /// How long what is sent is on its way, there and back.
    pub network_ns: u64,
    pub rounding: [f32; 2],
}

/// What was found. Each is a number of (look, player).
#[derive(Clone)]
pub struct Findings {
    pub looks: u64,
    /// Of these it could be said whether they are right.
    pub checks: u64,
    /// Had to be seen.
    pub inside: u64,
    /// Had not to be seen.
    pub outside: u64,
    pub visible: u64,
    /// Had to be seen, and were as they should.
    pub fresh: u64,
    pub missing: u64,
    pub ghosts: u64,
    /// By ring.
    pub stale: [u64; RINGS],
    /// Seen where they were too long ago, but not as of the tick of the last frame: that is late, or the next one is.
    pub late: u64,
    /// How long ago the next place was sent, in µs, by ring; 0: there is none.
    pub age_us: [Histogram<u64>; RINGS],
    /// Time since the last frame, at each look, in µs.
    pub silence_us: Histogram<u64>,
    /// The first faults.
    pub told: Vec<String>,
}

impl Default for Findings {
    fn default() -> Self {
        Self {
            looks: 0,
            checks: 0,
            inside: 0,
            outside: 0,
            visible: 0,
            fresh: 0,
            missing: 0,
            ghosts: 0,
            stale: [0; RINGS],
            late: 0,
            age_us: std::array::from_fn(|_| microseconds()),
            silence_us: microseconds(),
            told: Vec::new(),
        }
    }
}

impl Rules {
    pub fn new(world: &World, network_ns: u64) -> Self {
        Self {
            tick_ns: 1_000_000_000 / u64::from(world.tick_hz),
            radius: world.view.map(|view| view.radius),
            network_ns,
            rounding: world.rounding(),
        }
    }

    /// For how long trails must be remembered.
    pub fn memory_ns(&self) -> u64 {
        SETTLED_TICKS * self.tick_ns + HOLD_NS + self.network_ns
    }

    /// How long a place may be shown after the next one was sent.
    fn outdated_ns_max(&self, ring: u32, level: u8) -> u64 {
        let doublings = ring.min(RINGS as u32 - 1) + u32::from(level);
        let period = if self.radius.is_some() { 1 << doublings.min(4) } else { 1 };
        u64::from(PERIOD_TICKS_MAX.min(period)) * self.tick_ns + self.network_ns
    }
}

impl Findings {
    /// Compares what `client` sees, as of some time before, with the walks.
    pub fn look(
        &mut self,
        client: u32,
        (sight, as_of_ns): (&Sight, u64),
        trails: &Trails,
        rules: &Rules,
        now_ns: u64,
    ) {
        self.looks += 1;
        let (level, silence_ns) = (sight.level(now_ns), now_ns.saturating_sub(sight.frame_ns));
        self.silence_us.saturating_record(silence_ns / 1000);
        for player in (0..trails.players()).filter(|&player| trails.is_here(player)) {
            let distance = trails.distance(client, player);
            let radius = rules.radius.map_or(u32::MAX, u32::from);
            let (is_inside, is_outside) = (distance.farthest <= radius, distance.nearest > radius);
            let shown = sight.of(player);
            self.inside += u64::from(is_inside);
            self.outside += u64::from(is_outside);
            self.visible += u64::from(shown.is_some());
            self.checks += u64::from(is_inside || is_outside || shown.is_some());
            let Some(shown) = shown else {
                if is_inside {
                    self.missing += 1;
                    self.tell("missing", client, player, trails, format_args!("for {distance:?}"));
                }
                continue;
            };
            if is_outside {
                self.ghosts += 1;
                self.tell(
                    "ghost",
                    client,
                    player,
                    trails,
                    format_args!("for {distance:?}, shown at {shown:?}"),
                );
                continue;
            }
            let ring = trails.likely_distance(client, player).min(RINGS as u32 - 1) as usize;
            let outdated_ns = match trails.age(player, shown, rules.rounding) {
                Age::Newest => Some(0),
                Age::OutdatedAt(ns) => Some(now_ns.saturating_sub(ns)),
                Age::Unknown => None,
            };
            if let Some(outdated_ns) = outdated_ns {
                self.age_us[ring].saturating_record(outdated_ns / 1000);
            }
            let most_ns = rules.outdated_ns_max(distance.farthest, level);
            let late_ns = now_ns.saturating_sub(as_of_ns);
            if outdated_ns.is_some_and(|ns| ns <= most_ns) {
                self.fresh += u64::from(is_inside);
            } else if outdated_ns.is_some_and(|ns| ns <= most_ns + late_ns) {
                self.late += 1;
            } else {
                self.stale[ring] += 1;
                let [old, late] = [outdated_ns.unwrap_or(u64::MAX), late_ns].map(|ns| ns / 1_000_000);
                let how =
                    format_args!("outdated for {old} ms, level {level}, frame {late} ms ago, {distance:?}");
                self.tell("stale", client, player, trails, how);
            }
        }
    }

    pub fn faults(&self) -> u64 {
        self.missing + self.ghosts + self.late + self.stale.iter().sum::<u64>()
    }

    fn tell(&mut self, what: &str, client: u32, player: u32, trails: &Trails, how: fmt::Arguments<'_>) {
        let begin = format!("{what} of client {client} ");
        let told = self.told.iter().filter(|told| told.starts_with(what)).count();
        if told < TOLD_MAX && !self.told.iter().any(|told| told.starts_with(&begin)) {
            let [from, at] = [client, player].map(|player| trails.place(player));
            self.told
                .push(format!("{begin}at {from:?}: player {player} at {at:?}, {how} (look {})", self.looks));
        }
    }
}

#[cfg(test)]
mod tests;
