//! A game with views: each member is told of who and what is near it, and members that look from one cell share their frames.

use std::collections::{BTreeMap, BTreeSet};

use zerocopy::IntoBytes;

use super::frames::{self, Contents, First};
use super::game::Game;
use super::interest::{
    ChangedObject, Changes, Interest, OverviewPlace, Selection, ViewId, ViewKey, ViewRules,
};
use super::seats::SeatIndex;
use crate::ids::{FrameNumber, PlayerId};
use crate::limits::{VIEW_GIVE_BACK_TICKS, VIEW_IDS_PER_WORK};
use crate::memory::Allocated;
use crate::time::Instant;
use crate::wire::encoded::{Encoded, FramePool};
use crate::wire::frame::{self, Opcode};
use crate::wire::layout::{Bounds, split_held};
use crate::wire::native::{OverviewHeader, OverviewSeat, Solid, kind};

/// See the module documentation. A game has it if its rules say so.
#[derive(Debug)]
pub struct GameViews {
    pub(super) interest: Interest,
    /// The view whose last frame the client of each seat was sent; `None`: it was sent none.
    sent: Vec<Option<ViewId>>,
    /// Members that are told the overview.
    wants_overview: BTreeSet<SeatIndex>,
    has_overview: bool,
    /// What this tick tells of the overview, and whether a round begins with it.
    overview: (bool, Vec<OverviewPlace>),
    selection: Selection,
    /// The frames of this tick for native members, by view and whether the overview is in them.
    frames: BTreeMap<(Option<ViewKey>, bool), TickFrames>,
    /// Ids that this tick's frames were put together from.
    pub(super) selected: usize,
    /// Until memory is given back that a crowd has left.
    ticks_to_give_back: u32,
    /// The last frame of each view that channels were told.
    pub(super) channel_frames: BTreeMap<ViewId, FrameNumber>,
}

/// The frames of a tick in one view, as far as they are encoded.
#[derive(Debug, Default)]
struct TickFrames {
    /// `Some(None)`: nothing has changed.
    delta: Option<Option<Encoded>>,
    keyframe: Option<Encoded>,
}

/// The view that a member looks from, and which life of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct View {
    /// `None`: it sees only what all see.
    pub key: Option<ViewKey>,
    /// See `ViewId`.
    pub id: ViewId,
}

impl View {
    /// That of who has no position: what all see.
    pub const NOWHERE: Self = Self { key: None, id: ViewId::NOWHERE };
}

impl GameViews {
    /// Nobody looks yet.
    pub fn new(rules: &ViewRules, bounds: &Bounds) -> Self {
        let sides = [bounds.min[0], bounds.min[1], bounds.max[0], bounds.max[1]];
        Self {
            interest: Interest::new(rules, sides),
            sent: Vec::new(),
            wants_overview: BTreeSet::new(),
            has_overview: rules.overview_hz > 0.0,
            overview: (false, Vec::new()),
            selection: Selection::default(),
            selected: 0,
            ticks_to_give_back: VIEW_GIVE_BACK_TICKS,
            frames: BTreeMap::new(),
            channel_frames: BTreeMap::new(),
        }
    }

    /// The view of a member, as of the last tick.
    pub fn of(&self, seat: SeatIndex) -> View {
        let view = self.interest.view_of(seat.0);
        View { key: view.map(|(key, _)| key), id: view.map_or(ViewId::NOWHERE, |(_, id)| id) }
    }

    /// A native member looks from `seat`, and knows nothing yet but what it was greeted with.
    pub fn greeted(&mut self, seat: SeatIndex, with_overview: bool) {
        if self.sent.len() <= seat.slot() {
            self.sent.resize(seat.slot() + 1, None);
        }
        self.sent[seat.slot()] = Some(ViewId::NOWHERE);
        self.interest.look_away(seat.0);
        self.interest.look(seat.0, None);
        if with_overview && self.has_overview {
            self.wants_overview.insert(seat);
        } else {
            self.wants_overview.remove(&seat);
        }
    }

    /// A member in a channel looks from `seat`.
    pub fn look(&mut self, seat: SeatIndex) {
        self.interest.look_away(seat.0);
        self.interest.look(seat.0, None);
    }

    /// Nobody looks from `seat` any more.
    pub fn look_away(&mut self, seat: SeatIndex) {
        self.interest.look_away(seat.0);
        self.wants_overview.remove(&seat);
    }

