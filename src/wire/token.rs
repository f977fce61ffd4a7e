//! JSON Web Tokens to claims: what a client may do, and until when.

mod checked;
mod key;
mod verifier;

use jsonwebtoken::Header;
use serde_json::{Map, Value};

use crate::glob::glob_matches;
use crate::ids::Topic;
use crate::limits::{NAME_BYTES_MAX, TOKEN_BYTES_MAX, USER_ID_BYTES_MAX};
use crate::memory::Allocated;
pub use checked::CheckedToken;
pub use key::{Algorithm, Algorithms, KeyError, UnknownAlgorithm, key_text};
pub use verifier::{Checked, Verifier, VerifierError, VerifyingKey};

/// What a valid token says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Claims {
    /// `sub`: the user id, 1 to `limits::USER_ID_BYTES_MAX` bytes.
    pub user: Box<str>,
    /// `exp`: unix seconds; the connection is closed then.
    pub expires_at_s: u64,
    /// `name`: display name, at most `limits::NAME_BYTES_MAX` bytes.
    pub name: Option<Box<str>>,
    /// `topics`: patterns such as `game:arena-*`.
    pub topics: Box<[TopicPattern]>,
    /// `host`: may set other players' positions.
    pub host: bool,
    /// `moderator`: in rooms, may delete others' messages, mute and ban.
    pub moderator: bool,
}

impl Claims {
    /// Whether a pattern may cover a topic that is not a game.
    pub fn grants_more_than_games(&self) -> bool {
        self.topics.iter().any(|pattern| !pattern.as_str().starts_with("game:"))
    }

    /// Bytes that it has allocated; see `memory`.
    pub fn heap_bytes(&self) -> usize {
        let patterns = self.topics.iter().map(|pattern| pattern.0.allocated_bytes());
        self.user.allocated_bytes()
            + self.name.allocated_bytes()
            + self.topics.allocated_bytes()
            + patterns.sum::<usize>()
    }

    /// Whether one of the patterns covers `topic`.
    pub fn allows(&self, topic: &Topic) -> bool {
        self.covers(&topic.to_string())
    }

    /// Whether one of the patterns covers `topic:read`, which lets a user read a document.
    pub fn allows_reading(&self, topic: &Topic) -> bool {
        matches!(topic, Topic::Document(_)) && self.covers(&format!("{topic}:read"))
    }

    fn covers(&self, topic: &str) -> bool {
        self.topics.iter().any(|pattern| pattern.matches(topic))
    }
}

/// `game:arena-*`, `room:lobby`, `*`: a `*` stands for any run of characters (also none), everything else for itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TopicPattern(Box<str>);

impl TopicPattern {
    /// Every text is a pattern.
    pub fn new(pattern: impl Into<Box<str>>) -> Self {
        Self(pattern.into())
    }

    /// The pattern as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether it covers `topic`, written `game:name`.
    pub fn matches(&self, topic: &str) -> bool {
        glob_matches(&self.0, topic)
    }
}

/// Why a token is refused. Never shows the token.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TokenError {
    /// No token where one is needed.
    #[error("a token is needed; send it as `?token=`")]
    Missing,
    /// Not a JSON Web Token.
    #[error("the token is not a JSON Web Token of three parts, `header.claims.signature`")]
    Malformed,
    /// Longer than a request head can be.
    #[error("the token has more than {TOKEN_BYTES_MAX} bytes")]
    TooLong,
    /// Of three parts, but one of them is not what it should be.
    #[error("the token's {0}")]
    Part(&'static str),
    /// `alg` is not what is configured for the key, or for any key if the token names none; `none` never is.
    #[error("the token is not signed with {0}, which is what this relay accepts")]
    Algorithm(Algorithms),
    /// Its `kid` names none of the keys.
    #[error("the token's `kid` names no key of this relay")]
    UnknownKey,
    /// Forged, or signed with another key.
    #[error("the token's signature is not by a key of this relay")]
    Signature,
    /// At or past `exp`.
    #[error("the token has expired; get a new one")]
    Expired,
    /// Before `nbf`.
    #[error("the token is not valid yet")]
    NotYetValid,
    /// Signed, but a claim is missing or wrong.
    #[error("the token's {0}")]
    Claims(&'static str),
}

impl TokenError {
    /// One word, for logs and metrics.
    pub const fn label(self) -> &'static str {
        match self {
            Self::Missing => "missing",
            Self::Malformed | Self::TooLong | Self::Part(_) => "malformed",
            Self::Algorithm(_) => "algorithm",
            Self::UnknownKey => "unknown_key",
            Self::Signature => "signature",
            Self::Expired => "expired",
            Self::NotYetValid => "not_yet_valid",
            Self::Claims(_) => "claims",
        }
    }
}

