//! Games with views: each member sees exactly who is near it, in both dialects and on any shard.
#![allow(clippy::wildcard_enum_match_arm, reason = "a test names the one thing it expects")]

#[path = "support/layouts.rs"]
mod layouts;
#[path = "simulation/random.rs"]
mod random;
mod world;

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use corelay::room::game::GameRules;
use corelay::room::interest::ViewRules;
use corelay::session::liveness::Liveness;
use corelay::shard::placement::Placement;
use corelay::shard::settings::Settings;
use corelay::wire::layout::{Bounds, Layout, Number};
use layouts::{PhoenixView, RichView, Shape, put_object_at, step};
use random::Random;
use serde_json::{Value, json};
use world::World;
use world::client::{ClientId, event, move_to, set_state, take_payload};

const CELL: f32 = 32.0;
const SIDE_CELLS: u32 = 10;
const BOUNDS: Bounds = Bounds { min: [-160.0, -160.0, 0.0], max: [160.0, 160.0, 64.0] };

fn rules(layout: Layout, view: ViewRules) -> GameRules {
    let seat_hold = Duration::from_secs(2);
    GameRules { layout, bounds: BOUNDS, view: Some(view), seat_hold, ..GameRules::default() }
}

fn views() -> ViewRules {
    ViewRules { radius: 1, radius_max: 3, everywhere: [9].into(), ..ViewRules::new(CELL) }
}

/// The middle of a cell.
fn middle(column: u32, row: u32) -> [f32; 2] {
    [column, row].map(|cell| -160.0 + CELL * (cell as f32 + 0.5))
}

/// Who plays, and what it knows.
enum Known {
    Native(Box<RichView>),
    Phoenix(Box<PhoenixView>),
}

struct Member {
    client: ClientId,
    /// Player id.
    id: u32,
    known: Known,
    /// In which cell its player is; `None`: it has not moved.
    cell: Option<(u32, u32)>,
    radius: u32,
    inputs: u16,
    token: String,
}

struct Played {
    world: World,
    shape: Shape,
    name: String,
    members: Vec<Member>,
}

impl Played {
    fn new(layout: Layout, view: ViewRules) -> Self {
        let games = vec![rules(layout, view)];
        // Nobody is asked whether it is still there.
        let hour = Duration::from_secs(3_600);
        let liveness = Liveness {
            ping_after: hour,
            close_after: hour,
            socket_warn_after: hour,
            socket_close_after: hour,
        };
        let settings = Settings { placement: Placement::known(2), games, liveness, ..Settings::default() };
        let world = World::new(settings);
        let shape = Shape {
            u16: layout.number == Number::U16,
            axes: layout.axes.into(),
            pose: layout.pose_bytes.into(),
            min: BOUNDS.min,
            max: BOUNDS.max,
        };
        let name = world.name_on(0);
        Self { world, shape, name, members: Vec::new() }
    }

    fn add(&mut self, client: ClientId, id: u32, token: String, known: Known) -> usize {
        self.members.push(Member { client, id, known, cell: None, radius: 1, inputs: 0, token });
        self.read(self.members.len() - 1);
        self.members.len() - 1
    }

    fn native(&mut self, query: &str) -> usize {
        let client = self.world.request(&format!("/play/{}?layout=1{query}", self.name));
        let (status, head) = self.world.client(client).response();
        assert_eq!(status, 101, "{head}");
        let index = self.add(client, 0, String::new(), Known::Native(Box::default()));
        let Known::Native(view) = &self.members[index].known else { panic!("it is native") };
        let (id, token) = (view.welcome.0, view.resume_token.clone());
        (self.members[index].id, self.members[index].token) = (id, token);
        index
    }

