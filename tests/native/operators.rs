//! What an operator does to players: users are kicked, and keys change under those who play.

use std::sync::Arc;

use crate::world::client::{ClientId, Record};
use crate::world::{STARTED_AT_S, World};
use corelay::ids::RequestNumber;
use corelay::limits::GAMES_LISTED_MAX;
use corelay::note::{Note, Step};
use corelay::reasons::LeaveReason;
use corelay::shard::peer::{Answer, GameList, Order, Question};
use corelay::shard::placement::Placement;
use corelay::shard::settings::Settings;
use corelay::wire::token::{self, Algorithm, Claims, TopicPattern, Verifier};

const OLD_SECRET: &[u8] = b"the old secret of thirty-two bytes";
const NEW_SECRET: &[u8] = b"the new secret of thirty-two bytes";

fn verifier(secret: &[u8]) -> Arc<Verifier> {
    Verifier::new(Algorithm::Hs256, secret).expect("a good secret").into()
}

fn world_with_tokens(shards: u16) -> World {
    World::new(Settings {
        placement: Placement::known(shards),
        verifier: Some(verifier(OLD_SECRET)),
        ..Settings::default()
    })
}

fn token_for(user: &str, secret: &[u8]) -> String {
    let claims = Claims {
        user: user.into(),
        expires_at_s: STARTED_AT_S + 3600,
        name: None,
        topics: [TopicPattern::new("*")].into(),
        host: false,
        moderator: false,
    };
    token::sign(Algorithm::Hs256, secret, &claims).expect("claims can be signed")
}

fn join(world: &mut World, game: &str, user: &str) -> ClientId {
    world.join(&format!("/play/{game}?token={}", token_for(user, OLD_SECRET)))
}

/// The players that left, with the reason, of all rosters that came.
fn left(world: &mut World, client: ClientId) -> Vec<(u32, u8)> {
    let records = world.client(client).records();
    let left = |record| if let Record::Roster { left, .. } = record { left } else { Vec::new() };
    records.into_iter().flat_map(left).collect()
}

#[test]
fn a_kicked_user_is_closed_in_every_game_of_every_shard() {
    let mut world = world_with_tokens(2);
    // Names enough to fall on both shards.
    let games = ["a", "b", "c", "d", "e", "f"];
    let anns: Vec<ClientId> = games.map(|game| join(&mut world, game, "ann")).into();
    let bob = join(&mut world, "a", "bob");
    let shards: Vec<u64> = world.metrics.iter().map(|metrics| metrics.games.value()).collect();
    assert!(shards.iter().all(|games| *games > 0), "{shards:?}");
    world.advance_ms(100);
    left(&mut world, bob);

    assert_eq!(world.kick("ann"), (2, 6));
    for ann in anns {
        assert_eq!(world.client(ann).close_frame(), Some((1001, "kicked".into())));
    }
    world.advance_ms(100);
    assert_eq!(left(&mut world, bob), [(1, LeaveReason::Kicked.index() as u8)]);
    assert_eq!(world.count(|metrics| metrics.seats.value()), 1, "her seats are free");
    assert_eq!(world.kick("ann"), (2, 0));
    join(&mut world, "a", "ann");
}

#[test]
fn a_held_seat_is_freed_by_a_kick() {
    let mut world = world_with_tokens(1);
    let ann = join(&mut world, "a", "ann");
    let bob = join(&mut world, "a", "bob");
    world.hang_up(ann);
    world.advance_ms(100);
    left(&mut world, bob);
    assert_eq!(world.count(|metrics| metrics.seats_held.value()), 1);
    assert_eq!(world.kick("ann"), (1, 0), "no connection of hers was open");
    assert_eq!(world.count(|metrics| metrics.seats_held.value()), 0);
    world.advance_ms(100);
    assert_eq!(left(&mut world, bob), [(1, LeaveReason::Kicked.index() as u8)]);
}

#[test]
fn new_keys_count_for_joins_from_then_on() {
    let mut world = world_with_tokens(2);
    let ann = join(&mut world, "a", "ann");
    world.tell_shards(&Order::Keys(verifier(NEW_SECRET)));
    let with_old = world.request(&format!("/play/a?token={}", token_for("bob", OLD_SECRET)));
    let (status, text) = world.client(with_old).response();
    assert!(status == 403 && text.contains("signature"), "{text}");
    world.join(&format!("/play/a?token={}", token_for("bob", NEW_SECRET)));
    world.advance_ms(100);
    let records = world.client(ann).records();
    assert!(matches!(records[..], [Record::Roster { .. }, ..]), "who plays goes on: {records:?}");
}

