//! What the editors of documents do: each edit at its time, whatever the relay does, and what became of it.

mod draft;
mod editor;

use std::collections::HashMap;
use std::fmt::Write;
use std::hash::{BuildHasher, RandomState};
use std::ops::Range;

use corelay::wire::operation::Operation;

use crate::clock;
use crate::crowd::{Crowd, Listener, Pushed};
use crate::dialect::{Event, Stream};
use crate::ledger::{Ledger, Seating};
use crate::outcomes::Outcomes;
use crate::schedule::Schedule;
use draft::{Goal, draft};
use editor::Editor;

/// Who edits what, and how often. The rooms of the seating are documents, and its members editors.
#[derive(Clone, Copy, Debug)]
pub struct Script {
    pub seating: Seating,
    /// Edits a second of each editor.
    pub rate: f64,
    /// A text is about as long.
    pub characters: u32,
    pub seed: u64,
}

/// A time in which everybody edits.
#[derive(Clone, Debug)]
struct Spell {
    /// Number of everybody's first edit in it.
    first_round: u32,
    start_ns: u64,
    window_ns: Range<u64>,
}

/// How the texts of editors compare with those that newcomers were told.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Comparison {
    /// Editors whose text or version is another one.
    pub diverged: u32,
    /// Editors that have gone, or of whose document no newcomer was told the text.
    pub unchecked: u32,
}

/// See the module documentation. `begin`, then `send_due` again and again, and `send_ready` after each turn of the crowd, which
/// tells this of its events. An editor is connection of the same number; behind them comes a newcomer for each document.
pub struct Edits {
    pub ledger: Ledger,
    pub outcomes: Outcomes,
    /// Edits that came due.
    pub due: u64,
    /// Edits that went in one operation with the one before.
    pub merged: u64,
    /// Edits that were given up because the relay told the text anew, and how often it did.
    pub given_up: u64,
    pub restated: u64,
    pub bytes_sent: u64,
    script: Script,
    schedule: Schedule,
    spells: Vec<Spell>,
    next_round: u32,
    editors: Vec<Editor>,
    /// Editors that may have something to send.
    ready: Vec<u32>,
    /// How many edits an operation has, if it has more than one.
    edits_of: HashMap<u32, u32>,
    /// What every `op_id` begins with: those of another run are of other users.
    op_id_start: String,
    payload: String,
    frame: Vec<u8>,
}

impl Edits {
    pub fn new(script: Script) -> Self {
        let Script { seating, rate, seed, .. } = script;
        let connections = seating.members() + seating.rooms;
        Self {
            ledger: Ledger::new(seating),
            outcomes: Outcomes::default(),
            due: 0,
            merged: 0,
            given_up: 0,
            restated: 0,
            bytes_sent: 0,
            script,
            schedule: Schedule::new(0..seating.members(), rate, seed),
            spells: Vec::new(),
            next_round: 0,
            editors: std::iter::repeat_with(Editor::default).take(connections as usize).collect(),
            ready: Vec::new(),
            edits_of: HashMap::new(),
            op_id_start: format!("{:016x}-", RandomState::new().hash_one(seed)),
            payload: String::new(),
            frame: Vec::new(),
        }
    }

    /// Everybody edits from `start_ns` to the end of the window.
    pub fn begin(&mut self, start_ns: u64, window_ns: Range<u64>) {
        self.schedule = Schedule::new(0..self.script.seating.members(), self.script.rate, self.script.seed);
        self.spells.push(Spell { first_round: self.next_round, start_ns, window_ns });
    }

    /// When the next edit is due; `None`: everything has been done.
    pub fn next_ns(&self) -> Option<u64> {
        let spell = self.spells.last()?;
        let next_ns = spell.start_ns + self.schedule.next_ns()?;
        (next_ns < spell.window_ns.end).then_some(next_ns)
    }

    /// Nothing more is edited.
    pub fn stop(&mut self) {
        if let Some(spell) = self.spells.last_mut() {
            spell.window_ns.end = spell.window_ns.end.min(clock::now_ns());
        }
    }

    pub fn send_due(&mut self, crowd: &mut Crowd, now_ns: u64) -> anyhow::Result<()> {
        self.make_due(now_ns);
        self.send_ready(crowd)
    }

