//! The members of a game that are told through their channel, at whichever party: players that speak Phoenix, native ones that
//! are behind another party, and whoever watches.

use std::collections::{BTreeMap, BTreeSet};

use rand_core::Rng;
use zerocopy::FromBytes;

use super::audience::{Audience, JoinNumber};
use super::game::Game;
use super::game_events::{PastEvent, receives, write_payload};
use super::hosted::Context;
use super::interest::ViewId;
use super::presence::{MemberNumber, Presence};
use super::recovery::{self, CatchUp};
use super::request::{Effect, Join, Rights, StateForm, ToMember, WholeState};
use super::seats::{Occupancy, Seat, SeatIndex};
use super::telling::{broadcast_joined, broadcast_left, broadcast_presence, push_presence};
use crate::ids::{Address, FrameNumber, Party, PlayerId};
use crate::impossible;
use crate::memory::Allocated;
use crate::planted;
use crate::reasons::LeaveReason;
use crate::time::{Instant, Now};
use crate::wire::encoded::Encoded;
use crate::wire::format::Format;
use crate::wire::json::{Object, object_of};
use crate::wire::layout::Layout;
use crate::wire::meta::Meta;
use crate::wire::native::{EventOutHeader, Scope};
use crate::wire::phoenix::Event;
use crate::wire::seen::Seen;

/// See the module documentation. It comes with the first of them and goes with the last; presence then starts anew.
#[derive(Debug)]
pub struct GameChannels {
    /// The game's topic, as it stands in messages.
    pub(super) text: Box<str>,
    pub(super) audience: Audience,
    pub(super) members: BTreeMap<Address, Member>,
    pub(super) presence: Presence,
    /// Parties with a member that was not sent the last frame.
    pub(super) stale_parties: BTreeSet<Party>,
    /// Members that were not sent the last frame of their view.
    pub(super) stale_members: BTreeSet<Address>,
    /// The last frame that was told.
    pub(super) frame: FrameNumber,
}

#[derive(Clone, Copy, Debug)]
pub(super) struct Member {
    /// `None`: it watches.
    pub(super) seat: Option<SeatIndex>,
    pub(super) join_number: JoinNumber,
    pub(super) format: Format,
    pub(super) rights: Rights,
    /// The view of the last frame that it was told; `None`: of none.
    pub(super) view: Option<ViewId>,
}

impl Game {
    /// The members in channels, while there are any.
    pub fn channels(&self) -> Option<&GameChannels> {
        self.channels.as_deref()
    }

    /// A channel's member.
    pub(super) fn member(&self, address: Address) -> Option<Member> {
        self.channels.as_ref()?.members.get(&address).copied()
    }

    /// The channel `from` is a member now, on `seat` if it plays: it is told everything.
    pub fn open_channel(
        &mut self,
        from: Address,
        seat: Option<SeatIndex>,
        join: &Join,
        resumed: bool,
        context: &mut Context<'_>,
    ) {
        let mut channels = match self.channels.take() {
            Some(channels) => channels,
            None => self.new_channels(seat, context),
        };
        let join_number = channels.audience.add(from.party(), join.format);
        let (format, rights) = (join.format, join.rights);
        channels.members.insert(from, Member { seat, join_number, format, rights, view: None });
        let number = seat.and_then(|seat| self.track_member(&mut channels.presence, seat, join, context.now));
        self.channels = Some(channels);
        if let Some(views) = &mut self.views {
            if let Some(seat) = seat {
                views.look(seat);
            }
            // No frame of any view is the one that it is greeted with, so the next tick brings it all that it sees.
            self.next_channel_frame();
            self.changed(context.now.instant);
        }
        match format {
            Format::Native => self.greet_native(from, seat, join, resumed, context),
            Format::V2 | Format::V2Text | Format::V1 => {
                self.greet_channel(from, seat, number, join, resumed, context);
            }
        }
    }

    /// A player in a channel is in the game's presence.
    fn track_member(
        &self,
        presence: &mut Presence,
        seat: SeatIndex,
        join: &Join,
        now: Now,
    ) -> Option<MemberNumber> {
        let Some(seat) = self.seats.seat(seat) else {
            impossible!("a channel is opened for a seat");
            return None;
        };
        let number = MemberNumber(seat.player.0);
        let meta = join.meta.clone().unwrap_or_default().of_player(seat.player.0);
        if presence.is_tracked(number) {
            // It has been away: what it said about itself then still holds, as far as it does not say more.
            let fits = presence.update(number, &meta, now.instant);
            debug_assert!(fits.is_ok() || join.meta.is_some(), "a player id always fits");
        } else {
            let (name, joined_at_s) = (seat.name(), seat.joined_at_s.into());
            presence.track(number, &join.user, name, Some(&meta), joined_at_s, now.instant);
        }
        Some(number)
    }

