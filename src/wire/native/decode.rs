//! Records of clients: bytes to references into them, checked.

use zerocopy::big_endian::U32;
use zerocopy::{FromBytes, Immutable, KnownLayout, Unaligned};

use super::{
    EventHeader, HostMovesHeader, HostStepHeader, HostStepsHeader, Move, Ping, PutObjectHeader, RemoveObject,
    SetStateHeader, SetView, Solid, StepHeader, WhoHeader, kind,
};
use crate::ids::PlayerId;
use crate::limits::{EVENT_PAYLOAD_BYTES_MAX, WHO_PLAYERS_MAX};
use crate::wire::layout::Layout;

/// A record from a client, checked: lengths fit the game's layout, every coordinate is finite.
#[derive(Debug, PartialEq)]
#[allow(missing_docs, reason = "the names are those of the records")]
pub enum Record<'a> {
    /// A Step, or a Move.
    Step {
        input_seq: u16,
        state: &'a [u8],
    },
    SetState {
        key: u8,
        value: &'a [u8],
    },
    SetView {
        /// `None`: as far as the game says.
        radius: Option<u8>,
    },
    PutObject(Solid),
    RemoveObject {
        object_id: u32,
    },
    Event {
        scope: Scope,
        code: u16,
        payload: &'a [u8],
    },
    Ping(&'a Ping),
    /// HostSteps, or HostMoves.
    HostSteps(HostSteps<'a>),
    Who(&'a [U32]),
}

/// States of players, where they lie.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HostSteps<'a> {
    bytes: &'a [u8],
    /// Bytes before each state.
    head: u8,
    state_bytes: u8,
}

/// States of players, apart from the bytes that they were read from.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct StoredSteps {
    bytes: Box<[u8]>,
    head: u8,
    state_bytes: u8,
}

impl StoredSteps {
    /// The same, as they lie here.
    pub fn steps(&self) -> HostSteps<'_> {
        HostSteps { bytes: &self.bytes, head: self.head, state_bytes: self.state_bytes }
    }
}

/// A player's state, set by the host.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HostStep<'a> {
    /// Whose.
    pub player: PlayerId,
    /// The last input of that player that the host has used; `None`: the host does not say.
    pub input_seq: Option<u16>,
    /// See `Layout`.
    pub state: &'a [u8],
}

impl<'a> HostSteps<'a> {
    /// Held records, one behind the other; `None`: their length does not fit.
    pub fn of_held(bytes: &'a [u8], layout: &Layout) -> Option<Self> {
        Self::new(bytes, size_of::<U32>(), layout)
    }

    fn new(bytes: &'a [u8], head: usize, layout: &Layout) -> Option<Self> {
        let state_bytes = layout.state_bytes();
        let fits = bytes.len().is_multiple_of(head + state_bytes);
        fits.then_some(Self { bytes, head: head as u8, state_bytes: state_bytes as u8 })
    }

    /// The states, in order.
    pub fn iter(&self) -> impl DoubleEndedIterator<Item = HostStep<'a>> + ExactSizeIterator + use<'a> {
        let before = usize::from(self.head);
        self.bytes.chunks_exact(self.each()).map(move |bytes| {
            let (head, state) = bytes.split_at(before);
            let player = PlayerId(u32::from_be_bytes([head[0], head[1], head[2], head[3]]));
            let with_seq = head.len() == size_of::<HostStepHeader>();
            let input_seq = with_seq.then(|| u16::from_be_bytes([head[4], head[5]])).filter(|seq| *seq != 0);
            HostStep { player, input_seq, state }
        })
    }

    /// How many there are.
    pub fn count(&self) -> usize {
        self.bytes.len() / self.each()
    }

    /// Bytes of one. None at all are of any length.
    fn each(&self) -> usize {
        usize::from(self.head + self.state_bytes).max(1)
    }

