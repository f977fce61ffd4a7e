//! Members of a game that are told in records and sit on no connection of its shard: they watch, or play, behind another one.

use std::collections::VecDeque;
use std::sync::Arc;

use zerocopy::{FromBytes, IntoBytes};

use super::connections::Connection;
use super::peer::{Action, PeerMessage, Question, TopicRequest};
use super::placement::Placement;
use super::settings::Settings;
use super::{Admission, Output, Shard};
use crate::ids::{ChannelNumber, ConnId, Party, RequestNumber, ShardId, Topic};
use crate::reasons::ErrorCode;
use crate::room::request::{Departure, Join, Rights};
use crate::session::channels::Channels;
use crate::session::{Dialect, Lifecycle};
use crate::time::{Instant, Now};
use crate::wire::format::Format;
use crate::wire::frame::Opcode;
use crate::wire::native::{DeltaHeader, KeyframeHeader, Move, Position, Welcome, kind};
use crate::wire::phoenix::Serializer;

const GAME: &str = "game:arena";

/// Two shards without a network between them: what one tells the other arrives at once.
struct World {
    shards: [Shard; 2],
    now: Now,
    /// What each connection was sent, by shard.
    sent: Vec<(ShardId, ConnId, Vec<u8>)>,
    /// Connections on which every send stays stuck.
    stuck: Vec<ConnId>,
    closed: Vec<ConnId>,
}

impl World {
    fn new() -> Self {
        let settings = Arc::new(Settings { placement: Placement::known(2), ..Settings::default() });
        let shard = |id| Shard::new(ShardId(id), settings.clone(), Arc::default(), [id as u8; 32]);
        let now = Now { instant: Instant::from_micros(1_000_000), unix_us: 1_000_000 };
        Self { shards: [0, 1].map(shard), now, sent: Vec::new(), stuck: Vec::new(), closed: Vec::new() }
    }

    fn owner(&self) -> ShardId {
        Placement::known(2).shard_of(Topic::parse(GAME).unwrap().name())
    }

    fn other(&self) -> ShardId {
        ShardId(1 - self.owner().0)
    }

    fn shard(&mut self, id: ShardId) -> &mut Shard {
        &mut self.shards[usize::from(id.0)]
    }

    /// Carries out what the shards want, until they want nothing more.
    fn settle(&mut self) {
        let mut letters = VecDeque::new();
        loop {
            for index in 0..2 {
                let (id, now) = (ShardId(index as u16), self.now);
                while let Some(output) = self.shards[index].poll_output() {
                    match output {
                        Output::Send { conn, frames } => {
                            let messages = frames.as_slice().iter().flat_map(|frame| messages(frame.bytes()));
                            self.sent.extend(messages.map(|message| (id, conn, message)));
                            if !self.stuck.contains(&conn) {
                                self.shards[index].handle_sent(conn, now);
                            }
                        }
                        Output::Forward { target: Party::Shard(target), message } => {
                            letters.push_back((id, target, message));
                        }
                        Output::Close { conn, .. } | Output::Shutdown { conn } => self.closed.push(conn),
                        Output::Forward { target: Party::Service | Party::Store, .. }
                        | Output::HandOver { .. }
                        | Output::Pause { .. }
                        | Output::Resume { .. }
                        | Output::Upgraded { .. }
                        | Output::Note(_)
                        | Output::StopAccepting
                        | Output::Drained => {}
                    }
                }
            }
            let Some((from, target, message)) = letters.pop_front() else { return };
            let now = self.now;
            self.shard(target).handle_peer(Party::Shard(from), message, now);
        }
    }

    fn tick(&mut self) {
        self.now = Now {
            instant: self.now.instant + std::time::Duration::from_millis(50),
            unix_us: self.now.unix_us + 50_000,
        };
        for index in 0..2 {
            self.shards[index].handle_timeout(self.now);
        }
        self.settle();
    }

    /// A player in the native dialect, on the game's shard.
    fn player(&mut self) -> ConnId {
        let (owner, now) = (self.owner(), self.now);
        let conn = self.shard(owner).handle_accepted(Admission::Admitted, now).unwrap();
        let mut request =
            b"GET /play/arena HTTP/1.1\r\nHost: a\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
            Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
                .to_vec();
        self.shard(owner).handle_received(conn, &mut request, now);
        self.settle();
        conn
    }

