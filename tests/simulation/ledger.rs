//! What was said in rooms and games, as far as anybody was told of it, and whether somebody missed what was meant for it.

use std::collections::{BTreeMap, BTreeSet};

use super::faults::Branch;
use super::histories::Histories;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scope {
    Others,
    All,
    Only(u32),
}

/// An event as its sender knows it.
#[derive(Debug)]
struct Sent {
    game: &'static str,
    sender: u32,
    scope: Scope,
    /// Its place in the game's stream, once anybody was told.
    place: Option<(String, u64)>,
}

impl Sent {
    fn is_for(&self, player: u32) -> bool {
        match self.scope {
            Scope::Others => player != self.sender,
            Scope::All => true,
            Scope::Only(target) => player == target,
        }
    }
}

/// The events of one seat, from some number on, as its player was told them.
#[derive(Clone, Debug, Default)]
pub struct Stream {
    pub epoch: String,
    pub player: u32,
    /// Its player need not know the events up to here.
    after: u64,
    /// The last one that it was told.
    pub last: u64,
    seen: BTreeSet<u64>,
}

impl Stream {
    pub fn new(epoch: String, player: u32, after: u64) -> Self {
        Self { epoch, player, after, last: after, seen: BTreeSet::new() }
    }

    /// The player was said to have been told everything up to `seq`.
    pub fn is_told_up_to(&mut self, seq: u64) {
        assert!(seq >= self.last, "told up to {seq} after {}", self.last);
        self.last = seq;
    }
}