    /// Those of other players; `None`: there are none.
    pub fn without(&self, player: PlayerId) -> Option<StoredSteps> {
        let each = self.bytes.chunks_exact(self.each());
        let others = each.zip(self.iter()).filter(|(_, step)| step.player != player);
        let bytes: Vec<u8> = others.flat_map(|(bytes, _)| bytes).copied().collect();
        (!bytes.is_empty()).then(|| StoredSteps { bytes: bytes.into(), ..self.to_stored() })
    }

    /// The same, apart from these bytes.
    pub fn to_stored(&self) -> StoredSteps {
        StoredSteps { bytes: self.bytes.into(), head: self.head, state_bytes: self.state_bytes }
    }
}

/// Who gets an Event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scope {
    /// Everyone but the sender.
    Others,
    /// Everyone.
    All,
    /// One player.
    Only(u32),
    /// Everyone but the sender who sees it now: it has no number, and is not kept.
    Near,
}

/// What is wrong with a record, as the Error record tells it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[allow(missing_docs, reason = "the texts say it")]
pub enum Malformed {
    #[error("an empty message is no record; the first byte names the kind")]
    Empty,
    #[error("unknown record kind 0x{0:02x}; a client sends 0x01, or 0x04 to 0x0d")]
    UnknownKind(u8),
    #[error("{name} is {expected} bytes long, not {actual}")]
    Length {
        /// Name of the record.
        name: &'static str,
        /// Length that it should have.
        expected: usize,
        actual: usize,
    },
    #[error(
        "a Move is for states of two axes without pose; this game's state is {0} bytes long: send a Step (0x09)"
    )]
    Move(usize),
    #[error(
        "HostMoves are for states of two axes without pose; this game's state is {0} bytes long: send HostSteps (0x0d)"
    )]
    HostMoves(usize),
    #[error("an Event is 8 to {max} bytes long, not {0}", max = 8 + EVENT_PAYLOAD_BYTES_MAX)]
    EventLength(usize),
    #[error(
        "a Who is 4 bytes and 4 for each of at most {WHO_PLAYERS_MAX} player ids, as many as it says, not {0}"
    )]
    WhoLength(usize),
    #[error("{0} has a coordinate that is not a finite number")]
    NotFinite(&'static str),
    #[error("an Event's scope is 0 to 3, not {0}")]
    Scope(u8),
    #[error(
        "players of this game have no keys; its operator sets how many they have: state = {{ keys = 8 }}"
    )]
    NoKeys,
    #[error("a key of this game is 1 to {keys}, not {key}")]
    Key {
        /// The one that it names.
        key: u8,
        keys: u8,
    },
    #[error("a SetState is 4 bytes and a value of at most {bytes_max}, as long as it says, not {actual}")]
    SetStateLength {
        /// Of a value.
        bytes_max: u8,
        actual: usize,
    },
}

/// Reads the payload of a binary message as the record it is, in a game of this layout.
pub fn decode<'a>(bytes: &'a [u8], layout: &Layout) -> Result<Record<'a>, Malformed> {
    match *bytes.first().ok_or(Malformed::Empty)? {
        kind::MOVE => decode_move(bytes, layout),
        kind::STEP => decode_step(bytes, layout),
        kind::SET_STATE => decode_set_state(bytes, layout),
        kind::SET_VIEW => {
            let record: &SetView = fixed("SetView", bytes)?;
            Ok(Record::SetView { radius: (record.radius != SetView::DEFAULT).then_some(record.radius) })
        }
        kind::PUT_OBJECT => decode_put_object(bytes, layout),
        kind::REMOVE_OBJECT => {
            let record: &RemoveObject = fixed("RemoveObject", bytes)?;
            Ok(Record::RemoveObject { object_id: record.object_id.get() })
        }
        kind::EVENT => decode_event(bytes),
        kind::PING => Ok(Record::Ping(fixed("Ping", bytes)?)),
        kind::HOST_MOVES => decode_host_moves(bytes, layout),
        kind::HOST_STEPS => decode_host_steps("HostSteps", bytes, size_of::<HostStepHeader>(), layout),
        kind::WHO => decode_who(bytes),
        unknown => Err(Malformed::UnknownKind(unknown)),
    }
}

