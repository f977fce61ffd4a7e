//! TLS between the bytes of a socket and the core: it takes bytes and gives bytes, and makes no system call.
//!
//! `ServerConfig` has the certificates; `Connection` is one client's. What is not to be found here: tickets and stored sessions,
//! client certificates, early data.

pub mod certificates;
mod connection;
mod failure;
pub mod self_signed;
#[cfg(test)]
mod tests;

pub use connection::{CIPHER_BYTES, Connection, HANDSHAKE_CIPHER_BYTES, Opened, ServerConfig};
pub use failure::TlsError;
