//! The tokens of connections: none, one for all, or one for each.

use std::path::Path;

use anyhow::{Context, bail};
use corelay::wire::token::key_text;
use jsonwebtoken::{Algorithm, EncodingKey, Header};
use serde_json::json;

/// How long a token that is signed here is valid.
const VALID_S: u64 = 3600;
/// RFC 7518 section 3.2: a key for HS256 has at least 256 bits.
const KEY_BYTES_MIN: usize = 32;

#[derive(Clone, Default)]
pub enum Tokens {
    /// No token: guests of a relay in development mode.
    #[default]
    None,
    Same(String),
    /// One for each connection, signed with this key (HS256).
    Signed(EncodingKey),
}

impl Tokens {
    /// From `--token` and `--token-key-file`, of which at most one is given.
    pub fn new(token: Option<&str>, key_file: Option<&Path>) -> anyhow::Result<Self> {
        match (token, key_file) {
            (Some(token), _) => {
                // It goes into the query without escapes, so it must not need any.
                let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte);
                if token.is_empty() || !token.bytes().all(plain) {
                    bail!("--token: a JWT consists of letters, digits, '-', '_' and '.'");
                }
                Ok(Self::Same(token.to_owned()))
            }
            (None, Some(path)) => {
                let context = || format!("--token-key-file {}", path.display());
                let file = std::fs::read(path).with_context(context)?;
                let key = key_text(&file);
                if key.len() < KEY_BYTES_MIN {
                    bail!("{}: {} bytes; HS256 needs {KEY_BYTES_MIN} or more", context(), key.len());
                }
                Ok(Self::Signed(EncodingKey::from_secret(key)))
            }
            (None, None) => Ok(Self::None),
        }
    }

    /// The token of connection `number`, which joins `topic` and no other.
    pub fn token(&self, number: u32, topic: &str, now_unix_s: u64) -> Option<String> {
        match self {
            Self::None => None,
            Self::Same(token) => Some(token.clone()),
            Self::Signed(key) => {
                let claims = json!({ "sub": format!("load-{number}"), "exp": now_unix_s + VALID_S, "topics": [topic] });
                let token = jsonwebtoken::encode(&Header::new(Algorithm::HS256), &claims, key);
                Some(token.expect("an HMAC takes every key and text"))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use corelay::wire::token::{Algorithm, Verifier};

    use super::*;

    #[test]
    fn each_connection_signs_a_token_that_the_relay_takes_for_its_topic_only() {
        let mut file = tempfile::NamedTempFile::new().unwrap();
        file.write_all(&[b'k'; 31]).unwrap();
        assert!(Tokens::new(None, Some(file.path())).err().unwrap().to_string().contains("31 bytes"));
        // Line ends are none of the key, as for the relay.
        file.write_all(b"k\r\n\n").unwrap();
        let tokens = Tokens::new(None, Some(file.path())).unwrap();
        let token = tokens.token(12, "room:lobby", 1_000_000).unwrap();
        let verifier = Verifier::new(Algorithm::Hs256, &[b'k'; 32]).unwrap();
        let claims = verifier.verify(&token, 1_000_000).unwrap();
        assert_eq!((&*claims.user, claims.expires_at_s), ("load-12", 1_003_600));
        let topics: Vec<_> = claims.topics.iter().map(|pattern| pattern.as_str()).collect();
        assert_eq!(topics, ["room:lobby"]);
        assert_ne!(tokens.token(13, "room:lobby", 1_000_000).unwrap(), token);
    }

    #[test]
    fn a_given_token_is_the_same_for_all_and_needs_no_escapes() {
        let tokens = Tokens::new(Some("ey.J0-_"), None).unwrap();
        assert_eq!(tokens.token(1, "x", 0), tokens.token(2, "y", 9));
        assert!(Tokens::new(Some("a&b"), None).is_err() && Tokens::new(Some(""), None).is_err());
        assert_eq!(Tokens::new(None, None).unwrap().token(1, "x", 0), None);
    }
}
