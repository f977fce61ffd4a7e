//! How many shards, and how large their tables and queues are: computed from what is asked for and what the machine gives.
//!
//! Each shard's ring has a descriptor table of its own, capped at `RLIMIT_NOFILE`; so more shards hold more connections, also
//! more shards than CPUs. With epoll, sockets are descriptors of the process: `RLIMIT_NOFILE` bounds those of all shards together. A hash places games on shards, so no shard gets exactly its share: each has room for a quarter more,
//! and for one large game in any case. `connections_max` bounds the connections of all shards together.

use std::time::Duration;

use super::error::ConfigError;
use crate::driver_choice::DriverKind;
use crate::limits::{
    COMPLETION_QUEUE_ENTRIES, COMPLETION_QUEUE_ENTRIES_MIN, CONNECTION_KERNEL_BYTES,
    CONNECTIONS_PER_SHARD_MAX, CONNECTIONS_RESERVE, DESCRIPTORS_OF_PROCESS, DESCRIPTORS_OF_SHARD,
    IDLE_PLAYER_BYTES_MAX, MAILBOX_LETTERS_ALL, MAILBOX_LETTERS_MAX, MAILBOX_LETTERS_MIN,
    PLAYERS_MAX_DEFAULT, RECEIVE_BUFFERS, RECEIVE_BUFFERS_MIN, SHARDS_MAX, SUBMISSION_QUEUE_ENTRIES,
    SUBMISSION_QUEUE_ENTRIES_MIN, TLS_CONNECTION_BYTES, TURN_GATHER_TIME, TURN_GATHER_TIME_MAX,
};
use crate::machine::Resources;

/// The kernel's own cap on a ring's descriptor table (`IORING_MAX_FIXED_FILES`).
pub(super) const TABLE_ENTRIES_MAX: u64 = 1 << 20;
const _: () = assert!(TABLE_ENTRIES_MAX <= CONNECTIONS_PER_SHARD_MAX as u64);
/// A shard has room for so many connections, if the relay has: a game lives on one shard.
const ROOM_FOR_A_GAME: u64 = 4 * PLAYERS_MAX_DEFAULT as u64;

/// What an operator asks for. `None`: not set.
#[derive(Clone, Copy, Debug, Default)]
pub struct Wanted {
    /// Connections of the whole relay.
    pub connections_max: Option<u32>,
    /// Number of shards.
    pub shards: Option<u16>,
    /// Connections may have TLS.
    pub has_tls: bool,
}

/// What is planned; all shards are alike, and `table_entries` of all of them may be more than `sockets_max`. Invariant: `connections_per_shard` + `CONNECTIONS_RESERVE` = `table_entries`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Capacity {
    /// Number of shards.
    pub shards: u16,
    /// Connections of the whole relay, as asked for, or as many as fit.
    pub connections_max: u64,
    /// Connections of one shard that may be players.
    pub connections_per_shard: u32,
    /// Sockets that a shard has room for: entries of its ring's descriptor table, or as many with epoll.
    pub table_entries: u32,
    /// Sockets that all shards together may have open.
    pub sockets_max: u64,
    /// Sizes of a shard's queues.
    pub queues: Queues,
}

/// Sizes that shrink when shards share a CPU, because each of them then does less at a time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Queues {
    /// Submission queue entries of the ring, a power of two.
    pub submissions: u32,
    /// Completion queue entries of the ring, a power of two.
    pub completions: u32,
    /// Receive buffers lent to the kernel, a power of two.
    pub receive_buffers: u16,
    /// Letters in the queue from one shard to another.
    pub letters: usize,
    /// How long a loop gathers completions before it turns.
    pub gather_time: Duration,
}

impl Queues {
    /// The sizes for `shards` on `cpus`.
    pub fn new(shards: u16, cpus: usize) -> Self {
        let shards_per_cpu = usize::from(shards).div_ceil(cpus.max(1)).next_power_of_two() as u32;
        Self {
            submissions: (SUBMISSION_QUEUE_ENTRIES / shards_per_cpu).max(SUBMISSION_QUEUE_ENTRIES_MIN),
            completions: (COMPLETION_QUEUE_ENTRIES / shards_per_cpu).max(COMPLETION_QUEUE_ENTRIES_MIN),
            receive_buffers: (u32::from(RECEIVE_BUFFERS) / shards_per_cpu).max(u32::from(RECEIVE_BUFFERS_MIN))
                as u16,
            // There is a queue from each shard to each.
            letters: (MAILBOX_LETTERS_ALL / usize::from(shards.max(1)).pow(2))
                .clamp(MAILBOX_LETTERS_MIN, MAILBOX_LETTERS_MAX),
            gather_time: (TURN_GATHER_TIME * shards_per_cpu).min(TURN_GATHER_TIME_MAX),
        }
    }
}

