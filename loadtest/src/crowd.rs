//! The connections of one thread: joining, staying alive, handing on what arrives, and what became of each.

mod connection;
mod plan;
mod secure;

use std::collections::HashMap;
use std::io;
use std::time::Duration;

use corelay::wire::frame::Opcode;

pub use plan::{Listener, NoListener, Plan, Pushed, Sources};

use self::connection::{Connection, Stage};
use crate::clock;
use crate::counters::Counters;
use crate::dialect::{Effects, Event};
use crate::endings::Endings;
use crate::frames::control_frame;
use crate::uring::{Completion, Lent, Opening, ReceiveEnd, Ring};

/// Connections between their start and their join, at most: a listener's backlog must hold them.
const JOINING_MAX: u32 = 512;
/// When nobody has joined for so long, those that are joining are given up.
const JOIN_TIMEOUT_NS: u64 = 10_000_000_000;
/// Between two heartbeats of a connection, as phoenix.js does.
const HEARTBEAT_INTERVAL_NS: u64 = 30_000_000_000;
/// Control frames that wait for a busy socket, in bytes. Answers to further pings are left out (RFC 6455 section 5.5.3).
const CONTROLS_BYTES_MAX: usize = 1024;
/// Receive buffer of a connection that will stop reading: small, so that it fills within seconds.
const STALLED_RECEIVE_BUFFER_BYTES: usize = 4096;

/// See the module documentation. Call `turn` again and again; between two turns, send.
pub struct Crowd {
    plan: Plan,
    ring: Ring,
    connections: Vec<Connection>,
    /// Control frames that wait for their socket, by connection.
    controls: HashMap<u32, Vec<u8>>,
    ramp: Option<Ramp>,
    /// How many had joined or failed when somebody did last, and when that was.
    settled: u32,
    settled_ns: u64,
    started: u32,
    joining: u32,
    joined: u32,
    open: u32,
    leaving: u32,
    ended: u32,
    /// Connections before this one have said goodbye, if they had joined.
    goodbyes: u32,
    closing: bool,
    rearm: Vec<u32>,
    freed: Vec<u32>,
    gone: Vec<u32>,
    /// Whose turn it is to send a heartbeat: round and round, each connection once per `HEARTBEAT_INTERVAL_NS`.
    heartbeat_turns: u64,
    begun_ns: u64,
    /// What a receive has said, behind TLS.
    plain: Vec<u8>,
    /// How much later than the ramp meant it a connection was started, at most.
    pub start_lateness_ns_max: u64,
    pub counters: Counters,
    pub endings: Endings,
}

struct Ramp {
    begun_ns: u64,
    started_before: u32,
}

impl Crowd {
    pub fn new(plan: Plan) -> io::Result<Self> {
        let ring = Ring::new(plan.connections, plan.busy > 0, plan.target)?;
        Ok(Self {
            connections: std::iter::repeat_with(Connection::default)
                .take(plan.connections as usize)
                .collect(),
            plan,
            ring,
            controls: HashMap::new(),
            ramp: None,
            settled: 0,
            settled_ns: 0,
            started: 0,
            joining: 0,
            joined: 0,
            open: 0,
            leaving: 0,
            ended: 0,
            goodbyes: 0,
            closing: false,
            rearm: Vec::new(),
            freed: Vec::new(),
            gone: Vec::new(),
            heartbeat_turns: 0,
            begun_ns: clock::now_ns(),
            plain: Vec::new(),
            start_lateness_ns_max: 0,
            counters: Counters::default(),
            endings: Endings::default(),
        })
    }

    /// Starts connections, `per_s` a second, until `limit` are started; gives up those that cannot join. `true`: all have
    /// joined or failed.
    pub fn ramp(&mut self, limit: u32, per_s: f64, now_ns: u64) -> io::Result<bool> {
        let started = self.started;
        let &mut Ramp { begun_ns, started_before } =
            self.ramp.get_or_insert(Ramp { begun_ns: now_ns, started_before: started });
        let due = ((now_ns - begun_ns) as f64 * 1e-9 * per_s) as u32 + 1;
        let due = started_before.saturating_add(due);
        self.give_up_if_stuck(now_ns)?;
        while self.started < limit.min(due) && self.joining < JOINING_MAX {
            let intended_ns = f64::from(self.started - started_before) / per_s * 1e9;
            let lateness_ns = (now_ns - begun_ns).saturating_sub(intended_ns as u64);
            self.start_lateness_ns_max = self.start_lateness_ns_max.max(lateness_ns);
            self.start(1)?;
        }
        let settled = self.started == limit && self.joining == 0;
        if settled {
            self.ramp = None;
        }
        Ok(settled)
    }

