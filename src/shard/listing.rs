//! The games of this shard with most players: a question that every shard answers.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use super::Shard;
use super::peer::{Answer, GameList, RunningGame};
use crate::ids::TopicName;
use crate::limits::{GAMES_LISTED_MAX, LOOKS_PER_WORK};

/// A walk over all topics.
#[derive(Debug, Default)]
pub(super) struct Listing {
    /// The first slot of topics that is still to come.
    topic: usize,
    /// The games seen so far that come first, in the order of `RunningGame::rank`; the last of them on top.
    first: BinaryHeap<(Reverse<u32>, TopicName)>,
    is_cut: bool,
}

impl Listing {
    fn see(&mut self, name: &TopicName, players: u32) {
        if self.first.len() < GAMES_LISTED_MAX {
            self.first.push((Reverse(players), name.clone()));
            return;
        }
        self.is_cut = true;
        if let Some(mut last) = self.first.peek_mut()
            && (Reverse(players), name) < (last.0, &last.1)
        {
            *last = (Reverse(players), name.clone());
        }
    }

    fn take(&mut self) -> GameList {
        let games = std::mem::take(&mut self.first).into_sorted_vec().into_iter();
        let games = games.map(|(Reverse(players), name)| RunningGame { name, players }).collect();
        GameList { games, is_cut: self.is_cut }
    }
}

impl Shard {
    /// Goes on with a list, as far as the work goes. `Some`: it is done.
    pub(super) fn go_on_listing(&mut self, listing: &mut Listing) -> Option<Answer> {
        while listing.topic < self.topics.slots() {
            if !self.work.is_left() {
                return None;
            }
            self.work.spend(1);
            for slot in listing.topic..listing.topic + LOOKS_PER_WORK {
                if let Some((index, game)) = self.topics.game_in_slot(slot)
                    && let Some(topic) = self.topics.name(index)
                    && !game.seats().is_empty()
                {
                    listing.see(topic.name(), game.seats().len() as u32);
                }
            }
            listing.topic += LOOKS_PER_WORK;
        }
        Some(Answer::Games(Box::new(listing.take())))
    }
}
