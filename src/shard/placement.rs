//! Topic to shard; the only file that knows the hash.

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

/// SipHash-1-3 (Aumasson and Bernstein 2012, with the rounds that Rust's own tables use): without the key nobody can tell
/// which texts collide.
fn siphash_1_3(key: [u64; 2], bytes: &[u8]) -> u64 {
    let mut state = [
        key[0] ^ 0x736F_6D65_7073_6575,
        key[1] ^ 0x646F_7261_6E64_6F6D,
        key[0] ^ 0x6C79_6765_6E65_7261,
        key[1] ^ 0x7465_6462_7974_6573,
    ];
    let (words, rest) = bytes.as_chunks();
    let mut last = [0; 8];
    last[..rest.len()].copy_from_slice(rest);
    last[7] = bytes.len() as u8;
    for word in words.iter().chain([&last]) {
        let word = u64::from_le_bytes(*word);
        state[3] ^= word;
        sip_round(&mut state);
        state[0] ^= word;
    }
    state[2] ^= 0xFF;
    (0..3).for_each(|_| sip_round(&mut state));
    state.into_iter().fold(0, |hash, part| hash ^ part)
}

fn sip_round([a, b, c, d]: &mut [u64; 4]) {
    *a = a.wrapping_add(*b);
    *b = b.rotate_left(13) ^ *a;
    *a = a.rotate_left(32);
    *c = c.wrapping_add(*d);
    *d = d.rotate_left(16) ^ *c;
    *a = a.wrapping_add(*d);
    *d = d.rotate_left(21) ^ *a;
    *c = c.wrapping_add(*b);
    *b = b.rotate_left(17) ^ *c;
    *c = c.rotate_left(32);
}

#[cfg(test)]
mod tests {
    use std::hash::{DefaultHasher, Hasher};

    use super::*;

    fn name(text: &str) -> TopicName {
        TopicName::parse(text).unwrap()
    }

    #[test]
    fn the_hash_is_the_one_of_the_standard_library() {
        for length in 0..64 {
            let bytes: Vec<u8> = (0..length).collect();
            let mut hasher = DefaultHasher::new();
            hasher.write(&bytes);
            assert_eq!(siphash_1_3([0; 2], &bytes), hasher.finish(), "{length} bytes");
        }
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
