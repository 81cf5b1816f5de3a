//! How fast requests may come.

use std::{
    collections::hash_map::DefaultHasher,
    hash::{Hash, Hasher},
    num::NonZeroUsize,
    sync::{Mutex, PoisonError},
    time::{Duration, Instant},
};

use http::Method;
use serde::{Deserialize, Serialize};
use sluice_common::l402::PaymentHash;

use super::{
    ClientNetwork, RateLimit,
    bounded::Bounded,
    bucket::{Bucket, Rate},
};
use crate::config::RequestPattern;

/// How many buckets are remembered, of all rules. A forgotten one is full again.
const MAX_BUCKETS: NonZeroUsize = match NonZeroUsize::new(20_000) {
    Some(max) => max,
    None => NonZeroUsize::MIN,
};

/// How fast some requests of a service may come from one client.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct RateRule {
    /// Which; none: all of the service.
    pub requests: Option<RequestPattern>,
    /// How fast.
    pub limit: RateLimit,
    /// Who one client is.
    pub key: RateKey,
}

/// Who has a rate of its own.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Deserialize, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum RateKey {
    /// A payment, with all tokens made of it; without a genuine token the network.
    Token,
    /// A network of clients.
    #[default]
    Client,
}

/// Who asks.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Asker {
    /// The payment of a genuine token.
    pub(crate) payment: Option<PaymentHash>,
    pub(crate) network: ClientNetwork,
}

/// Whose bucket it is: of a rule, known by its hash, for a payment or a network.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
struct Key(u64, Who);

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Who {
    Payment(PaymentHash),
    Network(ClientNetwork),
}

/// The buckets of all rules. They outlive a configuration: a rule that stays the same goes on.
pub(crate) struct RateBuckets(Mutex<Bounded<Key, Bucket>>);

impl RateBuckets {
    pub(crate) fn new() -> Self {
        Self(Mutex::new(Bounded::new(MAX_BUCKETS)))
    }

    /// Takes one from each bucket that a request of `service` is counted in, or says when all of them have one. Who is
    /// refused takes nothing from any.
    pub(crate) fn take(
        &self,
        service: &str,
        rules: &[RateRule],
        (method, path): (&Method, &str),
        asker: Asker,
        now: Instant,
    ) -> Result<(), Duration> {
        let covers = |rule: &&RateRule| rule.requests.as_ref().is_none_or(|requests| requests.covers(method, path));
        let mut buckets = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let take = |rule: &RateRule| {
            let key = Key(id(service, rule), asker.who(rule.key));
            let bucket = buckets.peek(&key).copied().unwrap_or(Bucket::FULL);
            Rate::new(rule.limit).take(bucket, now).map(|bucket| (key, bucket))
        };
        let taken: Vec<_> = rules.iter().filter(covers).map(take).collect();
        if let Some(wait) = taken.iter().filter_map(|taken| taken.as_ref().err()).max() {
            return Err(*wait);
        }
        for (key, bucket) in taken.into_iter().flatten() {
            buckets.set(key, bucket, |bucket| bucket.is_full(now));
        }
        Ok(())
    }
}

impl Asker {
    fn who(self, key: RateKey) -> Who {
        match (key, self.payment) {
            (RateKey::Token, Some(payment)) => Who::Payment(payment),
            _ => Who::Network(self.network),
        }
    }
}

/// Tells the rules of all services apart, the same for as long as the process lives.
fn id(service: &str, rule: &RateRule) -> u64 {
    let mut hasher = DefaultHasher::new();
    (service, rule).hash(&mut hasher);
    hasher.finish()
}

#[cfg(test)]
mod tests {
    use std::num::NonZeroU32;

    use super::*;

    fn rule(requests: Option<&str>, burst: u32, key: RateKey) -> RateRule {
        let positive = |number| NonZeroU32::new(number).unwrap();
        let limit = RateLimit { per_minute: positive(60), burst: positive(burst) };
        RateRule { requests: requests.map(|requests| requests.parse().unwrap()), limit, key }
    }

    fn asker(payment: Option<u8>, address: [u8; 4]) -> Asker {
        let payment = payment.map(|byte| PaymentHash::from_bytes([byte; 32]));
        Asker { payment, network: ClientNetwork::of(address.into()) }
    }

