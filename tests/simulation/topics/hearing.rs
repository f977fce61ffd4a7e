//! What a client is told of its topics, and whether that may be so.

use std::time::Duration;

use corelay::time::Instant;
use serde_json::Value;

use super::{Asked, Before, CatchUp, Hearing, Kind, State, Topic, Topics, What};
use crate::faults::Branch;
use crate::ledger::Stream;
use crate::phoenix::Message;
use crate::records::{GameUpdate, View};
use crate::wire::number_of_event;

impl Topics {
    pub fn hear(&mut self, message: &Message, hearing: &mut Hearing<'_>) {
        let (Message::Reply { topic: name, .. } | Message::Told { topic: name, .. }) = message else {
            let Message::Update(update) = message else { return };
            return self.hear_update(update);
        };
        if let Message::Reply { reference, ok, response, .. } = message {
            return self.hear_reply(reference, *ok, response, hearing);
        }
        let Some(index) = self.all.iter().position(|topic| topic.name == name) else {
            panic!("told of a topic that it has never joined: {message:?}");
        };
        let topic = &mut self.all[index];
        let Message::Told { join_ref, event, payload, .. } = message else { return };
        if event == "catch_up" {
            let is_of_it = |asked: &Asked| asked.topic == Some(index) && *join_ref == asked.join_ref;
            self.asked.retain(|_, asked| !(is_of_it(asked) && matches!(asked.what, What::Reconnect)));
        }
        if !join_ref.is_null() && *join_ref != topic.join_ref {
            // An event of a membership before this one, which is told events until the join that takes its place is answered.
            if topic.is_followed_as(join_ref) {
                match &**event {
                    "game_event" => topic.hear_event(payload, hearing),
                    event => topic.hear_of_document(event, payload, hearing),
                }
            }
            return;
        }
        match &**event {
            "phx_close" => {
                if topic.state != State::Leaving {
                    hearing.counts.branch(Branch::ReplacedChannel);
                }
                topic.loses_seat(Instant::default());
                return topic.out(None);
            }
            "phx_error" => {
                assert_eq!(payload["reason"], "overload");
                hearing.counts.branch(Branch::GivenUp);
                topic.loses_seat(hearing.sure_until);
                let again_at = hearing.soon();
                return topic.out(Some(again_at).filter(|_| topic.state != State::Leaving));
            }
            _ => {}
        }
        if topic.is_deaf() {
            return;
        }
        assert!(topic.is_member(), "before the answer to the join, or after the end: {message:?}");
        topic.presence.hear(message, hearing.counts);
        topic.hear_news(event, payload, hearing);
    }

    fn hear_reply(&mut self, reference: &Value, ok: bool, response: &Value, hearing: &mut Hearing<'_>) {
        let Some(name) = reference.as_str() else {
            // A push that wants no answer, to a topic that has ended meanwhile.
            return assert_eq!(response["reason"], "unmatched topic");
        };
        let Some(Asked { topic: index, join_ref, what }) = self.asked.remove(name) else {
            panic!("{name} was answered twice, or never asked: {response}");
        };
        if !ok {
            hear_refusal(&what, response, hearing);
        }
        let Some(topic) = index.map(|index| &mut self.all[index]) else {
            return assert!(ok, "{response}");
        };
        // An answer in a membership before this one changes nothing in the present one.
        let is_present = topic.join_ref == join_ref;
        match what {
            What::Join if !is_present => hearing.counts.branch(Branch::SupersededJoin),
            What::Join if ok => topic.joined(response, hearing),
            What::Join => topic.join_refused(response, hearing),
            What::Message { body } if ok => {
                assert_eq!(response["body"], *body);
                if is_present {
                    let seq = response["seq"].as_u64().expect("a number");
                    // The state of the room may have been lost, which it will be told of.
                    let is_known = !topic.epoch.is_empty();
                    if is_known {
                        hearing.ledger.say(topic.name, &topic.epoch, seq, &body);
                    }
                    assert!(
                        !is_known || topic.seq >= seq,
                        "the answer to message {seq} comes before the message"
                    );
                    hearing.counts.branch(Branch::Said);
                }
            }
            What::Event { number } if ok && is_present => {
                let seq = response["seq"].as_u64().expect("a number");
                hearing.ledger.place(topic.name, &topic.epoch, seq, number);
            }
            What::History if ok && is_present => {
                if !topic.epoch.is_empty() {
                    topic.hear_forms(&response["messages"], hearing);
                }
            }
            What::Deed { is_marker: true } if ok && is_present => {
                let read = response["read_seq"].as_u64().expect("a number");
                assert!(read >= topic.read, "it was read up to {}: {response}", topic.read);
                topic.read = read;
            }
            What::Operation { op_id } => {
                let is_followed = is_present && !topic.is_deaf() || topic.is_followed_as(&join_ref.into());
                topic.hear_of_operation(&op_id, is_followed, (ok, response), hearing);
            }
            What::Operations if is_present => topic.hear_page((ok, response), hearing),
            What::Reconnect => {
                assert!(!ok, "it is answered by catch_up");
                if is_present {
                    topic.catches_up = None;
                }
            }
            What::Message { .. } | What::Deed { .. } | What::Event { .. } | What::History => {}
            What::Operations | What::Leave | What::Unknown | What::Other => {}
        }
    }

