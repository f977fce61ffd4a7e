//! `rooms`: rooms full of players that move; what arrives, how late, and what it costs.

mod arguments;
mod summary;

use std::sync::atomic::AtomicBool;

use anyhow::{Context, bail};

use crate::arguments::Site;
use crate::crowd::Plan;
use crate::dialect::{Dialect, DialectName, Members, Native};
use crate::figures::specs;
use crate::limits::make_room;
use crate::players::{self, Director, Pace, Part, Shared, Waited};
use crate::report::{self, Report};
use crate::schedule::Schedule;
use summary::Measured;

pub use arguments::{Arguments, EXAMPLE, HELP, Load};
pub use summary::FIGURES;

/// Connections that are joining or leaving at a time: a listener's backlog must hold them.
const IN_MOTION_MAX: u32 = 512;

/// Runs the scenario; whether all assertions hold.
pub fn run(arguments: &Arguments, interrupted: &AtomicBool) -> anyhow::Result<bool> {
    report::run(&arguments.common.output, &specs(FIGURES), || measure(arguments, interrupted))
}

/// Runs the scenario, and writes nothing.
pub fn measure(arguments: &Arguments, interrupted: &AtomicBool) -> anyhow::Result<Report> {
    let load = &arguments.load;
    if arguments.aligned && arguments.dialect != DialectName::Native {
        bail!("--aligned is for --dialect native: in the others no Ack is asked for")
    }
    let site = arguments.common.site()?;
    let Some(connections) =
        load.rooms.checked_mul(load.players).and_then(|players| players.checked_add(arguments.stalled))
    else {
        bail!("--rooms {} --players {}: more players than can be counted", load.rooms, load.players)
    };
    let threads = arguments.threads.min(load.rooms);
    make_room(connections, threads, site.target.address)?;

    let (shared, bar) = (Shared::default(), players::bar(connections));
    let parts = (0..threads).map(|thread| part(arguments, thread, threads, &site));
    let ((window, join_ns), tallies) = players::run(parts, &shared, |crew| {
        let mut go_on = |_: &Shared| Ok(());
        let mut director = Director::new(&shared, crew, &bar, interrupted, &mut go_on);
        let (waited, join_ns) = director.ramp().with_context(|| arguments.common.url.clone())?;
        let Some(join_ns) = join_ns.filter(|_| waited == Waited::Done) else {
            bail!("interrupted before everybody had joined")
        };
        let Some(window) = director.hold(&site.server, load.warmup, load.duration, load.grace)? else {
            bail!("interrupted before the measured window began")
        };
        director.close()?;
        Ok((window, join_ns))
    })?;
    bar.finish_and_clear();
    if let Some((failure, _)) = tallies.goodbye_failures.lines().next() {
        bail!("during the goodbyes: {failure}");
    }
    let views_expected = tallies.moves_planned * u64::from(load.players - 1);
    let dialect = arguments.dialect;
    let measured = Measured { tallies, window, join_ns, threads, dialect, views_expected };
    Ok(summary::report(arguments, site.server.cpu_source(), measured))
}

/// What one of `threads` plays: whole rooms, and the first also the members that stop reading.
fn part(arguments: &Arguments, thread: u32, threads: u32, site: &Site) -> Part {
    let &Load { rooms, players, hz, ramp, seed, grace, .. } = &arguments.load;
    let first_room = rooms * thread / threads;
    let end_room = rooms * (thread + 1) / threads;
    let own_players = (end_room - first_room) * players;
    let stalled = if thread == 0 { arguments.stalled } else { 0 };
    let room_of = |slot: u32| if slot < own_players { first_room + slot / players } else { first_room };
    // The stalled members are numbered after all players.
    let number_of = |slot: u32| {
        if slot < own_players { first_room * players + slot } else { rooms * players + slot - own_players }
    };
    let topic_of = |slot: u32| arguments.dialect.room_topic("load", seed, room_of(slot));
    let members = Members::new(own_players + stalled, site.tokens.clone(), topic_of, number_of);
    let dialect: Box<dyn Dialect> = match arguments.aligned {
        true => Box::new(Native::with_acks(members)),
        false => arguments.dialect.dialect(members),
    };
    Part {
        plan: Plan { stalled_from: own_players, ..Plan::new(&site.target, dialect, own_players + stalled) },
        players_per_room: players,
        pace: Pace { per_s: ramp, first: first_room * players, batch: 1, in_motion_max: IN_MOTION_MAX },
        schedule: Schedule::new(first_room * players..end_room * players, hz, seed),
        grace,
        align: arguments.aligned,
    }
}
