//! The members that the connections of a crowd play.

use std::sync::Arc;

use crate::clock;
use crate::tokens::Tokens;

/// The topic and the token of each connection of a crowd.
pub struct Members {
    members: Vec<(Arc<str>, u32)>,
    tokens: Tokens,
}

impl Members {
    /// `topic` (such as `game:load-1-0`) and `number` (for its token; unique in the run) of each of `connections`.
    pub fn new(
        connections: u32,
        tokens: Tokens,
        topic: impl Fn(u32) -> String,
        number: impl Fn(u32) -> u32,
    ) -> Self {
        let mut members: Vec<(Arc<str>, u32)> = Vec::with_capacity(connections as usize);
        for slot in 0..connections {
            let topic = topic(slot);
            // Neighbours mostly share a room.
            let shared =
                members.last().filter(|(last, _)| **last == *topic).map(|(last, _)| Arc::clone(last));
            members.push((shared.unwrap_or_else(|| topic.into()), number(slot)));
        }
        Self { members, tokens }
    }

    pub fn len(&self) -> usize {
        self.members.len()
    }

    pub fn topic(&self, slot: u32) -> &str {
        &self.members[slot as usize].0
    }

    /// Connection `slot` plays from now on what `gone` has played.
    pub fn take_over(&mut self, slot: u32, gone: u32) {
        self.members[slot as usize] = self.members[gone as usize].clone();
    }

    /// `path`, which ends where a query may go on, with the token of `slot`, made now, if it has one.
    pub fn with_token(&self, slot: u32, path: &str) -> String {
        let (topic, number) = &self.members[slot as usize];
        match self.tokens.token(*number, topic, clock::unix_s()) {
            Some(token) => format!("{path}token={token}"),
            None => path.trim_end_matches(['?', '&']).to_owned(),
        }
    }
}
