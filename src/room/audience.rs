//! Who gets a topic's broadcasts: how many members at which party, and which serializers they speak. A broadcast is encoded
//! once for each serializer that is present and goes to each party once, however many members are there.

use crate::ids::Party;
use crate::memory::Allocated;
use crate::wire::encoded::Encoded;
use crate::wire::phoenix::Serializer;

/// See the module documentation.
#[derive(Debug, Default)]
pub struct Audience {
    /// Parties with at least one member, in order.
    parties: Vec<(Party, u32)>,
    v1: u32,
    v2: u32,
}

/// One message, ready to send, in each serializer that somebody needs.
#[derive(Clone, Debug, Default)]
pub struct Copies {
    v1: Option<Encoded>,
    v2: Option<Encoded>,
}

impl Audience {
    /// A member came.
    pub fn add(&mut self, party: Party, serializer: Serializer) {
        *self.of_mut(serializer) += 1;
        match self.parties.binary_search_by_key(&party, |(party, _)| *party) {
            Ok(place) => self.parties[place].1 += 1,
            Err(place) => self.parties.insert(place, (party, 1)),
        }
    }

    /// A member went.
    pub fn remove(&mut self, party: Party, serializer: Serializer) {
        *self.of_mut(serializer) -= 1;
        let Ok(place) = self.parties.binary_search_by_key(&party, |(party, _)| *party) else { return };
        self.parties[place].1 -= 1;
        if self.parties[place].1 == 0 {
            self.parties.remove(place);
        }
    }

    /// Number of members.
    pub fn len(&self) -> u32 {
        self.v1 + self.v2
    }

    /// Whether nobody listens.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Parties with members, in order.
    pub fn parties(&self) -> impl Iterator<Item = Party> {
        self.parties.iter().map(|(party, _)| *party)
    }

    /// See `memory`.
    pub fn heap_bytes(&self) -> usize {
        self.parties.allocated_bytes()
    }

    /// Whether a member speaks `serializer`.
    pub fn speaks(&self, serializer: Serializer) -> bool {
        match serializer {
            Serializer::V1 => self.v1 > 0,
            Serializer::V2 => self.v2 > 0,
        }
    }

    /// A message in every serializer that is spoken here.
    pub fn encode(&self, mut encode: impl FnMut(Serializer) -> Encoded) -> Copies {
        let mut copy = |serializer| self.speaks(serializer).then(|| encode(serializer));
        Copies { v1: copy(Serializer::V1), v2: copy(Serializer::V2) }
    }

    fn of_mut(&mut self, serializer: Serializer) -> &mut u32 {
        match serializer {
            Serializer::V1 => &mut self.v1,
            Serializer::V2 => &mut self.v2,
        }
    }
}

impl Copies {
    /// The copy for a member that speaks `serializer`; `None`: nobody did when it was encoded.
    pub fn of(&self, serializer: Serializer) -> Option<&Encoded> {
        match serializer {
            Serializer::V1 => self.v1.as_ref(),
            Serializer::V2 => self.v2.as_ref(),
        }
    }

    /// How many times the message was encoded.
    pub fn encoded(&self) -> u64 {
        u64::from(self.v1.is_some()) + u64::from(self.v2.is_some())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ids::ShardId;
    use crate::wire::phoenix::Event;

    fn party(shard: u16) -> Party {
        Party::Shard(ShardId(shard))
    }

    #[test]
    fn a_broadcast_is_encoded_once_per_serializer_that_is_present() {
        let mut audience = Audience::default();
        for shard in [1, 0, 1] {
            audience.add(party(shard), Serializer::V2);
        }
        let broadcast = |serializer: Serializer| serializer.broadcast("room:a", Event::NewMessage, "{}");
        let copies = audience.encode(broadcast);
        assert!(copies.of(Serializer::V2).is_some() && copies.of(Serializer::V1).is_none());
        assert_eq!(copies.encoded(), 1);
        audience.add(party(7), Serializer::V1);
        assert_eq!(audience.encode(broadcast).encoded(), 2);
        assert_eq!(audience.parties().collect::<Vec<_>>(), [0, 1, 7].map(party));
        audience.remove(party(1), Serializer::V2);
        audience.remove(party(0), Serializer::V2);
        assert_eq!(audience.parties().collect::<Vec<_>>(), [1, 7].map(party));
        assert_eq!((audience.len(), audience.is_empty()), (2, false));
    }
}
