//! Requests that need a token and go through without one, a few of each network of clients.

use std::{
    collections::hash_map::DefaultHasher,
    hash::{Hash, Hasher},
    time::Instant,
};

use super::{Allowance, ClientNetwork, Limits};

/// What a request counts at least, where bytes are counted.
const LEAST_BYTES: u64 = 1_024;

/// What a network of clients gets from a service without paying.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Freebies {
    /// So many requests.
    Requests(Allowance),
    /// Requests with so many bytes of bodies, as they declare them; each counts 1 KiB at least.
    Bytes(Allowance),
}

/// Whose: of a service with these freebies, known by their hash, for a network.
pub(super) type Key = (u64, ClientNetwork);

impl Freebies {
    /// Counts a request of `service` whose body has the `declared` length. False: it has to pay.
    pub(crate) fn take(
        self,
        limits: &Limits,
        service: &str,
        network: ClientNetwork,
        declared: Option<u64>,
        now: Instant,
    ) -> bool {
        let mut hasher = DefaultHasher::new();
        (service, self).hash(&mut hasher);
        let (amount, allowance) = match (self, declared) {
            (Self::Requests(allowance), _) => (1, allowance),
            (Self::Bytes(allowance), Some(declared)) => (declared.max(LEAST_BYTES), allowance),
            // What it would come to is not known.
            (Self::Bytes(_), None) => return false,
        };
        limits.freebies.take((hasher.finish(), network), amount, allowance, now).is_ok()
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn each_network_gets_so_much_of_each_service_in_a_window() {
        let (limits, now, hour) = (Limits::new(), Instant::now(), Duration::from_secs(3_600));
        let requests = Freebies::Requests(Allowance { most: 2, window: hour });
        let bytes = Freebies::Bytes(Allowance { most: 10_000, window: hour });
        let take = |freebies: Freebies, service: &str, address: [u8; 4], declared: Option<u64>, now: Instant| {
            freebies.take(&limits, service, ClientNetwork::of(address.into()), declared, now)
        };
        for (service, address) in [("a", [10, 0, 0, 1]), ("a", [10, 0, 1, 1]), ("b", [10, 0, 0, 1])] {
            for (number, gets) in [true, true, false].into_iter().enumerate() {
                assert_eq!(take(requests, service, address, None, now), gets, "{service} {address:?} {number}");
            }
        }
        assert!(!take(requests, "a", [10, 0, 0, 2], None, now + hour - Duration::from_secs(1)));
        assert!(take(requests, "a", [10, 0, 0, 2], None, now + hour));

        let here = [10, 0, 0, 1];
        assert!(!take(bytes, "a", here, Some(10_001), now));
        assert!(!take(bytes, "a", here, None, now), "a length that is not known");
        assert!(take(bytes, "a", here, Some(9_000), now));
        assert!(!take(bytes, "a", here, Some(0), now), "each counts at least 1 KiB");
        let larger = Freebies::Bytes(Allowance { most: 20_000, window: hour });
        assert!(take(larger, "a", here, Some(0), now), "others than before");
    }

    #[test]
    fn a_flood_from_everywhere_is_remembered_only_so_far() {
        let (limits, now) = (Limits::new(), Instant::now());
        let freebies = Freebies::Requests(Allowance { most: 1, window: Duration::from_secs(60) });
        for number in 0..100_000u128 {
            let network = ClientNetwork::of(std::net::Ipv6Addr::from_bits(number << 64).into());
            assert!(freebies.take(&limits, "a", network, None, now));
        }
        assert_eq!(limits.freebies.len(), super::super::MAX_NETWORKS.get());
    }
}
