//! Which interface of the kernel the shards run on, decided once, at the start, by making rings like theirs.

use crate::rim::uring::{self, Probe, RingError};

/// What the operator wants.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum DriverWish {
    /// io_uring, or epoll where that is unavailable.
    #[default]
    Auto,
    /// io_uring, or no relay.
    IoUring,
    /// epoll.
    Epoll,
}

/// What the shards run on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DriverKind {
    /// Rings.
    IoUring,
    /// Readiness.
    Epoll,
}

impl DriverKind {
    /// Its name in the configuration, in the log and on the admin pages.
    pub fn name(self) -> &'static str {
        match self {
            Self::IoUring => "io_uring",
            Self::Epoll => "epoll",
        }
    }
}

/// What was decided.
#[derive(Debug)]
pub enum Choice {
    /// Rings, which were found to work.
    IoUring(Probe),
    /// epoll, because the operator wants it.
    Epoll,
    /// epoll, because there can be no ring, as the error says.
    EpollInstead(RingError),
}

/// Why there is no driver, and the likely remedy.
#[derive(Debug, thiserror::Error)]
pub enum ChoiceError {
    /// io_uring is unavailable, and nothing else is wanted.
    #[error(
        "{0}. Or set `driver` to \"auto\" or \"epoll\": the relay then runs on epoll, and takes more CPU"
    )]
    Refused(#[source] RingError),
    /// There is too little of something, which epoll would lack as well.
    #[error(transparent)]
    Lacking(RingError),
}

impl Choice {
    /// What the shards run on.
    pub fn kind(&self) -> DriverKind {
        match self {
            Self::IoUring(_) => DriverKind::IoUring,
            Self::Epoll | Self::EpollInstead(_) => DriverKind::Epoll,
        }
    }

    /// The same, for as many shards as there are in the end: `connections_max` may need more than there are CPUs.
    pub fn for_shards(self, shards: u16) -> Result<Self, RingError> {
        match self {
            Self::IoUring(probe) => serves(probe, shards).map(Self::IoUring),
            other @ (Self::Epoll | Self::EpollInstead(_)) => Ok(other),
        }
    }

    /// What the log says about it, if the operator may not expect it.
    pub fn warning(&self) -> Option<String> {
        match self {
            Self::IoUring(_) | Self::Epoll => None,
            Self::EpollInstead(error) => Some(format!(
                "the relay runs on epoll, and takes more CPU than on io_uring: {error}. If epoll is meant, say so with \
                 driver = \"epoll\""
            )),
        }
    }
}

/// Decides for so many shards. Falls back only where io_uring is unavailable: where memory or descriptors have run out, epoll would
/// lack them, too.
pub fn choose(wish: DriverWish, shards: u16) -> Result<Choice, ChoiceError> {
    if wish == DriverWish::Epoll {
        return Ok(Choice::Epoll);
    }
    judge(wish, uring::probe().and_then(|probe| serves(probe, shards)))
}

/// Whether rings can send messages to each other, as a handover of a connection needs.
fn serves(probe: Probe, shards: u16) -> Result<Probe, RingError> {
    let is_there = |name| probe.features.iter().any(|feature| feature.name == name && feature.available);
    if shards == 1 || is_there("msg_ring_deferred") {
        return Ok(probe);
    }
    Err(RingError::NoMessages { release: probe.release, shards })
}

fn judge(wish: DriverWish, probed: Result<Probe, RingError>) -> Result<Choice, ChoiceError> {
    match probed {
        Ok(probe) => Ok(Choice::IoUring(probe)),
        Err(error) if !error.is_unavailable() => Err(ChoiceError::Lacking(error)),
        Err(error) if wish == DriverWish::IoUring => Err(ChoiceError::Refused(error)),
        Err(error) => Ok(Choice::EpollInstead(error)),
    }
}

#[cfg(test)]
mod tests {
    use std::io;

    use rustix::io::Errno;

    use super::*;

    fn refused() -> RingError {
        RingError::Forbidden(io::Error::from(Errno::PERM))
    }

    #[test]
    fn epoll_is_taken_where_io_uring_is_refused_and_the_reason_is_told() {
        let choice = judge(DriverWish::Auto, Err(refused())).unwrap();
        assert_eq!(choice.kind(), DriverKind::Epoll);
        let warning = choice.warning().unwrap();
        assert!(warning.contains("seccomp") && warning.contains("driver = \"epoll\""), "{warning}");
        assert!(choose(DriverWish::Epoll, 2).unwrap().warning().is_none(), "it is meant");
    }

    #[test]
    fn whoever_insists_on_io_uring_is_refused_with_the_ways_out() {
        let error = judge(DriverWish::IoUring, Err(refused())).unwrap_err().to_string();
        assert!(error.contains("seccomp") && error.contains("\"auto\" or \"epoll\""), "{error}");
    }

    #[test]
    fn where_memory_or_descriptors_have_run_out_nothing_else_is_tried() {
        let short = [
            RingError::NoMemory(Errno::NOMEM.into()),
            RingError::NoDescriptor { limit: 5, source: Errno::MFILE.into() },
            RingError::TableTooLarge { wanted: 9, limit: 5 },
        ];
        for error in short {
            let text = error.to_string();
            let told = judge(DriverWish::Auto, Err(error)).unwrap_err();
            assert!(matches!(told, ChoiceError::Lacking(_)) && told.to_string() == text, "{told}");
        }
    }

    #[test]
    fn rings_that_hear_no_messages_serve_one_shard_and_epoll_serves_several() {
        let deaf = || {
            let mut probe = uring::probe().unwrap();
            probe.features.retain(|feature| feature.name != "msg_ring_deferred");
            probe
        };
        assert!(serves(deaf(), 1).is_ok());
        let choice = judge(DriverWish::Auto, serves(deaf(), 2)).unwrap();
        assert_eq!(choice.kind(), DriverKind::Epoll);
        let error = judge(DriverWish::IoUring, serves(deaf(), 2)).unwrap_err().to_string();
        assert!(error.contains("2 shards need: use one (`shards = 1`), or Linux 6.3"), "{error}");
    }
}
