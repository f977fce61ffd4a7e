//! One client's TLS, by rustls: the only file that names it. The unbuffered interface is used, which keeps no buffers of its own for
//! a connection that is idle.

use std::fmt;
use std::sync::Arc;

use rustls::crypto::aws_lc_rs;
use rustls::server::{
    ClientHello, NoServerSessionStorage, ResolvesServerCert, ServerConnectionData, UnbufferedServerConnection,
};
use rustls::sign::CertifiedKey;
use rustls::unbuffered::{
    ConnectionState, EncodeError, EncodeTlsData, EncryptError, InsufficientSizeError, ReadTraffic,
    WriteTraffic,
};
use rustls::version::{TLS12, TLS13};
use rustls::{AlertDescription, Error, InconsistentKeys, InvalidMessage};

use super::certificates::{Certificate, CertificateError, choose};
use super::failure::TlsError;
use crate::impossible;
use crate::limits::{TLS_PENDING_BYTES_MAX, TLS_SILENT_RECORDS_MAX};
use crate::memory::Allocated;
use crate::wire::encoded::Encoded;

/// What is spoken in TLS: HTTP/1.1, which becomes WebSocket.
const PROTOCOL: &[u8] = b"http/1.1";
/// Plaintext of one record.
const RECORD_BYTES_MAX: usize = 16 * 1024;
/// What a record is longer than its plaintext, for the ciphers in use; if it is not enough, rustls says how much is.
const RECORD_OVERHEAD_BYTES: usize = 32;
/// What a client is told that has not been answered yet: the fatal alert `decode_error` (RFC 8446 section 6.2), in the clear.
const DECODE_ERROR_ALERT: &[u8] = &[21, 3, 3, 0, 2, 2, 50];
/// The answer to a client that speaks HTTP without TLS.
const PLAIN_HTTP_ANSWER: &[u8] =
    b"HTTP/1.1 400 Bad Request\r\nContent-Type: text/plain\r\nContent-Length: 49\r\n\
    Connection: close\r\n\r\nThis port speaks TLS: begin with wss:// (https).\n";
/// What rustls has allocated for a connection after its handshake (`tests/tls_allocations.rs`) …
const STATE_BYTES: usize = 1_105;
/// … and what aws-lc has for its two ciphers, by `malloc`: measured as the slope over 500 connections.
pub const CIPHER_BYTES: usize = 1_400;
pub(super) const ESTABLISHED_BYTES: usize = STATE_BYTES + CIPHER_BYTES;
/// What rustls has allocated until a hello is answered (`tests/tls_allocations.rs`) …
const FRESH_BYTES: usize = 792;
/// … and from then on until the handshake is done, with TLS 1.3 (with 1.2 it is 1,241) …
const HANDSHAKE_BYTES: usize = 1_545;
/// … and what aws-lc has for such a one, for keys of the handshake and the hash of what was said (with TLS 1.2 430): by `mallinfo2`,
/// as the slope over 500 connections.
pub const HANDSHAKE_CIPHER_BYTES: usize = 1_560;

/// What most alerts about certificates mean.
const DOES_NOT_SAY: &str =
    "self-signed, without its chain, expired or for another name; the client does not say which";

/// What all connections have in common: certificates and rules.
#[derive(Debug)]
pub struct ServerConfig {
    tls: Arc<rustls::ServerConfig>,
    certificates: Arc<[Certificate]>,
}

impl ServerConfig {
    /// Checks that each certificate can be used, with its key. The first one is for clients that ask for a name that no other has.
    pub fn new(certificates: Vec<Certificate>) -> Result<Self, CertificateError> {
        if certificates.is_empty() {
            return Err(CertificateError::None);
        }
        let keys = certificates.iter().map(certified).collect::<Result<_, _>>()?;
        let certificates: Arc<[Certificate]> = certificates.into();
        let resolver = Resolver { certificates: certificates.clone(), keys };
        let provider = Arc::new(aws_lc_rs::default_provider());
        let mut tls = rustls::ServerConfig::builder_with_provider(provider)
            .with_protocol_versions(&[&TLS13, &TLS12])
            .expect("the provider has ciphers of both versions")
            .with_no_client_auth()
            .with_cert_resolver(Arc::new(resolver));
        tls.alpn_protocols = vec![PROTOCOL.to_vec()];
        // Resumed sessions save little of a handshake with ECDSA, and cost memory.
        tls.session_storage = Arc::new(NoServerSessionStorage {});
        tls.send_tls13_tickets = 0;
        Ok(Self { tls: Arc::new(tls), certificates })
    }

