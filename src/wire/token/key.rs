//! Algorithms and keys of tokens.

use std::fmt;
use std::str::FromStr;

use aws_lc_rs::hmac;
use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_FIXED, ED25519, ParsedPublicKey, RSA_PKCS1_2048_8192_SHA256, VerificationAlgorithm,
};
use jsonwebtoken::{DecodingKey, EncodingKey};

use crate::limits::TOKEN_SECRET_BYTES_MIN;

/// How tokens are signed. Configured; a token that names another algorithm is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Algorithm {
    /// HMAC with SHA-256: who can check a token can also make one.
    Hs256,
    /// RSA PKCS #1 v1.5 with SHA-256.
    Rs256,
    /// ECDSA on P-256 with SHA-256.
    Es256,
    /// Ed25519.
    EdDsa,
}

impl Algorithm {
    /// Every algorithm.
    pub const ALL: [Self; 4] = [Self::Hs256, Self::Rs256, Self::Es256, Self::EdDsa];

    /// Name as in a token's `alg`.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Hs256 => "HS256",
            Self::Rs256 => "RS256",
            Self::Es256 => "ES256",
            Self::EdDsa => "EdDSA",
        }
    }

    pub(super) const fn library(self) -> jsonwebtoken::Algorithm {
        match self {
            Self::Hs256 => jsonwebtoken::Algorithm::HS256,
            Self::Rs256 => jsonwebtoken::Algorithm::RS256,
            Self::Es256 => jsonwebtoken::Algorithm::ES256,
            Self::EdDsa => jsonwebtoken::Algorithm::EdDSA,
        }
    }
}

impl fmt::Display for Algorithm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for Algorithm {
    type Err = UnknownAlgorithm;

    /// Takes the names in upper or lower case.
    fn from_str(name: &str) -> Result<Self, UnknownAlgorithm> {
        let named = Self::ALL.into_iter().find(|algorithm| algorithm.name().eq_ignore_ascii_case(name));
        named.ok_or_else(|| UnknownAlgorithm(name.into()))
    }
}

/// A set of algorithms: those of all keys.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Algorithms(u8);

impl Algorithms {
    /// Adds an algorithm.
    pub fn insert(&mut self, algorithm: Algorithm) {
        self.0 |= 1 << algorithm as u8;
    }

    /// Whether the set has `algorithm`.
    pub fn contains(self, algorithm: Algorithm) -> bool {
        self.0 & 1 << algorithm as u8 != 0
    }
}

impl From<Algorithm> for Algorithms {
    fn from(algorithm: Algorithm) -> Self {
        let mut algorithms = Self::default();
        algorithms.insert(algorithm);
        algorithms
    }
}

impl fmt::Display for Algorithms {
    /// `HS256 or ES256`
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let members = Algorithm::ALL.into_iter().filter(|algorithm| self.contains(*algorithm));
        for (index, algorithm) in members.enumerate() {
            f.write_str(if index == 0 { "" } else { " or " })?;
            f.write_str(algorithm.name())?;
        }
        Ok(())
    }
}

/// Not the name of an `Algorithm`.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is no algorithm for tokens; HS256, RS256, ES256 and EdDSA are")]
pub struct UnknownAlgorithm(Box<str>);

/// Why a key cannot be used. Never shows the key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum KeyError {
    /// A secret so short that it could be guessed.
    #[error(
        "a secret for HS256 has at least {TOKEN_SECRET_BYTES_MIN} bytes, this one has {0}; \
         `openssl rand -hex 32` makes a good one"
    )]
    SecretTooShort(usize),
    /// A public key as a shared secret would let everybody sign.
    #[error("HS256 wants a shared secret, this is a PEM key; the algorithm for it is RS256, ES256 or EdDSA")]
    SecretIsPem,
    /// Not a public key of the algorithm.
    #[error("tokens signed with {0} are checked with its public key in PEM, `-----BEGIN PUBLIC KEY-----`")]
    NotPublicKey(Algorithm),
    /// Not a private key of the algorithm.
    #[error("tokens are signed with {0} by its private key in PEM (PKCS #8), `-----BEGIN PRIVATE KEY-----`")]
    NotPrivateKey(Algorithm),
    /// Bytes that no other program would take for the same key.
    #[error("this is text in UTF-16, as PowerShell writes it; a key is UTF-8")]
    Utf16,
}

