//! corelay: a relay for multiplayer game sessions.
//!
//! The modules stand in reading order, which is also the order of the floors: a module may use itself and what stands above
//! it in this list, never what stands below (`tests/layers/` checks it). `ARCHITECTURE.md` is the map.
#![deny(unsafe_code)]

// Floor 1: words.
pub mod glob;
pub mod memory;
pub mod ids;
pub mod limits;
pub mod impossible;
pub mod planted;
pub mod surplus;
pub mod reasons;
pub mod note;
pub mod time;
pub mod metrics;

// Floor 2: bytes <-> messages.
pub mod wire;

// Floor 3: one client; one topic. They never see each other.
pub mod room;
pub mod session;

// Floor 4: one thread's world. Up to here nothing makes a system call.
pub mod shard;

// Floor 5: between the core and the rim: TLS, queues between threads, and the thread that is no shard.
#[cfg(feature = "tls")]
pub mod tls;
#[cfg(all(feature = "server", not(feature = "tls")))]
#[path = "tls/absent.rs"]
pub mod tls;
#[cfg(feature = "server")]
pub mod mailbox;
#[cfg(feature = "server")]
pub mod service;

// Floor 6: the rim, where calls reach the kernel. Siblings that never see each other.
#[cfg(feature = "server")]
pub mod admin;
#[cfg(feature = "server")]
pub mod rim;
#[cfg(feature = "server")]
pub mod store;

// Floor 7: assembly.
#[cfg(feature = "server")]
pub mod machine;
#[cfg(feature = "server")]
pub mod driver_choice;
#[cfg(feature = "server")]
pub mod config;
#[cfg(feature = "server")]
pub mod logs;
#[cfg(feature = "server")]
pub mod server;
#[cfg(feature = "server")]
pub mod doctor;
#[cfg(feature = "server")]
pub mod cli;
