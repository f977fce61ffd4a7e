//! The frames of a tick for members in channels: what changed, and everything for parties that need it.

use std::sync::Arc;

use super::audience::Copies;
use super::frames::First;
use super::game::Game;
use super::game_update::{Gone, Update};
use super::interest::Selection;
use super::player_keys::{States, Told};
use super::request::Effect;
use crate::ids::{Address, FrameNumber, Party};
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

/// The frames of a tick for members in channels.
#[derive(Debug, Default)]
pub struct ChannelFrames {
    /// By party.
    pub frames: Vec<(Party, ChannelFrame)>,
    /// How many were encoded for them.
    pub encoded: u64,
}

/// A frame of a tick for channels.
#[derive(Clone, Debug)]
pub struct ChannelFrame {
    /// Its number.
    pub number: FrameNumber,
    /// What changed, if something did, and since which frame.
    pub delta: Option<(FrameNumber, Copies)>,
    /// Everything, for members that were not sent the frame before.
    pub whole: Option<Copies>,
    /// Who is told, in order; `None`: all members there.
    pub to: Option<Arc<[Address]>>,
}

impl Game {
    /// A party has members that were not sent the last frame.
    pub fn want_whole(&mut self, party: Party, now: Instant) {
        if let Some(channels) = &mut self.channels {
            channels.stale_parties.insert(party);
            self.changed(now);
        }
    }

    /// A member was not sent the last frame.
    pub fn want_whole_for(&mut self, member: Address, now: Instant) {
        match &mut self.channels {
            Some(channels) if self.views.is_some() => {
                // It may have gone meanwhile.
                if channels.members.contains_key(&member) {
                    channels.stale_members.insert(member);
                    self.changed(now);
                }
            }
            _ => self.want_whole(member.party(), now),
        }
    }

    /// What channels are told at this tick, by party. What is gone goes into the effects; native members read it in their
    /// frame. `natives`: what the players on the game's shard are sent.
    pub fn channel_frames(
        &mut self,
        natives: &NativeFrames,
        pool: &mut FramePool,
        effects: &mut Vec<Effect>,
    ) -> ChannelFrames {
        self.tell_channels_gone(effects);
        let Some(channels) = &mut self.channels else { return ChannelFrames::default() };
        let stale = std::mem::take(&mut channels.stale_parties);
        let Some(channels) = &self.channels else { return ChannelFrames::default() };
        let has_state = self.positions.moved_count() + self.objects.changed().len() > 0;
        let states = self.states(natives.tick, Told::Changed);
        let has_news = has_state || !states.is_empty();
        let changed = has_news || self.state_changed() && channels.audience.has(Format::Native);
        let before = channels.frame;
        let delta = changed.then(|| {
            let update = has_news.then(|| Update {
                form: self.form(),
                positions: self.positions.moved().collect(),
                objects: self.objects.changed().collect(),
                has_state,
                first: First::Delta,
                gone: Gone::default(),
                states,
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
            copies.and(channels.audience.share(natives.whole.as_ref()))
        });
        let number = if changed { before.next() } else { before };
        let frame_for = |party: Party| {
            let whole = whole.clone().filter(|_| stale.contains(&party));
            let is_told = delta.is_some() || whole.is_some();
            is_told.then(|| (party, ChannelFrame { number, delta: delta.clone(), whole, to: None }))
        };
        let frames = channels.audience.receivers().parties.into_iter().filter_map(frame_for).collect();
        let encoded = delta.iter().map(|(_, copies)| copies).chain(&whole).map(Copies::encoded).sum();
        if let Some(channels) = &mut self.channels {
            channels.frame = number;
        }
        ChannelFrames { frames, encoded }
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

    /// Everything that a member may see that joins: with views only what all see, since the next tick brings its view.
    pub(super) fn everything(&self) -> Update<'_> {
        let (first, gone, form) = (First::Delta, Gone::default(), self.form());
        let update = Update {
            form,
            positions: Vec::new(),
            objects: Vec::new(),
            has_state: true,
            first,
            gone,
            states: States::default(),
        };
        match &self.views {
            None => Update {
                positions: self.positions.all().collect(),
                objects: self.objects.all().collect(),
                states: self.states(0, Told::Whole),
                ..update
            },
            Some(views) => {
                let mut selection = Selection::default();
                views.interest.select_keyframe(None, &mut selection);
                let objects =
                    selection.objects.iter().filter_map(|object| self.objects.get(*object)).collect();
                Update { objects, states: self.whole_states(&[]), ..update }
            }
        }
    }

    /// The last frame that channels were told.
    pub(super) fn last_frame(&self) -> FrameNumber {
        self.channels.as_ref().map_or(FrameNumber::FIRST, |channels| channels.frame)
    }
}