fn decode_move<'a>(bytes: &'a [u8], layout: &Layout) -> Result<Record<'a>, Malformed> {
    let record: &Move = fixed("Move", bytes)?;
    check_two_axes(layout).map_err(Malformed::Move)?;
    if !(record.x.get().is_finite() && record.y.get().is_finite()) {
        return Err(Malformed::NotFinite("Move"));
    }
    Ok(Record::Step { input_seq: record.input_seq.get(), state: &bytes[size_of::<StepHeader>()..] })
}

fn decode_step<'a>(bytes: &'a [u8], layout: &Layout) -> Result<Record<'a>, Malformed> {
    let expected = size_of::<StepHeader>() + layout.state_bytes();
    let header = StepHeader::ref_from_prefix(bytes).ok().filter(|_| bytes.len() == expected);
    let Some((header, state)) = header else {
        return Err(Malformed::Length { name: "Step", expected, actual: bytes.len() });
    };
    check_finite("Step", state, layout)?;
    Ok(Record::Step { input_seq: header.input_seq.get(), state })
}

fn decode_set_state<'a>(bytes: &'a [u8], layout: &Layout) -> Result<Record<'a>, Malformed> {
    if layout.keys == 0 {
        return Err(Malformed::NoKeys);
    }
    let bytes_max = layout.key_bytes_max;
    let wrong_length = || Malformed::SetStateLength { bytes_max, actual: bytes.len() };
    let (header, value) = SetStateHeader::ref_from_prefix(bytes).map_err(|_| wrong_length())?;
    if value.len() != usize::from(header.length.get()) || value.len() > usize::from(bytes_max) {
        return Err(wrong_length());
    }
    if !(1..=layout.keys).contains(&header.key) {
        return Err(Malformed::Key { key: header.key, keys: layout.keys });
    }
    Ok(Record::SetState { key: header.key, value })
}

fn decode_put_object<'a>(bytes: &'a [u8], layout: &Layout) -> Result<Record<'a>, Malformed> {
    let header = size_of::<PutObjectHeader>();
    let expected = header + layout.put_object_bytes();
    if bytes.len() != expected {
        return Err(Malformed::Length { name: "PutObject", expected, actual: bytes.len() });
    }
    let object = layout.object(&bytes[header..]);
    if object.place().iter().all(|coordinate| coordinate.is_finite()) {
        Ok(Record::PutObject(object))
    } else {
        Err(Malformed::NotFinite("PutObject"))
    }
}

fn decode_event(bytes: &[u8]) -> Result<Record<'_>, Malformed> {
    let Ok((header, payload)) = EventHeader::ref_from_prefix(bytes) else {
        return Err(Malformed::EventLength(bytes.len()));
    };
    if payload.len() > EVENT_PAYLOAD_BYTES_MAX {
        return Err(Malformed::EventLength(bytes.len()));
    }
    let scope = match header.scope {
        0 => Scope::Others,
        1 => Scope::All,
        2 => Scope::Only(header.target.get()),
        3 => Scope::Near,
        unknown => return Err(Malformed::Scope(unknown)),
    };
    Ok(Record::Event { scope, code: header.code.get(), payload })
}

fn decode_host_moves<'a>(bytes: &'a [u8], layout: &Layout) -> Result<Record<'a>, Malformed> {
    check_two_axes(layout).map_err(Malformed::HostMoves)?;
    decode_host_steps("HostMoves", bytes, size_of::<U32>(), layout)
}

