//! A run: a world, five clients of one document, and a seed that decides what they do and what goes wrong.

use std::time::Duration;

use corelay::limits::ROOM_WAITING_USER_MAX;
use corelay::room::stored::{StoreAction, StoreAnswer, Unavailable};
use corelay::session::liveness::Liveness;
use corelay::session::rate_limit::{Rate, Rates};
use corelay::shard::placement::Placement;
use corelay::shard::settings::{ClientRules, Settings};

use super::author::{Around, Author};
use super::histories::Histories;
use super::random::Random;
use super::world::World;

const CLIENTS: usize = 5;
/// Clients see what has arrived at least so often.
const SLICE: Duration = Duration::from_millis(25);
/// Connections that nobody hears any more are closed by then.
const REST: Duration = Duration::from_secs(8);
/// Everybody has come back by then.
const REST_MAX: Duration = Duration::from_secs(60);

/// How often it happened.
#[derive(Clone, Copy, Debug, Default)]
#[allow(dead_code, reason = "they are shown")]
pub struct Counts {
    acknowledged: u64,
    lost: u64,
    restarts: u64,
    refusals: u64,
    snapshots: u64,
}

impl Counts {
    pub fn add(&mut self, more: Self) {
        self.acknowledged += more.acknowledged;
        self.lost += more.lost;
        self.restarts += more.restarts;
        self.refusals += more.refusals;
        self.snapshots += more.snapshots;
    }

    /// A fuzzer that nothing happens in finds nothing.
    pub fn check(self) {
        let Self { acknowledged, lost, restarts, refusals, snapshots } = self;
        assert!(
            [acknowledged, lost, restarts, refusals, snapshots].iter().all(|count| *count > 0),
            "{self:?}"
        );
    }
}

/// How likely something is in each step, in permille.
struct Plan {
    edits: u32,
    bursts: u32,
    lost: u32,
    restarts: u32,
    stalls: u32,
    refusals: u32,
    full_mailboxes: u32,
    insertions_max: usize,
}

impl Plan {
    fn draw(random: &mut Random) -> Self {
        let is_busy = random.chance(60);
        Self {
            edits: random.one_of(&[20, 100, 400]),
            bursts: if is_busy { 120 } else { 0 },
            lost: random.one_of(&[0, 3, 10, 30]),
            restarts: random.one_of(&[0, 0, 2, 5]),
            stalls: random.one_of(&[0, 10, 50]),
            refusals: random.one_of(&[0, 100, 500]),
            full_mailboxes: random.one_of(&[0, 0, 5]),
            insertions_max: if random.chance(50) { 1_000 } else { 2 },
        }
    }
}

/// See the module documentation.
pub struct Fuzz {
    random: Random,
    world: World,
    topic: String,
    plan: Plan,
    authors: Vec<Author>,
    histories: Histories,
    counts: Counts,
}

impl Fuzz {
    pub fn new(seed: u64) -> Self {
        let mut random = Random::new(seed);
        let plan = Plan::draw(&mut random);
        let world = World::new(settings(&mut random, plan.bursts > 0));
        let topic = format!("doc:{}", world.name_on(random.below(world.metrics.len())));
        let latency = random.one_of(&[0, 30, 200]);
        let author = |number| Author::new(&format!("user-{number}"), &topic, latency);
        Self {
            authors: (0..CLIENTS).map(author).collect(),
            random,
            world,
            topic,
            plan,
            histories: Histories::default(),
            counts: Counts::default(),
        }
    }

    pub fn run(mut self) -> Counts {
        for _ in 0..2 {
            (0..150).for_each(|_| self.step());
            self.come_to_rest();
            self.check();
        }
        self.counts.acknowledged = self.histories.of(&self.topic).acknowledged;
        self.counts
    }

    fn step(&mut self) {
        let index = self.random.below(CLIENTS);
        if self.random.chance(self.plan.edits) {
            (0..3).for_each(|_| self.edit());
        }
        if self.random.chance(self.plan.bursts) {
            self.authors[index].replica.edit_at_once(&mut self.random, ROOM_WAITING_USER_MAX);
        }
        if self.random.chance(200) {
            self.with_author(index, Author::meddle);
        }
        if self.random.chance(self.plan.lost) {
            self.counts.lost += 1;
            let is_known = self.random.chance(600);
            self.with_author(index, |author, around| author.lose(is_known, around));
        }
        if self.random.chance(self.plan.full_mailboxes) {
            self.world.full_mailbox = Some(self.random.below(self.world.metrics.len()));
        } else if self.random.chance(200) {
            self.world.full_mailbox = None;
        }
        self.trouble_store();
        if self.random.chance(self.plan.restarts) {
            self.restart();
        }
        let ms = self.random.below(80) as u64;
        self.advance(Duration::from_millis(ms));
    }