/// The notes for the log: of players their game, name and step, of refusals what was wrong.
fn told(world: &mut World) -> Vec<(String, Option<Step>)> {
    let text = |note| match note {
        Note::Player { game, player, user, name, step } => {
            assert!(player.0 > 0 && user.starts_with("guest-"));
            (format!("{game} {name}"), Some(step))
        }
        Note::Refused { text, .. } => (text.into(), None),
        Note::Moderated { .. } => panic!("games have no moderators"),
    };
    std::mem::take(&mut world.notes).into_iter().map(text).collect()
}

#[test]
fn the_log_hears_who_comes_and_goes_if_it_wants_to() {
    let mut world = World::new(Settings { notes: true, ..Settings::default() });
    let ann = world.join("/play/arena?name=Ann");
    let bob = world.socket("&name=Bob");
    world.say(bob, r#"["1","1","game:arena","phx_join",{}]"#);
    assert_eq!(
        told(&mut world),
        [("arena Ann".into(), Some(Step::Joined)), ("arena Bob".into(), Some(Step::Joined))]
    );
    world.say(bob, r#"["1","2","game:arena","phx_leave",{}]"#);
    world.hang_up(ann);
    world.advance_ms(16_000);
    assert_eq!(
        told(&mut world),
        [
            ("arena Bob".into(), Some(Step::Left(LeaveReason::Left))),
            ("arena Ann".into(), Some(Step::Lost)),
            ("arena Ann".into(), Some(Step::Left(LeaveReason::TimedOut))),
        ]
    );
    world.request("/nowhere");
    let refused = told(&mut world);
    assert!(matches!(&refused[..], [(text, None)] if text.starts_with("nothing is here")), "{refused:?}");

    let mut silent = World::new(Settings::default());
    silent.join("/play/arena?name=Ann");
    silent.request("/nowhere");
    assert!(silent.notes.is_empty());
}

#[test]
fn the_log_hears_who_comes_back() {
    let mut world = World::new(Settings { notes: true, ..Settings::default() });
    let first = world.request("/play/arena?name=Ann");
    let token = world.client(first).upgraded().resume_token;
    world.hang_up(first);
    world.join(&format!("/play/arena?resume={token}"));
    let steps: Vec<_> = told(&mut world).into_iter().filter_map(|(_, step)| step).collect();
    assert_eq!(steps, [Step::Joined, Step::Lost, Step::Resumed]);
}

#[test]
fn the_games_with_most_players_are_listed_in_order_and_the_list_says_if_it_is_cut() {
    let mut world = World::new(Settings { placement: Placement::known(1), ..Settings::default() });
    let list = |world: &mut World| {
        world.ask_shards(RequestNumber(3), &Question::Games);
        world.timeout();
        match world.answers.pop() {
            Some((0, RequestNumber(3), Answer::Games(list))) => *list,
            other => panic!("{other:?}"),
        }
    };
    assert_eq!(list(&mut world), GameList { games: Vec::new(), is_cut: false });
    let rows = |list: &GameList| -> Vec<(String, u32)> {
        list.games.iter().map(|game| (game.name.to_string(), game.players)).collect()
    };
    // Names in no order, and rooms among the games.
    let names: Vec<String> =
        (0..GAMES_LISTED_MAX).map(|n| format!("g{:03}", n * 37 % GAMES_LISTED_MAX)).collect();
    for (number, name) in names.iter().enumerate() {
        world.join(&format!("/play/{name}"));
        let socket = world.socket("");
        world.say(socket, &format!(r#"["1","1","room:r{number}","phx_join",{{}}]"#));
    }
    let player = world.join("/play/g050");
    let all = list(&mut world);
    let mut expected: Vec<(String, u32)> = names.iter().map(|name| (name.clone(), 1)).collect();
    expected.sort();
    let crowded = expected.remove(50);
    expected.insert(0, (crowded.0, 2));
    assert_eq!((rows(&all), all.is_cut), (expected.clone(), false));

    world.join("/play/zzz");
    world.join("/play/zzz");
    let cut = list(&mut world);
    expected.insert(1, ("zzz".into(), 2));
    expected.pop();
    assert_eq!((rows(&cut), cut.is_cut), (expected.clone(), true));

    world.hang_up(player);
    assert_eq!(rows(&list(&mut world)), expected, "a held seat is somebody's");
}

#[test]
fn a_list_takes_as_many_turns_as_its_work_needs() {
    let mut world = World::new(Settings { placement: Placement::known(1), ..Settings::default() });
    for number in 0..200 {
        world.join(&format!("/play/g{number}"));
    }
    world.allow_work(10);
    world.ask_shards(RequestNumber(3), &Question::Games);
    let mut turns = 0;
    while world.answers.is_empty() {
        world.allow_work(10);
        assert!(world.timeout(), "it goes on each turn");
        turns += 1;
    }
    assert!((3..=30).contains(&turns), "{turns} turns");
}