/// `head`: bytes before each state. Both records begin alike.
fn decode_host_steps<'a>(
    name: &'static str,
    bytes: &'a [u8],
    head: usize,
    layout: &Layout,
) -> Result<Record<'a>, Malformed> {
    const _: () = assert!(size_of::<HostMovesHeader>() == size_of::<HostStepsHeader>());
    let wrong_length = |expected| Malformed::Length { name, expected, actual: bytes.len() };
    let Ok((header, rest)) = HostStepsHeader::ref_from_prefix(bytes) else {
        return Err(wrong_length(size_of::<HostStepsHeader>()));
    };
    let announced = header.count.get() as usize;
    let steps = HostSteps::new(rest, head, layout).filter(|steps| steps.count() == announced);
    let Some(steps) = steps else {
        let each = head + layout.state_bytes();
        return Err(wrong_length(size_of::<HostStepsHeader>() + announced.saturating_mul(each)));
    };
    steps.iter().try_for_each(|step| check_finite(name, step.state, layout))?;
    Ok(Record::HostSteps(steps))
}

fn decode_who(bytes: &[u8]) -> Result<Record<'_>, Malformed> {
    let wrong_length = || Malformed::WhoLength(bytes.len());
    let (header, rest) = WhoHeader::ref_from_prefix(bytes).map_err(|_| wrong_length())?;
    let announced = usize::from(header.count.get());
    let players = <[U32]>::ref_from_bytes(rest).ok().filter(|players| players.len() == announced);
    players.filter(|players| players.len() <= WHO_PLAYERS_MAX).map(Record::Who).ok_or_else(wrong_length)
}

fn fixed<'a, R: FromBytes + KnownLayout + Immutable + Unaligned>(
    name: &'static str,
    bytes: &'a [u8],
) -> Result<&'a R, Malformed> {
    R::ref_from_bytes(bytes).map_err(|_| Malformed::Length {
        name,
        expected: size_of::<R>(),
        actual: bytes.len(),
    })
}

/// `Err`: the bytes of a state that has more than two axes, or a pose.
fn check_two_axes(layout: &Layout) -> Result<(), usize> {
    if layout.axes == 2 && layout.pose_bytes == 0 { Ok(()) } else { Err(layout.state_bytes()) }
}

fn check_finite(name: &'static str, state: &[u8], layout: &Layout) -> Result<(), Malformed> {
    if layout.is_finite(state) { Ok(()) } else { Err(Malformed::NotFinite(name)) }
}

#[cfg(test)]
#[allow(clippy::wildcard_enum_match_arm, reason = "a test names the one thing it expects")]
mod tests {
    use zerocopy::IntoBytes;

    use super::*;
    use crate::wire::layout::Number;

    const PLAIN: Layout = Layout::PLAIN;
    /// Three axes, a pose of 2 bytes, 8 keys of at most 5 bytes.
    const RICH: Layout = Layout { number: Number::U16, axes: 3, pose_bytes: 2, keys: 8, key_bytes_max: 5 };

    fn move_record(x: f32, y: f32) -> Vec<u8> {
        let record = Move { kind: kind::MOVE, flags: 0, input_seq: 7.into(), x: x.into(), y: y.into() };
        record.as_bytes().to_vec()
    }

    fn step_record(z: f32) -> Vec<u8> {
        [&[9, 0, 0, 7][..], &RICH.state_at([1.5, -2.0, z])].concat()
    }

    #[test]
    fn a_move_is_laid_out_as_the_protocol_draws_it_and_is_a_step() {
        let bytes = move_record(1.5, -2.0);
        assert_eq!(bytes, [1, 0, 0, 7, 0x3F, 0xC0, 0, 0, 0xC0, 0, 0, 0]);
        let Ok(Record::Step { input_seq: 7, state }) = decode(&bytes, &PLAIN) else { panic!("not a step") };
        assert_eq!(PLAIN.place(state), [1.5, -2.0, 0.0]);
        let step = [&[9][..], &bytes[1..]].concat();
        assert_eq!(decode(&step, &PLAIN), decode(&bytes, &PLAIN));
        let two_axes = Layout { number: Number::U16, keys: 1, ..PLAIN };
        assert_eq!(decode(&step, &two_axes), decode(&bytes, &two_axes));
    }

