//! The players of a game that speak Phoenix Channels, and what they are told.

use std::collections::{BTreeMap, BTreeSet};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use rand_core::Rng;
use zerocopy::FromBytes;

use super::audience::{Audience, Copies, JoinNumber};
use super::game::Game;
use super::game_events::{PastEvent, PayloadFormat, receives};
use super::game_update::Update;
use super::hosted::Context;
use super::presence::{MemberNumber, Presence};
use super::recovery::{self, CatchUp};
use super::request::{Effect, Join, ToMember, WholeState};
use super::seats::{Occupancy, Seat, SeatIndex};
use super::telling::{broadcast, broadcast_joined, broadcast_left, broadcast_presence, push_presence};
use crate::ids::{Address, FrameNumber, Party, PlayerId};
use crate::impossible;
use crate::memory::Allocated;
use crate::planted;
use crate::reasons::LeaveReason;
use crate::time::Instant;
use crate::wire::encoded::FramePool;
use crate::wire::format::Format;
use crate::wire::json::object_of;
use crate::wire::meta::Meta;
use crate::wire::native::{EventOutHeader, Scope};
use crate::wire::phoenix::Event;
use crate::wire::seen::Seen;

/// See the module documentation. It comes with the first channel and goes with the last; presence then starts anew.
#[derive(Debug)]
pub struct GameChannels {
    /// The game's topic, as it stands in messages.
    text: Box<str>,
    pub(super) audience: Audience,
    pub(super) members: BTreeMap<Address, Member>,
    pub(super) presence: Presence,
    /// Parties with a member that was not sent the last frame.
    stale_parties: BTreeSet<Party>,
    /// The last frame that was told.
    frame: FrameNumber,
}

#[derive(Clone, Copy, Debug)]
pub(super) struct Member {
    pub(super) seat: SeatIndex,
    pub(super) join_number: JoinNumber,
    pub(super) format: Format,
    pub(super) host: bool,
}

/// The frame of a tick for channels.
#[derive(Debug)]
pub struct ChannelFrame {
    /// Its number.
    pub number: FrameNumber,
    /// What changed, if something did, and since which frame.
    pub delta: Option<(FrameNumber, Copies)>,
    /// Everything, for parties with a member that was not sent the frame before.
    pub whole: Option<(Copies, BTreeSet<Party>)>,
}

impl Game {
    /// The players in channels, while there are any.
    pub fn channels(&self) -> Option<&GameChannels> {
        self.channels.as_deref()
    }

    /// The seat of a channel.
    pub fn seat_of_channel(&self, address: Address) -> Option<SeatIndex> {
        Some(self.channels.as_ref()?.members.get(&address)?.seat)
    }

    /// A player has taken `seat` in the channel `from`: it is told everything.
    pub fn open_channel(
        &mut self,
        from: Address,
        seat: SeatIndex,
        join: &Join,
        resumed: bool,
        context: &mut Context<'_>,
    ) {
        let Some(player) = self.player(seat) else {
            return impossible!("a channel is opened for a seat");
        };
        let mut channels = match self.channels.take() {
            Some(channels) => channels,
            None => self.new_channels(seat, context),
        };
        let (now, effects) = (context.now, &mut context.effects);
        let response = self.join_response(seat, &join.user, resumed);
        effects.push(Effect::Member { to: from, what: ToMember::Joined { response } });
        let join_number = channels.audience.add(from.party(), join.format);
        channels.members.insert(from, Member { seat, join_number, format: join.format, host: join.host });
        let number = MemberNumber(player.0);
        let joined_at_s = self.seats.seat(seat).map_or(0, |seat| seat.joined_at_s);
        let meta = join.meta.clone().unwrap_or_default().of_player(player.0);
        // The name is the seat's: a player that comes back keeps it.
        let name = self.seats.seat(seat).map_or("", Seat::name);
        if channels.presence.is_tracked(number) {
            // It has been away: what it said about itself then still holds, as far as it does not say more.
            let fits = channels.presence.update(number, &meta, now.instant);
            debug_assert!(fits.is_ok() || join.meta.is_some(), "a player id always fits");
        } else {
            channels.presence.track(number, &join.user, name, Some(&meta), joined_at_s.into(), now.instant);
        }
        push_presence(&mut channels.presence, &channels.audience, number, from, effects);
        if !resumed {
            let (topic, audience) = (&channels.text, &channels.audience);
            let who = (&*join.user, name);
            broadcast_joined(&channels.presence, topic, audience, who, Some(from), effects);
        }
        self.channels = Some(channels);
        if let Some(seen) = join.seen {
            let (CatchUp::Recovered(payload) | CatchUp::Lost(payload)) = self.catch_up(player, seen);
            let what = ToMember::Push { event: Event::CatchUp, payload: payload.into(), greeting: true };
            effects.push(Effect::Member { to: from, what });
        }
        if !planted!(GreetsWithoutState) {
            effects.push(Effect::Member { to: from, what: self.whole(join.format) });
        }
    }

