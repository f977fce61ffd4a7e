//! Values that players set under keys: the latest counts, and all that is told is told by the frames of ticks (PROTOCOL 3, States).

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use zerocopy::IntoBytes;

use super::seats::SeatIndex;
use crate::ids::PlayerId;
use crate::limits::{KEYS_REMEMBERED_TICKS, KEYS_REMOVED_MAX, OUTBOUND_MESSAGE_BYTES_MAX};
use crate::memory::Allocated;
use crate::planted;
use crate::wire::frame::{self, Opcode};
use crate::wire::native::{StateHeader, StatesHeader, kind};

/// A player and one of its keys.
type Key = (PlayerId, u8);

/// See the module documentation.
#[derive(Debug, Default)]
pub struct PlayerKeys {
    values: BTreeMap<Key, Value>,
    /// Since the last tick.
    changed: BTreeSet<Key>,
    /// What was removed is remembered for a while: the tick that told it, in order. It may have been set again since.
    removed: VecDeque<(u32, Key)>,
    /// Which frames the clients have been sent.
    pub(super) sent: SentFrames,
}

/// Which frames the clients of a game have been sent.
#[derive(Debug, Default)]
pub struct SentFrames {
    by_seat: Vec<Sent>,
    /// Whoever was sent no frame since then must be told everything.
    complete_since: u32,
}

#[derive(Debug)]
struct Value {
    /// The tick that told it.
    told_at: u32,
    /// Empty: it was removed.
    bytes: Box<[u8]>,
}

/// The frames of one client.
#[derive(Clone, Copy, Debug, Default)]
struct Sent {
    /// The tick of the last frame that the kernel has taken.
    taken: u32,
    /// The tick of the last frame that was put into its outbox.
    put: u32,
}

/// A value as it is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs, reason = "the names say it")]
pub struct ToldValue<'a> {
    pub player: PlayerId,
    pub key: u8,
    /// Empty: it was removed.
    pub bytes: &'a [u8],
}

/// Values that go with a frame.
#[derive(Clone, Debug, Default)]
pub struct States<'a> {
    /// All others are to be forgotten.
    pub is_whole: bool,
    /// In order.
    pub values: Vec<ToldValue<'a>>,
}

/// What of the values goes with a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Told {
    /// What has changed since the last tick.
    Changed,
    /// What has changed within the last `KEYS_REMEMBERED_TICKS`.
    Recent,
    /// All of them.
    Whole,
}

impl PlayerKeys {
    /// Sets a value; an empty one is removed. `false`: it is what it was.
    pub fn set(&mut self, player: PlayerId, key: u8, bytes: &[u8]) -> bool {
        let key = (player, key);
        let before = self.values.get(&key).map_or(&[][..], |value| &value.bytes);
        if before == bytes {
            return false;
        }
        // The tick that tells it sets when.
        self.values.insert(key, Value { told_at: 0, bytes: bytes.into() });
        self.changed.insert(key);
        true
    }

    /// A player has gone.
    pub fn remove_all_of(&mut self, player: PlayerId) {
        let keys = self.values.range((player, 0)..=(player, u8::MAX)).map(|(key, _)| *key);
        for (player, key) in keys.collect::<Vec<_>>() {
            self.set(player, key, &[]);
        }
    }

    /// How many have changed since the last tick.
    pub fn changed_count(&self) -> usize {
        self.changed.len()
    }

