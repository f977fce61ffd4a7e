//! One connection of a crowd.

use crate::client::Client;
use crate::secure::Secure;

#[derive(Default)]
pub(super) struct Connection {
    pub client: Client,
    /// `None`: its bytes pass as they are.
    pub tls: Option<Box<Secure>>,
    pub stage: Stage,
    /// It has control frames that wait for the socket.
    pub controls: bool,
    pub sending: bool,
    /// A receive is armed, or about to be.
    pub receiving: bool,
    /// It has stopped reading.
    pub stopped: bool,
    /// A sender was refused with `Busy`, and waits for the socket.
    pub waited_for: bool,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Stage {
    #[default]
    Unstarted,
    Connecting,
    /// Connected, without what tells that it has joined.
    Joining,
    Joined,
    /// Nothing more is sent; the end of the stream is waited for.
    Closing,
    Ended,
}
