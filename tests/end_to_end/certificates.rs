//! Which certificate whom is served: by name, after a renewal, when it has expired, and when nobody reads it.

use std::io::Write;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use corelay::tls::self_signed::{self, Pair};
use rustix::process::Signal;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::aws_lc_rs;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime, pem::PemObject};
use rustls::version::TLS13;
use rustls::{ClientConfig, ClientConnection, DigitallySignedStruct, Error, SignatureScheme, StreamOwned};

use crate::player::Player;
use crate::records::{move_to, request};
use crate::socket::{self, comes_true};
use crate::stream::{Stream, client_config};
use crate::tls::{TOML, join, openssl_for, pair, start, start_of};

/// Takes whatever certificate it is served.
#[derive(Debug)]
struct Trusting;

impl ServerCertVerifier for Trusting {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn verify_tls13_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        aws_lc_rs::default_provider().signature_verification_algorithms.supported_schemes()
    }
}

fn trusting() -> Arc<ClientConfig> {
    let config = ClientConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
        .with_protocol_versions(&[&TLS13])
        .unwrap()
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(Trusting))
        .with_no_client_auth();
    Arc::new(config)
}

/// The certificate that a client gets that asks for `name`; for an address, a client asks for none.
fn served(address: SocketAddr, name: &str) -> CertificateDer<'static> {
    let name = ServerName::try_from(name.to_owned()).unwrap();
    let client = ClientConnection::new(trusting(), name).unwrap();
    let mut stream = StreamOwned::new(client, socket::connect(address, None));
    stream.conn.complete_io(&mut stream.sock).unwrap();
    stream.conn.peer_certificates().unwrap()[0].clone().into_owned()
}

fn der(pem: &str) -> CertificateDer<'static> {
    CertificateDer::from_pem_slice(pem.as_bytes()).unwrap()
}

#[test]
fn certificates_are_renewed_without_a_restart_and_bad_ones_are_not_taken() {
    let (relay, address, old) = start("");
    let mut ann = join(address, &client_config(&old, &TLS13), "a");
    let new = pair("localhost");
    let trusts = |certificate: &str| {
        let mut stream = Stream::tls(address, &client_config(certificate, &TLS13));
        stream.write_all(request("/play/a").as_bytes()).is_ok()
    };

    relay.place.file("relay.crt", &new.certificate);
    relay.signal(Signal::HUP);
    let line = relay.await_log("the new certificates cannot be used, the old ones stay");
    assert!(line.contains("the key in relay.key does not belong to the certificate in relay.crt"), "{line}");
    assert!(trusts(&old) && !trusts(&new.certificate));

    relay.place.file("relay.key", &new.key);
    relay.signal(Signal::HUP);
    relay.await_log("\"message\":\"certificates read again\"");
    // From here on no shard has the old one.
    for _ in 0..20 {
        assert!(served(address, "localhost") == der(&new.certificate));
    }
    assert!(trusts(&new.certificate) && !trusts(&old));
    ann.catch_up();
    let metrics = relay.fetch("/metrics").1;
    assert!(metrics.contains("corelay_certificate_expires_at_seconds{file=\"relay.crt\"}"), "{metrics}");
}

/// Plays until it is told to stop. Returns how often it moved and saw so.
fn play_until(mut player: Player, stop: &AtomicBool) -> u16 {
    let mut moves = 0;
    while !stop.load(Ordering::Relaxed) {
        moves += 1;
        player.send(move_to(moves, f32::from(moves % 50), 1.0));
        player.until_at(player.id(), (f32::from(moves % 50), 1.0));
    }
    player.leave();
    moves
}

#[test]
fn who_plays_by_tls_does_not_notice_a_renewal_and_newcomers_get_the_new_certificate() {
    const RENEWALS: usize = 5;
    let (relay, address, first) = start("");
    let stop = Arc::new(AtomicBool::new(false));
    let play = |player: Player| {
        let stop = stop.clone();
        thread::spawn(move || play_until(player, &stop))
    };
    let config = client_config(&first, &TLS13);
    let mut playing: Vec<_> =
        (0..8).map(|number| play(join(address, &config, &format!("game-{}", number % 4)))).collect();
    for renewal in 1..=RENEWALS {
        let Pair { certificate, key } = pair("localhost");
        relay.place.file("relay.crt", &certificate);
        relay.place.file("relay.key", &key);
        relay.signal(Signal::HUP);
        assert!(comes_true(|| relay.log_count("\"message\":\"certificates read again\"") == renewal));
        assert!(served(address, "localhost") == der(&certificate), "renewal {renewal}");
        playing.push(play(join(address, &client_config(&certificate, &TLS13), "game-0")));
        thread::sleep(Duration::from_millis(200));
    }
    stop.store(true, Ordering::Relaxed);
    let moves: Vec<u16> = playing.into_iter().map(|player| player.join().unwrap()).collect();
    assert!(moves.iter().all(|moves| *moves > 0) && moves[..8].iter().all(|moves| *moves >= 5), "{moves:?}");
    assert_eq!(relay.metric("corelay_tls_failures_total", &[]), 0);
    relay.await_closes("bye", moves.len() as u64);
    let handshakes = (8 + 2 * RENEWALS) as u64;
    relay.await_metric("corelay_tls_handshakes_total", &[], |done| done == handshakes);
}

