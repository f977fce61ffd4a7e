//! A crowd in one native game: what joins cost, when names stop and come back, and how a client asks for them.

use crate::world::World;
use crate::world::client::{ClientId, Record, close, move_to, who};
use corelay::limits::SEATS_FREED_PER_TICK_MIN;
use corelay::reasons::RateClass;
use corelay::room::game::GameRules;
use corelay::shard::settings::{ClientRules, Settings};

/// Lists stop above eight players and return with six.
fn world_of_eight() -> World {
    let clients = ClientRules { presence_list_max: 8, ..ClientRules::default() };
    World::new(Settings { clients, ..Settings::default() })
}

fn leave(world: &mut World, client: ClientId) {
    world.send_raw(client, &close(1000, ""));
}

#[test]
fn four_thousand_joins_cost_bytes_in_proportion_to_their_number() {
    let rules = GameRules { players_max: 4_000, ..GameRules::default() };
    let mut world = World::new(Settings { games: vec![rules], ..Settings::default() });
    let encoded = |world: &World| world.count(|metrics| metrics.frames_encoded.value());
    let mut bytes = 0;
    let mut most_to_one = 0;
    let mut clients = Vec::new();
    for round in 0..40 {
        for number in 0..100 {
            let client = world.request(&format!("/play/arena?name=player-{round}-{number}"));
            clients.push(client);
        }
        // A twentieth of them moves at once: their positions reach everybody, as always.
        world.send(clients[round * 100], &move_to(1, 1.0, 1.0));
        world.advance_ms(25);
        for client in &clients {
            let got = std::mem::take(&mut world.client(*client).inbox);
            bytes += got.len();
            most_to_one = most_to_one.max(got.len());
        }
    }
    let ticks = encoded(&world);
    assert!(bytes <= 40_000_000, "{bytes} bytes to the joiners");
    assert!(most_to_one <= 16 * 1024, "{most_to_one} bytes at once to one of them");
    assert!(ticks <= 2 * 21, "{ticks} frames encoded by the ticks of a second");
    world.advance_ms(2_000);
    let records = world.client(clients[0]).records();
    let counts: Vec<_> = records.iter().filter(|record| matches!(record, Record::Crowd { .. })).collect();
    assert_eq!(
        counts,
        [&Record::Crowd { flags: 8, joined: vec![], players: 4_000 }],
        "once, when it changed"
    );
}

#[test]
fn a_newcomer_in_a_crowd_is_told_itself_and_how_many_there_are() {
    let mut world = world_of_eight();
    let clients: Vec<_> = (0..9).map(|_| world.join("/play/arena")).collect();
    world.advance_ms(60);
    for client in &clients[..8] {
        let records = world.client(*client).records();
        assert_eq!(records, [Record::Crowd { flags: 8, joined: vec![], players: 9 }], "the names stop");
    }
    let newcomer = world.request("/play/arena?name=Ten");
    world.client(newcomer).response();
    let records = world.client(newcomer).records();
    let own = (10, "guest-10".to_owned(), "Ten".to_owned());
    let [Record::Welcome(_), Record::Crowd { flags: 9, joined, players: 10 }, Record::Keyframe { .. }] =
        &records[..]
    else {
        panic!("{records:?}")
    };
    assert_eq!(joined[..], [own]);
}

#[test]
fn a_crowd_is_counted_at_most_once_a_second_and_to_the_end() {
    let mut world = world_of_eight();
    let ann = world.join("/play/arena");
    for _ in 0..8 {
        world.join("/play/arena");
    }
    world.advance_ms(60);
    world.client(ann).records();
    for _ in 0..25 {
        world.join("/play/arena");
        world.advance_ms(100);
    }
    let told = world.client(ann).records();
    assert!((2..=3).contains(&told.len()), "{told:?}");
    // Nothing else happens in the game: the last number comes by itself.
    world.advance_ms(1_100);
    let told = world.client(ann).records();
    assert_eq!(told, [Record::Crowd { flags: 8, joined: vec![], players: 34 }]);
    world.advance_ms(1_100);
    assert_eq!(world.client(ann).frames(), [], "nobody comes, nothing is said");
}

#[test]
fn the_list_returns_below_three_quarters_and_not_before() {
    let mut world = world_of_eight();
    let clients: Vec<_> = (0..9).map(|_| world.join("/play/arena")).collect();
    let ann = clients[0];
    world.advance_ms(60);
    world.client(ann).records();
    leave(&mut world, clients[8]);
    leave(&mut world, clients[7]);
    world.advance_ms(1_100);
    let crowd = Record::Crowd { flags: 8, joined: vec![], players: 7 };
    assert_eq!(world.client(ann).records(), [crowd], "seven are below the bound, and no list yet");
    leave(&mut world, clients[6]);
    world.advance_ms(60);
    let records = world.client(ann).records();
    let [Record::Roster { flags: 1, joined, left }] = &records[..] else { panic!("{records:?}") };
    assert_eq!(joined.iter().map(|(player, ..)| *player).collect::<Vec<_>>(), [1, 2, 3, 4, 5, 6]);
    assert!(left.is_empty());
    // From here on changes are told again, and the next newcomer gets everybody.
    let bob = world.request("/play/arena");
    world.client(bob).response();
    let records = world.client(bob).records();
    let [_, Record::Roster { flags: 1, joined, .. }, _] = &records[..] else { panic!("{records:?}") };
    assert_eq!(joined.len(), 7);
    world.advance_ms(60);
    let records = world.client(ann).records();
    let [Record::Roster { flags: 0, joined, .. }] = &records[..] else { panic!("{records:?}") };
    assert_eq!(joined.len(), 1);
}

