//! The moves of one thread's players: sent when they are due or when their socket is free, and accounted for.

use std::ops::Range;

use corelay::wire::native::Ack;
use hdrhistogram::Histogram;
use zerocopy::FromBytes;

use crate::alignment::Alignment;
use crate::clock;
use crate::crowd::{Crowd, Listener, Pushed};
use crate::dialect::Event;
use crate::schedule::Schedule;
use crate::views::{Timing, Views, microseconds};

/// A move that is sent later than this after its intended time is late.
const LATE_NS: u64 = 1_000_000;
/// When so many bytes of moves are written, no further one goes into the same send.
const MOVES_BYTES_ENOUGH: usize = 1024;

/// How moves left this machine. Only those meant for the window count.
#[derive(Debug)]
pub struct Sends {
    pub moves: u64,
    /// Sent more than a millisecond after their intended time.
    pub late: u64,
    /// Had to wait for their own busy socket.
    pub queued: u64,
    /// From the intended time to the send, in µs.
    pub lateness_us: Histogram<u64>,
}

impl Default for Sends {
    fn default() -> Self {
        Self { moves: 0, late: 0, queued: 0, lateness_us: microseconds() }
    }
}

impl Sends {
    pub fn add(&mut self, other: &Self) {
        self.moves += other.moves;
        self.late += other.late;
        self.queued += other.queued;
        self.lateness_us.add(&other.lateness_us).expect("both have the same bounds");
    }
}

impl Listener for Views {
    fn handle_event(&mut self, slot: u32, event: Event<'_>, now_ns: u64) {
        match event {
            Event::Positions(positions) => self.handle_positions(slot, positions, now_ns),
            Event::Record(record) => {
                if let Ok(ack) = Ack::ref_from_bytes(record) {
                    self.handle_ack(slot, ack.input_seq.get(), ack.slack.get());
                }
            }
            Event::Joined | Event::Presence(_) | Event::Stream(_) => {}
        }
    }
}

/// See the module documentation. `begin`, then `send_due` again and again, and `send_freed` after each turn of the crowd, whose
/// listener is `views`. The players are the first connections of the crowd.
pub struct Moves {
    pub views: Views,
    pub sends: Sends,
    schedule: Schedule,
    /// When players are to move their phase before their ticks; `None`: they have, or never do.
    align_at_ns: Option<u64>,
    players_per_room: u32,
    /// Last sequence that is due, for players whose socket was busy.
    waiting: Vec<u32>,
    /// Moves that are being sent.
    frames: Vec<u8>,
}

impl Moves {
    pub fn new(schedule: Schedule, players_per_room: u32) -> Self {
        Self {
            views: Views::new(players_per_room, schedule.phases_ns()),
            sends: Sends::default(),
            waiting: vec![0; schedule.phases_ns().len()],
            schedule,
            align_at_ns: None,
            players_per_room,
            frames: Vec::new(),
        }
    }

    /// Players move from `start_ns` on; what is meant for `window_ns` counts.
    pub fn begin(&mut self, start_ns: u64, window_ns: Range<u64>, grace_ns: u64) {
        let interval_ns = self.schedule.interval_ns();
        self.views.timing = Timing { start_ns, interval_ns, window_ns, grace_ns };
    }

    /// At `at_ns` the phases of players move before their ticks, as far as Acks have told where these are.
    pub fn align_at(&mut self, at_ns: u64) {
        self.views.alignment =
            Some(Alignment::new(self.schedule.phases_ns().len(), self.schedule.interval_ns()));
        self.align_at_ns = Some(at_ns);
    }

    pub fn next_ns(&self) -> Option<u64> {
        Some(self.views.timing.start_ns + self.schedule.next_ns()?)
    }

    pub fn send_due(&mut self, crowd: &mut Crowd, now_ns: u64) -> anyhow::Result<()> {
        if self.align_at_ns.take_if(|at_ns| *at_ns <= now_ns).is_some()
            && let Some(alignment) = self.views.alignment.take()
        {
            alignment.align(&mut self.schedule, now_ns - self.views.timing.start_ns);
            self.views.set_phases(self.schedule.phases_ns());
        }
        while let Some(due) = self.schedule.take_due(now_ns.saturating_sub(self.views.timing.start_ns)) {
            self.send_moves(crowd, due.player, due.sequence, now_ns)?;
        }
        Ok(())
    }

    /// Sends what waited for sockets that are free now.
    pub fn send_freed(&mut self, crowd: &mut Crowd) -> anyhow::Result<()> {
        for slot in crowd.take_freed() {
            // Others than the players wait for nothing.
            let Some(&sequence) = self.waiting.get(slot as usize) else { continue };
            self.send_moves(crowd, slot, sequence, clock::now_ns())?;
        }
        Ok(())
    }

    /// Moves meant for the window.
    pub fn planned(&self) -> u64 {
        let within = |time_ns: u64| time_ns.saturating_sub(self.views.timing.start_ns);
        let (from, to) = (within(self.views.timing.window_ns.start), within(self.views.timing.window_ns.end));
        let players = 0..self.schedule.phases_ns().len() as u32;
        players.map(|player| self.schedule.moves_within(player, from..to)).sum()
    }

    /// Sends what `player` has not sent of its moves up to `sequence`, now or when its socket is free.
    fn send_moves(
        &mut self,
        crowd: &mut Crowd,
        player: u32,
        sequence: u32,
        now_ns: u64,
    ) -> anyhow::Result<()> {
        let first = self.views.sent(player) + 1;
        if sequence < first {
            return Ok(());
        }
        let mut last = first - 1;
        let number_in_room = player % self.players_per_room;
        self.frames.clear();
        while last < sequence && self.frames.len() <= MOVES_BYTES_ENOUGH {
            last += 1;
            crowd.write_move(player, number_in_room, last, &mut self.frames);
        }
        match crowd.try_send(player, &self.frames)? {
            Pushed::Sent => {
                (first..=last).for_each(|sequence| self.count_sent(player, sequence, now_ns));
                self.views.handle_sent(player, last);
                if last < sequence {
                    // The socket is busy now; the rest goes when it no longer is.
                    return self.send_moves(crowd, player, sequence, now_ns);
                }
            }
            Pushed::Busy => {
                let intended_ns = self.views.intended_ns(player, sequence);
                let newly_due = self.waiting[player as usize] < sequence;
                self.sends.queued +=
                    u64::from(newly_due && self.views.timing.window_ns.contains(&intended_ns));
                self.waiting[player as usize] = sequence;
            }
            Pushed::Gone => {}
        }
        Ok(())
    }

    fn count_sent(&mut self, player: u32, sequence: u32, now_ns: u64) {
        let intended_ns = self.views.intended_ns(player, sequence);
        if self.views.timing.window_ns.contains(&intended_ns) {
            let lateness_ns = now_ns.saturating_sub(intended_ns);
            self.sends.moves += 1;
            self.sends.late += u64::from(lateness_ns > LATE_NS);
            self.sends.lateness_us.saturating_record(lateness_ns / 1000);
        }
    }
}
