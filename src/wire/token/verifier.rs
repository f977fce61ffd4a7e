//! Which key checks a token, and whether the token is valid.

use std::fmt;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jsonwebtoken::errors::ErrorKind;
use jsonwebtoken::{DecodingKey, Validation};
use serde_json::{Map, Value};

use super::key::{self, Algorithm, Algorithms, KeyError};
use super::{Claims, TokenError, optional, read_claims, seconds};
use crate::limits::{TOKEN_KEYS_MAX, TOKEN_NOT_BEFORE_LEEWAY_S};

/// A key that checks signatures. Its algorithm is its own, never the token's.
#[derive(Clone)]
pub struct VerifyingKey {
    kid: Option<Box<str>>,
    algorithm: Algorithm,
    key: DecodingKey,
    validation: Validation,
}

impl VerifyingKey {
    /// `kid`: how tokens name it. `key`: for HS256 the secret (one line end behind it does not count), else the public key in
    /// PEM.
    pub fn new(kid: Option<Box<str>>, algorithm: Algorithm, key: &[u8]) -> Result<Self, KeyError> {
        let mut validation = Validation::new(algorithm.library());
        // Times are compared with the time that `verify` is told; audiences are not configured.
        validation.required_spec_claims.clear();
        validation.validate_exp = false;
        validation.validate_aud = false;
        Ok(Self { kid, algorithm, key: key::verifying(algorithm, key)?, validation })
    }

    /// How tokens name it.
    pub fn kid(&self) -> Option<&str> {
        self.kid.as_deref()
    }
}

/// Without the key.
impl fmt::Debug for VerifyingKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("VerifyingKey")
            .field("kid", &self.kid)
            .field("algorithm", &self.algorithm)
            .finish_non_exhaustive()
    }
}

/// Keys that cannot stand beside each other.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum VerifierError {
    /// A token's `kid` would name two keys.
    #[error("two keys have the `kid` {0:?}")]
    KidTwice(Box<str>),
    /// A token without `kid` is tried against each.
    #[error("there are {0} keys; at most {TOKEN_KEYS_MAX} are taken")]
    TooMany(usize),
    /// Nothing could be checked.
    #[error("there is no key")]
    None,
}

/// Checks tokens against the configured keys. While keys are rotated there are two, the old and the new one.
#[derive(Clone, Debug)]
pub struct Verifier {
    keys: Box<[VerifyingKey]>,
    /// At least one key has a name, so a name that none has is wrong.
    named: bool,
}

impl Verifier {
    /// The simple case: one key without a name. What its tokens call it is not looked at.
    pub fn new(algorithm: Algorithm, key: &[u8]) -> Result<Self, KeyError> {
        Ok(Self { keys: [VerifyingKey::new(None, algorithm, key)?].into(), named: false })
    }

    /// Several keys, at most `limits::TOKEN_KEYS_MAX`.
    pub fn of(keys: Vec<VerifyingKey>) -> Result<Self, VerifierError> {
        if keys.is_empty() {
            return Err(VerifierError::None);
        }
        if keys.len() > TOKEN_KEYS_MAX {
            return Err(VerifierError::TooMany(keys.len()));
        }
        let mut kids: Vec<&str> = keys.iter().filter_map(VerifyingKey::kid).collect();
        kids.sort_unstable();
        if let Some(pair) = kids.windows(2).find(|pair| pair[0] == pair[1]) {
            return Err(VerifierError::KidTwice(pair[0].into()));
        }
        let named = !kids.is_empty();
        Ok(Self { keys: keys.into(), named })
    }

    /// The keys, in order of the configuration.
    pub fn keys(&self) -> &[VerifyingKey] {
        &self.keys
    }

