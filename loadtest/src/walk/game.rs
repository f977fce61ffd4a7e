//! One game of players that walk, from the first join to the last goodbye.

use std::ops::Range;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::Duration;

use anyhow::Context;
use corelay::wire::frame::Opcode;
use corelay::wire::native::{StepHeader, kind};
use indicatif::ProgressBar;
use zerocopy::IntoBytes;

use super::arguments::Arguments;
use super::grid::Grid;
use super::oracle::{Findings, Rules};
use super::pauses::Pauses;
use super::sight::Sights;
use super::trails::Trails;
use super::walker::{Paths, Walker};
use super::world::World;
use crate::arguments::Site;
use crate::assembly::{TURN, WANT, assemble};
use crate::clock;
use crate::counters::Counters;
use crate::crowd::{Crowd, Plan, Pushed};
use crate::dialect::{Members, Records};
use crate::frames::write_masked;
use crate::limits::explain_ring_error;
use crate::schedule::{Due, Schedule};
use crate::server::Lap;
use crate::views::microseconds;

const GOODBYE_TIME: Duration = Duration::from_secs(5);
/// Looks a second at each client that is followed.
const LOOKS_PER_S: u64 = 4;
/// Of the clients that are followed, one of so many may pause.
const PAUSERS_EVERY: u32 = 4;

/// What players sent, and what was too late for it.
pub struct Sends {
    pub moves: u64,
    /// Moves at whose time the player rested.
    pub rests: u64,
    /// Moves that were left out because the socket was busy.
    pub skipped: u64,
    /// From the intended time to the send, in µs.
    pub lateness_us: hdrhistogram::Histogram<u64>,
}

/// What was measured of it.
pub struct Played {
    pub world: World,
    pub crowd: Crowd,
    /// Connections that were there in the end.
    pub open: u32,
    /// What was received in the window.
    pub window: Counters,
    pub lap: Lap,
    pub findings: Findings,
    pub sends: Sends,
    pub malformed: u64,
    pub pauses: u64,
}

struct Game<'a> {
    arguments: &'a Arguments,
    interrupted: &'a AtomicBool,
    crowd: Crowd,
    sights: Sights,
    walkers: Vec<Walker>,
    /// By player, once it has sent one.
    last_sent: Vec<Option<[f32; 2]>>,
    schedule: Schedule,
    trails: Trails,
    rules: Rules,
    findings: Findings,
    pauses: Pauses,
    sends: Sends,
    /// Looks that were due so far, and what the next one looks at.
    looks: u64,
    frame: Vec<u8>,
}

/// Plays it until its end, or until it is interrupted; `None`: before its window began, or because it only fills a game.
pub fn play(
    arguments: &Arguments,
    site: &Site,
    bar: &ProgressBar,
    interrupted: &AtomicBool,
) -> anyhow::Result<Option<Played>> {
    let mut game = Game::assemble(arguments, site, bar, interrupted)?;
    bar.set_prefix("walking");
    let start_ns = clock::now_ns();
    let (mut lap, mut window) = (None, Counters::default());
    if arguments.only_fill {
        game.walk(start_ns, &(u64::MAX..u64::MAX))?;
    } else {
        let warmup_ns = (arguments.warmup.as_nanos() as u64).max(game.rules.memory_ns());
        let window_ns = start_ns + warmup_ns..start_ns + warmup_ns + arguments.window().as_nanos() as u64;
        (lap, window) = std::thread::scope(|scope| {
            let lap = scope.spawn(|| Lap::of(&site.server, &window_ns, interrupted));
            let walked = game.walk(start_ns, &window_ns);
            let lap = lap.join().expect("a thread does not panic");
            anyhow::Ok((lap, walked?))
        })?;
    }
    let open = game.crowd.open();
    game.pauses.end(&mut game.crowd)?;
    // What the goodbyes bring is in no figure, and a relay that does not answer them is not this scenario's subject.
    let _ = game.crowd.say_goodbye(GOODBYE_TIME);
    let Game { crowd, sights: Sights { world, malformed, .. }, findings, sends, pauses, .. } = game;
    let pauses = pauses.count;
    Ok(lap.map(|lap| Played { world, crowd, open, window, lap, findings, sends, malformed, pauses }))
}

