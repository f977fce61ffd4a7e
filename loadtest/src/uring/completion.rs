//! What a ring tells of its connections.

use std::io;

use super::buffers::Lent;

/// Something has happened on a connection.
#[derive(Debug)]
pub enum Completion {
    Connected(u32, io::Result<()>),
    /// Bytes came in. Give the buffer back. `armed`: more will come by itself.
    Received {
        slot: u32,
        /// The bytes; see `Ring::bytes`.
        lent: Lent,
        /// Whether the receive goes on.
        armed: bool,
    },
    ReceiveEnded(u32, ReceiveEnd),
    /// All of the last `send` has been taken by the kernel, or it failed.
    Sent(u32, io::Result<()>),
}

/// Why a receive ended without bytes.
#[derive(Debug)]
pub enum ReceiveEnd {
    /// All buffers are in use: arm it again when they are back.
    NoBuffers,
    /// `stop_receive` ended it.
    Stopped,
    /// The server will send nothing more.
    Eof,
    Failed(io::Error),
}
