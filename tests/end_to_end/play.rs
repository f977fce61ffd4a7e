//! Games over sockets: views, events, skipped frames, readers that stop.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use rustix::process::Signal;
use tungstenite::Message;

use crate::player::{Player, Read};
use crate::records::{Frame, Record, event, masked_frame, move_to, ping, put_object, request};
use crate::relay::{NO_RATES, PATIENCE, Relay, Setup};
use crate::socket::{RawClient, connect};

#[test]
fn two_players_see_each_other_and_a_pong_has_both_times() {
    let relay = Relay::start_shards(2, "");
    let mut ann = Player::join(&relay, "/play/arena?name=Ann");
    let mut bob = Player::join(&relay, "/play/arena?name=Bob");
    assert_eq!(ann.welcome.flags, 4, "development mode");
    assert_ne!(ann.id(), bob.id());

    ann.send(move_to(1, 1.5, -2.0));
    bob.send(move_to(1, 30.0, 40.0));
    for player in [&mut ann, &mut bob] {
        player.until_view("both players, moved", |view| view.roster.len() == 2 && view.positions.len() == 2);
        let seen: Vec<_> = player.view.positions.values().copied().collect();
        assert_eq!(seen, [(1.5, -2.0), (30.0, 40.0)]);
    }

    ann.send(ping(77, 123_456));
    let pong = ann.until("a Pong", |_, record| match record {
        Record::Pong { nonce: 77, client_time_us, server_time_us, .. } => {
            Some((*client_time_us, *server_time_us))
        }
        _ => None,
    });
    assert_eq!(pong.0, 123_456);
    assert!(pong.1 >= ann.welcome.server_time_us);

    let bob_id = bob.id();
    bob.leave();
    ann.until_view("Bob gone", |view| view.roster.len() == 1 && !view.positions.contains_key(&bob_id));
    assert_eq!(relay.metric("corelay_moves_total", &[]), 2);
    relay.await_closes("bye", 1);
}

#[test]
fn events_reach_whom_they_are_meant_for() {
    let relay = Relay::start_shards(2, "");
    let mut players: Vec<_> = (0..3).map(|_| Player::join(&relay, "/play/arena")).collect();
    let (ann, bob) = (players[0].id(), players[1].id());
    players[0].send(event(0, 7, 0, b"others"));
    players[0].send(event(1, 7, 0, b"all"));
    players[0].send(event(2, 7, bob, b"bob"));
    players[0].send(event(2, 7, ann, b"myself"));
    players[0].send(event(0, 7, 0, b"end"));
    players[1].send(event(2, 7, ann, b"end"));
    let expected: [&[&[u8]]; 3] =
        [&[b"all", b"myself", b"end"], &[b"others", b"all", b"bob", b"end"], &[b"others", b"all", b"end"]];
    for (player, expected) in players.iter_mut().zip(expected) {
        let events: Vec<_> = expected.iter().map(|_| player.next_event()).collect();
        let payloads: Vec<&[u8]> = events.iter().map(|(_, payload)| &payload[..]).collect();
        assert_eq!(payloads, expected);
    }
}

#[test]
fn frames_behind_the_request_head_come_along_to_the_shard_of_the_game() {
    let relay = Relay::start_shards(4, "");
    let mut ann = Player::join(&relay, "/play/arena");
    // The kernel chooses the shard that accepts: with so many, some are handed over.
    for count in 1..=12 {
        let mut eager = RawClient::connect(&relay);
        let x = count as f32;
        let frames = [masked_frame(0x82, &move_to(1, x, x)), masked_frame(0x89, b"hello")].concat();
        eager.send(&[request("/play/arena").into_bytes(), frames].concat());
        let id = eager.upgraded().player_id;
        eager.until("a pong", |frame| *frame == Frame::Pong(b"hello".to_vec()));
        ann.until_at(id, (x, x));
    }
    relay.await_hand_overs();
    assert_eq!(relay.metric("corelay_hand_overs_refused_total", &[]), 0);
}