    /// Whether the client of `seat` goes on from the last frame of this view.
    pub fn goes_on(&self, seat: SeatIndex, view: View) -> bool {
        self.sent.get(seat.slot()).is_some_and(|sent| *sent == Some(view.id))
    }

    /// The client of `seat` will be sent a frame of this view.
    pub fn put(&mut self, seat: SeatIndex, view: View) {
        if let Some(sent) = self.sent.get_mut(seat.slot()) {
            *sent = Some(view.id);
        }
    }

    /// Takes in what has changed since the last tick.
    pub fn advance(&mut self, game: &Game, now: Instant) {
        self.frames.clear();
        let layout = &game.rules.layout;
        let moved = game.positions.moved().map(|held| {
            let (player, state) = split_held(held);
            let [x, y, _] = layout.place(state);
            (player.0, x, y)
        });
        let objects = game.objects.changed().map(|object| {
            let [x, y, _] = object.place();
            ChangedObject { id: object.object.object_id.get(), kind: object.object.kind.get(), x, y }
        });
        let gone_players = game.gone_players.iter().copied();
        self.interest
            .advance(now, Changes { gone_players, moved, gone_objects: game.objects.gone(), objects });
        let (begins, places) = &mut self.overview;
        places.clear();
        *begins = self.has_overview && self.interest.overview(now, places);
    }

    /// The overview's part of this tick; `None`: nothing is told.
    pub(super) fn overview(&self) -> Option<(bool, &[OverviewPlace])> {
        let (begins, places) = &self.overview;
        (*begins || !places.is_empty()).then_some((*begins, places))
    }

    /// What has changed in a view, as native members are told it; `None`: nothing. The first who asks has it encoded.
    pub fn delta(
        &mut self,
        game: &Game,
        (seat, view): (SeatIndex, View),
        tick: u32,
        pool: &mut FramePool,
    ) -> Option<Encoded> {
        let with_overview = self.wants_overview.contains(&seat);
        let frames = self.frames.entry((view.key, with_overview)).or_default();
        if let Some(delta) = &frames.delta {
            return delta.clone();
        }
        self.interest.select_delta(view.key, &mut self.selection);
        self.selected += self.selection.len();
        let states = game.changed_states(|player| self.sees(view, player), &self.selection.entering);
        let overview = self.overview().filter(|_| with_overview);
        let has_news = !self.selection.is_empty() || !states.is_empty();
        let encoded = (has_news || overview.is_some()).then(|| {
            pool.messages(|buffer| {
                let mut messages = 0;
                if has_news {
                    messages += game.write_view(First::Delta, &self.selection, tick, buffer);
                    messages += states.write(tick, buffer);
                }
                messages + write_overview(overview, tick, buffer)
            })
        });
        let frames = self.frames.entry((view.key, with_overview)).or_default();
        frames.delta = Some(encoded.clone());
        encoded
    }

    /// All that is in a view, as native members are told it. The first who asks has it encoded.
    pub fn keyframe(
        &mut self,
        game: &Game,
        (seat, view): (SeatIndex, View),
        tick: u32,
        pool: &mut FramePool,
    ) -> Encoded {
        let with_overview = self.wants_overview.contains(&seat);
        let frames = self.frames.entry((view.key, with_overview)).or_default();
        if let Some(keyframe) = &frames.keyframe {
            return keyframe.clone();
        }
        self.interest.select_keyframe(view.key, &mut self.selection);
        self.selected += self.selection.len();
        let overview = self.overview().filter(|_| with_overview);
        let states = game.whole_states(&self.selection.players);
        let encoded = pool.messages(|buffer| {
            let messages = game.write_view(First::Keyframe, &self.selection, tick, buffer);
            messages + states.write(tick, buffer) + write_overview(overview, tick, buffer)
        });
        let frames = self.frames.entry((view.key, with_overview)).or_default();
        frames.keyframe = Some(encoded.clone());
        encoded
    }

    /// Whether a player is in a view.
    pub(super) fn sees(&self, view: View, player: PlayerId) -> bool {
        view.key.is_some_and(|key| self.interest.sees(key, player.0))
    }

    /// The work that this tick's frames have been, as a turn counts it.
    pub fn work(&self) -> usize {
        self.selected / VIEW_IDS_PER_WORK
    }

