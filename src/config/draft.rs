//! Every key's value before the whole is checked, and the embedded defaults.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use super::secrets::{KeyTable, Secret};
use crate::limits;
use crate::room::chat::RoomRules;
use crate::room::game::GameRules;
use crate::session::liveness::Liveness;
use crate::session::rate_limit::Rates;
use crate::wire::token::Algorithm;
use crate::wire::upgrade::OriginPattern;

/// How log lines look.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum LogFormat {
    /// Pretty on a terminal, JSON otherwise.
    #[default]
    Auto,
    /// For people.
    Pretty,
    /// For machines: an object per line.
    Json,
}

/// Every key's value; `Draft::default()` is the embedded default.
#[derive(Debug)]
pub struct Draft {
    /// Where players connect.
    pub listen: SocketAddr,
    /// Address of the admin listener.
    pub admin: SocketAddr,
    /// `None`: one per CPU.
    pub shards: Option<u16>,
    /// `None`: as many as fit.
    pub connections_max: Option<u32>,
    /// How log lines look.
    pub log_format: LogFormat,
    /// Where the store is.
    pub data_dir: PathBuf,
    /// The store ends with the process.
    pub ephemeral: bool,
    /// Memory in which the store has what it has read and written last.
    pub store_cache_bytes: u32,
    /// Allows what is only safe among trusted machines.
    pub insecure: bool,
    /// `GET /echo` exists.
    pub enable_echo: bool,
    /// Origins allowed instead of the request's own host.
    pub allowed_origins: Vec<OriginPattern>,
    /// The token that the admin pages want, if it is not in `admin_token_file`.
    pub admin_token: Option<Secret>,
    /// The file that holds the token of the admin pages.
    pub admin_token_file: Option<PathBuf>,
    /// The key of tokens that has no name, if it is not in `jwt_key_file`. With neither, and no `[[key]]`: development mode.
    pub jwt_key: Option<Secret>,
    /// The file that holds the key without a name.
    pub jwt_key_file: Option<PathBuf>,
    /// Algorithm of the key without a name, and of each `[[key]]` that sets no other.
    pub jwt_algorithm: Algorithm,
    /// Keys with names.
    pub keys: Vec<KeyTable>,
    /// Bound of a connection's reliable lane.
    pub outbox_bytes_max: u32,
    /// Inbound message limit.
    pub message_bytes_max: u32,
    /// From accept to the complete request head.
    pub upgrade_timeout: Duration,
    /// How long a client that came to `/socket` without a token may be without a topic.
    pub socket_join_timeout: Duration,
    /// `/socket` wants a token with the request.
    pub socket_token_required: bool,
    /// `None`: any number.
    pub connections_per_address: Option<u32>,
    /// `SO_SNDBUF` of a connection.
    pub send_buffer_bytes: u32,
    /// Connections of all shards that a drain closes per `DRAIN_BATCH_INTERVAL`.
    pub drain_batch: u32,
    /// How long clients may be silent.
    pub liveness: Liveness,
    /// Members of a topic up to which they are told who else is there.
    pub presence_list_max: u32,
    /// Rate limits of a player.
    pub rates: Rates,
    /// Rules of games, in order: the first whose pattern matches applies.
    pub games: Vec<GameRules>,
    /// The same.
    pub rooms: Vec<RoomRules>,
}

impl Default for Draft {
    fn default() -> Self {
        Self {
            listen: SocketAddr::from(([127, 0, 0, 1], 4000)),
            admin: SocketAddr::from(([127, 0, 0, 1], 4001)),
            shards: None,
            connections_max: None,
            log_format: LogFormat::Auto,
            data_dir: "corelay-data".into(),
            ephemeral: false,
            store_cache_bytes: limits::STORE_CACHE_BYTES,
            insecure: false,
            enable_echo: false,
            allowed_origins: Vec::new(),
            admin_token: None,
            admin_token_file: None,
            jwt_key: None,
            jwt_key_file: None,
            jwt_algorithm: Algorithm::Hs256,
            keys: Vec::new(),
            outbox_bytes_max: limits::OUTBOX_BYTES_MAX as u32,
            message_bytes_max: limits::MESSAGE_BYTES_MAX as u32,
            upgrade_timeout: limits::UPGRADE_TIMEOUT,
            socket_join_timeout: limits::SOCKET_JOIN_TIMEOUT,
            socket_token_required: false,
            connections_per_address: None,
            send_buffer_bytes: limits::SEND_BUFFER_BYTES as u32,
            drain_batch: limits::DRAIN_BATCH,
            liveness: Liveness::default(),
            presence_list_max: limits::PRESENCE_LIST_MAX,
            rates: Rates::default(),
            games: Vec::new(),
            rooms: Vec::new(),
        }
    }
}
