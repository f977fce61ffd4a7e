//! Why a connection with TLS is over before its time, as the log says it.

use crate::limits::{TLS_PENDING_BYTES_MAX, TLS_SILENT_RECORDS_MAX};

/// Why a connection is over. What the peer is to be told of it has been written.
#[derive(Debug, thiserror::Error)]
#[allow(missing_docs, reason = "the texts say it")]
pub enum TlsError {
    #[error("it speaks HTTP without TLS on the port of `listen_tls`: wss://, not ws://")]
    PlainHttp,
    #[error("what it sends is no TLS")]
    NotTls,
    /// A certificate is wrong for all clients, or a client for all certificates: only an operator can tell.
    #[error("it refuses the certificate (alert {alert}): {meaning}")]
    CertificateRefused { alert: String, meaning: &'static str },
    #[error("it has no version or cipher of TLS in common with the relay, which speaks 1.2 and 1.3 ({0})")]
    NothingInCommon(String),
    #[error("more than {TLS_PENDING_BYTES_MAX} bytes are no complete record or message")]
    TooLong,
    #[error("more than {TLS_SILENT_RECORDS_MAX} records, such as updates of keys, said nothing")]
    TooSilent,
    #[error("it has failed before")]
    Over,
    #[error("{0}")]
    Protocol(String),
}