    fn edit(&mut self) {
        let index = self.random.below(CLIENTS);
        let replica = &mut self.authors[index].replica;
        if replica.is_known {
            replica.edit(&mut self.random, self.plan.insertions_max);
        }
    }

    fn trouble_store(&mut self) {
        if self.random.chance(self.plan.stalls) {
            self.world.store_stands = true;
        }
        let is_append = self
            .world
            .asked
            .front()
            .is_some_and(|(_, _, request)| matches!(request.action, StoreAction::Append { .. }));
        if !self.world.asked.is_empty() && self.random.chance(self.plan.refusals) {
            self.counts.refusals += 1;
            let why = self.random.one_of(&[Unavailable::Busy, Unavailable::Full, Unavailable::Failed]);
            let conflicts = is_append && self.random.chance(200);
            self.world.let_store_say(if conflicts {
                StoreAnswer::Conflict
            } else {
                StoreAnswer::Refused(why)
            });
        }
        if self.world.store_stands && self.random.chance(100) {
            self.world.store_stands = false;
            self.world.let_store_answer();
        }
    }

    /// The relay is killed, perhaps behind a commit of which it has not told anybody.
    fn restart(&mut self) {
        self.counts.restarts += 1;
        if self.random.chance(500)
            && let Some((_, _, request)) = self.world.asked.front()
        {
            self.world.store.answer(request);
        }
        self.world.restart();
        (0..CLIENTS).for_each(|index| self.with_author(index, |author, around| author.lose(false, around)));
    }

    fn advance(&mut self, duration: Duration) {
        let end = self.world.now.instant + duration;
        loop {
            let left = end.since(self.world.now.instant);
            self.world.advance(left.min(SLICE));
            (0..self.authors.len()).for_each(|index| self.with_author(index, Author::live));
            if left <= SLICE {
                return;
            }
        }
    }

    fn with_author(&mut self, index: usize, act: impl FnOnce(&mut Author, &mut Around<'_>)) {
        let Self { authors, world, random, histories, topic, .. } = self;
        act(&mut authors[index], &mut Around { world, random, history: histories.of(topic) });
    }

    // ── At rest ─────────────────────────────────────────────────────────────────────────────────────────────────────

    fn come_to_rest(&mut self) {
        self.world.full_mailbox = None;
        self.world.store_stands = false;
        self.world.let_store_answer();
        self.advance(REST);
        let begun = self.world.now.instant;
        while let Some(author) = self.authors.iter().find(|author| !author.is_at_rest()) {
            assert!(self.world.now.instant.since(begun) < REST_MAX, "it does not come to rest: {author:?}");
            self.advance(Duration::from_secs(1));
        }
    }

    /// All have what somebody is told who comes now.
    fn check(&mut self) {
        self.authors.push(Author::new("newcomer", &self.topic, 0));
        self.advance(Duration::from_secs(1));
        let newcomer = self.authors.pop().expect("it has just come");
        assert!(newcomer.is_at_rest(), "{newcomer:?}");
        let truth = &newcomer.replica;
        for Author { replica, .. } in &self.authors {
            let both = [replica, truth].map(|replica| (&replica.epoch, replica.version, &replica.text));
            assert_eq!(both[0], both[1], "as {} has it", replica.user);
            replica.check_cursors();
            let cursors = [replica, truth].map(|known| known.cursors_without([&replica.user, &truth.user]));
            assert_eq!(cursors[0], cursors[1], "as {} has them", replica.user);
        }
        self.counts.snapshots += self.histories.check(&self.world.store) as u64;
        self.authors.push(newcomer);
        self.with_author(CLIENTS, |author, around| author.lose(true, around));
        self.authors.pop();
    }
}

/// In a busy run nobody is over a rate.
fn settings(random: &mut Random, is_busy: bool) -> Settings {
    let much = Rate { per_s: 1_000_000, burst: 1_000_000 };
    let bytes = Rate { per_s: 1 << 30, burst: 1 << 30 };
    let rates = Rates { bytes, ..Rates::default() };
    let seconds = Duration::from_secs;
    Settings {
        placement: Placement::known(random.one_of(&[1, 2, 3])),
        rates: if is_busy { Rates { operations: much, ..rates } } else { rates },
        clients: ClientRules { presence_list_max: random.one_of(&[3, 256, 256]), ..ClientRules::default() },
        liveness: Liveness {
            socket_warn_after: seconds(2),
            socket_close_after: seconds(5),
            ..Liveness::default()
        },
        ..Settings::default()
    }
}