    /// The certificates, in order.
    pub fn certificates(&self) -> &[Certificate] {
        &self.certificates
    }
}

fn certified(certificate: &Certificate) -> Result<Arc<CertifiedKey>, CertificateError> {
    let Certificate { file, key_file, chain, key, .. } = certificate;
    let unusable = |error: Error| CertificateError::Key { file: key_file.clone(), cause: error.to_string() };
    let key = aws_lc_rs::sign::any_supported_type(key).map_err(unusable)?;
    let certified = CertifiedKey::new(chain.clone(), key);
    match certified.keys_match() {
        Ok(()) | Err(Error::InconsistentKeys(InconsistentKeys::Unknown)) => Ok(Arc::new(certified)),
        Err(Error::InconsistentKeys(_)) => {
            Err(CertificateError::Mismatch { key: key_file.clone(), file: file.clone() })
        }
        Err(error) => Err(CertificateError::Certificate { file: file.clone(), cause: error.to_string() }),
    }
}

/// Chooses the certificate by the name that a client asks for.
#[derive(Debug)]
struct Resolver {
    certificates: Arc<[Certificate]>,
    keys: Vec<Arc<CertifiedKey>>,
}

impl ResolvesServerCert for Resolver {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        self.keys.get(choose(&self.certificates, hello.server_name())).cloned()
    }
}

/// What `open` has found.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Opened {
    /// The handshake is done: `seal` may be called.
    pub established: bool,
    /// The peer has said that it sends nothing more.
    pub peer_closed: bool,
    /// Records that came behind the handshake.
    pub records: u32,
    /// Those of them that said nothing to the core: updates of keys, above all, which are dear.
    pub silent_records: u32,
    /// Bytes of these records that are not what the core is given: their heads and tags, and what pads them.
    pub overhead_bytes: usize,
}

impl From<Error> for TlsError {
    fn from(error: Error) -> Self {
        if let Error::AlertReceived(alert) = &error {
            return of_alert(alert);
        }
        if let Error::PeerIncompatible(why) = &error {
            return Self::NothingInCommon(format!("{why:?}"));
        }
        match error == Error::InvalidMessage(InvalidMessage::InvalidContentType) {
            true => Self::NotTls,
            false => Self::Protocol(error.to_string()),
        }
    }
}

/// What a client means that ends its connection by an alert.
fn of_alert(alert: &AlertDescription) -> TlsError {
    let name = format!("{alert:?}");
    let of_certificate = [
        (
            AlertDescription::UnknownCA,
            "it trusts nobody who has signed it: the certificate is self-signed, or its chain is missing in `file`",
        ),
        (AlertDescription::CertificateExpired, "it has expired, by the client's clock"),
        (AlertDescription::CertificateRevoked, "its authority has revoked it"),
        (AlertDescription::UnsupportedCertificate, "it is of a kind that the client does not know"),
        (
            AlertDescription::DecryptError,
            "it trusts another one of the same name, as after a new `corelay cert`",
        ),
        (AlertDescription::BadCertificate, DOES_NOT_SAY),
        (AlertDescription::CertificateUnknown, DOES_NOT_SAY),
    ];
    if let Some((_, meaning)) = of_certificate.iter().find(|(known, _)| known == alert) {
        return TlsError::CertificateRefused { alert: name, meaning };
    }
    match [AlertDescription::HandshakeFailure, AlertDescription::ProtocolVersion].contains(alert) {
        true => TlsError::NothingInCommon(name),
        false => TlsError::Protocol(format!("it has sent the alert {name}")),
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    /// Nothing has come yet.
    Fresh,
    /// Part of a hello has come, and nothing is answered.
    Hello,
    Handshake,
    Established,
    /// It has failed.
    Over,
}

/// One client's TLS. Call `open` with what has come, in order, and `seal` with what is to go out. Everything that either writes goes
/// to the peer, in the order it was written.
pub struct Connection {
    tls: UnbufferedServerConnection,
    stage: Stage,
    /// The peer has said that it sends nothing more.
    peer_closed: bool,
    /// In its life, once it was established.
    silent_records: u32,
    /// What has come of a record, or of a handshake message, that is not complete. rustls decrypts it where it is, and remembers
    /// places in it: so it must see these bytes again, whatever it is asked to do next.
    pending: Vec<u8>,
}

impl fmt::Debug for Connection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Connection").field("stage", &self.stage).finish_non_exhaustive()
    }
}