    /// The member's connection holds no channel of this game any more. What becomes of its seat is decided apart.
    pub fn close_channel(&mut self, address: Address) -> Option<SeatIndex> {
        let channels = self.channels.as_mut()?;
        let member = channels.members.remove(&address)?;
        channels.audience.remove(address.party(), member.format);
        if channels.members.is_empty() {
            self.channels = None;
        }
        Some(member.seat)
    }

    /// A party has a member that was not sent the last frame.
    pub fn want_whole(&mut self, party: Party, now: Instant) {
        if let Some(channels) = &mut self.channels {
            channels.stale_parties.insert(party);
            self.changed(now);
        }
    }

    /// What channels are told at this tick; `None`: nothing. What is gone goes into the effects.
    pub fn channel_frame(&mut self, pool: &mut FramePool, effects: &mut Vec<Effect>) -> Option<ChannelFrame> {
        self.tell_channels_gone(effects);
        let channels = self.channels.as_mut()?;
        let stale = std::mem::take(&mut channels.stale_parties);
        let channels = self.channels.as_ref()?;
        let changed = self.positions.moved_count() + self.objects.changed().len() > 0;
        let mut encode = |update: &Update<'_>| {
            channels.audience.encode(|format| update.broadcasts(format, &channels.text, pool))
        };
        let moved = || Update {
            positions: self.positions.moved().collect(),
            objects: self.objects.changed().collect(),
        };
        let before = channels.frame;
        let delta = changed.then(|| (before, encode(&moved())));
        let whole = (!stale.is_empty()).then(|| (encode(&self.everything()), stale));
        if delta.is_none() && whole.is_none() {
            return None;
        }
        let number = if changed { before.next() } else { before };
        self.channels.as_mut()?.frame = number;
        Some(ChannelFrame { number, delta, whole })
    }

    /// Tells news of presence, if they are due.
    pub(super) fn tell_channels_presence(&mut self, now: Instant, effects: &mut Vec<Effect>) {
        let Some(channels) = &mut self.channels else { return };
        broadcast_presence(&mut channels.presence, &channels.text, &channels.audience, now, effects);
    }

    // ── What others do ──────────────────────────────────────────────────────────────────────────────────────────────

    /// A native player took a seat.
    pub(super) fn tell_channels_joined(&mut self, index: SeatIndex, now: Instant, effects: &mut Vec<Effect>) {
        let Some(channels) = &mut self.channels else { return };
        let Some(seat) = self.seats.seat(index) else {
            return impossible!("who has joined has a seat");
        };
        track(&mut channels.presence, seat, now);
        let who = (seat.user(), seat.name());
        broadcast_joined(&channels.presence, &channels.text, &channels.audience, who, None, effects);
    }

    /// A seat was taken again, from whoever had it before.
    pub(super) fn tell_channels_resumed(&mut self, index: SeatIndex, before: Occupancy, now: Instant) {
        if let Occupancy::Channel(address) = before {
            self.close_channel(address);
        }
        let Some(player) = self.player(index) else {
            return impossible!("a seat that is kept has a player");
        };
        let Some(channels) = &mut self.channels else { return };
        channels.presence.set_status(MemberNumber(player.0), "online", now);
    }

    /// A seat is held for a player that was lost.
    pub(super) fn tell_channels_held(&mut self, index: SeatIndex, before: Occupancy, now: Instant) {
        if let Occupancy::Channel(address) = before {
            self.close_channel(address);
        }
        let Some(player) = self.player(index) else {
            return impossible!("a seat that is kept has a player");
        };
        let Some(channels) = &mut self.channels else { return };
        channels.presence.set_status(MemberNumber(player.0), "away", now);
    }

    /// A seat was freed.
    pub(super) fn tell_channels_left(
        &mut self,
        seat: &Seat,
        left: LeaveReason,
        now: Instant,
        effects: &mut Vec<Effect>,
    ) {
        if let Occupancy::Channel(address) = seat.occupancy {
            self.close_channel(address);
        }
        let Some(channels) = &mut self.channels else { return };
        channels.presence.untrack(MemberNumber(seat.player.0), now);
        let (topic, audience) = (&channels.text, &channels.audience);
        broadcast_left(&channels.presence, topic, audience, seat.user(), left, effects);
    }

    /// The last event, for those that it is meant for.
    pub(super) fn tell_channels_event(&mut self, sender: SeatIndex, effects: &mut Vec<Effect>) {
        let sender = self.seats.seat(sender).and_then(Seat::channel);
        let Some(channels) = &self.channels else { return };
        let Some(event) = self.events.kept().next_back() else {
            return impossible!("an event that has just been sent is kept");
        };
        let payload = event_payload(event, self.events.seq());
        match event.scope {
            Scope::Others | Scope::All => {
                let except = sender.filter(|_| event.scope == Scope::Others);
                let (topic, audience) = (&channels.text, &channels.audience);
                broadcast(topic, audience, Event::GameEvent, &payload, except, effects);
            }
            Scope::Only(target) => {
                let seat = self.seats.find(PlayerId(target)).map(|(_, seat)| seat);
                if let Some(to) = seat.and_then(Seat::channel) {
                    let (event, payload) = (Event::GameEvent, payload.into());
                    let what = ToMember::Push { event, payload, greeting: false };
                    effects.push(Effect::Member { to, what });
                }
            }
        }
    }

    /// Positions and objects that are gone since the last tick: reliable, since a frame may be skipped.
    fn tell_channels_gone(&self, effects: &mut Vec<Effect>) {
        let Some(channels) = &self.channels else { return };
        let objects: Vec<u32> = self.objects.gone().collect();
        let players = &self.gone_players;
        for (event, ids) in [(Event::PlayersRemoved, players), (Event::ObjectsRemoved, &objects)] {
            // 11 letters an id.
            for ids in ids.chunks(5_000) {
                let payload = object_of(16 + 11 * ids.len(), |gone| {
                    gone.array("ids", |list| {
                        list.numbers(ids.iter().copied());
                    });
                });
                let copies = channels
                    .audience
                    .encode_text(|serializer| serializer.broadcast(&channels.text, event, &payload));
                effects.push(Effect::Broadcast { copies, except: None, after_state: true });
            }
        }
    }

    // ── Parts ───────────────────────────────────────────────────────────────────────────────────────────────────────

    /// Everybody but the newcomer is tracked at once: from here on changes follow.
    fn new_channels(&self, newcomer: SeatIndex, context: &mut Context<'_>) -> Box<GameChannels> {
        let now = context.now.instant;
        let epoch = context.random.next_u64();
        let mut presence = Presence::new(context.presence_list_max, epoch);
        for (_, seat) in self.seats.taken().filter(|(index, _)| *index != newcomer) {
            track(&mut presence, seat, now);
        }
        Box::new(GameChannels {
            text: self.topic().to_string().into(),
            audience: Audience::counting_from(epoch >> 1),
            members: BTreeMap::new(),
            presence,
            stale_parties: BTreeSet::new(),
            frame: FrameNumber::FIRST,
        })
    }

    fn join_response(&self, index: SeatIndex, user: &str, resumed: bool) -> String {
        let Some(seat) = self.seats.seat(index) else { return "{}".into() };
        let bounds = &self.rules.bounds;
        object_of(JOIN_RESPONSE_BYTES, |response| {
            response.plain("epoch", self.epoch).number("seq", self.events.seq()).text("user_id", user);
            response.number("player_id", seat.player.0).number("tick_hz", self.rules.tick_hz);
            response.plain("resume_token", seat.resume_token).boolean("resumed", resumed);
            response.object("bounds", |corners| {
                corners.float("min_x", side(bounds.min_x)).float("min_y", side(bounds.min_y));
                corners.float("max_x", side(bounds.max_x)).float("max_y", side(bounds.max_y));
            });
            response.float("max_speed", self.rules.max_speed);
        })
    }

    fn everything(&self) -> Update<'_> {
        Update { positions: self.positions.all().collect(), objects: self.objects.all().collect() }
    }

    /// Everything, for one member.
    fn whole(&self, format: Format) -> ToMember {
        let frame = self.channels.as_ref().map_or(FrameNumber::FIRST, |channels| channels.frame);
        ToMember::Whole { state: self.whole_state(format), frame }
    }

    fn whole_state(&self, format: Format) -> WholeState {
        match format {
            Format::V2 => WholeState::Binary(self.everything().binary()),
            Format::V2Text | Format::V1 => WholeState::Text(self.everything().json()),
        }
    }

    pub(super) fn catch_up(&self, player: PlayerId, seen: Seen) -> CatchUp {
        let position = match seen {
            Seen::Position(position) => position,
            // A time says nothing about a game's stream; the state that follows is whole anyway.
            Seen::UnixMs(_) => return recovery::lost("epoch", self.epoch, self.events.seq()),
        };
        // Numbers are consecutive among the kept events.
        let mut seq = position.seq;
        recovery::catch_up(&self.events, self.epoch, position, |events, event| {
            seq += 1;
            if receives(event.scope, event.sender, player) {
                recovery::write_event(events, Event::GameEvent, seq, &event_payload(event, seq));
            }
        })
    }
}

