//! Topic to shard; the only file that knows how.

use super::siphash::siphash_1_3;
use crate::ids::{ShardId, TopicName};

/// Which shard owns which topics.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Placement {
    /// Names hash differently under each seed. It must be unpredictable outside tests: whoever knew it could find names that
    /// all live on one shard, and load that one alone.
    pub seed: [u64; 2],
    /// Number of shards, at least one.
    pub shards: u16,
}

impl Placement {
    /// On so many shards, under a seed that everybody knows: for tests.
    pub const fn known(shards: u16) -> Self {
        Self { seed: [0; 2], shards }
    }

    /// The shard that owns the topics called `name`, of every kind: a game's chat lives where the game does.
    pub fn shard_of(&self, name: &TopicName) -> ShardId {
        ShardId((siphash_1_3(self.seed, name.as_str().as_bytes()) % u64::from(self.shards)) as u16)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(text: &str) -> TopicName {
        TopicName::parse(text).unwrap()
    }

    #[test]
    fn numbered_games_spread_evenly() {
        for shards in [2, 4, 56] {
            let placement = Placement { seed: [7, 9], shards };
            let mut games = vec![0; usize::from(shards)];
            for number in 0..1000 * u32::from(shards) {
                games[usize::from(placement.shard_of(&name(&format!("game-{number}"))).0)] += 1;
            }
            assert!(games.iter().all(|count| (850..1150).contains(count)), "{games:?}");
        }
    }

    #[test]
    fn names_aimed_at_one_shard_miss_under_another_seed() {
        let aimed_at = Placement { seed: [1, 2], shards: 4 };
        let names = (0..4000).map(|number| name(&format!("game-{number}")));
        let aimed: Vec<TopicName> = names.filter(|name| aimed_at.shard_of(name) == ShardId(0)).collect();
        for seed in [[1, 3], [2, 2], [u64::MAX, 0]] {
            let placement = Placement { seed, ..aimed_at };
            let hits = aimed.iter().filter(|name| placement.shard_of(name) == ShardId(0)).count();
            assert!((aimed.len() / 6..aimed.len() / 3).contains(&hits), "{hits} of {}", aimed.len());
        }
    }
}
