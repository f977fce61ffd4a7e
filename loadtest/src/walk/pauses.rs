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

struct Pauser {
    client: u32,
    stage: Stage,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Stage {
    Reads,
    PausesUntil(u64),
    /// It reads what was on its way to it all the time.
    CatchesUp,
    /// What is checked looks back to the time before.
    SettlesUntil(u64),
}

impl Pauses {
    /// `at_once` of `clients` pause at a time, from `begin_ns` on.
    pub fn new(clients: impl Iterator<Item = u32>, at_once: f64, begin_ns: u64) -> Self {
        Self {
            interval_ns: (at_once > 0.0).then(|| (PAUSE_NS as f64 / at_once) as u64),
            next_ns: begin_ns,
            turn: 0,
            pausers: clients.map(|client| Pauser { client, stage: Stage::Reads }).collect(),
            count: 0,
        }
    }

    /// Lets those pause and read on whose time it is. A client must be right again `settle_ns` after it `is_current`.
    pub fn turn(
        &mut self,
        crowd: &mut Crowd,
        is_current: impl Fn(u32) -> bool,
        settle_ns: u64,
        now_ns: u64,
    ) -> io::Result<()> {
        let Some(interval_ns) = self.interval_ns else { return Ok(()) };
        for Pauser { client, stage } in &mut self.pausers {
            match *stage {
                Stage::PausesUntil(end_ns) if end_ns <= now_ns => {
                    *stage = Stage::CatchesUp;
                    crowd.read_on(*client)?;
                }
                Stage::CatchesUp if is_current(*client) => *stage = Stage::SettlesUntil(now_ns + settle_ns),
                Stage::SettlesUntil(end_ns) if end_ns <= now_ns => *stage = Stage::Reads,
                Stage::Reads | Stage::PausesUntil(_) | Stage::CatchesUp | Stage::SettlesUntil(_) => {}
            }
        }
        while self.next_ns <= now_ns {
            self.next_ns += interval_ns;
            self.turn = (self.turn + 1) % self.pausers.len();
            let Pauser { client, stage } = &mut self.pausers[self.turn];
            if *stage == Stage::Reads && crowd.is_joined(*client) {
                *stage = Stage::PausesUntil(now_ns + PAUSE_NS);
                self.count += 1;
                crowd.pause(*client)?;
            }
        }
        Ok(())
    }

    /// Whether what a client is shown may be out of date by its own doing.
    pub fn excuse(&self, client: u32) -> bool {
        self.pausers.iter().any(|pauser| pauser.client == client && pauser.stage != Stage::Reads)
    }

    /// All read on.
    pub fn end(&mut self, crowd: &mut Crowd) -> io::Result<()> {
        let paused = self.pausers.iter_mut().filter(|pauser| matches!(pauser.stage, Stage::PausesUntil(_)));
        for pauser in paused {
            crowd.read_on(pauser.client)?;
        }
        Ok(())
    }
}
