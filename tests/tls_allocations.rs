//! What TLS takes of memory, by what the allocator says. What the ciphers take is allocated by aws-lc, which this does not see.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
#![allow(clippy::disallowed_methods, reason = "the certificates are good now")]

use std::io::Write;
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use corelay::tls::certificates::{Certificate, PemFile};
use corelay::tls::{CIPHER_BYTES, Connection, ServerConfig, self_signed};
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
    /// What the server has allocated and not freed.
    bytes: i64,
}

fn established(version: &'static SupportedProtocolVersion) -> Pair {
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
    let mut client = ClientConnection::new(Arc::new(client), name).unwrap();

    let mut server = None;
    let began = allocation_counter::measure(|| server = Some(Connection::new(&config).unwrap()));
    let (mut server, mut bytes) = (server.unwrap(), began.bytes_current);
    let (mut plain, mut reply) = (Vec::with_capacity(4096), Vec::with_capacity(64 * 1024));
    while client.wants_write() {
        let mut wire = Vec::new();
        client.write_tls(&mut wire).unwrap();
        bytes += allocation_counter::measure(|| {
            server.open(&mut wire, &mut plain, &mut reply).unwrap();
        })
        .bytes_current;
        while !reply.is_empty() {
            let read = client.read_tls(&mut reply.as_slice()).unwrap();
            reply.drain(..read);
            client.process_new_packets().unwrap();
        }
    }
    assert!(!client.is_handshaking());
    // The first record makes rustls allocate a queue that it keeps.
    client.writer().write_all(b"first").unwrap();
    let mut wire = Vec::new();
    client.write_tls(&mut wire).unwrap();
    bytes += allocation_counter::measure(|| {
        server.open(&mut wire, &mut plain, &mut reply).unwrap();
    })
    .bytes_current;
    Pair { client, server, bytes }
}

#[test]
fn the_memory_of_an_idle_connection_is_what_is_counted() {
    for version in [&TLS12, &TLS13] {
        let Pair { server, bytes, .. } = established(version);
        let counted = (server.heap_bytes() - CIPHER_BYTES) as f64;
        let off = (bytes as f64 - counted).abs() / counted;
        assert!(off < ESTIMATE_TOLERANCE, "{version:?}: {bytes} bytes, counted {counted}");
    }
}

#[test]
fn a_record_costs_a_known_number_of_allocations() {
    for version in [&TLS12, &TLS13] {
        let Pair { mut client, mut server, .. } = established(version);
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
