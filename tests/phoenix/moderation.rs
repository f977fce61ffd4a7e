//! What becomes of messages and of members of a room: edits, deletions, mutes, bans.

use crate::world::client::ClientId;
use crate::world::moderated::{ask, done, moderator, reason, refusal, reply, say, settings, user};
use crate::world::rooms::{answer, far_member, join, near_member, push, told, words};
use crate::world::{World, near_and_far};
use corelay::limits::{MESSAGES_CACHED_MAX, RESTRICTIONS_MAX, ROOM_READS_MAX};
use corelay::note::Note;
use corelay::room::chat::RoomRules;
use corelay::room::stored::{StoreAnswer, Unavailable};
use corelay::shard::settings::Settings;
use serde_json::{Value, json};

/// Messages of the room, as a newcomer sees them; and, as the store has them, in a page.
fn seen(world: &mut World, name: &str) -> Vec<Value> {
    let reader = world.socket(&user("reader"));
    let state = told(&join(world, reader, name, &json!({})), "room_state")[0]["messages"].clone();
    let page = done(world, reader, name, "history", &json!({"limit": 50}))["messages"].clone();
    assert_eq!(state, page);
    world.hang_up(reader);
    state.as_array().expect("messages").clone()
}

#[test]
fn an_edit_is_an_event_and_the_message_reads_so_from_then_on() {
    near_and_far(settings, |mut world, name| {
        let ann = near_member(&mut world, &user("ann"), name);
        let ben = far_member(&mut world, &user("ben"), name);
        let message = say(&mut world, ann, name, "helo");
        say(&mut world, ben, name, "hi");
        world.client(ben).messages();
        world.advance_ms(5);
        let edit = json!({"id": message["id"], "body": "hello"});
        world.client(ann).messages();
        let heard = push(&mut world, ann, name, "edit_message", &edit);
        assert_eq!(words(&heard), ["message_edited", "ok"], "whoever edits learns the number, too");
        assert_eq!(answer(&heard), (true, json!({})));
        let event = told(&world.client(ben).messages(), "message_edited")[0].clone();
        let edited_at = message["inserted_at"].as_u64().unwrap() + 5;
        let expected = json!({"id": message["id"], "seq": 3, "body": "hello", "edited_at": edited_at});
        assert_eq!(event, expected);

        let mut latest = message.clone();
        latest["body"] = "hello".into();
        latest["edited_at"] = edited_at.into();
        assert_eq!(seen(&mut world, name)[0], latest);

        // Whoever missed it all is told of the message as it is, and of its latest edit.
        done(&mut world, ann, name, "edit_message", &json!({"id": message["id"], "body": "hello!"}));
        let cathy = world.socket(&user("cathy"));
        let position = json!({"resume": {"epoch": message["id"].as_str().and_then(epoch), "seq": 0}});
        let missed = told(&join(&mut world, cathy, name, &position), "catch_up")[0].clone();
        let events = missed["events"].as_array().unwrap();
        let shown: Vec<_> = events.iter().map(|event| (&event["event"], &event["payload"]["body"])).collect();
        let (new, edited) = (json!("new_message"), json!("message_edited"));
        let (hello, hi) = (json!("hello!"), json!("hi"));
        assert_eq!(shown, [(&new, &hello), (&new, &hi), (&edited, &hello)], "the first edit is replaced");
        assert_eq!(missed["seq"], 4);
    });
}

/// The epoch that an id names, as `resume` wants it.
fn epoch(id: &str) -> Option<String> {
    let (epoch, _) = id.split_once('-')?;
    u64::from_str_radix(epoch, 16).ok().map(|epoch| epoch.to_string())
}

