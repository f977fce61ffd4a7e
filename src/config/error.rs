//! What can be wrong with a configuration, each with the way out.

use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;

use thiserror::Error;

use super::capacity::TABLE_ENTRIES_MAX;
use super::secrets::Place;
use super::source::Origin;
use crate::limits::ADMIN_TOKEN_BYTES_MIN;
use crate::tls::certificates::CertificateError;
use crate::wire::token::{KeyError, VerifierError};

/// One line says what is wrong; `remedy` says what to do.
#[derive(Debug, Error)]
#[allow(missing_docs, reason = "the names say it")]
pub enum ConfigError {
    /// The file named by `--config`, or `./corelay.toml`, cannot be read.
    #[error("cannot read the configuration file {}", path.display())]
    FileUnreadable { path: PathBuf, source: io::Error },
    #[error("{origin} is not valid TOML: {message}")]
    Syntax {
        /// File and line.
        origin: Origin,
        message: String,
    },
    #[error("unknown key `{key}` ({origin}){hint}")]
    UnknownKey {
        key: String,
        origin: Origin,
        /// `; did you mean …`, or empty.
        hint: String,
    },
    /// A value of the wrong type, shape or size.
    #[error("`{key}` is {found} ({origin}); it must be {expected}")]
    Value {
        key: String,
        /// The value as written.
        found: String,
        origin: Origin,
        /// What would be right, with the range that is allowed.
        expected: String,
    },
    /// Two values that cannot go together.
    #[error("{what}")]
    Conflict {
        /// Both keys with their values, and how they must relate.
        what: String,
    },
    /// Development mode on an address that strangers can reach.
    #[error(
        "refusing to listen on {listen} in development mode: without a key anybody can join any game as anybody"
    )]
    PublicWithoutKey { listen: SocketAddr },
    /// The admin pages without a token on an address that strangers can reach.
    #[error("refusing to serve the admin pages on {admin} without a token: anybody could kick players there")]
    PublicAdmin { admin: SocketAddr },
    #[error("cannot read the key file {}", path.display())]
    KeyUnreadable { path: PathBuf, source: io::Error },
    /// A `[[key]]` table names a variable that is not set.
    #[error("the key \"{kid}\" is read from the environment variable {variable}, which is not set")]
    KeyNotSet { kid: Box<str>, variable: String },
    /// The text of a key is no key.
    #[error("the key in {place} cannot be used")]
    KeyUnusable {
        place: Place,
        /// What is wrong with it, and what would be right.
        source: KeyError,
    },
    /// Each key is good, but they cannot be used together.
    #[error("the keys of the tokens cannot be used together")]
    Keys(#[from] VerifierError),
    #[error("no key is configured: the relay then runs in development mode, where no token is needed")]
    NoKey,
    /// Several keys could sign, or none has the name that was asked for.
    #[error("no key is called {asked}; --kid may be {}", kids.join(", "))]
    WhichKey {
        /// What was asked for, in quotes; or "nothing".
        asked: String,
        /// Names of all keys, in quotes.
        kids: Vec<String>,
    },
    #[error("cannot read the certificate or key file {}", path.display())]
    CertificateUnreadable { path: PathBuf, source: io::Error },
    #[error(transparent)]
    Certificate(#[from] CertificateError),
    #[error("cannot read the admin token from {}", path.display())]
    AdminTokenUnreadable { path: PathBuf, source: io::Error },
    /// The admin token could be guessed, or cannot be sent in a header.
    #[error(
        "the admin token in {place} has {bytes} bytes; it must have at least {ADMIN_TOKEN_BYTES_MIN}, \
         all of them printable ASCII without spaces"
    )]
    AdminTokenUnusable {
        /// Where the token is.
        place: Place,
        bytes: usize,
    },
    /// More connections than descriptor tables can hold.
    #[error(
        "connections_max = {connections_max} on {shards} shard(s) takes {per_shard} + {reserve} reserved = {needed} \
         descriptor slots in each shard's ring, but a ring holds at most {available} (RLIMIT_NOFILE of this process)"
    )]
    TooManyConnections {
        connections_max: u32,
        shards: u16,
        /// Connections of one shard.
        per_shard: u64,
        /// Slots kept for refusals.
        reserve: u32,
        /// Slots that one ring would need.
        needed: u64,
        /// Slots that one ring can have.
        available: u64,
        /// Number of shards with which it would work.
        shards_needed: Option<u16>,
    },
    /// More connections than the process may have descriptors. Only with epoll.
    #[error(
        "connections_max = {connections_max} is more than RLIMIT_NOFILE of this process, which is {available}, leaves for sockets: \
         with epoll it bounds all shards together"
    )]
    TooManySockets {
        connections_max: u32,
        /// The limit with which it would work.
        needed: u64,
        /// The limit.
        available: u64,
    },
    /// So many connections would take more memory than the machine has.
    #[error(
        "connections_max = {connections_max} takes {connections_max} × ({user} + {kernel}) bytes of the relay's and the kernel's \
         memory = {} MiB, and there are {} MiB", needed >> 20, available >> 20
    )]
    TooLittleMemory {
        connections_max: u32,
        /// The relay's own bytes of an idle player.
        user: u64,
        /// The kernel's bytes of a connection.
        kernel: u64,
        /// What all of them take, in bytes.
        needed: u64,
        /// What the machine or the control group has, in bytes.
        available: u64,
    },
    /// The descriptor limit leaves nothing for players.
    #[error(
        "RLIMIT_NOFILE is {available}: beside what the relay itself needs and what is kept for refusals, that leaves no descriptor \
         for players"
    )]
    TooFewDescriptors {
        /// The limit.
        available: u64,
        /// The limit with which one player would find room.
        needed: u64,
    },
}