    fn hear_update(&mut self, update: &GameUpdate) {
        let Some(topic) = self.all.iter_mut().find(|topic| topic.name == update.topic) else {
            panic!("told of a game that it has never joined: {update:?}");
        };
        if update.join_ref.as_ref().is_some_and(|join_ref| *join_ref != topic.join_ref) {
            return;
        }
        if topic.is_deaf() {
            return;
        }
        assert!(topic.is_member(), "before the answer to the join, or after the end: {topic:?} {update:?}");
        let Some(game) = topic.game_mut() else { panic!("{update:?}") };
        game.view.positions.extend(update.positions.iter().map(|(id, x, y)| (*id, (*x, *y))));
        let objects = update.objects.iter().map(|object| (object.id, (object.kind, object.x, object.y)));
        game.view.objects.extend(objects);
    }
}

impl Topic {
    /// What the topic tells its members.
    fn hear_news(&mut self, event: &str, payload: &Value, hearing: &mut Hearing<'_>) {
        match event {
            "new_message" => self.hear_message(payload, hearing),
            "message_edited" | "message_deleted" => self.hear_change(event, payload, hearing),
            "game_event" => self.hear_event(payload, hearing),
            "catch_up" => self.catch_up(payload, hearing),
            "room_state" => {
                (self.epoch, self.seq) = (text(&payload["epoch"]), number(payload));
                self.messages.clear();
                self.hear_forms(&payload["messages"], hearing);
            }
            "player_states" => self.hear_values(payload),
            "players_removed" | "objects_removed" => self.hear_removed(event, payload),
            "user_typing" | "user_joined" | "user_disconnected" => {
                assert!(self.presence.online.is_none(), "a crowd is told {event} of one: {payload}");
                if event == "user_typing" {
                    hearing.counts.branch(Branch::Typed);
                }
            }
            "doc_state" | "operations" => {
                self.catches_up = None;
                self.hear_of_document(event, payload, hearing);
            }
            "operation" | "cursor" => self.hear_of_document(event, payload, hearing),
            "correction" => hearing.counts.branch(Branch::Corrected),
            "rate_limited" => hearing.counts.branch(Branch::RateLimited),
            _ => {}
        }
    }

    fn join_refused(&mut self, response: &Value, hearing: &mut Hearing<'_>) {
        let reason = response["reason"].as_str().unwrap_or("");
        let is_full = reason.contains("seats taken");
        let is_late = matches!(reason, "overload" | "rate_limited" | "storage_full" | "unavailable");
        assert!(is_full || is_late, "{self:?} {response}");
        if is_full {
            hearing.counts.branch(Branch::GameFull);
        }
        self.loses_seat(hearing.sure_until);
        let again_at = hearing.soon() + Duration::from_millis(response["retry_after"].as_u64().unwrap_or(0));
        self.out(Some(again_at).filter(|_| !is_full && self.state != State::Leaving));
    }

    fn joined(&mut self, response: &Value, hearing: &mut Hearing<'_>) {
        let (epoch, seq) = (text(&response["epoch"]), response["seq"].as_u64().expect("a number"));
        self.before = Before::Nothing;
        let is_left = self.state == State::Leaving;
        if !is_left {
            self.state = State::Joined;
        }
        let user = text(&response["user_id"]);
        if matches!(self.kind, Kind::Room) {
            let read = response["read_seq"].as_u64().expect("a number");
            let is_same = user == self.user && epoch == self.epoch;
            assert!(!is_same || read >= self.read, "it was read up to {}: {response}", self.read);
            self.read = read;
        }
        self.user = user;
        let catches_up = self.catches_up.is_some();
        if let Kind::Game(game) = &mut self.kind {
            let player = response["player_id"].as_u64().expect("a number") as u32;
            let resumed = response["resumed"] == true;
            if resumed {
                assert_eq!((game.player, &game.stream.epoch), (player, &epoch), "a seat keeps its player");
                hearing.counts.branch(Branch::Resumed);
            } else {
                assert!(hearing.now > game.sure_until, "a held seat was lost: {game:?}");
                if !game.token.is_empty() {
                    hearing.counts.branch(Branch::SeatLost);
                }
                hearing.ledger.seat(self.name, &epoch, player);
            }
            if !resumed || !catches_up {
                let stream = Stream::new(epoch.clone(), player, seq);
                hearing.ledger.end(self.name, std::mem::replace(&mut game.stream, stream));
            }
            game.player = player;
            game.token = text(&response["resume_token"]);
            game.view = View::default();
            game.sure_until = if is_left { Instant::default() } else { Instant::NEVER };
        }
        if let Kind::Document(document) = &mut self.kind {
            document.joined(&self.user, seq, catches_up);
            return self.has_text();
        }
        if !catches_up {
            self.knows_nothing(epoch, seq);
        }
    }

