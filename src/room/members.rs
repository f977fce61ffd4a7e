//! The members of a topic whose members are all alike: who they are, what each has of its own, and what the others are told of
//! their coming and going.

use std::collections::BTreeMap;

use super::audience::{Audience, JoinNumber};
use super::hosted::Lost;
use super::presence::{MemberNumber, Presence};
use super::request::{Departure, Effect, Join, ToMember};
use super::telling::{
    Answer, broadcast, broadcast_joined, broadcast_left, broadcast_presence, push_presence, update_presence,
};
use crate::ids::{Address, Topic};
use crate::impossible;
use crate::memory::Allocated;
use crate::reasons::LeaveReason;
use crate::time::{Instant, Now};
use crate::wire::format::Format;
use crate::wire::meta::Meta;
use crate::wire::phoenix::Event;

/// See the module documentation. `T` is what the kind of topic knows of each.
#[derive(Debug)]
pub(super) struct Members<T> {
    /// The topic, as clients write it.
    topic: Box<str>,
    audience: Audience,
    by_address: BTreeMap<Address, Member<T>>,
    next_number: u32,
    pub(super) presence: Presence,
}

#[derive(Debug)]
pub(super) struct Member<T> {
    pub(super) number: MemberNumber,
    join_number: JoinNumber,
    format: Format,
    pub(super) user: Box<str>,
    pub(super) name: Box<str>,
    pub(super) own: T,
}

impl<T> Members<T> {
    /// Nobody. `epoch` must never have been used for this topic; `list_max`: see `Presence`.
    pub(super) fn new(topic: &Topic, epoch: u64, list_max: u32) -> Self {
        Self {
            topic: topic.to_string().into(),
            audience: Audience::counting_from(epoch >> 1),
            by_address: BTreeMap::new(),
            next_number: 0,
            presence: Presence::new(list_max, epoch),
        }
    }

    pub(super) fn get(&self, address: Address) -> Option<&Member<T>> {
        self.by_address.get(&address)
    }

    pub(super) fn get_mut(&mut self, address: Address) -> Option<&mut Member<T>> {
        self.by_address.get_mut(&address)
    }

