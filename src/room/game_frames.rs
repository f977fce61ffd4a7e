//! What the tick of a game tells: everything, or what has changed since the last one.

use zerocopy::IntoBytes;

use super::frames::{self, Contents, First, Form, Held};
use super::game::Game;
use super::player_keys::{SentFrames, States, Told};
use crate::ids::PlayerId;
use crate::limits::{self, VIEW_RINGS};
use crate::time::Instant;
use crate::wire::encoded::{Encoded, FramePool};
use crate::wire::frame::Opcode;
use crate::wire::layout::Number;
use crate::wire::native::{LayoutRecord, kind};

/// Of a held record in the plain layout.
const PLAIN_BYTES: usize = 12;

impl Game {
    /// Whether members' state frames are out of date.
    pub fn state_changed(&self) -> bool {
        let objects = self.objects.changed().len() + self.objects.gone().len();
        let keys = self.keys.as_ref().map_or(0, |keys| keys.changed_count());
        self.positions.moved_count() + self.gone_players.len() + objects + keys > 0
    }

    /// How records of this game lie.
    pub fn form(&self) -> Form<'_> {
        Form { layout: &self.rules.layout, bounds: &self.rules.bounds }
    }

    /// Everything, as a member needs it that was not sent the last frame; of values that players have set, those that it may have
    /// missed.
    pub fn encode_keyframe(&self, tick: u32, missed: Told, pool: &mut FramePool) -> Encoded {
        pool.messages(|buffer| {
            // Of the most common length the copies are faster.
            let messages = match self.copied_length() {
                Some(PLAIN_BYTES) => {
                    self.write_keyframe(tick, self.positions.all_of::<PLAIN_BYTES>(), buffer)
                }
                _ => self.write_keyframe(tick, self.positions.all(), buffer),
            };
            messages + self.write_states(missed, tick, buffer)
        })
    }

    /// What changed since the last tick.
    pub fn encode_delta(&self, tick: u32, pool: &mut FramePool) -> Encoded {
        pool.messages(|buffer| {
            let messages = match self.copied_length() {
                Some(PLAIN_BYTES) => self.write_delta(tick, self.positions.moved_of::<PLAIN_BYTES>(), buffer),
                _ => self.write_delta(tick, self.positions.moved(), buffer),
            };
            messages + self.write_states(Told::Changed, tick, buffer)
        })
    }

    /// Bytes of a held record, if it goes into frames as it is.
    fn copied_length(&self) -> Option<usize> {
        let layout = &self.rules.layout;
        (layout.number == Number::F32).then(|| layout.held_bytes())
    }

    fn write_keyframe<'a, H: Held + ?Sized + 'a>(
        &'a self,
        tick: u32,
        positions: impl Iterator<Item = &'a H>,
        buffer: &mut Vec<u8>,
    ) -> u32 {
        let contents = Contents {
            tick,
            level: 0,
            position_count: self.positions.count(),
            positions,
            objects: self.objects.all(),
            gone_players: [].into_iter(),
            gone_objects: [].into_iter(),
        };
        frames::write(First::Keyframe, contents, self.form(), buffer)
    }

    fn write_delta<'a, H: Held + ?Sized + 'a>(
        &'a self,
        tick: u32,
        positions: impl Iterator<Item = &'a H>,
        buffer: &mut Vec<u8>,
    ) -> u32 {
        // The two lists of gone ids have different types; a `Contents` has one.
        let gone_objects: Vec<u32> = self.objects.gone().collect();
        let contents = Contents {
            tick,
            level: 0,
            position_count: self.positions.moved_count(),
            positions,
            objects: self.objects.changed(),
            gone_players: self.gone_players.iter().copied(),
            gone_objects: gone_objects.iter().copied(),
        };
        frames::write(First::Delta, contents, self.form(), buffer)
    }

    fn write_states(&self, told: Told, tick: u32, buffer: &mut Vec<u8>) -> u32 {
        match &self.keys {
            Some(keys) => keys.states(tick, told).write(tick, buffer),
            None => 0,
        }
    }

    /// Values of players; none in a game without keys.
    pub(super) fn states(&self, tick: u32, told: Told) -> States<'_> {
        self.keys.as_ref().map_or_else(States::default, |keys| keys.states(tick, told))
    }

    /// What a view is told of values.
    pub(super) fn changed_states(&self, sees: impl Fn(PlayerId) -> bool, entering: &[u32]) -> States<'_> {
        self.keys.as_ref().map_or_else(States::default, |keys| keys.states_of_view(sees, entering))
    }

    /// All values of those who are in a view.
    pub(super) fn whole_states(&self, players: &[u32]) -> States<'_> {
        self.keys.as_ref().map_or_else(States::default, |keys| keys.whole_states_of(players))
    }

    /// Which frames the clients have been sent, while they are sent others; `None`: nobody needs to know. Put it back.
    pub fn take_sent_frames(&mut self) -> Option<SentFrames> {
        self.keys.as_mut().map(|keys| std::mem::take(&mut keys.sent))
    }

    /// Puts back what was taken.
    pub fn put_back_sent_frames(&mut self, sent: Option<SentFrames>) {
        if let (Some(keys), Some(sent)) = (&mut self.keys, sent) {
            keys.sent = sent;
        }
    }

    /// The tick is over: everybody has been told, or will get a Keyframe.
    pub fn settle(&mut self, now: Instant) {
        self.positions.settle();
        self.objects.settle();
        self.gone_players.clear();
        self.roster.settle();
        self.seats.settle();
        self.shared_keyframe = None;
        if let Some(keys) = &mut self.keys {
            keys.settle(self.clock.number_at(now));
        }
        // What is due at the rates of views is told by later ticks.
        if self.views.as_mut().is_some_and(|views| !views.settle()) {
            self.changed(now);
        }
    }

    /// The Layout record.
    pub fn encode_layout(&self) -> Encoded {
        let (layout, bounds) = (&self.rules.layout, &self.rules.bounds);
        let views = self.rules.view.as_ref();
        let axis = |corner: [f32; 3]| if layout.axes > 2 { corner[2] } else { 0.0 };
        let record = LayoutRecord {
            kind: kind::LAYOUT,
            number: match layout.number {
                Number::F32 => 0,
                Number::U16 => 1,
            },
            axes: layout.axes,
            pose_bytes: layout.pose_bytes,
            keys: layout.keys,
            key_bytes_max: if layout.keys > 0 { layout.key_bytes_max } else { 0 },
            flags: if self.roster.is_crowd() { LayoutRecord::COUNTS_ONLY } else { 0 }
                | if views.is_some() { LayoutRecord::VIEWS } else { 0 },
            tick0_us: self.clock.tick0_us().into(),
            min_z: axis(bounds.min).into(),
            max_z: axis(bounds.max).into(),
            players: (self.seats.len() as u32).into(),
            radius: views.map_or(0, |views| views.radius),
            radius_max: views.map_or(0, |views| views.radius_max),
            rings: views.map_or(0, |_| VIEW_RINGS),
            cell: views.map_or(0.0, |views| views.cell).into(),
            overview_ms: views.map_or(0, |views| views.overview_ms()).into(),
            ..LayoutRecord::default()
        };
        Encoded::message(Opcode::Binary, record.as_bytes())
    }
}

const _: () = assert!(limits::POSE_BYTES_MAX < u8::MAX, "the record has a byte for it");
