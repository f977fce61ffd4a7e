//! The frames of a tick for members in channels: what changed, and everything for parties that need it.

use std::collections::BTreeSet;

use super::audience::Copies;
use super::game::Game;
use super::game_update::Update;
use super::player_keys::{Told, ToldValue};
use super::request::Effect;
use crate::ids::{FrameNumber, Party};
use crate::time::Instant;
use crate::wire::encoded::{Encoded, FramePool};
use crate::wire::format::Format;
use crate::wire::json::object_of;
use crate::wire::phoenix::Event;

/// The frames of a tick for native members, as far as they are encoded.
#[derive(Debug, Default)]
pub struct NativeFrames {
    /// Number of the tick.
    pub tick: u32,
    /// What changed.
    pub delta: Option<Encoded>,
    /// Everything, but of values that players have set only what changed lately, where there are any.
    pub keyframe: Option<Encoded>,
    /// Everything.
    pub whole: Option<Encoded>,
}

/// The frame of a tick for channels.
#[derive(Debug)]
pub struct ChannelFrame {
    /// Its number.
    pub number: FrameNumber,
    /// What changed, if something did, and since which frame.
    pub delta: Option<(FrameNumber, Copies)>,
    /// Everything, for parties with a member that was not sent the frame before.
    pub whole: Option<(Copies, BTreeSet<Party>)>,
}

impl Game {
    /// A party has a member that was not sent the last frame.
    pub fn want_whole(&mut self, party: Party, now: Instant) {
        if let Some(channels) = &mut self.channels {
            channels.stale_parties.insert(party);
            self.changed(now);
        }
    }

    /// What channels are told at this tick; `None`: nothing. What is gone goes into the effects; native members read it in their
    /// frame. `natives`: what the players on the game's shard are sent.
    pub fn channel_frame(
        &mut self,
        natives: &NativeFrames,
        pool: &mut FramePool,
        effects: &mut Vec<Effect>,
    ) -> Option<ChannelFrame> {
        self.tell_channels_gone(effects);
        let channels = self.channels.as_mut()?;
        let stale = std::mem::take(&mut channels.stale_parties);
        let channels = self.channels.as_ref()?;
        let has_state = self.positions.moved_count() + self.objects.changed().len() > 0;
        let values = self.values(Told::Changed);
        let has_news = has_state || !values.is_empty();
        let changed = has_news || self.state_changed() && channels.audience.has(Format::Native);
        let before = channels.frame;
        let delta = changed.then(|| {
            let update = has_news.then(|| Update {
                form: self.form(),
                positions: self.positions.moved().collect(),
                objects: self.objects.changed().collect(),
                has_state,
                values,
                values_whole: false,
            });
            let copies = channels.audience.encode(|format| match format {
                Format::Native => natives.delta.is_none().then(|| self.encode_delta(natives.tick, pool)),
                Format::V2 | Format::V2Text | Format::V1 => {
                    update.as_ref()?.broadcasts(format, &channels.text, pool)
                }
            });
            (before, copies.and(channels.audience.share(natives.delta.as_ref())))
        });
        let whole = (!stale.is_empty()).then(|| {
            let everything = self.everything();
            let copies = channels.audience.encode(|format| match format {
                Format::Native => {
                    natives.whole.is_none().then(|| self.encode_keyframe(natives.tick, Told::Whole, pool))
                }
                Format::V2 | Format::V2Text | Format::V1 => {
                    everything.broadcasts(format, &channels.text, pool)
                }
            });
            (copies.and(channels.audience.share(natives.whole.as_ref())), stale)
        });
        if delta.is_none() && whole.is_none() {
            return None;
        }
        let number = if changed { before.next() } else { before };
        self.channels.as_mut()?.frame = number;
        Some(ChannelFrame { number, delta, whole })
    }

    /// Positions and objects that are gone since the last tick: reliable, since a frame may be skipped.
    fn tell_channels_gone(&self, effects: &mut Vec<Effect>) {
        let Some(channels) = &self.channels else { return };
        let objects: Vec<u32> = self.objects.gone().collect();
        let players = &self.gone_players;
        for (event, ids) in [(Event::PlayersRemoved, players), (Event::ObjectsRemoved, &objects)] {
            // 11 letters an id.
            for ids in ids.chunks(5_000) {
                let payload = object_of(16 + 11 * ids.len(), |gone| {
                    gone.array("ids", |list| {
                        list.numbers(ids.iter().copied());
                    });
                });
                let copies = channels
                    .audience
                    .encode_text(|serializer| serializer.broadcast(&channels.text, event, &payload));
                if !copies.is_empty() {
                    let to = channels.audience.receivers();
                    effects.push(Effect::Broadcast { copies, to, except: None, after_state: true });
                }
            }
        }
    }

    pub(super) fn everything(&self) -> Update<'_> {
        Update {
            form: self.form(),
            positions: self.positions.all().collect(),
            objects: self.objects.all().collect(),
            has_state: true,
            values: self.values(Told::Whole),
            values_whole: self.keys.is_some(),
        }
    }

    fn values(&self, told: Told) -> Vec<ToldValue<'_>> {
        self.keys.as_ref().map_or_else(Vec::new, |keys| keys.values(told))
    }

    /// The last frame that channels were told.
    pub(super) fn last_frame(&self) -> FrameNumber {
        self.channels.as_ref().map_or(FrameNumber::FIRST, |channels| channels.frame)
    }
}