#[test]
fn what_was_deleted_is_nowhere_any_more() {
    near_and_far(settings, |mut world, name| {
        let ann = near_member(&mut world, &user("ann"), name);
        let ben = far_member(&mut world, &user("ben"), name);
        let message =
            done(&mut world, ann, name, "new_message", &json!({"body": "secret", "client_id": "1"}));
        done(&mut world, ann, name, "edit_message", &json!({"id": message["id"], "body": "secret, too"}));
        world.client(ben).messages();
        assert!(world.store.has_text("secret"));
        done(&mut world, ann, name, "delete_message", &json!({"id": message["id"]}));
        let heard = world.client(ben).messages();
        assert_eq!(told(&heard, "message_deleted"), [json!({"id": message["id"], "seq": 3})]);

        let tombstone = json!({"id": message["id"], "seq": 1, "deleted": true});
        assert_eq!(seen(&mut world, name), std::slice::from_ref(&tombstone));
        let again = done(&mut world, ann, name, "new_message", &json!({"body": "x", "client_id": "1"}));
        assert_eq!(again, tombstone, "it was said once, whatever has become of it");
        assert!(!world.store.has_text("secret"), "its words are not on disk any more");
        for (event, payload) in [
            ("edit_message", json!({"id": message["id"], "body": "x"})),
            ("delete_message", json!({"id": message["id"]})),
        ] {
            assert_eq!(refusal(&mut world, ann, name, event, &payload), reason("not_found"));
        }
        let cathy = world.socket(&user("cathy"));
        let position = json!({"resume": {"epoch": message["id"].as_str().and_then(epoch), "seq": 0}});
        let missed = told(&join(&mut world, cathy, name, &position), "catch_up")[0].clone();
        let shown: Vec<_> =
            missed["events"].as_array().unwrap().iter().map(|event| &event["event"]).collect();
        assert_eq!(shown, ["new_message", "message_deleted"]);
        assert!(!missed.to_string().contains("secret"));
    });
}

#[test]
fn only_its_author_edits_a_message_and_only_for_a_while() {
    near_and_far(settings, |mut world, name| {
        let ann = near_member(&mut world, &user("ann"), name);
        let ben = far_member(&mut world, &user("ben"), name);
        let boss = far_member(&mut world, &moderator("boss"), name);
        let message = say(&mut world, ann, name, "a");
        let (edit, delete) = (json!({"id": message["id"], "body": "b"}), json!({"id": message["id"]}));
        assert_eq!(refusal(&mut world, ben, name, "edit_message", &edit), reason("forbidden"));
        assert_eq!(refusal(&mut world, boss, name, "edit_message", &edit), reason("forbidden"));
        assert_eq!(refusal(&mut world, ben, name, "delete_message", &delete), reason("forbidden"));
        world.pass_ms(900_000);
        done(&mut world, ann, name, "edit_message", &edit);
        world.pass_ms(1);
        assert_eq!(refusal(&mut world, ann, name, "edit_message", &edit), reason("too_late"));
        done(&mut world, ann, name, "delete_message", &delete);

        let (epoch, _) = message["id"].as_str().unwrap().split_once('-').unwrap();
        for id in [format!("{epoch}-0"), format!("{epoch}-99"), format!("{epoch}-2"), "1-1".into()] {
            let payload = json!({"id": id});
            assert_eq!(
                refusal(&mut world, boss, name, "delete_message", &payload),
                reason("not_found"),
                "{id}"
            );
        }
        let wrong = refusal(&mut world, ann, name, "delete_message", &json!({"id": 7}));
        assert_eq!(wrong, json!({"errors": {"id": ["must be the id of a message"]}}));
        let wrong =
            refusal(&mut world, ann, name, "edit_message", &json!({"id": message["id"], "body": " "}));
        assert_eq!(wrong, json!({"errors": {"body": ["can't be blank"]}}));
    });
}

#[test]
fn an_edit_counts_as_a_message_and_a_deletion_does_not() {
    let two_a_minute = || {
        let rules = RoomRules { messages_per_minute: 2, ..RoomRules::default() };
        Settings { rooms: vec![rules], ..settings() }
    };
    near_and_far(two_a_minute, |mut world, name| {
        let ann = near_member(&mut world, &user("ann"), name);
        let message = say(&mut world, ann, name, "a");
        let edit = json!({"id": message["id"], "body": "b"});
        // One that the store refuses does not count.
        world.store_stands = true;
        ask(&mut world, ann, name, 9, "edit_message", &edit);
        world.let_store_say(StoreAnswer::Refused(Unavailable::Full));
        let heard = world.client(ann).messages();
        assert_eq!(reply(&heard, "9").map(|reply| reply.1["reason"].clone()), Some(json!("storage_full")));
        world.store_stands = false;
        done(&mut world, ann, name, "edit_message", &edit);
        assert_eq!(refusal(&mut world, ann, name, "edit_message", &edit)["reason"], "rate_limited");
        done(&mut world, ann, name, "delete_message", &json!({"id": message["id"]}));
        // Nor is the rate renewed by a room that was empty.
        ask(&mut world, ann, name, 8, "phx_leave", &json!({}));
        join(&mut world, ann, name, &json!({}));
        assert_eq!(
            refusal(&mut world, ann, name, "new_message", &json!({"body": "c"}))["reason"],
            "rate_limited"
        );
    });
}