/// Puts all 64 objects of a player, once more and elsewhere, and waits until the player sees them there.
fn put_all_objects(player: &mut Player, x: f32) {
    for object in 0..64 {
        player.send(put_object(object, 1, 0, x, x));
    }
    player.until("the last object", |player, record| {
        assert!(!matches!(record, Record::Keyframe { .. }), "a reader that keeps up gets Deltas");
        (player.view.objects.get(&63) == Some(&(1, x, x))).then_some(())
    });
}

#[test]
fn a_member_that_was_skipped_gets_a_keyframe_next() {
    let toml = format!("send_buffer_bytes = 4096\n{NO_RATES}\n[[game]]\npattern = 'arena'\ntick_hz = 120");
    let relay = Relay::start(&toml);
    let mut builder = Player::join(&relay, "/play/arena");
    let mut sleeper = Player::join_with(&relay, "/play/arena", Some(4096));
    sleeper.send(move_to(1, 5.0, 6.0));
    sleeper.until_at(sleeper.id(), (5.0, 6.0));
    builder.until_at(sleeper.id(), (5.0, 6.0));

    // The sleeper does not read. A frame has a kilobyte, so its socket is soon full.
    let mut round = 0.0;
    while relay.metric("corelay_frames_skipped_total", &[]) < 5 {
        round += 1.0;
        put_all_objects(&mut builder, round);
        assert!(round < 2_000.0, "nothing is skipped");
    }
    assert_eq!(relay.metric("corelay_keyframes_total", &[]), 2, "the greetings");
    put_all_objects(&mut builder, -1.0);
    builder.send(crate::records::remove_object(3));
    builder.until_view("object 3 gone", |view| !view.objects.contains_key(&3));
    let newcomer = Player::join(&relay, "/play/arena");

    // Now it reads: frames from before, then everything.
    let (mut deltas, mut keyframes) = (0, 0);
    let up_to_date = |player: &Player| {
        player.view.objects == newcomer.view.objects && player.view.positions == newcomer.view.positions
    };
    while !up_to_date(&sleeper) {
        match sleeper.read() {
            Read::Record(Record::Delta { .. }) => {
                assert_eq!(keyframes, 0, "nothing changes any more");
                deltas += 1;
            }
            Read::Record(Record::Keyframe { .. }) => keyframes += 1,
            Read::Record(_) => {}
            end => panic!("{end:?}"),
        }
    }
    assert!(deltas > 0 && keyframes == 1, "{deltas} deltas, {keyframes} keyframes");
    assert_eq!(relay.metric("corelay_keyframes_total", &[]), 4, "three greetings and this one");
    sleeper.until_view("the newcomer", |view| view.roster.len() == 3);

    // From here on it gets Deltas again.
    builder.send(move_to(1, 9.0, 9.0));
    let builder_id = builder.id();
    let (is_delta, at) = sleeper.until("the next move", |player, record| {
        let at = player.view.positions.get(&builder_id)?;
        Some((matches!(record, Record::Delta { .. }), *at))
    });
    assert_eq!((is_delta, at), (true, (9.0, 9.0)));
}

/// Memory that one reader that stops may cost.
const GROWTH_MAX: u64 = 512 * 1024;

