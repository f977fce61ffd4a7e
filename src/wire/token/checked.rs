//! A token that was checked: its signature is not checked again while the keys stay the same.

use std::sync::Arc;

use super::{Claims, TokenError, Verifier};
use crate::memory::{Allocated, shared_bytes};

/// A token, what the check of its signature said, and the keys that it was checked with.
#[derive(Clone, Debug)]
pub struct CheckedToken {
    text: Box<str>,
    claims: Result<Claims, TokenError>,
    keys: Arc<Verifier>,
}

impl CheckedToken {
    /// `claims`: what `keys` said about `text`.
    pub fn new(text: &str, claims: Result<Claims, TokenError>, keys: Arc<Verifier>) -> Self {
        Self { text: text.into(), claims, keys }
    }

    /// The token as it came.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// Whether the token was checked with these keys, so that the result of the check still counts.
    pub fn is_checked_with(&self, keys: &Arc<Verifier>) -> bool {
        Arc::ptr_eq(&self.keys, keys)
    }

    /// The result of the check, whether or not the token has expired since.
    pub fn claims(&self) -> Result<&Claims, TokenError> {
        self.claims.as_ref().map_err(|error| *error)
    }

    /// The claims, unless the token has expired at `now_unix_s`.
    pub fn claims_at(&self, now_unix_s: u64) -> Result<&Claims, TokenError> {
        self.claims().and_then(|claims| match now_unix_s < claims.expires_at_s {
            true => Ok(claims),
            false => Err(TokenError::Expired),
        })
    }

    /// A holder's part of a shared token, without the keys, of which there are few; see `memory`.
    pub fn shared_bytes(token: &Arc<Self>) -> usize {
        let claims = token.claims().map_or(0, Claims::heap_bytes);
        shared_bytes(token, token.text.allocated_bytes() + claims)
    }
}
