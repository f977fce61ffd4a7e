//! A certificate that nobody has signed but itself: for trying, where clients are told to trust it.

use std::time::Duration;

use rcgen::{CertificateParams, DistinguishedName, DnType, KeyPair, date_time_ymd};

use crate::limits::SELF_SIGNED_DAYS;

/// A certificate and its key, as PEM.
#[derive(Debug)]
#[allow(missing_docs, reason = "the names say it")]
pub struct Pair {
    pub certificate: String,
    pub key: String,
}

/// Why there is none: `host` is no name that a certificate may have.
#[derive(Debug, thiserror::Error)]
#[error("cannot make a certificate for {host:?}: {source}")]
pub struct SelfSignedError {
    host: String,
    source: rcgen::Error,
}

const DAY: Duration = Duration::from_secs(24 * 60 * 60);

/// Makes a pair for `host`, a name or an address, that is good from now on.
pub fn make(host: &str, now_unix_s: u64) -> Result<Pair, SelfSignedError> {
    let made = || {
        let mut parameters = CertificateParams::new([host.to_owned()])?;
        let mut name = DistinguishedName::new();
        name.push(DnType::CommonName, host);
        parameters.distinguished_name = name;
        // A client whose clock is a little behind is not to refuse it.
        let today = date_time_ymd(1970, 1, 1) + Duration::from_secs(now_unix_s);
        parameters.not_before = today - DAY;
        parameters.not_after = today + DAY * SELF_SIGNED_DAYS;
        let key = KeyPair::generate()?;
        let certificate = parameters.self_signed(&key)?;
        Ok(Pair { certificate: certificate.pem(), key: key.serialize_pem() })
    };
    made().map_err(|source| SelfSignedError { host: host.to_owned(), source })
}
