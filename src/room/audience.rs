//! Who gets a topic's broadcasts: how many members at which party, and in which formats. A broadcast is encoded once for each
//! format that is present and goes to each party once, however many members are there.

use crate::ids::Party;
use crate::impossible;
use crate::memory::Allocated;
use crate::wire::encoded::Encoded;
use crate::wire::format::Format;
use crate::wire::phoenix::Serializer;

/// See the module documentation.
#[derive(Debug, Default)]
pub struct Audience {
    /// Parties with at least one member, in order.
    parties: Vec<(Party, u32)>,
    /// Members by format.
    members: [u32; Format::ALL.len()],
    joins: JoinNumber,
}

/// Counts the members of a topic as they join.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct JoinNumber(u64);

impl JoinNumber {
    /// Whether a member with this number had joined when the count stood at `count`.
    pub fn is_within(self, count: Self) -> bool {
        self <= count
    }
}

/// Who gets a broadcast.
#[derive(Clone, Debug, Default)]
pub struct Receivers {
    /// Those behind which there are members, in order.
    pub parties: Vec<Party>,
    /// The member that joined last.
    pub joins: JoinNumber,
}

/// One message, ready to send, in each format that somebody needs.
#[derive(Clone, Debug, Default)]
pub struct Copies {
    by_format: [Option<Encoded>; Format::ALL.len()],
    /// How many of them are not another one's.
    encoded: u8,
}

impl Audience {
    /// Nobody. The joins are counted from `joins`, which no audience of the same topic has begun with: so those that it had before
    /// are not taken for these.
    pub fn counting_from(joins: u64) -> Self {
        Self { joins: JoinNumber(joins), ..Self::default() }
    }

    /// A member came: its number.
    pub fn add(&mut self, party: Party, format: Format) -> JoinNumber {
        self.members[format.index()] += 1;
        match self.parties.binary_search_by_key(&party, |(party, _)| *party) {
            Ok(place) => self.parties[place].1 += 1,
            Err(place) => self.parties.insert(place, (party, 1)),
        }
        self.joins.0 += 1;
        self.joins
    }

    /// A member went.
    pub fn remove(&mut self, party: Party, format: Format) {
        self.members[format.index()] -= 1;
        let Ok(place) = self.parties.binary_search_by_key(&party, |(party, _)| *party) else {
            return impossible!("a member that goes has been counted");
        };
        self.parties[place].1 -= 1;
        if self.parties[place].1 == 0 {
            self.parties.remove(place);
        }
    }

    /// Number of members.
    pub fn len(&self) -> u32 {
        self.members.iter().sum()
    }

    /// Whether nobody listens.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Who gets what is told now, whoever joins or leaves behind it.
    pub fn receivers(&self) -> Receivers {
        Receivers { parties: self.parties.iter().map(|(party, _)| *party).collect(), joins: self.joins }
    }

    /// Bytes that it has allocated; see `memory`.
    pub fn heap_bytes(&self) -> usize {
        self.parties.allocated_bytes()
    }

    /// A message that differs by format, in every one that is present and has such a message.
    pub fn encode(&self, mut encode: impl FnMut(Format) -> Option<Encoded>) -> Copies {
        let mut copies = Copies::default();
        for format in Format::ALL.into_iter().filter(|format| self.has(*format)) {
            copies.by_format[format.index()] = encode(format);
            copies.encoded += u8::from(copies.of(format).is_some());
        }
        copies
    }

    /// A record that is encoded already, for native members.
    pub fn share(&self, record: Option<&Encoded>) -> Copies {
        let mut copies = Copies::default();
        copies.by_format[Format::Native.index()] = record.filter(|_| self.has(Format::Native)).cloned();
        copies
    }