    /// `format`: 0 binary, 1 text, 2 V1.
    fn phoenix(&mut self, shard: usize, format: usize) -> usize {
        let topic = format!("game:{}", self.name);
        let client = match format {
            2 => self.world.request_on(shard, "/socket/websocket?vsn=1.0.0"),
            _ => self.world.socket_on(shard, ""),
        };
        let payload = json!({"layout": 1, "binary": format == 0});
        let join = match format {
            2 => {
                json!({"topic": topic, "event": "phx_join", "ref": "1", "join_ref": "1", "payload": payload})
            }
            _ => json!(["1", "1", topic, "phx_join", payload]),
        };
        self.world.say(client, &join.to_string());
        let index = self.add(client, 0, String::new(), Known::Phoenix(Box::default()));
        let Known::Phoenix(view) = &self.members[index].known else { panic!("it is not native") };
        let reply = view.told.iter().find(|(event, _)| event == "phx_reply").expect("an answer");
        assert_eq!(reply.1["status"], "ok", "{reply:?}");
        assert!(view.players.is_empty() && view.values.is_empty(), "a join shows nobody: {:?}", view.players);
        let id = reply.1["response"]["player_id"].as_u64().expect("a number") as u32;
        self.members[index].id = id;
        index
    }

    fn push(&mut self, index: usize, event: &str, payload: &Value) {
        let topic = format!("game:{}", self.name);
        self.world.say(self.members[index].client, &json!(["1", "9", topic, event, payload]).to_string());
    }

    fn read(&mut self, index: usize) {
        let member = &mut self.members[index];
        while let Some((first, payload)) = take_payload(&mut self.world.client(member.client).inbox) {
            match &mut member.known {
                Known::Native(view) if first == 0x82 => view.apply(&self.shape, &payload),
                Known::Native(_) => assert_eq!(first, 0x89, "{payload:?}"),
                Known::Phoenix(view) => view.hear(&self.shape, first, &payload),
            }
        }
    }

    fn read_all(&mut self) {
        (0..self.members.len()).for_each(|index| self.read(index));
    }

    /// A player goes to the middle of a cell, or a little beside it.
    fn walk(&mut self, index: usize, (column, row): (u32, u32), beside: f32) {
        let [x, y] = middle(column, row);
        let place = [x + beside, y, 1.0];
        let pose = vec![7; self.shape.pose];
        let is_v1 = self.is_v1(index);
        let member = &mut self.members[index];
        member.inputs += 1;
        member.cell = Some((column, row));
        match &member.known {
            Known::Native(_) => {
                let record = step(member.inputs, &place[..self.shape.axes], &pose);
                self.world.send(member.client, &record);
            }
            Known::Phoenix(_) if is_v1 => {
                let topic = format!("game:{}", self.name);
                let payload = json!({"x": place[0], "y": place[1], "z": place[2]});
                let text = json!({"topic": topic, "event": "move", "ref": null, "join_ref": "1", "payload": payload});
                self.world.say(self.members[index].client, &text.to_string());
            }
            Known::Phoenix(_) => {
                self.push(index, "move", &json!({"x": place[0], "y": place[1], "z": place[2]}));
            }
        }
    }

    fn is_v1(&self, index: usize) -> bool {
        self.members[index].token == "V1"
    }

    /// Lets everything be told that is to be told.
    fn rest(&mut self) {
        for _ in 0..60 {
            self.world.advance_ms(50);
            self.read_all();
        }
    }

    /// Whom a member must see: those whose cell is within its radius.
    fn visible_to(&self, index: usize) -> BTreeSet<u32> {
        let member = &self.members[index];
        let Some((column, row)) = member.cell else { return BTreeSet::new() };
        let is_near = |other: &&Member| {
            other.cell.is_some_and(|(other_column, other_row)| {
                column.abs_diff(other_column).max(row.abs_diff(other_row)) <= member.radius
            })
        };
        self.members.iter().filter(is_near).map(|other| other.id).collect()
    }

