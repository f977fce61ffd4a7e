//! The kinds of topics that there are, and how one of each begins. A new kind is a file of `room/` that speaks `Hosted`, its name
//! in `ids.rs`, its pushes in `wire/push.rs`, and a variant here.

use std::sync::Arc;

use rand_chacha::ChaCha12Rng;
use rand_core::Rng;

use super::settings::Settings;
use crate::glob::glob_matches;
use crate::ids::Topic;
use crate::room::chat::Chat;
use crate::room::document::Document;
use crate::room::game::Game;
use crate::room::hosted::Hosted;
use crate::time::RelayTime;

/// A topic of one of the kinds that there are.
#[derive(Debug)]
#[allow(clippy::large_enum_variant, reason = "it is boxed as a whole")]
pub enum Kind {
    /// `game:`.
    Game(Game),
    /// `room:`.
    Room(Chat),
    /// `doc:`.
    Document(Document),
}

impl Kind {
    /// A topic called `topic` with nobody in it.
    pub fn new(topic: &Arc<Topic>, settings: &Settings, random: &mut ChaCha12Rng, now: RelayTime) -> Self {
        let (epoch, list_max) = (random.next_u64(), settings.clients.presence_list_max);
        match &**topic {
            Topic::Room(name) => {
                let fits = settings.rooms.iter().find(|rules| glob_matches(&rules.pattern, name.as_str()));
                Self::Room(Chat::new(topic, fits.cloned().unwrap_or_default(), epoch, list_max))
            }
            Topic::Document(name) => {
                let fits =
                    settings.documents.iter().find(|rules| glob_matches(&rules.pattern, name.as_str()));
                Self::Document(Document::new(topic, fits.cloned().unwrap_or_default(), epoch, list_max))
            }
            Topic::Game(name) => {
                // 24 bits: the largest number below 1 that an f32 holds.
                let phase = (random.next_u32() >> 8) as f32 / (1 << 24) as f32;
                let rules = settings.game_rules(name).cloned().unwrap_or_default();
                Self::Game(Game::new(topic.clone(), rules, epoch, phase, list_max, now))
            }
        }
    }

    /// The part that all kinds have in common.
    pub fn hosted(&mut self) -> &mut dyn Hosted {
        match self {
            Self::Game(game) => game,
            Self::Room(chat) => chat,
            Self::Document(document) => document,
        }
    }

    /// Like `hosted`, but read only.
    pub fn as_hosted(&self) -> &dyn Hosted {
        match self {
            Self::Game(game) => game,
            Self::Room(chat) => chat,
            Self::Document(document) => document,
        }
    }

    /// Whether it is a document.
    pub fn is_document(&self) -> bool {
        matches!(self, Self::Document(_))
    }

    /// `None`: it is of another kind.
    pub fn as_game(&self) -> Option<&Game> {
        if let Self::Game(game) = self { Some(game) } else { None }
    }

    /// `None`: it is of another kind.
    pub fn as_game_mut(&mut self) -> Option<&mut Game> {
        if let Self::Game(game) = self { Some(game) } else { None }
    }
}
