//! A game: who plays, where everybody is, what happened, and the frame of each tick.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use zerocopy::big_endian::U32;

use super::frames::Positions;
use super::game_acks::PendingAcks;
use super::game_channels::GameChannels;
use super::game_events::PastEvent;
use super::game_views::GameViews;
use super::history::History;
use super::interest::ViewRules;
use super::objects::Objects;
use super::player_keys::PlayerKeys;
use super::roster::{self, Roster, RosterNews};
use super::seats::{SeatIndex, Seats};
use super::speed::SpeedAllowance;
use super::tick::TickClock;
use crate::ids::{PlayerId, Topic, TopicName};
use crate::impossible;
use crate::limits;
use crate::memory::Allocated;
use crate::reasons::{CorrectionReason, ErrorCode};
use crate::time::{Instant, RelayTime};
use crate::wire::encoded::{Encoded, FramePool};
use crate::wire::layout::{Bounds, Layout, Place};
use crate::wire::native::{HostSteps, Solid};

/// What an operator sets for the games whose name fits a pattern.
#[derive(Clone, Debug, PartialEq)]
pub struct GameRules {
    /// Which games: a `*` stands for any run of characters.
    pub pattern: Box<str>,
    /// Frames per second, 1 to `limits::TICK_HZ_MAX`.
    pub tick_hz: u16,
    /// Of what players' states consist.
    pub layout: Layout,
    /// Where positions may be.
    pub bounds: Bounds,
    /// Who is told of whom; `None`: all of all.
    pub view: Option<ViewRules>,
    /// Distance per second; infinite: not checked.
    pub max_speed: f32,
    /// Seats, held ones included.
    pub players_max: u32,
    /// How long a lost player's seat is held; zero: not at all.
    pub seat_hold: Duration,
}

impl Default for GameRules {
    fn default() -> Self {
        Self {
            pattern: "*".into(),
            tick_hz: limits::TICK_HZ_DEFAULT,
            layout: Layout::PLAIN,
            bounds: Bounds::default(),
            view: None,
            max_speed: f32::INFINITY,
            players_max: limits::PLAYERS_MAX_DEFAULT,
            seat_hold: limits::SEAT_HOLD_DEFAULT,
        }
    }
}

impl GameRules {
    /// How much of its way a player that keeps to `max_speed` may cover at once: as much as a network may hold back, and a
    /// step.
    fn speed_bound(&self) -> Duration {
        let tick = Duration::from_secs(1) / u32::from(self.tick_hz.max(1));
        limits::MOVE_DELAY_MAX + tick.max(limits::MOVE_INTERVAL_MAX)
    }
}

/// One game. Its members are seats; a seat knows its connection only by name.
#[derive(Debug)]
pub struct Game {
    topic: Arc<Topic>,
    pub(super) rules: GameRules,
    pub(super) clock: TickClock,
    /// When something that changed is told; `None`: nothing has changed.
    pub(super) tick_at: Option<Instant>,
    pub(super) epoch: u64,
    pub(super) events: History<PastEvent>,
    pub(super) seats: Seats,
    /// Held seats, by the time until which they are.
    pub(super) holds: BTreeSet<(Instant, SeatIndex)>,
    pub(super) positions: Positions,
    /// What each seat's player may still cover; only where the game has a maximum speed.
    speeds: Vec<SpeedAllowance>,
    /// Only where players have keys.
    pub(super) keys: Option<Box<PlayerKeys>>,
    pub(super) acks: PendingAcks,
    /// Only where members are told of what is near them.
    pub(super) views: Option<Box<GameViews>>,
    pub(super) objects: Objects,
    pub(super) gone_players: Vec<u32>,
    pub(super) roster: Roster,
    /// The Keyframe that the newcomers of a crowd share, until the next tick.
    pub(super) shared_keyframe: Option<Encoded>,
    /// Only while somebody plays in a Phoenix channel.
    pub(super) channels: Option<Box<GameChannels>>,
}

/// What became of a Step.
#[derive(Clone, Copy, Debug, PartialEq)]
#[must_use]
#[allow(missing_docs, reason = "the names say it")]
pub enum Moved {
    /// It is the player's state now.
    Applied,
    /// It was refused.
    Refused {
        reason: CorrectionReason,
        /// Where the player is.
        place: Place,
    },
}