    fn check(&self, what: &str) {
        for (index, member) in self.members.iter().enumerate() {
            let (players, by_seat) = match &member.known {
                Known::Native(view) => (&view.players, self.shape.u16),
                // Text names ids.
                Known::Phoenix(view) => (&view.players, self.shape.u16 && self.is_binary(index)),
            };
            let named = |id: u32| if by_seat { u32::from(id as u16) - 1 } else { id };
            let expected: BTreeSet<u32> = self.visible_to(index).into_iter().map(named).collect();
            let seen: BTreeSet<u32> = players.keys().copied().collect();
            assert_eq!(
                seen, expected,
                "{what}: member {index} at {:?}, radius {}",
                member.cell, member.radius
            );
            for other in &self.members {
                let Some((place, _)) = players.get(&named(other.id)) else { continue };
                let [x, y] = other.cell.map(|(column, row)| middle(column, row)).expect("it has moved");
                assert!(
                    (place[0] - x).abs() < 2.0 && (place[1] - y).abs() < 0.1,
                    "{what}: {place:?} for {x}, {y}"
                );
            }
        }
    }

    fn is_binary(&self, index: usize) -> bool {
        self.members[index].token == "binary"
    }

    fn rich(&self, index: usize) -> &RichView {
        match &self.members[index].known {
            Known::Native(view) => view,
            Known::Phoenix(_) => panic!("it is not native"),
        }
    }
}

const GRID: Layout = Layout { number: Number::U16, axes: 3, pose_bytes: 2, keys: 4, key_bytes_max: 16 };

/// From seeds: players of all kinds walk, jump, read slowly, look farther and nearer, come and go; then it is quiet, and everybody sees
/// exactly who is near.
#[test]
fn at_rest_everybody_sees_exactly_who_is_near() {
    for seed in 0..100 {
        let random = &mut Random::new(seed);
        let layout = if seed % 2 == 0 { Layout::PLAIN } else { GRID };
        let budget = random.one_of(&[2, 128]);
        let mut game = Played::new(layout, ViewRules { budget, ..views() });
        for number in 0..10 {
            let index = match number % 5 {
                0..3 => game.native(""),
                3 => game.phoenix(number % 2, 0),
                _ => game.phoenix(number / 5, 1 + number / 5),
            };
            let format = match number {
                3 | 8 => "binary",
                9 => "V1",
                _ => continue,
            };
            game.members[index].token = format.into();
        }
        for round in 0..3 {
            for _ in 0..80 {
                act(&mut game, random);
                game.world.advance_ms(random.below(60) as u64);
                game.read_all();
            }
            for index in 0..game.members.len() {
                let client = game.members[index].client;
                game.world.set_reading(client, true);
                let cell =
                    (random.below(SIDE_CELLS as usize) as u32, random.below(SIDE_CELLS as usize) as u32);
                if random.chance(900) || game.members[index].cell.is_some() {
                    game.walk(index, cell, 0.0);
                }
            }
            game.rest();
            game.check(&format!("seed {seed}, round {round}"));
        }
    }
}

fn act(game: &mut Played, random: &mut Random) {
    let index = random.below(game.members.len());
    let client = game.members[index].client;
    match random.below(100) {
        0..55 => {
            let (column, row) = game.members[index].cell.unwrap_or((5, 5));
            let near = |at: u32, by: usize| (at + by as u32).saturating_sub(1).min(SIDE_CELLS - 1);
            let cell = (near(column, random.below(3)), near(row, random.below(3)));
            game.walk(index, cell, random.one_of(&[-14.0, 0.0, 14.0]));
        }
        55..62 => {
            let cell = (random.below(SIDE_CELLS as usize) as u32, random.below(SIDE_CELLS as usize) as u32);
            game.walk(index, cell, 0.0);
        }
        62..80 => game.world.set_reading(client, random.chance(600)),
        80..88 if !game.is_v1(index) => {
            let radius = random.below(4) as u32;
            game.members[index].radius = radius;
            match &game.members[index].known {
                Known::Native(_) => game.world.send(client, &[11, radius as u8, 0, 0]),
                Known::Phoenix(_) => game.push(index, "set_view", &json!({"radius": radius})),
            }
        }
        88..94 if matches!(game.members[index].known, Known::Native(_)) => {
            // It goes and comes back, to its seat or as somebody else.
            game.world.set_reading(client, true);
            game.read(index);
            let Member { token, .. } = &game.members[index];
            let query = if random.chance(700) { format!("&resume={token}") } else { String::new() };
            game.world.hang_up(client);
            let resumes = !query.is_empty();
            let cell = game.members[index].cell;
            if !resumes {
                // The seat that is held is seen for as long.
                game.world.advance_ms(2_500);
            }
            game.members.remove(index);
            let again = game.native(&query);
            if resumes {
                game.members[again].cell = cell;
            }
        }
        _ => {}
    }
}

