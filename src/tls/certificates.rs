//! Certificates and their keys, from PEM: which names they are for, when they expire, and which of them a client gets.

use rustls_pki_types::pem::{self, PemObject};
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use simple_asn1::ASN1Block;

/// A file that was read.
#[derive(Clone, Debug)]
pub struct PemFile {
    /// As it is configured; errors name it.
    pub path: String,
    /// What is in it.
    pub pem: Vec<u8>,
}

/// A certificate with its chain and its key.
#[derive(Debug)]
pub struct Certificate {
    /// The file it comes from.
    pub file: String,
    /// The file of its key.
    pub key_file: String,
    /// Host names that it is for, perhaps with `*.` in front.
    pub names: Vec<String>,
    /// `notAfter`, in seconds since 1970.
    pub expires_at_unix_s: i64,
    pub(super) chain: Vec<CertificateDer<'static>>,
    pub(super) key: PrivateKeyDer<'static>,
}

/// Why a certificate cannot be used.
#[derive(Debug, thiserror::Error)]
#[allow(missing_docs, reason = "the texts say it")]
pub enum CertificateError {
    #[error("no certificate is configured: TLS needs a [[certificate]] with `file` and `key`")]
    None,
    #[error("{file} is not PEM: {source}")]
    NotPem { file: String, source: pem::Error },
    #[error("{file} has no certificate (-----BEGIN CERTIFICATE-----)")]
    NoCertificate { file: String },
    #[error(
        "{file} has a key and no certificate: `file` is for the certificate and its chain, `key` for the key"
    )]
    Swapped { file: String },
    #[error(
        "{file} has no private key that can be read (-----BEGIN PRIVATE KEY-----); an encrypted one has to be decrypted first: \
         `openssl pkey -in {file} -out …`"
    )]
    NoKey { file: String },
    #[error("{file}: the certificate cannot be read: {cause}")]
    Certificate { file: String, cause: String },
    #[error("{file}: the key cannot be used: {cause}")]
    Key { file: String, cause: String },
    #[error(
        "the key in {key} does not belong to the certificate in {file}: name the key that it was made for; whoever renews one \
         renews both"
    )]
    Mismatch { key: String, file: String },
}

impl Certificate {
    /// Reads a certificate, the chain behind it, and its key. Whether the two belong together is known to `ServerConfig::new`.
    pub fn read(file: &PemFile, key: &PemFile) -> Result<Self, CertificateError> {
        let not_pem = |file: &PemFile| {
            let file = file.path.clone();
            |source| CertificateError::NotPem { file, source }
        };
        let chain: Vec<CertificateDer<'static>> =
            CertificateDer::pem_slice_iter(&file.pem).collect::<Result<_, _>>().map_err(not_pem(file))?;
        let Some(own) = chain.first() else {
            let path = file.path.clone();
            return Err(match PrivateKeyDer::from_pem_slice(&file.pem) {
                Ok(_) => CertificateError::Swapped { file: path },
                Err(_) => CertificateError::NoCertificate { file: path },
            });
        };
        let broken = |cause: String| CertificateError::Certificate { file: file.path.clone(), cause };
        let names = names(own).map_err(broken)?;
        let expires_at_unix_s = not_after(own).ok_or_else(|| broken("it has no notAfter".into()))?;
        let key_der = PrivateKeyDer::from_pem_slice(&key.pem).map_err(|error| match error {
            pem::Error::NoItemsFound => CertificateError::NoKey { file: key.path.clone() },
            error @ (pem::Error::MissingSectionEnd { .. }
            | pem::Error::IllegalSectionStart { .. }
            | pem::Error::Base64Decode(_)
            | pem::Error::Io(_)
            | pem::Error::SectionTooLarge
            | _) => not_pem(key)(error),
        })?;
        Ok(Self {
            file: file.path.clone(),
            key_file: key.path.clone(),
            names,
            expires_at_unix_s,
            chain,
            key: key_der,
        })
    }
}

/// Which of `certificates` a client gets that asks for `name`: the first that has exactly this name, else the first with a `*.` for
/// it, else the first of all.
pub(super) fn choose(certificates: &[Certificate], name: Option<&str>) -> usize {
    let Some(name) = name else { return 0 };
    let with = |wanted: &str| {
        let has = |certificate: &Certificate| {
            certificate.names.iter().any(|name| name.eq_ignore_ascii_case(wanted))
        };
        certificates.iter().position(has)
    };
    let wildcard = || name.split_once('.').and_then(|(_, parent)| with(&format!("*.{parent}")));
    with(name).or_else(wildcard).unwrap_or(0)
}

fn names(certificate: &CertificateDer<'_>) -> Result<Vec<String>, String> {
    let parsed = webpki::EndEntityCert::try_from(certificate).map_err(|error| error.to_string())?;
    Ok(parsed.valid_dns_names().map(str::to_owned).collect())
}

/// The end of `Validity` (RFC 5280 section 4.1): in a certificate's list of fields, the one that is two times.
fn not_after(certificate: &CertificateDer<'_>) -> Option<i64> {
    let blocks = simple_asn1::from_der(certificate).ok()?;
    let [ASN1Block::Sequence(_, certificate)] = blocks.as_slice() else { return None };
    let ASN1Block::Sequence(_, fields) = certificate.first()? else { return None };
    fields.iter().find_map(|field| {
        let ASN1Block::Sequence(_, validity) = field else { return None };
        let [_, ASN1Block::UTCTime(_, end) | ASN1Block::GeneralizedTime(_, end)] = validity.as_slice() else {
            return None;
        };
        Some(end.assume_utc().unix_timestamp())
    })
}