    /// The state of the topic follows. Should it not come, a room must be joined as one that was never known.
    fn knows_nothing(&mut self, epoch: String, seq: u64) {
        match self.kind {
            Kind::Room | Kind::Document(_) => self.epoch.clear(),
            Kind::Game(_) => (self.epoch, self.seq) = (epoch, seq),
        }
    }

    fn hear_message(&mut self, payload: &Value, hearing: &mut Hearing<'_>) {
        self.check_not_overtaken(payload);
        let seq = payload["seq"].as_u64().expect("a number");
        assert_eq!(seq, self.seq + 1, "each message of {} once, and in order", self.name);
        self.seq = seq;
        let body = payload["body"].as_str().expect("a string");
        hearing.ledger.say(self.name, &self.epoch, seq, body);
        self.messages.insert(seq, Some(body.to_owned()));
    }

    /// A message is edited or deleted.
    fn hear_change(&mut self, event: &str, payload: &Value, hearing: &mut Hearing<'_>) {
        self.check_not_overtaken(payload);
        let seq = number(payload);
        assert_eq!(seq, self.seq + 1, "each event of {} once, and in order", self.name);
        self.seq = seq;
        self.apply_change(event, payload, hearing);
    }

    fn apply_change(&mut self, event: &str, payload: &Value, hearing: &mut Hearing<'_>) {
        let (id, body) = (text(&payload["id"]), payload["body"].as_str());
        assert_eq!(body.is_some(), event == "message_edited", "{event} {payload}");
        let branch = if body.is_some() { Branch::Edited } else { Branch::Deleted };
        hearing.counts.branch(branch);
        let says = format!("{event} {id} {}", body.unwrap_or_default());
        hearing.ledger.say(self.name, &self.epoch, number(payload), &says);
        let of = id.rsplit('-').next().and_then(|seq| seq.parse().ok()).expect("the number of a message");
        // It may be too old to be known here.
        if let Some(message) = self.messages.get_mut(&of) {
            *message = body.map(str::to_owned);
        }
    }

    /// Messages as they read now.
    fn hear_forms(&mut self, messages: &Value, hearing: &mut Hearing<'_>) {
        for message in messages.as_array().expect("an array") {
            self.hear_form(message, hearing);
        }
    }

    fn hear_form(&mut self, message: &Value, hearing: &mut Hearing<'_>) {
        let (seq, id, body) = (number(message), text(&message["id"]), message["body"].as_str());
        assert_eq!(body.is_none(), message["deleted"] == true, "{message}");
        hearing.ledger.say_form(self.name, &self.epoch, (seq, &id), body);
        self.messages.insert(seq, body.map(str::to_owned));
    }

    fn hear_event(&mut self, payload: &Value, hearing: &mut Hearing<'_>) {
        self.check_not_overtaken(payload);
        let seq = payload["seq"].as_u64().expect("a number");
        let Kind::Game(game) = &mut self.kind else { panic!("{payload}") };
        let told = hearing.ledger.tell(self.name, &mut game.stream, seq, number_of_event(payload));
        hearing.counts.branch(told);
        self.seq = seq;
    }

    /// A join with a position is answered by `catch_up` before anything else of its stream.
    fn check_not_overtaken(&self, payload: &Value) {
        let waits = self.catches_up.is_some_and(|catch_up| catch_up.of_join);
        assert!(!waits || self.state != State::Joined, "it overtakes catch_up: {payload}");
    }

