//! The frames of a game with views for members in channels: one for each view that a member looks from.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::audience::Copies;
use super::frames::First;
use super::game::Game;
use super::game_channel_frames::{ChannelFrame, ChannelFrames};
use super::game_update::{Gone, Update};
use super::game_views::{GameViews, View};
use super::interest::{OverviewPlace, Selection, ViewId};
use super::player_keys::States;
use crate::ids::{Address, FrameNumber, Party};
use crate::wire::encoded::{Encoded, FramePool};
use crate::wire::format::Format;
use crate::wire::json::object_of;
use crate::wire::native::Solid;
use crate::wire::phoenix::Event;

/// Members that look from one view.
#[derive(Debug, Default)]
struct Group {
    view: Option<View>,
    formats: Vec<Format>,
    by_party: BTreeMap<Party, Members>,
}

/// Those of them at one party.
#[derive(Debug, Default)]
struct Members {
    addresses: Vec<Address>,
    /// One of them cannot go on from the last frame.
    needs_whole: bool,
}

impl Game {
    /// What members in channels are told at this tick: a frame for each view and party.
    pub fn view_channel_frames(
        &mut self,
        views: &mut GameViews,
        tick: u32,
        pool: &mut FramePool,
    ) -> ChannelFrames {
        let groups = self.groups_of_channels(views);
        let mut told = ChannelFrames::default();
        for (id, group) in &groups {
            self.frames_of_group(views, *id, group, (tick, pool), &mut told);
        }
        views.channel_frames.retain(|id, _| groups.contains_key(id));
        let Some(channels) = &mut self.channels else { return told };
        channels.stale_parties.clear();
        channels.stale_members.clear();
        for (id, group) in &groups {
            for address in group.by_party.values().flat_map(|members| &members.addresses) {
                if let Some(member) = channels.members.get_mut(address) {
                    member.view = Some(*id);
                }
            }
        }
        told
    }

    fn groups_of_channels(&self, views: &GameViews) -> BTreeMap<ViewId, Group> {
        let mut groups: BTreeMap<ViewId, Group> = BTreeMap::new();
        let Some(channels) = &self.channels else { return groups };
        for (address, member) in &channels.members {
            let view = member.seat.map_or(View::NOWHERE, |seat| views.of(seat));
            let group = groups.entry(view.id).or_default();
            group.view = Some(view);
            if !group.formats.contains(&member.format) {
                group.formats.push(member.format);
            }
            let members = group.by_party.entry(address.party()).or_default();
            members.addresses.push(*address);
            members.needs_whole |= member.view != Some(view.id)
                || channels.stale_parties.contains(&address.party())
                || channels.stale_members.contains(address);
        }
        groups
    }

    fn frames_of_group(
        &mut self,
        views: &mut GameViews,
        id: ViewId,
        group: &Group,
        (tick, pool): (u32, &mut FramePool),
        told: &mut ChannelFrames,
    ) {
        let Some(view) = group.view else { return };
        let mut selection = Selection::default();
        views.interest.select_delta(view.key, &mut selection);
        let mut selected = selection.len();
        let states = self.changed_states(|player| views.sees(view, player), &selection.entering);
        let overview = views.overview();
        let has_news = !selection.is_empty() || !states.is_empty() || overview.is_some();
        let before = views.channel_frames.get(&id).copied();
        let delta = before.filter(|_| has_news).map(|before| {
            let copies = self.copies(group, pool, |game, format, pool| {
                game.encode_for_channel(First::Delta, format, (&selection, &states), (tick, overview), pool)
            });
            (before, copies)
        });
        let needs_whole = group.by_party.values().any(|members| members.needs_whole);
        let whole = needs_whole.then(|| {
            let mut selection = Selection::default();
            views.interest.select_keyframe(view.key, &mut selection);
            selected += selection.len();
            let states = self.whole_states(&selection.players);
            self.copies(group, pool, |game, format, pool| {
                game.encode_for_channel(
                    First::Keyframe,
                    format,
                    (&selection, &states),
                    (tick, overview),
                    pool,
                )
            })
        });
        views.selected += selected;
        if delta.is_none() && whole.is_none() {
            return;
        }
        let number = match before.filter(|_| !has_news) {
            Some(before) => before,
            None => self.next_channel_frame(),
        };
        told.encoded +=
            delta.iter().map(|(_, copies)| copies).chain(&whole).map(Copies::encoded).sum::<u64>();
        views.channel_frames.insert(id, number);
        for (party, members) in &group.by_party {
            let whole = whole.clone().filter(|_| members.needs_whole);
            if delta.is_some() || whole.is_some() {
                let to: Option<Arc<[Address]>> = Some(members.addresses.as_slice().into());
                told.frames.push((*party, ChannelFrame { number, delta: delta.clone(), whole, to }));
            }
        }
    }

    fn copies(
        &self,
        group: &Group,
        pool: &mut FramePool,
        encode: impl Fn(&Self, Format, &mut FramePool) -> Encoded,
    ) -> Copies {
        let Some(channels) = &self.channels else { return Copies::default() };
        channels.audience.encode(|format| group.formats.contains(&format).then(|| encode(self, format, pool)))
    }

    fn encode_for_channel(
        &self,
        first: First,
        format: Format,
        (selection, states): (&Selection, &States<'_>),
        (tick, overview): (u32, Option<(bool, &[OverviewPlace])>),
        pool: &mut FramePool,
    ) -> Encoded {
        let topic = self.channels.as_ref().map_or("", |channels| &*channels.text);
        pool.messages(|buffer| {
            let Some(serializer) = format.serializer() else {
                return self.write_view(first, selection, tick, buffer) + states.write(tick, buffer);
            };
            let positions = selection.players.iter().filter_map(|player| self.held_of(*player)).collect();
            let objects: Vec<&Solid> =
                selection.objects.iter().filter_map(|object| self.objects.get(*object)).collect();
            let update = Update {
                form: self.form(),
                positions,
                objects,
                has_state: first == First::Keyframe || selection.players.len() + selection.objects.len() > 0,
                first,
                gone: Gone { players: &selection.gone_players, objects: &selection.gone_objects },
                states: states.clone(),
            };
            let messages = update.write(format, topic, buffer);
            let Some((begins, places)) = overview else { return messages };
            let payload = object_of(32 + 16 * places.len(), |payload| {
                payload.boolean("begins", begins);
                payload.array("places", |list| {
                    for place in places {
                        list.array(|fields| {
                            fields.number(place.slot).number(place.x).number(place.y);
                        });
                    }
                });
            });
            buffer.extend_from_slice(serializer.broadcast(topic, Event::Overview, &payload).bytes());
            messages + 1
        })
    }

    /// A number that no frame of this game has.
    pub(super) fn next_channel_frame(&mut self) -> FrameNumber {
        let Some(channels) = &mut self.channels else { return FrameNumber::FIRST };
        channels.frame = channels.frame.next();
        channels.frame
    }
}