    /// The values that `told` stands for.
    pub fn states(&self, tick: u32, told: Told) -> States<'_> {
        let is_recent = |value: &Value| tick.wrapping_sub(value.told_at) <= KEYS_REMEMBERED_TICKS;
        let values = match told {
            Told::Changed => {
                self.changed.iter().filter_map(|key| self.values.get_key_value(key)).map(told_value).collect()
            }
            Told::Recent => self.told(|key, value| is_recent(value) || self.changed.contains(key)),
            Told::Whole => self.told(|_, value| !value.bytes.is_empty()),
        };
        States { is_whole: told == Told::Whole, values }
    }

    /// What a view is told: what has changed of players whom it sees, and all values of those who enter it.
    pub fn states_of_view(&self, sees: impl Fn(PlayerId) -> bool, entering: &[u32]) -> States<'_> {
        let mut all_of_them = entering.to_vec();
        all_of_them.sort_unstable();
        let is_told_here = |player: PlayerId| sees(player) && all_of_them.binary_search(&player.0).is_err();
        let changed = self.changed.iter().filter(|(player, _)| is_told_here(*player));
        let changed = changed.filter_map(|key| self.values.get_key_value(key)).map(told_value);
        let values =
            changed.chain(entering.iter().flat_map(|player| self.all_of(PlayerId(*player)))).collect();
        States { is_whole: false, values }
    }

    /// All values of some players, for whoever is to forget the others.
    pub fn whole_states_of(&self, players: &[u32]) -> States<'_> {
        let values = players.iter().flat_map(|player| self.all_of(PlayerId(*player))).collect();
        States { is_whole: true, values }
    }

    fn all_of(&self, player: PlayerId) -> impl Iterator<Item = ToldValue<'_>> {
        let own = self.values.range((player, 0)..=(player, u8::MAX));
        own.filter(|(_, value)| !value.bytes.is_empty()).map(told_value)
    }

    fn told(&self, is_told: impl Fn(&Key, &Value) -> bool) -> Vec<ToldValue<'_>> {
        self.values.iter().filter(|(key, value)| is_told(key, value)).map(told_value).collect()
    }

    /// The tick is over. What was removed long ago is forgotten.
    pub fn settle(&mut self, tick: u32) {
        for key in std::mem::take(&mut self.changed) {
            if let Some(value) = self.values.get_mut(&key) {
                value.told_at = tick;
                if value.bytes.is_empty() {
                    self.removed.push_back((tick, key));
                }
            }
        }
        while let Some((told_at, key)) = self.removed.front().copied() {
            let are_too_many = self.removed.len() > KEYS_REMOVED_MAX;
            if tick.wrapping_sub(told_at) <= KEYS_REMEMBERED_TICKS && !are_too_many {
                break;
            }
            if are_too_many {
                self.sent.complete_since = told_at;
            }
            self.removed.pop_front();
            let is_still_so = |value: &Value| value.bytes.is_empty() && value.told_at == told_at;
            if self.values.get(&key).is_some_and(is_still_so) {
                self.values.remove(&key);
            }
        }
    }

    /// Bytes that it has allocated; see `memory`.
    pub fn heap_bytes(&self) -> usize {
        self.values.allocated_bytes()
            + self.values.values().map(|value| value.bytes.len()).sum::<usize>()
            + self.changed.allocated_bytes()
            + self.removed.allocated_bytes()
            + self.sent.by_seat.allocated_bytes()
    }
}

impl SentFrames {
    /// A client of `seat` was told everything at `tick`.
    pub fn greeted(&mut self, seat: SeatIndex, tick: u32) {
        if self.by_seat.len() <= seat.slot() {
            self.by_seat.resize(seat.slot() + 1, Sent::default());
        }
        self.by_seat[seat.slot()] = Sent { taken: tick, put: tick };
    }

    /// What goes with a Keyframe for the client of `seat` at `tick`. `waits`: the last frame that was put is not taken.
    pub fn missed(&mut self, seat: SeatIndex, tick: u32, waits: bool) -> Told {
        let Some(sent) = self.by_seat.get_mut(seat.slot()) else { return Told::Whole };
        sent.look(waits);
        let is_recent = tick.wrapping_sub(sent.taken) <= KEYS_REMEMBERED_TICKS || planted!(TrustsOldKeys);
        let is_complete = sent.taken.wrapping_sub(self.complete_since) < u32::MAX / 2;
        if is_recent && is_complete { Told::Recent } else { Told::Whole }
    }

