//! Whatever happens, every client's list ends as the true one. A client is modelled as phoenix.js 1.8 keeps its list
//! (`syncState` and `syncDiff` of its presence.js), the order of the metas included; and as one that compares no `phx_ref`
//! with what it has when somebody joins, which must never be told of a member twice.

use std::collections::BTreeMap;
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use proptest::collection::vec;
use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;
use crate::limits::{META_BYTES_MAX, PRESENCE_LIST_MAX, PRESENCE_TEXT_BYTES_MAX};

const EPOCH: u64 = 7;

/// What a client knows: metas by user.
#[derive(Clone, Debug, Default, PartialEq)]
struct Client {
    list: BTreeMap<String, Vec<Value>>,
    naive: NaiveClient,
}

/// A client that shows what a state holds, adds every join, and removes every leave.
#[derive(Clone, Debug, Default, PartialEq)]
struct NaiveClient {
    shown: Vec<(String, Value)>,
}

impl NaiveClient {
    fn state(&mut self, metas: &BTreeMap<String, Vec<Value>>) {
        self.shown.clear();
        self.join(metas);
    }

    fn join(&mut self, metas: &BTreeMap<String, Vec<Value>>) {
        for (user, meta) in metas.iter().flat_map(|(user, metas)| metas.iter().map(move |meta| (user, meta)))
        {
            let twice = self.shown.iter().any(|(_, shown)| shown["phx_ref"] == meta["phx_ref"]);
            assert!(!twice, "{user} is shown twice: {meta}");
            self.shown.push((user.clone(), meta.clone()));
        }
    }

    fn leave(&mut self, metas: &BTreeMap<String, Vec<Value>>) {
        for (user, meta) in metas.iter().flat_map(|(user, metas)| metas.iter().map(move |meta| (user, meta)))
        {
            let shown = self.shown.len();
            self.shown.retain(|(_, shown)| shown["phx_ref"] != meta["phx_ref"]);
            assert!(self.shown.len() < shown, "{user} leaves without having been here: {meta}");
        }
    }
}

impl Client {
    fn state(&mut self, payload: &str) {
        let new = metas(&serde_json::from_str(payload).unwrap());
        self.naive.state(&new);
        let none = Vec::new();
        let without = |list: &BTreeMap<String, Vec<Value>>, known: &BTreeMap<String, Vec<Value>>| {
            let lists = list.iter().map(|(user, metas)| {
                let known = known.get(user).unwrap_or(&none);
                let metas = metas.iter().filter(|meta| !has(known, meta)).cloned().collect();
                (user.clone(), metas)
            });
            lists.filter(|(_, metas): &(_, Vec<Value>)| !metas.is_empty()).collect::<BTreeMap<_, _>>()
        };
        let (joins, leaves) = (without(&new, &self.list), without(&self.list, &new));
        self.sync(joins, &leaves);
    }

    fn diff(&mut self, payload: &str) {
        let diff: Value = serde_json::from_str(payload).unwrap();
        assert_eq!(diff.as_object().unwrap().len(), 2);
        let (joins, leaves) = (metas(&diff["joins"]), metas(&diff["leaves"]));
        self.naive.join(&joins);
        self.naive.leave(&leaves);
        self.sync(joins, &leaves);
    }

    fn sync(&mut self, joins: BTreeMap<String, Vec<Value>>, leaves: &BTreeMap<String, Vec<Value>>) {
        for (user, joined) in joins {
            let known = self.list.entry(user).or_default();
            known.retain(|meta| !has(&joined, meta));
            known.extend(joined);
        }
        for (user, left) in leaves {
            let Some(known) = self.list.get_mut(user) else { continue };
            known.retain(|meta| !has(left, meta));
            if known.is_empty() {
                self.list.remove(user);
            }
        }
    }
}

fn has(metas: &[Value], meta: &Value) -> bool {
    metas.iter().any(|other| other["phx_ref"] == meta["phx_ref"])
}

/// The bytes of a reference: what sorts metas here, as the letters of base64 do not.
fn reference(meta: &Value) -> Vec<u8> {
    URL_SAFE_NO_PAD.decode(meta["phx_ref"].as_str().unwrap()).unwrap()
}

fn metas(users: &Value) -> BTreeMap<String, Vec<Value>> {
    let users = users.as_object().unwrap().iter();
    users.map(|(user, entry)| (user.clone(), entry["metas"].as_array().unwrap().clone())).collect()
}

