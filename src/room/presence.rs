//! Presence: who is in a topic, and what each of them says about itself.

mod changes;
#[cfg(test)]
mod model_tests;
mod texts;

use std::collections::{BTreeMap, BTreeSet};
use std::iter;
use std::mem;
use std::sync::Arc;

use self::changes::{Changes, Listing};
use self::texts::{Diffs, List, MetaText};
use crate::impossible;
use crate::limits::{PRESENCE_COUNT_INTERVAL, PRESENCE_WINDOW};
use crate::memory::{Allocated, COUNTS_BYTES};
use crate::planted;
use crate::time::Instant;
use crate::wire::meta::{Meta, MetaError};

/// The status of who says nothing else.
const ONLINE: &str = "online";

/// Number of a member within its topic, chosen by the topic; not reused while tracked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct MemberNumber(pub u32);

/// What everybody in the topic is told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Told {
    /// Payload of a `presence_diff`.
    Diff(String),
    /// Payload of a `presence_state`: the list came back. Diffs with what has no place in it follow.
    State(Arc<str>),
    /// The list is off: so many users are here (`presence_count`).
    Count(u32),
}

/// Who is in one topic: `track` a member, give it its `state`, `update` what it says, `untrack` it. What the others are
/// told of that is collected until `flush` is `due`.
///
/// Every track and update is a meta with a reference of its own, counted up. At any moment all members have been told the
/// same list: a newcomer's state is the one that the others have, and what has changed since, the newcomer included, reaches
/// all of them with the next flush. So no client is told twice that a reference joined, nor of the end of one that it was not
/// told of. Metas of a user are listed in the order of their references: that is the order in which a client that adds what
/// joins comes to have them.
#[derive(Debug)]
pub struct Presence {
    list_max: u32,
    epoch: u64,
    members: Members,
    /// How many members each user has.
    users: BTreeMap<Arc<str>, u32>,
    next_reference: u64,
    listing: Listing,
    /// Everybody has been told of the references below this one, and nobody of the others.
    told_below: u64,
    /// When the changes since the last flush are told.
    window_end: Option<Instant>,
    count_not_before: Instant,
    /// What `state` gives until the next flush, if one is to come: an idle topic keeps no text.
    encoded: Option<Vec<Arc<str>>>,
}

/// One user of a topic.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct User<'a> {
    /// User id.
    pub id: &'a str,
    /// Display name.
    pub name: &'a str,
    /// Status.
    pub status: &'a str,
    /// When it came, in unix seconds.
    pub joined_at_s: u64,
}

type Members = BTreeMap<MemberNumber, Box<Member>>;

/// A member without fields and with the status "online" is 88 bytes here, about 25 in `members` and 31 in `users` (nodes are
/// 55 to 70 % full), and its user id (with 16 bytes for the counts of the `Arc`) and name: 180 bytes for 12 and 8 letters.
#[derive(Debug)]
struct Member {
    user: Arc<str>,
    name: Box<str>,
    /// `None` is "online".
    status: Option<Box<str>>,
    /// A JSON object with at least one field.
    fields: Option<Box<str>>,
    joined_at_s: u64,
    reference: u64,
    /// The reference before; 0 when nobody was told of another.
    previous: u64,
}

const _: () = assert!(size_of::<Member>() == 88);

impl Presence {
    /// A topic without members. With more than `list_max` the list stops and only the count is told. `epoch` makes the
    /// references unique among topics and restarts.
    pub fn new(list_max: u32, epoch: u64) -> Self {
        Self {
            list_max,
            epoch,
            members: BTreeMap::new(),
            users: BTreeMap::new(),
            next_reference: 1,
            listing: Listing::On(Changes::default()),
            told_below: 1,
            window_end: None,
            count_not_before: Instant::default(),
            encoded: None,
        }
    }

    /// A member of `user` is here, with the status that it names or "online".
    pub fn track(
        &mut self,
        member: MemberNumber,
        user: &str,
        name: &str,
        meta: Option<&Meta>,
        joined_at_s: u64,
        now: Instant,
    ) {
        self.untrack(member, now);
        let shared = self.users.get_key_value(user).map(|(user, _)| user.clone());
        let user = shared.unwrap_or_else(|| user.into());
        *self.users.entry(user.clone()).or_default() += 1;
        let fields = meta.and_then(|meta| meta.merged_into(None).expect("a meta alone is within the bound"));
        let reference = self.next_reference;
        self.next_reference += 1;
        let tracked = Member {
            user,
            name: name.into(),
            status: meta.and_then(Meta::status).and_then(boxed_status),
            fields,
            joined_at_s,
            reference,
            previous: 0,
        };
        self.members.insert(member, Box::new(tracked));
        self.listing.joined(reference, member);
        if self.members() > self.list_max && !self.is_off() {
            self.listing = Listing::Off { told: None };
        }
        self.changed(now);
    }

