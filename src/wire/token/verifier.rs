//! Which key checks a token, and whether the token is valid.

use std::fmt;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::{Map, Value};

use super::key::{Algorithm, Algorithms, CheckingKey, KeyError};
use super::{Claims, TokenError, optional, read_claims, seconds};
use crate::limits::{TOKEN_BYTES_MAX, TOKEN_KEYS_MAX, TOKEN_NOT_BEFORE_LEEWAY_S};

/// A key that checks signatures. Its algorithm is its own, never the token's.
#[derive(Clone)]
pub struct VerifyingKey {
    kid: Option<Box<str>>,
    algorithm: Algorithm,
    key: CheckingKey,
}

impl VerifyingKey {
    /// `kid`: how tokens name it. `key`: for HS256 the secret, else the public key in PEM; what stands around it (`key_text`)
    /// does not count.
    pub fn new(kid: Option<Box<str>>, algorithm: Algorithm, key: &[u8]) -> Result<Self, KeyError> {
        Ok(Self { kid, algorithm, key: CheckingKey::new(algorithm, key)? })
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

/// Why a set of keys is refused.
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
    /// Whether a key has a name: then a token's `kid` that no key has is wrong.
    named: bool,
}

impl Verifier {
    /// One key without a name: it checks all tokens, whatever their `kid`.
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
        self.check(token, now_unix_s).claims
    }

    /// Checks a token as `verify` does, and says what that cost.
    pub fn check(&self, token: &str, now_unix_s: u64) -> Checked {
        let mut signatures = 0;
        let claims = self.read(token, now_unix_s, &mut signatures);
        Checked { claims, signatures }
    }

    /// Signatures cost a hundred times as much as all the rest: what can be refused without checking one is.
    fn read(&self, token: &str, now_unix_s: u64, signatures: &mut u32) -> Result<Claims, TokenError> {
        if token.is_empty() {
            return Err(TokenError::Missing);
        }
        if token.len() > TOKEN_BYTES_MAX {
            return Err(TokenError::TooLong);
        }
        let parts = Parts::split(token)?;
        let header = Header::read(&parts)?;
        let claims = decode(parts.claims, "claims are not base64url without padding")?;
        let claims = object(&claims, "claims are not a JSON object")?;
        let not_before_s = optional(&claims, "nbf", seconds, "`nbf` is not a number of seconds since 1970")?;
        let claims = read_claims(&claims)?;
        if now_unix_s >= claims.expires_at_s {
            return Err(TokenError::Expired);
        }
        if not_before_s.is_some_and(|start| start > now_unix_s.saturating_add(TOKEN_NOT_BEFORE_LEEWAY_S)) {
            return Err(TokenError::NotYetValid);
        }
        let signature = decode(parts.signature, "signature is not base64url without padding")?;
        self.check_signature(&header, parts.signed, &signature, signatures)?;
        Ok(claims)
    }

    /// The token's `kid` picks the key. Without one, every key of the token's algorithm may be it.
    fn check_signature(
        &self,
        header: &Header,
        signed: &str,
        signature: &[u8],
        signatures: &mut u32,
    ) -> Result<(), TokenError> {
        let kid = header.kid.as_deref().filter(|_| self.named);
        let is_meant = |key: &&VerifyingKey| kid.is_none_or(|kid| key.kid() == Some(kid));
        let mut algorithms = Algorithms::default();
        let mut verdict = None;
        for key in self.keys.iter().filter(is_meant) {
            algorithms.insert(key.algorithm);
            if header.algorithm.as_deref() != Some(key.algorithm.name()) {
                continue;
            }
            *signatures += 1;
            if key.key.verifies(signed.as_bytes(), signature) {
                return Ok(());
            }
            verdict = Some(TokenError::Signature);
        }
        let nobodys = if algorithms == Algorithms::default() {
            TokenError::UnknownKey
        } else {
            TokenError::Algorithm(algorithms)
        };
        Err(verdict.unwrap_or(nobodys))
    }
}