#[test]
fn a_reader_that_stops_costs_only_itself() {
    let relay = Relay::start(NO_RATES);
    let mut talker = Player::join(&relay, "/play/arena");
    let mut listener = Player::join(&relay, "/play/arena");
    let mut sleeper = Player::join_with(&relay, "/play/arena", Some(4096));
    let mut talk = Talk { told: 0 };

    // Everybody reads.
    let before = talk.until_memory_stays(&relay, &mut talker, &mut [&mut listener, &mut sleeper]);
    let healthy =
        median((0..20).map(|_| talk.go_on(&mut talker, &mut [&mut listener, &mut sleeper])).collect());

    // The sleeper stops reading; the others go on as before.
    let (mut turns, mut peak) = (Vec::new(), 0);
    while relay.metric("corelay_closes_total", &["reason=\"slow\""]) == 0 {
        turns.push(talk.go_on(&mut talker, &mut [&mut listener]));
        peak = peak.max(resident(&relay));
        assert!(turns.len() < 1_000, "a reader that has stopped is not closed");
    }
    assert!(peak < before + GROWTH_MAX, "it cost {} KiB", (peak - before) / 1024);
    let (longest, typical) = (*turns.iter().max().unwrap(), median(turns));
    assert!(typical < healthy * 3 + Duration::from_millis(5), "{typical:?} per turn, {healthy:?} before");
    assert!(longest < Duration::from_secs(2), "{longest:?}");

    // What the kernel has for the sleeper is in order and without a hole; then it is told why it is closed.
    let seen_before = sleeper.seq;
    assert_eq!(talk.heard_to_the_end(&mut sleeper), Read::Closed(1013, "slow".into()));
    assert!(sleeper.seq > seen_before);

    // Its seat is held, and what it missed is kept: the last 300 events.
    assert_eq!(relay.metric("corelay_seats_held", &[]), 1);
    let missed = talk.told - sleeper.seq;
    assert!((1..=300).contains(&missed), "{missed} events missed");
    let mut again = Player::join(&relay, &sleeper.resume_target("arena"));
    assert_eq!(
        (again.id(), again.welcome.flags),
        (sleeper.id(), 1 | 2 | 4),
        "resumed, and all events follow"
    );
    again.seq = sleeper.seq;
    for _ in 0..missed {
        let expected = again.seq + 1;
        assert_eq!(again.next_event(), (expected, talk.payload(expected)));
    }
    talk.go_on(&mut talker, &mut [&mut listener, &mut again]);

    // Away for too long: the seat is still there, the events are not, and none of them comes.
    let (seen, target) = (again.seq, again.resume_target("arena"));
    again.reset();
    relay.await_metric("corelay_seats_held", &[], |held| held == 1);
    while talk.told - seen <= 300 {
        talk.go_on(&mut talker, &mut [&mut listener]);
    }
    let mut late = Player::join(&relay, &target);
    assert_eq!((late.id(), late.welcome.flags), (sleeper.id(), 1 | 4), "resumed, but the gap stays");
    assert_eq!(late.welcome.seq, talk.told);
    talk.go_on(&mut talker, &mut [&mut listener, &mut late]);
}

/// A talker that says numbered things, eight at a time, each a kilobyte long.
struct Talk {
    told: u64,
}

impl Talk {
    fn payload(&self, seq: u64) -> Vec<u8> {
        seq.to_be_bytes().repeat(128)
    }

    /// Sends eight more events, and returns the time until all listeners have them.
    #[track_caller]
    fn go_on(&mut self, talker: &mut Player, listeners: &mut [&mut Player]) -> Duration {
        let started = Instant::now();
        for seq in self.told + 1..=self.told + 8 {
            talker.send(event(0, 1, 0, &self.payload(seq)));
        }
        for listener in listeners {
            for seq in self.told + 1..=self.told + 8 {
                assert_eq!(listener.next_event(), (seq, self.payload(seq)));
            }
        }
        self.told += 8;
        started.elapsed()
    }

    /// Goes on until the relay's memory does not grow any more, and returns it: by then the game has filled its history of 300
    /// events, and every receive buffer was touched for the first time.
    fn until_memory_stays(
        &mut self,
        relay: &Relay,
        talker: &mut Player,
        listeners: &mut [&mut Player],
    ) -> u64 {
        let (mut before, mut unchanged_turns) = (0, 0);
        while unchanged_turns < 100 {
            self.go_on(talker, listeners);
            let now = resident(relay);
            unchanged_turns = if now == before { unchanged_turns + 1 } else { 0 };
            before = now;
            assert!(self.told < 50_000, "the memory grows without anybody asleep");
        }
        before
    }

    /// Reads what the kernel has for a listener, events without a hole, and returns how its connection ends.
    fn heard_to_the_end(&self, listener: &mut Player) -> Read {
        loop {
            match listener.read() {
                Read::Record(Record::Event { seq, payload, .. }) => {
                    assert_eq!(seq, listener.seq + 1);
                    assert_eq!(payload, self.payload(seq));
                    listener.seq = seq;
                }
                Read::Record(_) => {}
                end => return end,
            }
        }
    }
}