fn read_claims(claims: &Map<String, Value>) -> Result<Claims, TokenError> {
    let user = text(claims, "sub", USER_ID_BYTES_MAX, "`sub` is longer than 128 bytes, or not a text")?;
    let expires_at_s = optional(claims, "exp", seconds, "`exp` is not a number of seconds since 1970")?;
    let topics = optional(claims, "topics", topic_patterns, "`topics` is not a list of texts")?;
    Ok(Claims {
        user: user.ok_or(TokenError::Claims("`sub` is missing; it names the user"))?,
        expires_at_s: expires_at_s
            .ok_or(TokenError::Claims("`exp` is missing; it says when the token ends"))?,
        name: text(claims, "name", NAME_BYTES_MAX, "`name` is longer than 64 bytes, or not a text")?,
        topics: topics.unwrap_or_default(),
        host: optional(claims, "host", Value::as_bool, "`host` is neither true nor false")?.unwrap_or(false),
        moderator: optional(claims, "moderator", Value::as_bool, "`moderator` is neither true nor false")?
            .unwrap_or(false),
    })
}

const _: () = assert!(USER_ID_BYTES_MAX == 128 && NAME_BYTES_MAX == 64, "the texts above say so");

/// A claim that may be absent, null or empty.
fn text(
    claims: &Map<String, Value>,
    name: &str,
    bytes_max: usize,
    wrong: &'static str,
) -> Result<Option<Box<str>>, TokenError> {
    let short_text =
        |value: &Value| value.as_str().filter(|text| text.len() <= bytes_max).map(Box::<str>::from);
    Ok(optional(claims, name, short_text, wrong)?.filter(|text| !text.is_empty()))
}

/// A claim that may be absent or null.
fn optional<T>(
    claims: &Map<String, Value>,
    name: &str,
    read: impl FnOnce(&Value) -> Option<T>,
    wrong: &'static str,
) -> Result<Option<T>, TokenError> {
    match claims.get(name) {
        None | Some(Value::Null) => Ok(None),
        Some(value) => read(value).map(Some).ok_or(TokenError::Claims(wrong)),
    }
}

/// A NumericDate (RFC 7519 section 2): it may have a fraction, which is cut off.
fn seconds(value: &Value) -> Option<u64> {
    value.as_u64().or_else(|| value.as_f64().map(|seconds| seconds as u64))
}

fn topic_patterns(value: &Value) -> Option<Box<[TopicPattern]>> {
    value.as_array()?.iter().map(|pattern| Some(TopicPattern::new(pattern.as_str()?))).collect()
}

/// A token that says `claims`, signed with `key`: for HS256 the secret, else the private key in PEM.
pub fn sign(algorithm: Algorithm, key: &[u8], claims: &Claims) -> Result<String, KeyError> {
    sign_as(None, algorithm, key, claims)
}

/// A token that says `claims`, with the key named as `kid` in its header.
pub fn sign_as(
    kid: Option<&str>,
    algorithm: Algorithm,
    key: &[u8],
    claims: &Claims,
) -> Result<String, KeyError> {
    let mut payload = Map::new();
    payload.insert("sub".into(), (*claims.user).into());
    payload.insert("exp".into(), claims.expires_at_s.into());
    if let Some(name) = &claims.name {
        payload.insert("name".into(), (**name).into());
    }
    payload.insert("topics".into(), claims.topics.iter().map(TopicPattern::as_str).collect());
    if claims.host {
        payload.insert("host".into(), true.into());
    }
    if claims.moderator {
        payload.insert("moderator".into(), true.into());
    }
    let key = key::signing(algorithm, key)?;
    let header = Header { kid: kid.map(Into::into), ..Header::new(algorithm.library()) };
    jsonwebtoken::encode(&header, &payload, &key).map_err(|_| KeyError::NotPrivateKey(algorithm))
}

#[cfg(test)]
mod tests {
    use base64::Engine;
    use base64::engine::general_purpose::URL_SAFE_NO_PAD;
    use jsonwebtoken::EncodingKey;
    use serde_json::json;

    use super::*;
    use crate::ids::TopicName;
    use crate::limits::TOKEN_NOT_BEFORE_LEEWAY_S;

    const NOW: u64 = 1_800_000_000;
    const SECRET: &[u8] = b"0123456789abcdef0123456789abcdef";