/// The outcome of a check, and its cost.
#[derive(Debug)]
pub struct Checked {
    /// What the token says, or why it is refused.
    pub claims: Result<Claims, TokenError>,
    /// How many signatures were checked for it.
    pub signatures: u32,
}

/// `header.claims.signature`, each in base64url (RFC 7515 section 7.1).
struct Parts<'a> {
    header: &'a str,
    claims: &'a str,
    signature: &'a str,
    /// Header and claims, as they are signed.
    signed: &'a str,
}

impl<'a> Parts<'a> {
    fn split(token: &'a str) -> Result<Self, TokenError> {
        let (signed, signature) = token.rsplit_once('.').ok_or(TokenError::Malformed)?;
        let (header, claims) = signed.split_once('.').ok_or(TokenError::Malformed)?;
        if claims.contains('.') {
            return Err(TokenError::Malformed);
        }
        Ok(Self { header, claims, signature, signed })
    }
}

fn decode(part: &str, wrong: &'static str) -> Result<Vec<u8>, TokenError> {
    URL_SAFE_NO_PAD.decode(part).map_err(|_| TokenError::Part(wrong))
}

fn object(json: &[u8], wrong: &'static str) -> Result<Map<String, Value>, TokenError> {
    serde_json::from_slice(json).map_err(|_| TokenError::Part(wrong))
}

/// The header of a token, which nothing has vouched for before the signature is checked.
struct Header {
    algorithm: Option<String>,
    kid: Option<String>,
}

impl Header {
    /// Refuses extensions, which could change what the signature means (`crit`, RFC 7515 section 4.1.11).
    fn read(parts: &Parts<'_>) -> Result<Self, TokenError> {
        let header = decode(parts.header, "header is not base64url without padding")?;
        let header = object(&header, "header is not a JSON object")?;
        if header.contains_key("crit") {
            return Err(TokenError::Part("header has `crit`: extensions, of which this relay knows none"));
        }
        // It must be a string (RFC 7515 section 4.1.4); libraries write null for a name that is not set.
        let kid = match header.get("kid") {
            None | Some(Value::Null) => None,
            Some(Value::String(kid)) => Some(kid.clone()),
            Some(_) => return Err(TokenError::Part("`kid` is not a text")),
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
            moderator: false,
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
    fn a_kid_is_a_text_and_null_is_none() {
        let verifier = Verifier::of(vec![hs256("old", OLD)]).unwrap();
        let with_kid = |kid: &str| {
            let header = URL_SAFE_NO_PAD.encode(format!(r#"{{"alg":"HS256","kid":{kid}}}"#));
            let token = token(None, OLD);
            let signed = format!("{header}.{}", token.split('.').nth(1).unwrap());
            let key = aws_lc_rs::hmac::Key::new(aws_lc_rs::hmac::HMAC_SHA256, OLD);
            let signature = URL_SAFE_NO_PAD.encode(aws_lc_rs::hmac::sign(&key, signed.as_bytes()));
            verifier.verify(&format!("{signed}.{signature}"), NOW).map(drop)
        };
        assert_eq!([with_kid("null"), with_kid(r#""old""#)], [Ok(()), Ok(())]);
        for wrong in ["7", "[]", "true"] {
            assert_eq!(with_kid(wrong), Err(TokenError::Part("`kid` is not a text")));
        }
    }

    #[test]
    fn only_what_cannot_be_refused_otherwise_costs_a_signature() {
        let many = (0..TOKEN_KEYS_MAX).map(|kid| hs256(&kid.to_string(), NEW)).collect();
        let verifier = Verifier::of(many).unwrap();
        let cost = |token: &str, now| verifier.check(token, now).signatures;
        assert_eq!(cost(&token(Some("3"), NEW), NOW), 1);
        assert_eq!(cost(&token(None, OLD), NOW), TOKEN_KEYS_MAX as u32);
        assert_eq!(cost(&token(None, OLD), NOW + 60), 0, "expired");
        assert_eq!(cost(&token(Some("x"), OLD), NOW), 0, "no such key");
        assert_eq!(cost("a.b.c", NOW), 0);
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
