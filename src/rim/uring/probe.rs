//! What the kernel offers, and what to do when it offers too little.

use std::fmt;
use std::fs;
use std::io;
use std::time::Duration;

use io_uring::{IoUring, opcode};
use rustix::io::Errno;
use rustix::process::{Resource, getrlimit};

use super::buffers::{Buffers, Protection};
use super::op::{Operation, Token};
use super::ring::{Ring, RingSizes};
use crate::limits::CONNECTIONS_PER_SHARD_MAX;

/// Entries that the kernel allows in one descriptor table (`IORING_MAX_FIXED_FILES`), whatever `RLIMIT_NOFILE` says.
const TABLE_ENTRIES_MAX: u32 = 1 << 20;

/// Why a ring could not be had, and the likely remedy.
#[derive(Debug, thiserror::Error)]
#[allow(missing_docs, reason = "the texts say it")]
pub enum RingError {
    #[error(
        "io_uring is switched off (kernel.io_uring_disabled = {0}); switch it on with `sysctl -w kernel.io_uring_disabled=0`"
    )]
    Disabled(u8),
    #[error(
        "io_uring is forbidden here ({0}), most likely by a seccomp profile (Docker's default forbids it); run the container \
         with a profile that allows io_uring_setup, io_uring_enter and io_uring_register, as corelay's does: `docker run \
         --security-opt seccomp=deploy/seccomp.json`"
    )]
    Forbidden(io::Error),
    #[error(
        "this kernel ({0}) has no io_uring, or a seccomp profile hides it; Linux 6.1 or newer with CONFIG_IO_URING is needed"
    )]
    Missing(String),
    #[error(
        "this kernel ({0}) is too old: Linux 6.1 or newer is needed (single-issuer rings with deferred task work)"
    )]
    TooOld(String),
    #[error(
        "this kernel ({release}) lacks {feature}, which the relay cannot do without; Linux 6.1 or newer has it"
    )]
    Lacking { release: String, feature: &'static str },
    #[error(
        "this kernel ({release}) delivers no messages between rings, which {shards} shards need: use one (`shards = 1`), or Linux 6.3 \
         or newer"
    )]
    NoMessages { release: String, shards: u16 },
    #[error(
        "the process has no descriptor left for a ring ({source}); a shard needs 4 of its own: raise RLIMIT_NOFILE (now {limit}; \
         `ulimit -n`, LimitNOFILE= in a systemd unit)"
    )]
    NoDescriptor { limit: u64, source: io::Error },
    #[error(
        "no memory for a ring ({0}); raise RLIMIT_MEMLOCK (`ulimit -l`, LimitMEMLOCK= in a systemd unit) or the memory limit of \
         the container"
    )]
    NoMemory(io::Error),
    #[error(
        "a table of {wanted} connections does not fit RLIMIT_NOFILE, which is {limit}: raise it (`ulimit -n`, LimitNOFILE= in a \
         systemd unit), use fewer connections per shard, or more shards (each has a table of its own)"
    )]
    TableTooLarge { wanted: u32, limit: u64 },
    #[error("setting the ring up failed at {step}: {source}")]
    Setup { step: &'static str, source: io::Error },
    #[error("io_uring_enter failed: {0}; the loop cannot go on")]
    Enter(io::Error),
}

impl RingError {
    /// The error of a failed `io_uring_setup`.
    pub(super) fn of_setup(source: io::Error) -> Self {
        match Errno::from_io_error(&source) {
            Some(Errno::PERM | Errno::ACCESS) => match io_uring_disabled() {
                Some(level @ 1..) => Self::Disabled(level),
                Some(0) | None => Self::Forbidden(source),
            },
            Some(Errno::NOSYS) => Self::Missing(kernel_release()),
            Some(Errno::INVAL) => Self::TooOld(kernel_release()),
            Some(Errno::NOMEM) => Self::NoMemory(source),
            Some(Errno::MFILE | Errno::NFILE) => Self::NoDescriptor { limit: descriptor_limit(), source },
            _ => Self::Setup { step: "io_uring_setup", source },
        }
    }

    /// Whether this process can have no ring at all, however much memory and however many descriptors there are.
    pub fn is_unavailable(&self) -> bool {
        match self {
            Self::Disabled(_)
            | Self::Forbidden(_)
            | Self::Missing(_)
            | Self::TooOld(_)
            | Self::Lacking { .. }
            | Self::NoMessages { .. } => true,
            // A profile may allow some of the three calls only.
            Self::Setup { source, .. } | Self::Enter(source) => {
                let refusals = [Errno::PERM, Errno::ACCESS, Errno::NOSYS];
                Errno::from_io_error(source).is_some_and(|errno| refusals.contains(&errno))
            }
            Self::NoDescriptor { .. } | Self::NoMemory(_) | Self::TableTooLarge { .. } => false,
        }
    }

    /// The error of a failed registration of the descriptor table.
    pub(super) fn of_table(wanted: u32, source: io::Error) -> Self {
        match Errno::from_io_error(&source) {
            Some(Errno::MFILE) => Self::TableTooLarge { wanted, limit: descriptor_limit() },
            Some(Errno::NOMEM) => Self::NoMemory(source),
            _ => Self::Setup { step: "registering the descriptor table", source },
        }
    }
}

