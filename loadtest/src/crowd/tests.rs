//! A crowd against a server of a few lines: `tungstenite` on a thread per connection.

use std::net::{TcpListener, TcpStream};
use std::thread;

use corelay::wire::native::{Move, Welcome};
use tungstenite::protocol::CloseFrame;
use tungstenite::{Message, WebSocket};
use zerocopy::IntoBytes;

use super::*;
use crate::dialect::{DialectName, Members};
use crate::target::Target;
use crate::tokens::Tokens;

struct Seen(Vec<u32>);

impl Listener for Seen {
    fn handle_event(&mut self, slot: u32, event: Event<'_>, _now_ns: u64) {
        if let Event::Positions(_) | Event::Presence(_) = event {
            self.0.push(slot);
        }
    }
}

fn move_frame(crowd: &Crowd, slot: u32) -> Vec<u8> {
    let mut frame = Vec::new();
    crowd.write_move(slot, slot, 1, &mut frame);
    frame
}

/// Serves connection after connection with `serve`, each on a thread, and joins nothing: tests end before they do.
fn crowd(
    dialect: DialectName,
    connections: u32,
    stalled_from: u32,
    serve: impl Fn(usize, TcpStream) + Copy + Send + 'static,
) -> Crowd {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let target = listener.local_addr().unwrap();
    thread::spawn(move || {
        for (number, stream) in listener.incoming().enumerate() {
            thread::spawn(move || serve(number, stream.unwrap()));
        }
    });
    let members = Members::new(connections, Tokens::None, |slot| format!("game:{slot}"), |slot| slot);
    let target = Target { authority: target.to_string(), address: target, trust: None };
    let mut plan = Plan::new(&target, dialect.dialect(members), connections);
    plan.stalled_from = stalled_from;
    plan.sources = Some(Sources { first: 0, per_address: 2 });
    // Half of the connections are parked: tests do not see a difference.
    if stalled_from == connections {
        plan.busy = connections / 2;
    }
    Crowd::new(plan).unwrap()
}

#[test]
fn every_source_has_its_share_of_connections() {
    let sources = Sources { first: 20_000, per_address: 10_000 };
    let addresses = [0, 9_999, 10_000, 2_540_000].map(|slot| sources.of(slot).to_string());
    assert_eq!(addresses, ["127.0.0.4", "127.0.0.4", "127.0.0.5", "127.0.1.2"]);
}

fn upgrade(stream: TcpStream) -> WebSocket<TcpStream> {
    let mut socket = tungstenite::accept(stream).unwrap();
    let welcome = Welcome { kind: 0x81, ..Welcome::default() };
    socket.send(Message::binary(welcome.as_bytes().to_vec())).unwrap();
    socket
}

/// Turns until `done`, at most five seconds.
fn turn_until(crowd: &mut Crowd, seen: &mut Seen, done: impl Fn(&mut Crowd, &Seen) -> bool) {
    for _ in 0..5000 {
        if done(crowd, seen) {
            return;
        }
        crowd.turn(1, Duration::from_millis(1), seen).unwrap();
    }
    panic!("it did not happen within five seconds")
}

fn join(crowd: &mut Crowd, connections: u32, seen: &mut Seen) {
    turn_until(crowd, seen, |crowd, _| crowd.ramp(connections, 1e6, clock::now_ns()).unwrap());
}

const DELTA: [u8; 20] = [0x83, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];

#[test]
fn players_join_move_answer_pings_and_say_goodbye() {
    let mut crowd = crowd(DialectName::Native, 3, 3, |_, stream| {
        let mut socket = upgrade(stream);
        socket.send(Message::Ping("alive?".into())).unwrap();
        let (mut pong, mut moved) = (false, false);
        while !(pong && moved) {
            match socket.read().unwrap() {
                Message::Pong(payload) => pong = payload == "alive?",
                Message::Binary(record) => moved = record.len() == size_of::<Move>(),
                other @ (Message::Text(_) | Message::Ping(_) | Message::Close(_) | Message::Frame(_)) => {
                    panic!("{other:?}")
                }
            }
        }
        socket.send(Message::binary(DELTA.to_vec())).unwrap();
        // Answers the goodbye.
        while socket.read().is_ok() {}
    });
    let mut seen = Seen(Vec::new());
    join(&mut crowd, 3, &mut seen);
    assert_eq!((crowd.joined(), crowd.open()), (3, 3));
    // The pong may be on its way: then the move must wait.
    for slot in 0..3 {
        turn_until(&mut crowd, &mut seen, |crowd, _| {
            crowd.try_send(slot, &move_frame(crowd, slot)).unwrap() == Pushed::Sent
        });
    }
    turn_until(&mut crowd, &mut seen, |_, seen| seen.0.len() == 3);
    assert!(!crowd.close_next(2).unwrap() && crowd.close_next(2).unwrap());
    turn_until(&mut crowd, &mut seen, |crowd, _| crowd.is_over());
    assert_eq!((crowd.endings.closes.total(), crowd.endings.failures.total()), (0, 0));
    assert_eq!(crowd.try_send(0, b"x").unwrap(), Pushed::Gone);
}