    pub fn start(&mut self, count: u32) -> io::Result<()> {
        let limit = (self.started + count).min(self.plan.connections);
        while self.started < limit {
            let slot = self.started;
            let stalls = slot >= self.plan.stalled_from;
            self.connections[slot as usize].stage = Stage::Connecting;
            self.started += 1;
            self.joining += 1;
            let source = self.plan.sources.map(|sources| sources.of(slot));
            let narrow = self.plan.narrow_every.is_some_and(|every| slot.is_multiple_of(every));
            let receive_buffer_bytes = (stalls || narrow).then_some(STALLED_RECEIVE_BUFFER_BYTES);
            self.ring.connect(slot, Opening { source, receive_buffer_bytes })?;
        }
        Ok(())
    }

    /// Starts one connection more as the client whose connection `gone` has ended. Its number; `None`: there are no more.
    pub fn come_back(&mut self, gone: u32) -> io::Result<Option<u32>> {
        if self.started == self.plan.connections {
            return Ok(None);
        }
        let slot = self.started;
        self.plan.dialect.come_back(slot, gone);
        self.start(1)?;
        Ok(Some(slot))
    }

    /// Whether a listener's backlog has room for one more that joins.
    pub fn may_join(&self) -> bool {
        self.joining < JOINING_MAX
    }

    /// Gives up those that are joining when nobody has joined or failed for a while.
    pub fn give_up_if_stuck(&mut self, now_ns: u64) -> io::Result<()> {
        let settled = self.started - self.joining;
        if self.joining == 0 || self.settled != settled {
            (self.settled, self.settled_ns) = (settled, now_ns);
        }
        if now_ns - self.settled_ns > JOIN_TIMEOUT_NS { self.give_up_joining() } else { Ok(()) }
    }

    fn give_up_joining(&mut self) -> io::Result<()> {
        for slot in 0..self.started {
            let why = match self.connections[slot as usize].stage {
                Stage::Connecting => "connection",
                Stage::Joining => self.plan.dialect.sign_of_join(),
                Stage::Unstarted | Stage::Joined | Stage::Closing | Stage::Ended => continue,
            };
            self.fail(slot, &format!("no {why} within {} s", JOIN_TIMEOUT_NS / 1_000_000_000))?;
        }
        Ok(())
    }

    pub fn has_stalled(&self) -> bool {
        self.plan.stalled_from < self.plan.connections
    }

    /// How many are between their start and their join.
    pub fn joining(&self) -> u32 {
        self.joining
    }

    /// How many are between their goodbye and their end.
    pub fn leaving(&self) -> u32 {
        self.leaving
    }

    /// How many have joined, whether or not they are still there.
    pub fn joined(&self) -> u32 {
        self.joined
    }

    pub fn open(&self) -> u32 {
        self.open
    }

    /// Submits what was sent, waits for `want` completions or until `timeout`, and deals with them. Returns the time after the
    /// wait: the arrival time of everything in this turn.
    pub fn turn(&mut self, want: usize, timeout: Duration, listener: &mut impl Listener) -> io::Result<u64> {
        self.ring.wait(want, timeout)?;
        let now_ns = clock::now_ns();
        while let Some(completion) = self.ring.completion()? {
            match completion {
                Completion::Received { slot, lent, armed } => {
                    self.handle_received(slot, lent, armed, listener, now_ns)?;
                }
                Completion::Sent(slot, outcome) => self.handle_sent(slot, &outcome)?,
                Completion::Connected(slot, outcome) => self.handle_connected(slot, outcome)?,
                Completion::ReceiveEnded(slot, end) => self.handle_receive_ended(slot, end)?,
            }
        }
        self.send_heartbeats(now_ns)?;
        while let Some(slot) = self.rearm.pop() {
            let connection = &mut self.connections[slot as usize];
            connection.receiving = !connection.stopped;
            if connection.receiving {
                self.ring.arm_receive(slot)?;
            }
        }
        Ok(now_ns)
    }

    /// Appends the frame of a move of a connection that has joined.
    pub fn write_move(&self, slot: u32, number_in_room: u32, sequence: u32, frames: &mut Vec<u8>) {
        self.plan.dialect.write_move(slot, number_in_room, sequence, frames);
    }

    /// Appends the frame of a push of a connection that has joined.
    pub fn write_push(&self, slot: u32, number: u32, event: &str, payload: &str, frames: &mut Vec<u8>) {
        self.plan.dialect.write_push(slot, number, event, payload, frames);
    }

