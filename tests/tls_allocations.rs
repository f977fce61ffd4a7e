//! What TLS takes of memory, by what the allocator says. What the ciphers take is allocated by aws-lc, which this does not see.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
#![allow(clippy::disallowed_methods, reason = "the certificates are good now")]

use std::io::Write;
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use corelay::tls::certificates::{Certificate, PemFile};
use corelay::tls::{CIPHER_BYTES, Connection, HANDSHAKE_CIPHER_BYTES, ServerConfig, self_signed};
use corelay::wire::encoded::Encoded;
use corelay::wire::frame::Opcode;
use rustls::crypto::aws_lc_rs;
use rustls::pki_types::{CertificateDer, ServerName, pem::PemObject};
use rustls::version::{TLS12, TLS13};
use rustls::{ClientConfig, ClientConnection, RootCertStore, SupportedProtocolVersion};

const ESTIMATE_TOLERANCE: f64 = 0.1;

struct Pair {
    client: ClientConnection,
    server: Connection,
    plain: Vec<u8>,
    reply: Vec<u8>,
    /// What the server has allocated and not freed.
    bytes: i64,
    /// It outlives the connection, as in a relay: its end does not count.
    _config: Arc<ServerConfig>,
}

impl Pair {
    /// Nobody has said anything yet.
    fn fresh(version: &'static SupportedProtocolVersion) -> Self {
        let now_unix_s = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs();
        let pair = self_signed::make("localhost", now_unix_s).unwrap();
        let file = |path: &str, pem: &str| PemFile { path: path.into(), pem: pem.into() };
        let certificate =
            Certificate::read(&file("a.crt", &pair.certificate), &file("a.key", &pair.key)).unwrap();
        let config = Arc::new(ServerConfig::new(vec![certificate]).unwrap());
        let mut roots = RootCertStore::empty();
        roots.add(CertificateDer::from_pem_slice(pair.certificate.as_bytes()).unwrap()).unwrap();
        let client = ClientConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
            .with_protocol_versions(&[version])
            .unwrap()
            .with_root_certificates(roots)
            .with_no_client_auth();
        let name = ServerName::try_from("localhost").unwrap();
        let client = ClientConnection::new(Arc::new(client), name).unwrap();
        let mut server = None;
        let began = allocation_counter::measure(|| server = Some(Connection::new(&config).unwrap()));
        Self {
            client,
            server: server.unwrap(),
            plain: Vec::with_capacity(4096),
            reply: Vec::with_capacity(64 * 1024),
            bytes: began.bytes_current,
            _config: config,
        }
    }

    /// The client says all that it has to say now, and the server answers.
    fn step(&mut self) {
        let mut wire = Vec::new();
        while self.client.wants_write() {
            self.client.write_tls(&mut wire).unwrap();
        }
        let Self { server, plain, reply, .. } = self;
        let opened = allocation_counter::measure(|| {
            server.open(&mut wire, plain, reply).unwrap();
        });
        self.bytes += opened.bytes_current;
    }

    /// The client hears the answer.
    fn hear(&mut self) {
        while !self.reply.is_empty() {
            let read = self.client.read_tls(&mut self.reply.as_slice()).unwrap();
            self.reply.drain(..read);
            self.client.process_new_packets().unwrap();
        }
    }

    fn established(version: &'static SupportedProtocolVersion) -> Self {
        let mut pair = Self::fresh(version);
        while pair.client.is_handshaking() || pair.client.wants_write() {
            pair.step();
            pair.hear();
        }
        // The first record makes rustls allocate a queue that it keeps.
        pair.client.writer().write_all(b"first").unwrap();
        pair.step();
        pair
    }
}

/// How far what is counted is off what is allocated, `ciphers` of which are of aws-lc.
fn assert_counted(pair: &Pair, ciphers: usize, what: &str) {
    let counted = (pair.server.heap_bytes() - ciphers) as f64;
    let off = (pair.bytes as f64 - counted).abs() / counted;
    assert!(off < ESTIMATE_TOLERANCE, "{what}: {} bytes, counted {counted}", pair.bytes);
}

#[test]
fn the_memory_of_an_idle_connection_is_what_is_counted() {
    for version in [&TLS12, &TLS13] {
        assert_counted(&Pair::established(version), CIPHER_BYTES, &format!("{version:?}"));
    }
}

#[test]
fn the_memory_of_a_handshake_in_flight_is_what_is_counted() {
    for version in [&TLS12, &TLS13] {
        let mut pair = Pair::fresh(version);
        assert_counted(&pair, 0, "before the first byte");
        pair.step();
        let counted = pair.server.heap_bytes() - HANDSHAKE_CIPHER_BYTES;
        assert!(pair.bytes as usize <= counted, "{version:?}: {} bytes, counted {counted}", pair.bytes);
        if version.version == TLS13.version {
            assert_counted(&pair, HANDSHAKE_CIPHER_BYTES, "answered");
        }
    }
}

#[test]
fn a_record_costs_a_known_number_of_allocations() {
    for version in [&TLS12, &TLS13] {
        let Pair { mut client, mut server, .. } = Pair::established(version);
        let frames: Vec<Encoded> = (0..3).map(|_| Encoded::message(Opcode::Binary, &[7; 200])).collect();
        let (mut plain, mut reply, mut out) =
            (Vec::with_capacity(4096), Vec::with_capacity(4096), Vec::with_capacity(4096));
        for frames in [&frames[..1], &frames[..]] {
            out.clear();
            let sealed = allocation_counter::measure(|| server.seal(frames, &mut out).unwrap());
            assert_eq!((sealed.count_total, sealed.count_current), (1, 0), "to seal, {version:?}");
        }
        client.writer().write_all(&[1; 40]).unwrap();
        let mut wire = Vec::new();
        client.write_tls(&mut wire).unwrap();
        let opened = allocation_counter::measure(|| {
            server.open(&mut wire, &mut plain, &mut reply).unwrap();
        });
        assert_eq!(plain, [1; 40]);
        assert_eq!((opened.count_total, opened.count_current), (1, 0), "to open, {version:?}");
    }
}