/// One thing the kernel may offer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Feature {
    /// Its name.
    pub name: &'static str,
    /// What it is for.
    pub meaning: &'static str,
    /// Whether it is there.
    pub available: bool,
    /// Whether the relay starts without it.
    pub required: bool,
}

/// What was found out. `Display` is the one line for the log.
#[derive(Clone, Debug)]
pub struct Probe {
    /// `uname -r`.
    pub release: String,
    /// Everything that was looked for.
    pub features: Vec<Feature>,
    /// Soft `RLIMIT_NOFILE`: the process's descriptors, and the entries of one shard's table.
    pub descriptor_limit: u64,
    /// What the soft `RLIMIT_NOFILE` could be raised to.
    pub descriptor_limit_max: u64,
    /// Soft `RLIMIT_MEMLOCK` in bytes; `None`: unlimited.
    pub memlock_limit: Option<u64>,
    /// Connections that one shard's table can hold.
    pub table_entries_max: u32,
}

impl fmt::Display for Probe {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Linux {}; io_uring with", self.release)?;
        for feature in self.features.iter().filter(|feature| feature.available) {
            write!(f, " {}", feature.name)?;
        }
        for feature in self.features.iter().filter(|feature| !feature.available) {
            write!(f, ", without {}", feature.name)?;
        }
        write!(f, "; up to {} connections per shard (RLIMIT_NOFILE)", self.table_entries_max)
    }
}

/// Soft `RLIMIT_NOFILE`.
fn descriptor_limit() -> u64 {
    getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX)
}

/// The largest descriptor table that one ring of this process can have.
pub fn table_entries_max() -> u32 {
    let bound = TABLE_ENTRIES_MAX.min(CONNECTIONS_PER_SHARD_MAX);
    u32::try_from(descriptor_limit()).unwrap_or(u32::MAX).min(bound)
}

/// `kernel.io_uring_disabled`: 0 on, 1 only for some users, 2 off. `None`: the kernel does not have the setting.
pub fn io_uring_disabled() -> Option<u8> {
    fs::read_to_string("/proc/sys/kernel/io_uring_disabled").ok()?.trim().parse().ok()
}

/// `uname -r`.
pub fn kernel_release() -> String {
    rustix::system::uname().release().to_string_lossy().into_owned()
}

const PROBE_SIZES: RingSizes = RingSizes { submissions: 8, completions: 64, descriptors: 8 };

/// Sets up two small rings like those of the relay, tries what only trying tells, and reports. An error: the relay cannot run
/// here.
pub fn probe() -> Result<Probe, RingError> {
    let mut ring = Ring::new(PROBE_SIZES)?;
    ring.enable()?;
    let messages_arrive = messages_arrive(&mut ring)?;
    let has_buffer_ring = buffer_ring_works(ring.io_uring())?;
    let mut operations = io_uring::Probe::new();
    ring.io_uring()
        .submitter()
        .register_probe(&mut operations)
        .map_err(|source| RingError::Setup { step: "asking for its operations", source })?;
    let features = features(ring.io_uring(), &operations, messages_arrive, has_buffer_ring);
    let release = kernel_release();
    if let Some(lacking) = features.iter().find(|feature| feature.required && !feature.available) {
        return Err(RingError::Lacking { release, feature: lacking.name });
    }
    Ok(Probe {
        release,
        features,
        descriptor_limit: descriptor_limit(),
        descriptor_limit_max: getrlimit(Resource::Nofile).maximum.unwrap_or(u64::MAX),
        memlock_limit: getrlimit(Resource::Memlock).current,
        table_entries_max: table_entries_max(),
    })
}

fn features(
    ring: &io_uring::IoUring,
    operations: &io_uring::Probe,
    messages_arrive: bool,
    has_buffer_ring: bool,
) -> Vec<Feature> {
    let operation = |name, meaning, code| Feature {
        name,
        meaning,
        available: operations.is_supported(code),
        required: true,
    };
    let parameters = ring.params();
    // Multishot accept into the table (5.19), multishot receive (6.0) and the sending of descriptors (6.0) have no bit of their
    // own; single-issuer rings with deferred task work came later (6.1), and `Ring::new` has just made one.
    vec![
        operation("accept", "takes connections, many per submission", opcode::AcceptMulti::CODE),
        operation("recv", "receives, many times per submission", opcode::RecvMulti::CODE),
        operation("send", "sends a frame", opcode::Send::CODE),
        operation("sendmsg", "sends several frames at once", opcode::SendMsg::CODE),
        operation("shutdown", "ends a connection before its descriptor is closed", opcode::Shutdown::CODE),
        operation("close", "closes a descriptor of the table", opcode::Close::CODE),
        operation(
            "async_cancel",
            "stops reading from a client that sends too much",
            opcode::AsyncCancel::CODE,
        ),
        operation("msg_ring", "wakes other shards and hands connections to them", opcode::MsgRingData::CODE),
        Feature {
            name: "pbuf_ring",
            meaning: "an idle connection owns no receive buffer",
            available: has_buffer_ring,
            required: true,
        },
        Feature {
            name: "ext_arg",
            meaning: "a sleep with a timeout is one system call",
            available: parameters.is_feature_ext_arg(),
            required: true,
        },
        Feature {
            name: "nodrop",
            meaning: "completions are kept when their queue is full",
            available: parameters.is_feature_nodrop(),
            required: true,
        },
        Feature {
            name: "msg_ring_deferred",
            meaning: "more than one shard: rings with deferred task work can be told something (Linux 6.3)",
            available: messages_arrive,
            required: false,
        },
        Feature {
            name: "min_wait",
            meaning: "the kernel gathers completions, which saves CPU (Linux 6.12)",
            available: parameters.is_feature_min_timeout(),
            required: false,
        },
    ]
}

