//! What must be true when nothing goes wrong any more: every view is what a newcomer is told, everybody knows who is here,
//! nobody has missed anything, and when all have left nothing is left.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use super::client::{Client, Link};
use super::faults::Branch;
use super::ledger::{Scope, Stream};
use super::player::Player;
use super::relay::Relay;
use super::replica::Replica;
use super::run::{DOCUMENTS, GAMES, ROOMS, Run};
use super::topics::{Kind, State, Topic, Topics};
use super::wire::Serializer;

/// Connections that nobody hears any more are closed as idle, and the seats that they had are given up.
const REST: Duration = Duration::from_secs(12);
/// Everybody has come back by then.
const REST_MAX: Duration = Duration::from_secs(60);
/// Whatever is held for anybody who comes back is given up by then.
const AFTER_ALL: Duration = Duration::from_secs(75);

impl Run {
    /// Nothing new goes wrong; whoever wants to be here comes back.
    pub fn come_to_rest(&mut self) {
        self.relay.calm();
        let now = self.relay.now.instant;
        for client in &mut self.clients {
            client.frozen_until = now;
            client.troubled_until = now;
        }
        while self.is_draining() {
            self.advance(Duration::from_secs(1));
        }
        self.advance(REST);
        let begun = self.relay.now.instant;
        while let Some(client) = self.clients.iter().find(|client| !client.is_settled(&self.relay)) {
            assert!(self.relay.now.instant.since(begun) < REST_MAX, "it does not come back: {client:?}");
            self.advance(Duration::from_secs(1));
        }
        self.check_who_is_there();
        // Whatever else was lost before is noticed by what follows it.
        for index in 0..self.clients.len() {
            let Some(socket) = self.clients[index].open() else { continue };
            if self.clients[index].player.is_some() {
                self.send_native_event(index, socket, Scope::All);
            }
            for topic in 0..self.clients[index].topics.all.len() {
                let topics = &mut self.clients[index].topics;
                if topics.all[topic].is_joined() {
                    let bytes = match &mut topics.all[topic].kind {
                        Kind::Game(_) => topics.send_event(topic, Scope::All, false, &mut self.ledger),
                        Kind::Room => topics.talk(topic, false, false),
                        Kind::Document(document) => {
                            document.edit(&mut self.random, 1);
                            topics.move_cursor(topic, &mut self.random)
                        }
                    };
                    self.relay.write(socket, &bytes);
                }
            }
        }
        self.advance(Duration::from_secs(2));
    }

    /// Every list has those who are there and nobody else, though nothing is told behind the last end.
    fn check_who_is_there(&self) {
        let everybody: Vec<&Client> = self.clients.iter().collect();
        for topic in ROOMS.into_iter().chain(DOCUMENTS).chain(GAMES) {
            let members: Vec<&Topic> = everybody.iter().filter_map(|client| client.joined(topic)).collect();
            let natives = everybody.iter().filter(|client| client.plays(topic).is_some()).count();
            for member in &members {
                let listed = member.presence.list.metas.values().flatten().count();
                let is_right = member.presence.online.is_some() || listed == members.len() + natives;
                assert!(is_right, "{listed} are listed, {} there: {member:?}", members.len() + natives);
            }
        }
    }