impl Connection {
    /// A connection whose client has not said anything yet.
    pub fn new(config: &Arc<ServerConfig>) -> Result<Self, TlsError> {
        let tls = UnbufferedServerConnection::new(config.tls.clone())?;
        Ok(Self { tls, stage: Stage::Fresh, peer_closed: false, silent_records: 0, pending: Vec::new() })
    }

    /// Takes what has come. Appends to `plain` what it says, and to `reply` what is to be answered before anything that is sealed
    /// later; after an error, what the client is to be told of it.
    pub fn open(
        &mut self,
        input: &mut [u8],
        plain: &mut Vec<u8>,
        reply: &mut Vec<u8>,
    ) -> Result<Opened, TlsError> {
        match (self.stage, input.first()) {
            (Stage::Over, _) => return Err(TlsError::Over),
            // A record of TLS begins with a number below 32, a request with the letters of its method.
            (Stage::Fresh, Some(first)) if first.is_ascii_uppercase() => {
                self.stage = Stage::Over;
                reply.extend_from_slice(PLAIN_HTTP_ANSWER);
                return Err(TlsError::PlainHttp);
            }
            (Stage::Fresh, Some(_)) => self.stage = Stage::Hello,
            (Stage::Fresh | Stage::Hello | Stage::Handshake | Stage::Established, _) => {}
        }
        if self.pending.is_empty() {
            let (used, outcome) = self.read(input, plain, reply);
            self.pending.extend_from_slice(&input[used..]);
            self.bounded(outcome, reply)
        } else {
            let mut bytes = std::mem::take(&mut self.pending);
            bytes.extend_from_slice(input);
            let (used, outcome) = self.read(&mut bytes, plain, reply);
            if used < bytes.len() {
                bytes.drain(..used);
                self.pending = bytes;
            }
            self.bounded(outcome, reply)
        }
    }

    /// Ends the connection if it is beyond what is borne, of which rustls knows nothing.
    fn bounded(
        &mut self,
        outcome: Result<Opened, TlsError>,
        reply: &mut Vec<u8>,
    ) -> Result<Opened, TlsError> {
        let is_too_long = |pending: &[u8]| pending.len() > TLS_PENDING_BYTES_MAX;
        let error = match &outcome {
            Ok(Opened { peer_closed: false, .. }) if is_too_long(&self.pending) => Some(TlsError::TooLong),
            Ok(_) if self.silent_records > TLS_SILENT_RECORDS_MAX => Some(TlsError::TooSilent),
            Ok(_) | Err(_) => None,
        };
        let outcome = match error {
            Some(error) => {
                self.tell_of_bound(reply);
                Err(error)
            }
            None => outcome,
        };
        match &outcome {
            Ok(opened) if !opened.peer_closed => {}
            Ok(_) => self.pending = Vec::new(),
            Err(_) => {
                self.stage = Stage::Over;
                self.pending = Vec::new();
            }
        }
        outcome
    }

    /// Says that the connection ends. In the middle of a handshake it may be that only rustls could say something, which sends no
    /// alert that it is asked for.
    fn tell_of_bound(&mut self, reply: &mut Vec<u8>) {
        match self.stage {
            Stage::Fresh | Stage::Hello => reply.extend_from_slice(DECODE_ERROR_ALERT),
            Stage::Established => self.seal_close(reply),
            Stage::Handshake | Stage::Over => {}
        }
    }

