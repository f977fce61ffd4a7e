//! The certificates of `listen_tls`: their files are read here, at the start and at each SIGHUP.

use std::fmt;
use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::draft::Draft;
use super::error::ConfigError;
use super::secrets::exposure;
use crate::limits::{CERTIFICATE_EXPIRY_WARNING_S, CERTIFICATE_FILE_BYTES_MAX};
use crate::tls::ServerConfig;
use crate::tls::certificates::{Certificate, PemFile};

/// A `[[certificate]]` table.
#[derive(Debug, Default)]
pub struct CertificateTable {
    /// The file of the certificate and its chain.
    pub file: PathBuf,
    /// The file of its private key.
    pub key: PathBuf,
}

/// Reads and checks the certificates; `None`: there is no `listen_tls`. `warnings` gets what is allowed but probably not meant.
pub(super) fn load(
    draft: &Draft,
    now_unix_s: u64,
    warnings: &mut Vec<String>,
) -> Result<Option<Arc<ServerConfig>>, ConfigError> {
    if draft.listen_tls.is_none() {
        if !draft.certificates.is_empty() {
            warnings.push("[[certificate]] is not used: `listen_tls` is not set".into());
        }
        return Ok(None);
    }
    let certificates =
        draft.certificates.iter().map(|table| read(table, warnings)).collect::<Result<_, _>>()?;
    let config = ServerConfig::new(certificates)?;
    warnings.extend(expiries(&config, now_unix_s));
    Ok(Some(Arc::new(config)))
}

/// A warning for each certificate that has expired, or will soon.
pub fn expiries(config: &ServerConfig, now_unix_s: u64) -> Vec<String> {
    let warning = |certificate: &Certificate| {
        let (file, lifetime) = (&certificate.file, Lifetime::of(certificate, now_unix_s));
        match lifetime {
            Lifetime::Long { .. } => None,
            Lifetime::Over { .. } | Lifetime::Short { .. } => {
                Some(format!("the certificate in {file} {lifetime}"))
            }
        }
    };
    config.certificates().iter().filter_map(warning).collect()
}

/// How long a certificate is good. It is shown as what can be said of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs, reason = "the texts say it")]
pub enum Lifetime {
    Over { days: i64 },
    Short { days: i64 },
    Long { days: i64 },
}

impl fmt::Display for Lifetime {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Over { days } => write!(f, "has expired, {days} days ago: clients refuse it"),
            Self::Short { days } => write!(f, "expires in {days} days: renew it, and send SIGHUP"),
            Self::Long { days } => write!(f, "expires in {days} days"),
        }
    }
}

impl Lifetime {
    /// Of a certificate, at this time.
    pub fn of(certificate: &Certificate, now_unix_s: u64) -> Self {
        let left_s = certificate.expires_at_unix_s - now_unix_s as i64;
        let days = left_s.abs() / (24 * 60 * 60);
        match left_s {
            ..=0 => Self::Over { days },
            1..=CERTIFICATE_EXPIRY_WARNING_S => Self::Short { days },
            _ => Self::Long { days },
        }
    }
}

fn read(table: &CertificateTable, warnings: &mut Vec<String>) -> Result<Certificate, ConfigError> {
    let [file, key] = [read_file(&table.file)?, read_file(&table.key)?];
    warnings.extend(exposure(&table.key));
    Ok(Certificate::read(&file, &key)?)
}

fn read_file(path: &Path) -> Result<PemFile, ConfigError> {
    let unreadable = |source| ConfigError::CertificateUnreadable { path: path.into(), source };
    let mut pem = Vec::new();
    let mut file = File::open(path).map_err(unreadable)?.take(CERTIFICATE_FILE_BYTES_MAX + 1);
    file.read_to_end(&mut pem).map_err(unreadable)?;
    if pem.len() as u64 > CERTIFICATE_FILE_BYTES_MAX {
        let text =
            format!("it is longer than {CERTIFICATE_FILE_BYTES_MAX} bytes, so it is no certificate or key");
        return Err(unreadable(io::Error::new(io::ErrorKind::FileTooLarge, text)));
    }
    Ok(PemFile { path: path.display().to_string(), pem })
}