#[test]
fn an_expired_certificate_is_told_of_and_what_clients_say_to_it_too() {
    let now_unix_s = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs();
    let Pair { certificate, key } = self_signed::make("localhost", now_unix_s - 400 * 24 * 60 * 60).unwrap();
    let files = vec![("relay.crt", certificate.clone()), ("relay.key", key)];
    let (relay, address) = start_of(TOML.to_owned(), files);
    let line = relay.await_log("the certificate in relay.crt has expired, 35 days ago: clients refuse it");
    assert!(line.contains("\"level\":\"WARN\""), "{line}");

    let mut strict = Stream::tls(address, &client_config(&certificate, &TLS13));
    let error = strict.write_all(request("/play/a").as_bytes()).unwrap_err();
    assert!(error.to_string().contains("certificate expired"), "{error}");
    let line =
        relay.await_log("TLS of a client failed: it refuses the certificate (alert CertificateExpired)");
    assert!(line.contains("\"level\":\"WARN\"") && line.contains("has expired"), "{line}");

    let mut careless = join(address, &trusting(), "a");
    careless.catch_up();
    relay.await_metric("corelay_tls_failures_total", &[], |failures| failures == 1);
}

#[test]
fn the_name_that_a_client_asks_for_chooses_and_without_one_the_first_is_served() {
    let [first, other] = ["localhost", "other.example"].map(pair);
    let toml = format!("{TOML}[[certificate]]\nfile = 'other.crt'\nkey = 'other.key'\n");
    let files = vec![
        ("relay.crt", first.certificate.clone()),
        ("relay.key", first.key),
        ("other.crt", other.certificate.clone()),
        ("other.key", other.key),
    ];
    let (relay, address) = start_of(toml, files);
    let [first, other] = [first.certificate, other.certificate];
    let unnamed = IpAddr::from([127, 0, 0, 1]).to_string();
    for (name, expected) in [
        ("localhost", &first),
        ("other.example", &other),
        ("OTHER.example", &other),
        ("unknown.example", &first),
        (&*unnamed, &first),
    ] {
        assert!(served(address, name) == der(expected), "{name}");
    }
    // An address is no name (RFC 6066 section 3), but some clients send one.
    for name in [&*unnamed, "::1"] {
        let shown = openssl_for(name, address, &["-tls1_3"], &[(&*request("/play/arena"), "101 Switching")])
            .replace('\r', "");
        assert!(shown.contains(first.replace('\r', "").trim()), "{shown}");
        assert!(shown.contains("HTTP/1.1 101 Switching Protocols"), "{shown}");
    }
    assert_eq!(relay.metric("corelay_tls_failures_total", &[]), 0);
}

#[test]
fn who_stops_reading_in_the_handshake_is_ended_in_time_and_holds_up_nobody() {
    const SILENT: usize = 20;
    let [own, long, filler] = ["localhost", "long.example", "filler.example"].map(pair);
    // More than a socket takes that nobody reads from.
    let chain = long.certificate.clone() + &filler.certificate.repeat(350);
    let toml =
        format!("upgrade_timeout_ms = 1500\n{TOML}[[certificate]]\nfile = 'long.crt'\nkey = 'long.key'\n");
    let files = vec![
        ("relay.crt", own.certificate.clone()),
        ("relay.key", own.key),
        ("long.crt", chain),
        ("long.key", long.key),
    ];
    let (relay, address) = start_of(toml, files);
    let mut ann = join(address, &client_config(&own.certificate, &TLS13), "a");
    let silent: Vec<_> = (0..SILENT)
        .map(|_| {
            let name = ServerName::try_from("long.example").unwrap();
            let mut client = ClientConnection::new(trusting(), name).unwrap();
            let mut stream = socket::connect(address, Some(1));
            client.write_tls(&mut stream).unwrap();
            stream
        })
        .collect();
    relay.await_metric("corelay_connections", &["state=\"upgrading\""], |upgrading| upgrading > 0);
    ann.catch_up();
    relay.await_refusals("timeout", SILENT as u64);
    // The descriptors, too, are given back: nobody waits for a send that nobody reads.
    relay.await_metric("corelay_connections", &[], |connections| connections == 1);
    ann.catch_up();
    drop(silent);
    let mut bob = join(address, &client_config(&own.certificate, &TLS13), "a");
    bob.catch_up();
    assert_eq!(relay.log_count("a closed connection does not end"), 0);
}