impl Wanted {
    /// How many shards there will be, or more if one cannot carry its part of the connections.
    pub fn shards_at_least(&self, found: Resources) -> u16 {
        self.shards.unwrap_or_else(|| shards_of_cpus(found.cpus))
    }
}

/// Slots that one ring can have under this `RLIMIT_NOFILE`.
pub fn table_entries_available(descriptors: u64) -> u64 {
    descriptors.min(TABLE_ENTRIES_MAX)
}

/// Sockets that all shards together may have open, whatever each has room for.
pub fn sockets_max(driver: DriverKind, descriptors: u64, shards: u16) -> u64 {
    match driver {
        // What is in a ring's table is no descriptor of the process.
        DriverKind::IoUring => u64::from(shards) * table_entries_available(descriptors),
        DriverKind::Epoll => descriptors.saturating_sub(own_descriptors(shards)),
    }
}

/// Descriptors of the process that are no sockets of clients.
fn own_descriptors(shards: u16) -> u64 {
    u64::from(DESCRIPTORS_OF_PROCESS) + u64::from(DESCRIPTORS_OF_SHARD) * u64::from(shards)
}

/// The limit with which one player finds room on so many shards.
fn descriptors_needed(driver: DriverKind, shards: u16) -> u64 {
    let own = match driver {
        DriverKind::IoUring => 0,
        DriverKind::Epoll => own_descriptors(shards),
    };
    own + u64::from(CONNECTIONS_RESERVE) + 1
}

/// The default number of shards: one per CPU.
pub fn shards_of_cpus(cpus: usize) -> u16 {
    u16::try_from(cpus).unwrap_or(u16::MAX).clamp(1, SHARDS_MAX)
}

/// Chooses the number of shards, if none is asked for, and divides `connections_max` (or as many connections as fit) over them.
pub fn plan(wanted: Wanted, found: Resources, driver: DriverKind) -> Result<Capacity, ConfigError> {
    let reserve = u64::from(CONNECTIONS_RESERVE);
    let available = table_entries_available(found.descriptors);
    let needed = descriptors_needed(driver, wanted.shards_at_least(found));
    if found.descriptors < needed {
        return Err(ConfigError::TooFewDescriptors { available: found.descriptors, needed });
    }
    let per_shard_max = available - reserve;
    let capacity = |shards: u16, per_shard: u64, connections_max: u64| Capacity {
        shards,
        connections_max,
        connections_per_shard: per_shard as u32,
        table_entries: (per_shard + reserve) as u32,
        sockets_max: sockets_max(driver, found.descriptors, shards),
        queues: Queues::new(shards, found.cpus),
    };
    let Some(connections_max) = wanted.connections_max else {
        let shards = wanted.shards.unwrap_or_else(|| shards_of_cpus(found.cpus));
        let together = connections_of_process(driver, found.descriptors, shards)?;
        let fitting = together.min(per_shard_max * u64::from(shards));
        let per_shard = with_headroom(fitting.div_ceil(shards.into()), shards);
        return Ok(capacity(shards, with_room_for_a_game(per_shard, fitting).min(per_shard_max), fitting));
    };
    let shards_needed = shards_needed(connections_max, per_shard_max);
    let by_itself = shards_needed.map(|needed| needed.max(shards_of_cpus(found.cpus)));
    let shards = wanted.shards.or(by_itself).unwrap_or(SHARDS_MAX);
    let together = connections_of_process(driver, found.descriptors, shards)?;
    if u64::from(connections_max) > together {
        let needed = found.descriptors + u64::from(connections_max) - together;
        return Err(ConfigError::TooManySockets { connections_max, needed, available: found.descriptors });
    }
    let share = u64::from(connections_max).div_ceil(shards.into());
    let per_shard = with_headroom(share, shards);
    // If the operator sets the number of shards, less headroom is accepted, with a warning.
    let least = if wanted.shards.is_some() { share } else { per_shard };
    if least > per_shard_max {
        return Err(ConfigError::TooManyConnections {
            connections_max,
            shards,
            per_shard,
            reserve: CONNECTIONS_RESERVE,
            needed: per_shard + reserve,
            available,
            shards_needed,
        });
    }
    check_memory(connections_max, wanted.has_tls, found.memory)?;
    let per_shard = with_room_for_a_game(per_shard, connections_max.into()).min(per_shard_max);
    Ok(capacity(shards, per_shard, connections_max.into()))
}