/// A room whose first message is not in memory any more.
fn long_room(world: &mut World, ann: ClientId, name: &str) -> Value {
    let first = say(world, ann, name, "first");
    for number in 0..MESSAGES_CACHED_MAX {
        say(world, ann, name, &number.to_string());
    }
    first["id"].clone()
}

#[test]
fn an_old_message_is_looked_up_before_it_is_edited() {
    near_and_far(settings, |mut world, name| {
        let ann = near_member(&mut world, &user("ann"), name);
        let ben = far_member(&mut world, &user("ben"), name);
        let id = long_room(&mut world, ann, name);
        assert_eq!(refusal(&mut world, ben, name, "delete_message", &json!({"id": id})), reason("forbidden"));
        done(&mut world, ann, name, "edit_message", &json!({"id": id, "body": "1st"}));
        let oldest = |world: &mut World| {
            done(world, ben, name, "history", &json!({"before": 3, "limit": 2}))["messages"][0].clone()
        };
        assert_eq!(oldest(&mut world)["body"], "1st");

        // Both are looked up at the same time; the second sees what the first has done.
        let boss = far_member(&mut world, &moderator("boss"), name);
        world.client(ann).messages();
        world.store_stands = true;
        ask(&mut world, boss, name, 21, "delete_message", &json!({"id": id}));
        ask(&mut world, ann, name, 11, "edit_message", &json!({"id": id, "body": "again"}));
        ask(&mut world, ann, name, 12, "heartbeat", &json!({}));
        world.let_store_answer();
        world.store_stands = false;
        assert_eq!(reply(&world.client(boss).messages(), "21"), Some((true, json!({}))));
        let heard = world.client(ann).messages();
        assert_eq!(reply(&heard, "11"), Some((false, reason("not_found"))));
        assert_eq!(words(&heard), ["message_deleted", "error", "ok"], "in order");
        assert_eq!(oldest(&mut world), json!({"id": id, "seq": 1, "deleted": true}));
        assert_eq!(refusal(&mut world, ann, name, "delete_message", &json!({"id": id})), reason("not_found"));
    });
}

#[test]
fn what_waits_together_is_decided_on_one_after_the_other() {
    near_and_far(settings, |mut world, name| {
        let ann = near_member(&mut world, &user("ann"), name);
        let boss = far_member(&mut world, &moderator("boss"), name);
        let message = say(&mut world, ann, name, "a");
        world.client(ann).messages();
        world.client(boss).messages();
        // The first is on its way to the disk; the others wait for it, together.
        world.store_stands = true;
        ask(&mut world, boss, name, 20, "new_message", &json!({"body": "b"}));
        ask(&mut world, ann, name, 11, "edit_message", &json!({"id": message["id"], "body": "secret"}));
        ask(&mut world, boss, name, 21, "delete_message", &json!({"id": message["id"]}));
        world.let_store_answer();
        world.store_stands = false;
        let heard = world.client(boss).messages();
        let acts = ["new_message", "message_edited", "message_deleted"];
        let told: Vec<&str> = words(&heard).into_iter().filter(|word| acts.contains(word)).collect();
        assert_eq!(told, acts, "each on what the one before has left");
        assert!(!world.store.has_text("secret"), "the edit is gone with the message");

        // Nor is anything of a user said that waits behind its ban.
        let other = far_member(&mut world, &moderator("other"), name);
        world.store_stands = true;
        ask(&mut world, boss, name, 23, "new_message", &json!({"body": "c"}));
        ask(&mut world, other, name, 31, "ban", &json!({"user_id": "ann"}));
        ask(&mut world, ann, name, 12, "new_message", &json!({"body": "one more"}));
        world.let_store_answer();
        assert_eq!(world.store.end_of(&format!("room:{name}")).map(|(_, seq)| seq), Some(5));
    });
}

