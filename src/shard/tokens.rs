//! Tokens on a shard: none is checked twice with the same keys, and how many a stranger may have checked is bounded.

use std::sync::Arc;
use std::time::Duration;

use super::siphash::siphash_1_3;
use crate::limits::{
    FORGED_TOKEN_RATE, GOOD_TOKEN_RATE, SHARD_FORGED_TOKEN_RATE, TOKEN_KEPT_BYTES_MAX, TOKENS_KEPT,
};
use crate::memory::Allocated;
use crate::metrics::ShardMetrics;
use crate::session::rate_limit::{Bucket, Rate, Signatures};
use crate::time::Now;
use crate::wire::token::{Checked, CheckedToken, TokenError, Verifier};

/// The keys, the tokens that were checked with them lately, and what forged ones may still cost.
#[derive(Debug)]
pub(super) struct Tokens {
    keys: Arc<Verifier>,
    /// Good tokens, each in the place that its hash names, where it replaces another one. Empty, or of `TOKENS_KEPT` places.
    kept: Vec<Option<Arc<CheckedToken>>>,
    /// Unpredictable: whoever knew it could find tokens that replace each other, and have them checked time and again.
    hash_key: [u64; 2],
    forged: Bucket,
    metrics: Arc<ShardMetrics>,
}

/// Whose account is charged for the signatures of a token that is not known yet.
#[derive(Debug)]
pub(super) enum Payer<'a> {
    /// A request: the shard's account, if the token is forged.
    Request,
    /// A connection without a good token: its own account, and the shard's too, if the token is forged.
    Stranger(&'a mut Signatures),
    /// A connection with a good token: its own account. Strangers who use up the shard's do not disturb it.
    Known(&'a mut Signatures),
}

/// Why a token does not count.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Unaccepted {
    /// It is wrong, or not valid now.
    Refused(TokenError),
    /// Too many tokens were checked before it. After this time one will be looked at.
    TooMany(Duration),
}

impl Tokens {
    /// The keys at the start.
    pub fn new(keys: Arc<Verifier>, hash_key: [u64; 2], metrics: Arc<ShardMetrics>) -> Self {
        Self { keys, kept: Vec::new(), hash_key, forged: Bucket::default(), metrics }
    }

    /// From now on only these keys count.
    pub fn renew_keys(&mut self, keys: Arc<Verifier>) {
        self.keys = keys;
        self.kept = Vec::new();
    }

    /// Checks a token as it came; `Ok`: it is good now.
    pub fn check(&mut self, text: &str, payer: Payer<'_>, now: Now) -> Result<Arc<CheckedToken>, Unaccepted> {
        let token = self.look_at(text, payer, now).map_err(Unaccepted::TooMany)?;
        token.claims_at(now.unix_s()).map_err(Unaccepted::Refused)?;
        Ok(token)
    }

    /// Checks a token again if the keys have changed, good or not; `Err`: after this time it will be looked at.
    pub fn look_again(
        &mut self,
        token: &Arc<CheckedToken>,
        payer: Payer<'_>,
        now: Now,
    ) -> Result<Arc<CheckedToken>, Duration> {
        match token.is_checked_with(&self.keys) {
            true => Ok(token.clone()),
            false => self.look_at(token.text(), payer, now),
        }
    }

    /// Frees what is kept.
    pub fn give_back(&mut self) {
        self.kept = Vec::new();
    }

    /// Bytes that it has allocated; see `memory`.
    pub fn heap_bytes(&self) -> usize {
        self.kept.allocated_bytes()
            + self.kept.iter().flatten().map(CheckedToken::shared_bytes).sum::<usize>()
    }

    /// Checks a token as it came with the present keys, good or not; `Err`: after this time it will be looked at.
    pub fn look_at(&mut self, text: &str, payer: Payer<'_>, now: Now) -> Result<Arc<CheckedToken>, Duration> {
        let place = siphash_1_3(self.hash_key, text.as_bytes()) as usize % TOKENS_KEPT;
        let kept = self.kept.get(place).and_then(Option::as_ref);
        if let Some(kept) = kept.filter(|kept| kept.text() == text) {
            return Ok(kept.clone());
        }
        let (own, of_shard) = match payer {
            Payer::Request => (None, Some(&mut self.forged)),
            Payer::Stranger(own) => (Some(own), Some(&mut self.forged)),
            Payer::Known(own) => (Some(own), None),
        };
        let (mut good, forged) = own.map(|own| (&mut own.good, &mut own.forged)).unzip();
        let mut forged = [forged, of_shard];
        let [own, of_shard] = &mut forged;
        let accounts =
            [(own, FORGED_TOKEN_RATE), (of_shard, SHARD_FORGED_TOKEN_RATE), (&mut good, GOOD_TOKEN_RATE)];
        for (account, rate) in accounts {
            if let Some(account) = account {
                account.has_one(Rate::from(rate), now.instant)?;
            }
        }
        let Checked { claims, signatures } = self.keys.check(text, now.unix_s());
        self.metrics.token_signatures.add(signatures.into());
        let is_good = claims.is_ok();
        let charged = if is_good { [good, None] } else { forged };
        charged.into_iter().flatten().for_each(|account| account.charge(signatures));
        let token = Arc::new(CheckedToken::new(text, claims, self.keys.clone()));
        if is_good && text.len() <= TOKEN_KEPT_BYTES_MAX {
            self.kept.resize(TOKENS_KEPT, None);
            self.kept[place] = Some(token.clone());
        }
        Ok(token)
    }
}