    /// Returns how many of the bytes are used up.
    fn read(
        &mut self,
        bytes: &mut [u8],
        plain: &mut Vec<u8>,
        reply: &mut Vec<u8>,
    ) -> (usize, Result<Opened, TlsError>) {
        let mut opened = Opened::default();
        let was_established = self.stage == Stage::Established;
        if was_established {
            opened.records = complete_records(bytes);
            opened.silent_records = opened.records;
        }
        let (length, plain_before) = (bytes.len(), plain.len());
        let mut used = 0;
        loop {
            let status = self.tls.process_tls_records(&mut bytes[used..]);
            let mut discard = status.discard;
            let done = match status.state {
                Ok(ConnectionState::ReadTraffic(traffic)) => {
                    let (taken, failed) = take_plain(traffic, plain, &mut opened.silent_records);
                    discard += taken;
                    // There was nothing but plaintext, so rustls has nothing to say: it need not be asked.
                    let is_all = was_established && opened.silent_records == 0 && used + discard == length;
                    failed.map(Err).or(is_all.then_some(Ok(opened)))
                }
                Ok(ConnectionState::EncodeTlsData(data)) => {
                    if self.stage == Stage::Hello {
                        self.stage = Stage::Handshake;
                    }
                    encode(data, reply);
                    None
                }
                Ok(ConnectionState::TransmitTlsData(data)) => {
                    data.done();
                    None
                }
                Ok(ConnectionState::PeerClosed) => {
                    self.peer_closed = true;
                    opened.peer_closed = true;
                    None
                }
                Ok(ConnectionState::WriteTraffic(_)) => {
                    self.stage = Stage::Established;
                    Some(Ok(opened))
                }
                Ok(ConnectionState::BlockedHandshake | ConnectionState::Closed) => Some(Ok(opened)),
                // Early data is not accepted, so no other state is left.
                Ok(_) => {
                    impossible!("rustls is in a known state");
                    Some(Err(TlsError::Over))
                }
                Err(error) => Some(Err(error.into())),
            };
            used += discard;
            let Some(outcome) = done else { continue };
            if outcome.is_err() {
                self.write_alert(&mut bytes[used..], reply);
            }
            self.silent_records += opened.silent_records;
            let established = self.stage == Stage::Established;
            let overhead_bytes = if was_established { used - (plain.len() - plain_before) } else { 0 };
            return (used, outcome.map(|opened| Opened { established, overhead_bytes, ..opened }));
        }
    }

    /// What rustls has to say after an error: one message. Asked for more, it would read on.
    fn write_alert(&mut self, bytes: &mut [u8], reply: &mut Vec<u8>) {
        if let Ok(ConnectionState::EncodeTlsData(data)) = self.tls.process_tls_records(bytes).state {
            encode(data, reply);
        }
    }

    /// Appends frames to `out` as records: one, if they are not longer than a record may be.
    pub fn seal(&mut self, frames: &[Encoded], out: &mut Vec<u8>) -> Result<(), TlsError> {
        let length: usize = frames.iter().map(|frame| frame.bytes().len()).sum();
        let place = out.len();
        let sealed = length + length.div_ceil(RECORD_BYTES_MAX) * RECORD_OVERHEAD_BYTES;
        self.write(out, |mut traffic, out| {
            let start = out.len();
            if let [frame] = frames {
                return fill(out, sealed, |room| traffic.encrypt(frame.bytes(), room));
            }
            let mut room = sealed;
            loop {
                // Several frames become one record: they are put behind the room for it, and cut off again.
                out.truncate(start);
                out.resize(start + room, 0);
                frames.iter().for_each(|frame| out.extend_from_slice(frame.bytes()));
                let (record, plain) = out[start..].split_at_mut(room);
                match traffic.encrypt(plain, record) {
                    Err(EncryptError::InsufficientSize(InsufficientSizeError { required_size })) => {
                        room = required_size;
                    }
                    written => {
                        out.truncate(start + written.as_ref().copied().unwrap_or(0));
                        return written.map(drop);
                    }
                }
            }
        })
        .inspect_err(|_| out.truncate(place))
    }

