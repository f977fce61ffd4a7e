//! The examples of records in PROTOCOL.md: their bytes say what stands beside them, and are laid out as the records are.

use corelay::wire::layout::{Layout, Number, Place};
use corelay::wire::native::{self, answers, kind};
use zerocopy::IntoBytes;

use super::{read, root};

/// An example of a record: its name, and its fields with their bytes and what the document says they are.
pub struct Example {
    pub name: String,
    pub fields: Vec<(Vec<u8>, String)>,
}

impl Example {
    pub fn bytes(&self) -> Vec<u8> {
        self.fields.iter().flat_map(|(bytes, _)| bytes.clone()).collect()
    }
}

/// The fences of PROTOCOL.md whose language is `hex`: a line with name and length, then one for each field.
pub fn examples() -> Vec<Example> {
    let protocol = read(&root().join("docs/PROTOCOL.md"));
    let fences = protocol.split("```hex\n").skip(1);
    fences.map(|rest| example(rest.split_once("```").expect("a fence has an end").0)).collect()
}

fn example(fence: &str) -> Example {
    let (title, lines) = fence.split_once('\n').expect("a title stands first");
    let (name, length) = title.split_once(", ").expect("a name and a length");
    let fields = lines.lines().map(|line| {
        let (hex, field) = line.split_once("  ").expect("bytes, then a field");
        let byte = |digits| u8::from_str_radix(digits, 16).expect("two hex digits");
        (hex.split(' ').map(byte).collect(), field.trim().to_owned())
    });
    let example = Example { name: name.to_owned(), fields: fields.collect() };
    assert!(length.starts_with(&format!("{} bytes", example.bytes().len())), "{title}");
    example
}

#[test]
fn the_values_of_the_examples_are_what_their_bytes_say() {
    for example in examples() {
        for (bytes, field) in &example.fields {
            let (_, value) = field.split_once(": ").expect("a field has a value");
            let value = value.split_once(" (").map_or(value, |(value, _)| value);
            let float = |number: f32| number.to_be_bytes().to_vec();
            let whole = |number: u64| number.to_be_bytes()[8 - bytes.len()..].to_vec();
            let said = match value {
                "infinity" => float(f32::INFINITY),
                "largest" => float(f32::MAX),
                "smallest" => float(f32::MIN),
                "16 bytes" => bytes.clone(),
                text if text.starts_with('"') => text.trim_matches('"').as_bytes().to_vec(),
                hex if hex.starts_with("0x") => whole(u64::from_str_radix(&hex[2..], 16).expect(hex)),
                number if number.contains('.') => float(number.parse().expect(number)),
                number => whole(number.parse().expect(number)),
            };
            assert_eq!(*bytes, said, "{}: {field}", example.name);
        }
    }
}