    /// A text message: formats of one serializer share it.
    pub fn encode_text(&self, mut encode: impl FnMut(Serializer) -> Encoded) -> Copies {
        let mut copies = Copies::default();
        for format in Format::ALL.into_iter().filter(|format| self.has(*format)) {
            let Some(serializer) = format.serializer() else { continue };
            let is_shared = |other: &Format| other.serializer() == Some(serializer);
            let shared =
                Format::ALL.into_iter().filter(is_shared).find_map(|other| copies.of(other).cloned());
            copies.encoded += u8::from(shared.is_none());
            copies.by_format[format.index()] = Some(shared.unwrap_or_else(|| encode(serializer)));
        }
        copies
    }

    /// Whether a member has this format.
    pub fn has(&self, format: Format) -> bool {
        self.members[format.index()] > 0
    }
}

impl Copies {
    /// The copy for a member with this format; `None`: there was none when it was encoded.
    pub fn of(&self, format: Format) -> Option<&Encoded> {
        self.by_format[format.index()].as_ref()
    }

    /// Whether nobody is to be told anything.
    pub fn is_empty(&self) -> bool {
        self.by_format.iter().all(Option::is_none)
    }

    /// Takes the copies of `other` in formats that have none.
    pub fn and(mut self, other: Self) -> Self {
        for (copy, of_other) in self.by_format.iter_mut().zip(other.by_format) {
            *copy = copy.take().or(of_other);
        }
        self.encoded += other.encoded;
        self
    }

    /// How many times the message was encoded.
    pub fn encoded(&self) -> u64 {
        self.encoded.into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ids::ShardId;
    use crate::wire::frame::Opcode;

    fn party(shard: u16) -> Party {
        Party::Shard(ShardId(shard))
    }

    #[test]
    fn a_broadcast_is_encoded_once_per_format_that_is_present() {
        let mut audience = Audience::default();
        let numbers = [1, 0, 1].map(|shard| audience.add(party(shard), Format::V2));
        assert!(numbers.iter().all(|number| number.is_within(audience.receivers().joins)));
        assert!(!numbers[2].is_within(numbers[1]), "it came later");
        let encode = |format: Format| Some(Encoded::message(Opcode::Binary, &[format.index() as u8]));
        let copies = audience.encode(encode);
        assert!(copies.of(Format::V2).is_some());
        assert!(copies.of(Format::V1).is_none() && copies.of(Format::V2Text).is_none());
        assert_eq!(copies.encoded(), 1);
        audience.add(party(7), Format::V1);
        audience.add(party(7), Format::V2Text);
        assert_eq!(audience.encode(encode).encoded(), 3);
        assert_eq!(audience.receivers().parties, [0, 1, 7].map(party));
        audience.remove(party(1), Format::V2);
        audience.remove(party(0), Format::V2);
        assert_eq!(audience.receivers().parties, [1, 7].map(party));
        assert_eq!((audience.len(), audience.is_empty()), (3, false));
    }

    #[test]
    fn a_member_that_stays_is_within_however_many_join_after_it() {
        let mut audience = Audience::default();
        let first = audience.add(party(0), Format::V2);
        audience.joins.0 += 1 << 31;
        let late = audience.add(party(0), Format::V2);
        assert!(first.is_within(audience.receivers().joins) && !late.is_within(first));
    }

    #[test]
    fn a_text_is_encoded_once_per_serializer() {
        let mut audience = Audience::default();
        for format in Format::ALL {
            audience.add(party(0), format);
        }
        let mut encoded = Vec::new();
        let copies = audience.encode_text(|serializer| {
            encoded.push(serializer);
            Encoded::message(Opcode::Text, &[serializer as u8])
        });
        assert_eq!(encoded, [Serializer::V2, Serializer::V1]);
        assert_eq!(copies.encoded(), 2);
        let bytes = |format| copies.of(format).map(|copy| copy.bytes().to_vec());
        assert_eq!(bytes(Format::V2), bytes(Format::V2Text));
        assert_ne!(bytes(Format::V2), bytes(Format::V1));
        audience.remove(party(0), Format::V2);
        assert_eq!(audience.encode_text(|_| Encoded::message(Opcode::Text, &[])).encoded(), 2);
    }
}
