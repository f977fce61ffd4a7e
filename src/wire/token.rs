//! JSON Web Tokens to claims: what a client may do, and until when.

/// What a valid token says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Claims {
    /// `sub`: the user id, 1 to `limits::USER_ID_BYTES_MAX` bytes.
    pub user: Box<str>,
    /// `exp`: unix seconds; the connection is closed then.
    pub expires_at_s: u64,
    /// `name`: display name, at most `limits::NAME_BYTES_MAX` bytes.
    pub name: Option<Box<str>>,
    /// `topics`: patterns such as `game:arena-*`.
    pub topics: Box<[TopicPattern]>,
    /// `host`: may set other players' positions.
    pub host: bool,
}

/// `game:arena-*`, `room:lobby`, `*`: a `*` stands for any run of characters (also none), everything else for itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TopicPattern(Box<str>);

/// Checks tokens against the configured keys; the algorithm is the keys', never the token's.
#[derive(Debug)]
pub struct Verifier {}
