//! The native protocol at the sans-I/O border: what players send, and what every other player gets, by the record.

mod world;

use corelay::shard::settings::Settings;
use world::World;
use world::client::{Frame, Record, move_to};

#[test]
fn two_players_see_each_other_move() {
    let mut world = World::new(Settings::default());
    let ann = world.request("/play/arena?name=Ann");
    let welcome = world.client(ann).upgraded();
    assert_eq!((welcome.player_id, welcome.tick_hz, welcome.flags), (1, 20, 4));
    let bob = world.join("/play/arena?name=Bob");

    world.advance_ms(60);
    assert_eq!(
        world.client(ann).records(),
        [Record::Roster { flags: 0, joined: vec![(2, "guest-2".into(), "Bob".into())], left: vec![] }]
    );
    assert_eq!(world.client(bob).records(), [], "Bob knows the whole roster, himself included");

    world.send(ann, &move_to(1, 3.0, 4.0));
    world.advance_ms(60);
    for client in [ann, bob] {
        let frames = world.client(client).frames();
        let [Frame::Record(Record::Delta { positions, .. })] = &frames[..] else { panic!("{frames:?}") };
        assert_eq!(positions[..], [(1, 3.0, 4.0)]);
    }
    world.advance_ms(200);
    assert_eq!(world.client(bob).frames(), [], "nothing changed, nothing is sent");
}