#[test]
fn no_more_is_looked_up_at_a_time_than_may_be() {
    near_and_far(settings, |mut world, name| {
        let ann = near_member(&mut world, &user("ann"), name);
        let id = long_room(&mut world, ann, name);
        let clients: Vec<ClientId> = (0..=ROOM_READS_MAX)
            .map(|number| near_member(&mut world, &moderator(&format!("m{number}")), name))
            .collect();
        world.store_stands = true;
        for client in &clients {
            world.client(*client).messages();
            ask(&mut world, *client, name, 9, "delete_message", &json!({"id": id}));
        }
        let (last, others) = clients.split_last().unwrap();
        let busy = json!({"reason": "overload", "retry_after": 1000});
        assert_eq!(reply(&world.client(*last).messages(), "9"), Some((false, busy)));
        world.store_stands = false;
        world.let_store_answer();
        let answers: Vec<bool> =
            others.iter().map(|other| reply(&world.client(*other).messages(), "9").unwrap().0).collect();
        assert_eq!(answers.iter().filter(|done| **done).count(), 1, "the others find nothing: {answers:?}");
    });
}

#[test]
fn a_page_of_nothing_but_edits_goes_on_to_the_messages() {
    near_and_far(settings, |mut world, name| {
        let ann = near_member(&mut world, &user("ann"), name);
        let message = say(&mut world, ann, name, "a");
        for number in 0..30 {
            let edit = json!({"id": message["id"], "body": number.to_string()});
            done(&mut world, ann, name, "edit_message", &edit);
        }
        for number in 0..MESSAGES_CACHED_MAX {
            say(&mut world, ann, name, &number.to_string());
        }
        let page = done(&mut world, ann, name, "history", &json!({"before": 32, "limit": 5}));
        assert_eq!((&page["messages"][0]["body"], &page["more"]), (&json!("29"), &json!(false)));
    });
}

#[test]
fn a_muted_user_hears_and_does_not_speak() {
    near_and_far(settings, |mut world, name| {
        let ann = near_member(&mut world, &user("ann"), name);
        let boss = far_member(&mut world, &moderator("boss"), name);
        let message = say(&mut world, ann, name, "a");
        let mute = json!({"user_id": "ann", "seconds": 60});
        assert_eq!(
            refusal(&mut world, ann, name, "mute", &json!({"user_id": "boss", "seconds": 1})),
            reason("forbidden")
        );
        assert_eq!(done(&mut world, boss, name, "mute", &mute), json!({}));
        world.pass_ms(20_000);
        let muted = json!({"reason": "muted", "retry_after": 40_000});
        assert_eq!(refusal(&mut world, ann, name, "new_message", &json!({"body": "b"})), muted);
        let edit = json!({"id": message["id"], "body": "b"});
        assert_eq!(refusal(&mut world, ann, name, "edit_message", &edit), muted);
        world.client(boss).messages();
        push(&mut world, ann, name, "typing", &json!({"typing": true}));
        assert!(told(&world.client(boss).messages(), "user_typing").is_empty());
        let again = say(&mut world, boss, name, "c");
        assert_eq!(told(&world.client(ann).messages(), "new_message"), [again]);

        // It lasts while nobody is here, and ends by itself.
        for member in [ann, boss] {
            ask(&mut world, member, name, 8, "phx_leave", &json!({}));
        }
        assert_eq!(world.count(|metrics| metrics.rooms.value()), 0);
        join(&mut world, ann, name, &json!({}));
        assert_eq!(refusal(&mut world, ann, name, "new_message", &json!({"body": "b"})), muted);
        world.pass_ms(40_000);
        say(&mut world, ann, name, "b");

        join(&mut world, boss, name, &json!({}));
        done(&mut world, boss, name, "mute", &mute);
        done(&mut world, boss, name, "unmute", &json!({"user_id": "ann"}));
        say(&mut world, ann, name, "c");
    });
}

