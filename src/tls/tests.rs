//! A rustls client against `Connection`, in virtual time.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::io::{Read, Write};
use std::sync::Arc;
use std::time::Duration;

use proptest::prelude::*;
use rustls::client::{ClientConfig, ClientConnection, WebPkiServerVerifier};
use rustls::crypto::aws_lc_rs;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime, pem::PemObject};
use rustls::time_provider::TimeProvider;
use rustls::version::{TLS12, TLS13};
use rustls::{AlertDescription, RootCertStore, SupportedProtocolVersion};

use super::certificates::{Certificate, CertificateError, PemFile};
use super::connection::ESTABLISHED_BYTES;
use super::{Connection, Opened, ServerConfig, TlsError, self_signed};
use crate::limits::{SELF_SIGNED_DAYS, TLS_PENDING_BYTES_MAX, TLS_SILENT_RECORDS_MAX};
use crate::wire::encoded::Encoded;
use crate::wire::frame::Opcode;

/// As it is on the wire.
const DECODE_ERROR: u8 = 50;
const NOW_UNIX_S: u64 = 1_800_000_000;
const VERSIONS: [&SupportedProtocolVersion; 2] = [&TLS12, &TLS13];

#[derive(Debug)]
struct StoppedClock;

impl TimeProvider for StoppedClock {
    fn current_time(&self) -> Option<UnixTime> {
        Some(UnixTime::since_unix_epoch(Duration::from_secs(NOW_UNIX_S)))
    }
}

fn file(path: &str, pem: impl Into<Vec<u8>>) -> PemFile {
    PemFile { path: path.into(), pem: pem.into() }
}

fn certificate(host: &str) -> Certificate {
    let pair = self_signed::make(host, NOW_UNIX_S).unwrap();
    Certificate::read(&file(&format!("{host}.crt"), pair.certificate), &file("its.key", pair.key)).unwrap()
}

fn config(hosts: &[&str]) -> Arc<ServerConfig> {
    Arc::new(ServerConfig::new(hosts.iter().map(|host| certificate(host)).collect()).unwrap())
}

