//! What SIGHUP reads again: the keys of the tokens, and certificates.

use std::sync::Arc;
use std::time::Duration;

use crate::admin::certificates::Certificates;
use crate::config::certificates::expiries;
use crate::limits::RENEWAL_WAIT;
use crate::mailbox::New;
use crate::rim::Clock;
use crate::service::{Answers, ServiceHandle};
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
    pub(super) async fn renew(&self) {
        self.renew_keys().await;
        self.renew_certificates().await;
    }

    /// Gives every shard the certificates as they are in their files now. If they cannot be used, the old ones stay.
    async fn renew_certificates(&self) {
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
        if self.hand_out("certificates", New::Certificates(config.clone())).await {
            let count = config.certificates().len();
            self.certificates.replace(config);
            tracing::info!(certificates = count, "certificates read again");
        }
    }

    /// Gives every shard the keys as they are configured now. If they cannot be used, the old ones stay.
    async fn renew_keys(&self) {
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
        if self.hand_out("keys", New::Keys(verifier.clone())).await {
            let kids: Vec<&str> = verifier.keys().iter().filter_map(VerifyingKey::kid).collect();
            tracing::info!(keys = verifier.keys().len(), kids = kids.join(", "), "keys read again");
        }
    }

    /// Gives every shard what is new, and returns whether all of them use it. If not, the log says so.
    async fn hand_out(&self, what: &str, new: New) -> bool {
        match self.service.renew(new, RENEWAL_WAIT).await {
            Ok(Answers { unanswered: 0, .. }) => return true,
            Ok(Answers { unanswered, .. }) => tracing::error!(
                shards = unanswered,
                "SIGHUP: not every shard has said within {RENEWAL_WAIT:?} that it uses the new {what}: some may go on with the \
                 old ones; send it again"
            ),
            Err(busy) => tracing::error!("SIGHUP: the old {what} stay: {busy}; send it again"),
        }
        false
    }
}

#[cfg(test)]
mod tests {
    use std::pin::pin;
    use std::sync::atomic::{AtomicU64, Ordering};
    use std::task::{Context, Poll, Waker};

    use anyhow::bail;

    use super::*;
    use crate::ids::Party;
    use crate::mailbox::{self, Endpoint, Letter};
    use crate::service::Service;
    use crate::shard::peer::{Answer, PeerMessage};
    use crate::time::Instant;
    use crate::wire::token::Algorithm;

    /// What a shard is given. It says that it uses it.
    fn given(shard: &mut Endpoint) -> Option<New> {
        let (from, letter) = shard.take()?;
        let Letter::Renewal { request, new } = letter else { panic!("{letter:?}") };
        let answer = Letter::Peer(PeerMessage::Answer { request, answer: Answer::Renewed });
        let _posted = shard.post(from, answer);
        let _rung = shard.must_ring(Party::Service);
        Some(new)
    }

    /// What shard 0 is given when the keys are read again with this result.
    fn renewed(needed: bool, read: fn() -> anyhow::Result<Option<Verifier>>) -> Option<usize> {
        let (mut endpoints, [mailbox, _store]) = mailbox::mesh(1, 16).unwrap();
        let (mut service, handle) = Service::new(mailbox, Arc::new(Instant::default));
        let no_certificates = || bail!("they are not read");
        let read = ReadAgain { keys: Box::new(read), certificates: Box::new(no_certificates) };
        let certificates = Certificates::new(None);
        let renewal = Renewal { read, keys_needed: needed, certificates, service: handle };
        let mut renewing = pin!(renewal.renew());
        let mut context = Context::from_waker(Waker::noop());
        let is_waiting = renewing.as_mut().poll(&mut context).is_pending();
        service.turn();
        let new = given(&mut endpoints[0]);
        assert_eq!(new.is_some(), is_waiting);
        service.turn();
        assert!(!is_waiting || renewing.poll(&mut context).is_ready());
        match new? {
            New::Keys(verifier) => Some(verifier.keys().len()),
            New::Certificates(config) => panic!("{config:?}"),
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

    #[cfg(feature = "tls")]
    fn certificates() -> Arc<ServerConfig> {
        use crate::tls::certificates::{Certificate, PemFile};

        let pair = crate::tls::self_signed::make("localhost", 0).unwrap();
        let file = |pem: String| PemFile { path: "its.pem".into(), pem: pem.into_bytes() };
        let certificate = Certificate::read(&file(pair.certificate), &file(pair.key)).unwrap();
        Arc::new(ServerConfig::new(vec![certificate]).unwrap())
    }

    #[cfg(feature = "tls")]
    #[test]
    fn certificates_count_as_renewed_when_every_shard_uses_them() {
        let (mut shards, [mailbox, _store]) = mailbox::mesh(2, 16).unwrap();
        let now_us = Arc::new(AtomicU64::new(0));
        let clock_us = now_us.clone();
        let clock = move || Instant::from_micros(clock_us.load(Ordering::Relaxed));
        let (mut service, handle) = Service::new(mailbox, Arc::new(clock));
        let read = ReadAgain {
            keys: Box::new(|| bail!("they are not read")),
            certificates: Box::new(|| Ok(Some(certificates()))),
        };
        let old = certificates();
        let in_use = Certificates::new(Some(old.clone()));
        let is_old = || Arc::ptr_eq(&in_use.now().unwrap(), &old);
        let renewal = Renewal { read, keys_needed: false, certificates: in_use.clone(), service: handle };
        let mut context = Context::from_waker(Waker::noop());
        {
            let mut renewing = pin!(renewal.renew());
            assert!(renewing.as_mut().poll(&mut context).is_pending());
            service.turn();
            assert!(given(&mut shards[1]).is_some());
            service.turn();
            now_us.store(RENEWAL_WAIT.as_micros() as u64, Ordering::Relaxed);
            service.turn();
            assert_eq!(renewing.poll(&mut context), Poll::Ready(()));
            assert!(is_old(), "a shard has not said that it uses them");
        }
        assert!(given(&mut shards[0]).is_some());
        service.turn();
        let mut renewing = pin!(renewal.renew());
        assert!(renewing.as_mut().poll(&mut context).is_pending());
        service.turn();
        for shard in &mut shards {
            assert!(renewing.as_mut().poll(&mut context).is_pending() && is_old());
            assert!(given(shard).is_some());
            service.turn();
        }
        assert_eq!(renewing.poll(&mut context), Poll::Ready(()));
        assert!(!is_old());
    }
}