    /// The frame of `tick` was put into the outbox of `seat`. `waits`: in the place of one that was not taken.
    pub fn put(&mut self, seat: SeatIndex, tick: u32, waits: bool) {
        let Some(sent) = self.by_seat.get_mut(seat.slot()) else { return };
        sent.look(waits);
        sent.put = tick;
    }
}

impl Sent {
    fn look(&mut self, waits: bool) {
        if !waits {
            self.taken = self.put;
        }
    }
}

fn told_value<'a>(((player, key), value): (&Key, &'a Value)) -> ToldValue<'a> {
    ToldValue { player: *player, key: *key, bytes: &value.bytes }
}

impl States<'_> {
    /// Whether there is nothing to tell.
    pub fn is_empty(&self) -> bool {
        self.values.is_empty() && !self.is_whole
    }

    /// Appends States records as binary messages, and returns how many: none if nothing is to be told.
    pub fn write(&self, tick: u32, buffer: &mut Vec<u8>) -> u32 {
        let mut flags = if self.is_whole { StatesHeader::WHOLE } else { 0 };
        let mut messages = 0;
        let mut body = Vec::new();
        let mut count = 0_u16;
        let mut flush = |flags: u8, count: u16, body: &mut Vec<u8>| {
            let header = StatesHeader { kind: kind::STATES, flags, count: count.into(), tick: tick.into() };
            frame::write_header(buffer, Opcode::Binary, size_of::<StatesHeader>() + body.len());
            buffer.extend_from_slice(header.as_bytes());
            buffer.append(body);
            messages += 1;
        };
        for ToldValue { player, key, bytes } in &self.values {
            let header = StateHeader { player_id: player.0.into(), key: *key, length: bytes.len() as u8 };
            let length = size_of::<StateHeader>() + bytes.len();
            if size_of::<StatesHeader>() + body.len() + length > OUTBOUND_MESSAGE_BYTES_MAX {
                flush(std::mem::take(&mut flags), std::mem::take(&mut count), &mut body);
            }
            body.extend_from_slice(header.as_bytes());
            body.extend_from_slice(bytes);
            count += 1;
        }
        if count > 0 || flags != 0 {
            flush(flags, count, &mut body);
        }
        messages
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SEAT: SeatIndex = SeatIndex(0);
    const ANN: PlayerId = PlayerId(1);

    fn written(keys: &PlayerKeys, told: Told, tick: u32) -> Vec<u8> {
        let mut buffer = Vec::new();
        let messages = keys.states(tick, told).write(tick, &mut buffer);
        assert_eq!(messages == 0, buffer.is_empty());
        buffer
    }

    #[test]
    fn a_value_is_told_once_and_to_whoever_comes() {
        let mut keys = PlayerKeys::default();
        assert!(written(&keys, Told::Changed, 5).is_empty());
        assert_eq!(written(&keys, Told::Whole, 5), [0x82, 8, 0x8E, 1, 0, 0, 0, 0, 0, 5]);
        assert!(keys.set(ANN, 2, b"hi") && !keys.set(ANN, 2, b"hi") && keys.set(ANN, 1, b"x"));
        assert!(!keys.set(ANN, 3, b""), "nothing was there");
        let changed =
            [0x82, 23, 0x8E, 0, 0, 2, 0, 0, 0, 6, 0, 0, 0, 1, 1, 1, b'x', 0, 0, 0, 1, 2, 2, b'h', b'i'];
        assert_eq!(written(&keys, Told::Changed, 6), changed);
        keys.settle(6);
        assert!(written(&keys, Told::Changed, 7).is_empty());
        assert_eq!(written(&keys, Told::Whole, 7)[3..6], [1, 0, 2]);
        assert!(keys.set(ANN, 1, b""));
        assert_eq!(
            written(&keys, Told::Changed, 7)[4..16],
            [0, 1, 0, 0, 0, 7, 0, 0, 0, 1, 1, 0],
            "it is removed"
        );
        assert_eq!(written(&keys, Told::Whole, 7)[3..6], [1, 0, 1]);
    }

    #[test]
    fn whoever_missed_little_is_told_what_changed_meanwhile() {
        let mut keys = PlayerKeys::default();
        keys.sent.greeted(SEAT, 10);
        keys.set(ANN, 1, b"old");
        keys.settle(10);
        keys.set(ANN, 2, b"new");
        keys.set(PlayerId(2), 1, b"gone");
        keys.settle(60);
        keys.remove_all_of(PlayerId(2));
        assert_eq!(keys.sent.missed(SEAT, 74, false), Told::Recent);
        let recent = written(&keys, Told::Recent, 74);
        assert_eq!(recent[3..6], [0, 0, 3], "what is as old as the client, what is new, and what has gone");
        keys.settle(74);
        assert_eq!(written(&keys, Told::Recent, 75)[3..6], [0, 0, 2]);
        assert_eq!(keys.sent.missed(SEAT, 75, false), Told::Whole);
        keys.settle(200);
        assert_eq!((keys.values.len(), keys.removed.len()), (2, 0), "what was removed is forgotten");
    }

    #[test]
    fn a_frame_that_was_never_taken_does_not_count() {
        let mut keys = PlayerKeys::default();
        keys.sent.greeted(SEAT, 10);
        keys.sent.put(SEAT, 20, false);
        assert_eq!(keys.sent.missed(SEAT, 20 + KEYS_REMEMBERED_TICKS, false), Told::Recent);
        keys.sent.put(SEAT, 84, false);
        // From here on the outbox keeps it: each tick one frame takes the place of another.
        for tick in 85..120 {
            keys.sent.put(SEAT, tick, true);
        }
        assert_eq!(keys.sent.missed(SEAT, 120, true), Told::Whole);
        assert_eq!(keys.sent.missed(SEAT, 120, false), Told::Recent);
    }

    #[test]
    fn too_many_that_have_gone_are_forgotten_and_then_all_are_told_everything() {
        let mut keys = PlayerKeys::default();
        keys.sent.greeted(SEAT, 10);
        for player in 0..=KEYS_REMOVED_MAX as u32 {
            keys.set(PlayerId(player), 1, b"x");
            keys.remove_all_of(PlayerId(player));
        }
        assert_eq!(keys.sent.missed(SEAT, 11, false), Told::Recent);
        keys.settle(11);
        assert_eq!((keys.values.len(), keys.removed.len()), (KEYS_REMOVED_MAX, KEYS_REMOVED_MAX));
        assert_eq!(keys.sent.missed(SEAT, 12, false), Told::Whole);
        keys.sent.greeted(SEAT, 12);
        assert_eq!(keys.sent.missed(SEAT, 13, false), Told::Recent);
    }

    #[test]
    fn many_values_are_several_records_of_which_the_first_is_whole() {
        let mut keys = PlayerKeys::default();
        for player in 0..1_000 {
            keys.set(PlayerId(player), 1, &[7; 200]);
        }
        let bytes = written(&keys, Told::Whole, 5);
        let (mut rest, mut flags, mut count) = (&bytes[..], Vec::new(), 0);
        while let [0x82, 126, high, low, after @ ..] = rest {
            let length = usize::from(u16::from_be_bytes([*high, *low]));
            assert!(length <= OUTBOUND_MESSAGE_BYTES_MAX);
            flags.push(after[1]);
            count += u16::from_be_bytes([after[2], after[3]]);
            rest = &after[length..];
        }
        assert!(rest.is_empty());
        assert_eq!((count, flags.len() > 2), (1_000, true));
        assert!(flags.iter().eq(std::iter::once(&1).chain(&vec![0; flags.len() - 1])));
    }
}
