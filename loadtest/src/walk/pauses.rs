//! Clients that read nothing for a while, so that the relay skips them.

use std::io;

use crate::crowd::Crowd;

/// How long a client reads nothing: its buffers are full long before.
const PAUSE_NS: u64 = 4_000_000_000;

/// Of the clients that are followed, some pause in turn.
pub struct Pauses {
    /// Between the begins of two.
    interval_ns: Option<u64>,
    next_ns: u64,
    turn: usize,
    pausers: Vec<Pauser>,
    pub count: u64,
}

#[derive(Clone, Copy)]
struct Pauser {
    client: u32,
    /// `None`: it reads.
    read_on_ns: Option<u64>,
    /// What it is shown is right again.
    settled_ns: u64,
}

impl Pauses {
    /// `at_once` of `clients` pause at a time, from `begin_ns` on.
    pub fn new(clients: impl Iterator<Item = u32>, at_once: f64, begin_ns: u64) -> Self {
        let pauser = |client| Pauser { client, read_on_ns: None, settled_ns: 0 };
        Self {
            interval_ns: (at_once > 0.0).then(|| (PAUSE_NS as f64 / at_once) as u64),
            next_ns: begin_ns,
            turn: 0,
            pausers: clients.map(pauser).collect(),
            count: 0,
        }
    }

    /// Lets those pause and read on whose time it is. `settle_ns` after it reads on, a client must be right again.
    pub fn turn(&mut self, crowd: &mut Crowd, settle_ns: u64, now_ns: u64) -> io::Result<()> {
        let Some(interval_ns) = self.interval_ns else { return Ok(()) };
        for pauser in &mut self.pausers {
            if pauser.read_on_ns.take_if(|read_on_ns| *read_on_ns <= now_ns).is_some() {
                pauser.settled_ns = now_ns + settle_ns;
                crowd.read_on(pauser.client)?;
            }
        }
        while self.next_ns <= now_ns {
            self.next_ns += interval_ns;
            self.turn = (self.turn + 1) % self.pausers.len();
            let pauser = &mut self.pausers[self.turn];
            if pauser.read_on_ns.is_none() && pauser.settled_ns <= now_ns && crowd.is_joined(pauser.client) {
                pauser.read_on_ns = Some(now_ns + PAUSE_NS);
                self.count += 1;
                crowd.pause(pauser.client)?;
            }
        }
        Ok(())
    }

    /// Whether what a client is shown may be out of date by its own doing.
    pub fn excuse(&self, client: u32, now_ns: u64) -> bool {
        let pauser = self.pausers.iter().find(|pauser| pauser.client == client);
        pauser.is_some_and(|pauser| pauser.read_on_ns.is_some() || now_ns < pauser.settled_ns)
    }

    /// All read on.
    pub fn end(&mut self, crowd: &mut Crowd) -> io::Result<()> {
        let paused =
            self.pausers.iter_mut().filter_map(|pauser| pauser.read_on_ns.take().map(|_| pauser.client));
        paused.collect::<Vec<_>>().into_iter().try_for_each(|client| crowd.read_on(client))
    }
}