    #[test]
    fn a_step_is_as_long_as_the_layout_says() {
        let bytes = step_record(3.0);
        let Ok(Record::Step { input_seq: 7, state }) = decode(&bytes, &RICH) else { panic!("not a step") };
        assert_eq!((RICH.place(state), &state[12..]), ([1.5, -2.0, 3.0], &[0, 0][..]));
        let wrong = |name, expected, actual| Err(Malformed::Length { name, expected, actual });
        assert_eq!(decode(&bytes, &PLAIN), wrong("Step", 12, 18));
        assert_eq!(decode(&bytes[..17], &RICH), wrong("Step", 18, 17));
        assert_eq!(decode(&bytes[..2], &RICH), wrong("Step", 18, 2));
        for layout in [RICH, Layout { pose_bytes: 4, ..PLAIN }, Layout { axes: 3, ..PLAIN }] {
            let refused = decode(&move_record(1.0, 1.0), &layout).expect_err("it has no third axis");
            let says = format!("is {} bytes long: send a Step (0x09)", layout.state_bytes());
            assert!(refused.to_string().contains(&says), "{refused}");
            let refused = decode(&[8, 0, 0, 0, 0, 0, 0, 0], &layout).expect_err("nor has it");
            assert!(refused.to_string().ends_with("send HostSteps (0x0d)"), "{refused}");
        }
    }

    #[test]
    fn a_host_sets_states_with_what_it_has_used_of_their_inputs() {
        let state = RICH.state_at([1.0, 2.0, 3.0]);
        let step = |player: u8, seq: u8| [&[0, 0, 0, player, 0, seq, 0, 0][..], &state].concat();
        let bytes = [vec![13, 0, 0, 0, 0, 0, 0, 2], step(5, 6), step(7, 8)].concat();
        let Ok(Record::HostSteps(steps)) = decode(&bytes, &RICH) else { panic!("not steps") };
        let named: Vec<_> = steps.iter().map(|step| (step.player.0, step.input_seq)).collect();
        assert_eq!((named, steps.count()), (vec![(5, Some(6)), (7, Some(8))], 2));
        assert!(steps.iter().all(|step| step.state == state));
        assert!(decode(&bytes[..bytes.len() - 1], &RICH).is_err());
        let moves = [&[8, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 5][..], &PLAIN.state_at([1.0, 2.0, 0.0])].concat();
        let Ok(Record::HostSteps(steps)) = decode(&moves, &PLAIN) else { panic!("not moves") };
        let first = steps.iter().next().expect("one");
        assert_eq!(
            (first.player, first.input_seq, PLAIN.place(first.state)),
            (PlayerId(5), None, [1.0, 2.0, 0.0])
        );
    }

    #[test]
    fn a_value_has_a_key_of_the_layout_and_fits() {
        let set = |key: u8, length: u8, value: &[u8]| [&[10, key, 0, length][..], value].concat();
        assert_eq!(decode(&set(8, 2, b"hi"), &RICH), Ok(Record::SetState { key: 8, value: b"hi" }));
        assert_eq!(decode(&set(1, 0, b""), &RICH), Ok(Record::SetState { key: 1, value: b"" }));
        assert_eq!(decode(&set(1, 2, b"hi"), &PLAIN), Err(Malformed::NoKeys));
        for key in [0, 9, 200] {
            assert_eq!(decode(&set(key, 0, b""), &RICH), Err(Malformed::Key { key, keys: 8 }));
        }
        for wrong in [set(1, 2, b"h"), set(1, 6, b"sixsix"), set(1, 0, b"x"), vec![10, 1, 0]] {
            let actual = wrong.len();
            assert_eq!(decode(&wrong, &RICH), Err(Malformed::SetStateLength { bytes_max: 5, actual }));
        }
    }

