//! The tick of a game: at most one Delta and one Keyframe are encoded, whatever the number of members; with views, of each view.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::Shard;
use super::peer::Delivered;
use super::topics::TopicIndex;
use crate::ids::{Party, Topic};
use crate::impossible;
use crate::room::game::Game;
use crate::room::game_channel_frames::{ChannelFrame, ChannelFrames, NativeFrames};
use crate::room::game_views::GameViews;
use crate::room::player_keys::Told;
use crate::room::request::ToMember;
use crate::room::roster::RosterNews;
use crate::room::seats::Occupancy;
use crate::session::outbox::Wanted;
use crate::time::{Instant, Now};
use crate::wire::encoded::Encoded;

impl Shard {
    /// The tick of a game, which was due at `due`.
    pub(super) fn tick(&mut self, game: TopicIndex, due: Instant, now: Now) {
        self.metrics.tick_lateness.record(now.instant.since(due));
        let roster = self.tell_roster(game, now);
        self.tell_acks(game, due, now);
        match self.topics.game(game).and_then(Game::take_views) {
            None => {
                let frames = self.tell_state(game, now);
                self.tell_channels(game, roster.as_ref(), &frames, now);
            }
            Some(views) => self.tell_views(game, views, roster.as_ref(), now),
        }
        let Some(game) = self.topics.game(game) else {
            return impossible!("a game is there while it ticks");
        };
        game.settle(now.instant);
    }

    /// Tells players here who do not know it yet who came and went; in a crowd how many there are. Returns what all are told.
    fn tell_roster(&mut self, index: TopicIndex, now: Now) -> Option<Encoded> {
        let Some(game) = self.topics.game(index) else {
            impossible!("a game is there while it ticks");
            return None;
        };
        let RosterNews { each, for_everybody } = game.tell_roster(now.instant, &mut self.pool);
        for (conn, record) in each {
            self.push(conn, record);
        }
        for_everybody
    }

    /// Tells those that asked for it which of their inputs this tick has used: in front of its frame, in the same send. Of a client
    /// that cannot take the frame the latest waits.
    fn tell_acks(&mut self, index: TopicIndex, due: Instant, now: Now) {
        let Some(game) = self.topics.game(index) else {
            return impossible!("a game is there while it ticks");
        };
        let tick = game.clock().number_at(now.instant);
        let acks = game.due_acks(tick, due);
        let topic = game.topic().clone();
        let mut anybody_waits = false;
        for (seat, occupancy, ack) in acks {
            match occupancy {
                Occupancy::Connected(conn) => {
                    let session = self.connections.get(conn).map(|connection| &connection.session);
                    if session.is_none_or(|session| session.outbox.is_behind_state()) {
                        anybody_waits = true;
                        continue;
                    }
                    self.push(conn, ack.record());
                }
                Occupancy::Channel(to) => self.tell_member(&topic, to, ToMember::Ack(ack), now),
                Occupancy::HeldUntil(_) => {}
            }
            if let Some(game) = self.topics.game(index) {
                game.ack_told(seat);
            }
        }
        if anybody_waits && let Some(game) = self.topics.game(index) {
            game.changed(now.instant);
        }
    }

    /// Tells the state to players here whose socket is free: the Delta to those that were sent the frame before, the Keyframe to
    /// the others. A player that is skipped makes the next tick happen, even if nothing changes.
    fn tell_state(&mut self, index: TopicIndex, now: Now) -> NativeFrames {
        let Some(game) = self.topics.game(index) else {
            impossible!("a game is there while it ticks");
            return NativeFrames::default();
        };
        let tick = game.clock().number_at(now.instant);
        let changed = game.state_changed();
        let mut sent = game.take_sent_frames();
        let metrics = &self.metrics;
        let mut frames = NativeFrames { tick, ..NativeFrames::default() };
        let mut anybody_stale = false;
        for (seat, conn) in game.seats().connected() {
            let Some(connection) = self.connections.find(conn) else {
                impossible!("a connected seat has a connection");
                continue;
            };
            self.work.spend(1);
            let outbox = &mut connection.session.outbox;
            if !changed && !outbox.is_stale() {
                continue;
            }
            let waits = outbox.has_state();
            let frame = match outbox.wanted() {
                Wanted::Delta => {
                    metrics.deltas.increment();
                    frames.delta.get_or_insert_with(|| {
                        metrics.frames_encoded.increment();
                        game.encode_delta(tick, &mut self.pool)
                    })
                }
                Wanted::Keyframe => {
                    metrics.keyframes.increment();
                    let missed = sent.as_mut().map_or(Told::Whole, |sent| sent.missed(seat, tick, waits));
                    let frame = match missed {
                        Told::Whole => &mut frames.whole,
                        Told::Changed | Told::Recent => &mut frames.keyframe,
                    };
                    frame.get_or_insert_with(|| {
                        metrics.frames_encoded.increment();
                        game.encode_keyframe(tick, missed, &mut self.pool)
                    })
                }
                Wanted::Nothing => {
                    metrics.frames_skipped.increment();
                    anybody_stale = true;
                    continue;
                }
            };
            if outbox.put_state(frame.clone()) {
                metrics.frames_skipped.increment();
            }
            if let Some(sent) = &mut sent {
                sent.put(seat, tick, waits);
            }
            if outbox.enlist() {
                self.ready.push_back(conn);
            }
        }
        game.put_back_sent_frames(sent);
        if anybody_stale {
            game.changed(now.instant);
        }
        frames
    }