    /// Sends frames on a connection that has joined.
    pub fn try_send(&mut self, slot: u32, frames: &[u8]) -> io::Result<Pushed> {
        let connection = &mut self.connections[slot as usize];
        if connection.stage != Stage::Joined {
            return Ok(Pushed::Gone);
        }
        if connection.sending {
            connection.waited_for = true;
            return Ok(Pushed::Busy);
        }
        self.send(slot, frames)?;
        Ok(Pushed::Sent)
    }

    /// Connections that were busy and no longer are.
    pub fn take_freed(&mut self) -> Vec<u32> {
        std::mem::take(&mut self.freed)
    }

    /// Connections that have ended since it was last asked, or that the relay is about to end.
    pub fn take_gone(&mut self) -> Vec<u32> {
        std::mem::take(&mut self.gone)
    }

    /// Ends every connection without a goodbye, as a network does that fails.
    pub fn drop_all(&mut self) -> io::Result<()> {
        for slot in 0..self.started {
            if let Stage::Joining | Stage::Joined = self.connections[slot as usize].stage {
                self.leave(slot, Stage::Ended);
                self.end_receive(slot)?;
            }
        }
        Ok(())
    }

    /// Sends a sign of life from every connection that has stopped reading.
    pub fn keep_stalled_alive(&mut self) -> io::Result<()> {
        let pong = control_frame(Opcode::Pong, &[], 0x5EED_5EED);
        for slot in self.plan.stalled_from..self.plan.connections {
            // A busy socket has signs of life on their way.
            let _ = self.try_send(slot, &pong)?;
        }
        Ok(())
    }

    pub fn is_joined(&self, slot: u32) -> bool {
        self.connections[slot as usize].stage == Stage::Joined
    }

    /// Lets a connection stop reading, until `read_on`.
    pub fn pause(&mut self, slot: u32) -> io::Result<()> {
        self.connections[slot as usize].stopped = true;
        self.ring.stop_receive(slot)
    }

    /// Lets those that stopped reading read on: what was kept for them, and how they were closed.
    pub fn resume_stalled(&mut self) -> io::Result<()> {
        for slot in self.plan.stalled_from..self.plan.connections {
            if self.connections[slot as usize].stopped {
                self.read_on(slot)?;
            }
        }
        Ok(())
    }

    /// Says goodbye on the next `count` connections, for crowds that are too large for all at once. `true`: it was the last of
    /// them. From the first call on, what ends ends as it should.
    pub fn close_next(&mut self, count: u32) -> io::Result<bool> {
        self.closing = true;
        let end = self.goodbyes.saturating_add(count).min(self.started);
        for slot in self.goodbyes..end {
            if self.connections[slot as usize].stage == Stage::Joined {
                let goodbye = control_frame(Opcode::Close, &1000_u16.to_be_bytes(), 0x0BED_0BED);
                self.send_control(slot, &goodbye)?;
                self.leave(slot, Stage::Closing);
            }
        }
        self.goodbyes = end;
        Ok(end == self.started)
    }

    /// Says goodbye on every connection, and waits until none is left, or for `timeout`.
    pub fn say_goodbye(&mut self, timeout: Duration) -> io::Result<()> {
        self.close_next(u32::MAX)?;
        let deadline_ns = clock::now_ns() + timeout.as_nanos() as u64;
        while !self.is_over() && clock::now_ns() < deadline_ns {
            self.turn(64, Duration::from_millis(10), &mut NoListener)?;
        }
        Ok(())
    }

    pub fn is_over(&self) -> bool {
        self.ended == self.started
    }

    fn handle_connected(&mut self, slot: u32, outcome: io::Result<()>) -> io::Result<()> {
        if self.connections[slot as usize].stage != Stage::Connecting {
            // Given up in the meantime.
            return self.ring.close(slot);
        }
        if let Err(error) = outcome {
            self.fail(slot, &format!("connect: {error}"))?;
            return self.ring.close(slot);
        }
        let connection = &mut self.connections[slot as usize];
        (connection.stage, connection.receiving) = (Stage::Joining, true);
        connection.tls = self.plan.trust.as_ref().map(|trust| Box::new(trust.begin()));
        let dialect = &self.plan.dialect;
        let request = self.plan.handshake.request(&dialect.path(slot), dialect.subprotocol());
        self.send(slot, &request)?;
        if slot < self.plan.busy { self.ring.arm_receive(slot) } else { self.ring.park(slot) }
    }