    fn make_due(&mut self, now_ns: u64) {
        while self.next_ns().is_some_and(|next_ns| next_ns <= now_ns) {
            let Some(Spell { first_round, start_ns, .. }) = self.spells.last() else { return };
            let Some(due) = self.schedule.take_due(now_ns - start_ns) else { return };
            let round = first_round + due.sequence - 1;
            self.next_round = self.next_round.max(round + 1);
            self.make(due.player, round, now_ns);
        }
    }

    fn make(&mut self, client: u32, round: u32, now_ns: u64) {
        self.due += 1;
        let Script { seating, characters, seed, .. } = self.script;
        let editor = &mut self.editors[client as usize];
        if !editor.is_following() {
            self.outcomes.unsent += 1;
            return;
        }
        let goal = Goal { characters, fills: client.is_multiple_of(seating.members_per_room) };
        let number = seating.message_of(client, round);
        editor.edit(round, draft(editor.length() as u32, goal, seed, number));
        if let Some(us) = self.since_intended_us(client, round, now_ns) {
            self.outcomes.record_lateness(us);
        }
        self.ready.push(client);
    }

    /// Sends what waited for its time, for an answer, or for a socket that is free now.
    pub fn send_ready(&mut self, crowd: &mut Crowd) -> anyhow::Result<()> {
        let ready = std::mem::take(&mut self.ready);
        ready.into_iter().chain(crowd.take_freed()).try_for_each(|client| self.send(crowd, client))
    }