    pub(super) fn has(&self, address: Address) -> bool {
        self.by_address.contains_key(&address)
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (Address, &Member<T>)> {
        self.by_address.iter().map(|(address, member)| (*address, member))
    }

    pub(super) fn iter_mut(&mut self) -> impl Iterator<Item = (Address, &mut Member<T>)> {
        self.by_address.iter_mut().map(|(address, member)| (*address, member))
    }

    pub(super) fn values_mut(&mut self) -> impl Iterator<Item = &mut Member<T>> {
        self.by_address.values_mut()
    }

    pub(super) fn addresses(&self) -> Vec<Address> {
        self.by_address.keys().copied().collect()
    }

    pub(super) fn len(&self) -> usize {
        self.by_address.len()
    }

    pub(super) fn audience(&self) -> &Audience {
        &self.audience
    }

    /// Bytes allocated, without presence; see `memory`.
    pub(super) fn heap_bytes(&self) -> usize {
        let names = |member: &Member<T>| member.user.allocated_bytes() + member.name.allocated_bytes();
        self.topic.allocated_bytes()
            + self.audience.heap_bytes()
            + self.by_address.allocated_bytes()
            + self.by_address.values().map(names).sum::<usize>()
    }

    /// Takes a member in, whose join was answered, and tells it who is here. Then comes what its topic tells it, then `announce`.
    pub(super) fn enter(&mut self, from: Address, join: Join, own: T, now: Now, effects: &mut Vec<Effect>) {
        let number = self.free_number();
        let Join { user, name, format, meta, .. } = join;
        let join_number = self.audience.add(from.party(), format);
        self.presence.track(number, &user, &name, meta.as_ref(), now.unix_s(), now.instant);
        push_presence(&mut self.presence, &self.audience, Some(number), from, effects);
        self.by_address.insert(from, Member { number, join_number, format, user, name, own });
    }

    /// Tells the others of a newcomer.
    pub(super) fn announce(&self, newcomer: Address, effects: &mut Vec<Effect>) {
        let Some(Member { user, name, .. }) = self.get(newcomer) else {
            return impossible!("whoever came is here");
        };
        let (presence, audience) = (&self.presence, &self.audience);
        broadcast_joined(presence, &self.topic, audience, (user, name), Some(newcomer), effects);
    }

    /// A number that no member has: they wrap, and some members stay.
    fn free_number(&mut self) -> MemberNumber {
        loop {
            self.next_number = self.next_number.wrapping_add(1);
            let number = MemberNumber(self.next_number);
            if !self.presence.is_tracked(number) {
                return number;
            }
        }
    }

    /// A member goes. It may have been given up before it left.
    pub(super) fn remove(
        &mut self,
        from: Address,
        departure: Departure,
        now: Now,
        effects: &mut Vec<Effect>,
    ) -> Option<Member<T>> {
        if departure == Departure::Asked {
            effects.push(Effect::Member { to: from, what: ToMember::Left });
        }
        let member = self.by_address.remove(&from)?;
        self.audience.remove(from.party(), member.format);
        self.presence.untrack(member.number, now.instant);
        let left = match departure {
            Departure::Asked => LeaveReason::Left,
            Departure::Left(left) => left,
            Departure::Lost => LeaveReason::TimedOut,
        };
        broadcast_left(&self.presence, &self.topic, &self.audience, &member.user, left, effects);
        Some(member)
    }

    /// Those that could not be told something.
    pub(super) fn lost(&self, lost: Lost) -> Vec<Address> {
        let lost = self.by_address.iter().filter(|(address, member)| lost.has(address, member.join_number));
        lost.map(|(address, _)| *address).collect()
    }

    pub(super) fn broadcast(
        &self,
        event: Event,
        payload: &str,
        except: Option<Address>,
        effects: &mut Vec<Effect>,
    ) {
        broadcast(&self.topic, &self.audience, event, payload, except, effects);
    }

    /// Tells everybody what is due of presence.
    pub(super) fn flush_presence(&mut self, now: Instant, effects: &mut Vec<Effect>) {
        broadcast_presence(&mut self.presence, &self.topic, &self.audience, now, effects);
    }

    /// A member's `presence_update`.
    pub(super) fn update_presence(&mut self, from: Address, meta: &Meta, now: Instant) -> Answer {
        let Some(number) = self.get(from).map(|member| member.number) else {
            impossible!("whoever says something of itself is here");
            return super::telling::done();
        };
        update_presence(&mut self.presence, number, meta, now)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ids::{ChannelNumber, ConnId, ShardId};
    use crate::room::request::Rights;

    #[test]
    fn members_have_numbers_of_their_own_however_many_have_joined() {
        let mut members = Members::new(&Topic::parse("room:a").unwrap(), 1, 10);
        let enter = |members: &mut Members<()>, slot: u32| {
            let conn = ConnId { slot, generation: 0 };
            let from = Address { shard: ShardId(0), channel: ChannelNumber(1), conn };
            let join = Join {
                user: slot.to_string().into(),
                name: "Ann".into(),
                rights: Rights::Play,
                format: Format::V2,
                layout: false,
                ack: false,
                meta: None,
                resume_token: None,
                seen: None,
                supersedes: None,
                is_moderator: false,
            };
            members.enter(from, join, (), Now { instant: Instant::default(), unix_us: 0 }, &mut Vec::new());
        };
        (0..3).for_each(|slot| enter(&mut members, slot));
        members.next_number = u32::MAX - 1;
        (3..7).for_each(|slot| enter(&mut members, slot));
        assert_eq!((members.len(), members.presence.members()), (7, 7));
    }
}