/// What works and is probably not meant, a line each.
pub fn warnings(capacity: &Capacity, wanted: Wanted, found: Resources) -> Vec<String> {
    let mut warnings = Vec::new();
    let Some(connections_max) = wanted.connections_max else { return warnings };
    let (share, per_shard) =
        (u64::from(connections_max).div_ceil(capacity.shards.into()), capacity.connections_per_shard);
    if u64::from(per_shard) < with_headroom(share, capacity.shards) {
        warnings.push(format!(
            "each of {} shards has room for {per_shard} connections, and {connections_max} in all are {share} for each: games fall on \
             shards by hash, so some may be full early; more --shards or a higher RLIMIT_NOFILE give a quarter more",
            capacity.shards
        ));
    }
    let needed = memory_of(connections_max, wanted.has_tls);
    if let Some(available) = found.memory_available.filter(|&available| available < needed) {
        warnings.push(format!(
            "connections_max = {connections_max} takes {} MiB of the relay's and the kernel's memory, and {} MiB are free now",
            needed >> 20,
            available >> 20
        ));
    }
    warnings
}

/// The least number of shards that hold so many connections with their headroom. `None`: more than `SHARDS_MAX`.
fn shards_needed(connections_max: u32, per_shard_max: u64) -> Option<u16> {
    (1..=SHARDS_MAX).find(|&shards| {
        with_headroom(u64::from(connections_max).div_ceil(shards.into()), shards) <= per_shard_max
    })
}

/// A shard among several gets a quarter more than its share. If a hash spreads games of 50 so that a shard expects 320 of them,
/// the standard deviation is 18 games (the square root), so a quarter is 4.5 standard deviations. A single shard gets everything.
fn with_headroom(share: u64, shards: u16) -> u64 {
    if shards == 1 { share } else { (share * 5).div_ceil(4) }
}

fn with_room_for_a_game(per_shard: u64, connections_max: u64) -> u64 {
    per_shard.max(connections_max.min(ROOM_FOR_A_GAME))
}

/// Connections that all shards together can have, so that some sockets are left for refusals.
fn connections_of_process(driver: DriverKind, descriptors: u64, shards: u16) -> Result<u64, ConfigError> {
    if driver == DriverKind::IoUring {
        return Ok(u64::MAX);
    }
    let fitting = sockets_max(driver, descriptors, shards).saturating_sub(CONNECTIONS_RESERVE.into());
    if fitting == 0 {
        let needed = descriptors_needed(driver, shards);
        return Err(ConfigError::TooFewDescriptors { available: descriptors, needed });
    }
    Ok(fitting)
}

/// Memory of the process that an idle player takes.
pub fn user_bytes(has_tls: bool) -> u64 {
    IDLE_PLAYER_BYTES_MAX as u64 + if has_tls { TLS_CONNECTION_BYTES } else { 0 }
}

fn memory_of(connections_max: u32, has_tls: bool) -> u64 {
    u64::from(connections_max) * (user_bytes(has_tls) + CONNECTION_KERNEL_BYTES)
}

