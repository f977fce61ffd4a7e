//! How far everybody has read, and how many messages a join says were missed.

use crate::world::client::ClientId;
use crate::world::moderated::{ask, done, refusal, reply, say, settings, user};
use crate::world::rooms::{far_member, join, near_member};
use crate::world::{World, near_and_far};
use corelay::limits::{READ_MARKERS_MAX, ROOM_WAITING_MARKERS_MAX};
use serde_json::{Value, json};

#[test]
fn a_join_says_how_many_messages_were_missed() {
    near_and_far(settings, |mut world, name| {
        let ann = near_member(&mut world, &user("ann"), name);
        let ben = far_member(&mut world, &user("ben"), name);
        let ids: Vec<Value> =
            (0..4).map(|number| say(&mut world, ben, name, &number.to_string())["id"].clone()).collect();
        say(&mut world, ann, name, "my own");
        let read = done(&mut world, ann, name, "read_marker", &json!({"seq": 1}));
        assert_eq!(read, json!({"read_seq": 1, "unread": 3}));
        done(&mut world, ben, name, "delete_message", &json!({"id": ids[2]}));
        done(&mut world, ben, name, "edit_message", &json!({"id": ids[3], "body": "3!"}));
        let back = done(&mut world, ann, name, "read_marker", &json!({"seq": 0}));
        assert_eq!(back, json!({"read_seq": 1, "unread": 2}), "it goes forward only");
        let beyond = refusal(&mut world, ann, name, "read_marker", &json!({"seq": 8}));
        assert_eq!(beyond, json!({"errors": {"seq": ["is beyond the end, which is 7"]}}));
        let none = refusal(&mut world, ann, name, "read_marker", &json!({"seq": "7"}));
        assert_eq!(none, json!({"errors": {"seq": ["must be the number of a message, or 0"]}}));

        for member in [ann, ben] {
            ask(&mut world, member, name, 8, "phx_leave", &json!({}));
        }
        assert_eq!(world.count(|metrics| metrics.rooms.value()), 0);
        let joined = join(&mut world, ann, name, &json!({}));
        let (_, response) = reply(&joined, "1").unwrap();
        assert_eq!((&response["read_seq"], &response["unread"]), (&json!(1), &json!(2)));
        let newcomer = world.socket(&user("cathy"));
        let (_, response) = reply(&join(&mut world, newcomer, name, &json!({})), "1").unwrap();
        assert_eq!((&response["read_seq"], &response["unread"]), (&json!(0), &json!(4)));
    });
}

#[test]
fn the_markers_of_a_room_are_bounded() {
    near_and_far(settings, |mut world, name| {
        let ann = near_member(&mut world, &user("ann"), name);
        for number in 0..3 {
            say(&mut world, ann, name, &number.to_string());
        }
        let mut read = |user_name: &str, seq: u64| {
            let client = near_member(&mut world, &user(user_name), name);
            done(&mut world, client, name, "read_marker", &json!({"seq": seq}));
            world.hang_up(client);
        };
        read("least", 1);
        for number in 0..READ_MARKERS_MAX {
            read(&format!("u{number}"), 2);
        }
        read("u0", 3);
        let markers = |world: &World| world.store.values_of_room(name).len();
        assert_eq!(markers(&world), READ_MARKERS_MAX);
        let again = world.socket(&user("least"));
        let (_, response) = reply(&join(&mut world, again, name, &json!({})), "1").unwrap();
        assert_eq!(response["read_seq"], 0, "who has read the least is forgotten");
    });
}

#[test]
fn markers_that_wait_together_go_forward_only() {
    near_and_far(settings, |mut world, name| {
        let ann = near_member(&mut world, &user("ann"), name);
        let phone = far_member(&mut world, &user("ann"), name);
        for number in 0..9 {
            say(&mut world, ann, name, &number.to_string());
        }
        world.store_stands = true;
        ask(&mut world, ann, name, 20, "new_message", &json!({"body": "b"}));
        ask(&mut world, phone, name, 21, "read_marker", &json!({"seq": 9}));
        ask(&mut world, ann, name, 22, "read_marker", &json!({"seq": 7}));
        world.let_store_answer();
        world.store_stands = false;
        let (_, response) = reply(&world.client(ann).messages(), "22").unwrap();
        assert_eq!(response["read_seq"], 9);
        for client in [ann, phone] {
            ask(&mut world, client, name, 8, "phx_leave", &json!({}));
        }
        let (_, response) = reply(&join(&mut world, ann, name, &json!({})), "1").unwrap();
        assert_eq!(response["read_seq"], 9, "on disk, too");
    });
}

#[test]
fn a_marker_that_moves_with_the_one_that_displaces_it_is_kept() {
    near_and_far(settings, |mut world, name| {
        let ann = near_member(&mut world, &user("ann"), name);
        for number in 0..3 {
            say(&mut world, ann, name, &number.to_string());
        }
        let least = near_member(&mut world, &user("least"), name);
        done(&mut world, least, name, "read_marker", &json!({"seq": 1}));
        for number in 1..READ_MARKERS_MAX {
            let client = near_member(&mut world, &user(&format!("u{number}")), name);
            done(&mut world, client, name, "read_marker", &json!({"seq": 2}));
            world.hang_up(client);
        }
        let newcomer = near_member(&mut world, &user("newcomer"), name);
        world.store_stands = true;
        ask(&mut world, ann, name, 20, "new_message", &json!({"body": "b"}));
        ask(&mut world, newcomer, name, 21, "read_marker", &json!({"seq": 3}));
        ask(&mut world, least, name, 22, "read_marker", &json!({"seq": 3}));
        world.let_store_answer();
        world.store_stands = false;
        say(&mut world, ann, name, "whatever is forgotten goes with this");
        let keys = world.store.values_of_room(name);
        let has = |user: &str| keys.iter().any(|value| *value.key == format!("read:{user}"));
        assert_eq!((has("least"), has("newcomer"), keys.len()), (true, true, READ_MARKERS_MAX));
    });
}

#[test]
fn markers_do_not_take_the_place_of_messages() {
    near_and_far(settings, |mut world, name| {
        let ann = near_member(&mut world, &user("ann"), name);
        say(&mut world, ann, name, "a");
        let readers: Vec<ClientId> = (0..=ROOM_WAITING_MARKERS_MAX)
            .map(|number| near_member(&mut world, &user(&format!("u{number}")), name))
            .collect();
        world.store_stands = true;
        ask(&mut world, ann, name, 20, "new_message", &json!({"body": "b"}));
        for reader in &readers {
            world.client(*reader).messages();
            ask(&mut world, *reader, name, 9, "read_marker", &json!({"seq": 1}));
        }
        let busy = json!({"reason": "overload", "retry_after": 1000});
        assert_eq!(
            reply(&world.client(readers[ROOM_WAITING_MARKERS_MAX]).messages(), "9"),
            Some((false, busy))
        );
        ask(&mut world, readers[ROOM_WAITING_MARKERS_MAX], name, 10, "new_message", &json!({"body": "c"}));
        world.let_store_answer();
        let heard = world.client(readers[ROOM_WAITING_MARKERS_MAX]).messages();
        assert!(reply(&heard, "10").is_some_and(|(ok, _)| ok), "{heard:?}");
    });
}