    /// Values that players have set.
    fn hear_values(&mut self, payload: &Value) {
        use base64::Engine;
        let Kind::Game(game) = &mut self.kind else { panic!("{payload}") };
        if payload["whole"] == true {
            game.view.values.clear();
        }
        for state in payload["states"].as_array().expect("an array") {
            let number = |name: &str| state[name].as_u64().expect("a number");
            let key = (number("player_id") as u32, number("key") as u8);
            let text = state["value"].as_str().expect("a text");
            let value = base64::engine::general_purpose::STANDARD.decode(text).expect("base64");
            game.view.values.insert(key, value);
        }
        game.view.values.retain(|_, value| !value.is_empty());
    }

    fn hear_removed(&mut self, event: &str, payload: &Value) {
        let Kind::Game(game) = &mut self.kind else { panic!("{payload}") };
        for id in payload["ids"].as_array().expect("an array") {
            let id = id.as_u64().expect("a number") as u32;
            match event {
                "players_removed" => game.view.positions.remove(&id).is_some(),
                _ => game.view.objects.remove(&id).is_some(),
            };
        }
    }

    fn catch_up(&mut self, payload: &Value, hearing: &mut Hearing<'_>) {
        let (epoch, seq) = (text(&payload["epoch"]), payload["seq"].as_u64().expect("a number"));
        let Some(CatchUp { from, .. }) = self.catches_up.take() else { panic!("nobody asked: {payload}") };
        let events = payload["events"].as_array().expect("an array");
        if payload["recovered"] == false {
            assert!(events.is_empty(), "never a part: {payload}");
            hearing.counts.branch(match payload["reason"].as_str() {
                Some("too_old") => Branch::TooOld,
                Some("epoch") => Branch::OtherEpoch,
                Some("ahead") => Branch::Ahead,
                other => panic!("{other:?}"),
            });
            if let Kind::Game(game) = &mut self.kind {
                let stream = Stream::new(epoch.clone(), game.player, seq);
                hearing.ledger.end(self.name, std::mem::replace(&mut game.stream, stream));
            }
            return self.knows_nothing(epoch, seq);
        }
        assert_eq!(epoch, self.epoch);
        if !events.is_empty() {
            hearing.counts.branch(Branch::CaughtUp);
        }
        match &mut self.kind {
            Kind::Document(_) => panic!("a document has operations: {payload}"),
            Kind::Room => {
                let numbers: Vec<u64> = events.iter().map(|event| number(&event["payload"])).collect();
                assert!(numbers.is_sorted_by(|one, next| one < next), "in order: {payload}");
                let is_missed = |number: &u64| (from + 1..=seq).contains(number);
                assert!(numbers.iter().all(is_missed), "only what was missed: {payload}");
                for left_out in (from + 1..=seq).filter(|number| !numbers.contains(number)) {
                    hearing.counts.branch(Branch::LeftOut);
                    hearing.ledger.leave_out(self.name, &self.epoch, left_out);
                }
                for event in events {
                    match text(&event["event"]).as_str() {
                        "new_message" => self.hear_form(&event["payload"], hearing),
                        change => self.apply_change(change, &event["payload"], hearing),
                    }
                }
                assert!(seq >= self.seq, "{seq} after {}", self.seq);
            }
            Kind::Game(game) => {
                let numbers: Vec<u64> = events.iter().filter_map(|event| event["seq"].as_u64()).collect();
                hearing.ledger.check_caught_up(self.name, &game.stream, (from, seq), &numbers);
                // A seat of its own has missed nothing that was for it.
                let is_continued = game.stream.last <= seq && game.stream.player == game.player;
                for event in events {
                    let number = event["payload"]["seq"].as_u64().expect("a number");
                    assert!(number > from && number <= seq, "{payload}");
                    if is_continued && number > game.stream.last {
                        let event = number_of_event(&event["payload"]);
                        let told = hearing.ledger.tell(self.name, &mut game.stream, number, event);
                        hearing.counts.branch(told);
                    }
                }
                game.stream.is_told_up_to(seq);
            }
        }
        self.seq = seq;
    }
}

fn number(payload: &Value) -> u64 {
    payload["seq"].as_u64().expect("a number")
}

fn text(value: &Value) -> String {
    value.as_str().expect("a string").to_owned()
}

fn hear_refusal(what: &What, response: &Value, hearing: &mut Hearing<'_>) {
    let reason = response["reason"].as_str().unwrap_or("");
    assert!(what.may_be_refused(reason), "{what:?} is refused: {response}");
    let is_join = matches!(what, What::Join);
    match reason {
        "rate_limited" => hearing.counts.branch(Branch::RateLimited),
        "storage_full" | "unavailable" => hearing.counts.branch(Branch::Unavailable),
        "overload" if is_join => hearing.counts.branch(Branch::JoinOverload),
        "overload" => hearing.counts.branch(Branch::PushOverload),
        _ => {}
    }
}
