//! Documents: what members are told of a text that they edit at once.

#![allow(clippy::wildcard_enum_match_arm, reason = "a test names the one thing it expects")]

mod world;

use corelay::limits::{OPERATIONS_KEPT, ROOM_WAITING_USER_MAX, WRITERS_MAX};
use corelay::room::document::DocumentRules;
use corelay::room::stored::{StoreAnswer, Unavailable};
use corelay::session::rate_limit::{Rate, Rates};
use corelay::shard::settings::Settings;
use serde_json::{Value, json};
use world::client::{ClientId, Message};
use world::documents::{ask, edit, join, member, push, text_of};
use world::rooms::{answer, told, words};
use world::{World, near_and_far};

/// Settings with which nobody is over a rate.
fn settings() -> Settings {
    let much = Rate { per_s: 1_000_000, burst: 1_000_000 };
    let bytes = Rate { per_s: 1 << 30, burst: 1 << 30 };
    let rates = Rates { events: much, operations: much, cursors: much, bytes, ..Rates::default() };
    Settings { rates, ..Settings::default() }
}

fn near(world: &mut World, query: &str, name: &str) -> ClientId {
    member(world, 0, query, name)
}

/// On the shard where the document is.
fn far(world: &mut World, query: &str, name: &str) -> ClientId {
    let last = world.metrics.len() - 1;
    member(world, last, query, name)
}

/// What somebody who joins now is told of the text.
fn text_now(world: &mut World, name: &str) -> (String, u64) {
    let reader = world.socket_on(0, "&name=Reader");
    let joined = join(world, reader, name, &json!({}));
    let text = text_of(&joined).expect("the text");
    world.say(reader, &format!(r#"["1","2","doc:{name}","phx_leave",{{}}]"#));
    world.client(reader).messages();
    text
}

fn operations_of(messages: &[Message]) -> Vec<Value> {
    told(messages, "operation")
}

#[test]
fn a_text_is_edited_and_everybody_is_told() {
    near_and_far(settings, |mut world, name| {
        let ann = world.socket_on(0, "&name=Ann");
        let joined = join(&mut world, ann, name, &json!({}));
        assert_eq!(words(&joined)[..3], ["ok", "presence_state", "doc_state"], "{joined:?}");
        let (_, response) = joined[0].answer(&json!("1")).expect("an answer");
        assert_eq!(
            (&response["version"], &response["seq"], &response["length"], &response["read_only"]),
            (&json!(0), &json!(0), &json!(0), &json!(false))
        );
        let state = &told(&joined, "doc_state")[0];
        assert_eq!(state["epoch"], response["epoch"]);
        assert_eq!((&state["content"], &state["part"], &state["parts"]), (&json!(""), &json!(1), &json!(1)));
        let ben = far(&mut world, "&name=Ben", name);
        world.advance_ms(60);
        world.client(ann).messages();

        let payload = json!({"op": ["héllo 🦀"], "version": 0, "op_id": "a1"});
        let heard = push(&mut world, ann, name, "operation", &payload);
        assert_eq!((answer(&heard), operations_of(&heard)), ((true, json!({"version": 1})), vec![]));
        let user = response["user_id"].clone();
        let news = json!({"op": ["héllo 🦀"], "version": 1, "user_id": user, "op_id": "a1"});
        assert_eq!(operations_of(&world.client(ben).messages()), [news]);

        let insert = json!({"type": "insert", "position": 7, "content": "!"});
        assert_eq!(edit(&mut world, ben, name, &insert, 1), (true, json!({"version": 2})));
        let delete = json!({"type": "delete", "position": 0, "length": 2});
        assert_eq!(edit(&mut world, ben, name, &delete, 2), (true, json!({"version": 3})));
        let heard = operations_of(&world.client(ann).messages());
        let told: Vec<_> = heard.iter().map(|told| (told["op"].clone(), told["version"].clone())).collect();
        assert_eq!(told, [(json!([7, "!"]), json!(2)), (json!([-2]), json!(3))]);
        assert_eq!(text_now(&mut world, name), ("llo 🦀!".into(), 3));
    });
}
