//! What SIGHUP reads again: the keys of the tokens, and certificates.

use std::sync::Arc;
use std::time::Duration;

use crate::admin::certificates::Certificates;
use crate::config::certificates::expiries;
use crate::rim::Clock;
use crate::service::ServiceHandle;
use crate::shard::peer::Order;
use crate::tls::ServerConfig;
use crate::wire::token::{Verifier, VerifyingKey};

/// How often the log is told of certificates that expire soon.
const EXPIRY_LOOK_INTERVAL: Duration = Duration::from_secs(24 * 60 * 60);

/// Reads files and variables again, as they are configured now.
pub struct ReadAgain {
    /// The keys of the tokens. `None`: no key is configured.
    pub keys: Box<dyn Fn() -> anyhow::Result<Option<Verifier>> + Send>,
    /// The certificates. `None`: `listen_tls` is not set.
    pub certificates: Box<dyn Fn() -> anyhow::Result<Option<Arc<ServerConfig>>> + Send>,
}

/// Warns of certificates that expire soon: the start has done so once.
pub(super) async fn log_expiries(certificates: Certificates) {
    loop {
        tokio::time::sleep(EXPIRY_LOOK_INTERVAL).await;
        let now_unix_s = Clock::start().now().unix_s();
        for warning in certificates.now().iter().flat_map(|config| expiries(config, now_unix_s)) {
            tracing::warn!("{warning}");
        }
    }
}

/// What SIGHUP reads again.
pub(super) struct Renewal {
    pub(super) read: ReadAgain,
    /// Tokens are needed. The start settles that for good: a relay whose players are guests does not lock them out, and one with
    /// a key does not let everybody in because a line is missing in a file.
    pub(super) keys_needed: bool,
    pub(super) certificates: Certificates,
    pub(super) service: ServiceHandle,
}

impl Renewal {
    pub(super) fn renew(&self) {
        self.renew_keys();
        self.renew_certificates();
    }

    /// Gives every shard the certificates as they are in their files now. If they cannot be used, the old ones stay.
    fn renew_certificates(&self) {
        if self.certificates.now().is_none() {
            return;
        }
        let config = match (self.read.certificates)() {
            Ok(Some(config)) => config,
            Ok(None) => {
                tracing::error!("SIGHUP: `listen_tls` is not set any more; the old certificates stay");
                return;
            }
            Err(error) => {
                tracing::error!("SIGHUP: the new certificates cannot be used, the old ones stay: {error:#}");
                return;
            }
        };
        if let Err(busy) = self.service.certificates(config.clone()) {
            tracing::error!("SIGHUP: the old certificates stay: {busy}; send it again");
            return;
        }
        tracing::info!(certificates = config.certificates().len(), "certificates read again");
        self.certificates.replace(config);
    }

    /// Gives every shard the keys as they are configured now. If they cannot be used, the old ones stay.
    fn renew_keys(&self) {
        if !self.keys_needed {
            tracing::warn!(
                "SIGHUP: in development mode there are no keys to read again; to begin with tokens, restart"
            );
            return;
        }
        let verifier = match (self.read.keys)() {
            Ok(Some(verifier)) => Arc::new(verifier),
            Ok(None) => {
                tracing::error!(
                    "SIGHUP: no key is configured any more; the old keys stay (for development mode, restart)"
                );
                return;
            }
            Err(error) => {
                tracing::error!("SIGHUP: the new keys cannot be used, the old ones stay: {error:#}");
                return;
            }
        };
        let kids: Vec<&str> = verifier.keys().iter().filter_map(VerifyingKey::kid).collect();
        if let Err(busy) = self.service.order(Order::Keys(verifier.clone())) {
            tracing::error!("SIGHUP: the old keys stay: {busy}; send it again");
            return;
        }
        tracing::info!(keys = verifier.keys().len(), kids = kids.join(", "), "keys read again");
    }
}

#[cfg(test)]
mod tests {
    use anyhow::bail;

    use super::*;
    use crate::mailbox::{self, Letter};
    use crate::service::Service;
    use crate::time::Instant;
    use crate::wire::token::Algorithm;

    /// What shard 0 is given when the keys are read again with this result.
    fn renewed(needed: bool, read: fn() -> anyhow::Result<Option<Verifier>>) -> Option<usize> {
        let (mut endpoints, [mailbox, _store]) = mailbox::mesh(1, 16).unwrap();
        let (mut service, handle) = Service::new(mailbox, Arc::new(Instant::default));
        let no_certificates = || bail!("they are not read");
        let read = ReadAgain { keys: Box::new(read), certificates: Box::new(no_certificates) };
        let certificates = Certificates::new(None);
        Renewal { read, keys_needed: needed, certificates, service: handle }.renew();
        service.turn();
        match endpoints[0].take()? {
            (_, Letter::Order(Order::Keys(verifier))) => Some(verifier.keys().len()),
            (
                _,
                letter @ (Letter::Peer(_)
                | Letter::Order(_)
                | Letter::Connection { .. }
                | Letter::Certificates(_)
                | Letter::Withdrawn { .. }),
            ) => {
                panic!("{letter:?}")
            }
        }
    }

    #[test]
    fn bad_keys_do_not_replace_good_ones() {
        let good = || Ok(Some(Verifier::new(Algorithm::Hs256, &[b'k'; 32])?));
        assert_eq!(renewed(true, good), Some(1));
        assert_eq!(renewed(true, || bail!("no such file")), None);
        assert_eq!(renewed(true, || Ok(None)), None, "doors are not opened by a missing line");
        assert_eq!(renewed(false, good), None, "guests are not locked out");
    }
}