#[test]
fn who_comes_into_view_is_told_at_once_and_who_leaves_is_gone() {
    let mut game = Played::new(GRID, views());
    let (ann, bob) = (game.native("&name=Ann"), game.native("&name=Bob"));
    let layout = game.rich(ann).layout.expect("it asked");
    let told = (layout.flags, layout.radius, layout.radius_max, layout.rings, layout.cell);
    assert_eq!(told, (2, 1, 3, 3, CELL));
    game.walk(ann, (2, 2), 0.0);
    game.walk(bob, (4, 2), 0.0);
    game.world.send(game.members[bob].client, &set_state(1, b"red"));
    game.rest();
    game.check("two cells apart");
    assert!(game.rich(ann).values.is_empty(), "of whom it does not see it is told nothing");
    game.walk(bob, (3, 2), 0.0);
    game.world.advance_ms(50);
    game.read_all();
    let bob_id = game.members[bob].id;
    assert_eq!(game.rich(ann).players.len(), 2);
    assert_eq!(game.rich(ann).values, BTreeMap::from([((bob_id, 1), b"red".to_vec())]), "with its values");
    game.walk(bob, (4, 2), 0.0);
    game.world.advance_ms(50);
    game.read_all();
    assert_eq!((game.rich(ann).players.len(), game.rich(ann).values.len()), (1, 0));
}

#[test]
fn a_member_sees_as_far_as_it_asks_up_to_what_the_game_allows() {
    let mut game = Played::new(Layout::PLAIN, views());
    let (ann, bob) = (game.native(""), game.native(""));
    game.walk(ann, (2, 2), 0.0);
    game.walk(bob, (5, 2), 0.0);
    let ann_client = game.members[ann].client;
    for (asked, radius) in [(3, 3), (2, 2), (200, 3), (255, 1)] {
        game.world.send(ann_client, &[11, asked, 0, 0]);
        game.members[ann].radius = radius;
        game.rest();
        game.check(&format!("asked for {asked}"));
    }
    for _ in 0..255 {
        game.world.send(ann_client, &[11, 3, 0, 0]);
        game.world.send(ann_client, &[11, 0, 0, 0]);
    }
    game.read(ann);
    assert!(game.rich(ann).kinds.contains(&0x87), "it is over its rate");
    let mut plain = World::new(Settings::default());
    let client = plain.join("/play/arena");
    plain.send(client, &[11, 2, 0, 0]);
    let (_, error) = take_payload(&mut plain.client(client).inbox).expect("an answer");
    assert!(String::from_utf8_lossy(&error).contains("has no views"), "{error:?}");
}

