//! HTTP/1.1 request head to an upgrade or a refusal.

use crate::ids::{ResumeToken, TopicName};
use crate::reasons::RefusalReason;

/// What the relay is configured to accept.
#[derive(Clone, Debug, Default)]
pub struct UpgradeRules {
    /// `scheme://host[:port]`, `//host`, `//*.host`, `*`; empty: the request's own host only.
    pub allowed_origins: Vec<Box<str>>,
    /// Development mode: loopback origins are allowed as well.
    pub development: bool,
    /// `GET /echo` exists.
    pub echo: bool,
}

/// Where a request wants to go.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Route {
    /// `/play/{game}`.
    Play {
        /// The game.
        game: TopicName,
        /// `name=`: display name.
        name: Option<Box<str>>,
        /// `resume=`: the seat to take again.
        resume: Option<ResumeToken>,
        /// `seq=`: last event seen.
        seq: Option<u64>,
    },
    /// `/echo`.
    Echo,
}

/// A request that may be upgraded, once its token is checked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Upgrade {
    /// Where it goes.
    pub route: Route,
    /// The token: from the subprotocol list, else from the query.
    pub token: Option<Box<str>>,
    /// Value of `Sec-WebSocket-Accept`.
    pub accept_key: Box<str>,
    /// Subprotocol to echo.
    pub subprotocol: Option<&'static str>,
}

/// A request that is answered with an error status and closed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// Status, and the label in `/metrics`.
    pub reason: RefusalReason,
    /// One line for a person: what was wrong, and what would be right.
    pub text: Box<str>,
}
