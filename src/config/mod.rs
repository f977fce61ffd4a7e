//! Configuration: embedded defaults, over them `corelay.toml`, over it `CORELAY_*` variables, over them flags.
//!
//! Every source becomes a list of assignments (`source`), every assignment goes through the one table of keys (`keys`), and at
//! the end `resolve` checks what concerns several keys.

pub mod capacity;
pub mod certificates;
pub mod draft;
pub mod error;
pub mod keys;
mod resolve;
pub mod secrets;
pub mod source;
pub mod value;

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::driver_choice::DriverKind;
use crate::machine::Resources;
use crate::rim::{Clock, ListenOptions};
use crate::shard::settings::Settings;
use crate::store::settings::StoreSettings;
use crate::tls::ServerConfig;
use crate::wire::token::Verifier;
use capacity::Capacity;
use draft::Draft;
use error::ConfigError;
use secrets::{AdminToken, SigningKey};
use source::Assignment;

pub use draft::LogFormat;

/// The file that is read when no other is named.
pub const DEFAULT_FILE: &str = "corelay.toml";

/// The configuration that the process runs with: checked and final.
#[derive(Debug)]
pub struct Config {
    /// Where players connect.
    pub listen: SocketAddr,
    /// Where players connect by TLS, and with which certificates; `None`: nowhere.
    pub tls: Option<(SocketAddr, Arc<ServerConfig>)>,
    /// Where the admin pages are.
    pub admin: SocketAddr,
    /// What operators must show; `None`: nothing, on a loopback address.
    pub admin_token: Option<AdminToken>,
    /// Shards, their tables and queues.
    pub capacity: Capacity,
    /// How the rim takes connections.
    pub listen_options: ListenOptions,
    /// Where the store is, and its memory.
    pub store: StoreSettings,
    /// The file that was read, if any.
    pub file: Option<PathBuf>,
    /// Warnings about what is allowed but probably not meant, a line each.
    pub warnings: Vec<String>,
    /// The part that the shards need.
    pub settings: Settings,
}

/// All that the sources set, before it is checked as a whole.
#[derive(Debug, Default)]
pub struct Loaded {
    /// Every key with its last assignment.
    pub draft: Draft,
    /// The file that was read, if any.
    pub file: Option<PathBuf>,
    /// Variables that look like a key but are none, a line each.
    pub warnings: Vec<String>,
}

/// Reads all sources. `file` is what `--config` named; without it `./corelay.toml` is read if it is there.
pub fn load(
    file: Option<&Path>,
    environment: impl Iterator<Item = (String, String)>,
    flags: Vec<Assignment>,
) -> Result<Loaded, ConfigError> {
    let mut loaded = Loaded::default();
    let default_file = Path::new(DEFAULT_FILE);
    let found = file.or_else(|| default_file.exists().then_some(default_file));
    if let Some(path) = found {
        let text = std::fs::read_to_string(path)
            .map_err(|source| ConfigError::FileUnreadable { path: path.into(), source })?;
        source::assign_file(&mut loaded.draft, path, &text)?;
        loaded.file = Some(path.into());
    }
    let variables: Vec<(String, String)> = environment.collect();
    secrets::look_up(&mut loaded.draft.keys, &variables);
    // A variable that a [[key]] table names holds that key, and is no other setting.
    let is_key = |name: &str| loaded.draft.keys.iter().any(|key| key.env.as_deref() == Some(name));
    let settings = variables.into_iter().filter(|(name, _)| !is_key(name));
    let (assignments, unknown) = source::read_environment(settings);
    loaded.warnings = unknown;
    for assignment in assignments.into_iter().chain(flags) {
        keys::assign(&mut loaded.draft, &assignment)?;
    }
    Ok(loaded)
}

impl Loaded {
    /// Reads the keys of the tokens, as SIGHUP does again. `None`: development mode. `warnings` gets what is allowed but probably
    /// not meant, a line each.
    pub fn verifier(&self, warnings: &mut Vec<String>) -> Result<Option<Verifier>, ConfigError> {
        secrets::verifier(&self.draft, warnings)
    }

    /// Reads the certificates, as SIGHUP does again. `None`: there is no `listen_tls`. `warnings`: as for `verifier`.
    pub fn certificates(&self, warnings: &mut Vec<String>) -> Result<Option<Arc<ServerConfig>>, ConfigError> {
        certificates::load(&self.draft, Clock::start().now().unix_s(), warnings)
    }

    /// The key that signs: the one called `kid`, or the only one, or what is in `file`. `warnings`: as for `verifier`.
    pub fn signing_key(
        &self,
        kid: Option<&str>,
        file: Option<&Path>,
        warnings: &mut Vec<String>,
    ) -> Result<SigningKey, ConfigError> {
        secrets::signing_key(&self.draft, kid, file, warnings)
    }

    /// Checks what concerns several keys, reads the key files, and plans shards, tables and queues.
    pub fn resolve(self, found: Resources, driver: DriverKind) -> Result<Config, ConfigError> {
        resolve::resolve(self, found, driver)
    }
}