    /// The key that signs, and the key that checks.
    fn keys(algorithm: Algorithm) -> (&'static [u8], &'static [u8]) {
        match algorithm {
            Algorithm::Hs256 => (SECRET, SECRET),
            Algorithm::Rs256 => (
                include_bytes!("../../tests/keys/rs256.private.pem"),
                include_bytes!("../../tests/keys/rs256.public.pem"),
            ),
            Algorithm::Es256 => (
                include_bytes!("../../tests/keys/es256.private.pem"),
                include_bytes!("../../tests/keys/es256.public.pem"),
            ),
            Algorithm::EdDsa => (
                include_bytes!("../../tests/keys/eddsa.private.pem"),
                include_bytes!("../../tests/keys/eddsa.public.pem"),
            ),
        }
    }

    fn verifier() -> Verifier {
        Verifier::new(Algorithm::Hs256, SECRET).unwrap()
    }

    fn claims() -> Claims {
        Claims {
            user: "ann".into(),
            expires_at_s: NOW + 60,
            name: Some("Ann".into()),
            topics: ["game:arena-*", "room:lobby"].map(TopicPattern::new).into(),
            host: true,
            moderator: true,
        }
    }

    /// A token with any claims, signed as it should be.
    fn signed(claims: &Value) -> String {
        jsonwebtoken::encode(&Header::default(), claims, &EncodingKey::from_secret(SECRET)).unwrap()
    }

    fn verify(claims: &Value) -> Result<Claims, TokenError> {
        verifier().verify(&signed(claims), NOW)
    }

    fn part(text: &str) -> String {
        URL_SAFE_NO_PAD.encode(text)
    }

    #[test]
    fn what_is_signed_is_verified_with_each_algorithm() {
        for algorithm in Algorithm::ALL {
            let (private, public) = keys(algorithm);
            let token = sign(algorithm, private, &claims()).unwrap();
            let verifier = Verifier::new(algorithm, public).unwrap();
            assert_eq!(verifier.verify(&token, NOW), Ok(claims()), "{algorithm}");

            let (message, signature) = token.rsplit_once('.').unwrap();
            let mut forged = URL_SAFE_NO_PAD.decode(signature).unwrap();
            forged[8] ^= 1;
            let forged = format!("{message}.{}", URL_SAFE_NO_PAD.encode(forged));
            assert_eq!(verifier.verify(&forged, NOW), Err(TokenError::Signature), "{algorithm}");
        }
    }

    #[test]
    fn claims_that_were_changed_are_refused() {
        let token = sign(Algorithm::Hs256, SECRET, &claims()).unwrap();
        let other = sign(Algorithm::Hs256, SECRET, &Claims { user: "eve".into(), ..claims() }).unwrap();
        let [header, _, signature] = token.split('.').collect::<Vec<_>>()[..] else { panic!("{token}") };
        let claims_of_eve = other.split('.').nth(1).unwrap();
        let forged = format!("{header}.{claims_of_eve}.{signature}");
        assert_eq!(verifier().verify(&forged, NOW), Err(TokenError::Signature));
        let other_secret = Verifier::new(Algorithm::Hs256, &[b'x'; 32]).unwrap();
        assert_eq!(other_secret.verify(&token, NOW), Err(TokenError::Signature));
    }

    #[test]
    fn the_algorithm_is_the_verifiers_never_the_tokens() {
        let claims = part(&json!({"sub": "eve", "exp": NOW + 60}).to_string());
        for alg in ["none", "None", "HS384", "RS256", "hs256", ""] {
            let header = part(&json!({"typ": "JWT", "alg": alg}).to_string());
            for token in [format!("{header}.{claims}."), format!("{header}.{claims}.AAAA")] {
                let verdict = verifier().verify(&token, NOW);
                assert_eq!(verdict, Err(TokenError::Algorithm(Algorithm::Hs256.into())), "{alg}");
            }
        }
        // The public key, which everybody may have, as a shared secret.
        let (_, public) = keys(Algorithm::Rs256);
        let header = Header::new(jsonwebtoken::Algorithm::HS256);
        let confused = jsonwebtoken::encode(
            &header,
            &json!({"sub": "eve", "exp": NOW + 60}),
            &EncodingKey::from_secret(public),
        );
        let verdict = Verifier::new(Algorithm::Rs256, public).unwrap().verify(&confused.unwrap(), NOW);
        assert_eq!(verdict, Err(TokenError::Algorithm(Algorithm::Rs256.into())));
        assert_eq!(Verifier::new(Algorithm::Hs256, public).unwrap_err(), KeyError::SecretIsPem);
    }

