//! What an operator can set, as the core wants it: checked, resolved, immutable, shared by all shards.

use std::sync::Arc;
use std::time::Duration;

use super::placement::Placement;
use crate::glob::glob_matches;
use crate::ids::TopicName;
use crate::limits;
use crate::metrics::SharedCount;
use crate::room::chat::RoomRules;
use crate::room::document::DocumentRules;
use crate::room::game::GameRules;
use crate::session::liveness::Liveness;
use crate::session::rate_limit::Rates;
use crate::wire::token::Verifier;
use crate::wire::upgrade::UpgradeRules;

/// See the module documentation. `Settings::default()` is the embedded default.
#[derive(Debug)]
pub struct Settings {
    /// The shards of the process, and which topics each of them owns.
    pub placement: Placement,
    /// Connections of one shard that may be players; beyond it 503.
    pub connections_per_shard_max: u32,
    /// Connections of all shards that may be players; beyond it 503. Shards that look at the same time may let in one more each.
    pub connections_max: u64,
    /// Open connections of all shards.
    pub connections_open: SharedCount,
    /// Which requests are upgraded.
    pub upgrade: UpgradeRules,
    /// The keys at the start, which `Order::Keys` replaces; `None`: development mode, everybody is a guest.
    pub verifier: Option<Arc<Verifier>>,
    /// Rules by game name pattern (a `*` stands for any run of characters); the first that fits wins.
    pub games: Vec<GameRules>,
    /// Rules of chat rooms, by name pattern; the first that fits wins.
    pub rooms: Vec<RoomRules>,
    /// Rules of documents, by name pattern; the first that fits wins.
    pub documents: Vec<DocumentRules>,
    /// How many guests earlier processes may have named: their numbers are not given again.
    pub guests_before: u64,
    /// Whether the log wants to hear of players that come and go, and of refusals: `Output::Note`.
    pub notes: bool,
    /// Rate limits of a player.
    pub rates: Rates,
    /// Silence that is answered by a ping, and by a close.
    pub liveness: Liveness,
    /// What else holds for every client.
    pub clients: ClientRules,
}

/// What a client may send, how much may wait for it, what it is told, and when it is closed. `ClientRules::default()` is the
/// embedded default.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ClientRules {
    /// Members of a topic up to which they are told who else is there; above, only how many.
    pub presence_list_max: u32,
    /// Inbound message limit, in bytes.
    pub message_bytes_max: usize,
    /// Bound of a connection's reliable lane, in bytes; each frame counts `limits::OUTBOX_FRAME_BYTES` beyond its own.
    pub outbox_bytes_max: usize,
    /// From accept to the complete request head.
    pub upgrade_timeout: Duration,
    /// From the upgrade of a connection without a token, where one is needed, to its first join that is granted; and from the end
    /// of its last topic to the next one.
    pub socket_join_timeout: Duration,
    /// `/socket` wants a token with the request, where one is needed at all.
    pub socket_token_required: bool,
    /// Connections of all shards closed per `limits::DRAIN_BATCH_INTERVAL` while draining.
    pub drain_batch: u32,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            placement: Placement::known(1),
            connections_per_shard_max: 10_000,
            connections_max: u64::MAX,
            connections_open: SharedCount::default(),
            upgrade: UpgradeRules { development: true, ..UpgradeRules::default() },
            verifier: None,
            games: Vec::new(),
            rooms: Vec::new(),
            documents: Vec::new(),
            guests_before: 0,
            notes: false,
            rates: Rates::default(),
            liveness: Liveness::default(),
            clients: ClientRules::default(),
        }
    }
}

impl Settings {
    /// The rules of a game; `None`: the defaults.
    pub fn game_rules(&self, name: &TopicName) -> Option<&GameRules> {
        self.games.iter().find(|rules| glob_matches(&rules.pattern, name.as_str()))
    }

    /// This shard's part of `ClientRules::drain_batch`; all shards are alike.
    pub fn drain_batch_of_shard(&self) -> u32 {
        self.clients.drain_batch.div_ceil(self.placement.shards.into())
    }
}

impl Default for ClientRules {
    fn default() -> Self {
        Self {
            presence_list_max: limits::PRESENCE_LIST_MAX,
            message_bytes_max: limits::MESSAGE_BYTES_MAX,
            outbox_bytes_max: limits::OUTBOX_BYTES_MAX,
            upgrade_timeout: limits::UPGRADE_TIMEOUT,
            socket_join_timeout: limits::SOCKET_JOIN_TIMEOUT,
            socket_token_required: false,
            drain_batch: limits::DRAIN_BATCH,
        }
    }
}