fn check_memory(connections_max: u32, has_tls: bool, memory: Option<u64>) -> Result<(), ConfigError> {
    let (user, kernel) = (user_bytes(has_tls), CONNECTION_KERNEL_BYTES);
    let needed = memory_of(connections_max, has_tls);
    match memory.filter(|&available| available < needed) {
        Some(available) => {
            Err(ConfigError::TooLittleMemory { connections_max, user, kernel, needed, available })
        }
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(descriptors: u64, memory: u64) -> Resources {
        Resources { cpus: 2, descriptors, memory: Some(memory), memory_available: Some(memory) }
    }

    fn planned(
        connections_max: Option<u32>,
        shards: Option<u16>,
        descriptors: u64,
    ) -> Result<Capacity, ConfigError> {
        plan(
            Wanted { connections_max, shards, has_tls: false },
            found(descriptors, 1 << 60),
            DriverKind::IoUring,
        )
    }

    #[test]
    fn without_a_maximum_the_table_is_as_large_as_the_limit() {
        let capacity = planned(None, None, 20_000).unwrap();
        assert_eq!(
            (capacity.shards, capacity.connections_per_shard, capacity.table_entries),
            (2, 19_936, 20_000)
        );
        assert_eq!(capacity.connections_max, 39_872);
        assert_eq!(planned(None, None, u64::MAX).unwrap().table_entries, 1 << 20);
    }

    #[test]
    fn a_maximum_is_divided_with_a_quarter_more_for_each_and_the_reserve_added() {
        let capacity = planned(Some(20_001), Some(4), 20_000).unwrap();
        assert_eq!((capacity.connections_per_shard, capacity.table_entries), (6_252, 6_316));
        let small = planned(Some(1_000), Some(8), 20_000).unwrap();
        assert_eq!(small.connections_per_shard, 1_000, "all of them in one game");
        assert_eq!(planned(Some(10_001), Some(8), 20_000).unwrap().connections_per_shard, 4_000);
        let capacity = planned(Some(10_001), Some(1), 20_000).unwrap();
        assert_eq!(capacity.connections_per_shard, 10_001, "one shard gets all of them");
    }

    #[test]
    fn a_million_connections_find_their_shards_and_small_queues() {
        let capacity = planned(Some(1_000_000), None, 20_000).unwrap();
        assert_eq!(capacity.shards, 63);
        assert_eq!((capacity.connections_per_shard, capacity.table_entries), (19_843, 19_907));
        let Queues { submissions, completions, receive_buffers, letters, gather_time } = capacity.queues;
        assert_eq!((submissions, completions, receive_buffers, letters), (256, 4_096, 32, 16));
        assert_eq!(gather_time, Duration::from_millis(20));
        let roomy = planned(Some(1_000_000), None, 1 << 20).unwrap();
        assert_eq!((roomy.shards, roomy.connections_per_shard), (2, 625_000));
        assert_eq!(roomy.queues, Queues::new(2, 2));
    }

    #[test]
    fn a_shard_per_cpu_has_queues_of_full_size() {
        let Queues { submissions, completions, receive_buffers, letters, gather_time } = Queues::new(2, 2);
        assert_eq!(gather_time, TURN_GATHER_TIME);
        assert_eq!(
            (submissions, completions, receive_buffers, letters),
            (SUBMISSION_QUEUE_ENTRIES, COMPLETION_QUEUE_ENTRIES, RECEIVE_BUFFERS, MAILBOX_LETTERS_MAX)
        );
        assert_eq!(Queues::new(4, 2).gather_time, 2 * TURN_GATHER_TIME);
        assert_eq!(Queues::new(SHARDS_MAX, 1).letters, MAILBOX_LETTERS_MIN);
    }

    #[test]
    fn the_remedy_names_a_number_of_shards_that_works() {
        let error = planned(Some(50_000), Some(2), 20_000).unwrap_err();
        assert_eq!(
            error.to_string(),
            "connections_max = 50000 on 2 shard(s) takes 31250 + 64 reserved = 31314 descriptor slots in each \
             shard's ring, but a ring holds at most 20000 (RLIMIT_NOFILE of this process)"
        );
        let remedy = error.remedy().unwrap();
        assert!(remedy.contains("ulimit -n 31314") && remedy.contains("--shards 4"), "{remedy}");
        let alone = planned(Some(50_000), None, 20_000).unwrap();
        assert_eq!(alone.shards, 4);
        let wanted = |shards| Wanted { connections_max: Some(50_000), shards, has_tls: false };
        assert_eq!(warnings(&alone, wanted(None), found(20_000, 1 << 60)), [""; 0]);
        let tight = planned(Some(50_000), Some(3), 20_000).unwrap();
        assert_eq!(tight.table_entries, 20_000, "as much headroom as there is");
        let warned = warnings(&tight, wanted(Some(3)), found(20_000, 1 << 60));
        assert!(warned.len() == 1 && warned[0].contains("16667 for each"), "{warned:?}");
        let little = warnings(&alone, wanted(None), found(20_000, 1 << 20));
        assert!(little.len() == 1 && little[0].contains("1 MiB are free now"), "{little:?}");
    }

    #[test]
    fn with_epoll_the_limit_bounds_the_sum_of_all_shards() {
        let planned = |connections_max, shards, descriptors| {
            plan(
                Wanted { connections_max, shards, has_tls: false },
                found(descriptors, 1 << 60),
                DriverKind::Epoll,
            )
        };
        let own = u64::from(DESCRIPTORS_OF_PROCESS) + 4 * u64::from(DESCRIPTORS_OF_SHARD);
        let capacity = planned(None, Some(4), 20_000).unwrap();
        assert_eq!((capacity.sockets_max, capacity.connections_max), (20_000 - own, 20_000 - own - 64));
        assert_eq!(
            u64::from(capacity.connections_per_shard),
            (capacity.connections_max.div_ceil(4) * 5).div_ceil(4)
        );
        let few = planned(None, Some(4), 1_024).unwrap();
        assert_eq!(u64::from(few.connections_per_shard), few.connections_max, "all of them in one game");
        assert_eq!(planned(Some(19_000), Some(4), 20_000).unwrap().connections_max, 19_000);
        let error = planned(Some(20_000), None, 20_000).unwrap_err();
        let (text, remedy) = (error.to_string(), error.remedy().unwrap());
        assert!(text.contains("more than RLIMIT_NOFILE of this process, which is 20000, leaves"), "{text}");
        let (_, needed) = remedy.split_once("ulimit -n ").unwrap();
        let needed: u64 = needed.split('`').next().unwrap().parse().unwrap();
        assert!(
            planned(Some(20_000), None, needed).is_ok() && planned(Some(20_000), None, needed - 1).is_err()
        );
        assert!(remedy.contains("io_uring"), "{remedy}");
        let error = planned(None, Some(4), 64).unwrap_err();
        let (text, remedy) = (error.to_string(), error.remedy().unwrap());
        assert!(
            text.starts_with("RLIMIT_NOFILE is 64: ") && remedy.contains("LimitNOFILE="),
            "{text} {remedy}"
        );
        assert!(remedy.contains(&format!("the least is {}", own + 65)), "{remedy}");
        let fits = |descriptors| planned(None, Some(4), descriptors).map(|capacity| capacity.connections_max);
        assert!(fits(own + 64).is_err() && fits(own + 65).is_ok_and(|connections| connections == 1));
        assert!(planned(None, Some(1), u64::MAX).is_ok(), "no limit");
    }

    #[test]
    fn a_limit_below_the_reserve_is_refused() {
        assert!(matches!(
            planned(None, Some(1), 64),
            Err(ConfigError::TooFewDescriptors { available: 64, needed: 65 })
        ));
        assert!(planned(None, Some(1), 65).is_ok());
    }

    #[test]
    fn more_shards_than_allowed_are_not_a_remedy() {
        for (shards, remedy) in [(Some(1), "ask for fewer"), (None, "raise the limit (`ulimit -n 488346`")] {
            let error = planned(Some(100_000_000), shards, 4_096).unwrap_err();
            assert!(error.remedy().unwrap().starts_with(remedy), "{:?}", error.remedy());
        }
        // 256 shards would hold a million, but not with headroom.
        let error = planned(Some(1_000_000), None, 4_096).unwrap_err();
        let remedy = error.remedy().unwrap();
        assert!(remedy.contains("ulimit -n 4948") && !remedy.contains("--shards"), "{remedy}");
    }

    #[test]
    fn connections_that_memory_cannot_hold_are_refused_with_the_arithmetic() {
        let found = found(20_000, 2 << 30);
        let error = plan(
            Wanted { connections_max: Some(1_000_000), shards: None, has_tls: false },
            found,
            DriverKind::IoUring,
        )
        .unwrap_err();
        assert_eq!(
            error.to_string(),
            "connections_max = 1000000 takes 1000000 × (320 + 4200) bytes of the relay's and the kernel's memory = 4310 MiB, \
             and there are 2048 MiB"
        );
        assert!(error.remedy().unwrap().contains("--connections-max 475107"), "{:?}", error.remedy());
        let unknown = Resources { memory: None, ..found };
        assert!(
            plan(
                Wanted { connections_max: Some(1_000_000), shards: None, has_tls: false },
                unknown,
                DriverKind::IoUring
            )
            .is_ok()
        );
    }

    #[test]
    fn connections_with_tls_need_more_memory() {
        let found = found(1 << 20, 100_000 * (IDLE_PLAYER_BYTES_MAX as u64 + CONNECTION_KERNEL_BYTES));
        let plan = |has_tls| {
            let wanted = Wanted { connections_max: Some(100_000), shards: None, has_tls };
            plan(wanted, found, DriverKind::IoUring)
        };
        assert!(plan(false).is_ok());
        assert!(matches!(plan(true), Err(ConfigError::TooLittleMemory { user: 3_920, .. })));
    }
}