/// A client that trusts the certificates of `server`.
fn client_config(server: &ServerConfig, versions: &[&'static SupportedProtocolVersion]) -> ClientConfig {
    let mut roots = RootCertStore::empty();
    for certificate in server.certificates() {
        roots.add(certificate.chain[0].clone()).unwrap();
    }
    let provider = Arc::new(aws_lc_rs::default_provider());
    let verifier = WebPkiServerVerifier::builder_with_provider(Arc::new(roots), provider.clone());
    let mut config = ClientConfig::builder_with_details(provider, Arc::new(StoppedClock))
        .with_protocol_versions(versions)
        .unwrap()
        .with_webpki_verifier(verifier.build().unwrap())
        .with_no_client_auth();
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    config
}

/// A client, a server, and what has gone between them.
struct Pair {
    client: ClientConnection,
    server: Connection,
    /// What the server was told.
    plain: Vec<u8>,
    opened: Opened,
}

impl Pair {
    fn new(server: &Arc<ServerConfig>, host: &str, version: &'static SupportedProtocolVersion) -> Self {
        Self::of(server, host, client_config(server, &[version]))
    }

    fn of(server: &Arc<ServerConfig>, host: &str, client: ClientConfig) -> Self {
        let name = ServerName::try_from(host.to_owned()).unwrap();
        Self {
            client: ClientConnection::new(Arc::new(client), name).unwrap(),
            server: Connection::new(server).unwrap(),
            plain: Vec::new(),
            opened: Opened::default(),
        }
    }

    fn established(version: &'static SupportedProtocolVersion) -> Self {
        let mut pair = Self::new(&config(&["localhost"]), "localhost", version);
        pair.talk(|left| left).unwrap();
        assert!(pair.opened.established && !pair.client.is_handshaking());
        pair
    }

    /// Carries bytes until neither has more to say. `split`: how many of those that are left arrive next.
    fn talk(&mut self, mut split: impl FnMut(usize) -> usize) -> Result<(), TlsError> {
        loop {
            let mut wire = Vec::new();
            while self.client.wants_write() {
                self.client.write_tls(&mut wire).unwrap();
            }
            if wire.is_empty() {
                return Ok(());
            }
            let mut left = &mut wire[..];
            while !left.is_empty() {
                let (part, rest) = left.split_at_mut(split(left.len()));
                left = rest;
                let mut reply = Vec::new();
                let opened = self.server.open(part, &mut self.plain, &mut reply);
                self.hear(&reply);
                self.opened = opened?;
            }
        }
    }

    /// Gives the client bytes of the server.
    fn hear(&mut self, mut wire: &[u8]) {
        while !wire.is_empty() {
            self.client.read_tls(&mut wire).unwrap();
            // A handshake that fails is seen by the test at the server.
            let _ = self.client.process_new_packets();
        }
    }

    /// The alert that the client reads in bytes of the server.
    fn alert(&mut self, mut wire: &[u8]) -> AlertDescription {
        self.client.read_tls(&mut wire).unwrap();
        match self.client.process_new_packets() {
            Err(rustls::Error::AlertReceived(alert)) => alert,
            other => panic!("{other:?} instead of an alert"),
        }
    }

    fn seal(&mut self, frames: &[Encoded]) -> Vec<u8> {
        let mut out = Vec::new();
        self.server.seal(frames, &mut out).unwrap();
        out
    }

    fn client_reads(&mut self) -> Vec<u8> {
        let mut read = vec![0; 1 << 20];
        let mut length = 0;
        while let Ok(bytes @ 1..) = self.client.reader().read(&mut read[length..]) {
            length += bytes;
        }
        read.truncate(length);
        read
    }
}

/// How many records these bytes are.
fn records(mut wire: &[u8]) -> usize {
    let mut count = 0;
    while let [_, _, _, high, low, ..] = *wire {
        wire = &wire[5 + usize::from(u16::from_be_bytes([high, low]))..];
        count += 1;
    }
    assert!(wire.is_empty());
    count
}

fn talk_both_ways(pair: &mut Pair, mut split: impl FnMut(usize) -> usize) {
    pair.talk(&mut split).unwrap();
    for round in 0..3_u8 {
        let said = vec![round; 1 + 700 * usize::from(round)];
        pair.client.writer().write_all(&said).unwrap();
        pair.talk(&mut split).unwrap();
        assert_eq!(std::mem::take(&mut pair.plain), said);
        let frame = Encoded::message(Opcode::Binary, &said);
        let sealed = pair.seal(std::slice::from_ref(&frame));
        pair.hear(&sealed);
        assert_eq!(pair.client_reads(), frame.bytes());
    }
    assert!(pair.opened.established);
    assert_eq!(pair.server.heap_bytes(), ESTABLISHED_BYTES, "nothing is kept for a connection that is idle");
}

#[test]
fn both_versions_talk_in_parts_of_each_size() {
    let config = config(&["localhost"]);
    for version in VERSIONS {
        for size in [1, 2, 3, 5, 6, 64, 517, usize::MAX] {
            let mut pair = Pair::new(&config, "localhost", version);
            talk_both_ways(&mut pair, |left| left.min(size));
            assert_eq!(pair.client.protocol_version(), Some(version.version));
            assert_eq!(pair.client.alpn_protocol(), Some(&b"http/1.1"[..]));
            assert_eq!(pair.client.tls13_tickets_received(), 0);
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn both_versions_talk_in_any_split(parts in prop::collection::vec(1..400_usize, 1..20), newer in any::<bool>()) {
        let mut parts = parts.iter().cycle();
        let mut pair = Pair::new(&config(&["localhost"]), "localhost", VERSIONS[usize::from(newer)]);
        talk_both_ways(&mut pair, |left| left.min(*parts.next().unwrap()));
    }
}

#[test]
fn half_a_hello_is_no_error_and_its_other_half_ends_the_handshake() {
    let mut pair = Pair::new(&config(&["localhost"]), "localhost", &TLS13);
    let mut hello = Vec::new();
    pair.client.write_tls(&mut hello).unwrap();
    let half = hello.len() / 2;
    let (first, second) = hello.split_at_mut(half);
    let (mut plain, mut reply) = (Vec::new(), Vec::new());
    assert_eq!(pair.server.open(first, &mut plain, &mut reply).unwrap(), Opened::default());
    assert!(reply.is_empty() && pair.server.heap_bytes() >= first.len());
    assert!(matches!(
        pair.server.seal(&[Encoded::message(Opcode::Ping, b"")], &mut reply),
        Err(TlsError::Over)
    ));
    pair.server.open(second, &mut plain, &mut reply).unwrap();
    pair.hear(&reply);
    pair.talk(|left| left).unwrap();
    assert!(pair.opened.established && plain.is_empty());
}

#[test]
fn what_follows_the_handshake_at_once_is_plain_text_and_the_rest_waits() {
    for version in VERSIONS {
        let mut pair = Pair::new(&config(&["localhost"]), "localhost", version);
        pair.client.writer().write_all(b"GET /play/a HTTP/1.1\r\n\r\n").unwrap();
        pair.talk(|left| left).unwrap();
        assert_eq!(pair.plain, b"GET /play/a HTTP/1.1\r\n\r\n");
        pair.client.writer().write_all(&[7; 100]).unwrap();
        let mut wire = Vec::new();
        pair.client.write_tls(&mut wire).unwrap();
        let end = wire.len() - 1;
        let (most, last) = wire.split_at_mut(end);
        let mut plain = Vec::new();
        pair.server.open(most, &mut plain, &mut Vec::new()).unwrap();
        assert!(plain.is_empty() && pair.server.heap_bytes() >= ESTABLISHED_BYTES + most.len());
        // Another thread goes on with it.
        let mut moved = std::thread::spawn(move || pair.server).join().unwrap();
        moved.open(last, &mut plain, &mut Vec::new()).unwrap();
        assert_eq!(plain, [7; 100]);
    }
}

#[test]
fn whoever_speaks_http_is_told_what_this_port_speaks() {
    let mut server = Connection::new(&config(&["localhost"])).unwrap();
    let mut reply = Vec::new();
    let mut request = *b"GET /play/a HTTP/1.1\r\nHost: a\r\n\r\n";
    let error = server.open(&mut request, &mut Vec::new(), &mut reply).unwrap_err();
    assert!(matches!(error, TlsError::PlainHttp));
    let answer = String::from_utf8(reply).unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    assert!(head.starts_with("HTTP/1.1 400 ") && body.starts_with("This port speaks TLS"), "{answer}");
    assert!(head.contains(&format!("Content-Length: {}\r\n", body.len())), "{answer}");
    let again = server.open(&mut request, &mut Vec::new(), &mut Vec::new());
    assert!(matches!(again, Err(TlsError::Over)));
}

#[test]
fn why_a_client_does_not_take_the_certificate_is_said_in_words() {
    let [server, before, other] =
        [&["localhost"], &["localhost"], &["other.example"]].map(|hosts| config(hosts));
    let old = self_signed::make("localhost", NOW_UNIX_S - 2 * 86_400 * u64::from(SELF_SIGNED_DAYS)).unwrap();
    let old = Certificate::read(&file("old.crt", old.certificate), &file("old.key", old.key)).unwrap();
    let old = Arc::new(ServerConfig::new(vec![old]).unwrap());
    for (server, trusted, host, alert, meaning) in [
        (&server, &other, "localhost", "UnknownCA", "self-signed, or its chain is missing"),
        (&server, &before, "localhost", "DecryptError", "another one of the same name"),
        (&server, &server, "elsewhere", "BadCertificate", "for another name"),
        (&old, &old, "localhost", "CertificateExpired", "expired, by the client's clock"),
    ] {
        for version in VERSIONS {
            let mut pair = Pair::of(server, host, client_config(trusted, &[version]));
            let error = pair.talk(|left| left).unwrap_err();
            let TlsError::CertificateRefused { .. } = &error else { panic!("{error:?}") };
            let text = error.to_string();
            assert!(text.contains(alert) && text.contains(meaning), "{text}");
        }
    }
}

#[test]
fn a_client_of_before_tls_1_2_has_nothing_in_common() {
    let mut server = Connection::new(&config(&["localhost"])).unwrap();
    // A hello of TLS 1.1 with one cipher, without extensions.
    let mut hello = vec![22, 3, 1, 0, 45, 1, 0, 0, 41, 3, 2];
    hello.extend([7; 32]);
    hello.extend([0, 0, 2, 0xc0, 0x13, 1, 0]);
    let error = server.open(&mut hello, &mut Vec::new(), &mut Vec::new()).unwrap_err();
    assert!(matches!(error, TlsError::NothingInCommon(_)), "{error:?}");
}

#[test]
fn what_is_no_tls_is_answered_by_an_alert() {
    let mut server = Connection::new(&config(&["localhost"])).unwrap();
    let mut reply = Vec::new();
    let error = server.open(&mut [0x80; 64], &mut Vec::new(), &mut reply).unwrap_err();
    assert!(matches!(error, TlsError::NotTls), "{error}");
    assert_eq!((reply[0], records(&reply)), (21, 1), "an alert");
}

#[test]
fn a_client_gets_the_certificate_of_its_name() {
    let server = config(&["first.example", "*.example.org", "www.example.org"]);
    let own = |index: usize| server.certificates()[index].chain[0].clone();
    let names = [
        ("first.example", 0),
        ("www.example.org", 2),
        ("WWW.example.org", 2),
        ("eu.example.org", 1),
        ("a.eu.example.org", 0),
        ("unknown.example", 0),
        ("127.0.0.1", 0),
    ];
    for (name, expected) in names {
        let mut pair = Pair::of(&server, name, client_config(&server, &VERSIONS));
        // Where the name is not the certificate's, the client ends it, with an alert.
        let _ = pair.talk(|left| left);
        let given = pair.client.peer_certificates();
        let known = [("a.eu.example.org", 0), ("unknown.example", 0), ("127.0.0.1", 0)];
        if known.contains(&(name, expected)) {
            assert!(given.is_none() && !pair.opened.established, "{name}");
            assert_eq!(super::certificates::choose(server.certificates(), Some(name)), 0);
        } else {
            assert_eq!(given.unwrap()[0], own(expected), "{name}");
        }
    }
}

#[test]
fn several_frames_are_one_record_and_a_long_one_is_two() {
    for version in VERSIONS {
        let mut pair = Pair::established(version);
        let frames: Vec<Encoded> =
            (0..64).map(|byte| Encoded::message(Opcode::Binary, &[byte; 100])).collect();
        let sealed = pair.seal(&frames);
        assert_eq!(records(&sealed), 1);
        pair.hear(&sealed);
        let bytes: Vec<u8> = frames.iter().flat_map(|frame| frame.bytes().to_vec()).collect();
        assert_eq!(pair.client_reads(), bytes);

        let long = Encoded::raw(vec![1; 16 * 1024 + 1]);
        let sealed = pair.seal(std::slice::from_ref(&long));
        assert_eq!(records(&sealed), 2);
        pair.hear(&sealed);
        assert_eq!(pair.client_reads(), long.bytes());

        pair.client.writer().write_all(long.bytes()).unwrap();
        pair.talk(|left| left.min(1000)).unwrap();
        assert_eq!(pair.plain, long.bytes());
    }
}

#[test]
fn a_key_update_is_answered_and_a_flood_of_them_ends_the_connection() {
    let mut pair = Pair::established(&TLS13);
    let frames = [Encoded::message(Opcode::Binary, b"one"), Encoded::message(Opcode::Binary, b"two")];
    for round in 0..100 {
        pair.client.refresh_traffic_keys().unwrap();
        pair.client.writer().write_all(b"data").unwrap();
        pair.talk(|left| left).unwrap();
        let sealed = pair.seal(&frames[..1 + round % 2]);
        assert_eq!(records(&sealed), 2, "the answer to the update, and then the frames");
        pair.hear(&sealed);
        assert_eq!(pair.client_reads().len(), 5 * (1 + round % 2));
    }
    let mut longest = 0;
    let flood = (0..100).find_map(|_| {
        pair.client.refresh_traffic_keys().unwrap();
        let mut wire = Vec::new();
        while pair.client.wants_write() {
            pair.client.write_tls(&mut wire).unwrap();
        }
        let mut reply = Vec::new();
        let error = pair.server.open(&mut wire, &mut Vec::new(), &mut reply).err();
        longest = longest.max(reply.len());
        error
    });
    assert!(flood.unwrap().to_string().contains("KeyUpdate"));
    assert!(longest < 64, "{longest} bytes of answer");
}

#[test]
fn a_close_is_told_in_both_directions() {
    for version in VERSIONS {
        let mut pair = Pair::established(version);
        pair.client.writer().write_all(b"last").unwrap();
        pair.client.send_close_notify();
        pair.talk(|left| left).unwrap();
        assert_eq!((&pair.plain[..], pair.opened.peer_closed), (&b"last"[..], true));
        let sealed = pair.seal(&[Encoded::message(Opcode::Binary, b"still")]);
        pair.hear(&sealed);
        assert_eq!(pair.client_reads().len(), 7, "the other direction is open");
        let mut close = Vec::new();
        pair.server.seal_close(&mut close);
        assert_eq!(records(&close), 1);
        let mut wire = &close[..];
        pair.client.read_tls(&mut wire).unwrap();
        assert!(pair.client.process_new_packets().unwrap().peer_has_closed());
        let after = pair.server.seal(&[Encoded::message(Opcode::Binary, b"no")], &mut close);
        assert!(after.is_err(), "nothing follows it");
    }
}

#[test]
fn before_the_end_of_the_handshake_there_is_nothing_to_close() {
    let mut out = Vec::new();
    Connection::new(&config(&["localhost"])).unwrap().seal_close(&mut out);
    assert!(out.is_empty());
}

#[test]
fn a_hello_without_end_is_not_kept() {
    let mut server = Connection::new(&config(&["localhost"])).unwrap();
    // A ClientHello of 65,000 bytes in records of 16 KiB.
    let mut record = vec![22, 3, 1, 0x40, 0, 1, 0, 0xfd, 0xe8];
    record.resize(5 + 0x4000, 0);
    let mut reply = Vec::new();
    assert!(server.open(&mut record, &mut Vec::new(), &mut reply).is_ok());
    record[5..9].fill(0);
    let error = server.open(&mut record, &mut Vec::new(), &mut reply).unwrap_err();
    assert!(matches!(error, TlsError::TooLong), "{error}");
    assert_eq!(reply, [21, 3, 3, 0, 2, 2, DECODE_ERROR], "the client is told");
    assert!(server.heap_bytes() < TLS_PENDING_BYTES_MAX);
}

/// A record of this type that has so many bytes of nothing in it.
fn empty_record(content: u8, bytes: u16) -> Vec<u8> {
    let [high, low] = bytes.to_be_bytes();
    let mut record = vec![content, 3, 3, high, low];
    record.resize(5 + usize::from(bytes), 0);
    record
}

#[test]
fn a_record_that_is_too_long_is_answered_by_an_alert() {
    let mut server = Connection::new(&config(&["localhost"])).unwrap();
    let mut reply = Vec::new();
    let error = server.open(&mut empty_record(22, 0x4001 + 2048), &mut Vec::new(), &mut reply).unwrap_err();
    assert!(matches!(error, TlsError::Protocol(_)), "{error}");
    assert_eq!(reply, [21, 3, 3, 0, 2, 2, DECODE_ERROR]);
    for version in VERSIONS {
        // Longer than any record may be; as long as one may be, and sealed by nobody.
        for (bytes, expected) in
            [(0x4001 + 2048, AlertDescription::DecodeError), (0x4001 + 22, AlertDescription::BadRecordMac)]
        {
            let mut pair = Pair::established(version);
            let mut reply = Vec::new();
            let mut record = empty_record(23, bytes);
            let error = pair.server.open(&mut record, &mut Vec::new(), &mut reply).unwrap_err();
            assert!(matches!(error, TlsError::Protocol(_)), "{error}");
            assert_eq!(pair.alert(&reply), expected, "{version:?}");
        }
    }
}

#[test]
fn who_offers_only_another_protocol_is_refused() {
    let server = config(&["localhost"]);
    let mut client = client_config(&server, &VERSIONS);
    client.alpn_protocols = vec![b"h2".to_vec()];
    let error = Pair::of(&server, "localhost", client).talk(|left| left).unwrap_err();
    assert!(error.to_string().contains("protocol"), "{error}");
}

#[test]
fn a_certificate_tells_its_names_and_its_end() {
    let certificate = certificate("play.example.org");
    assert_eq!(certificate.names, ["play.example.org"]);
    let days = i64::from(SELF_SIGNED_DAYS);
    assert_eq!(certificate.expires_at_unix_s, NOW_UNIX_S as i64 + days * 24 * 60 * 60);
}

#[test]
fn errors_name_the_file_and_what_is_wrong() {
    let pair = self_signed::make("localhost", NOW_UNIX_S).unwrap();
    let other = self_signed::make("localhost", NOW_UNIX_S).unwrap();
    let error = |certificate: &str, key: &str| -> String {
        let read = Certificate::read(&file("a.crt", certificate), &file("a.key", key));
        let error = read.and_then(|certificate| ServerConfig::new(vec![certificate])).err();
        error.map_or_else(String::new, |error: CertificateError| error.to_string())
    };
    assert_eq!(error(&pair.certificate, &pair.key), "");
    let mismatch = error(&pair.certificate, &other.key);
    assert!(
        mismatch.starts_with("the key in a.key does not belong to the certificate in a.crt: "),
        "{mismatch}"
    );
    assert!(error(&pair.key, &pair.certificate).starts_with("a.crt has a key and no certificate"));
    assert!(error("", &pair.key).starts_with("a.crt has no certificate"));
    assert!(error(&pair.certificate, "").starts_with("a.key has no private key"));
    let encrypted = pair.key.replace("PRIVATE KEY", "ENCRYPTED PRIVATE KEY");
    assert!(error(&pair.certificate, &encrypted).contains("has to be decrypted first"));
    let cut = &pair.certificate[..pair.certificate.len() / 2];
    assert!(error(cut, &pair.key).starts_with("a.crt is not PEM"), "{}", error(cut, &pair.key));
    let empty = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";
    assert!(error(empty, &pair.key).starts_with("a.crt: the certificate cannot be read"));
    let empty = "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n";
    assert!(error(&pair.certificate, empty).starts_with("a.key: the key cannot be used"));
    assert!(ServerConfig::new(Vec::new()).is_err());
    assert!(self_signed::make("no host", NOW_UNIX_S).is_ok(), "rcgen takes any ASCII");
}

#[test]
fn a_chain_is_sent_as_it_is_in_the_file() {
    let pair = self_signed::make("localhost", NOW_UNIX_S).unwrap();
    let other = self_signed::make("ca", NOW_UNIX_S).unwrap();
    let chain = file("a.crt", format!("{}{}", pair.certificate, other.certificate));
    let read = Certificate::read(&chain, &file("a.key", pair.key.clone())).unwrap();
    let ders =
        [&pair, &other].map(|pair| CertificateDer::from_pem_slice(pair.certificate.as_bytes()).unwrap());
    assert_eq!(read.chain, ders);
    assert_eq!(read.key, PrivateKeyDer::from_pem_slice(pair.key.as_bytes()).unwrap());
}

#[test]
fn what_records_are_longer_than_they_say_is_counted() {
    let mut pair = Pair::established(&TLS13);
    for said in [&b"a"[..], b"b", &[b'c'; 5_000]] {
        pair.client.writer().write_all(said).unwrap();
    }
    pair.talk(|left| left).unwrap();
    // A head of 5 bytes, the kind, a tag of 16.
    assert_eq!((pair.opened.records, pair.opened.overhead_bytes), (3, 3 * 22));
}

#[test]
fn updates_of_keys_are_counted_and_bounded_however_much_is_said_between_them() {
    let mut pair = Pair::established(&TLS13);
    for number in 0..TLS_SILENT_RECORDS_MAX {
        pair.client.refresh_traffic_keys().unwrap();
        pair.client.writer().write_all(b"!").unwrap();
        pair.talk(|left| left).unwrap();
        assert_eq!(pair.opened.silent_records, 1, "update {number}");
    }
    for _ in 0..3_000 {
        pair.client.writer().write_all(b"!").unwrap();
        pair.talk(|left| left.div_ceil(2)).unwrap();
        assert_eq!(pair.opened.silent_records, 0);
    }
    pair.client.refresh_traffic_keys().unwrap();
    assert!(matches!(pair.talk(|left| left), Err(TlsError::TooSilent)));
    assert!(pair.client.process_new_packets().unwrap().peer_has_closed(), "the client is told");
    assert!(matches!(pair.server.seal(&[], &mut Vec::new()), Err(TlsError::Over)));
}