/// A topic with all its clients, and beside it what each member has said.
struct Topic {
    presence: Presence,
    clients: BTreeMap<MemberNumber, Client>,
    said: BTreeMap<MemberNumber, (String, String, Value)>,
    told: Vec<Told>,
    /// A client keeps what it knew before what the returned list adds, so its order is another from then on.
    list_was_off: bool,
    now: Instant,
}

impl Topic {
    fn new(list_max: u32) -> Self {
        Self {
            presence: Presence::new(list_max, EPOCH),
            clients: BTreeMap::new(),
            said: BTreeMap::new(),
            told: Vec::new(),
            list_was_off: false,
            now: Instant::from_micros(1_000_000),
        }
    }

    fn join(&mut self, number: u32, user: &str) {
        self.join_with(number, user, None);
    }

    fn join_with(&mut self, number: u32, user: &str, meta: Option<&Meta>) {
        let member = MemberNumber(number);
        self.presence.track(member, user, "Ann", meta, 5, self.now);
        self.said.insert(member, (user.into(), "online".into(), Value::Null));
        self.clients.insert(member, Client::default());
        self.ask(number);
    }

    /// A member is given its state, be it again.
    fn ask(&mut self, number: u32) {
        let member = MemberNumber(number);
        let Some(client) = self.clients.get_mut(&member) else { return };
        self.list_was_off |= !self.presence.is_listed();
        for (index, text) in self.presence.state(Some(member)).iter().enumerate() {
            assert!(text.len() <= PRESENCE_TEXT_BYTES_MAX);
            if index == 0 { client.state(text) } else { client.diff(text) }
        }
    }

    fn leave(&mut self, number: u32) {
        self.presence.untrack(MemberNumber(number), self.now);
        self.clients.remove(&MemberNumber(number));
        self.said.remove(&MemberNumber(number));
    }

    fn status(&mut self, number: u32, status: &str) {
        // A topic asks for members only.
        let Some(said) = self.said.get_mut(&MemberNumber(number)) else { return };
        said.1 = status.into();
        self.presence.set_status(MemberNumber(number), status, self.now);
    }

    fn field(&mut self, number: u32, value: &Value) {
        let meta = Meta::parse(&json!({ "x": value }).to_string()).unwrap();
        let Some(said) = self.said.get_mut(&MemberNumber(number)) else { return };
        said.2 = value.clone();
        self.presence.update(MemberNumber(number), &meta, self.now).unwrap();
    }

    /// Time passes; what is due on the way is told.
    fn advance(&mut self, by: Duration) {
        let end = self.now + by;
        while let Some(due) = self.presence.due().filter(|due| *due <= end) {
            self.now = self.now.max(due);
            let told = self.presence.flush(self.now);
            assert!(!told.is_empty(), "a flush that is due has something to say");
            for client in self.clients.values_mut() {
                for told in &told {
                    match told {
                        Told::State(text) => client.state(text),
                        Told::Diff(text) => client.diff(text),
                        Told::Count(_) => {}
                    }
                }
            }
            self.told.extend(told);
        }
        self.now = end;
    }

    fn told_after(&mut self, ms: u64) -> Vec<Told> {
        self.advance(Duration::from_millis(ms));
        mem::take(&mut self.told)
    }

    fn check_clients(&mut self) {
        let mut truth = Client::default();
        let texts = encode(self.presence.members.values().map(Box::as_ref), EPOCH);
        truth.state(&texts[0]);
        texts[1..].iter().for_each(|text| truth.diff(text));
        for (member, client) in &self.clients {
            let mut client = client.clone();
            if self.list_was_off {
                client.list.values_mut().for_each(|metas| metas.sort_by_key(reference));
            }
            assert_eq!(client.list, truth.list, "{member:?}");
            client.naive.shown.sort_by_key(|(_, meta)| reference(meta));
            truth.naive.shown.sort_by_key(|(_, meta)| reference(meta));
            assert_eq!(client.naive, truth.naive, "{member:?}");
        }
        // What is listed is what was said.
        let mut said: Vec<(String, String, Value)> = self.said.values().cloned().collect();
        let listed = truth.list.iter().flat_map(|(user, metas)| {
            metas
                .iter()
                .map(|meta| (user.clone(), meta["status"].as_str().unwrap().to_owned(), meta["x"].clone()))
        });
        let mut listed: Vec<_> = listed.collect();
        said.sort_by_key(|said| format!("{said:?}"));
        listed.sort_by_key(|listed| format!("{listed:?}"));
        assert_eq!(listed, said);
        assert_eq!(self.presence.online() as usize, truth.list.len());
        assert_eq!(self.presence.members() as usize, self.said.len());
    }
}

