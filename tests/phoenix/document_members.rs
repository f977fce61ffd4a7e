//! Members of documents that come and go: what they leave behind.

use crate::world::documents::{ask, join, member};
use crate::world::near_and_far;
use crate::world::rooms::told;
use corelay::shard::settings::Settings;
use serde_json::{Value, json};

#[test]
fn what_waits_of_a_member_that_has_gone_is_done_as_far_as_somebody_else_sees_it() {
    near_and_far(Settings::default, |mut world, name| {
        let ann = member(&mut world, 0, "&user=ann", name);
        let ben = member(&mut world, 0, "&user=ben", name);
        world.store_stands = true;
        ask(&mut world, ann, name, 1, "operation", &json!({"op": ["one"], "version": 0, "op_id": "1"}));
        ask(&mut world, ann, name, 2, "presence_update", &json!({"status": "busy"}));
        ask(&mut world, ann, name, 3, "cursor", &json!({"position": 0, "version": 0}));
        ask(&mut world, ann, name, 4, "reconnect", &json!({"last_seen": {"epoch": "1", "seq": 0}}));
        ask(&mut world, ann, name, 5, "operations", &json!({"after": 0}));
        ask(&mut world, ann, name, 6, "operation", &json!({"op": ["two"], "version": 0, "op_id": "2"}));
        world.hang_up(ann);
        world.store_stands = false;
        world.let_store_answer();
        let heard = world.client(ben).messages();
        let ops: Vec<_> = told(&heard, "operation").iter().map(|told| told["op"].clone()).collect();
        assert_eq!(ops, [json!(["one"]), json!([3, "two"])]);
        assert_eq!(told(&heard, "cursor"), Vec::<Value>::new());
    });
}

/// Whoever comes back is there twice, until the relay gives up the connection before.
#[test]
fn a_user_has_one_cursor_where_it_was_last_set() {
    near_and_far(Settings::default, |mut world, name| {
        let before = member(&mut world, 0, "&user=ann", name);
        let ben = member(&mut world, 0, "&user=ben", name);
        ask(&mut world, ben, name, 1, "operation", &json!({"op": ["text"], "version": 0}));
        ask(&mut world, before, name, 2, "cursor", &json!({"position": 1, "version": 1}));
        let now = member(&mut world, 0, "&user=ann", name);
        ask(&mut world, now, name, 3, "cursor", &json!({"position": 2, "version": 1}));
        world.client(ben).messages();
        world.hang_up(before);
        assert_eq!(told(&world.client(ben).messages(), "cursor"), Vec::<Value>::new());
        let newcomer = world.socket("");
        let joined = join(&mut world, newcomer, name, &json!({}));
        let cursor = json!({"user_id": "ann", "position": 2, "version": 1});
        assert_eq!(told(&joined, "cursor"), std::slice::from_ref(&cursor));
        world.hang_up(now);
        let gone = json!({"user_id": "ann", "position": null, "version": 1});
        assert_eq!(told(&world.client(ben).messages(), "cursor"), [gone]);
    });
}
