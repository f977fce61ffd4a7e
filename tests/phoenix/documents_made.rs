//! Documents that an operator makes while members are in them: whatever they do meanwhile, they see its text.

use std::sync::Arc;

use crate::world::documents::{ask, edit, join, member, text_of};
use crate::world::rooms::{answer, words};
use crate::world::{World, near_and_far};
use corelay::ids::{RequestNumber, Topic};
use corelay::limits::ROOM_LET_IN;
use corelay::room::document_archive;
use corelay::room::stored::StoreAnswer;
use corelay::shard::peer::{Answer, Question};
use corelay::shard::settings::Settings;
use serde_json::json;

/// Names the stream that the operator begins.
const EPOCH: u64 = 77;

fn topic(name: &str) -> Arc<Topic> {
    Arc::new(Topic::parse(&format!("doc:{name}")).expect("a topic"))
}

/// An operator makes the document, and the store answers this.
fn make(world: &mut World, name: &str, text: &str) -> StoreAnswer {
    world.store.answer(&document_archive::begin(topic(name), EPOCH, text, 1))
}

/// The shards are told.
fn tell(world: &mut World, name: &str) {
    world.ask_shards(RequestNumber(3), &Question::LookAgain { topic: topic(name) });
    world.timeout();
    let answers = std::mem::take(&mut world.answers);
    assert_eq!(answers.len(), world.metrics.len());
    assert!(answers.iter().all(|(_, _, answer)| *answer == Answer::Looked), "{answers:?}");
}

#[test]
fn members_of_an_empty_document_see_what_an_operator_makes_of_it() {
    near_and_far(Settings::default, |mut world, name| {
        let ann = member(&mut world, 0, "&name=Ann", name);
        assert!(matches!(make(&mut world, name, "hello"), StoreAnswer::Appended(_)));
        tell(&mut world, name);
        let heard = world.client(ann).messages();
        assert_eq!((words(&heard), text_of(&heard)), (vec!["doc_state"], Some(("hello".into(), 1))));
        assert_eq!(crate::world::rooms::told(&heard, "doc_state")[0]["epoch"], json!(EPOCH.to_string()));
        assert_eq!(edit(&mut world, ann, name, &json!([5, "!"]), 1), (true, json!({"version": 2})));
        // It is there: who looks again finds nothing new, and who makes it is told so.
        assert_eq!(make(&mut world, name, "other"), StoreAnswer::Conflict);
        tell(&mut world, name);
        assert!(world.client(ann).messages().is_empty());
        let ben = world.socket_on(0, "&name=Ben");
        let joined = join(&mut world, ben, name, &json!({}));
        assert_eq!(text_of(&joined), Some(("hello!".into(), 2)));
    });
}

#[test]
fn what_is_on_its_way_meanwhile_is_refused_and_the_text_follows() {
    near_and_far(Settings::default, |mut world, name| {
        let ann = member(&mut world, 0, "&name=Ann", name);
        world.store_stands = true;
        ask(&mut world, ann, name, 9, "operation", &json!({"op": ["mine"], "version": 0}));
        make(&mut world, name, "hello");
        tell(&mut world, name);
        assert!(world.client(ann).messages().is_empty(), "what it has said comes first");
        world.let_store_answer();
        world.store_stands = false;
        world.let_store_answer();
        let heard = world.client(ann).messages();
        let refusal = json!({"reason": "unavailable", "retry_after": 5000});
        assert_eq!(answer(&heard), (false, refusal));
        assert_eq!(text_of(&heard), Some(("hello".into(), 1)));
        // What is sent again is put behind it: at one place the lower version stands left.
        assert_eq!(edit(&mut world, ann, name, &json!(["mine"]), 0), (true, json!({"version": 2})));
        let ben = world.socket_on(0, "&name=Ben");
        let joined = join(&mut world, ben, name, &json!({}));
        assert_eq!(text_of(&joined), Some(("hellomine".into(), 2)));
    });
}

#[test]
fn what_the_store_answered_before_is_not_taken_for_what_there_is() {
    near_and_far(Settings::default, |mut world, name| {
        let ann = world.socket_on(0, "&name=Ann");
        world.store_stands = true;
        let joined = join(&mut world, ann, name, &json!({}));
        assert!(joined.is_empty(), "{joined:?}");
        // The store has answered, and the shard hears first that it is to look again.
        make(&mut world, name, "hello");
        tell(&mut world, name);
        let nothing = StoreAnswer::Loaded { stream: None, records: Vec::new(), values: Vec::new() };
        world.let_store_say(nothing);
        assert!(world.client(ann).messages().is_empty());
        world.let_store_answer();
        assert_eq!(text_of(&world.client(ann).messages()), Some(("hello".into(), 1)));
    });
}

#[test]
fn nobody_is_in_a_document_that_is_made() {
    near_and_far(Settings::default, |mut world, name| {
        make(&mut world, name, "");
        tell(&mut world, name);
        let ann = world.socket_on(0, "&name=Ann");
        let joined = join(&mut world, ann, name, &json!({}));
        assert_eq!(text_of(&joined), Some((String::new(), 1)), "it is empty, and exists");
    });
}

#[test]
fn a_crowd_in_a_document_that_is_made_is_told_some_at_a_time() {
    near_and_far(Settings::default, |mut world, name| {
        let members: Vec<_> =
            (0..ROOM_LET_IN + 8).map(|_| member(&mut world, 0, "&name=Ann", name)).collect();
        let last = *members.last().expect("there are some");
        world.store_stands = true;
        make(&mut world, name, "hello");
        tell(&mut world, name);
        // What is pushed meanwhile is decided when all know the text.
        ask(&mut world, last, name, 9, "operation", &json!({"op": [5, "!"], "version": 1}));
        world.store_stands = false;
        world.let_store_answer();
        assert_eq!(text_of(&world.client(last).messages()), None, "it is none of those who are told first");
        let mut turns = 0;
        while world.timeout() {
            turns += 1;
            assert!(turns < 20, "in the end all is done");
        }
        for client in &members {
            let heard = world.client(*client).messages();
            assert_eq!(text_of(&heard), Some(("hello".into(), 1)));
            let told = words(&heard);
            let place = |word: &str| told.iter().position(|told| *told == word);
            let edited = if *client == last { place("ok") } else { place("operation") };
            assert!(place("doc_state") < edited, "{told:?}");
        }
    });
}