#[test]
fn who_comes_while_the_list_returns_is_in_it_once() {
    let mut world = world_of_eight();
    let clients: Vec<_> = (0..9).map(|_| world.join("/play/arena")).collect();
    world.advance_ms(60);
    clients[6..].iter().for_each(|client| leave(&mut world, *client));
    let bob = world.join("/play/arena");
    world.advance_ms(60);
    let records = world.client(bob).records();
    let [Record::Roster { flags: 1, joined, .. }] = &records[..] else { panic!("{records:?}") };
    assert_eq!(joined.len(), 7);
}

#[test]
fn names_are_told_on_request_and_nobody_is_left_out() {
    let mut world = world_of_eight();
    let clients: Vec<_> = (1..=9).map(|number| world.join(&format!("/play/arena?name=P{number}"))).collect();
    leave(&mut world, clients[4]);
    world.advance_ms(60);
    let ann = clients[0];
    world.client(ann).records();
    world.send(ann, &who(&[3, 5, 0, 77, 0x5_0003, 9]));
    let name = |id: u32| (id, format!("guest-{id}"), format!("P{id}"));
    let answer = Record::Roster { flags: 4, joined: vec![name(3), name(9)], left: vec![] };
    assert_eq!(world.client(ann).records(), [answer]);
    world.send(ann, &who(&[]));
    assert_eq!(world.client(ann).records(), [Record::Roster { flags: 4, joined: vec![], left: vec![] }]);
}

#[test]
fn who_costs_an_event_for_sixteen_names() {
    let mut world = World::new(Settings::default());
    let ann = world.join("/play/arena");
    world.advance_ms(60);
    // 40 tokens: 16 + 16, then 8 are left, of which 128 names take all.
    for (names, left_over) in [(256, true), (256, true), (129, false), (128, true), (1, false)] {
        world.send(ann, &who(&vec![1; names]));
        let records = world.client(ann).records();
        let answered = records.iter().any(|record| matches!(record, Record::Roster { flags: 4, .. }));
        assert_eq!(answered, left_over, "{names}: {records:?}");
    }
    assert_eq!(world.count(|metrics| metrics.rate_limited[RateClass::Event.index()].value()), 2);
    world.send(ann, &who(&vec![1; 257]));
    assert!(matches!(world.client(ann).records()[..], [Record::Error { code: 1, .. }]));
}

#[test]
fn newcomers_of_a_crowd_end_with_the_state_that_everybody_has() {
    let clients = ClientRules { presence_list_max: 2, ..ClientRules::default() };
    let mut world = World::new(Settings { clients, ..Settings::default() });
    let ann = world.join("/play/arena");
    let mut clients = vec![ann];
    for number in 0..40_u16 {
        let client = world.request("/play/arena");
        world.client(client).response();
        clients.push(client);
        world.send(client, &move_to(1, f32::from(number), 0.0));
        world.send(ann, &move_to(number, 0.0, f32::from(number)));
        if number % 7 == 6 {
            leave(&mut world, clients[usize::from(number) - 2]);
        }
        if number % 5 == 4 {
            world.advance_ms(50);
        }
    }
    world.advance_ms(200);
    let views: Vec<_> = clients
        .iter()
        .map(|client| {
            let mut view = crate::world::client::View::default();
            let client = world.client(*client);
            let records = client.frames().into_iter().filter_map(|frame| match frame {
                crate::world::client::Frame::Record(record) => Some(record),
                _ => None,
            });
            records.for_each(|record| view.apply(&record));
            (client.ended.is_some(), view.positions)
        })
        .collect();
    let newest = &views.last().expect("there are 41").1;
    assert!(newest.len() > 30);
    for (ended, positions) in &views[1..] {
        assert!(*ended || positions == newest, "{positions:?} instead of {newest:?}");
    }
}

#[test]
fn whoever_leaves_and_comes_within_one_tick_makes_no_game_grow_without_bound() {
    let rules = GameRules { players_max: 2, ..GameRules::default() };
    let mut world = World::new(Settings { games: vec![rules], ..Settings::default() });
    let stays = world.request("/play/arena?name=stays");
    assert_eq!(world.client(stays).response().0, 101);
    let mut refused = 0;
    for number in 0..SEATS_FREED_PER_TICK_MIN + 1 {
        let client = world.request(&format!("/play/arena?name=player-{number}"));
        let (status, head) = world.client(client).response();
        refused += usize::from(status == 503);
        if status == 101 {
            leave(&mut world, client);
        } else {
            assert!(head.contains("seats taken"), "{head}");
        }
    }
    assert_eq!(refused, 1, "the last one");
    world.advance_ms(60);
    let client = world.request("/play/arena?name=later");
    assert_eq!(world.client(client).response().0, 101, "the tick has freed the seats");
}
