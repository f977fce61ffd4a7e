//! Clients with TLS, and completions that come when they are least expected.

#![allow(clippy::disallowed_methods, reason = "the clocks here are real")]

use rustls::client::{ClientConfig, ClientConnection};
use rustls::crypto::aws_lc_rs;
use rustls::pki_types::{CertificateDer, ServerName, pem::PemObject};
use rustls::{AlertDescription, Error, RootCertStore, StreamOwned};

use super::*;
use crate::reasons::RateClass;
use crate::tls::certificates::{Certificate, PemFile};
use crate::tls::self_signed;

for_each_driver! {
    a_hand_over_waits_for_the_end_of_what_tls_has_to_say_and_then_goes_on,
    who_cannot_be_handed_over_is_told_so_by_tls_as_without_it,
    who_has_said_that_it_sends_nothing_more_is_known_to_be_done_where_it_goes,
    an_alert_goes_out_behind_what_is_being_sent,
    a_client_that_reads_nothing_holds_up_no_alert_for_ever,
    the_end_is_told_behind_what_is_being_sent,
    who_is_on_a_shard_that_panics_is_told_the_end_by_tls,
    what_tls_adds_to_bytes_is_charged_like_them,
}

type Client = StreamOwned<ClientConnection, TcpStream>;

/// A relay with a certificate of its own, and clients that trust it.
fn relay_and_trust<D: Tried>() -> (Relay, Arc<ClientConfig>) {
    let pair = self_signed::make("localhost", Clock::start().now().unix_s()).unwrap();
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_slice(pair.certificate.as_bytes()).unwrap()).unwrap();
    let file = |path: &str, pem: String| PemFile { path: path.into(), pem: pem.into_bytes() };
    let certificate =
        Certificate::read(&file("its.crt", pair.certificate), &file("its.key", pair.key)).unwrap();
    let tls = Arc::new(ServerConfig::new(vec![certificate]).unwrap());
    let client = ClientConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    (Relay::start_all::<D>(16, Settings::default(), Some(tls)), Arc::new(client))
}

fn connect(relay: &Relay, trust: &Arc<ClientConfig>) -> Client {
    let socket = TcpStream::connect(relay.address).unwrap();
    socket.set_read_timeout(Some(PATIENCE)).unwrap();
    let tls = ClientConnection::new(trust.clone(), ServerName::try_from("localhost").unwrap()).unwrap();
    StreamOwned::new(tls, socket)
}

/// A player of the game, which it can be on the shard that has accepted it or on the other one.
fn joined(relay: &Relay, trust: &Arc<ClientConfig>, game: &str) -> Client {
    let mut client = connect(relay, trust);
    client.write_all(request(game).as_bytes()).unwrap();
    client.write_all(&PING).unwrap();
    let (mut received, mut buffer) = (Vec::new(), [0; 4096]);
    while !received.ends_with(&PONG) {
        let bytes = client.read(&mut buffer).unwrap();
        assert!(bytes > 0, "the relay has ended the connection");
        received.extend(&buffer[..bytes]);
    }
    client
}

/// What comes until the end, of which TLS must have told: without `close_notify` rustls calls it an error.
fn read_to_close_notify(client: &mut Client) -> Vec<u8> {
    let mut rest = Vec::new();
    client.read_to_end(&mut rest).unwrap_or_else(|error| panic!("{error}, behind {rest:?}"));
    rest
}

/// The alert that ends the connection.
fn read_to_alert(client: &mut Client) -> AlertDescription {
    let error = client.read_to_end(&mut Vec::new()).unwrap_err();
    match error.get_ref().and_then(|error| error.downcast_ref::<Error>()) {
        Some(Error::AlertReceived(alert)) => *alert,
        _ => panic!("{error} instead of an alert"),
    }
}

/// A record of application data that no key has sealed.
const FORGED: [u8; 37] = {
    let mut record = [0; 37];
    (record[0], record[1], record[2], record[4]) = (23, 3, 3, 32);
    record
};

fn a_hand_over_waits_for_the_end_of_what_tls_has_to_say_and_then_goes_on<D: Tried>() {
    let (relay, trust) = relay_and_trust::<D>();
    // Each game twice: shards may accept by turns, and then every second client would find its game where it is.
    for game in game_names().iter().flat_map(|game| [game; 2]).cycle().take(8) {
        let mut client = connect(&relay, &trust);
        relay.trouble.hold_sends(true);
        client.write_all(request(game).as_bytes()).unwrap();
        client.flush().unwrap();
        thread::sleep(Duration::from_millis(30));
        relay.trouble.hold_sends(false);
        let mut answer = [0; 12];
        client.read_exact(&mut answer).unwrap();
        assert_eq!(&answer, b"HTTP/1.1 101");
    }
    assert!(relay.count(|metrics| metrics.hand_overs_out.value()) > 0, "some were handed over");
    relay.stop();
}

