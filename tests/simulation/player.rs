//! A native player, as a native client keeps it: its seat, what it sees of its game, the events that it has handled.

use std::collections::BTreeMap;

use corelay::time::Instant;

use super::faults::Branch;
use super::ledger::{Scope, Stream};
use super::records::{Record, View, Welcome, event, masked_frame, ping};
use super::topics::Hearing;
use super::wire::number_of;

#[derive(Debug)]
pub struct Player {
    /// `game:` and its name.
    pub game: &'static str,
    pub id: u32,
    pub token: String,
    pub stream: Stream,
    pub view: View,
    /// User ids by player id.
    pub users: BTreeMap<u32, String>,
    /// Until then the seat cannot have been given up; `NEVER` while it is taken.
    pub sure_until: Instant,
    /// This connection has brought its Welcome.
    pub is_welcome: bool,
    /// The number that the present connection asked to be caught up from.
    asked_from: Option<u64>,
    /// Pings of this connection that were not answered yet.
    pub pings: u32,
    /// A connection that resumed was answered, and its Welcome was lost.
    pub token_is_spent: bool,
}

impl Player {
    pub fn new(game: &'static str) -> Self {
        Self {
            game,
            id: 0,
            token: String::new(),
            stream: Stream::default(),
            view: View::default(),
            users: BTreeMap::new(),
            sure_until: Instant::default(),
            is_welcome: false,
            asked_from: None,
            pings: 0,
            token_is_spent: false,
        }
    }

    /// The path to ask for. `catches_up`: it says what it has seen.
    pub fn target(&mut self, catches_up: bool) -> String {
        let path = self.game.replace("game:", "/play/") + "?layout=1";
        self.is_welcome = false;
        self.asked_from = None;
        self.pings = 0;
        if self.token.is_empty() {
            return path;
        }
        if !catches_up {
            return format!("{path}&resume={}", self.token);
        }
        self.asked_from = Some(self.stream.last);
        format!("{path}&resume={}&seq={}", self.token, self.stream.last)
    }

    /// The connection is gone. `was_answered`: the relay had answered it.
    pub fn lost(&mut self, was_answered: bool, sure_until: Instant) {
        self.token_is_spent |= was_answered && !self.is_welcome && !self.token.is_empty();
        self.is_welcome = false;
        self.sure_until = self.sure_until.min(sure_until);
    }

    pub fn ping(&mut self) -> Vec<u8> {
        self.pings += 1;
        masked_frame(0x82, &ping(1, 2))
    }

    pub fn send_event(&self, scope: Scope, number: usize, long: bool) -> Vec<u8> {
        let (byte, target) = match scope {
            Scope::Others => (0, 0),
            Scope::All => (1, 0),
            Scope::Only(target) => (2, target),
        };
        let payload = if long { format!("{number},{}", "x".repeat(1000)) } else { number.to_string() };
        event(byte, 1, target, payload.as_bytes())
    }

    pub fn hear(&mut self, record: &Record, hearing: &mut Hearing<'_>) {
        match record {
            Record::Welcome(welcome) => return self.hear_welcome(welcome, hearing),
            Record::Event { seq, payload, .. } => {
                let told = hearing.ledger.tell(self.game, &mut self.stream, *seq, number_of(payload));
                hearing.counts.branch(told);
            }
            Record::Crowd { joined, .. } => {
                self.users.extend(joined.iter().map(|(id, user, _)| (*id, user.clone())));
            }
            Record::Roster { flags, joined, left } => {
                if flags & 1 != 0 {
                    self.users.clear();
                }
                self.users.extend(joined.iter().map(|(id, user, _)| (*id, user.clone())));
                left.iter().for_each(|(id, _)| drop(self.users.remove(id)));
            }
            Record::RateLimited { .. } => hearing.counts.branch(Branch::RateLimited),
            Record::Correction { .. } => hearing.counts.branch(Branch::Corrected),
            Record::Error { code, text } => assert!(*code > 1, "error {code}: {text}"),
            Record::Pong { .. } => self.pings = self.pings.checked_sub(1).expect("somebody has asked"),
            Record::Keyframe { .. }
            | Record::Delta { .. }
            | Record::Notice { .. }
            | Record::Layout
            | Record::Ack { .. }
            | Record::States { .. } => {}
        }
        assert!(self.is_welcome, "before the Welcome: {record:?}");
        self.view.apply(record);
    }

    fn hear_welcome(&mut self, welcome: &Welcome, hearing: &mut Hearing<'_>) {
        assert!(!std::mem::replace(&mut self.is_welcome, true), "a second Welcome");
        let (resumed, caught_up) = (welcome.flags & 1 != 0, welcome.flags & 2 != 0);
        let epoch = welcome.epoch.to_string();
        if resumed {
            assert_eq!((self.id, &self.stream.epoch), (welcome.player_id, &epoch), "a seat keeps its player");
            hearing.counts.branch(Branch::Resumed);
            if self.token_is_spent {
                hearing.counts.branch(Branch::ResumedByPreviousToken);
            }
        } else {
            assert!(!caught_up, "a new seat has missed nothing");
            assert!(hearing.now > self.sure_until, "a held seat was lost: {self:?}");
            if !self.token.is_empty() {
                hearing.counts.branch(Branch::SeatLost);
            }
            hearing.ledger.seat(self.game, &epoch, welcome.player_id);
        }
        if caught_up {
            assert!(self.asked_from.is_some(), "nobody asked");
            hearing.counts.branch(Branch::CaughtUp);
        } else {
            if let Some(from) = self.asked_from.filter(|_| resumed) {
                assert!(welcome.seq - from > 300, "{from} to {} can be caught up with", welcome.seq);
                hearing.counts.branch(Branch::TooOld);
            }
            let stream = Stream::new(epoch, welcome.player_id, welcome.seq);
            hearing.ledger.end(self.game, std::mem::replace(&mut self.stream, stream));
        }
        self.id = welcome.player_id;
        self.token.clone_from(&welcome.resume_token);
        self.token_is_spent = false;
        self.sure_until = Instant::NEVER;
    }
}