    /// Tells roster and state to members in channels: one message for each party with members.
    fn tell_channels(
        &mut self,
        index: TopicIndex,
        roster: Option<&Encoded>,
        natives: &NativeFrames,
        now: Now,
    ) {
        let pool = &mut self.pool;
        let Some(game) = self.topics.game(index) else {
            return impossible!("a game is there while it ticks");
        };
        if game.channels().is_none() {
            return;
        }
        let mut effects = Vec::new();
        if let Some(roster) = roster {
            game.tell_channels_roster(roster, &mut effects);
        }
        let frames = game.channel_frames(natives, pool, &mut effects);
        let topic = game.topic().clone();
        for effect in effects {
            self.perform(index, &topic, effect, now);
        }
        self.deliver_frames(&topic, frames, now);
    }

    fn deliver_frames(&mut self, topic: &Arc<Topic>, frames: ChannelFrames, now: Now) {
        let ChannelFrames { frames, encoded } = frames;
        self.metrics.frames_encoded.add(encoded);
        // One letter for each party, however many views its members look from.
        let mut by_party: BTreeMap<Party, Vec<ChannelFrame>> = BTreeMap::new();
        for (party, frame) in frames {
            by_party.entry(party).or_default().push(frame);
        }
        for (party, frames) in by_party {
            self.deliver(party, topic, Delivered::Frames(frames.into()), now);
        }
    }

    /// The state of a game with views: each member is told what is near it, by a Delta if it was sent the last frame of the same
    /// view.
    fn tell_views(
        &mut self,
        index: TopicIndex,
        mut views: Box<GameViews>,
        roster: Option<&Encoded>,
        now: Now,
    ) {
        let Some(game) = self.topics.game(index) else {
            return impossible!("a game is there while it ticks");
        };
        let tick = game.clock().number_at(now.instant);
        views.advance(game, now.instant);
        let metrics = &self.metrics;
        let mut anybody_stale = false;
        for (seat, conn) in game.seats().connected() {
            let Some(connection) = self.connections.find(conn) else {
                impossible!("a connected seat has a connection");
                continue;
            };
            self.work.spend(1);
            let outbox = &mut connection.session.outbox;
            let view = views.of(seat);
            let goes_on = views.goes_on(seat, view);
            let delta = views.delta(game, (seat, view), tick, &mut self.pool);
            if goes_on && delta.is_none() && !outbox.is_stale() {
                continue;
            }
            let frame = match (outbox.wanted(), delta) {
                (Wanted::Delta, Some(delta)) if goes_on => {
                    metrics.deltas.increment();
                    delta
                }
                (Wanted::Delta | Wanted::Keyframe, _) => {
                    metrics.keyframes.increment();
                    views.keyframe(game, (seat, view), tick, &mut self.pool)
                }
                (Wanted::Nothing, _) => {
                    metrics.frames_skipped.increment();
                    anybody_stale = true;
                    continue;
                }
            };
            if outbox.put_state(frame) {
                metrics.frames_skipped.increment();
            }
            views.put(seat, view);
            if outbox.enlist() {
                self.ready.push_back(conn);
            }
        }
        metrics.frames_encoded.add(views.encoded());
        if anybody_stale {
            game.changed(now.instant);
        }
        let mut effects = Vec::new();
        if let Some(roster) = roster {
            game.tell_channels_roster(roster, &mut effects);
        }
        let frames = game.view_channel_frames(&mut views, tick, &mut self.pool);
        self.work.spend(views.work());
        game.put_back_views(views);
        let topic = game.topic().clone();
        for effect in effects {
            self.perform(index, &topic, effect, now);
        }
        self.deliver_frames(&topic, frames, now);
    }
}
