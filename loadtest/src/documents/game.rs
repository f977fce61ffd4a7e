//! The game that goes on beside the edits.

use std::sync::atomic::AtomicBool;
use std::time::Duration;

use anyhow::bail;
use indicatif::ProgressBar;

use super::arguments::Arguments;
use crate::arguments::Site;
use crate::crowd::Plan;
use crate::dialect::{DialectName, Members};
use crate::figures::{Value, share};
use crate::players::{self, Director, Pace, Part, Shared, Tallies, Waited};
use crate::schedule::Schedule;

const PLAYERS_PER_ROOM: u32 = 50;
const HZ: f64 = 20.0;
/// How long after its intended time a move may arrive and still be fresh.
const GRACE: Duration = Duration::from_secs(1);
/// Connections that are joining or leaving at a time: a listener's backlog must hold them.
const IN_MOTION_MAX: u32 = 512;

/// What was measured of it.
#[derive(Debug, Default)]
pub struct Played(Tallies);

impl Played {
    pub fn add(&mut self, other: &Self) {
        self.0.add(&other.0);
    }

    pub fn latency(&self, percentile: f64) -> Value {
        self.0.latency(percentile)
    }

    pub fn reach(&self) -> Value {
        share(self.0.tally.fresh, self.0.moves_planned * u64::from(PLAYERS_PER_ROOM - 1))
    }

    pub fn closed(&self) -> u64 {
        self.0.endings.closes.total()
    }
}

/// Players of it: whole rooms.
pub fn players(arguments: &Arguments) -> u32 {
    arguments.beside_players.next_multiple_of(PLAYERS_PER_ROOM)
}

/// Plays it once, from the first join to the last goodbye. `shared` tells what it is doing.
pub fn play(
    arguments: &Arguments,
    site: &Site,
    shared: &Shared,
    interrupted: &AtomicBool,
) -> anyhow::Result<Played> {
    let bar = ProgressBar::hidden();
    let ((), tallies) = players::run([part(arguments, site)], shared, |crew| {
        let mut go_on = |_: &Shared| Ok(());
        let mut director = Director::new(shared, crew, &bar, interrupted, &mut go_on);
        if director.ramp()?.0 == Waited::Interrupted {
            bail!("interrupted before all players had joined");
        }
        if director.hold(&site.server, arguments.warmup, arguments.window(), GRACE)?.is_none() {
            bail!("interrupted before the measured window began");
        }
        director.close()
    })?;
    if tallies.joined < players(arguments) {
        bail!("only {} players could join{}", tallies.joined, tallies.endings.causes());
    }
    Ok(Played(tallies))
}

fn part(arguments: &Arguments, site: &Site) -> Part {
    let &Arguments { seed, ramp, .. } = arguments;
    let players = players(arguments);
    let dialect = DialectName::Native;
    let topic_of = |slot: u32| dialect.room_topic("beside", seed, slot / PLAYERS_PER_ROOM);
    let members = Members::new(players, site.tokens.clone(), topic_of, |slot| slot);
    Part {
        plan: Plan::new(&site.target, dialect.dialect(members), players),
        players_per_room: PLAYERS_PER_ROOM,
        pace: Pace { per_s: ramp, first: 0, batch: 1, in_motion_max: IN_MOTION_MAX },
        schedule: Schedule::new(0..players, HZ, seed),
        grace: GRACE,
        align: false,
    }
}