    fn greet_channel(
        &mut self,
        from: Address,
        seat: Option<SeatIndex>,
        number: Option<MemberNumber>,
        join: &Join,
        resumed: bool,
        context: &mut Context<'_>,
    ) {
        let effects = &mut context.effects;
        let response = self.join_response(seat, &join.user, resumed, join.layout);
        effects.push(Effect::Member { to: from, what: ToMember::Joined { response } });
        let Some(channels) = &mut self.channels else {
            return impossible!("whoever is greeted is a member");
        };
        push_presence(&mut channels.presence, &channels.audience, number, from, effects);
        self.tell_channels_of_newcomer(from, seat, join, resumed, effects);
        if let Some(seen) = join.seen {
            let player = seat.and_then(|seat| self.player(seat));
            let (CatchUp::Recovered(payload) | CatchUp::Lost(payload)) = self.catch_up(player, seen);
            let what = ToMember::Push { event: Event::CatchUp, payload: payload.into(), greeting: true };
            effects.push(Effect::Member { to: from, what });
        }
        if !planted!(GreetsWithoutState) {
            let everything = self.everything();
            let state = match join.format {
                Format::V2 => StateForm::Binary(everything.binary()),
                Format::V2Text | Format::V1 | Format::Native => StateForm::Text(everything.json()),
            };
            let state = WholeState { state, player_states: everything.player_states() };
            let frame = self.last_frame();
            effects.push(Effect::Member { to: from, what: ToMember::Whole { state, frame } });
        }
    }

    /// The same records as on a connection of the game's shard.
    fn greet_native(
        &mut self,
        from: Address,
        seat: Option<SeatIndex>,
        join: &Join,
        resumed: bool,
        context: &mut Context<'_>,
    ) {
        let seen = match join.seen {
            Some(Seen::Position(position)) if position.epoch == self.epoch => Some(position.seq),
            Some(Seen::Position(_) | Seen::UnixMs(_)) | None => None,
        };
        let greeting = self.greeting(seat, resumed, seen, (context.development, join.layout), context.now);
        let records = greeting.into_records(join.layout).collect();
        let (frame, effects) = (self.last_frame(), &mut context.effects);
        effects.push(Effect::Member { to: from, what: ToMember::Greeted { records, frame } });
        self.tell_channels_of_newcomer(from, seat, join, resumed, effects);
    }

    /// `user_joined`, to the others, of a member that plays and was not there before.
    fn tell_channels_of_newcomer(
        &self,
        from: Address,
        seat: Option<SeatIndex>,
        join: &Join,
        resumed: bool,
        effects: &mut Vec<Effect>,
    ) {
        let seat = seat.and_then(|seat| self.seats.seat(seat));
        if let (Some(channels), Some(seat), false) = (&self.channels, seat, resumed) {
            // The name is the seat's: a player that comes back keeps it.
            let (who, except) = ((&*join.user, seat.name()), Some(from));
            broadcast_joined(&channels.presence, &channels.text, &channels.audience, who, except, effects);
        }
    }

    /// The member's connection holds no channel of this game any more. What becomes of its seat is decided elsewhere.
    pub fn close_channel(&mut self, address: Address) {
        let Some(channels) = &mut self.channels else { return };
        let Some(member) = channels.members.remove(&address) else { return };
        channels.stale_members.remove(&address);
        channels.audience.remove(address.party(), member.format);
        if channels.members.is_empty() {
            self.channels = None;
            // The frames of the next members are counted anew.
            if let Some(views) = &mut self.views {
                views.channel_frames.clear();
            }
        }
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
        let seq = self.events.seq();
        match event.scope {
            // It has no place in the stream.
            Scope::Near => {}
            Scope::Others | Scope::All => {
                let except = sender.filter(|_| event.scope == Scope::Others);
                let mut payload = None;
                let text = channels.audience.encode_text(|serializer| {
                    let payload = payload.get_or_insert_with(|| event_payload(event, seq));
                    serializer.broadcast(&channels.text, Event::GameEvent, payload)
                });
                let copies = text.and(channels.audience.share(Some(&event.encoded)));
                let to = channels.audience.receivers();
                effects.push(Effect::Broadcast { copies, to, except, after_state: false });
            }
            Scope::Only(target) => {
                let seat = self.seats.find(PlayerId(target)).map(|(_, seat)| seat);
                let Some(to) = seat.and_then(Seat::channel) else { return };
                let format = self.member(to).map(|member| member.format);
                let what = match format {
                    Some(Format::Native) => ToMember::Record(event.encoded.clone()),
                    Some(Format::V2 | Format::V2Text | Format::V1) | None => {
                        let (event, payload) = (Event::GameEvent, event_payload(event, seq).into());
                        ToMember::Push { event, payload, greeting: false }
                    }
                };
                effects.push(Effect::Member { to, what });
            }
        }
    }