    pub fn check_rest(&mut self) {
        let members = self.clients.len();
        let topics = ROOMS.into_iter().chain(DOCUMENTS).chain(GAMES).collect();
        self.clients.push(Client::new(None, Topics::of(Serializer::V2, topics, Some("newcomer".into()))));
        for game in GAMES {
            self.clients.push(Client::new(Some(Player::new(game)), Topics::new(Serializer::V2, Vec::new())));
        }
        self.advance(Duration::from_secs(3));
        self.listen();
        let (members, newcomers) = self.clients.split_at(members);
        let everybody: Vec<&Client> = self.clients.iter().collect();
        for client in members {
            client.topics.check_answered();
            let pings =
                client.player.as_ref().filter(|_| client.open().is_some()).map_or(0, |player| player.pings);
            assert_eq!(pings, 0, "pings that nobody has answered: {client:?}");
        }
        let relay = &self.relay;
        let all = ROOMS.into_iter().chain(DOCUMENTS).chain(GAMES);
        for topic in all.filter(|topic| relay.has_lost(topic)) {
            let member = everybody.iter().find(|client| client.joined(topic).is_some());
            assert!(member.is_none(), "{topic} is gone, and {member:?} is in it");
        }
        for room in ROOMS.into_iter().filter(|topic| !relay.has_lost(topic)) {
            let last_said = self.ledger.last_said_of(room);
            check_room(room, &everybody, newcomers, &last_said);
            check_disk(room, relay.on_disk(room), &last_said);
        }
        for document in DOCUMENTS.into_iter().filter(|topic| !relay.has_lost(topic)) {
            check_document(document, &everybody, newcomers);
        }
        for game in GAMES.into_iter().filter(|topic| !relay.has_lost(topic)) {
            check_game(game, &everybody, newcomers);
        }
        let streams: Vec<(&'static str, Stream)> = self
            .clients
            .iter()
            .flat_map(Client::streams)
            .map(|(game, stream)| (game, stream.clone()))
            .collect();
        let streams: Vec<(&'static str, &Stream)> =
            streams.iter().map(|(game, stream)| (*game, stream)).collect();
        self.ledger.check(&streams);
        let saved = self.ledger.documents.check(self.relay.disk());
        self.relay.counts.branches(Branch::DocumentSaved, saved as u64);
        self.check_gauges();
        self.relay.check_kicks();
        for index in self.clients.len() - 1 - GAMES.len()..self.clients.len() {
            self.with_client(index, Client::say_goodbye);
        }
        self.clients.truncate(self.clients.len() - 1 - GAMES.len());
        self.advance(Duration::from_secs(3));
    }

    fn check_gauges(&self) {
        let open = self.clients.iter().filter(|client| client.open().is_some()).count() as u64;
        let joined =
            |client: &Client| client.topics.all.iter().filter(|topic| topic.is_joined()).count() as u64;
        let channels: u64 = self.clients.iter().map(joined).sum();
        let seats = self.clients.iter().flat_map(Client::streams).count() as u64;
        let sum = |value: fn(&corelay::metrics::ShardMetrics) -> u64| self.relay.sum(value);
        assert_eq!(sum(|metrics| metrics.connections_open.value()), open, "connections");
        assert_eq!(sum(|metrics| metrics.channels.value()), channels, "channels");
        assert_eq!(sum(|metrics| metrics.seats.value()), seats, "seats");
        assert_eq!(sum(|metrics| metrics.seats_held.value()), 0, "held seats");
        assert_eq!(sum(|metrics| metrics.outbox_bytes.value()), 0, "bytes that wait");
    }

    /// Everybody goes.
    pub fn part(&mut self) {
        self.relay.calm();
        (0..self.clients.len()).for_each(|index| self.with_client(index, Client::say_goodbye));
        self.advance(Duration::from_secs(1));
        self.clients.clear();
        self.relay.advance(AFTER_ALL);
        self.relay.give_back();
    }

    pub fn check_empty(&self) {
        let sum = |value: fn(&corelay::metrics::ShardMetrics) -> u64| self.relay.sum(value);
        assert_eq!(sum(|metrics| metrics.connections_open.value()), 0, "connections");
        assert_eq!(sum(|metrics| metrics.connections_closing.value()), 0, "connections that close");
        assert_eq!(sum(|metrics| metrics.connections_upgrading.value()), 0, "connections that upgrade");
        assert_eq!(sum(|metrics| metrics.channels.value()), 0, "channels");
        assert_eq!(sum(|metrics| metrics.rooms.value()), 0, "rooms");
        assert_eq!(sum(|metrics| metrics.games.value()), 0, "games");
        assert_eq!(sum(|metrics| metrics.seats.value()), 0, "seats");
        assert_eq!(sum(|metrics| metrics.seats_held.value()), 0, "held seats");
        assert_eq!(sum(|metrics| metrics.outbox_bytes.value()), 0, "bytes that wait");
        for number in self.relay.running() {
            let sizes = self.relay.shard(number).sizes();
            assert!(sizes.is_empty(), "shard {number}: {sizes:?}");
        }
    }
}

impl Client {
    /// Whether the client is where it wants to be, or cannot be.
    fn is_settled(&self, relay: &Relay) -> bool {
        let settled = |topic: &Topic| match topic.state {
            State::Joined => topic.document().is_none_or(Replica::is_at_rest),
            State::Out { again_at: None } => true,
            State::Joining | State::Out { .. } => relay.has_lost(topic.name),
            State::Leaving => false,
        };
        self.link == Link::Gone
            || self.is_refused
            || self.open().is_some() && self.topics.all.iter().all(settled)
    }

    /// The event streams that the client follows.
    pub fn streams(&self) -> impl Iterator<Item = (&'static str, &Stream)> {
        let player = self.player.as_ref().filter(|_| self.open().is_some());
        let player = player.map(|player| (player.game, &player.stream));
        let joined = self.topics.all.iter().filter(|topic| topic.is_joined() && self.open().is_some());
        player.into_iter().chain(joined.filter_map(|topic| Some((topic.name, &topic.game()?.stream))))
    }

    fn joined(&self, name: &str) -> Option<&Topic> {
        self.topics
            .all
            .iter()
            .find(|topic| topic.name == name && topic.is_joined())
            .filter(|_| self.open().is_some())
    }

    fn plays(&self, game: &str) -> Option<&Player> {
        self.player.as_ref().filter(|player| self.open().is_some() && player.game == game)
    }
}

fn check_room(room: &str, everybody: &[&Client], newcomers: &[Client], last_said: &BTreeMap<String, u64>) {
    let Some(truth) = newcomers[0].joined(room) else {
        // It found no room on the relay.
        return assert!(newcomers[0].was_refused, "nobody new in {room}");
    };
    let said = last_said.get(&truth.epoch).copied().unwrap_or(0);
    assert!(truth.seq >= said, "{room} is at {}, and {said} was told", truth.seq);
    let members: Vec<&Topic> = everybody.iter().filter_map(|client| client.joined(room)).collect();
    for member in &members {
        assert_eq!((&member.epoch, member.seq), (&truth.epoch, truth.seq), "{member:?}");
        for (seq, message) in &truth.messages {
            let known = member.messages.get(seq);
            assert!(known.is_none_or(|known| known == message), "{seq} is {message:?}: {member:?}");
        }
    }
    check_members(room, &members, truth);
}

/// Every member knows who the members are, as a newcomer does.
fn check_members(topic: &str, members: &[&Topic], truth: &Topic) {
    let mut users: BTreeMap<&str, usize> = BTreeMap::new();
    members.iter().for_each(|member| *users.entry(&member.user).or_default() += 1);
    for member in members {
        match member.presence.online {
            Some(online) => assert_eq!(online, users.len() as u64, "{member:?}"),
            None => {
                let listed = member.presence.list.metas.iter();
                let listed: BTreeMap<&str, usize> =
                    listed.map(|(user, metas)| (user.as_str(), metas.len())).collect();
                assert_eq!(listed, users, "who is in {topic}: {member:?}");
                let mut metas = member.presence.list.metas.values().flatten();
                assert!(metas.all(|meta| meta["status"] != "typing"), "nobody types: {member:?}");
                assert_eq!(
                    member.presence.list.sorted(),
                    truth.presence.list.sorted(),
                    "{topic}: {member:?}"
                );
            }
        }
    }
}

/// Every member has the text, and knows of the cursors, that a newcomer is told.
fn check_document(document: &str, everybody: &[&Client], newcomers: &[Client]) {
    let Some(truth) = newcomers[0].joined(document) else {
        // It found no room on the relay.
        return assert!(newcomers[0].was_refused, "nobody new in {document}");
    };
    let members: Vec<&Topic> = everybody.iter().filter_map(|client| client.joined(document)).collect();
    check_members(document, &members, truth);
    let told = truth.document().expect("it is a document");
    for member in members {
        let own = member.document().expect("it is a document");
        assert!(own.is_at_rest(), "something is left to do: {member:?}");
        let both = [own, told].map(|replica| (&replica.epoch, replica.version, &replica.text));
        assert_eq!(both[0], both[1], "{document} as {} has it", member.user);
        own.check_cursors();
        let without = [&*own.user, &*told.user];
        let cursors = [own, told].map(|replica| replica.cursors_without(without));
        assert_eq!(cursors[0], cursors[1], "cursors of {document}: {member:?}");
    }
}

/// A stream has one name for ever, and what anybody was told of it is on disk.
fn check_disk(room: &str, on_disk: Option<(u64, u64)>, last_said: &BTreeMap<String, u64>) {
    for (epoch, said) in last_said {
        let (disk_epoch, seq) = on_disk.unwrap_or_else(|| panic!("nothing of {room} is on disk"));
        assert_eq!((epoch, seq >= *said), (&disk_epoch.to_string(), true), "{room}: {said} of {seq}");
    }
}

fn check_game(game: &str, everybody: &[&Client], newcomers: &[Client]) {
    let channels: Vec<&Topic> = everybody.iter().filter_map(|client| client.joined(game)).collect();
    let natives: Vec<&Player> = everybody.iter().filter_map(|client| client.plays(game)).collect();
    let of_channels = channels.iter().filter_map(|topic| topic.game()).map(|game| game.player);
    let players: BTreeSet<u32> = of_channels.chain(natives.iter().map(|player| player.id)).collect();
    // Whoever came when the game was full has seen nothing.
    let newest = newcomers[0].joined(game).and_then(Topic::game).map(|game| &game.view);
    let newest_native = newcomers.iter().find_map(|client| client.plays(game)).map(|player| &player.view);
    let truth = newest.or(newest_native);
    for (id, _) in truth.into_iter().flat_map(|view| view.values.keys()) {
        assert!(players.contains(id), "values of {id}, which is not in {game}");
    }
    for player in &natives {
        match player.view.crowd {
            Some(count) => assert_eq!(count as usize, players.len(), "{player:?}"),
            None => assert_eq!(player.view.roster, players, "the roster of {player:?}"),
        }
        if let Some(truth) = newest_native {
            let view = (&player.view.positions, &player.view.objects, &player.view.values);
            assert_eq!(view, (&truth.positions, &truth.objects, &truth.values), "the view of {player:?}");
        }
    }
    for topic in channels {
        let Some(own) = topic.game() else { continue };
        for truth in [newest, newest_native].into_iter().flatten() {
            let view = (&own.view.positions, &own.view.objects, &own.view.values);
            assert_eq!(view, (&truth.positions, &truth.objects, &truth.values), "the view of {topic:?}");
        }
        match topic.presence.online {
            Some(online) => assert_eq!(online, players.len() as u64, "{topic:?}"),
            None => {
                let metas = topic.presence.list.metas.values().flatten();
                let listed: Vec<u32> =
                    metas.map(|meta| meta["player_id"].as_u64().expect("a number") as u32).collect();
                let unique: BTreeSet<u32> = listed.iter().copied().collect();
                assert_eq!((&unique, listed.len()), (&players, players.len()), "who is in {game}: {topic:?}");
                if let Some(truth) = newcomers[0].joined(game) {
                    let (own, truth) = (topic.presence.list.sorted(), truth.presence.list.sorted());
                    assert_eq!(own, truth, "{game}: {topic:?}");
                }
            }
        }
    }
}