impl Game {
    /// An empty game. `epoch` names its event stream and must never have been used; `phase` spreads games over a tick;
    /// `list_max`: see `Roster`; `now`: when it begins, on the relay's clock.
    pub fn new(
        topic: Arc<Topic>,
        rules: GameRules,
        epoch: u64,
        phase: f32,
        list_max: u32,
        now: RelayTime,
    ) -> Self {
        Self {
            topic,
            clock: TickClock::new(rules.tick_hz, phase, now),
            tick_at: None,
            positions: Positions::new(&rules.layout),
            keys: (rules.layout.keys > 0).then(Box::default),
            acks: PendingAcks::default(),
            views: rules.view.as_ref().map(|view| Box::new(GameViews::new(view, &rules.bounds))),
            rules,
            epoch,
            events: History::new(limits::EVENTS_KEPT_MAX),
            seats: Seats::default(),
            holds: BTreeSet::new(),
            speeds: Vec::new(),
            objects: Objects::default(),
            gone_players: Vec::new(),
            roster: Roster::new(list_max),
            shared_keyframe: None,
            channels: None,
        }
    }

    /// The game's topic.
    pub fn topic(&self) -> &Arc<Topic> {
        &self.topic
    }

    /// The game's name.
    pub fn name(&self) -> &TopicName {
        self.topic.name()
    }

    /// The game's rules.
    pub fn rules(&self) -> &GameRules {
        &self.rules
    }

    /// When its ticks are due.
    pub fn clock(&self) -> &TickClock {
        &self.clock
    }

    /// Its seats.
    pub fn seats(&self) -> &Seats {
        &self.seats
    }

    pub(super) fn own_heap_bytes(&self) -> usize {
        Topic::shared_bytes(&self.topic)
            + self.holds.allocated_bytes()
            + self.rules.pattern.allocated_bytes()
            + self.events.heap_bytes()
            + self.seats.heap_bytes()
            + self.positions.heap_bytes()
            + self.speeds.allocated_bytes()
            + self.keys.allocated_bytes()
            + self.keys.as_ref().map_or(0, |keys| keys.heap_bytes())
            + self.acks.heap_bytes()
            + self.rules.view.as_ref().map_or(0, |view| view.everywhere.allocated_bytes())
            + self.views.allocated_bytes()
            + self.views.as_ref().map_or(0, |views| views.heap_bytes())
            + self.objects.heap_bytes()
            + self.gone_players.allocated_bytes()
            + self.roster.heap_bytes()
            + self.shared_keyframe.as_ref().map_or(0, Encoded::whole_heap_bytes)
            + self.channels.allocated_bytes()
            + self.channels.as_ref().map_or(0, |channels| channels.heap_bytes())
    }

    // ── Playing ─────────────────────────────────────────────────────────────────────────────────────────────────────

    /// A player moves to `state` (see `Layout`), or stays. `input_seq`: its client's number for it, if it has one. Allocates nothing, unless the game has a maximum speed and this seat is
    /// the first beyond those that have moved before.
    pub fn step(&mut self, index: SeatIndex, input_seq: Option<u16>, state: &[u8], now: Instant) -> Moved {
        let layout = &self.rules.layout;
        let place = layout.place(state);
        let is_within = self.rules.bounds.contain(place, layout.axes);
        let is_free = self.rules.max_speed == f32::INFINITY && self.acks.is_empty();
        if is_within && is_free && self.positions.replace(index.slot(), state) {
            return Moved::Applied;
        }
        // A player with a state has a seat, which need not be looked up.
        let held = self.positions.at(index.slot());
        let player = match held {
            Some((player, _)) => player,
            None => match self.player(index) {
                Some(player) => player,
                None => {
                    impossible!("who plays has a seat");
                    return Moved::Applied;
                }
            },
        };
        let held = held.map(|(_, state)| layout.place(state));
        if let Some(input_seq) = input_seq {
            self.acks.used(index, input_seq, Some(now));
        }
        let reason = if !is_within {
            Some(CorrectionReason::OutOfBounds)
        } else if let Some(held) = held.filter(|_| self.rules.max_speed.is_finite()) {
            let [x, y, z] = std::array::from_fn(|axis| place[axis] - held[axis]);
            let distance = x.hypot(y).hypot(z);
            if self.speeds.len() <= index.slot() {
                self.speeds.resize_with(index.slot() + 1, SpeedAllowance::default);
            }
            let (allowance, bound) = (&mut self.speeds[index.slot()], self.rules.speed_bound());
            let fits = allowance.admit(distance, self.rules.max_speed, bound, now);
            (!fits).then_some(CorrectionReason::TooFast)
        } else {
            None
        };
        if let Some(reason) = reason {
            // Where a player without a place is sent when its first step is out of bounds.
            let place = held.unwrap_or_else(|| self.rules.bounds.nearest(place));
            return Moved::Refused { reason, place };
        }
        self.positions.set(index.slot(), player, state);
        Moved::Applied
    }