fn who_cannot_be_handed_over_is_told_so_by_tls_as_without_it<D: Tried>() {
    let (relay, trust) = relay_and_trust::<D>();
    relay.trouble.refuse_hand_overs();
    let mut refused = 0;
    for game in game_names().iter().flat_map(|game| [game; 2]).cycle().take(8) {
        let mut client = connect(&relay, &trust);
        client.write_all(request(game).as_bytes()).unwrap();
        let mut answer = [0; 12];
        client.read_exact(&mut answer).unwrap();
        if &answer != b"HTTP/1.1 101" {
            let rest = String::from_utf8(read_to_close_notify(&mut client)).unwrap();
            assert!(
                &answer == b"HTTP/1.1 503" && rest.contains("no room where this game is played"),
                "{rest}"
            );
            refused += 1;
        }
    }
    assert!(refused > 0, "some belong to the other shard");
    assert_eq!(relay.count(|metrics| metrics.hand_overs_refused.value()), refused);
    relay.stop();
}

fn who_has_said_that_it_sends_nothing_more_is_known_to_be_done_where_it_goes<D: Tried>() {
    let (relay, trust) = relay_and_trust::<D>();
    for game in game_names().iter().flat_map(|game| [game; 2]).cycle().take(8) {
        let mut client = connect(&relay, &trust);
        client.conn.complete_io(&mut client.sock).unwrap();
        // In one segment; and the socket stays open.
        client.conn.writer().write_all(request(game).as_bytes()).unwrap();
        client.conn.send_close_notify();
        let mut wire = Vec::new();
        while client.conn.wants_write() {
            client.conn.write_tls(&mut wire).unwrap();
        }
        client.sock.write_all(&wire).unwrap();
        let asked_at = std::time::Instant::now();
        read_to_close_notify(&mut client);
        assert!(
            asked_at.elapsed() < Liveness::default().close_after / 2,
            "nobody had to ask whether it is there"
        );
    }
    assert!(relay.count(|metrics| metrics.hand_overs_out.value()) > 0, "some were handed over");
    relay.stop();
}

fn an_alert_goes_out_behind_what_is_being_sent<D: Tried>() {
    let (relay, trust) = relay_and_trust::<D>();
    for game in &game_names() {
        let mut client = joined(&relay, &trust, game);
        relay.trouble.hold_sends(true);
        client.write_all(&PING).unwrap();
        thread::sleep(Duration::from_millis(50));
        client.sock.write_all(&FORGED).unwrap();
        thread::sleep(Duration::from_millis(50));
        relay.trouble.hold_sends(false);
        assert_eq!(read_to_alert(&mut client), AlertDescription::BadRecordMac);
    }
    relay.stop();
}

fn a_client_that_reads_nothing_holds_up_no_alert_for_ever<D: Tried>() {
    let (relay, trust) = relay_and_trust::<D>();
    let mut client = joined(&relay, &trust, "arena");
    relay.trouble.hold_sends(true);
    client.write_all(&PING).unwrap();
    client.sock.write_all(&FORGED).unwrap();
    let started = std::time::Instant::now();
    // The end of the send never comes, so nobody can tell whether an alert may follow it.
    let mut wire = Vec::new();
    client.sock.read_to_end(&mut wire).unwrap();
    assert!(started.elapsed() < PATIENCE / 2, "{:?}", started.elapsed());
    relay.trouble.hold_sends(false);
    relay.stop();
}

fn the_end_is_told_behind_what_is_being_sent<D: Tried>() {
    let (relay, trust) = relay_and_trust::<D>();
    for game in &game_names() {
        let mut client = joined(&relay, &trust, game);
        relay.trouble.hold_sends(true);
        client.write_all(&PING).unwrap();
        thread::sleep(Duration::from_millis(50));
        client.conn.send_close_notify();
        client.flush().unwrap();
        thread::sleep(Duration::from_millis(50));
        relay.trouble.hold_sends(false);
        read_to_close_notify(&mut client);
    }
    relay.stop();
}

fn who_is_on_a_shard_that_panics_is_told_the_end_by_tls<D: Tried>() {
    let (relay, trust) = relay_and_trust::<D>();
    let mut ann = joined(&relay, &trust, &game_names()[1]);
    relay.trouble.poison_all();
    let goodbye = [&[0x88, 8, 0x03, 0xF3][..], b"failed"].concat();
    let rest = read_to_close_notify(&mut ann);
    assert!(rest.ends_with(&goodbye), "{rest:?}");
    let Relay { threads, .. } = relay;
    assert!(threads.into_iter().all(|thread| thread.join().is_err()));
}

fn what_tls_adds_to_bytes_is_charged_like_them<D: Tried>() {
    let (relay, trust) = relay_and_trust::<D>();
    let mut client = joined(&relay, &trust, "arena");
    // A message of 32,000 bytes, of which half come, each in a record of its own: 22 bytes more.
    client.write_all(&[0x82, 0xFE, 0x7D, 0, 0, 0, 0, 0]).unwrap();
    (0..16_000).for_each(|_| client.write_all(&[0]).unwrap());
    let stopped = || relay.count(|metrics| metrics.rate_limited[RateClass::Bytes.index()].value());
    let started = Clock::start();
    while stopped() == 0 {
        assert!(age(started) < PATIENCE, "the relay reads on");
        thread::sleep(Duration::from_millis(5));
    }
    relay.stop();
}