#[test]
fn a_close_is_counted_with_its_code_and_reason_and_an_end_without_one_as_1006() {
    let mut crowd = crowd(DialectName::Native, 2, 2, |number, stream| {
        let mut socket = upgrade(stream);
        if number == 0 {
            let frame = CloseFrame { code: 1013.into(), reason: "slow".into() };
            socket.close(Some(frame)).unwrap();
            while socket.read().is_ok() {}
        }
    });
    let mut seen = Seen(Vec::new());
    join(&mut crowd, 2, &mut seen);
    turn_until(&mut crowd, &mut seen, |crowd, _| crowd.is_over());
    let closes: Vec<_> = crowd.endings.closes.lines().collect();
    assert_eq!(closes, [("1006 ended without a close frame", 1), ("1013 slow", 1)]);
    assert_eq!((crowd.joined(), crowd.open()), (2, 0));
}

#[test]
fn a_refusal_is_told_and_the_others_join() {
    let mut crowd = crowd(DialectName::Native, 4, 4, |number, mut stream| {
        if number % 2 == 0 {
            drop(upgrade(stream).read());
        } else {
            use std::io::{Read, Write};
            let mut request = [0; 512];
            let _ = stream.read(&mut request).unwrap();
            stream.write_all(b"HTTP/1.1 503 Service Unavailable\r\n\r\nno seat is free\n").unwrap();
        }
    });
    let mut seen = Seen(Vec::new());
    join(&mut crowd, 4, &mut seen);
    assert_eq!(crowd.joined(), 2);
    let failures: Vec<_> = crowd.endings.failures.lines().collect();
    assert_eq!(failures, [("503 Service Unavailable: no seat is free", 2)]);
}

#[test]
fn a_stalled_member_reads_nothing_until_the_end_and_its_close_is_found_then() {
    let mut crowd = crowd(DialectName::Native, 2, 1, |number, stream| {
        let mut socket = upgrade(stream);
        // Slot 1 has joined when its sign of life comes, and reads no more.
        if number == 1 {
            assert!(matches!(socket.read().unwrap(), Message::Pong(_)));
            socket.send(Message::binary(DELTA.to_vec())).unwrap();
            socket.close(Some(CloseFrame { code: 1013.into(), reason: "slow".into() })).unwrap();
        }
        while socket.read().is_ok() {}
    });
    let mut seen = Seen(Vec::new());
    join(&mut crowd, 2, &mut seen);
    crowd.turn(4, Duration::from_millis(20), &mut seen).unwrap();
    crowd.keep_stalled_alive().unwrap();
    for _ in 0..20 {
        crowd.turn(1, Duration::from_millis(5), &mut seen).unwrap();
    }
    assert!(seen.0.is_empty() && crowd.has_stalled());
    crowd.resume_stalled().unwrap();
    turn_until(&mut crowd, &mut seen, |crowd, _| crowd.endings.stalled_closes.total() > 0);
    assert_eq!(seen.0, [1]);
    assert_eq!(crowd.endings.stalled_closes.lines().next(), Some(("1013 slow", 1)));
    assert_eq!(crowd.endings.closes.total(), 0);
}

#[test]
fn phoenix_players_join_after_the_upgrade_and_move_under_the_id_they_were_given() {
    let mut crowd = crowd(DialectName::Phoenix, 2, 2, |_, stream| {
        let mut socket = tungstenite::accept(stream).unwrap();
        let join = socket.read().unwrap().into_text().unwrap();
        let topic = join.split('"').nth(5).unwrap().to_owned();
        assert_eq!(join.as_str(), format!(r#"["1","1","{topic}","phx_join",{{}}]"#));
        let reply = format!(
            r#"["1","1","{topic}","phx_reply",{{"status":"ok","response":{{"player_id":77,"tick_hz":20}}}}]"#
        );
        socket.send(Message::text(reply)).unwrap();
        let state = format!(r#"["1",null,"{topic}","presence_state",{{}}]"#);
        socket.send(Message::text(state)).unwrap();
        let moved = socket.read().unwrap().into_data();
        assert_eq!(&moved[..14], format!("\0\x01\x01\x06\x0a12{topic}{}", "g").as_bytes());
        assert_eq!(&moved[moved.len() - 12..moved.len() - 8], 77_u32.to_be_bytes());
        while socket.read().is_ok() {}
    });
    let mut seen = Seen(Vec::new());
    join(&mut crowd, 2, &mut seen);
    for slot in 0..2 {
        turn_until(&mut crowd, &mut seen, |crowd, _| {
            crowd.try_send(slot, &move_frame(crowd, slot)).unwrap() == Pushed::Sent
        });
    }
    turn_until(&mut crowd, &mut seen, |_, seen| seen.0.len() == 2);
    crowd.say_goodbye(Duration::from_secs(5)).unwrap();
    assert!(crowd.is_over());
    assert_eq!(
        (crowd.endings.closes.total(), crowd.endings.failures.total(), crowd.counters.malformed),
        (0, 0, 0)
    );
}

#[test]
fn a_refused_join_is_no_join_and_is_told_with_its_reason() {
    let mut crowd = crowd(DialectName::Phoenix, 1, 1, |_, stream| {
        let mut socket = tungstenite::accept(stream).unwrap();
        socket.read().unwrap();
        let reply =
            r#"["1","1","game:0","phx_reply",{"status":"error","response":{"reason":"unauthorized"}}]"#;
        socket.send(Message::text(reply)).unwrap();
        while socket.read().is_ok() {}
    });
    join(&mut crowd, 1, &mut Seen(Vec::new()));
    let failures: Vec<_> = crowd.endings.failures.lines().collect();
    assert_eq!((crowd.joined(), &failures[..]), (0, &[("join refused: unauthorized", 1)][..]));
}