    /// The host sets states: all of them, or none and why.
    pub fn host_steps(&mut self, steps: &HostSteps<'_>) -> Result<(), (ErrorCode, String)> {
        let layout = self.rules.layout;
        for step in steps.iter() {
            let (player, place) = (step.player, layout.place(step.state));
            if self.seats.find(player).is_none() {
                let text = format!("player {} is not in this game; nobody was moved", player.0);
                return Err((ErrorCode::NoSuchPlayer, text));
            }
            if !self.rules.bounds.contain(place, layout.axes) {
                let place = &place[..usize::from(layout.axes)];
                let text = format!(
                    "{place:?} for player {} is outside the game's bounds; nobody was moved",
                    player.0
                );
                return Err((ErrorCode::LimitReached, text));
            }
        }
        for step in steps.iter() {
            let Some((index, _)) = self.seats.find(step.player) else {
                impossible!("a player that was found is there");
                continue;
            };
            self.positions.set(index.slot(), step.player, step.state);
            if let Some(input_seq) = step.input_seq {
                self.acks.used(index, input_seq, None);
            }
            self.forget_speed(index);
        }
        Ok(())
    }

    /// A player sets the value of a key. `false`: it is what it was.
    pub fn set_state(&mut self, index: SeatIndex, key: u8, value: &[u8]) -> bool {
        match (self.player(index), &mut self.keys) {
            (Some(player), Some(keys)) => keys.set(player, key, value),
            _ => {
                impossible!("who sets a key has a seat in a game with keys");
                false
            }
        }
    }

    /// A player puts an object.
    pub fn put_object(&mut self, index: SeatIndex, object: &Solid) -> Result<(), (ErrorCode, String)> {
        let Some(player) = self.player(index) else {
            impossible!("who plays has a seat");
            return Ok(());
        };
        let axes = self.rules.layout.axes;
        if !self.rules.bounds.contain(object.place(), axes) {
            let place = &object.place()[..usize::from(axes)];
            return Err((ErrorCode::LimitReached, format!("{place:?} is outside the game's bounds")));
        }
        let id = object.object.object_id.get();
        self.objects.put(player.0, object).map_err(|code| object_error(code, id))
    }

    /// A player removes an object.
    pub fn remove_object(&mut self, index: SeatIndex, object_id: u32) -> Result<(), (ErrorCode, String)> {
        let Some(player) = self.player(index) else {
            impossible!("who plays has a seat");
            return Ok(());
        };
        self.objects.remove(player.0, object_id).map_err(|code| object_error(code, object_id))
    }

    /// Something has changed that the next tick tells. `true`: no tick was to come before this change.
    pub fn changed(&mut self, now: Instant) -> bool {
        let is_first = self.tick_at.is_none();
        if is_first {
            self.tick_at = Some(self.clock.next_after(now));
        }
        is_first
    }

    // ── Ticking ─────────────────────────────────────────────────────────────────────────────────────────────────────

    /// Takes the tick that is due now and says since when it is due; `None`: none is. After it none is to come until something
    /// changes.
    pub fn take_due_tick(&mut self, now: Instant) -> Option<Instant> {
        self.tick_at.take_if(|at| *at <= now)
    }

    /// Who came and went since the last tick, or how many there are.
    pub fn tell_roster(&mut self, now: Instant, pool: &mut FramePool) -> RosterNews {
        self.roster.tell(&self.seats, now, pool)
    }

    /// User id and name of those of `players` that are here.
    pub fn encode_who(&self, players: &[U32]) -> Encoded {
        roster::encode_answer(players, &self.seats, &mut pool_of_greetings())
    }

    /// When a crowd is next told how many there are; `None`: everybody knows, or a tick is to come before.
    pub(super) fn count_due(&self) -> Option<Instant> {
        self.roster.count_due().filter(|_| self.tick_at.is_none())
    }

    /// Whoever sits at `index` has the whole allowance.
    pub(super) fn forget_speed(&mut self, index: SeatIndex) {
        if let Some(allowance) = self.speeds.get_mut(index.slot()) {
            *allowance = SpeedAllowance::default();
        }
    }

    pub(super) fn player(&self, index: SeatIndex) -> Option<PlayerId> {
        self.seats.seat(index).map(|seat| seat.player)
    }
}

/// A pool apart from the shard's, which would only grow if it kept buffers of greetings for ticks.
pub(super) fn pool_of_greetings() -> FramePool {
    FramePool::default()
}

fn object_error(code: ErrorCode, object_id: u32) -> (ErrorCode, String) {
    let text = match code {
        ErrorCode::NotYours => format!("object {object_id} belongs to another player"),
        ErrorCode::LimitReached => {
            format!("a player owns at most {} objects; remove one first", limits::OBJECTS_PER_PLAYER_MAX)
        }
        ErrorCode::Malformed | ErrorCode::Unauthorized | ErrorCode::NoSuchPlayer => code.label().to_owned(),
    };
    (code, text)
}