    /// A member is gone. One that is not tracked is ignored.
    pub fn untrack(&mut self, member: MemberNumber, now: Instant) {
        let Some(gone) = self.members.remove(&member) else { return };
        let members_of_user = self.users.get_mut(&gone.user).expect("every member's user is counted");
        *members_of_user -= 1;
        if *members_of_user == 0 {
            self.users.remove(&gone.user);
        }
        let told = gone.reference < self.told_below;
        self.listing.ended(&gone, told && !planted!(HidesLeave), self.epoch);
        let members_to_list = u64::from(self.list_max) * 3 / 4;
        if self.is_off() && u64::from(self.members()) <= members_to_list {
            self.listing = Listing::Returning;
        }
        self.changed(now);
    }

    /// Replaces the status: "online", "away", "typing", or the client's own word.
    pub fn set_status(&mut self, member: MemberNumber, status: &str, now: Instant) {
        let Some(tracked) = self.members.get(&member) else {
            return impossible!("whose status changes is tracked");
        };
        let fields = tracked.fields.clone();
        self.replace(member, boxed_status(status), fields, now);
    }

    /// Takes over what a member says about itself now: its status, if it is named, and each named field; others stay, and
    /// one that is null goes.
    ///
    /// # Errors
    /// All fields together would be too long. Nothing has changed then.
    pub fn update(&mut self, member: MemberNumber, meta: &Meta, now: Instant) -> Result<(), MetaError> {
        let Some(tracked) = self.members.get(&member) else {
            impossible!("who says something about itself is tracked");
            return Ok(());
        };
        let fields = meta.merged_into(tracked.fields.as_deref())?;
        let status = meta.status().map_or_else(|| tracked.status.clone(), boxed_status);
        self.replace(member, status, fields, now);
        Ok(())
    }

    /// Whether a member is here.
    pub fn is_tracked(&self, member: MemberNumber) -> bool {
        self.members.contains_key(&member)
    }

    /// How many members are here.
    pub fn members(&self) -> u32 {
        self.members.len() as u32
    }

    /// How many users are here: the number of different ids.
    pub fn online(&self) -> u32 {
        self.users.len() as u32
    }

    /// Whether everybody has been told the full list, and is told what changes in it.
    pub fn is_listed(&self) -> bool {
        matches!(self.listing, Listing::On(_))
    }

    fn is_off(&self) -> bool {
        matches!(self.listing, Listing::Off { .. })
    }

    /// What a member that has just joined is told (it is tracked, if it has a number): the payload of `presence_state`, then
    /// those of `presence_diff`. They are the list that everybody has been told, encoded once for all who ask before the next
    /// flush. While there is no list, they are the member's own entry.
    pub fn state(&mut self, member: Option<MemberNumber>) -> Vec<Arc<str>> {
        let online = self.online();
        if let Listing::Off { told } = &mut self.listing {
            // It is told how many there are now: if that changes back before the others hear of it, it must hear of that.
            *told = told.filter(|told| *told == online);
        }
        let Listing::On(changes) = &self.listing else {
            let own = member.and_then(|member| self.members.get(&member));
            return encode(own.map(Box::as_ref), self.epoch);
        };
        if let Some(encoded) = &self.encoded {
            return encoded.clone();
        }
        let told = self.members.values().filter(|member| member.reference < self.told_below);
        let told = told.map(|member| (&member.user, member.reference, member.encode(self.epoch)));
        let texts = encode_entries(told.chain(changes.ended()).collect());
        self.encoded = self.window_end.is_some().then(|| texts.clone());
        texts
    }

    /// Takes what has changed as told: nobody is there who would have to be told of it.
    pub fn settle(&mut self) {
        if let Listing::On(changes) = &mut self.listing {
            *changes = Changes::default();
            self.window_end = None;
            self.everybody_is_told();
        }
    }

