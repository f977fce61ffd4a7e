//! Topic to shard; the only file that knows the hash.

use crate::ids::{ShardId, TopicName};

/// The shard that owns the topics called `name`, of every kind: a game's chat lives where the game does. The same in every
/// process with as many shards.
pub fn shard_of(name: &TopicName, shards: u16) -> ShardId {
    ShardId((fnv1a(name.as_str().as_bytes()) % u64::from(shards)) as u16)
}

/// FNV-1a, 64 bits, with a finish: names that differ in their last character must spread over few shards, too.
fn fnv1a(bytes: &[u8]) -> u64 {
    let hash = bytes.iter().fold(0xCBF2_9CE4_8422_2325_u64, |hash, byte| {
        (hash ^ u64::from(*byte)).wrapping_mul(0x100_0000_01B3)
    });
    (hash ^ hash >> 32).wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 32
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbered_games_spread_evenly() {
        for shards in [2, 4, 56] {
            let mut games = vec![0; usize::from(shards)];
            for number in 0..1000 * u32::from(shards) {
                let name = TopicName::parse(&format!("game-{number}")).unwrap();
                games[usize::from(shard_of(&name, shards).0)] += 1;
            }
            assert!(games.iter().all(|count| (850..1150).contains(count)), "{games:?}");
        }
    }
}