/// A member's meta as it is told; its reference is `number`.
fn meta(number: u8, rest: &str) -> String {
    let reference =
        &["", "AAAAAAAAAAcB", "AAAAAAAAAAcC", "AAAAAAAAAAcD", "AAAAAAAAAAcE"][usize::from(number)];
    format!(r#"{{"phx_ref":"{reference}",{rest}}}"#)
}

fn diff(joins: &str, leaves: &str) -> Vec<Told> {
    vec![Told::Diff(format!(r#"{{"joins":{{{joins}}},"leaves":{{{leaves}}}}}"#))]
}

const ONLINE_ANN: &str = r#""joined_at":5,"status":"online","name":"Ann""#;

#[test]
fn a_joiner_is_told_of_everybody_and_everybody_of_the_joiner() {
    let mut topic = Topic::new(PRESENCE_LIST_MAX);
    topic.join(1, "ann");
    let ann = format!(r#""ann":{{"metas":[{}]}}"#, meta(1, ONLINE_ANN));
    assert_eq!(*topic.presence.state(Some(MemberNumber(1)))[0], *"{}", "nobody has been told of it yet");
    assert_eq!(topic.told_after(49), []);
    assert_eq!(topic.told_after(1), diff(&ann, ""));
    assert_eq!(topic.presence.due(), None);

    topic.join(2, "ann");
    assert_eq!(*topic.presence.state(Some(MemberNumber(2)))[0], format!("{{{ann}}}"));
    assert_eq!((topic.presence.members(), topic.presence.online()), (2, 1));
    topic.leave(1);
    assert_eq!(
        *topic.presence.state(Some(MemberNumber(2)))[0],
        format!("{{{ann}}}"),
        "its end is not told yet"
    );
    let second = format!(r#""ann":{{"metas":[{}]}}"#, meta(2, ONLINE_ANN));
    assert_eq!(topic.told_after(50), diff(&second, &ann));
    topic.join(3, "ann");
    topic.told_after(50);
    let both = format!(r#"{{"ann":{{"metas":[{},{}]}}}}"#, meta(2, ONLINE_ANN), meta(3, ONLINE_ANN));
    assert_eq!(*topic.presence.state(Some(MemberNumber(3)))[0], both);
}

#[test]
fn updates_of_a_window_are_one_leave_and_one_join() {
    let mut topic = Topic::new(PRESENCE_LIST_MAX);
    topic.join(1, "ann");
    topic.advance(Duration::from_millis(50));
    topic.told.clear();
    topic.status(1, "typing");
    topic.field(1, &json!(3));
    topic.status(1, "away");
    let away = r#""phx_ref_prev":"AAAAAAAAAAcB","joined_at":5,"status":"away","name":"Ann","x":3"#;
    assert_eq!(
        topic.told_after(50),
        diff(
            &format!(r#""ann":{{"metas":[{}]}}"#, meta(4, away)),
            &format!(r#""ann":{{"metas":[{}]}}"#, meta(1, ONLINE_ANN)),
        )
    );
    topic.status(1, "away");
    topic.field(1, &json!(3));
    assert_eq!(topic.presence.due(), None, "nothing new was said");

    topic.status(1, "online");
    topic.leave(1);
    let left = format!(r#""ann":{{"metas":[{}]}}"#, meta(4, away));
    assert_eq!(topic.told_after(50), diff("", &left));
}

#[test]
fn who_comes_and_goes_within_a_window_was_never_here() {
    let mut topic = Topic::new(PRESENCE_LIST_MAX);
    topic.join(1, "ann");
    topic.leave(1);
    assert_eq!(topic.presence.due(), None);
    topic.join(2, "bob");
    topic.join(3, "ann");
    topic.leave(2);
    topic.status(3, "away");
    let away = meta(4, r#""joined_at":5,"status":"away","name":"Ann""#);
    assert_eq!(topic.told_after(50), diff(&format!(r#""ann":{{"metas":[{away}]}}"#), ""));
    topic.check_clients();
}

#[test]
fn what_is_settled_is_told_to_nobody_and_in_the_next_state() {
    let mut topic = Topic::new(PRESENCE_LIST_MAX);
    topic.presence.track(MemberNumber(1), "ann", "Ann", None, 5, topic.now);
    topic.presence.settle();
    assert_eq!(topic.presence.due(), None);
    let ann = format!(r#""ann":{{"metas":[{}]}}"#, meta(1, ONLINE_ANN));
    topic.join(2, "bob");
    assert_eq!(*topic.presence.state(Some(MemberNumber(2)))[0], format!("{{{ann}}}"));
    let bob = format!(r#""bob":{{"metas":[{}]}}"#, meta(2, ONLINE_ANN));
    assert_eq!(topic.told_after(50), diff(&bob, ""));
}

#[test]
fn a_meta_of_the_join_is_told_and_an_update_merges_into_it() {
    let mut topic = Topic::new(PRESENCE_LIST_MAX);
    let meta = Meta::parse(r#"{"status":"busy","x":1,"y":2}"#).unwrap();
    topic.join_with(1, "ann", Some(&meta));
    let entry = |topic: &Topic| topic.clients[&MemberNumber(1)].list["ann"][0].clone();
    topic.advance(Duration::from_millis(50));
    assert_eq!((&entry(&topic)["status"], &entry(&topic)["y"]), (&json!("busy"), &json!(2)));
    topic.field(1, &json!(9));
    topic.advance(Duration::from_millis(50));
    let now = entry(&topic);
    assert_eq!((&now["status"], &now["x"], &now["y"]), (&json!("busy"), &json!(9), &json!(2)));

    let long = Meta::parse(&json!({ "z": "z".repeat(META_BYTES_MAX - 10) }).to_string()).unwrap();
    let refused = topic.presence.update(MemberNumber(1), &long, topic.now).unwrap_err();
    assert_eq!(refused, MetaError::TooLong { bytes: META_BYTES_MAX + 10 });
    assert_eq!(topic.presence.due(), None);
}

#[test]
fn above_the_bound_only_the_count_is_told_and_below_three_quarters_the_list_comes_back() {
    let mut topic = Topic::new(4);
    (0..4).for_each(|number| topic.join(number, &format!("user {number}")));
    topic.advance(Duration::from_millis(100));
    topic.told.clear();
    topic.status(0, "away");
    topic.join(4, "user 4");
    assert!(!topic.presence.is_listed());
    assert_eq!(topic.clients[&MemberNumber(4)].list.len(), 1, "its own entry");
    assert_eq!(topic.told_after(50), [Told::Count(5)]);
    topic.join(5, "user 5");
    topic.join(6, "user 6");
    topic.status(6, "away");
    assert_eq!(topic.told_after(900), []);
    assert_eq!(topic.told_after(100), [Told::Count(7)]);
    topic.leave(6);
    topic.join(6, "user 6");
    assert_eq!(topic.told_after(2000), [], "the number is the same");
    topic.join(7, "user 7");
    topic.leave(6);
    assert_eq!(topic.told_after(2000), [Told::Count(7)], "the newcomer believes that there are 8");
    topic.leave(7);
    topic.join(6, "user 6");
    assert_eq!(topic.told_after(2000), []);

    (4..7).for_each(|number| topic.leave(number));
    assert!(!topic.presence.is_listed());
    assert_eq!(topic.told_after(1000), [Told::Count(4)]);
    topic.leave(3);
    assert!(!topic.presence.is_listed(), "before anybody is told the list, it is none");
    let told = topic.told_after(50);
    assert!(topic.presence.is_listed());
    assert!(matches!(&told[..], [Told::State(_)]), "{told:?}");
    topic.check_clients();
    topic.join(3, "user 3");
    assert!(matches!(&topic.told_after(50)[..], [Told::Diff(_)]));
    topic.check_clients();
}

#[test]
fn a_state_too_long_for_one_message_is_split() {
    let mut topic = Topic::new(PRESENCE_LIST_MAX);
    let long = Meta::parse(&json!({ "z": "z".repeat(1000) }).to_string()).unwrap();
    for number in 0..200 {
        topic.join_with(number, &format!("user {}", number / 100), Some(&long));
    }
    let told = topic.told_after(50);
    assert_eq!(told.len(), 4);
    assert_eq!(topic.presence.state(Some(MemberNumber(0))).len(), 4);
    assert!(
        told.iter().all(|told| matches!(told, Told::Diff(text) if text.len() <= PRESENCE_TEXT_BYTES_MAX))
    );
    topic.check_clients();
}

#[test]
fn the_list_comes_back_in_several_texts() {
    let mut topic = Topic::new(100);
    let long = Meta::parse(&json!({ "z": "z".repeat(1000) }).to_string()).unwrap();
    (0..101).for_each(|number| topic.join_with(number, "ann", Some(&long)));
    topic.advance(Duration::from_secs(1));
    topic.told.clear();
    (75..101).for_each(|number| topic.leave(number));
    let told = topic.told_after(1000);
    assert!(matches!(&told[..], [Told::State(_), Told::Diff(_)]), "{}", told.len());
    topic.check_clients();
}

#[test]
fn a_state_is_encoded_once_for_all_who_come_before_the_next_flush() {
    let mut topic = Topic::new(PRESENCE_LIST_MAX);
    topic.join(1, "ann");
    topic.advance(Duration::from_millis(50));
    topic.join(2, "bob");
    let one = topic.presence.state(Some(MemberNumber(2)));
    topic.join(3, "cid");
    topic.leave(1);
    let two = topic.presence.state(Some(MemberNumber(3)));
    assert!(Arc::ptr_eq(&one[0], &two[0]));
    topic.advance(Duration::from_millis(50));
    assert_ne!(one, topic.presence.state(Some(MemberNumber(2))));
    assert!(topic.presence.encoded.is_none(), "an idle topic keeps no text");
}

#[test]
fn diffs_are_told_at_most_20_times_a_second() {
    let mut topic = Topic::new(PRESENCE_LIST_MAX);
    topic.join(0, "ann");
    for index in 0..1000 {
        topic.field(0, &json!(index));
        topic.advance(Duration::from_millis(1));
    }
    assert!((19..=20).contains(&topic.told.len()), "{}", topic.told.len());
}

#[test]
fn an_idle_member_spends_at_most_200_bytes() {
    const MEMBERS: u32 = 10_000;
    let mut presence = Presence::new(PRESENCE_LIST_MAX, EPOCH);
    let counted = allocation_counter::measure(|| {
        for number in 0..MEMBERS {
            let user = format!("user-{:07}", number.wrapping_mul(7919) % 1_000_003);
            presence.track(MemberNumber(number), &user, "a player", None, 5, Instant::default());
        }
    });
    let bytes = counted.bytes_current / i64::from(MEMBERS);
    assert!((100..=200).contains(&bytes), "{bytes}");
}

#[derive(Clone, Debug)]
enum Step {
    Join(u32, u8),
    Leave(u32),
    Status(u32, bool),
    Field(u32, u8),
    Ask(u32),
    Advance(u64),
}

fn step() -> impl Strategy<Value = Step> {
    let member = 0..8_u32;
    prop_oneof![
        3 => (member.clone(), 0..4_u8).prop_map(|(member, user)| Step::Join(member, user)),
        2 => member.clone().prop_map(Step::Leave),
        2 => (member.clone(), any::<bool>()).prop_map(|(member, away)| Step::Status(member, away)),
        1 => member.clone().prop_map(Step::Ask),
        2 => (member, 0..3_u8).prop_map(|(member, value)| Step::Field(member, value)),
        2 => (0..60_u64).prop_map(Step::Advance),
    ]
}

proptest! {
    #[test]
    fn every_client_ends_with_the_true_list(steps in vec(step(), 0..80), list_max in 0..9_u32) {
        let mut topic = Topic::new(list_max);
        for step in steps {
            match step {
                Step::Join(number, user) => {
                    topic.leave(number);
                    topic.join(number, &format!("user {user}"));
                }
                Step::Leave(number) => topic.leave(number),
                Step::Status(number, true) => topic.status(number, "away"),
                Step::Status(number, false) => topic.status(number, "online"),
                Step::Field(number, value) => topic.field(number, &json!(value)),
                Step::Ask(number) => topic.ask(number),
                Step::Advance(ms) => topic.advance(Duration::from_millis(ms)),
            }
            let told_as_list = matches!(topic.presence.listing, Listing::On(_));
            if told_as_list && topic.presence.due().is_none() {
                topic.check_clients();
            }
        }
        topic.advance(Duration::from_secs(2));
        prop_assert_eq!(topic.presence.due(), None);
        if topic.presence.is_listed() {
            topic.check_clients();
        } else {
            // Whoever was not told of the others finds them when the list comes back.
            (0..8).for_each(|number| {
                if topic.presence.is_off() {
                    topic.leave(number);
                }
            });
            topic.advance(Duration::from_secs(2));
            topic.check_clients();
        }
    }
}
