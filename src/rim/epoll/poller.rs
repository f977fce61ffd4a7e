//! One epoll instance: what is registered with it, and how it is waited for.

use crate::rim::driver::Side;
use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, OwnedFd};
use std::thread;
use std::time::Duration;

use rustix::event::epoll::{self, CreateFlags, Event, EventData, EventFlags};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::process::{Resource, getrlimit};

use crate::limits::{COMPLETIONS_PER_TURN, EVENTS_PER_WAIT};
use crate::memory::Allocated;

/// Why the driver cannot work, and the likely remedy.
#[derive(Debug, thiserror::Error)]
#[allow(missing_docs, reason = "the texts say it")]
pub enum EpollError {
    #[error(
        "the process has no descriptor left for {what} ({source}); raise RLIMIT_NOFILE (now {limit}; `ulimit -n`, LimitNOFILE= in \
         a systemd unit)"
    )]
    NoDescriptor { what: &'static str, limit: u64, source: io::Error },
    #[error("setting epoll up failed at {step}: {source}")]
    Setup { step: &'static str, source: io::Error },
    #[error("epoll_wait failed: {0}; the loop cannot go on")]
    Wait(io::Error),
}

impl EpollError {
    /// The error of a descriptor that could not be made.
    pub(super) fn of_descriptor(what: &'static str, errno: Errno) -> Self {
        match errno {
            Errno::MFILE | Errno::NFILE => Self::NoDescriptor {
                what,
                limit: getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX),
                source: errno.into(),
            },
            _ => Self::Setup { step: what, source: errno.into() },
        }
    }
}

/// What an event is about, in the 64 bits that the kernel carries for a descriptor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Subject {
    /// The socket in a place, if it is still the one of this generation.
    Socket { place: u32, generation: u16 },
    /// A listener.
    Listener(Side),
    /// The driver of another shard.
    Doorbell,
    /// An eventfd that is watched. Its only purpose is to end the wait.
    Watched,
}

impl Subject {
    const LISTENER: u64 = u64::MAX;
    const SECURE_LISTENER: u64 = u64::MAX - 3;
    const DOORBELL: u64 = u64::MAX - 1;
    const WATCHED: u64 = u64::MAX - 2;

    fn encode(self) -> u64 {
        match self {
            // A place is less than 24 bits, so no socket has one of the numbers above.
            Self::Socket { place, generation } => u64::from(generation) << u32::BITS | u64::from(place),
            Self::Listener(Side::Plain) => Self::LISTENER,
            Self::Listener(Side::Secure) => Self::SECURE_LISTENER,
            Self::Doorbell => Self::DOORBELL,
            Self::Watched => Self::WATCHED,
        }
    }

    fn decode(data: u64) -> Self {
        match data {
            Self::LISTENER => Self::Listener(Side::Plain),
            Self::SECURE_LISTENER => Self::Listener(Side::Secure),
            Self::DOORBELL => Self::Doorbell,
            Self::WATCHED => Self::Watched,
            _ => Self::Socket { place: data as u32, generation: (data >> u32::BITS) as u16 },
        }
    }
}

pub(super) struct Poller {
    epoll: OwnedFd,
    /// What the last wait has found.
    events: Vec<(Subject, EventFlags)>,
    gather_time: Duration,
}

impl Poller {
    pub(super) fn new(gather_time: Duration) -> Result<Self, EpollError> {
        let epoll = epoll::create(CreateFlags::CLOEXEC)
            .map_err(|errno| EpollError::of_descriptor("an epoll instance", errno))?;
        Ok(Self { epoll, events: Vec::with_capacity(EVENTS_PER_WAIT), gather_time })
    }

    /// Registers a descriptor for everything that can become ready, each time it does.
    pub(super) fn add(&self, descriptor: impl AsFd, subject: Subject) -> Result<(), Errno> {
        let readable = EventFlags::IN | EventFlags::RDHUP | EventFlags::ET;
        let events = match subject {
            Subject::Socket { .. } => readable | EventFlags::OUT | EventFlags::PRI,
            Subject::Listener(_) | Subject::Doorbell | Subject::Watched => readable,
        };
        epoll::add(&self.epoll, descriptor, EventData::new_u64(subject.encode()), events)
    }

    /// No event of this descriptor comes any more. Its number may then go to another thread, or be closed.
    pub(super) fn remove(&self, descriptor: impl AsFd) -> Result<(), Errno> {
        epoll::delete(&self.epoll, descriptor)
    }

