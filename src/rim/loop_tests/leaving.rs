//! Connections that leave their shard: for another one, or because it has panicked.

use super::*;
use crate::limits::GOODBYE_TIME_MAX;

for_each_driver! {
    more_hand_overs_at_once_than_a_mailbox_holds_wait_and_arrive,
    more_hand_overs_than_a_shard_has_room_for_are_answered,
    a_hand_over_that_finds_no_room_is_answered,
    who_is_on_a_shard_that_panics_is_told,
    a_goodbye_takes_no_longer_than_its_time,
}

fn more_hand_overs_at_once_than_a_mailbox_holds_wait_and_arrive<D: Tried>() {
    let relay = Relay::start::<D>(2);
    let games = game_names();
    let clients: Vec<TcpStream> = (0..400).map(|_| TcpStream::connect(relay.address).unwrap()).collect();
    for (number, mut client) in clients.iter().enumerate() {
        client.write_all(request(&games[number % 2]).as_bytes()).unwrap();
    }
    for mut client in &clients {
        client.set_read_timeout(Some(PATIENCE)).unwrap();
        let mut status = [0; 12];
        client.read_exact(&mut status).unwrap();
        assert_eq!(&status, b"HTTP/1.1 101");
    }
    assert!(relay.count(|metrics| metrics.letters_waited.value()) > 0, "the mailboxes were never full");
    assert_eq!(relay.count(|metrics| metrics.hand_overs_refused.value()), 0);
    assert_eq!(relay.count(|metrics| metrics.seats.value()), 400);
    drop(clients);
    relay.stop();
}

/// The close frame of a shard that has panicked.
const GOODBYE: &[u8] = b"\x88\x08\x03\xF3failed";

/// The status of the answer to a request.
fn status(mut client: &TcpStream) -> String {
    client.set_read_timeout(Some(PATIENCE)).unwrap();
    let mut status = [0; 12];
    client.read_exact(&mut status).expect("every request is answered");
    String::from_utf8_lossy(&status).into_owned()
}

fn more_hand_overs_than_a_shard_has_room_for_are_answered<D: Tried>() {
    let settings = Settings { connections_per_shard_max: 100, ..Settings::default() };
    let relay = Relay::start_with::<D>(16, settings);
    let game = &game_names()[0];
    // Some are accepted where their game is. All of them would stay for a while, since none of them hangs up.
    let clients: Vec<TcpStream> = (0..300).map(|_| TcpStream::connect(relay.address).unwrap()).collect();
    for mut client in &clients {
        client.write_all(request(game).as_bytes()).unwrap();
    }
    let statuses: Vec<String> = clients.iter().map(status).collect();
    let with = |wanted: &str| statuses.iter().filter(|status| *status == wanted).count();
    assert_eq!((with("HTTP/1.1 101"), with("HTTP/1.1 503")), (100, 200));
    drop(clients);
    relay.stop();
}

fn a_hand_over_that_finds_no_room_is_answered<D: Tried>() {
    let relay = Relay::start::<D>(16);
    relay.trouble.refuse_hand_overs();
    let mut refused = 0;
    for game in game_names().iter().cycle().take(16) {
        let mut client = TcpStream::connect(relay.address).unwrap();
        client.write_all(request(game).as_bytes()).unwrap();
        if status(&client) == "HTTP/1.1 503" {
            refused += 1;
            let text = String::from_utf8(rest_of(client)).unwrap();
            assert!(text.contains("Retry-After") && text.ends_with("; try again\n"), "{text}");
        }
    }
    assert!(refused > 0, "every client was accepted where its game is");
    assert_eq!(relay.count(|metrics| metrics.hand_overs_refused.value()), refused);
    relay.stop();
}

/// What comes until the end of the connection.
fn rest_of(mut client: TcpStream) -> Vec<u8> {
    let (mut received, mut buffer) = (Vec::new(), [0; 4096]);
    while let Ok(bytes @ 1..) = client.read(&mut buffer) {
        received.extend(&buffer[..bytes]);
    }
    received
}

fn who_is_on_a_shard_that_panics_is_told<D: Tried>() {
    let relay = Relay::start::<D>(16);
    let games = game_names();
    let [ann, mut bob] = [0; 2].map(|_| join(&relay, &games[1]));
    let eve = join(&relay, &games[0]);
    // A pong that nobody asked for, with the order in it.
    bob.write_all(&[&[0x8A, 0x80 | POISON.len() as u8, 0, 0, 0, 0], POISON].concat()).unwrap();
    for client in [ann, bob] {
        let rest = rest_of(client);
        assert!(rest.ends_with(GOODBYE), "{rest:?}");
    }
    // In the relay the main thread then ends the process. In this test the other shard goes on.
    let Relay { mut service, threads, .. } = relay;
    await_pong({
        (&eve).write_all(&PING).unwrap();
        &eve
    });
    drop(eve);
    drain(&mut service, 0);
    let ended: Vec<bool> = threads.into_iter().map(|thread| thread.join().is_ok()).collect();
    assert_eq!(ended, [true, false]);
}

fn a_goodbye_takes_no_longer_than_its_time<D: Tried>() {
    let relay = Relay::start::<D>(16);
    let game = &game_names()[1];
    let mut clients: Vec<TcpStream> = (0..60).map(|_| join(&relay, game)).collect();
    // Each goodbye takes a tenth of the time for all of them.
    relay.trouble.slow_goodbyes_down(GOODBYE_TIME_MAX / 10);
    let poison = [&[0x8A, 0x80 | POISON.len() as u8, 0, 0, 0, 0], POISON].concat();
    clients[0].write_all(&poison).unwrap();
    let told: Vec<bool> = clients.drain(..).map(|client| rest_of(client).ends_with(GOODBYE)).collect();
    let count = told.iter().filter(|told| **told).count();
    assert!((1..=10).contains(&count), "{count} were told");
    assert!(told[..count].iter().all(|told| *told), "those who came first are told first: {told:?}");
    let Relay { mut service, threads, .. } = relay;
    drain(&mut service, 0);
    threads.into_iter().for_each(|thread| drop(thread.join()));
}