    /// A native member behind a channel on `shard`.
    fn member(&mut self, shard: ShardId, rights: Rights) -> ConnId {
        self.member_in(shard, rights, Format::Native)
    }

    fn member_in(&mut self, shard: ShardId, rights: Rights, format: Format) -> ConnId {
        let now = self.now;
        let conn = self.shard(shard).handle_accepted(Admission::Admitted, now).unwrap();
        let topic = Arc::new(Topic::parse(GAME).unwrap());
        let mut channels = Channels::new(Serializer::V2, "ann".into(), "Ann".into(), None);
        let message = Serializer::V2.decode_text(r#"[null,null,"game:arena","phx_join",{}]"#).unwrap();
        let (name, reference) = (&message.join_ref, &message.reference);
        let joining = channels.begin_join(topic.clone(), format, name, reference);
        let connection: &mut Connection = self.shard(shard).connections.find(conn).unwrap();
        connection.session.channels = Some(Box::new(channels));
        let dialect = if format == Format::Native { Dialect::Native } else { Dialect::Phoenix };
        self.shard(shard).set_lifecycle(conn, Lifecycle::Open(dialect));
        self.shard(shard).metrics.channels.add(1);
        let join = Join {
            user: "ann".into(),
            name: "Ann".into(),
            rights,
            is_moderator: false,
            format,
            layout: false,
            ack: false,
            meta: None,
            resume_token: None,
            seen: None,
            supersedes: None,
        };
        self.ask(shard, conn, joining.number, &topic, Action::Join(Box::new(join)));
        conn
    }

    fn ask(
        &mut self,
        shard: ShardId,
        conn: ConnId,
        number: ChannelNumber,
        topic: &Arc<Topic>,
        action: Action,
    ) {
        let now = self.now;
        let shard = self.shard(shard);
        let from = shard.address(conn, number);
        shard.request(TopicRequest { topic: topic.clone(), from, action }, now);
        self.settle();
    }

    fn step(&mut self, shard: ShardId, conn: ConnId, x: f32) {
        let step = Move { kind: kind::MOVE, flags: 0, input_seq: 7.into(), x: x.into(), y: 2.0.into() };
        self.send(shard, conn, step.as_bytes());
    }

    fn send(&mut self, shard: ShardId, conn: ConnId, record: &[u8]) {
        let now = self.now;
        let mut bytes = vec![0x82, 0x80 | record.len() as u8, 0, 0, 0, 0];
        bytes.extend_from_slice(record);
        self.shard(shard).handle_received(conn, &mut bytes, now);
        self.settle();
    }

    /// What a connection was sent since the last call.
    fn take(&mut self, shard: ShardId, conn: ConnId) -> Vec<Vec<u8>> {
        let is_its = |sent: &(ShardId, ConnId, Vec<u8>)| (sent.0, sent.1) == (shard, conn);
        let (its, rest) = std::mem::take(&mut self.sent).into_iter().partition(is_its);
        self.sent = rest;
        let its: Vec<(ShardId, ConnId, Vec<u8>)> = its;
        its.into_iter()
            .map(|(_, _, message)| message)
            .filter(|message| !message.starts_with(b"HTTP"))
            .collect()
    }
}

/// Payloads of binary messages; bytes that are none stay as they are.
fn messages(mut bytes: &[u8]) -> Vec<Vec<u8>> {
    if !bytes.starts_with(&[0x80 | Opcode::Binary as u8]) {
        return vec![bytes.to_vec()];
    }
    let mut messages = Vec::new();
    while let [_, length, rest @ ..] = bytes {
        let (length, rest) = match length {
            126 => (usize::from(u16::from_be_bytes([rest[0], rest[1]])), &rest[2..]),
            length => (usize::from(*length), rest),
        };
        messages.push(rest[..length].to_vec());
        bytes = &rest[length..];
    }
    messages
}

fn kinds(messages: &[Vec<u8>]) -> Vec<u8> {
    messages.iter().map(|message| message[0]).collect()
}

/// Where a frame's first position is.
fn first_x(frame: &[u8]) -> f32 {
    let header = match frame[0] {
        kind::KEYFRAME => size_of::<KeyframeHeader>(),
        _ => size_of::<DeltaHeader>(),
    };
    Position::ref_from_prefix(&frame[header..]).unwrap().0.x.get()
}

#[test]
fn whoever_watches_from_another_shard_is_sent_the_players_own_frames() {
    let mut world = World::new();
    let (owner, other) = (world.owner(), world.other());
    let player = world.player();
    let watcher = world.member(other, Rights::Watch);
    let first = world.take(other, watcher);
    assert_eq!(kinds(&first), [kind::WELCOME, kind::ROSTER, kind::KEYFRAME]);
    let welcome = Welcome::ref_from_bytes(&first[0]).unwrap();
    assert_eq!((welcome.player_id.get(), welcome.resume_token), (0, [0; 16]));
    world.tick();
    world.take(owner, player);
    world.take(other, watcher);

    world.step(owner, player, 3.0);
    world.tick();
    let told = world.take(owner, player);
    assert_eq!(kinds(&told), [kind::DELTA]);
    assert_eq!(world.take(other, watcher), told, "one frame for all");

    let late = world.player();
    let event = [&[kind::EVENT, 0, 0, 9, 0, 0, 0, 0][..], b"hello"].concat();
    world.send(owner, player, &event);
    assert_eq!(world.take(other, watcher), world.take(owner, late)[3..], "the event as it goes to players");
    world.tick();
    assert_eq!(kinds(&world.take(other, watcher)), [kind::ROSTER]);
}

#[test]
fn whoever_watches_is_told_that_it_may_not_play() {
    let mut world = World::new();
    let (owner, other) = (world.owner(), world.other());
    let player = world.player();
    for shard in [owner, other] {
        let watcher = world.member(shard, Rights::Watch);
        world.take(shard, watcher);
        world.step(shard, watcher, 1.0);
        let told = world.take(shard, watcher);
        assert_eq!(
            (kinds(&told), told[0][1]),
            (vec![kind::ERROR], ErrorCode::Unauthorized.index() as u8 + 1)
        );
        assert!(String::from_utf8_lossy(&told[0]).contains("this member watches"), "{told:?}");
        world.send(shard, watcher, &[&[kind::PING, 0, 0, 0, 0, 0, 0, 5][..], &[0; 8]].concat());
        assert_eq!(kinds(&world.take(shard, watcher)), [kind::PONG]);
    }
    world.tick();
    let told = world.take(owner, player);
    assert!(!kinds(&told).contains(&kind::DELTA), "nobody has moved: {told:?}");
}

#[test]
fn a_native_member_plays_behind_another_shard() {
    let mut world = World::new();
    let (owner, other) = (world.owner(), world.other());
    let player = world.player();
    let member = world.member(other, Rights::Play);
    let first = world.take(other, member);
    let welcome = Welcome::ref_from_bytes(&first[0]).unwrap();
    assert_ne!(welcome.player_id.get(), 0);
    world.tick();
    world.take(owner, player);
    world.take(other, member);
    world.step(other, member, 5.0);
    world.tick();
    let told = world.take(owner, player);
    assert_eq!((kinds(&told), first_x(&told[0])), (vec![kind::DELTA], 5.0));
    assert_eq!(world.take(other, member), told);
    // HostMoves is a host's.
    let moves = [&[kind::HOST_MOVES, 0, 0, 0, 0, 0, 0, 0][..]].concat();
    world.send(other, member, &moves);
    assert_eq!(kinds(&world.take(other, member)), [kind::ERROR]);
}

#[test]
fn whoever_was_not_sent_the_last_frame_gets_the_whole_one() {
    let mut world = World::new();
    let (owner, other) = (world.owner(), world.other());
    let player = world.player();
    let watcher = world.member(other, Rights::Watch);
    world.tick();
    world.take(other, watcher);
    world.stuck.push(watcher);
    for x in 1..4 {
        world.step(owner, player, x as f32);
        world.tick();
    }
    assert_eq!(kinds(&world.take(other, watcher)), [kind::DELTA], "the one that is stuck");
    world.stuck.clear();
    let now = world.now;
    world.shard(other).handle_sent(watcher, now);
    world.settle();
    world.tick();
    let told = world.take(other, watcher);
    assert_eq!((kinds(&told), first_x(&told[0])), (vec![kind::KEYFRAME], 3.0));
}

#[test]
fn a_game_stays_for_whoever_watches_and_ends_with_the_last_one() {
    let mut world = World::new();
    let (owner, other) = (world.owner(), world.other());
    let watcher = world.member(other, Rights::Watch);
    let topic = Arc::new(Topic::parse(GAME).unwrap());
    assert_eq!(world.shard(owner).sizes().games, 1);
    let number =
        world.shard(other).connections.find(watcher).unwrap().session.channels.as_ref().unwrap().all()[0]
            .number;
    world.ask(other, watcher, number, &topic, Action::Leave(Departure::Lost));
    assert_eq!(world.shard(owner).sizes().games, 0);
}

#[test]
fn a_native_member_whose_game_has_ended_is_closed_and_may_come_again() {
    let mut world = World::new();
    let (owner, other) = (world.owner(), world.other());
    let watcher = world.member(other, Rights::Watch);
    world.take(other, watcher);
    let now = world.now;
    world.shard(other).handle_party_ended(Party::Shard(owner), now);
    world.settle();
    let told = world.take(other, watcher);
    let close = &told[0];
    assert_eq!((close[0], &close[2..4]), (0x88, &1013_u16.to_be_bytes()[..]), "{told:?}");
}

#[test]
fn whoever_is_kicked_leaves_no_seat_behind_though_its_client_goes_in_the_same_moment() {
    let mut world = World::new();
    let (owner, other) = (world.owner(), world.other());
    let member = world.member(other, Rights::Play);
    let now = world.now;
    let question = Question::Kick { user: "ann".into() };
    let kick = PeerMessage::Ask { request: RequestNumber(1), question };
    world.shard(owner).handle_peer(Party::Service, kick, now);
    world.shard(owner).handle_timeout(now);
    world.shard(other).handle_eof(member, now);
    world.settle();
    assert_eq!(world.shard(owner).sizes().games, 0, "a held seat would keep the game");
}

#[test]
fn whoever_is_kicked_is_told_nothing_of_its_own_end() {
    let mut world = World::new();
    let (owner, other) = (world.owner(), world.other());
    let member = world.member_in(other, Rights::Play, Format::V2);
    let [watcher, witness] =
        [Format::Native, Format::V2].map(|format| world.member_in(other, Rights::Watch, format));
    world.tick();
    world.take(other, member);
    world.take(other, watcher);
    world.take(other, witness);
    let now = world.now;
    let kick =
        PeerMessage::Ask { request: RequestNumber(1), question: Question::Kick { user: "ann".into() } };
    world.shard(owner).handle_peer(Party::Service, kick, now);
    world.shard(owner).handle_timeout(now);
    world.settle();
    world.tick();
    let told = world.take(other, member);
    assert_eq!((told.len(), told[0][0], &told[0][2..4]), (1, 0x88, &1001_u16.to_be_bytes()[..]), "{told:?}");
    assert_eq!(kinds(&world.take(other, watcher)), [kind::ROSTER], "the others are told");
    let of_witness = world.take(other, witness);
    let said = String::from_utf8_lossy(&of_witness[0]);
    assert!(said.contains(r#""user_disconnected",{"user_id":"ann","reason":"kicked""#), "{said}");
}

#[test]
fn text_takes_no_native_channel_away() {
    let mut world = World::new();
    let other = world.other();
    let member = world.member(other, Rights::Play);
    world.take(other, member);
    for text in [
        r#"[null,"1","game:arena","phx_leave",{}]"#,
        r#"["1","2","game:arena","phx_join",{}]"#,
        r#"[null,"3","game:arena","reconnect",{"last_seen":{"epoch":"1","seq":0}}]"#,
    ] {
        let now = world.now;
        let mut bytes = vec![0x81, 0x80 | text.len() as u8, 0, 0, 0, 0];
        bytes.extend_from_slice(text.as_bytes());
        world.shard(other).handle_received(member, &mut bytes, now);
        world.settle();
    }
    world.take(other, member);
    world.step(other, member, 1.0);
    world.tick();
    assert!(kinds(&world.take(other, member)).contains(&kind::DELTA), "it plays on");
}