/// An error: there is too little of something, so nothing is known of the kernel.
fn buffer_ring_works(ring: &IoUring) -> Result<bool, RingError> {
    let attempt = || {
        let mut buffers = Buffers::new(1, 4096, Protection::Unguarded)?;
        // The group is taken away again before its memory goes.
        buffers.register(ring)?;
        ring.submitter().unregister_buf_ring(super::buffers::GROUP)
    };
    match attempt() {
        Ok(()) => Ok(true),
        Err(error) => match Errno::from_io_error(&error) {
            Some(Errno::NOMEM) => Err(RingError::NoMemory(error)),
            Some(Errno::PERM | Errno::ACCESS) => Err(RingError::Forbidden(error)),
            _ => Ok(false),
        },
    }
}

/// Whether a message from one ring with deferred task work reaches another, which another thread owns and waits on: on its
/// own thread the kernel takes a shorter way.
fn messages_arrive(target: &mut Ring) -> Result<bool, RingError> {
    const PATIENCE: Duration = Duration::from_secs(1);
    let target_fd = target.fd();
    std::thread::scope(|scope| {
        let send = move || {
            let mut source = Ring::new(PROBE_SIZES)?;
            source.enable()?;
            source.ring_doorbell(target_fd, Token::numbered(Operation::Ring, 0));
            // Its own completion does not matter: the target's does.
            source.wait(PATIENCE)
        };
        let sending = scope.spawn(send);
        let waited = target.wait(PATIENCE);
        sending.join().unwrap_or(Ok(()))?;
        waited
    })?;
    Ok(std::iter::from_fn(|| target.reap()).any(|reaped| reaped.token.operation == Operation::Doorbell))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_kernel_runs_the_relay() {
        let probe = probe().unwrap();
        assert!(probe.features.iter().filter(|feature| feature.required).all(|feature| feature.available));
        assert!(probe.to_string().starts_with(&format!("Linux {}; io_uring with accept", probe.release)));
        assert!(u64::from(probe.table_entries_max) <= probe.descriptor_limit);
    }

    #[test]
    fn a_table_over_the_limit_names_the_limit() {
        let wanted = TABLE_ENTRIES_MAX.min(u32::try_from(descriptor_limit()).unwrap_or(u32::MAX)) + 1;
        let sizes = RingSizes { submissions: 8, completions: 64, descriptors: wanted };
        let error = Ring::new(sizes).err().unwrap();
        assert!(matches!(error, RingError::TableTooLarge { .. }), "{error}");
        assert!(error.to_string().contains("RLIMIT_NOFILE, which is"));
    }

    #[test]
    fn io_uring_is_unavailable_where_it_is_refused_and_not_where_something_has_run_out() {
        for refusal in [Errno::NOSYS, Errno::INVAL, Errno::PERM, Errno::ACCESS] {
            assert!(RingError::of_setup(refusal.into()).is_unavailable(), "{refusal:?}");
        }
        for want in [Errno::MFILE, Errno::NFILE, Errno::NOMEM, Errno::AGAIN] {
            assert!(!RingError::of_setup(want.into()).is_unavailable(), "{want:?}");
        }
        let setup = |errno: Errno| RingError::Setup { step: "enabling it", source: errno.into() };
        assert!(setup(Errno::PERM).is_unavailable() && !setup(Errno::INVAL).is_unavailable());
        assert!(RingError::Enter(Errno::NOSYS.into()).is_unavailable());
        assert!(!RingError::of_table(9, Errno::MFILE.into()).is_unavailable());
    }

    #[test]
    fn an_error_of_setup_names_its_cause() {
        let text = |errno: Errno| RingError::of_setup(errno.into()).to_string();
        assert!(text(Errno::NOSYS).contains("has no io_uring, or a seccomp profile hides it"));
        assert!(text(Errno::INVAL).contains("too old: Linux 6.1"));
        assert!(text(Errno::PERM).contains("seccomp") || text(Errno::PERM).contains("io_uring_disabled"));
        assert!(text(Errno::MFILE).contains("RLIMIT_NOFILE"));
        assert!(text(Errno::NOMEM).contains("RLIMIT_MEMLOCK"));
    }
}