#[test]
fn what_is_near_is_heard_by_those_who_see_it_and_has_no_number() {
    let mut game = Played::new(Layout::PLAIN, views());
    let [ann, bob, far] = [0; 3].map(|_| game.native(""));
    let (near, text) = (game.phoenix(1, 0), game.phoenix(0, 1));
    for (index, cell) in [(ann, (2, 2)), (bob, (3, 3)), (far, (7, 7)), (near, (1, 2)), (text, (8, 2))] {
        game.walk(index, cell, 0.0);
    }
    game.rest();
    game.world.send(game.members[ann].client, &event(3, 42, 0, b"psst"));
    game.world.send(game.members[ann].client, &event(0, 43, 0, b"loud"));
    game.read_all();
    let ann_id = game.members[ann].id;
    assert_eq!(game.rich(bob).near, [(42, ann_id, b"psst".to_vec())]);
    assert!(game.rich(far).near.is_empty() && game.rich(ann).near.is_empty());
    let heard = |index: usize, game: &Played| match &game.members[index].known {
        Known::Phoenix(view) => {
            view.told.iter().filter(|(event, _)| event == "near_event").cloned().collect()
        }
        Known::Native(_) => Vec::new(),
    };
    let expected = json!({"code": 42, "sender": ann_id, "payload_b64": "cHNzdA=="});
    assert_eq!(heard(near, &game), [("near_event".to_owned(), expected)]);
    assert!(heard(text, &game).is_empty());
    // The next event has the first number of the stream.
    let Known::Phoenix(view) = &game.members[text].known else { panic!("it is not native") };
    let loud = view.told.iter().find(|(event, _)| event == "game_event").expect("all hear it");
    assert_eq!(loud.1["seq"], 1);
    game.push(near, "game_event", &json!({"code": 1, "to": "near", "payload": "hi"}));
    game.read_all();
    let near_id = game.members[near].id;
    assert_eq!(game.rich(ann).near, [(1, near_id, b"\"hi\"".to_vec())]);
}

#[test]
fn objects_are_seen_near_their_place_and_some_everywhere() {
    let mut game = Played::new(GRID, views());
    let (ann, bob) = (game.native(""), game.native(""));
    game.walk(ann, (1, 1), 0.0);
    game.walk(bob, (8, 8), 0.0);
    let client = game.members[ann].client;
    let [x, y] = middle(1, 2);
    game.world.send(client, &put_object_at(5, 1, &[x, y, 0.0]));
    game.world.send(client, &put_object_at(6, 9, &[x, y, 0.0]));
    game.rest();
    assert_eq!(game.rich(ann).objects.keys().copied().collect::<Vec<_>>(), [5, 6]);
    assert_eq!(game.rich(bob).objects.keys().copied().collect::<Vec<_>>(), [6], "type 9 is everywhere");
    let newcomer = game.native("");
    assert_eq!(game.rich(newcomer).objects.keys().copied().collect::<Vec<_>>(), [6]);
    let [x, y] = middle(8, 7);
    game.world.send(client, &put_object_at(5, 1, &[x, y, 0.0]));
    game.rest();
    assert!(!game.rich(ann).objects.contains_key(&5) && game.rich(bob).objects.contains_key(&5));
    game.world.hang_up(client);
    game.members.remove(ann);
    game.rest();
    let bob = 0;
    assert!(game.rich(bob).objects.is_empty(), "{:?}", game.rich(bob).objects);
}

#[test]
fn the_overview_shows_everybody_roughly_to_whoever_asks_for_the_layout() {
    let mut game = Played::new(Layout::PLAIN, ViewRules { overview_hz: 1.0, ..views() });
    let (ann, bob) = (game.native(""), game.native(""));
    let phoenix = game.phoenix(1, 1);
    game.walk(ann, (0, 0), -16.0);
    game.walk(bob, (9, 5), 16.0);
    game.walk(phoenix, (5, 9), 0.0);
    game.rest();
    let rounds = &game.rich(ann).overview;
    assert!(rounds.iter().filter(|(begins, _)| *begins).count() >= 2, "{rounds:?}");
    let last: BTreeMap<u16, (u8, u8)> =
        rounds.iter().flat_map(|(_, places)| places).map(|(seat, x, y)| (*seat, (*x, *y))).collect();
    assert_eq!((last[&0].0, last[&1].0, last.len()), (0, 255, 3), "{last:?}");
    let Known::Phoenix(view) = &game.members[phoenix].known else { panic!("it is not native") };
    let told = view.told.iter().filter(|(event, _)| event == "overview");
    let places: BTreeSet<u64> = told
        .flat_map(|(_, payload)| payload["places"].as_array().expect("places").clone())
        .map(|place| place[0].as_u64().expect("a seat"))
        .collect();
    assert_eq!(places, [0, 1, 2].into());
    let quiet = game.world.request(&format!("/play/{}", game.name));
    game.world.client(quiet).upgraded();
    game.world.advance_ms(1_500);
    while let Some((_, payload)) = take_payload(&mut game.world.client(quiet).inbox) {
        assert_ne!(payload[0], 0x8D, "it did not say that it understands it");
    }
}

