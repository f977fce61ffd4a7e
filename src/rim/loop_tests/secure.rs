//! Clients with TLS, and completions that come when they are least expected.

use rustls::client::{ClientConfig, ClientConnection};
use rustls::crypto::aws_lc_rs;
use rustls::pki_types::{CertificateDer, ServerName, pem::PemObject};
use rustls::{RootCertStore, Stream};

use super::*;
use crate::tls::certificates::{Certificate, PemFile};
use crate::tls::self_signed;

for_each_driver! {
    a_hand_over_waits_for_the_end_of_what_tls_has_to_say_and_then_goes_on,
    a_hand_over_that_finds_no_room_is_answered,
}

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

fn a_hand_over_waits_for_the_end_of_what_tls_has_to_say_and_then_goes_on<D: Tried>() {
    let (relay, trust) = relay_and_trust::<D>();
    // Of a few connections and two games, some are accepted on the other shard.
    for game in game_names().iter().cycle().take(8) {
        let mut socket = TcpStream::connect(relay.address).unwrap();
        socket.set_read_timeout(Some(PATIENCE)).unwrap();
        let mut tls =
            ClientConnection::new(trust.clone(), ServerName::try_from("localhost").unwrap()).unwrap();
        relay.trouble.hold_sends(true);
        let mut client = Stream::new(&mut tls, &mut socket);
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

fn a_hand_over_that_finds_no_room_is_answered<D: Tried>() {
    let (relay, trust) = relay_and_trust::<D>();
    relay.trouble.refuse_hand_overs();
    let mut refused = 0;
    for game in game_names().iter().cycle().take(16) {
        let mut socket = TcpStream::connect(relay.address).unwrap();
        socket.set_read_timeout(Some(PATIENCE)).unwrap();
        let mut tls =
            ClientConnection::new(trust.clone(), ServerName::try_from("localhost").unwrap()).unwrap();
        let mut client = Stream::new(&mut tls, &mut socket);
        client.write_all(request(game).as_bytes()).unwrap();
        let mut answer = [0; 12];
        client.read_exact(&mut answer).expect("every request is answered");
        refused += u64::from(&answer == b"HTTP/1.1 503");
    }
    assert!(refused > 0, "every client was accepted where its game is");
    assert_eq!(relay.count(|metrics| metrics.hand_overs_refused.value()), refused);
    relay.stop();
}