    #[test]
    fn what_is_no_token_is_refused() {
        assert_eq!(verifier().verify("", NOW), Err(TokenError::Missing));
        let header = part(r#"{"alg":"HS256"}"#);
        for bad in
            ["a", ".", "a.b", "a.b.c.d", &header, &format!("{header}.e30"), &"a".repeat(TOKEN_BYTES_MAX)]
        {
            assert_eq!(verifier().verify(bad, NOW), Err(TokenError::Malformed), "{bad}");
        }
        assert_eq!(verifier().verify(&"a".repeat(TOKEN_BYTES_MAX + 1), NOW), Err(TokenError::TooLong));
        let critical = part(r#"{"alg":"HS256","crit":["b64"],"b64":false}"#);
        let claims = part(&json!({"sub": "eve", "exp": NOW + 60}).to_string());
        for (bad, what) in [
            ("..", "header is not a JSON object"),
            ("\u{1F980}.x.y", "header is not base64url"),
            ("e30=.e30.AAAA", "header is not base64url"),
            (&format!("{}.e30.e30", part("[]")), "header is not a JSON object"),
            (&format!("{critical}.e30.AAAA"), "header has `crit`"),
            (&format!("{header}.?.AAAA"), "claims are not base64url"),
            (&format!("{header}.{}.AAAA", part("[]")), "claims are not a JSON object"),
            (&format!("{header}.{}.AAAA", part(r#"{"exp":1e999}"#)), "claims are not a JSON object"),
            (&format!("{header}.{claims}.AAA="), "signature is not base64url"),
        ] {
            let error = verifier().verify(bad, NOW).unwrap_err();
            assert!(matches!(error, TokenError::Part(_)) && error.label() == "malformed", "{bad}: {error}");
            assert!(error.to_string().starts_with(&format!("the token's {what}")), "{bad}: {error}");
        }
    }

    #[test]
    fn a_token_is_valid_from_nbf_until_exp() {
        let token = |exp: u64, nbf: u64| verify(&json!({"sub": "a", "exp": exp, "nbf": nbf})).map(drop);
        assert_eq!(token(NOW + 1, NOW), Ok(()));
        assert_eq!(token(NOW, NOW), Err(TokenError::Expired));
        assert_eq!(token(0, 0), Err(TokenError::Expired));
        assert_eq!(token(NOW + 60, NOW + TOKEN_NOT_BEFORE_LEEWAY_S), Ok(()));
        assert_eq!(token(NOW + 60, NOW + TOKEN_NOT_BEFORE_LEEWAY_S + 1), Err(TokenError::NotYetValid));
        assert_eq!(token(u64::MAX, u64::MAX), Err(TokenError::NotYetValid));
        assert!(
            verify(&json!({"sub": "a", "exp": NOW as f64 + 1.5})).is_ok(),
            "a NumericDate may have a fraction"
        );
        assert_eq!(verify(&json!({"sub": "a", "exp": -1})), Err(TokenError::Expired));
    }

    #[test]
    fn a_numeric_date_may_be_written_as_any_number() {
        let secret = aws_lc_rs::hmac::Key::new(aws_lc_rs::hmac::HMAC_SHA256, SECRET);
        let verify_at = |exp: &str, nbf: &str, now| {
            let claims = part(&format!(r#"{{"sub":"a","exp":{exp},"nbf":{nbf}}}"#));
            let signed = format!("{}.{claims}", part(r#"{"alg":"HS256"}"#));
            let signature = URL_SAFE_NO_PAD.encode(aws_lc_rs::hmac::sign(&secret, signed.as_bytes()));
            verifier().verify(&format!("{signed}.{signature}"), now).map(|claims| claims.expires_at_s)
        };
        for written in
            ["1800000000", "1800000000.0", "1800000000.9", "1.8e9", "1.8E+9", "18e8", "180000000000e-2"]
        {
            assert_eq!(verify_at(written, "0", NOW - 1), Ok(NOW), "{written}");
            assert_eq!(verify_at(written, "0", NOW), Err(TokenError::Expired), "{written}");
            assert_eq!(verify_at("1.9e9", written, NOW), Ok(1_900_000_000), "{written}");
            assert_eq!(verify_at("1.9e9", written, NOW - 60), Err(TokenError::NotYetValid), "{written}");
        }
        assert_eq!(verify_at("1e300", "-1e300", NOW), Ok(u64::MAX));
    }

    #[test]
    fn claims_are_checked() {
        let least = verify(&json!({"sub": "a", "exp": NOW + 1, "aud": "other", "iat": 0})).unwrap();
        assert_eq!((least.name, least.topics.len(), least.host, least.moderator), (None, 0, false, false));
        for (claim, value) in [
            ("sub", Value::Null),
            ("sub", json!("")),
            ("sub", json!(7)),
            ("sub", json!("x".repeat(129))),
            ("exp", Value::Null),
            ("exp", json!("1800000060")),
            ("nbf", json!("0")),
            ("name", json!("x".repeat(65))),
            ("name", json!({})),
            ("topics", json!("game:a")),
            ("topics", json!([1])),
            ("host", json!("yes")),
            ("moderator", json!(1)),
        ] {
            let mut claims = json!({"sub": "a", "exp": NOW + 1});
            claims[claim] = value;
            let Err(TokenError::Claims(text)) = verify(&claims) else { panic!("{claims} is accepted") };
            assert!(text.contains(&format!("`{claim}`")), "{text} does not name {claim}");
        }
        assert_eq!(verify(&json!([])), Err(TokenError::Part("claims are not a JSON object")));
    }

    #[test]
    fn grants_are_patterns_of_topics() {
        let topic = |name| Topic::Game(TopicName::parse(name).unwrap());
        assert!(claims().allows(&topic("arena-1")) && claims().allows(&topic("arena-")));
        assert!(!claims().allows(&topic("arena")) && !claims().allows(&topic("lobby")));
        assert!(!Claims { topics: Box::default(), ..claims() }.allows(&topic("arena-1")));
        assert!(TopicPattern::new("*").matches("game:x"));
    }

    #[test]
    fn keys_that_do_not_fit_are_named() {
        assert_eq!(Verifier::new(Algorithm::Hs256, b"secret\n").unwrap_err(), KeyError::SecretTooShort(6));
        let other_curve = include_bytes!("../../tests/keys/es384.public.pem");
        for algorithm in [Algorithm::Rs256, Algorithm::Es256, Algorithm::EdDsa] {
            let (private, public) = keys(algorithm);
            let not_public = KeyError::NotPublicKey(algorithm);
            for key in [private, SECRET, &other_curve[..], b"-----BEGIN PUBLIC KEY-----"] {
                assert_eq!(Verifier::new(algorithm, key).unwrap_err(), not_public);
            }
            for key in [public, SECRET] {
                assert_eq!(sign(algorithm, key, &claims()), Err(KeyError::NotPrivateKey(algorithm)));
            }
        }
    }

    #[test]
    fn a_key_is_the_text_without_what_stands_around_it() {
        for (before, after) in [
            ("", "\n"),
            ("", "\r\n\r\n"),
            (" ", ""),
            ("\u{FEFF}", "\n"),
            ("\u{FEFF}\t", " \n\n"),
            ("", "\u{A0}\u{2003}"),
        ] {
            let surround = |key: &[u8]| [before.as_bytes(), key, after.as_bytes()].concat();
            for algorithm in Algorithm::ALL {
                let (private, public) = keys(algorithm);
                let token = sign(algorithm, &surround(private), &claims()).unwrap();
                let bare = Verifier::new(algorithm, public).unwrap();
                assert!(bare.verify(&token, NOW).is_ok(), "{algorithm} between {before:?} and {after:?}");
                let surrounded = Verifier::new(algorithm, &surround(public)).unwrap();
                assert!(
                    surrounded.verify(&token, NOW).is_ok(),
                    "{algorithm} between {before:?} and {after:?}"
                );
            }
        }
        assert_eq!(key_text(b" a b\n"), b"a b", "what is within it stays");
        let bytes = [&[b' ', 0xC3][..], SECRET, b"\n"].concat();
        assert_eq!(key_text(&bytes), bytes, "no text");
        for order in [[0xFF, 0xFE], [0xFE, 0xFF]] {
            let written_by_powershell = [&order[..], SECRET, SECRET].concat();
            for algorithm in Algorithm::ALL {
                assert_eq!(Verifier::new(algorithm, &written_by_powershell).unwrap_err(), KeyError::Utf16);
                assert_eq!(sign(algorithm, &written_by_powershell, &claims()), Err(KeyError::Utf16));
            }
        }
    }

    #[test]
    fn algorithms_have_names() {
        for algorithm in Algorithm::ALL {
            assert_eq!(algorithm.to_string().parse(), Ok(algorithm));
        }
        assert_eq!("eddsa".parse(), Ok(Algorithm::EdDsa));
        assert!("none".parse::<Algorithm>().unwrap_err().to_string().contains("HS256"));
    }
}
