//! Every key's value before the whole is checked, and the embedded defaults.

use std::net::SocketAddr;
use std::path::PathBuf;

use super::capacity::Wanted;
use super::certificates::CertificateTable;
use super::secrets::{KeyTable, Secret};
use crate::driver_choice::DriverWish;
use crate::rim::ListenOptions;
use crate::room::chat::RoomRules;
use crate::room::document::DocumentRules;
use crate::room::game::GameRules;
use crate::session::liveness::Liveness;
use crate::session::rate_limit::Rates;
use crate::shard::settings::ClientRules;
use crate::store::settings::StoreSettings;
use crate::wire::token::Algorithm;
use crate::wire::upgrade::UpgradeRules;

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
    /// Where players connect by TLS.
    pub listen_tls: Option<SocketAddr>,
    /// Certificates for it, in order: the first is for names that no other has.
    pub certificates: Vec<CertificateTable>,
    /// Address of the admin listener.
    pub admin: SocketAddr,
    /// Shards, and connections of the whole relay.
    pub wanted: Wanted,
    /// What the shards run on.
    pub driver: DriverWish,
    /// How log lines look.
    pub log_format: LogFormat,
    /// Where the store is, and its memory.
    pub store: StoreSettings,
    /// Allows what is only safe among trusted machines.
    pub insecure: bool,
    /// Which requests are upgraded. Whether it is development mode is only known when the keys of the tokens are.
    pub upgrade: UpgradeRules,
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
    /// How the rim takes connections.
    pub listen_options: ListenOptions,
    /// How long clients may be silent.
    pub liveness: Liveness,
    /// Further rules for every client.
    pub clients: ClientRules,
    /// Rate limits of a player.
    pub rates: Rates,
    /// Rules of games, in order: the first whose pattern matches applies.
    pub games: Vec<GameRules>,
    /// Rules of chat rooms, in order: the first whose pattern matches applies.
    pub rooms: Vec<RoomRules>,
    /// Rules of documents, in order: the first whose pattern matches applies.
    pub documents: Vec<DocumentRules>,
}

impl Default for Draft {
    fn default() -> Self {
        Self {
            listen: SocketAddr::from(([127, 0, 0, 1], 4000)),
            listen_tls: None,
            certificates: Vec::new(),
            admin: SocketAddr::from(([127, 0, 0, 1], 4001)),
            wanted: Wanted::default(),
            driver: DriverWish::Auto,
            log_format: LogFormat::Auto,
            store: StoreSettings::default(),
            insecure: false,
            upgrade: UpgradeRules::default(),
            admin_token: None,
            admin_token_file: None,
            jwt_key: None,
            jwt_key_file: None,
            jwt_algorithm: Algorithm::Hs256,
            keys: Vec::new(),
            listen_options: ListenOptions::default(),
            liveness: Liveness::default(),
            clients: ClientRules::default(),
            rates: Rates::default(),
            games: Vec::new(),
            rooms: Vec::new(),
            documents: Vec::new(),
        }
    }
}

impl Draft {
    /// What capacity is planned for.
    pub fn capacity_wanted(&self) -> Wanted {
        Wanted { has_tls: self.listen_tls.is_some(), ..self.wanted }
    }
}
