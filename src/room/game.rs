//! A game: who plays, where everybody is, what happened, and the frame of each tick.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use zerocopy::IntoBytes;
use zerocopy::big_endian::U32;

use super::frames::{self, Contents, First, Positions};
use super::game_channels::GameChannels;
use super::history::{History, Kept, Missed};
use super::objects::Objects;
use super::request::{Effect, ToMember};
use super::roster::{self, Roster};
use super::seats::{Newcomer, Occupancy, SeatIndex, Seats};
use super::speed::SpeedAllowance;
use super::tick::TickClock;
use crate::ids::{ConnId, PlayerId, ResumeToken, Topic, TopicName};
use crate::impossible;
use crate::limits;
use crate::memory::Allocated;
use crate::planted;
use crate::reasons::{CorrectionReason, ErrorCode, LeaveReason};
use crate::time::{Instant, Now};
use crate::wire::encoded::{Encoded, FramePool};
use crate::wire::frame::Opcode;
use crate::wire::native::{EventOutHeader, Move, Object, Position, Scope, Welcome, kind};

/// Where positions may be: both corners belong to it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Bounds {
    /// Smallest x.
    pub min_x: f32,
    /// Smallest y.
    pub min_y: f32,
    /// Largest x.
    pub max_x: f32,
    /// Largest y.
    pub max_y: f32,
}

impl Bounds {
    fn contain(&self, x: f32, y: f32) -> bool {
        (self.min_x..=self.max_x).contains(&x) && (self.min_y..=self.max_y).contains(&y)
    }
}

/// What an operator sets for the games whose name fits a pattern.
#[derive(Clone, Debug, PartialEq)]
pub struct GameRules {
    /// Which games: a `*` stands for any run of characters.
    pub pattern: Box<str>,
    /// Frames per second, 1 to `limits::TICK_HZ_MAX`.
    pub tick_hz: u16,
    /// Where positions may be.
    pub bounds: Bounds,
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
            bounds: Bounds { min_x: f32::MIN, min_y: f32::MIN, max_x: f32::MAX, max_y: f32::MAX },
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

/// Events expire about so much later than they may, and together.
const EVENTS_EXPIRE_TOGETHER: Duration = Duration::from_secs(5);

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
    pub(super) objects: Objects,
    pub(super) gone_players: Vec<u32>,
    roster: Roster,
    /// The Keyframe that the newcomers of a crowd share, until the next tick.
    shared_keyframe: Option<Encoded>,
    /// Only while somebody plays in a Phoenix channel.
    pub(super) channels: Option<Box<GameChannels>>,
}

/// An event that happened.
#[derive(Debug)]
pub(super) struct PastEvent {
    pub(super) sender: PlayerId,
    pub(super) scope: Scope,
    pub(super) format: PayloadFormat,
    /// The native record.
    pub(super) encoded: Encoded,
    pub(super) happened_at: Instant,
}

impl Kept for PastEvent {
    fn heap_bytes(&self) -> usize {
        // Whoever it waits for counts a part of it once more, for the moment.
        self.encoded.whole_heap_bytes()
    }
}

/// An event that a player sends.
#[derive(Clone, Copy, Debug)]
pub struct NewEvent<'a> {
    /// Whom it is meant for.
    pub scope: Scope,
    /// The game's meaning.
    pub code: u16,
    /// What `payload` is.
    pub format: PayloadFormat,
    /// At most `limits::EVENT_PAYLOAD_BYTES_MAX` bytes.
    pub payload: &'a [u8],
}

/// What the payload of an event is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PayloadFormat {
    /// Bytes that only the players understand.
    Bytes,
    /// JSON, from a Phoenix client.
    Json,
}

/// What became of a Move.
#[derive(Clone, Copy, Debug, PartialEq)]
#[must_use]
pub enum Moved {
    /// It is the player's position now.
    Applied,
    /// It was refused; the player is at `x`, `y`.
    Refused {
        /// Why.
        reason: CorrectionReason,
        /// Where the player is.
        x: f32,
        /// Where the player is.
        y: f32,
    },
}

/// What became of the seat of a player that was lost.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SeatFate {
    /// It waits for its player.
    Held,
    /// The game does not hold seats.
    Freed,
}

/// How a seat was taken again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Resumed {
    /// The seat.
    pub seat: SeatIndex,
    /// Who had it until now.
    pub before: Occupancy,
}

