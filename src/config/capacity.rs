//! How many connections fit: each shard's ring has a descriptor table of its own, capped at `RLIMIT_NOFILE`.

use super::error::ConfigError;
use crate::limits::{CONNECTIONS_PER_SHARD_MAX, CONNECTIONS_RESERVE, SHARDS_MAX};

/// The kernel's own cap on a ring's descriptor table (`IORING_MAX_FIXED_FILES`).
const TABLE_ENTRIES_MAX: u64 = 1 << 20;
const _: () = assert!(TABLE_ENTRIES_MAX <= CONNECTIONS_PER_SHARD_MAX as u64);

/// The same for every shard. Invariant: connections + `CONNECTIONS_RESERVE` = table entries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Capacity {
    /// Connections that may be players.
    pub connections_per_shard: u32,
    /// Descriptor table entries of the ring.
    pub table_entries: u32,
}

/// Slots that one ring can have under this `RLIMIT_NOFILE`.
pub fn table_entries_available(descriptors: u64) -> u64 {
    descriptors.min(TABLE_ENTRIES_MAX)
}

/// Divides `connections_max` over the shards (`None`: as many as fit).
pub fn plan(connections_max: Option<u32>, shards: u16, descriptors: u64) -> Result<Capacity, ConfigError> {
    let reserve = CONNECTIONS_RESERVE;
    let available = table_entries_available(descriptors);
    if available <= u64::from(reserve) {
        return Err(ConfigError::TooFewDescriptors { available, reserve });
    }
    let Some(connections_max) = connections_max else {
        let table_entries = available as u32;
        return Ok(Capacity { connections_per_shard: table_entries - reserve, table_entries });
    };
    let per_shard = u64::from(connections_max.div_ceil(shards.into()));
    let needed = per_shard + u64::from(reserve);
    if needed > available {
        let shards_needed = u64::from(connections_max).div_ceil(available - u64::from(reserve));
        let shards_needed = u16::try_from(shards_needed).ok().filter(|shards| *shards <= SHARDS_MAX);
        return Err(ConfigError::TooManyConnections {
            connections_max,
            shards,
            per_shard,
            reserve,
            needed,
            available,
            shards_needed,
        });
    }
    Ok(Capacity { connections_per_shard: per_shard as u32, table_entries: needed as u32 })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn without_a_maximum_the_table_is_as_large_as_the_limit() {
        let capacity = plan(None, 2, 20_000).unwrap();
        assert_eq!(capacity, Capacity { connections_per_shard: 19_936, table_entries: 20_000 });
        assert_eq!(plan(None, 2, u64::MAX).unwrap().table_entries, 1 << 20);
    }

    #[test]
    fn a_maximum_is_divided_and_the_reserve_added() {
        let capacity = plan(Some(10_001), 4, 20_000).unwrap();
        assert_eq!(capacity, Capacity { connections_per_shard: 2_501, table_entries: 2_565 });
    }

    #[test]
    fn the_remedy_names_a_number_of_shards_that_works() {
        let error = plan(Some(50_000), 2, 20_000).unwrap_err();
        assert_eq!(
            error.to_string(),
            "connections_max = 50000 on 2 shard(s) takes 25000 + 64 reserved = 25064 descriptor slots in each \
             shard's ring, but a ring holds at most 20000 (RLIMIT_NOFILE of this process)"
        );
        let remedy = error.remedy().unwrap();
        assert!(remedy.contains("ulimit -n 25064") && remedy.contains("--shards 3"), "{remedy}");
        assert!(plan(Some(50_000), 3, 20_000).is_ok());
    }

    #[test]
    fn a_limit_below_the_reserve_is_refused() {
        assert!(matches!(
            plan(None, 1, 64),
            Err(ConfigError::TooFewDescriptors { available: 64, reserve: 64 })
        ));
        assert!(plan(None, 1, 65).is_ok());
    }

    #[test]
    fn more_shards_than_allowed_are_not_a_remedy() {
        let error = plan(Some(100_000_000), 1, 1_024).unwrap_err();
        assert!(!error.remedy().unwrap().contains("--shards"));
    }
}