    /// Every user that is here, once: what it said first.
    pub fn users(&self) -> impl Iterator<Item = User<'_>> {
        let mut told = BTreeSet::new();
        self.members.values().filter_map(move |member| {
            let status = member.status.as_deref().unwrap_or(ONLINE);
            let user = User { id: &member.user, name: &member.name, status, joined_at_s: member.joined_at_s };
            told.insert(&*member.user).then_some(user)
        })
    }

    /// Bytes that it has allocated; see `memory`.
    pub fn heap_bytes(&self) -> usize {
        let members = self.members.values().map(|member| member.heap_bytes()).sum::<usize>();
        let users = self.users.keys().map(|user| COUNTS_BYTES + user.len()).sum::<usize>();
        let changes = match &self.listing {
            Listing::On(changes) => changes.heap_bytes(),
            Listing::Off { .. } | Listing::Returning => 0,
        };
        let text_bytes = |texts: &Vec<Arc<str>>| texts.iter().map(|text| COUNTS_BYTES + text.len()).sum();
        let encoded: usize = self.encoded.as_ref().map_or(0, text_bytes);
        self.members.allocated_bytes() + members + self.users.allocated_bytes() + users + changes + encoded
    }

    /// When `flush` has something to say.
    pub fn due(&self) -> Option<Instant> {
        let window_end = self.window_end?;
        Some(if self.is_off() { window_end.max(self.count_not_before) } else { window_end })
    }

    /// What everybody is told now, which is nothing before it is due.
    pub fn flush(&mut self, now: Instant) -> Vec<Told> {
        if self.due().is_none_or(|due| now < due) {
            return Vec::new();
        }
        self.window_end = None;
        let online = self.online();
        match &mut self.listing {
            Listing::On(changes) => {
                let changes = mem::take(changes);
                self.everybody_is_told();
                changes.encode(&self.members, self.epoch).into_iter().map(Told::Diff).collect()
            }
            Listing::Off { told } => {
                *told = Some(online);
                self.count_not_before = now + PRESENCE_COUNT_INTERVAL;
                vec![Told::Count(online)]
            }
            Listing::Returning => {
                self.listing = Listing::On(Changes::default());
                self.everybody_is_told();
                let mut texts = encode(self.members.values().map(Box::as_ref), self.epoch).into_iter();
                let state = texts.next().map(Told::State);
                state.into_iter().chain(texts.map(|diff| Told::Diff(String::from(&*diff)))).collect()
            }
        }
    }

    /// Gives a member a new meta, unless it says the same.
    fn replace(
        &mut self,
        member: MemberNumber,
        status: Option<Box<str>>,
        fields: Option<Box<str>>,
        now: Instant,
    ) {
        let Some(tracked) = self.members.get_mut(&member) else {
            return impossible!("whose meta is replaced has one");
        };
        if tracked.status == status && tracked.fields == fields {
            return;
        }
        let told = tracked.reference < self.told_below;
        self.listing.ended(tracked, told, self.epoch);
        if told {
            tracked.previous = tracked.reference;
        }
        tracked.reference = self.next_reference;
        tracked.status = status;
        tracked.fields = fields;
        self.next_reference += 1;
        self.listing.joined(tracked.reference, member);
        self.changed(now);
    }

    /// Starts a window with the first change, and ends one whose changes have cancelled out.
    fn changed(&mut self, now: Instant) {
        let has_news = match &self.listing {
            Listing::On(changes) => !changes.is_empty(),
            Listing::Off { told } => *told != Some(self.online()),
            Listing::Returning => true,
        };
        let window_end = self.window_end.unwrap_or(now + PRESENCE_WINDOW);
        self.window_end = has_news.then_some(window_end);
        if !has_news || !matches!(self.listing, Listing::On(_)) {
            self.encoded = None;
        }
    }

    fn everybody_is_told(&mut self) {
        self.told_below = self.next_reference;
        self.encoded = None;
    }
}

impl Member {
    /// Its own place included; its user is counted in `users`.
    fn heap_bytes(&self) -> usize {
        size_of::<Self>()
            + self.name.allocated_bytes()
            + self.status.allocated_bytes()
            + self.fields.allocated_bytes()
    }

    fn encode(&self, epoch: u64) -> String {
        let mut meta = String::new();
        self.text(epoch).write(&mut meta);
        meta
    }

    fn text(&self, epoch: u64) -> MetaText<'_> {
        MetaText {
            epoch,
            reference: self.reference,
            previous: self.previous,
            joined_at_s: self.joined_at_s,
            status: self.status.as_deref().unwrap_or(ONLINE),
            name: &self.name,
            fields: self.fields.as_deref(),
        }
    }
}

/// The state of `members` as the payload of a `presence_state` and of diffs after it.
fn encode<'a>(members: impl IntoIterator<Item = &'a Member>, epoch: u64) -> Vec<Arc<str>> {
    let members = members.into_iter();
    encode_entries(members.map(|member| (&member.user, member.reference, member.encode(epoch))).collect())
}

/// The same of metas, each with its user and reference.
fn encode_entries(mut entries: Vec<(&Arc<str>, u64, String)>) -> Vec<Arc<str>> {
    entries.sort_unstable_by_key(|(user, reference, _)| (*user, *reference));
    let mut state = List::default();
    let mut rest = Diffs::default();
    for (user, _, meta) in &entries {
        if rest.is_empty() && state.has_room_for(user, meta) {
            state.push(user, meta);
        } else {
            rest.join(user, meta);
        }
    }
    iter::once(state.take()).chain(rest.finish()).map(Arc::from).collect()
}

fn boxed_status(status: &str) -> Option<Box<str>> {
    (status != ONLINE).then(|| status.into())
}