    /// How many of ten requests at once get through.
    fn passed(
        buckets: &RateBuckets,
        rules: &[RateRule],
        method: &str,
        path: &str,
        asker: Asker,
        now: Instant,
    ) -> usize {
        let method = method.parse().unwrap();
        (0..10).filter(|_| buckets.take("media", rules, (&method, path), asker, now).is_ok()).count()
    }

    #[test]
    fn each_network_has_its_burst_on_what_a_rule_covers_and_then_the_rate() {
        let rules = [rule(Some("POST /a*"), 3, RateKey::Client)];
        let (buckets, now) = (RateBuckets::new(), Instant::now());
        assert_eq!(passed(&buckets, &rules, "POST", "/a", asker(None, [10, 0, 0, 1]), now), 3);
        assert_eq!(passed(&buckets, &rules, "POST", "/ab", asker(Some(1), [10, 0, 0, 2]), now), 0, "the same network");
        assert_eq!(passed(&buckets, &rules, "POST", "/a", asker(None, [10, 0, 1, 1]), now), 3, "another network");
        assert_eq!(passed(&buckets, &rules, "GET", "/a", asker(None, [10, 0, 0, 1]), now), 10, "another method");
        assert_eq!(passed(&buckets, &rules, "POST", "/b", asker(None, [10, 0, 0, 1]), now), 10, "another path");
        let soon = now + Duration::from_millis(1_500);
        assert_eq!(passed(&buckets, &rules, "POST", "/a", asker(None, [10, 0, 0, 1]), soon), 1);
        let wait = buckets.take("media", &rules, (&Method::POST, "/a"), asker(None, [10, 0, 0, 1]), soon);
        assert_eq!(wait, Err(Duration::from_millis(500)));
    }

    #[test]
    fn a_token_has_a_rate_of_its_own_wherever_it_comes_from() {
        let rules = [rule(None, 2, RateKey::Token)];
        let (buckets, now) = (RateBuckets::new(), Instant::now());
        assert_eq!(passed(&buckets, &rules, "GET", "/", asker(Some(1), [10, 0, 0, 1]), now), 2);
        assert_eq!(passed(&buckets, &rules, "GET", "/", asker(Some(1), [10, 0, 1, 1]), now), 0);
        assert_eq!(passed(&buckets, &rules, "GET", "/", asker(Some(2), [10, 0, 1, 1]), now), 2);
        assert_eq!(passed(&buckets, &rules, "GET", "/", asker(None, [10, 0, 1, 1]), now), 2, "without one the network");
        assert_eq!(passed(&buckets, &rules, "GET", "/", asker(None, [10, 0, 1, 2]), now), 0);
    }

    #[test]
    fn all_rules_count_and_who_is_refused_takes_from_none() {
        let rules = [rule(None, 5, RateKey::Client), rule(Some("/a"), 2, RateKey::Client)];
        let (buckets, now) = (RateBuckets::new(), Instant::now());
        let client = asker(None, [10, 0, 0, 1]);
        assert_eq!(passed(&buckets, &rules, "GET", "/a", client, now), 2);
        assert_eq!(passed(&buckets, &rules, "GET", "/b", client, now), 3, "what was refused at /a took nothing");
        let refused = buckets.take("media", &rules, (&Method::GET, "/b"), client, now);
        assert_eq!(refused, Err(Duration::from_secs(1)));
        assert!(buckets.take("other", &rules, (&Method::GET, "/b"), client, now).is_ok(), "another service's");
    }

    #[test]
    fn a_flood_from_everywhere_is_remembered_only_so_far() {
        let rules = [rule(None, 2, RateKey::Client)];
        let (buckets, now) = (RateBuckets::new(), Instant::now());
        for number in 0..100_000u128 {
            let network = ClientNetwork::of(std::net::Ipv6Addr::from_bits(number << 64).into());
            let asker = Asker { payment: None, network };
            assert!(buckets.take("media", &rules, (&Method::GET, "/"), asker, now).is_ok());
        }
        assert_eq!(buckets.0.lock().unwrap().len(), MAX_BUCKETS.get());
    }
}
