//! The certificates that are in use, for `/metrics` and for whoever replaces them.

use std::sync::{Arc, Mutex, PoisonError};

use crate::tls::ServerConfig;

/// The certificates that are in use, shared between threads; none without `listen_tls`.
#[derive(Clone, Debug)]
pub struct Certificates(Arc<Mutex<Option<Arc<ServerConfig>>>>);

impl Certificates {
    /// Those of the start.
    pub fn new(config: Option<Arc<ServerConfig>>) -> Self {
        Self(Arc::new(Mutex::new(config)))
    }

    /// Those that are in use now.
    pub fn now(&self) -> Option<Arc<ServerConfig>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Other ones are in use from now on.
    pub fn replace(&self, config: Arc<ServerConfig>) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(config);
    }
}