    #[test]
    fn numbers_must_be_finite() {
        for bad in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
            assert_eq!(decode(&move_record(bad, 0.0), &PLAIN), Err(Malformed::NotFinite("Move")));
            assert_eq!(decode(&move_record(0.0, bad), &PLAIN), Err(Malformed::NotFinite("Move")));
            assert_eq!(decode(&step_record(bad), &RICH), Err(Malformed::NotFinite("Step")));
            let object =
                [&[4, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0][..], &RICH.state_at([0.0, 0.0, bad])[..12]].concat();
            assert_eq!(decode(&object, &RICH), Err(Malformed::NotFinite("PutObject")));
        }
    }

    #[test]
    fn a_length_that_does_not_fit_is_named() {
        assert_eq!(decode(&[], &PLAIN), Err(Malformed::Empty));
        assert_eq!(decode(&[0x40], &PLAIN), Err(Malformed::UnknownKind(0x40)));
        assert_eq!(
            decode(&[1; 11], &PLAIN),
            Err(Malformed::Length { name: "Move", expected: 12, actual: 11 })
        );
        assert_eq!(
            decode(&[4; 20], &RICH),
            Err(Malformed::Length { name: "PutObject", expected: 24, actual: 20 })
        );
        assert_eq!(decode(&[6, 0, 0, 0], &PLAIN), Err(Malformed::EventLength(4)));
        let mut long_event = vec![6, 0, 0, 1, 0, 0, 0, 0];
        long_event.resize(8 + EVENT_PAYLOAD_BYTES_MAX, 1);
        assert!(decode(&long_event, &PLAIN).is_ok());
        long_event.push(1);
        assert_eq!(decode(&long_event, &PLAIN), Err(Malformed::EventLength(8 + EVENT_PAYLOAD_BYTES_MAX + 1)));
        let lying = [8, 0, 0, 0, 0xFF, 0xFF, 0xFF, 0xFF];
        assert!(matches!(decode(&lying, &PLAIN), Err(Malformed::Length { name: "HostMoves", .. })));
    }

    #[test]
    fn a_who_names_as_many_players_as_it_says() {
        let who = |announced: u16, ids: usize| {
            let mut bytes = vec![0x0C, 0];
            bytes.extend(announced.to_be_bytes());
            bytes.extend([0, 1, 0, 2].repeat(ids));
            bytes
        };
        let bytes = who(2, 2);
        let Ok(Record::Who([first, _])) = decode(&bytes, &PLAIN) else { panic!("not a Who") };
        assert_eq!(first.get(), 0x1_0002);
        assert!(decode(&who(0, 0), &PLAIN).is_ok());
        assert!(decode(&who(256, 256), &PLAIN).is_ok());
        assert_eq!(decode(&who(257, 257), &PLAIN), Err(Malformed::WhoLength(4 + 4 * 257)));
        assert_eq!(decode(&who(3, 2), &PLAIN), Err(Malformed::WhoLength(12)));
        assert_eq!(decode(&[0x0C, 0, 0], &PLAIN), Err(Malformed::WhoLength(3)));
        assert_eq!(decode(&[0x0C, 0, 0, 1, 0, 0], &PLAIN), Err(Malformed::WhoLength(6)));
    }

    #[test]
    fn an_event_names_its_receivers() {
        let decode_scope = |scope| {
            decode(&[6, scope, 0, 1, 0, 0, 0, 9, 42], &PLAIN).map(|record| match record {
                Record::Event { scope, code: 1, payload: [42] } => scope,
                other => panic!("{other:?}"),
            })
        };
        assert_eq!(decode_scope(0), Ok(Scope::Others));
        assert_eq!(decode_scope(1), Ok(Scope::All));
        assert_eq!(decode_scope(2), Ok(Scope::Only(9)));
        assert_eq!(decode_scope(3), Ok(Scope::Near));
        assert_eq!(decode_scope(4), Err(Malformed::Scope(4)));
    }
}