#[test]
fn names_are_asked_for() {
    let mut game = Played::new(Layout::PLAIN, views());
    let (ann, phoenix) = (game.native("&name=Ann"), game.phoenix(1, 1));
    let ids: Vec<u32> = vec![game.members[ann].id, 77_777];
    game.push(phoenix, "who", &json!({"ids": ids}));
    game.read(phoenix);
    let Known::Phoenix(view) = &game.members[phoenix].known else { panic!("it is not native") };
    let (_, answer) = view.told.last().expect("an answer");
    let players = &answer["response"]["players"];
    assert_eq!((&players[0]["name"], players.as_array().map(Vec::len)), (&json!("Ann"), Some(1)), "{answer}");
    game.push(phoenix, "who", &json!({"ids": vec![1; 257]}));
    game.read(phoenix);
    let Known::Phoenix(view) = &game.members[phoenix].known else { panic!("it is not native") };
    assert_eq!(view.told.last().expect("an answer").1["status"], "error");
}

#[test]
fn a_client_that_knows_no_layout_is_told_what_is_near_it() {
    let mut game = Played::new(Layout::PLAIN, views());
    let far = game.native("");
    game.walk(far, (9, 9), 0.0);
    let client = game.world.join(&format!("/play/{}", game.name));
    game.world.send(client, &move_to(1, 0.0, 0.0));
    game.rest();
    let mut view = RichView::default();
    while let Some((first, payload)) = take_payload(&mut game.world.client(client).inbox) {
        if first == 0x82 {
            view.apply(&game.shape, &payload);
        }
    }
    assert_eq!((view.players.len(), view.kinds.iter().any(|kind| *kind > 0x8A)), (1, false));
}

#[test]
fn joining_a_game_of_ten_thousand_costs_no_more_than_what_is_near() {
    let bounds = Bounds { min: [0.0; 3], max: [1_152.0, 1_152.0, 0.0] };
    let view = ViewRules::new(CELL);
    let rules = GameRules { players_max: 10_000, bounds, view: Some(view), ..GameRules::default() };
    let mut world = World::new(Settings { games: vec![rules], ..Settings::default() });
    let join = |world: &mut World, number: u32| {
        let client = world.request(&format!("/play/big?layout=1&name=player-{number}"));
        // Eight in each cell.
        let place = [number / 8 % 36, number / 8 / 36].map(|cell| (cell as f32 + 0.5) * CELL);
        world.send(client, &move_to(1, place[0], place[1]));
        client
    };
    for number in 0..9_999 {
        let client = join(&mut world, number);
        if number % 100 == 99 {
            world.advance_ms(50);
        }
        world.client(client).inbox.clear();
    }
    world.advance_ms(3_000);
    let newcomer = join(&mut world, 5_000);
    world.advance_ms(50);
    let client = world.client(newcomer);
    let bytes = client.inbox.len();
    let (status, head) = client.response();
    assert_eq!(status, 101, "{head}");
    let shape = Shape { u16: false, axes: 2, pose: 0, min: bounds.min, max: bounds.max };
    let mut view = RichView::default();
    while let Some((_, payload)) = take_payload(&mut client.inbox) {
        view.apply(&shape, &payload);
    }
    assert_eq!(view.players.len(), 8 * 25 + 1, "everybody near, and itself");
    assert!(bytes <= 16 * 1024, "{bytes} bytes");
}
