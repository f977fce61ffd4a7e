//! What players say to each other: numbered, told at once, and kept for those who come back.

use std::collections::BTreeMap;
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use zerocopy::IntoBytes;

use super::game::Game;
use super::history::Kept;
use super::request::Effect;
use super::seats::{Occupancy, SeatIndex};
use crate::ids::{Address, ConnId, Party, PlayerId};
use crate::limits;
use crate::planted;
use crate::time::Instant;
use crate::wire::encoded::Encoded;
use crate::wire::frame::Opcode;
use crate::wire::json::{Object, object_of};
use crate::wire::native::{EventOutHeader, Scope, answers, kind};
use crate::wire::phoenix::{Event, Serializer};

/// Events expire about so much later than they may, and together.
const EVENTS_EXPIRE_TOGETHER: Duration = Duration::from_secs(5);

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

impl Game {
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
        if scope == Scope::Near {
            self.tell_near(index, event, effects);
            return Some(self.events.seq());
        }
        let scope_byte = match scope {
            Scope::Near => return None,
            Scope::Others => 0,
            Scope::All => 1,
            Scope::Only(target) => {
                self.seats.find(PlayerId(target))?;
                2
            }
        };
        let (event, _) = self.events.push(|seq| {
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

    /// An event for those who see its sender now: it has no number, and is not kept. It is encoded once for all.
    fn tell_near(&self, sender: SeatIndex, event: NewEvent<'_>, effects: &mut Vec<Effect>) {
        let NewEvent { scope: _, code, format, payload } = event;
        let Some(player) = self.player(sender) else { return };
        let record = answers::near(code, player.0, payload);
        let (mut natives, mut members) = (Vec::new(), BTreeMap::<Party, Vec<Address>>::new());
        for seat in self.viewers_of(sender).into_iter().filter(|seat| *seat != sender) {
            match self.seats.seat(seat).map(|seat| seat.occupancy) {
                Some(Occupancy::Connected(conn)) => natives.push(conn),
                Some(Occupancy::Channel(address)) => {
                    members.entry(address.party()).or_default().push(address);
                }
                Some(Occupancy::HeldUntil(_)) | None => {}
            }
        }
        if let Some(channels) = self.channels.as_ref().filter(|_| !members.is_empty()) {
            let news = object_of(80 + 2 * payload.len(), |news| {
                news.number("code", code).number("sender", player.0);
                write_payload(news, format, payload);
            });
            let text = |serializer: Serializer| serializer.broadcast(&channels.text, Event::NearEvent, &news);
            let copies = channels.audience.encode_text(text).and(channels.audience.share(Some(&record)));
            members.values_mut().for_each(|members| members.sort_unstable());
            effects.push(Effect::Some { copies, to: members });
        }
        effects.push(Effect::Near { to: natives, record });
    }

    /// Seats of those who see the player of a seat, as of the last tick; without views all do.
    fn viewers_of(&self, sender: SeatIndex) -> Vec<SeatIndex> {
        let player = self.player(sender);
        match (&self.views, player) {
            (Some(views), Some(player)) => views.interest.viewers_of(player.0).map(SeatIndex).collect(),
            _ => self.seats.taken().map(|(seat, _)| seat).collect(),
        }
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
            let receives = sender.is_some_and(|sender| receives(scope, sender, Some(seat.player)));
            let is_lost = planted!(LosesDirectEvent) && matches!(scope, Scope::Only(_));
            seat.conn().filter(|_| receives && !is_lost)
        })
    }
}

/// Why an event was not sent.
pub fn no_receiver(scope: Scope) -> String {
    match scope {
        Scope::Only(target) => format!("player {target} is not in this game"),
        Scope::Others | Scope::All | Scope::Near => "the sender is not in this game".into(),
    }
}

/// `receiver`: `None`: it only watches.
pub(super) fn receives(scope: Scope, sender: PlayerId, receiver: Option<PlayerId>) -> bool {
    match scope {
        Scope::Others => receiver != Some(sender),
        Scope::All => true,
        Scope::Only(target) => receiver == Some(PlayerId(target)),
        // It is told by place, and not kept.
        Scope::Near => false,
    }
}

/// JSON in `payload`, bytes of native players as base64 in `payload_b64`.
pub(super) fn write_payload(news: &mut Object<'_>, format: PayloadFormat, payload: &[u8]) {
    match format {
        PayloadFormat::Json => news.raw("payload", &String::from_utf8_lossy(payload)),
        PayloadFormat::Bytes => news.text("payload_b64", &STANDARD.encode(payload)),
    };
}
