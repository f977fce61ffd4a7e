//! What stands in for TLS in a relay that is built without it: there is no configuration, so there are no connections.

use std::sync::Arc;

use crate::wire::encoded::Encoded;

mod failure;

pub use failure::TlsError;

pub mod certificates {
    //! Certificates, of which none can be read.

    /// A file that was read.
    #[derive(Clone, Debug)]
    #[allow(missing_docs, reason = "as in the real one")]
    pub struct PemFile {
        pub path: String,
        pub pem: Vec<u8>,
    }

    /// There is none.
    #[derive(Debug)]
    #[allow(missing_docs, reason = "as in the real one")]
    pub struct Certificate {
        pub file: String,
        pub names: Vec<String>,
        pub expires_at_unix_s: i64,
    }

    /// Why a certificate cannot be used.
    #[derive(Debug, thiserror::Error)]
    pub enum CertificateError {
        /// As in the real one.
        #[error("no certificate is configured")]
        None,
        /// Whatever it is.
        #[error("this corelay was built without TLS (feature `tls`): leave `listen_tls` out")]
        Absent,
    }

    impl Certificate {
        /// Refuses it.
        pub fn read(_file: &PemFile, _key: &PemFile) -> Result<Self, CertificateError> {
            Err(CertificateError::Absent)
        }
    }
}

pub mod self_signed {
    //! Certificates for trying, of which none can be made.

    use super::certificates::CertificateError;

    /// A certificate and its key, as PEM.
    #[derive(Debug)]
    #[allow(missing_docs, reason = "the names say it")]
    pub struct Pair {
        pub certificate: String,
        pub key: String,
    }

    /// Refuses it.
    pub fn make(_host: &str, _now_unix_s: u64) -> Result<Pair, CertificateError> {
        Err(CertificateError::Absent)
    }
}

/// There is none.
#[derive(Debug)]
pub enum ServerConfig {}

impl ServerConfig {
    /// Refuses it.
    pub fn new(
        _certificates: Vec<certificates::Certificate>,
    ) -> Result<Self, certificates::CertificateError> {
        Err(certificates::CertificateError::Absent)
    }

    /// Of no configuration.
    pub fn certificates(&self) -> &[certificates::Certificate] {
        match *self {}
    }
}

/// What `open` has found.
#[allow(missing_docs, reason = "as in the real one")]
pub struct Opened {
    pub established: bool,
    pub peer_closed: bool,
    pub records: u32,
    pub silent_records: u32,
    pub overhead_bytes: usize,
}

/// There is none.
#[derive(Debug)]
pub enum Connection {}

#[allow(missing_docs, reason = "as in the real one")]
impl Connection {
    pub fn new(config: &Arc<ServerConfig>) -> Result<Self, TlsError> {
        match **config {}
    }

    pub fn open(&mut self, _: &mut [u8], _: &mut Vec<u8>, _: &mut Vec<u8>) -> Result<Opened, TlsError> {
        match *self {}
    }

    pub fn seal(&mut self, _: &[Encoded], _: &mut Vec<u8>) -> Result<(), TlsError> {
        match *self {}
    }

    pub fn seal_close(&mut self, _: &mut Vec<u8>) {
        match *self {}
    }

    pub fn peer_closed(&self) -> bool {
        match *self {}
    }

    pub fn heap_bytes(&self) -> usize {
        match *self {}
    }
}