    /// Sleeps until something happens, at most for `timeout`, unless completions `wait` to be told already. A `busy` driver first
    /// lets things gather for a while, unless many wait.
    pub(super) fn wait(&mut self, timeout: Duration, wait: usize, busy: bool) -> Result<(), EpollError> {
        // A wait that found as many as it can has left some, most likely.
        let many_wait = wait >= COMPLETIONS_PER_TURN || self.events.len() == EVENTS_PER_WAIT;
        let gather_time = if busy && !many_wait { self.gather_time } else { Duration::ZERO };
        let gather_time = gather_time.min(timeout);
        if gather_time > Duration::ZERO {
            thread::sleep(gather_time);
        }
        let sleep_time = if wait == 0 { timeout - gather_time } else { Duration::ZERO };
        // `epoll_wait` knows whole milliseconds only, and a tick should not be late by one.
        let whole = Duration::from_millis(sleep_time.as_millis() as u64);
        let rest = sleep_time - whole;
        if rest.is_zero() || !whole.is_zero() {
            self.take_events(whole)?;
        } else {
            self.events.clear();
        }
        if self.events.is_empty() && !rest.is_zero() && self.sleep(rest)? {
            self.take_events(Duration::ZERO)?;
        }
        Ok(())
    }

    /// Takes what has happened, and waits for it until the end of `timeout`, which is whole milliseconds.
    fn take_events(&mut self, timeout: Duration) -> Result<(), EpollError> {
        self.events.clear();
        // An `Event` holds what may be a pointer, so it must not stay in a value that goes to another thread.
        let mut found = [const { MaybeUninit::<Event>::uninit() }; EVENTS_PER_WAIT];
        match epoll::wait(&self.epoll, &mut found[..], Some(&timespec(timeout))) {
            Ok((found, _)) => {
                let decoded = found.iter().map(|event| (Subject::decode(event.data.u64()), event.flags));
                self.events.extend(decoded);
                Ok(())
            }
            Err(errno) => ignore_interrupt(errno),
        }
    }

    /// Returns whether something has happened.
    ///
    /// It sleeps in `ppoll`: `epoll_pwait2` is missing before Linux 5.11 and in older seccomp profiles, some of which kill whoever
    /// calls it.
    fn sleep(&self, time: Duration) -> Result<bool, EpollError> {
        let slept = poll(&mut [PollFd::new(&self.epoll, PollFlags::IN)], Some(&timespec(time)));
        slept.map_or_else(|errno| ignore_interrupt(errno).map(|()| false), |descriptors| Ok(descriptors > 0))
    }

    /// What the last wait has found: what it is about, and what is ready.
    pub(super) fn event(&self, index: usize) -> Option<(Subject, EventFlags)> {
        self.events.get(index).copied()
    }

    /// Its number as a descriptor.
    #[cfg(test)]
    pub(super) fn number(&self) -> i32 {
        std::os::fd::AsRawFd::as_raw_fd(&self.epoll)
    }

    /// Bytes that it has allocated; see `memory`.
    pub(super) fn heap_bytes(&self) -> usize {
        self.events.allocated_bytes()
    }
}

fn timespec(time: Duration) -> Timespec {
    Timespec { tv_sec: time.as_secs() as i64, tv_nsec: time.subsec_nanos().into() }
}

fn ignore_interrupt(errno: Errno) -> Result<(), EpollError> {
    if errno == Errno::INTR { Ok(()) } else { Err(EpollError::Wait(errno.into())) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::limits::CONNECTIONS_PER_SHARD_MAX;

    #[test]
    fn every_subject_survives_at_its_limits() {
        let place = CONNECTIONS_PER_SHARD_MAX - 1;
        let sockets = [0, u16::MAX].map(|generation| Subject::Socket { place, generation });
        let others = [
            Subject::Listener(Side::Plain),
            Subject::Listener(Side::Secure),
            Subject::Doorbell,
            Subject::Watched,
        ];
        for subject in sockets.into_iter().chain(others) {
            assert_eq!(Subject::decode(subject.encode()), subject);
        }
    }

    #[test]
    fn an_error_of_setup_names_its_remedy() {
        let text = EpollError::of_descriptor("an eventfd", Errno::MFILE).to_string();
        assert!(
            text.contains("no descriptor left for an eventfd") && text.contains("RLIMIT_NOFILE"),
            "{text}"
        );
    }
}