    /// The claims of `token`, if it is signed with one of the keys and valid at `now_unix_s`.
    ///
    /// It is valid before `exp`, to the second, and from `limits::TOKEN_NOT_BEFORE_LEEWAY_S` before `nbf`, since the issuer's
    /// clock may be ahead.
    pub fn verify(&self, token: &str, now_unix_s: u64) -> Result<Claims, TokenError> {
        if token.is_empty() {
            return Err(TokenError::Missing);
        }
        let header = Header::read(token)?;
        let claims = self.check_signature(token, &header)?;
        let not_before_s = optional(&claims, "nbf", seconds, "`nbf` is not a number of seconds since 1970")?;
        let claims = read_claims(&claims)?;
        if now_unix_s >= claims.expires_at_s {
            return Err(TokenError::Expired);
        }
        if not_before_s.is_some_and(|start| start > now_unix_s.saturating_add(TOKEN_NOT_BEFORE_LEEWAY_S)) {
            return Err(TokenError::NotYetValid);
        }
        Ok(claims)
    }

    /// The token's `kid` picks the key. Without one, every key of the token's algorithm may be it.
    fn check_signature(&self, token: &str, header: &Header) -> Result<Map<String, Value>, TokenError> {
        let kid = header.kid.as_deref().filter(|_| self.named);
        let is_meant = |key: &&VerifyingKey| kid.is_none_or(|kid| key.kid() == Some(kid));
        let mut algorithms = Algorithms::default();
        let mut verdict = None;
        for key in self.keys.iter().filter(is_meant) {
            algorithms.insert(key.algorithm);
            if header.algorithm.as_deref() != Some(key.algorithm.name()) {
                continue;
            }
            match jsonwebtoken::decode::<Map<String, Value>>(token, &key.key, &key.validation) {
                Ok(decoded) => return Ok(decoded.claims),
                Err(error) if matches!(error.kind(), ErrorKind::InvalidSignature) => {
                    verdict = Some(TokenError::Signature);
                }
                // The algorithm is checked before; times and audiences are not asked for. What is left is the shape.
                Err(_) => return Err(TokenError::Malformed),
            }
        }
        let nobodys = if algorithms == Algorithms::default() {
            TokenError::UnknownKey
        } else {
            TokenError::Algorithm(algorithms)
        };
        Err(verdict.unwrap_or(nobodys))
    }
}

/// What the token says of itself: no more than a claim of the sender's.
struct Header {
    algorithm: Option<String>,
    kid: Option<String>,
}

impl Header {
    /// There must be no extension that would change what the signature means (`crit`, RFC 7515 section 4.1.11).
    fn read(token: &str) -> Result<Self, TokenError> {
        let (header, _) = token.split_once('.').ok_or(TokenError::Malformed)?;
        let header = URL_SAFE_NO_PAD.decode(header).map_err(|_| TokenError::Malformed)?;
        let header: Map<String, Value> =
            serde_json::from_slice(&header).map_err(|_| TokenError::Malformed)?;
        if header.contains_key("crit") {
            return Err(TokenError::Malformed);
        }
        let kid = match header.get("kid") {
            None => None,
            Some(Value::String(kid)) => Some(kid.clone()),
            // It must be a string (RFC 7515 section 4.1.4).
            Some(_) => return Err(TokenError::Malformed),
        };
        Ok(Self { algorithm: header.get("alg").and_then(Value::as_str).map(Into::into), kid })
    }
}

#[cfg(test)]
mod tests {
    use super::super::{TopicPattern, sign, sign_as};
    use super::*;

    const NOW: u64 = 1_800_000_000;
    const OLD: &[u8] = b"the old secret of thirty-two bytes";
    const NEW: &[u8] = b"the new secret of thirty-two bytes";

    fn claims() -> Claims {
        Claims {
            user: "ann".into(),
            expires_at_s: NOW + 60,
            name: None,
            topics: [TopicPattern::new("*")].into(),
            host: false,
        }
    }

    fn hs256(kid: &str, secret: &[u8]) -> VerifyingKey {
        VerifyingKey::new(Some(kid.into()), Algorithm::Hs256, secret).unwrap()
    }

    fn eddsa(kid: &str) -> VerifyingKey {
        let public = include_bytes!("../../../tests/keys/eddsa.public.pem");
        VerifyingKey::new(Some(kid.into()), Algorithm::EdDsa, public).unwrap()
    }