impl ConfigError {
    /// What to do about it, where the error itself does not say so.
    pub fn remedy(&self) -> Option<String> {
        match self {
            Self::FileUnreadable { .. } => {
                Some("name another file with --config; without one, corelay.toml is read if it is there, and must be readable".into())
            }
            Self::PublicWithoutKey { .. } => Some(
                "make a key, `(umask 077; openssl rand -hex 32 | tr -d '\\n' > corelay.key)`, and start with --jwt-key-file corelay.key; \
                 or listen on 127.0.0.1; or say --insecure if everybody on this network is trusted"
                    .into(),
            ),
            Self::PublicAdmin { .. } => Some(
                "make one, `(umask 077; openssl rand -hex 32 > admin.token)`, name it as `admin_token_file` (CORELAY_ADMIN_TOKEN_FILE=admin.token), \
                 and send it as `Authorization: Bearer …`; or use a loopback address: --admin 127.0.0.1:4001"
                    .into(),
            ),
            Self::CertificateUnreadable { .. } => {
                Some("check the path and that the relay's user may read it; `corelay cert --self-signed localhost` makes a pair for trying".into())
            }
            Self::Certificate(CertificateError::None) => {
                Some("add a [[certificate]] table; `corelay cert --self-signed localhost` makes a pair for trying".into())
            }
            Self::NoKey => Some(
                "make a key, `(umask 077; openssl rand -hex 32 | tr -d '\\n' > corelay.key)`, start the relay with --jwt-key-file corelay.key, \
                 and give the same flag here"
                    .into(),
            ),
            Self::AdminTokenUnusable { .. } | Self::AdminTokenUnreadable { .. } => {
                Some("`(umask 077; openssl rand -hex 32 > admin.token)` makes a good one".into())
            }
            Self::KeyUnreadable { .. } => {
                Some("check the path and that the relay's user may read it; `(umask 077; openssl rand -hex 32 | tr -d '\\n' > corelay.key)` makes one".into())
            }
            Self::TooManyConnections { needed, shards_needed, .. } => {
                // No limit helps beyond what the kernel allows a table.
                let limit = (*needed <= TABLE_ENTRIES_MAX).then(|| raise_limit(*needed));
                let shards = shards_needed
                    .map(|shards| format!("use `--shards {shards}`: every shard has a table of its own"));
                let ways: Vec<String> = limit.into_iter().chain(shards).collect();
                Some(if ways.is_empty() { "ask for fewer".into() } else { ways.join(", or ") })
            }
            Self::TooManySockets { needed, .. } => Some(format!(
                "{}; or run where io_uring is allowed: there every shard has a table of its own",
                raise_limit(*needed)
            )),
            Self::TooLittleMemory { user, kernel, available, .. } => Some(match available / (user + kernel) {
                0 => "give the machine (or its control group) more memory".into(),
                fitting => format!(
                    "use `--connections-max {fitting}`, or give the machine (or its control group) more memory"
                ),
            }),
            Self::TooFewDescriptors { needed, .. } => Some(format!(
                "raise it: `ulimit -n 20000`, LimitNOFILE= in a systemd unit; the least is {needed}, for one connection"
            )),
            Self::Syntax { .. }
            | Self::UnknownKey { .. }
            | Self::Value { .. }
            | Self::Conflict { .. }
            | Self::KeyNotSet { .. }
            | Self::Certificate(_)
            | Self::Keys(_)
            | Self::WhichKey { .. }
            | Self::KeyUnusable { .. } => None,
        }
    }
}

fn raise_limit(needed: u64) -> String {
    format!(
        "raise the limit (`ulimit -n {needed}`, `LimitNOFILE={needed}` in a systemd unit, `--ulimit nofile={needed}` for a container)"
    )
}