#[test]
fn a_banned_user_is_out_and_stays_out() {
    near_and_far(settings, |mut world, name| {
        let ann = near_member(&mut world, &user("ann"), name);
        let phone = far_member(&mut world, &user("ann"), name);
        let boss = far_member(&mut world, &moderator("boss"), name);
        for client in [ann, phone, boss] {
            world.client(client).messages();
        }
        world.store_stands = true;
        ask(&mut world, boss, name, 9, "ban", &json!({"user_id": "ann"}));
        ask(&mut world, ann, name, 9, "new_message", &json!({"body": "as long as I can"}));
        world.let_store_answer();
        world.store_stands = false;
        let heard = world.client(boss).messages();
        assert_eq!(reply(&heard, "9"), Some((true, json!({}))));
        let gone = told(&heard, "user_disconnected");
        assert_eq!(gone.iter().map(|gone| &gone["reason"]).collect::<Vec<_>>(), ["kicked", "kicked"]);
        assert!(told(&heard, "new_message").is_empty(), "what waited behind the ban is not said");
        assert_eq!(words(&world.client(ann).messages()).last(), Some(&"phx_close"));
        assert_eq!(words(&world.client(phone).messages()).last(), Some(&"phx_close"));

        let refused = join(&mut world, ann, name, &json!({}));
        assert_eq!(reply(&refused, "1"), Some((false, reason("banned"))), "for ever has no end");
        done(&mut world, boss, name, "ban", &json!({"user_id": "ann", "seconds": 2}));
        let refused = join(&mut world, ann, name, &json!({}));
        let for_two_seconds = json!({"reason": "banned", "retry_after": 2000});
        assert_eq!(reply(&refused, "1"), Some((false, for_two_seconds)));
        done(&mut world, boss, name, "unban", &json!({"user_id": "ann"}));
        assert_eq!(words(&join(&mut world, ann, name, &json!({})))[0], "ok");
    });
}

#[test]
fn every_act_of_a_moderator_is_logged() {
    near_and_far(settings, |mut world, name| {
        let ann = near_member(&mut world, &user("ann"), name);
        let boss = far_member(&mut world, &moderator("boss"), name);
        let (own, other) = (say(&mut world, boss, name, "a"), say(&mut world, ann, name, "b"));
        done(&mut world, boss, name, "delete_message", &json!({"id": own["id"]}));
        done(&mut world, boss, name, "delete_message", &json!({"id": other["id"]}));
        done(&mut world, boss, name, "mute", &json!({"user_id": "ann", "seconds": 1}));
        done(&mut world, boss, name, "unmute", &json!({"user_id": "ann"}));
        done(&mut world, boss, name, "ban", &json!({"user_id": "ann"}));
        let acts = world.notes.iter().filter_map(|note| match note {
            Note::Moderated { moderator, act, .. } => {
                assert_eq!(&**moderator, "boss");
                Some(format!("{act:?}"))
            }
            _ => None,
        });
        let acts: Vec<String> = acts.collect();
        assert_eq!(acts.len(), 4, "one's own message is one's own business: {acts:?}");
        assert!(acts[0].starts_with("Delete") && acts[3].contains("Ban"), "{acts:?}");
    });
}

#[test]
fn what_moderators_send_is_checked() {
    near_and_far(settings, |mut world, name| {
        let boss = near_member(&mut world, &moderator("boss"), name);
        let seconds = json!({"errors": {"seconds": ["must be a whole number from 1 to 31622400"]}});
        let user = json!({"errors": {"user_id": ["must be a string of 1 to 128 bytes"]}});
        for (event, payload, expected) in [
            ("mute", json!({"user_id": "ann"}), &seconds),
            ("mute", json!({"user_id": "ann", "seconds": 0}), &seconds),
            ("ban", json!({"user_id": "ann", "seconds": -1}), &seconds),
            ("ban", json!({"user_id": "ann", "seconds": 1e12}), &seconds),
            ("ban", json!({}), &user),
            ("unban", json!({"user_id": ""}), &user),
            ("unmute", json!({"user_id": "x".repeat(129)}), &user),
        ] {
            assert_eq!(refusal(&mut world, boss, name, event, &payload), *expected, "{event} {payload}");
        }
        for number in 0..RESTRICTIONS_MAX {
            done(
                &mut world,
                boss,
                name,
                "mute",
                &json!({"user_id": number.to_string(), "seconds": 1 + number}),
            );
        }
        let full = refusal(&mut world, boss, name, "ban", &json!({"user_id": "ann"}));
        assert!(full["reason"].as_str().unwrap().starts_with("1000 users are muted or banned"), "{full}");
        done(&mut world, boss, name, "mute", &json!({"user_id": "7", "seconds": 9}));
        world.pass_ms(1000);
        done(&mut world, boss, name, "ban", &json!({"user_id": "ann"}));
    });
}