impl<'a> Game<'a> {
    /// Lets all players join, and prepares their walks.
    fn assemble(
        arguments: &'a Arguments,
        site: &Site,
        bar: &ProgressBar,
        interrupted: &'a AtomicBool,
    ) -> anyhow::Result<Self> {
        let &Arguments { players, seed, hz, .. } = arguments;
        let topic = format!("game:{}", arguments.game);
        let members = Members::new(players, site.tokens.clone(), |_| topic.clone(), |slot| slot);
        let every = arguments.every();
        let narrow_every = (arguments.skip_permille > 0.0).then_some(every * PAUSERS_EVERY);
        let dialect = Box::new(Records::new(members));
        let plan = Plan { narrow_every, ..Plan::new(&site.target, dialect, players) };
        let mut crowd = Crowd::new(plan).map_err(explain_ring_error)?;
        let mut sights = Sights::new(players, every);
        assemble(&mut crowd, players, arguments.ramp, &mut sights, bar, interrupted).context(topic)?;

        let world = sights.world;
        let cell = world.view.map_or(arguments.cell as f32, |view| view.cell);
        let bounds = world.area(arguments.cells() as f32 * cell);
        let may_leap = world.max_speed.is_infinite();
        let paths = Paths { bounds, cell, crowd: arguments.crowd, may_leap, seed };
        let walkers: Vec<Walker> = (0..players).map(|player| paths.walker(player)).collect();
        let places: Vec<_> = walkers.iter().map(Walker::place).collect();
        let rules = Rules::new(&world, arguments.network.as_nanos() as u64);
        let now_ns = clock::now_ns();
        let pausers = narrow_every.map_or(Vec::new(), |every| (0..players).step_by(every as usize).collect());
        let at_once = f64::from(players) * arguments.skip_permille / 1000.0;
        Ok(Self {
            arguments,
            interrupted,
            crowd,
            sights,
            last_sent: vec![None; walkers.len()],
            schedule: Schedule::new(0..players, f64::from(hz), seed),
            trails: Trails::new(Grid::new(&bounds, cell), &places, rules.memory_ns(), now_ns),
            walkers,
            rules,
            findings: Findings::default(),
            pauses: Pauses::new(pausers.into_iter(), at_once, now_ns + rules.memory_ns()),
            sends: Sends { moves: 0, rests: 0, skipped: 0, lateness_us: microseconds() },
            looks: 0,
            frame: Vec::new(),
        })
    }

    /// Walks from `start_ns` to the end of the window, and looks at what clients are shown within: what was received within.
    fn walk(&mut self, start_ns: u64, window_ns: &Range<u64>) -> anyhow::Result<Counters> {
        let mut before = None;
        let mut now_ns = clock::now_ns();
        while now_ns < window_ns.end && !self.interrupted.load(Relaxed) {
            while let Some(due) = self.schedule.take_due(now_ns.saturating_sub(start_ns)) {
                self.send(due, start_ns, now_ns)?;
            }
            now_ns = self.crowd.turn(WANT, TURN, &mut self.sights)?;
            let _ = self.crowd.take_freed();
            self.crowd.take_gone().into_iter().for_each(|player| self.trails.handle_gone(player));
            self.trails.forget_old(now_ns);
            let is_current = |client| self.sights.is_current(client);
            self.pauses.turn(&mut self.crowd, is_current, self.rules.memory_ns(), now_ns)?;
            if now_ns >= window_ns.start {
                before.get_or_insert(self.crowd.counters);
                self.look(now_ns - window_ns.start, now_ns);
            }
        }
        Ok(self.crowd.counters - before.unwrap_or(self.crowd.counters))
    }

    fn send(&mut self, due: Due, start_ns: u64, now_ns: u64) -> anyhow::Result<()> {
        let player = due.player;
        let stride = self.arguments.speed / f64::from(self.arguments.hz);
        let place = self.walkers[player as usize].step(stride as f32);
        if self.last_sent[player as usize] == Some(place) {
            self.sends.rests += 1;
            return Ok(());
        }
        let layout = &self.sights.world.layout;
        let state = layout.state_at([place[0], place[1], self.sights.world.bounds.min[2]]);
        let kind = if layout.is_plain() { kind::MOVE } else { kind::STEP };
        let header = StepHeader { kind, reserved: 0, input_seq: (due.sequence as u16).into() };
        self.frame.clear();
        write_masked(&mut self.frame, Opcode::Binary, due.sequence, &[header.as_bytes(), &state]);
        match self.crowd.try_send(player, &self.frame)? {
            Pushed::Sent => {
                self.last_sent[player as usize] = Some(place);
                self.trails.handle_sent(player, place, now_ns);
                self.sends.moves += 1;
                let lateness_ns = now_ns.saturating_sub(start_ns + due.intended_ns);
                self.sends.lateness_us.saturating_record(lateness_ns / 1000);
            }
            Pushed::Busy => self.sends.skipped += 1,
            Pushed::Gone => {}
        }
        Ok(())
    }

    /// Looks at the clients whose turn it is, so long after the begin of the window.
    fn look(&mut self, since_ns: u64, now_ns: u64) {
        let per_s = u64::from(self.sights.count()) * LOOKS_PER_S;
        let due = (u128::from(since_ns) * u128::from(per_s) / 1_000_000_000) as u64;
        // After a long pause of this machine each client is looked at once.
        self.looks = self.looks.max(due.saturating_sub(u64::from(self.sights.count())));
        while self.looks < due {
            let (client, sight) = self.sights.nth((self.looks % u64::from(self.sights.count())) as u32);
            self.looks += 1;
            if self.trails.is_here(client) && !self.pauses.excuse(client) {
                self.findings.look(
                    client,
                    (sight, self.sights.as_of_ns(sight)),
                    &self.trails,
                    &self.rules,
                    now_ns,
                );
            }
        }
    }
}