/// A record's name, and its bytes.
type Laid = (&'static str, Vec<u8>);

/// The time in the examples, in unix microseconds.
const NOW: u64 = 1_798_761_600_000_000;

fn position(player_id: u32, x: f32, y: f32) -> native::Position {
    native::Position { player_id: player_id.into(), x: x.into(), y: y.into() }
}

fn object() -> native::Object {
    native::Object { object_id: 9.into(), kind: 2.into(), x: 4.0.into(), y: 0.5.into(), ..Default::default() }
}

/// The layout of the examples that are not in the plain one.
const RICH: Layout = Layout { number: Number::U16, axes: 3, pose_bytes: 2, keys: 8, key_bytes_max: 32 };

fn state(layout: &Layout, place: Place, pose: &[u8]) -> Vec<u8> {
    let mut state = layout.state_at(place);
    state[layout.place_bytes()..].copy_from_slice(pose);
    state
}

fn layouts() -> Vec<Laid> {
    let value = native::StateHeader { player_id: 3.into(), key: 1, length: 3 };
    vec![
        (
            "Step",
            [
                native::StepHeader { kind: kind::STEP, input_seq: 7.into(), ..Default::default() }.as_bytes(),
                &state(&RICH, [1.5, -2.0, 8.0], &[0x40, 0x02]),
            ]
            .concat(),
        ),
        (
            "SetState",
            [native::SetStateHeader { kind: kind::SET_STATE, key: 1, length: 3.into() }.as_bytes(), b"red"]
                .concat(),
        ),
        (
            "SetView",
            native::SetView { kind: kind::SET_VIEW, radius: 3, ..Default::default() }.as_bytes().into(),
        ),
        (
            "HostSteps",
            [
                native::HostStepsHeader { kind: kind::HOST_STEPS, count: 1.into(), ..Default::default() }
                    .as_bytes(),
                native::HostStepHeader { player_id: 3.into(), input_seq: 7.into(), ..Default::default() }
                    .as_bytes(),
                &state(&RICH, [1.5, -2.0, 8.0], &[0x40, 0x02]),
            ]
            .concat(),
        ),
        (
            "Layout",
            native::LayoutRecord {
                kind: kind::LAYOUT,
                number: 1,
                axes: 3,
                pose_bytes: 2,
                keys: 8,
                key_bytes_max: 32,
                tick0_us: (NOW - 20_000_000).into(),
                min_z: 0.0.into(),
                max_z: 64.0.into(),
                players: 2.into(),
                ..Default::default()
            }
            .as_bytes()
            .into(),
        ),
        ("Ack", answers::ack((7, 123), 401).payload().into()),
        (
            "Overview",
            [
                native::OverviewHeader { kind: kind::OVERVIEW, flags: 1, count: 2.into(), tick: 401.into() }
                    .as_bytes(),
                native::OverviewSeat::default().as_bytes(),
                native::OverviewSeat { seat: 2.into(), x: 255, y: 255 }.as_bytes(),
            ]
            .concat(),
        ),
        (
            "States",
            [
                native::StatesHeader {
                    kind: kind::STATES,
                    count: 1.into(),
                    tick: 401.into(),
                    ..Default::default()
                }
                .as_bytes(),
                value.as_bytes(),
                b"red",
            ]
            .concat(),
        ),
        ("Near", answers::near(7, 3, b"hi").payload().into()),
        (
            "Delta (u16)",
            [
                native::DeltaHeader {
                    kind: kind::DELTA,
                    tick: 401.into(),
                    position_count: 1.into(),
                    gone_players: 1.into(),
                    ..Default::default()
                }
                .as_bytes(),
                &[0, 2, 0x80, 0x5F, 0x7F, 0x80, 0x20, 0, 0x40, 0x02, 0, 4],
            ]
            .concat(),
        ),
    ]
}

fn joined() -> Vec<u8> {
    let mut joined = Vec::new();
    native::write_joined(&mut joined, 3, "guest-1", "Ann");
    joined
}

fn moves_and_objects() -> Vec<Laid> {
    vec![
        (
            "Move",
            native::Move {
                kind: kind::MOVE,
                input_seq: 7.into(),
                x: 1.5.into(),
                y: (-2.0).into(),
                ..Default::default()
            }
            .as_bytes()
            .into(),
        ),
        (
            "PutObject",
            [
                native::PutObjectHeader { kind: kind::PUT_OBJECT, ..Default::default() }.as_bytes(),
                object().as_bytes(),
            ]
            .concat(),
        ),
        (
            "RemoveObject",
            native::RemoveObject { kind: kind::REMOVE_OBJECT, object_id: 9.into(), ..Default::default() }
                .as_bytes()
                .into(),
        ),
        (
            "Event",
            [
                native::EventHeader { kind: kind::EVENT, scope: 2, code: 7.into(), target: 65_541.into() }
                    .as_bytes(),
                b"hi",
            ]
            .concat(),
        ),
    ]
}

fn questions_and_the_first_answer() -> Vec<Laid> {
    vec![
        (
            "Ping",
            native::Ping {
                kind: kind::PING,
                nonce: 1.into(),
                client_time_us: 1_500_000.into(),
                ..Default::default()
            }
            .as_bytes()
            .into(),
        ),
        (
            "HostMoves",
            [
                native::HostMovesHeader { kind: kind::HOST_MOVES, count: 1.into(), ..Default::default() }
                    .as_bytes(),
                position(3, 1.5, -2.0).as_bytes(),
            ]
            .concat(),
        ),
        (
            "Who",
            [
                native::WhoHeader { kind: kind::WHO, count: 2.into(), ..Default::default() }.as_bytes(),
                &3_u32.to_be_bytes(),
                &65_541_u32.to_be_bytes(),
            ]
            .concat(),
        ),
        (
            "Welcome",
            native::Welcome {
                kind: kind::WELCOME,
                flags: native::Welcome::DEVELOPMENT,
                tick_hz: 20.into(),
                player_id: 65_541.into(),
                epoch: 1.into(),
                seq: 12.into(),
                tick: 400.into(),
                server_time_us: NOW.into(),
                resume_token: std::array::from_fn(|index| index as u8),
                min_x: f32::MIN.into(),
                min_y: f32::MIN.into(),
                max_x: f32::MAX.into(),
                max_y: f32::MAX.into(),
                max_speed: f32::INFINITY.into(),
            }
            .as_bytes()
            .into(),
        ),
    ]
}

fn ticks_events_and_answers() -> Vec<Laid> {
    vec![
        (
            "Keyframe",
            [
                native::KeyframeHeader {
                    kind: kind::KEYFRAME,
                    tick: 400.into(),
                    position_count: 1.into(),
                    objects_count: 1.into(),
                    ..Default::default()
                }
                .as_bytes(),
                position(3, 1.5, -2.0).as_bytes(),
                object().as_bytes(),
            ]
            .concat(),
        ),
        (
            "Delta",
            [
                native::DeltaHeader {
                    kind: kind::DELTA,
                    gone_players: 1.into(),
                    tick: 401.into(),
                    position_count: 1.into(),
                    gone_objects: 1.into(),
                    ..Default::default()
                }
                .as_bytes(),
                position(3, 2.0, -2.0).as_bytes(),
                &65_541_u32.to_be_bytes(),
                &9_u32.to_be_bytes(),
            ]
            .concat(),
        ),
        (
            "Event (from the relay)",
            [
                native::EventOutHeader {
                    kind: kind::EVENT_OUT,
                    scope: 0,
                    code: 7.into(),
                    sender: 3.into(),
                    seq: 13.into(),
                }
                .as_bytes(),
                b"hi",
            ]
            .concat(),
        ),
        (
            "Pong",
            native::Pong {
                kind: kind::PONG,
                nonce: 1.into(),
                client_time_us: 1_500_000.into(),
                server_time_us: NOW.into(),
                tick: 400.into(),
                ..Default::default()
            }
            .as_bytes()
            .into(),
        ),
    ]
}

fn rosters_and_refusals() -> Vec<Laid> {
    vec![
        (
            "Roster",
            [
                native::RosterHeader {
                    kind: kind::ROSTER,
                    flags: native::RosterHeader::WHOLE,
                    joined: 1.into(),
                    left: 1.into(),
                }
                .as_bytes(),
                &joined(),
                native::RosterLeft { player_id: 65_541.into(), reason: 1 }.as_bytes(),
            ]
            .concat(),
        ),
        (
            "RateLimited",
            native::RateLimited {
                kind: kind::RATE_LIMITED,
                class: 1,
                retry_after_ms: 17.into(),
                ..Default::default()
            }
            .as_bytes()
            .into(),
        ),
        (
            "Correction",
            [
                native::CorrectionHeader { kind: kind::CORRECTION, reason: 2, input_seq: 7.into() }
                    .as_bytes(),
                &state(&Layout::PLAIN, [1.5, -2.0, 0.0], &[]),
            ]
            .concat(),
        ),
        (
            "Notice",
            native::Notice {
                kind: kind::NOTICE,
                reason: native::Notice::DRAIN,
                timeout_ms: 30_000.into(),
                retry_after_ms: 1_000.into(),
                jitter_ms: 5_000.into(),
                ..Default::default()
            }
            .as_bytes()
            .into(),
        ),
    ]
}

fn notices() -> Vec<Laid> {
    vec![(
        "Error",
        [
            native::ErrorHeader { kind: kind::ERROR, code: 5, ..Default::default() }.as_bytes(),
            b"no such player",
        ]
        .concat(),
    )]
}

#[test]
fn the_examples_are_laid_out_as_the_records_are() {
    let records = [
        moves_and_objects(),
        questions_and_the_first_answer(),
        ticks_events_and_answers(),
        rosters_and_refusals(),
        notices(),
        layouts(),
    ]
    .concat();
    let shown: Vec<(String, Vec<u8>)> =
        examples().into_iter().map(|example| (example.name.clone(), example.bytes())).collect();
    assert_eq!(shown.len(), records.len());
    for ((name, bytes), (record, laid_out)) in shown.iter().zip(&records) {
        assert_eq!((name.as_str(), bytes), (*record, laid_out));
        let from_client = bytes[0] < kind::WELCOME;
        let layout = if name.contains("Step") || name == "SetState" { RICH } else { Layout::PLAIN };
        let decoded = native::decode(bytes, &layout);
        assert_eq!(decoded.is_ok(), from_client, "{name}: {decoded:?}");
    }
}