    fn token(kid: Option<&str>, secret: &[u8]) -> String {
        sign_as(kid, Algorithm::Hs256, secret, &claims()).unwrap()
    }

    #[test]
    fn a_tokens_kid_picks_the_key() {
        let verifier = Verifier::of(vec![hs256("old", OLD), hs256("new", NEW), eddsa("ed")]).unwrap();
        let verify = |token: &str| verifier.verify(token, NOW).map(|claims| claims.user);
        assert_eq!(verify(&token(Some("old"), OLD)), Ok("ann".into()));
        assert_eq!(verify(&token(Some("new"), NEW)), Ok("ann".into()));
        assert_eq!(verify(&token(Some("new"), OLD)), Err(TokenError::Signature), "not by the key it names");
        assert_eq!(verify(&token(Some("older"), OLD)), Err(TokenError::UnknownKey));
        assert_eq!(verify(&token(Some(""), OLD)), Err(TokenError::UnknownKey));
        let other_algorithm = token(Some("ed"), OLD);
        assert_eq!(verify(&other_algorithm), Err(TokenError::Algorithm(Algorithm::EdDsa.into())));
    }

    #[test]
    fn a_token_without_kid_is_tried_against_the_keys_of_its_algorithm() {
        let verifier = Verifier::of(vec![eddsa("ed"), hs256("old", OLD), hs256("new", NEW)]).unwrap();
        let verify = |token: &str| verifier.verify(token, NOW).map(drop);
        assert_eq!((verify(&token(None, OLD)), verify(&token(None, NEW))), (Ok(()), Ok(())));
        assert_eq!(verify(&token(None, &[b'x'; 32])), Err(TokenError::Signature));
        let private = include_bytes!("../../../tests/keys/eddsa.private.pem");
        assert_eq!(verify(&sign(Algorithm::EdDsa, private, &claims()).unwrap()), Ok(()));
        let private = include_bytes!("../../../tests/keys/es256.private.pem");
        let refused = verify(&sign(Algorithm::Es256, private, &claims()).unwrap()).unwrap_err();
        assert!(refused.to_string().contains("not signed with HS256 or EdDSA"), "{refused}");
    }

    #[test]
    fn a_key_without_a_name_takes_tokens_under_any() {
        let single = Verifier::new(Algorithm::Hs256, OLD).unwrap();
        assert!(single.verify(&token(Some("2026-01"), OLD), NOW).is_ok());
        let beside = VerifyingKey::new(None, Algorithm::Hs256, OLD).unwrap();
        let verifier = Verifier::of(vec![beside, hs256("new", NEW)]).unwrap();
        assert!(verifier.verify(&token(None, OLD), NOW).is_ok());
        let refused = verifier.verify(&token(Some("2026-01"), OLD), NOW);
        assert_eq!(refused, Err(TokenError::UnknownKey), "names count as soon as one key has one");
    }

    #[test]
    fn a_kid_is_a_text() {
        let header = URL_SAFE_NO_PAD.encode(r#"{"alg":"HS256","kid":7}"#);
        let verifier = Verifier::new(Algorithm::Hs256, OLD).unwrap();
        assert_eq!(verifier.verify(&format!("{header}.e30.AAAA"), NOW), Err(TokenError::Malformed));
    }

    #[test]
    fn keys_must_be_told_apart_and_few() {
        let refusal = |keys| Verifier::of(keys).unwrap_err();
        assert_eq!(refusal(vec![hs256("a", OLD), hs256("a", NEW)]), VerifierError::KidTwice("a".into()));
        assert_eq!(refusal(Vec::new()), VerifierError::None);
        let many = (0..=TOKEN_KEYS_MAX).map(|kid| hs256(&kid.to_string(), OLD)).collect();
        assert_eq!(refusal(many), VerifierError::TooMany(TOKEN_KEYS_MAX + 1));
        let shown = format!("{:?}", hs256("a", OLD));
        assert_eq!(shown, "VerifyingKey { kid: Some(\"a\"), algorithm: Hs256, .. }");
    }
}
