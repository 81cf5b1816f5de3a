//! What bounds clients: who is not let in, how fast requests may come, how many uploads at once, how many bytes for
//! nothing. All of it is counted in memory that is bounded, too: a restart forgets it, and of several gateways each counts
//! for itself.

mod bounded;
mod bucket;
mod cidr;
mod client;
mod rates;
mod slots;

use std::time::{Duration, Instant};

use http::{Method, StatusCode};
use sluice_common::problem::Problem;

pub use self::{
    bucket::RateLimit,
    cidr::{Cidr, NotCidr},
    client::{Client, ClientNetwork, TrustedHeader, TrustedProxies},
    rates::{RateKey, RateRule},
};
pub(crate) use self::{
    bucket::{Bucket, Rate},
    rates::{Asker, RateBuckets},
    slots::Slots,
};
use crate::answer::Answer;

/// What bounds clients, as configured.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct LimitsConfig {
    /// Who says where a client is.
    pub proxies: TrustedProxies,
    /// Who is not let in.
    pub blocklist: Vec<Cidr>,
}

/// What is counted. It outlives a configuration.
pub(crate) struct Limits {
    rates: RateBuckets,
}

/// Why a client is refused what others are not.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Limited {
    /// Its address is on the list.
    Blocked,
    /// It asks too fast.
    Rate { wait: Duration },
}

impl LimitsConfig {
    /// Refuses who is not let in.
    pub(crate) fn check(&self, client: &Client) -> Result<(), Limited> {
        let is_blocked = self.blocklist.iter().any(|network| network.contains(client.address()));
        if is_blocked { Err(Limited::Blocked) } else { Ok(()) }
    }
}

impl Limits {
    pub(crate) fn new() -> Self {
        Self { rates: RateBuckets::new() }
    }

    /// Counts a request of `service`, or refuses it.
    pub(crate) fn request(
        &self,
        service: &str,
        rules: &[RateRule],
        request: (&Method, &str),
        asker: Asker,
        now: Instant,
    ) -> Result<(), Limited> {
        if rules.is_empty() {
            return Ok(());
        }
        self.rates.take(service, rules, request, asker, now).map_err(|wait| Limited::Rate { wait })
    }
}

impl Limited {
    /// What the client is told, in the form that it reads.
    pub(crate) fn answer(self, is_grpc: bool) -> Answer {
        let (status, code, detail) = match self {
            Self::Blocked => (StatusCode::FORBIDDEN, "blocked", "Requests from this address are not answered here."),
            Self::Rate { .. } => (StatusCode::TOO_MANY_REQUESTS, "rate_limited", "Too many requests. Come again."),
        };
        let answer = Answer::from(Problem::new(status, code).detail(detail));
        let answer = match (self, is_grpc) {
            (Self::Blocked, true) => answer.for_grpc(GRPC_PERMISSION_DENIED, code),
            (_, true) => answer.for_grpc(GRPC_RESOURCE_EXHAUSTED, code),
            (_, false) => answer,
        };
        match self {
            // Who is not let in is not listened to, either.
            Self::Blocked => answer.and_close(),
            Self::Rate { wait } => answer.retry_after(wait),
        }
    }
}

const GRPC_PERMISSION_DENIED: u8 = 7;
const GRPC_RESOURCE_EXHAUSTED: u8 = 8;