    fn handle_received(
        &mut self,
        slot: u32,
        lent: Lent,
        armed: bool,
        listener: &mut impl Listener,
        now_ns: u64,
    ) -> io::Result<()> {
        if !armed {
            self.rearm.push(slot);
        }
        let connection = &mut self.connections[slot as usize];
        let mut bytes = self.ring.bytes(&lent);
        self.plain.clear();
        if let Some(tls) = &mut connection.tls {
            if let Err(trouble) = tls.open(bytes, &mut self.plain) {
                self.ring.give_back(lent);
                return self.fail(slot, &trouble);
            }
            bytes = &self.plain;
        }
        let mut joined = false;
        let mut emit = |event: Event<'_>| {
            joined |= matches!(event, Event::Joined);
            listener.handle_event(slot, event, now_ns);
        };
        let Plan { handshake, dialect, .. } = &mut self.plan;
        let effects = match connection.stage {
            Stage::Joining | Stage::Joined | Stage::Closing => connection.client.handle_received(
                slot,
                bytes,
                handshake,
                dialect.as_mut(),
                &mut self.counters,
                &mut emit,
            ),
            Stage::Unstarted | Stage::Connecting | Stage::Ended => Ok(Effects::default()),
        };
        self.ring.give_back(lent);
        match effects {
            Ok(effects) => self.act_on(slot, effects, joined)?,
            Err(trouble) => self.fail(slot, &trouble)?,
        }
        if self.connections[slot as usize].sending { Ok(()) } else { self.flush(slot).map(drop) }
    }

    fn act_on(&mut self, slot: u32, effects: Effects, joined: bool) -> io::Result<()> {
        if !effects.answers.is_empty() {
            self.send_control(slot, &effects.answers)?;
        }
        if joined && self.connections[slot as usize].stage == Stage::Joining {
            self.connections[slot as usize].stage = Stage::Joined;
            self.joining -= 1;
            self.joined += 1;
            self.open += 1;
            if slot >= self.plan.stalled_from {
                self.pause(slot)?;
            }
        }
        effects.errors.iter().for_each(|text| self.endings.errors.count(text));
        if let Some(why) = effects.refusal.filter(|_| effects.close.is_none()) {
            return self.fail(slot, &why);
        }
        let Some((code, reason)) = effects.close else { return Ok(()) };
        match self.connections[slot as usize].stage {
            Stage::Joined => {
                self.count_close(slot, code, &reason);
                let answer = control_frame(Opcode::Close, &code.to_be_bytes(), 0x0BED_0BED);
                // 1005 stands for a close without code; it must not be sent.
                let answer = if code == 1005 { control_frame(Opcode::Close, &[], 0) } else { answer };
                self.send_control(slot, &answer)?;
                self.leave(slot, Stage::Closing);
                Ok(())
            }
            Stage::Joining => self
                .fail(slot, &format!("closed {code} {reason} before {}", self.plan.dialect.sign_of_join())),
            Stage::Unstarted | Stage::Connecting | Stage::Closing | Stage::Ended => Ok(()),
        }
    }

    fn handle_receive_ended(&mut self, slot: u32, end: ReceiveEnd) -> io::Result<()> {
        let text = match end {
            ReceiveEnd::NoBuffers => {
                self.rearm.push(slot);
                return Ok(());
            }
            ReceiveEnd::Stopped => {
                self.connections[slot as usize].receiving = false;
                return Ok(());
            }
            ReceiveEnd::Eof => "ended without a close frame".to_owned(),
            ReceiveEnd::Failed(error) => error.to_string(),
        };
        let connection = &mut self.connections[slot as usize];
        connection.receiving = false;
        match connection.stage {
            Stage::Joining => {
                let refusal = connection.client.handle_end(&self.plan.handshake);
                let sign = self.plan.dialect.sign_of_join();
                self.fail(slot, &refusal.unwrap_or_else(|| format!("before {sign}: {text}")))?;
            }
            Stage::Joined => {
                self.count_close(slot, 1006, &text);
                self.leave(slot, Stage::Ended);
            }
            Stage::Closing => self.leave(slot, Stage::Ended),
            Stage::Unstarted | Stage::Connecting | Stage::Ended => {}
        }
        self.close_if_quiet(slot)
    }

    fn handle_sent(&mut self, slot: u32, outcome: &io::Result<()>) -> io::Result<()> {
        let connection = &mut self.connections[slot as usize];
        connection.sending = false;
        if connection.stage == Stage::Ended {
            return self.close_if_quiet(slot);
        }
        if outcome.is_err() {
            // The receive tells how it ended.
            return self.end_receive(slot);
        }
        if self.flush(slot)? {
            return Ok(());
        }
        let connection = &mut self.connections[slot as usize];
        if std::mem::take(&mut connection.controls) {
            let controls = self.controls.remove(&slot).unwrap_or_default();
            return self.send_control(slot, &controls);
        }
        if connection.waited_for {
            connection.waited_for = false;
            self.freed.push(slot);
        }
        Ok(())
    }

    fn send_heartbeats(&mut self, now_ns: u64) -> io::Result<()> {
        let connections = u64::from(self.plan.connections);
        let elapsed_ns = u128::from(now_ns.saturating_sub(self.begun_ns));
        let due = (elapsed_ns * u128::from(connections) / u128::from(HEARTBEAT_INTERVAL_NS)) as u64;
        // After a long pause each connection has one turn, not as many as it missed.
        self.heartbeat_turns = self.heartbeat_turns.max(due.saturating_sub(connections));
        while self.heartbeat_turns < due {
            let slot = (self.heartbeat_turns % connections) as u32;
            self.heartbeat_turns += 1;
            if self.connections[slot as usize].stage != Stage::Joined {
                continue;
            }
            let Some(heartbeat) = self.plan.dialect.heartbeat(slot) else { continue };
            self.send_control(slot, &heartbeat)?;
        }
        Ok(())
    }

    /// Sends control frames, a join or a heartbeat now, or when the socket is free.
    fn send_control(&mut self, slot: u32, frames: &[u8]) -> io::Result<()> {
        let connection = &mut self.connections[slot as usize];
        if connection.sending {
            let controls = self.controls.entry(slot).or_default();
            if controls.len() + frames.len() <= CONTROLS_BYTES_MAX {
                controls.extend_from_slice(frames);
            }
            connection.controls = true;
            return Ok(());
        }
        self.send(slot, frames)
    }

    /// Ends a connection for a reason of its own.
    fn fail(&mut self, slot: u32, why: &str) -> io::Result<()> {
        match self.connections[slot as usize].stage {
            Stage::Connecting | Stage::Joining => self.endings.failures.count(why),
            Stage::Joined => self.count_close(slot, 1006, why),
            Stage::Unstarted | Stage::Closing | Stage::Ended => {}
        }
        self.leave(slot, Stage::Ended);
        self.end_receive(slot)
    }

    /// Makes the end of the receive come soon; one that was stopped is armed for it.
    fn end_receive(&mut self, slot: u32) -> io::Result<()> {
        if self.connections[slot as usize].receiving {
            return self.ring.shutdown(slot);
        }
        if self.connections[slot as usize].stopped {
            self.ring.shutdown(slot)?;
            return self.read_on(slot);
        }
        Ok(())
    }

    /// Arms a receive that was stopped.
    pub fn read_on(&mut self, slot: u32) -> io::Result<()> {
        let connection = &mut self.connections[slot as usize];
        connection.stopped = false;
        if connection.receiving {
            return Ok(());
        }
        connection.receiving = true;
        self.ring.arm_receive(slot)
    }

    /// Moves a connection to `Closing` or `Ended`, and keeps the counts.
    fn leave(&mut self, slot: u32, stage: Stage) {
        let connection = &mut self.connections[slot as usize];
        match connection.stage {
            Stage::Connecting | Stage::Joining => self.joining -= 1,
            Stage::Joined => self.open -= 1,
            Stage::Closing => self.leaving -= 1,
            Stage::Unstarted | Stage::Ended => {}
        }
        if let Stage::Connecting | Stage::Joining | Stage::Joined = connection.stage {
            self.gone.push(slot);
        }
        self.leaving += u32::from(stage == Stage::Closing);
        self.ended += u32::from(stage == Stage::Ended && connection.stage != Stage::Ended);
        connection.stage = stage;
    }

    fn count_close(&mut self, slot: u32, code: u16, reason: &str) {
        if !self.closing {
            let stalled = slot >= self.plan.stalled_from;
            let closes = if stalled { &mut self.endings.stalled_closes } else { &mut self.endings.closes };
            closes.count(&format!("{code} {reason}"));
        }
    }

    fn close_if_quiet(&mut self, slot: u32) -> io::Result<()> {
        let connection = &self.connections[slot as usize];
        let quiet = connection.stage == Stage::Ended && !connection.sending && !connection.receiving;
        if quiet { self.ring.close(slot) } else { Ok(()) }
    }
}

#[cfg(test)]
mod tests;