    /// Who came and went, to native members behind channels; the others have presence.
    pub fn tell_channels_roster(&self, record: &Encoded, effects: &mut Vec<Effect>) {
        let Some(channels) = &self.channels else { return };
        let copies = channels.audience.share(Some(record));
        if !copies.is_empty() {
            let to = channels.audience.receivers();
            effects.push(Effect::Broadcast { copies, to, except: None, after_state: false });
        }
    }

    // ── Parts ───────────────────────────────────────────────────────────────────────────────────────────────────────

    /// Everybody but the newcomer is tracked at once: from here on changes follow.
    fn new_channels(&self, newcomer: Option<SeatIndex>, context: &mut Context<'_>) -> Box<GameChannels> {
        let now = context.now.instant;
        let epoch = context.random.next_u64();
        let mut presence = Presence::new(context.presence_list_max, epoch);
        for (_, seat) in self.seats.taken().filter(|(index, _)| Some(*index) != newcomer) {
            track(&mut presence, seat, now);
        }
        Box::new(GameChannels {
            text: self.topic().to_string().into(),
            audience: Audience::counting_from(epoch >> 1),
            members: BTreeMap::new(),
            presence,
            stale_parties: BTreeSet::new(),
            stale_members: BTreeSet::new(),
            frame: FrameNumber::FIRST,
        })
    }

    fn write_layout(&self, fields: &mut Object<'_>) {
        let Layout { number, axes, pose_bytes, keys, key_bytes_max } = self.rules.layout;
        fields.text("number", number.name()).number("axes", axes).number("pose_bytes", pose_bytes);
        fields.number("keys", keys).number("key_bytes_max", if keys > 0 { key_bytes_max } else { 0 });
        fields.number("tick0_us", self.clock.tick0_us());
    }

    fn join_response(
        &self,
        index: Option<SeatIndex>,
        user: &str,
        resumed: bool,
        with_layout: bool,
    ) -> String {
        let seat = index.and_then(|index| self.seats.seat(index));
        let bounds = &self.rules.bounds;
        object_of(JOIN_RESPONSE_BYTES, |response| {
            response.plain("epoch", self.epoch).number("seq", self.events.seq()).text("user_id", user);
            if let Some(seat) = seat {
                response.number("player_id", seat.player.0);
            }
            response.number("tick_hz", self.rules.tick_hz);
            if let Some(seat) = seat {
                response.plain("resume_token", seat.resume_token).boolean("resumed", resumed);
            }
            response.object("bounds", |corners| {
                let axes = usize::from(self.rules.layout.axes);
                for (name, min) in ["min_x", "min_y", "min_z"].iter().zip(bounds.min).take(axes) {
                    corners.float(name, side(min));
                }
                for (name, max) in ["max_x", "max_y", "max_z"].iter().zip(bounds.max).take(axes) {
                    corners.float(name, side(max));
                }
            });
            response.float("max_speed", self.rules.max_speed);
            if with_layout {
                response.object("layout", |fields| self.write_layout(fields));
            }
            if let Some(view) = &self.rules.view {
                response.object("view", |fields| {
                    fields.float("cell", view.cell).number("radius", view.radius);
                    fields.number("radius_max", view.radius_max).number("overview_ms", view.overview_ms());
                });
            }
        })
    }

    pub(super) fn catch_up(&self, player: Option<PlayerId>, seen: Seen) -> CatchUp {
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
            + self.stale_members.allocated_bytes()
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
        write_payload(news, event.format, payload);
    })
}

/// A side of the bounds: infinite, and so without a number, where every finite one is within them.
fn side(bound: f32) -> f32 {
    if bound.abs() == f32::MAX { f32::INFINITY.copysign(bound) } else { bound }
}

/// What most answers to a join of a game are shorter than.
const JOIN_RESPONSE_BYTES: usize = 768;
/// What an event has besides its payload.
const EVENT_FRAME_BYTES: usize = 80;