fn resident(relay: &Relay) -> u64 {
    relay.metric("process_resident_memory_bytes", &[])
}

fn median(mut durations: Vec<Duration>) -> Duration {
    durations.sort_unstable();
    durations[durations.len() / 2]
}

#[test]
fn a_relay_that_was_held_up_catches_up_and_loses_nothing() {
    const PLAYERS: usize = 80;
    const EVENTS: u64 = 96;
    let relay = Relay::start(NO_RATES);
    let join = |game| Player::join(&relay, &format!("/play/{}", game % 8));
    let mut players: Vec<_> = (0..PLAYERS).map(join).collect();
    // More arrives at once than there are receive buffers: receives end, and are armed again when buffers are back.
    relay.signal(Signal::STOP);
    for number in 0..EVENTS {
        for player in &mut players {
            player.send(event(2, 0, player.id(), &number.to_be_bytes().repeat(128)));
        }
    }
    relay.signal(Signal::CONT);
    for player in &mut players {
        for number in 0..EVENTS {
            assert_eq!(player.next_event().1, number.to_be_bytes().repeat(128));
        }
    }
    // With epoll bytes stay in their socket until it is their turn.
    let exhausted = relay.metric("corelay_receive_buffers_exhausted_total", &[]) > 0;
    assert_eq!(exhausted, relay.driver == "io_uring");
    assert_eq!(relay.metric("corelay_closes_total", &[]), 0);
    players.iter_mut().for_each(Player::catch_up);
}

#[test]
fn a_message_of_four_mebibytes_is_echoed_whole() {
    let arguments = ["--shards", "2", "--enable-echo"].map(String::from).to_vec();
    let relay = Relay::set_up(Setup { arguments, ..Setup::default() });
    let url = format!("ws://{}/echo", relay.listen);
    let (mut echo, _) = tungstenite::client::client(url, connect(relay.listen, None)).unwrap();
    let message: Vec<u8> = (0..1u32 << 20).flat_map(u32::to_be_bytes).collect();
    for _ in 0..2 {
        echo.send(Message::Binary(message.clone().into())).unwrap();
        assert!(echo.read().unwrap().into_data() == message[..], "something else came back");
    }
}

#[test]
fn two_hundred_players_on_four_shards_have_fresh_views() {
    const GAMES: usize = 20;
    const PLAYERS: usize = 10;
    let relay = Relay::start_shards(4, "");
    let mut games: Vec<Vec<Player>> = (0..GAMES)
        .map(|game| (0..PLAYERS).map(|_| Player::join(&relay, &format!("/play/game-{game}"))).collect())
        .collect();
    assert_eq!(relay.metric("corelay_games", &[]), GAMES as u64);
    assert_eq!(relay.metric("corelay_seats", &[]), (GAMES * PLAYERS) as u64);

    // Everybody moves, then everybody must have seen everybody; again and again.
    let started = Instant::now();
    let mut rounds: u16 = 0;
    while started.elapsed() < Duration::from_secs(3) {
        rounds += 1;
        for (game, players) in games.iter_mut().enumerate() {
            for player in players {
                player.send(move_to(rounds, f32::from(rounds), game as f32));
            }
        }
        for (game, players) in games.iter_mut().enumerate() {
            let ids: Vec<u32> = players.iter().map(Player::id).collect();
            let expected: BTreeMap<_, _> =
                ids.iter().map(|id| (*id, (f32::from(rounds), game as f32))).collect();
            for player in players {
                player.until_view("everybody where they are now", |view| view.positions == expected);
            }
        }
    }
    assert!(rounds > 3, "only {rounds} rounds in 3 s");
    let moves = u64::from(rounds) * (GAMES * PLAYERS) as u64;
    assert_eq!(relay.metric("corelay_moves_total", &[]), moves);
    assert_eq!(relay.metric("corelay_connections", &["state=\"open\""]), (GAMES * PLAYERS) as u64);
    let shards_used =
        (0..4).filter(|shard| relay.metric("corelay_games", &[&format!("shard=\"{shard}\"")]) > 0);
    assert_eq!(shards_used.count(), 4);
    assert!(started.elapsed() < PATIENCE);
}