    /// Appends to `out` that nothing more comes. Before the end of the handshake there is nothing to append.
    pub fn seal_close(&mut self, out: &mut Vec<u8>) {
        if self.stage == Stage::Established {
            let closed = self.write(out, |mut traffic, out| {
                fill(out, RECORD_OVERHEAD_BYTES, |room| traffic.queue_close_notify(room))
            });
            if closed.is_err() {
                self.stage = Stage::Over;
            }
        }
    }

    /// Has `write` append to `out`, behind what rustls itself has to say.
    fn write(
        &mut self,
        out: &mut Vec<u8>,
        write: impl FnOnce(WriteTraffic<'_, ServerConnectionData>, &mut Vec<u8>) -> Result<(), EncryptError>,
    ) -> Result<(), TlsError> {
        if self.stage != Stage::Established {
            return Err(TlsError::Over);
        }
        loop {
            match self.tls.process_tls_records(&mut self.pending).state {
                Ok(ConnectionState::EncodeTlsData(data)) => encode(data, out),
                Ok(ConnectionState::TransmitTlsData(data)) => data.done(),
                Ok(ConnectionState::WriteTraffic(traffic)) => {
                    return write(traffic, out).map_err(|_| Error::EncryptError.into());
                }
                Ok(_) => return Err(TlsError::Over),
                Err(error) => return Err(error.into()),
            }
        }
    }

    /// Whether the peer has said that it sends nothing more.
    pub fn peer_closed(&self) -> bool {
        self.peer_closed
    }

    /// Bytes that it has allocated, beside itself; see `memory`.
    pub fn heap_bytes(&self) -> usize {
        let tls = match self.stage {
            Stage::Established => ESTABLISHED_BYTES,
            Stage::Fresh | Stage::Hello => FRESH_BYTES,
            Stage::Handshake | Stage::Over => HANDSHAKE_BYTES + HANDSHAKE_CIPHER_BYTES,
        };
        tls + self.pending.allocated_bytes()
    }
}

/// Appends what records say. Returns how many bytes they were, and what is wrong with one of them.
fn take_plain(
    mut traffic: ReadTraffic<'_, '_, ServerConnectionData>,
    plain: &mut Vec<u8>,
    silent_records: &mut u32,
) -> (usize, Option<TlsError>) {
    let (mut taken, mut failed) = (0, None);
    while let Some(record) = traffic.next_record() {
        match record {
            Ok(record) => {
                taken += record.discard;
                plain.extend_from_slice(record.payload);
                *silent_records = silent_records.saturating_sub(1);
            }
            Err(error) => failed = Some(error.into()),
        }
    }
    (taken, failed)
}

/// How many records are there as a whole.
fn complete_records(mut bytes: &[u8]) -> u32 {
    let mut count = 0;
    while let [_, _, _, high, low, rest @ ..] = bytes
        && let Some(next) = rest.get(usize::from(u16::from_be_bytes([*high, *low]))..)
    {
        bytes = next;
        count += 1;
    }
    count
}

fn encode<Data>(mut data: EncodeTlsData<'_, Data>, out: &mut Vec<u8>) {
    let encoded = fill(out, 0, |room| match data.encode(room) {
        Ok(written) => Ok(written),
        Err(EncodeError::InsufficientSize(size)) => Err(EncryptError::InsufficientSize(size)),
        Err(EncodeError::AlreadyEncoded) => Ok(0),
    });
    if encoded.is_err() {
        impossible!("there is room for what says how long it is");
    }
}

/// Appends what `write` writes, into `room` bytes or as many as it says it needs.
fn fill(
    out: &mut Vec<u8>,
    room: usize,
    mut write: impl FnMut(&mut [u8]) -> Result<usize, EncryptError>,
) -> Result<(), EncryptError> {
    let start = out.len();
    out.resize(start + room, 0);
    let written = match write(&mut out[start..]) {
        Err(EncryptError::InsufficientSize(InsufficientSizeError { required_size })) => {
            out.resize(start + required_size, 0);
            write(&mut out[start..])
        }
        written => written,
    };
    out.truncate(start + written.as_ref().copied().unwrap_or(0));
    written.map(drop)
}
