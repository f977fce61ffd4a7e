//! How many connections an address has, over all shards.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::impossible;
use crate::shard::Admission;
use crate::surplus::Surplus;

/// One table for the process. Locked twice in the life of a connection, and only when a limit is set.
///
/// An IPv6 address counts as its /64, which is what one subscriber has; a mapped IPv4 address as the IPv4 address.
#[derive(Debug, Default)]
pub struct Addresses {
    connections: Mutex<HashMap<IpAddr, u32>>,
}

impl Addresses {
    /// Counts a connection, unless its address has `limit` already.
    pub(super) fn enter(&self, address: IpAddr, limit: u32) -> Admission {
        let mut connections = self.lock();
        let count = connections.entry(network(address)).or_default();
        if *count >= limit {
            return Admission::AddressLimit;
        }
        *count += 1;
        Admission::Admitted
    }

    /// A counted connection has ended.
    pub(super) fn leave(&self, address: IpAddr) {
        let mut connections = self.lock();
        let address = network(address);
        let Some(count) = connections.get_mut(&address) else {
            return impossible!("who leaves has entered");
        };
        *count -= 1;
        if *count == 0 {
            connections.remove(&address);
            connections.give_back(0);
        }
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<IpAddr, u32>> {
        // A panic elsewhere cannot leave a count half-changed.
        self.connections.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn network(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V4(address) => address.into(),
        IpAddr::V6(address) => {
            let [a, b, c, d, ..] = address.segments();
            Ipv6Addr::new(a, b, c, d, 0, 0, 0, 0).into()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_enters_up_to_its_limit_and_again_after_a_leave() {
        let addresses = Addresses::default();
        let ann = "10.0.0.1".parse().unwrap();
        let enter = |address| addresses.enter(address, 2);
        assert_eq!([enter(ann), enter(ann), enter(ann)], {
            [Admission::Admitted, Admission::Admitted, Admission::AddressLimit]
        });
        assert_eq!(enter("10.0.0.2".parse().unwrap()), Admission::Admitted);
        addresses.leave(ann);
        assert_eq!(
            enter("::ffff:10.0.0.1".parse().unwrap()),
            Admission::Admitted,
            "the same address, mapped"
        );
        assert_eq!(enter(ann), Admission::AddressLimit);
    }

    #[test]
    fn an_ipv6_address_counts_as_its_network() {
        let addresses = Addresses::default();
        let enter = |address: &str| addresses.enter(address.parse().unwrap(), 1);
        assert_eq!(enter("2001:db8:0:1::1"), Admission::Admitted);
        assert_eq!(enter("2001:db8:0:1:ffff::2"), Admission::AddressLimit);
        assert_eq!(enter("2001:db8:0:2::1"), Admission::Admitted);
    }

    #[test]
    fn an_address_without_connections_takes_no_memory() {
        let addresses = Addresses::default();
        let ann = "10.0.0.1".parse().unwrap();
        assert_eq!(addresses.enter(ann, 1), Admission::Admitted);
        addresses.leave(ann);
        assert!(addresses.lock().is_empty());
    }
}