/// The key in a file, a variable or a setting: its text, without the white space and the byte-order mark around it. Bytes that
/// are not UTF-8 are a key as they are.
pub fn key_text(bytes: &[u8]) -> &[u8] {
    let is_around = |letter: char| letter.is_whitespace() || letter == '\u{FEFF}';
    str::from_utf8(bytes).map_or(bytes, |text| text.trim_matches(is_around).as_bytes())
}

/// A key that checks signatures, parsed once.
#[derive(Clone)]
pub(super) enum CheckingKey {
    Secret(Box<hmac::Key>),
    Public(ParsedPublicKey),
}

impl CheckingKey {
    /// From the secret, or the public key in PEM.
    pub(super) fn new(algorithm: Algorithm, key: &[u8]) -> Result<Self, KeyError> {
        let key = text(key)?;
        let (pem, scheme): (_, &'static dyn VerificationAlgorithm) = match algorithm {
            Algorithm::Hs256 => {
                return Ok(Self::Secret(hmac::Key::new(hmac::HMAC_SHA256, secret(key)?).into()));
            }
            Algorithm::Rs256 => (DecodingKey::from_rsa_pem(key), &RSA_PKCS1_2048_8192_SHA256),
            Algorithm::Es256 => (DecodingKey::from_ec_pem(key), &ECDSA_P256_SHA256_FIXED),
            Algorithm::EdDsa => (DecodingKey::from_ed_pem(key), &ED25519),
        };
        let bytes = pem.as_ref().ok().and_then(|key| key.try_get_as_bytes().ok());
        // A private key could be read as well, but then no signature would fit.
        let public = bytes.filter(|_| contains(key, b"PUBLIC KEY-----"));
        let parsed = public.and_then(|bytes| ParsedPublicKey::new(scheme, bytes).ok());
        parsed.map(Self::Public).ok_or(KeyError::NotPublicKey(algorithm))
    }

    pub(super) fn verifies(&self, message: &[u8], signature: &[u8]) -> bool {
        match self {
            Self::Secret(key) => hmac::verify(key, message, signature).is_ok(),
            Self::Public(key) => key.verify_sig(message, signature).is_ok(),
        }
    }
}

/// The key that makes signatures.
pub(super) fn signing(algorithm: Algorithm, key: &[u8]) -> Result<EncodingKey, KeyError> {
    let key = text(key)?;
    match algorithm {
        Algorithm::Hs256 => return Ok(EncodingKey::from_secret(secret(key)?)),
        Algorithm::Rs256 => EncodingKey::from_rsa_pem(key),
        Algorithm::Es256 => EncodingKey::from_ec_pem(key),
        Algorithm::EdDsa => EncodingKey::from_ed_pem(key),
    }
    .map_err(|_| KeyError::NotPrivateKey(algorithm))
}

fn text(key: &[u8]) -> Result<&[u8], KeyError> {
    if key.starts_with(b"\xFF\xFE") || key.starts_with(b"\xFE\xFF") {
        return Err(KeyError::Utf16);
    }
    Ok(key_text(key))
}

fn secret(secret: &[u8]) -> Result<&[u8], KeyError> {
    if contains(secret, b"-----BEGIN ") {
        return Err(KeyError::SecretIsPem);
    }
    if secret.len() < TOKEN_SECRET_BYTES_MIN {
        return Err(KeyError::SecretTooShort(secret.len()));
    }
    Ok(secret)
}

fn contains(bytes: &[u8], part: &[u8]) -> bool {
    bytes.windows(part.len()).any(|window| window == part)
}