/// The first frames of a member, in the order they are sent.
#[derive(Debug)]
pub struct Greeting {
    /// Welcome, Roster, Keyframe, missed events.
    pub frames: Vec<Encoded>,
    /// How many of them are missed events.
    pub events: usize,
}

impl Game {
    /// An empty game. `epoch` names its event stream and must never have been used; `phase` spreads games over a tick;
    /// `list_max`: see `Roster`.
    pub fn new(
        topic: Arc<Topic>,
        rules: GameRules,
        epoch: u64,
        phase: f32,
        list_max: u32,
        now: Instant,
    ) -> Self {
        Self {
            topic,
            clock: TickClock::new(rules.tick_hz, phase, now),
            tick_at: None,
            rules,
            epoch,
            events: History::new(limits::EVENTS_KEPT_MAX),
            seats: Seats::default(),
            holds: BTreeSet::new(),
            positions: Positions::default(),
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

    /// Its beat.
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
            + self.objects.heap_bytes()
            + self.gone_players.allocated_bytes()
            + self.roster.heap_bytes()
            + self.shared_keyframe.as_ref().map_or(0, Encoded::whole_heap_bytes)
            + self.channels.allocated_bytes()
            + self.channels.as_ref().map_or(0, |channels| channels.heap_bytes())
    }

    // ── Coming and going ────────────────────────────────────────────────────────────────────────────────────────────

    /// Seats a newcomer; `Err`: why there is no seat for it, in a sentence.
    pub fn take_seat(
        &mut self,
        newcomer: &Newcomer<'_>,
        now: Instant,
        effects: &mut Vec<Effect>,
    ) -> Result<SeatIndex, String> {
        let players_max = self.rules.players_max;
        if self.seats.len() >= players_max as usize {
            return Err(format!("game {} has all its {players_max} seats taken", self.name()));
        }
        let Some(seat) = self.seats.take(newcomer) else {
            let name = self.name();
            return Err(format!(
                "game {name} has given all its player ids; it takes players again when it has ended"
            ));
        };
        self.positions.grow(self.seats.slots());
        match self.player(seat) {
            Some(player) => self.roster.joined(player, &self.seats),
            None => impossible!("a seat that was taken has a player"),
        }
        self.changed(now);
        if newcomer.occupancy.is_native() {
            if !planted!(InformsTwice) {
                self.roster.informed(seat);
            }
            self.tell_channels_joined(seat, now, effects);
        }
        Ok(seat)
    }

    /// Gives the seat that `token` names to `occupant`, under `new_token`; `None`: there is no such seat, or it is another
    /// user's (`user`: whose token the client showed; `None` in development mode, where every guest is new).
    pub fn resume(
        &mut self,
        token: ResumeToken,
        user: Option<&str>,
        occupant: Occupancy,
        new_token: ResumeToken,
        now: Instant,
        effects: &mut Vec<Effect>,
    ) -> Option<Resumed> {
        let index = self.seats.find_token(token)?;
        let seat = self.seats.seat_mut(index)?;
        if user.is_some_and(|user| user != seat.user()) {
            return None;
        }
        let before = std::mem::replace(&mut seat.occupancy, occupant);
        self.seats.replace_token(index, token, new_token);
        match before {
            Occupancy::Connected(conn) => effects.push(Effect::Unseated { conn, seat: index }),
            Occupancy::Channel(to) => effects.push(Effect::Member { to, what: ToMember::Replaced }),
            Occupancy::HeldUntil(until) => {
                self.holds.remove(&(until, index));
            }
        }
        if occupant.is_native() {
            self.roster.informed(index);
        }
        self.tell_channels_resumed(index, before, now);
        Some(Resumed { seat: index, before })
    }

    /// The client of a resumed seat was heard: it is taken to have its new token, and the one before is good no more.
    pub fn confirm_resume(&mut self, index: SeatIndex) {
        self.seats.forget_previous_token(index);
    }

    /// What a member is sent first. `resumed`: whether its seat was held; `seen`: the last event it has seen, if it resumed.
    pub fn greeting(
        &mut self,
        index: SeatIndex,
        resumed: bool,
        seen: Option<u64>,
        development: bool,
        now: Now,
    ) -> Option<Greeting> {
        let keyframe = self.keyframe_of_greeting(now.instant);
        let seat = self.seats.seat(index)?;
        let missed = match seen.map(|seen| self.events.since(seen)) {
            Some(Missed::Replay(events)) => Some(events),
            Some(Missed::TooOld | Missed::Ahead) | None => None,
        };
        let flag = |condition: bool, flag: u8| if condition { flag } else { 0 };
        let welcome = Welcome {
            kind: kind::WELCOME,
            flags: flag(resumed, Welcome::RESUMED)
                | flag(missed.is_some(), Welcome::CAUGHT_UP)
                | flag(development, Welcome::DEVELOPMENT),
            tick_hz: self.rules.tick_hz.into(),
            player_id: seat.player.0.into(),
            epoch: self.epoch.into(),
            seq: self.events.seq().into(),
            tick: self.clock.number_at(now.instant).into(),
            server_time_us: now.unix_us.into(),
            resume_token: seat.resume_token.0,
            min_x: self.rules.bounds.min_x.into(),
            min_y: self.rules.bounds.min_y.into(),
            max_x: self.rules.bounds.max_x.into(),
            max_y: self.rules.bounds.max_y.into(),
            max_speed: self.rules.max_speed.into(),
        };
        let mut frames = vec![
            Encoded::message(Opcode::Binary, welcome.as_bytes()),
            self.roster.encode_for_newcomer(seat, &self.seats, &mut pool_of_greetings()),
            keyframe,
        ];
        let state_frames = frames.len();
        let missed = missed.map(|missed| missed.skip(usize::from(planted!(ReplaysTooLittle))));
        let meant_for_it = |event: &&PastEvent| receives(event.scope, event.sender, seat.player);
        frames.extend(missed.into_iter().flatten().filter(meant_for_it).map(|event| event.encoded.clone()));
        Some(Greeting { events: frames.len() - state_frames, frames })
    }

    /// In a crowd the newcomers of a tick share it: it is as old as the first of them, and the tick's Delta, which tells all that
    /// has changed since the last tick, brings everybody up to date.
    fn keyframe_of_greeting(&mut self, now: Instant) -> Encoded {
        if let Some(shared) = &self.shared_keyframe {
            return shared.clone();
        }
        let keyframe = self.encode_keyframe(self.clock.number_at(now), &mut pool_of_greetings());
        // Without a tick to come nothing would free it.
        if self.roster.is_crowd() && self.tick_at.is_some() {
            self.shared_keyframe = Some(keyframe.clone());
        }
        keyframe
    }

    /// The player of a seat was lost: it is held for a while, if the game holds seats, and freed else.
    pub fn lose_seat(&mut self, index: SeatIndex, now: Instant, effects: &mut Vec<Effect>) -> SeatFate {
        if self.rules.seat_hold.is_zero() || planted!(FreesLostSeat) {
            self.free_seat(index, LeaveReason::TimedOut, now, effects);
            return SeatFate::Freed;
        }
        let until = now + self.rules.seat_hold;
        let Some(seat) = self.seats.seat_mut(index) else {
            impossible!("who is lost has a seat");
            return SeatFate::Freed;
        };
        let before = std::mem::replace(&mut seat.occupancy, Occupancy::HeldUntil(until));
        self.holds.insert((until, index));
        self.tell_channels_held(index, before, now);
        SeatFate::Held
    }

    /// Frees a seat, with its position and objects.
    pub fn free_seat(
        &mut self,
        index: SeatIndex,
        reason: LeaveReason,
        now: Instant,
        effects: &mut Vec<Effect>,
    ) {
        let Some(seat) = self.seats.free(index) else { return impossible!("a seat is freed once") };
        if let Occupancy::HeldUntil(until) = seat.occupancy {
            self.holds.remove(&(until, index));
            effects.push(Effect::HoldEnded { seat: index });
        }
        self.tell_channels_left(&seat, reason, now, effects);
        if let Some(player) = self.positions.remove(index.slot())
            && !planted!(HidesGonePlayer)
        {
            self.gone_players.push(player.0);
        }
        self.forget_speed(index);
        self.objects.remove_all_of(seat.player.0);
        self.roster.left(seat.player, reason, &self.seats);
        self.changed(now);
    }

    // ── Playing ─────────────────────────────────────────────────────────────────────────────────────────────────────

    /// A player moves. Allocates nothing, unless the game has a maximum speed and this seat is the first beyond those that
    /// have moved before.
    pub fn move_player(&mut self, index: SeatIndex, record: &Move, now: Instant) -> Moved {
        let (x, y) = (record.x.get(), record.y.get());
        let held = self.positions.at(index.slot());
        // Who has a position has a seat: it need not be looked at.
        let player_id = match held {
            Some(held) => held.player_id,
            None => match self.player(index) {
                Some(player) => player.0.into(),
                None => {
                    impossible!("who plays has a seat");
                    return Moved::Applied;
                }
            },
        };
        let reason = if !self.rules.bounds.contain(x, y) {
            Some(CorrectionReason::OutOfBounds)
        } else if let Some(held) = held.filter(|_| self.rules.max_speed.is_finite()) {
            let distance = (x - held.x.get()).hypot(y - held.y.get());
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
            let (x, y) = held.map_or_else(|| self.nearest(x, y), |held| (held.x.get(), held.y.get()));
            return Moved::Refused { reason, x, y };
        }
        let position = Position { player_id, x: record.x, y: record.y };
        self.positions.set(index.slot(), position);
        Moved::Applied
    }

    /// The host sets positions: all of them, or none and why.
    pub fn host_moves(&mut self, positions: &[Position]) -> Result<(), (ErrorCode, String)> {
        for position in positions {
            let (player, x, y) = (position.player_id.get(), position.x.get(), position.y.get());
            if self.seats.find(PlayerId(player)).is_none() {
                return Err((
                    ErrorCode::NoSuchPlayer,
                    format!("player {player} is not in this game; nobody was moved"),
                ));
            }
            if !self.rules.bounds.contain(x, y) {
                return Err((
                    ErrorCode::LimitReached,
                    format!("({x}, {y}) for player {player} is outside the game's bounds; nobody was moved"),
                ));
            }
        }
        for position in positions {
            let Some((index, _)) = self.seats.find(PlayerId(position.player_id.get())) else {
                impossible!("a player that was found is there");
                continue;
            };
            self.positions.set(index.slot(), *position);
            self.forget_speed(index);
        }
        Ok(())
    }

    /// A player puts an object.
    pub fn put_object(&mut self, index: SeatIndex, object: &Object) -> Result<(), (ErrorCode, String)> {
        let Some(player) = self.player(index) else {
            impossible!("who plays has a seat");
            return Ok(());
        };
        let (x, y) = (object.x.get(), object.y.get());
        if !self.rules.bounds.contain(x, y) {
            return Err((ErrorCode::LimitReached, format!("({x}, {y}) is outside the game's bounds")));
        }
        self.objects.put(player.0, object).map_err(|code| object_error(code, object.object_id.get()))
    }

    /// A player removes an object.
    pub fn remove_object(&mut self, index: SeatIndex, object_id: u32) -> Result<(), (ErrorCode, String)> {
        let Some(player) = self.player(index) else {
            impossible!("who plays has a seat");
            return Ok(());
        };
        self.objects.remove(player.0, object_id).map_err(|code| object_error(code, object_id))
    }

    /// A player sends an event: its number, or `None` when the target does not exist.
    pub fn event(
        &mut self,
        index: SeatIndex,
        event: NewEvent<'_>,
        now: Instant,
        effects: &mut Vec<Effect>,
    ) -> Option<u64> {
        let NewEvent { scope, code, format, payload } = event;
        let sender = self.player(index)?;
        let scope_byte = match scope {
            Scope::Others => 0,
            Scope::All => 1,
            Scope::Only(target) => {
                self.seats.find(PlayerId(target))?;
                2
            }
        };
        let event = self.events.push(|seq| {
            let header = EventOutHeader {
                kind: kind::EVENT_OUT,
                scope: scope_byte,
                code: code.into(),
                sender: sender.0.into(),
                seq: seq.into(),
            };
            let mut record = Vec::with_capacity(size_of::<EventOutHeader>() + payload.len());
            record.extend_from_slice(header.as_bytes());
            record.extend_from_slice(payload);
            PastEvent {
                sender,
                scope,
                format,
                encoded: Encoded::message(Opcode::Binary, &record),
                happened_at: now,
            }
        });
        effects.push(Effect::Event { sender: index, scope, record: event.encoded.clone() });
        self.tell_channels_event(index, effects);
        Some(self.events.seq())
    }

    /// Forgets events that nobody can need any more: whoever could come back for them has lost its seat.
    pub(super) fn forget_events(&mut self, now: Instant) {
        if self.events_expire_at().is_none_or(|at| at > now) {
            return;
        }
        let kept_for = self.events_kept_for();
        while self.events.kept().next().is_some_and(|event| event.happened_at + kept_for <= now) {
            self.events.forget_oldest();
        }
    }

    /// When `forget_events` has something to forget next: not for each event alone.
    pub(super) fn events_expire_at(&self) -> Option<Instant> {
        let oldest = self.events.kept().next()?;
        Some(oldest.happened_at + self.events_kept_for() + EVENTS_EXPIRE_TOGETHER)
    }

    fn events_kept_for(&self) -> Duration {
        self.rules.seat_hold.max(limits::EVENTS_KEPT_FOR)
    }

    /// Connections that get an event of `sender`.
    pub fn receivers(&self, sender: SeatIndex, scope: Scope) -> impl Iterator<Item = ConnId> {
        let sender = self.player(sender);
        self.seats.taken().filter_map(move |(_, seat)| {
            let receives = sender.is_some_and(|sender| receives(scope, sender, seat.player));
            let is_lost = planted!(LosesDirectEvent) && matches!(scope, Scope::Only(_));
            seat.conn().filter(|_| receives && !is_lost)
        })
    }

    /// Something has changed that the next tick tells. `true`: there was no tick to come before.
    pub fn changed(&mut self, now: Instant) -> bool {
        let is_first = self.tick_at.is_none();
        if is_first {
            self.tick_at = Some(self.clock.next_after(now));
        }
        is_first
    }

    // ── Ticking ─────────────────────────────────────────────────────────────────────────────────────────────────────

    /// When the tick was due that is due now; `None`: none is. It has none to come before something changes.
    pub fn take_due_tick(&mut self, now: Instant) -> Option<Instant> {
        self.tick_at.take_if(|at| *at <= now)
    }

    /// Whether members' state frames are out of date.
    pub fn state_changed(&self) -> bool {
        let objects = self.objects.changed().len() + self.objects.gone().len();
        self.positions.moved_count() + self.gone_players.len() + objects > 0
    }

    /// Who came and went since the last tick, or how many there are: a record for each connection that does not know yet.
    pub fn tell_roster(&mut self, now: Instant, pool: &mut FramePool) -> Vec<(ConnId, Encoded)> {
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

    /// Everything, as a member needs it that was not sent the last frame.
    pub fn encode_keyframe(&self, tick: u32, pool: &mut FramePool) -> Encoded {
        let contents = Contents {
            tick,
            position_count: self.positions.count(),
            positions: self.positions.all(),
            objects: self.objects.all(),
            gone_players: [].into_iter(),
            gone_objects: [].into_iter(),
        };
        frames::encode(First::Keyframe, contents, pool)
    }

    /// What changed since the last tick.
    pub fn encode_delta(&self, tick: u32, pool: &mut FramePool) -> Encoded {
        // The two lists of gone ids have different types; a `Contents` has one.
        let gone_objects: Vec<u32> = self.objects.gone().collect();
        let contents = Contents {
            tick,
            position_count: self.positions.moved_count(),
            positions: self.positions.moved(),
            objects: self.objects.changed(),
            gone_players: self.gone_players.iter().copied(),
            gone_objects: gone_objects.iter().copied(),
        };
        frames::encode(First::Delta, contents, pool)
    }

    /// The tick is over: everybody has been told, or will get a Keyframe.
    pub fn settle(&mut self) {
        self.positions.settle();
        self.objects.settle();
        self.gone_players.clear();
        self.roster.settle();
        self.shared_keyframe = None;
    }

    /// Whoever sits at `index` has the whole allowance.
    fn forget_speed(&mut self, index: SeatIndex) {
        if let Some(allowance) = self.speeds.get_mut(index.slot()) {
            *allowance = SpeedAllowance::default();
        }
    }

    pub(super) fn player(&self, index: SeatIndex) -> Option<PlayerId> {
        self.seats.seat(index).map(|seat| seat.player)
    }

    /// Where a player without a position is sent when its first step is out of bounds.
    fn nearest(&self, x: f32, y: f32) -> (f32, f32) {
        let bounds = &self.rules.bounds;
        (x.clamp(bounds.min_x, bounds.max_x), y.clamp(bounds.min_y, bounds.max_y))
    }
}

/// Of one's own: buffers of greetings, kept for ticks, would only grow the shard's pool.
fn pool_of_greetings() -> FramePool {
    FramePool::default()
}

pub(super) fn receives(scope: Scope, sender: PlayerId, receiver: PlayerId) -> bool {
    match scope {
        Scope::Others => receiver != sender,
        Scope::All => true,
        Scope::Only(target) => receiver.0 == target,
    }
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