#[derive(Debug, Default)]
pub struct Ledger {
    sent: Vec<Sent>,
    /// Numbers of events by game and epoch, by their place in the stream.
    events: BTreeMap<(&'static str, String), BTreeMap<u64, usize>>,
    /// What each event of all rooms says, by topic and epoch, by its place in the stream. Of a message: its first words.
    said: BTreeMap<(&'static str, String), BTreeMap<u64, String>>,
    /// Words that somebody has wanted a message to have, by topic and id.
    edits: BTreeSet<(&'static str, String, String)>,
    /// Messages that somebody has wanted to be deleted, by topic and id.
    deletions: BTreeSet<(&'static str, String)>,
    pub documents: Histories,
    /// Events that were left out of a `catch_up`, by topic and epoch.
    left_out: BTreeSet<(&'static str, String, u64)>,
    /// Players that there were, by game and epoch.
    players: BTreeSet<(&'static str, String, u32)>,
    /// Streams that ended, or went on after a gap that was told.
    ended: Vec<(&'static str, Stream)>,
}

impl Ledger {
    /// Notes an event that is sent, and returns the number that it is known by.
    pub fn send(&mut self, game: &'static str, sender: u32, scope: Scope) -> usize {
        self.sent.push(Sent { game, sender, scope, place: None });
        self.sent.len() - 1
    }

    /// Somebody has a new seat.
    pub fn seat(&mut self, game: &'static str, epoch: &str, player: u32) {
        let is_new = self.players.insert((game, epoch.to_owned(), player));
        assert!(is_new, "there was a player {player} in {game} before");
    }

    /// Somebody was told that event `number` is the one at `seq`.
    pub fn place(&mut self, game: &'static str, epoch: &str, seq: u64, number: usize) {
        let sent = &mut self.sent[number];
        assert_eq!(sent.game, game, "event {number} is told in another game");
        let place = sent.place.get_or_insert_with(|| (epoch.to_owned(), seq));
        assert_eq!((&*place.0, place.1), (epoch, seq), "event {number} is told twice");
        let first = *self.events.entry((game, epoch.to_owned())).or_default().entry(seq).or_insert(number);
        assert_eq!(first, number, "two events at {seq} of {game}");
    }

    /// A player is told an event.
    pub fn tell(&mut self, game: &'static str, stream: &mut Stream, seq: u64, number: usize) -> Branch {
        assert!(seq > stream.last, "event {seq} of {game} after {}", stream.last);
        self.place(game, &stream.epoch, seq, number);
        assert!(
            self.sent[number].is_for(stream.player),
            "event {seq} of {game} is not for {}",
            stream.player
        );
        stream.seen.insert(seq);
        stream.last = seq;
        match self.sent[number].scope {
            Scope::Only(_) => Branch::ToldAlone,
            Scope::Others | Scope::All => Branch::Told,
        }
    }

    /// A player is caught up with what came after `from`, up to `seq`: these are all that were for it.
    pub fn check_caught_up(
        &self,
        game: &'static str,
        stream: &Stream,
        (from, seq): (u64, u64),
        numbers: &[u64],
    ) {
        let Some(events) = self.events.get(&(game, stream.epoch.clone())) else { return };
        for (place, number) in events.range(from.saturating_add(1)..seq.saturating_add(1)) {
            let is_there = numbers.contains(place) || !self.sent[*number].is_for(stream.player);
            assert!(is_there, "event {place} of {game} is left out of what was missed");
        }
    }

    /// A stream ends, or goes on after a gap that its player was told of.
    pub fn end(&mut self, game: &'static str, stream: Stream) {
        if !stream.epoch.is_empty() {
            self.ended.push((game, stream));
        }
    }

    /// A member is told an event of a room, or its sender that it was taken.
    pub fn say(&mut self, room: &'static str, epoch: &str, seq: u64, text: &str) {
        let events = self.said.entry((room, epoch.to_owned())).or_default();
        assert!(!epoch.is_empty(), "of what stream is event {seq} of {room}?");
        let first = events.entry(seq).or_insert_with(|| text.to_owned());
        assert_eq!(first, text, "event {seq} of {room}: everybody is told the same");
        let is_edit = text.starts_with("message_edited ");
        let is_left_out = self.left_out.contains(&(room, epoch.to_owned(), seq));
        assert!(is_edit || !is_left_out, "event {seq} of {room} was left out of what was missed: {text}");
    }

    /// A member is told a message as it reads now; `None`: it is deleted.
    pub fn say_form(&mut self, room: &'static str, epoch: &str, (seq, id): (u64, &str), body: Option<&str>) {
        let Some(body) = body else {
            assert!(self.deletions.contains(&(room, id.to_owned())), "nobody has deleted {id} of {room}");
            return;
        };
        if !self.edits.contains(&(room, id.to_owned(), body.to_owned())) {
            self.say(room, epoch, seq, body);
        }
    }

    /// Somebody wants a message to have other words.
    pub fn edit(&mut self, room: &'static str, id: &str, body: &str) {
        self.edits.insert((room, id.to_owned(), body.to_owned()));
    }

    /// Somebody wants a message to be deleted.
    pub fn delete(&mut self, room: &'static str, id: &str) {
        self.deletions.insert((room, id.to_owned()));
    }

    /// A `catch_up` has left out an event: only an edit that another event has replaced may be.
    pub fn leave_out(&mut self, room: &'static str, epoch: &str, seq: u64) {
        let told = self.said.get(&(room, epoch.to_owned())).and_then(|events| events.get(&seq));
        let is_edit = told.is_none_or(|text| text.starts_with("message_edited "));
        assert!(is_edit, "event {seq} of {room} is left out of what was missed: {told:?}");
        self.left_out.insert((room, epoch.to_owned(), seq));
    }

    /// Numbers of the last events of a room that anybody was told, by epoch.
    pub fn last_said_of(&self, room: &str) -> BTreeMap<String, u64> {
        let of_room = self.said.iter().filter(|((name, _), _)| *name == room);
        of_room
            .map(|((_, epoch), messages)| (epoch.clone(), messages.keys().next_back().copied().unwrap_or(0)))
            .collect()
    }

    /// At rest: whoever is still there has been told all that is known.
    pub fn check(&mut self, open: &[(&'static str, &Stream)]) {
        for (game, stream) in open {
            self.check_stream(game, stream, u64::MAX);
        }
        for (game, stream) in std::mem::take(&mut self.ended) {
            self.check_stream(game, &stream, stream.last);
        }
    }

    fn check_stream(&self, game: &'static str, stream: &Stream, until: u64) {
        let Some(events) = self.events.get(&(game, stream.epoch.clone())) else { return };
        for (seq, number) in events.range(stream.after.saturating_add(1)..).filter(|(seq, _)| **seq <= until)
        {
            let sent = &self.sent[*number];
            assert!(
                !sent.is_for(stream.player) || stream.seen.contains(seq),
                "player {} of {game} has silently missed event {seq} of {}",
                stream.player,
                sent.sender,
            );
        }
    }
}