    /// How many frames this tick has encoded.
    pub fn encoded(&self) -> u64 {
        let frames = self.frames.values();
        frames
            .map(|frames| {
                u64::from(frames.keyframe.is_some()) + u64::from(matches!(frames.delta, Some(Some(_))))
            })
            .sum()
    }

    /// The tick is over. `true`: nothing more is to be told until something changes.
    pub fn settle(&mut self) -> bool {
        self.frames.clear();
        self.selected = 0;
        self.ticks_to_give_back = self.ticks_to_give_back.saturating_sub(1);
        if self.ticks_to_give_back == 0 {
            self.ticks_to_give_back = VIEW_GIVE_BACK_TICKS;
            self.interest.give_back();
            self.selection.give_back(0);
        }
        self.interest.is_settled()
    }

    /// Bytes that it has allocated; see `memory`.
    pub fn heap_bytes(&self) -> usize {
        self.interest.heap_bytes()
            + self.sent.allocated_bytes()
            + self.wants_overview.allocated_bytes()
            + self.overview.1.allocated_bytes()
            + self.selection.heap_bytes()
            + self.frames.allocated_bytes()
            + self.channel_frames.allocated_bytes()
    }
}

impl Game {
    /// The views, while their frames are encoded; `None`: all see all. Put them back.
    pub fn take_views(&mut self) -> Option<Box<GameViews>> {
        self.views.take()
    }

    /// Puts back what was taken.
    pub fn put_back_views(&mut self, views: Box<GameViews>) {
        self.views = Some(views);
    }

    /// Whether members are told only of what is near them.
    pub fn has_views(&self) -> bool {
        self.views.is_some()
    }

    /// A member sets how far it looks, in cells, which the next tick takes in; `None`: as far as the game says.
    pub fn set_view(&mut self, seat: SeatIndex, radius: Option<u8>) -> Result<(), String> {
        let Some(views) = &mut self.views else {
            return Err("this game has no views: everybody sees everything".into());
        };
        views.interest.look(seat.0, radius);
        Ok(())
    }

    /// The held record of a player, if it has a position.
    pub(super) fn held_of(&self, player: u32) -> Option<&[u8]> {
        let slot = usize::from((player as u16).checked_sub(1)?);
        self.positions.held(slot).filter(|held| split_held(held).0.0 == player)
    }

    /// Appends what a selection stands for, and returns how many messages it is.
    pub(super) fn write_view(
        &self,
        first: First,
        selection: &Selection,
        tick: u32,
        buffer: &mut Vec<u8>,
    ) -> u32 {
        let positions: Vec<&[u8]> =
            selection.players.iter().filter_map(|player| self.held_of(*player)).collect();
        let objects: Vec<&Solid> =
            selection.objects.iter().filter_map(|object| self.objects.get(*object)).collect();
        let contents = Contents {
            tick,
            level: selection.level,
            position_count: positions.len(),
            positions: positions.into_iter(),
            objects: objects.into_iter(),
            gone_players: selection.gone_players.iter().copied(),
            gone_objects: selection.gone_objects.iter().copied(),
        };
        frames::write(first, contents, self.form(), buffer)
    }

    /// The Keyframe of a member that has no view yet: what all see.
    pub(super) fn keyframe_of_nowhere(&self, views: &GameViews, tick: u32, pool: &mut FramePool) -> Encoded {
        let mut selection = Selection::default();
        views.interest.select_keyframe(None, &mut selection);
        let states = self.whole_states(&[]);
        pool.messages(|buffer| {
            self.write_view(First::Keyframe, &selection, tick, buffer) + states.write(tick, buffer)
        })
    }
}

fn write_overview(overview: Option<(bool, &[OverviewPlace])>, tick: u32, buffer: &mut Vec<u8>) -> u32 {
    let Some((begins, places)) = overview else { return 0 };
    let header = OverviewHeader {
        kind: kind::OVERVIEW,
        flags: if begins { OverviewHeader::BEGINS } else { 0 },
        count: (places.len() as u16).into(),
        tick: tick.into(),
    };
    frame::write_header(buffer, Opcode::Binary, size_of::<OverviewHeader>() + size_of_val(places));
    buffer.extend_from_slice(header.as_bytes());
    for place in places {
        let seat = OverviewSeat { seat: place.slot.into(), x: place.x, y: place.y };
        buffer.extend_from_slice(seat.as_bytes());
    }
    1
}

const _: () = assert!(size_of::<OverviewPlace>() == size_of::<OverviewSeat>());