impl GameChannels {
    /// Who gets the game's broadcasts.
    pub fn audience(&self) -> &Audience {
        &self.audience
    }

    /// But for presence; see `memory`.
    pub(super) fn heap_bytes(&self) -> usize {
        self.text.allocated_bytes()
            + self.audience.heap_bytes()
            + self.members.allocated_bytes()
            + self.stale_parties.allocated_bytes()
    }

    /// When `tell_channels_presence` has something to tell.
    pub fn due(&self) -> Option<Instant> {
        self.presence.due()
    }
}

fn track(presence: &mut Presence, seat: &Seat, now: Instant) {
    let number = MemberNumber(seat.player.0);
    let meta = Meta::default().of_player(seat.player.0);
    presence.track(number, seat.user(), seat.name(), Some(&meta), seat.joined_at_s.into(), now);
    if matches!(seat.occupancy, Occupancy::HeldUntil(_)) {
        presence.set_status(number, "away", now);
    }
}

/// `{code, sender, seq, payload}`; bytes of native players as base64 in `payload_b64`.
fn event_payload(event: &PastEvent, seq: u64) -> String {
    let record = event.encoded.payload();
    let Ok((header, payload)) = EventOutHeader::ref_from_prefix(record) else { return "{}".into() };
    object_of(EVENT_FRAME_BYTES + 2 * payload.len(), |news| {
        news.number("code", header.code.get()).number("sender", event.sender.0).number("seq", seq);
        match event.format {
            PayloadFormat::Json => news.raw("payload", &String::from_utf8_lossy(payload)),
            PayloadFormat::Bytes => news.text("payload_b64", &STANDARD.encode(payload)),
        };
    })
}

/// A side of the bounds: infinite, and so without a number, where every finite one is within them.
fn side(bound: f32) -> f32 {
    if bound.abs() == f32::MAX { f32::INFINITY.copysign(bound) } else { bound }
}

/// What most answers to a join of a game are shorter than.
const JOIN_RESPONSE_BYTES: usize = 512;
/// What an event has besides its payload.
const EVENT_FRAME_BYTES: usize = 80;