    fn send(&mut self, crowd: &mut Crowd, client: u32) -> anyhow::Result<()> {
        let editor = &mut self.editors[client as usize];
        let Some((pending, version)) = editor.next_to_send() else { return Ok(()) };
        let (number, edits) = (self.script.seating.message_of(client, pending.round), pending.edits);
        let (op, op_id_start) = (pending.operation.to_json(), &self.op_id_start);
        self.payload.clear();
        let _ = write!(self.payload, r#"{{"op":{op},"version":{version},"op_id":"{op_id_start}{number}"}}"#);
        self.frame.clear();
        crowd.write_push(client, number, "operation", &self.payload, &mut self.frame);
        match crowd.try_send(client, &self.frame)? {
            Pushed::Sent => {
                editor.handle_sent();
                self.count_sent(number, edits);
            }
            Pushed::Busy => self.outcomes.queued += 1,
            // That its connection has ended is told, too.
            Pushed::Gone => {}
        }
        Ok(())
    }

    fn count_sent(&mut self, number: u32, edits: u32) {
        self.ledger.handle_sent(number);
        self.outcomes.sent += 1;
        self.bytes_sent += self.frame.len() as u64;
        if edits > 1 {
            self.merged += u64::from(edits - 1);
            self.edits_of.insert(number, edits);
        }
    }

    /// The connection of a client has ended: what it has not sent stays unsent.
    pub fn handle_gone(&mut self, client: u32) {
        self.outcomes.unsent += u64::from(self.editors[client as usize].leave());
    }

    pub fn is_here(&self, client: u32) -> bool {
        self.editors[client as usize].has_a_say()
    }

    /// How many editors know their text.
    pub fn following(&self) -> usize {
        self.clients().filter(|&client| self.editors[client as usize].is_following()).count()
    }

    /// Whether everything was sent and answered, and everything that was acknowledged was told to everybody here.
    pub fn is_settled(&self) -> bool {
        self.outcomes.are_answered()
            && !self.editors.iter().any(Editor::has_pending)
            && self.ledger.is_complete(|client| self.is_here(client))
    }

    pub fn compare(&self) -> Comparison {
        let Seating { members_per_room, .. } = self.script.seating;
        let mut comparison = Comparison::default();
        for client in self.clients() {
            let newcomer = self.script.seating.members() + client / members_per_room;
            let [editor, newcomer] = [client, newcomer].map(|slot| &self.editors[slot as usize]);
            let can_tell = editor.has_a_say() && newcomer.is_following();
            comparison.unchecked += u32::from(!can_tell);
            comparison.diverged += u32::from(can_tell && !editor.is_where(newcomer));
        }
        comparison
    }

    /// Length of all windows, in seconds.
    pub fn window_s(&self) -> f64 {
        let lengths_ns =
            self.spells.iter().map(|Spell { window_ns, .. }| window_ns.end.saturating_sub(window_ns.start));
        lengths_ns.sum::<u64>() as f64 / 1e9
    }

    /// Characters of the longest text.
    pub fn longest(&self) -> usize {
        self.editors.iter().map(Editor::length).max().unwrap_or(0)
    }

    fn clients(&self) -> Range<u32> {
        0..self.script.seating.members()
    }

    /// `None`: the edit was not meant for a window.
    fn since_intended_us(&self, client: u32, round: u32, now_ns: u64) -> Option<u64> {
        let spell = self.spells.iter().rev().find(|spell| spell.first_round <= round)?;
        let rounds_ns = u64::from(round - spell.first_round) * self.schedule.interval_ns();
        let intended_ns = spell.start_ns + self.schedule.phases_ns()[client as usize] + rounds_ns;
        spell.window_ns.contains(&intended_ns).then(|| now_ns.saturating_sub(intended_ns) / 1000)
    }

    /// How long it is since each edit of operation `number` that was meant for a window.
    fn since_edits_us(&self, number: u32, now_ns: u64) -> Vec<u64> {
        let seating = self.script.seating;
        let (client, round) = (seating.sender_of(number), seating.round_of(number));
        let edits = self.edits_of.get(&number).copied().unwrap_or(1);
        (round..round + edits).filter_map(|round| self.since_intended_us(client, round, now_ns)).collect()
    }

    fn handle_edited(
        &mut self,
        client: u32,
        seq: u64,
        operation: &Operation,
        op_id: Option<&str>,
        now_ns: u64,
    ) {
        self.editors[client as usize].handle_edited(seq, operation);
        let number = op_id.and_then(|op_id| op_id.strip_prefix(&self.op_id_start)?.parse().ok());
        if !self.clients().contains(&client) || !self.ledger.handle_heard(client, seq, number) {
            return;
        }
        self.outcomes.heard += 1;
        for us in number.map_or_else(Vec::new, |number| self.since_edits_us(number, now_ns)) {
            self.outcomes.record_heard(us);
        }
    }

    /// The answer is how its sender is told of it.
    fn handle_acknowledged(&mut self, client: u32, number: u32, seq: u64, now_ns: u64) {
        if !self.ledger.handle_acknowledged(client, number, seq) {
            return;
        }
        self.ledger.handle_heard(client, seq, Some(number));
        self.outcomes.acknowledged += 1;
        for us in self.since_edits_us(number, now_ns) {
            self.outcomes.record_acknowledged(us);
        }
        let round = self.script.seating.round_of(number);
        self.editors[client as usize].handle_acknowledged(round, seq);
        self.ready.push(client);
    }

    fn handle_refused(&mut self, client: u32, number: u32, reason: &str) {
        if self.ledger.handle_refused(client, number) {
            self.outcomes.refusals.count(reason);
            let round = self.script.seating.round_of(number);
            let given_up = self.editors[client as usize].handle_refused(round, reason == "too_old");
            self.given_up += u64::from(given_up);
            self.ready.push(client);
        }
    }

    fn handle_text(&mut self, client: u32, seq: u64, given_up: u32) {
        self.given_up += u64::from(given_up);
        if self.clients().contains(&client) {
            self.restated += u64::from(self.ledger.has_joined(client));
            self.ledger.handle_join(client, seq);
        }
    }
}

impl Listener for Edits {
    fn handle_event(&mut self, slot: u32, event: Event<'_>, now_ns: u64) {
        let Event::Stream(stream) = event else { return };
        match stream {
            Stream::Text { seq, content, part, parts } => {
                if let Some(given_up) = self.editors[slot as usize].handle_text(seq, content, part, parts) {
                    self.handle_text(slot, seq, given_up);
                }
            }
            Stream::Edited { seq, operation, op_id } => {
                self.handle_edited(slot, seq, operation, op_id, now_ns);
            }
            Stream::Acknowledged { number, seq } => self.handle_acknowledged(slot, number, seq, now_ns),
            Stream::Refused { number, reason } => self.handle_refused(slot, number, reason),
            Stream::Opened { .. }
            | Stream::Heard { .. }
            | Stream::CaughtUp { .. }
            | Stream::Draining { .. } => {}
        }
    }
}

#[cfg(test)]
mod tests;
