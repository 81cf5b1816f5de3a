//! What bounds clients: who is not let in, how fast requests may come, how many uploads at once, how many bytes for
//! nothing. All of it is counted in memory that is bounded, too: a restart forgets it, and of several gateways each counts
//! for itself.

mod bounded;
mod bucket;
mod cidr;
mod client;
mod counts;
mod free_uploads;
mod freebies;
mod pace;
mod rates;
mod uploads;

use std::{
    num::{NonZeroU32, NonZeroUsize},
    time::{Duration, Instant},
};

use http::{Method, StatusCode};
pub use sluice_common::client_network::ClientNetwork;
use sluice_common::{l402::PaymentHash, problem::Problem, slots::Slots};

use self::counts::Counts;
pub use self::{
    bucket::RateLimit,
    cidr::{Cidr, NotCidr},
    client::{Client, TrustedHeader, TrustedProxies},
    counts::Allowance,
    freebies::Freebies,
    pace::SlowClients,
    rates::{RateKey, RateRule},
};
pub(crate) use self::{
    bucket::{Bucket, Rate},
    free_uploads::FreeUpload,
    pace::Pace,
    rates::{Asker, RateBuckets},
    uploads::TokenUpload,
};
use crate::answer::Answer;

/// How many payments are remembered whose tokens sent what was not stored.
const MAX_PAYMENTS: NonZeroUsize = match NonZeroUsize::new(10_000) {
    Some(max) => max,
    None => NonZeroUsize::MIN,
};

/// How many networks of clients are remembered that sent uploads that cost nothing, and how many that did not have to pay.
const MAX_NETWORKS: NonZeroUsize = match NonZeroUsize::new(10_000) {
    Some(max) => max,
    None => NonZeroUsize::MIN,
};

/// What bounds clients, as configured.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LimitsConfig {
    /// Who says where a client is.
    pub proxies: TrustedProxies,
    /// Who is not let in.
    pub blocklist: Vec<Cidr>,
    /// How many connections there may be.
    pub max_connections: NonZeroU32,
    /// How many of them from one network of clients.
    pub max_connections_per_client: NonZeroU32,
    /// How slow clients may be.
    pub slow: SlowClients,
    /// How many uploads may be under way with the tokens of one payment.
    pub max_uploads_per_token: NonZeroU32,
    /// How many bytes of uploads that cost nothing may come from one network of clients in a day; none: any number.
    pub free_upload_bytes_per_day: Option<u64>,
}

impl Default for LimitsConfig {
    fn default() -> Self {
        let positive = |number| NonZeroU32::new(number).unwrap_or(NonZeroU32::MIN);
        Self {
            proxies: TrustedProxies::default(),
            blocklist: Vec::new(),
            max_connections: positive(10_000),
            max_connections_per_client: positive(2_000),
            slow: SlowClients::default(),
            max_uploads_per_token: positive(64),
            free_upload_bytes_per_day: Some(1 << 30),
        }
    }
}

/// What is counted. It outlives a configuration.
pub(crate) struct Limits {
    rates: RateBuckets,
    uploads: Slots<PaymentHash>,
    /// Bytes that were taken with the tokens of a payment, and not stored.
    not_stored: Counts<PaymentHash>,
    /// Bytes of uploads that cost nothing.
    free_bytes: Counts<ClientNetwork>,
    freebies: Counts<freebies::Key>,
}

/// Why a client is refused what others are not.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Limited {
    /// Its address is on the list.
    Blocked,
    /// It asks too fast.
    Rate { wait: Duration },
    /// Its token has as many uploads under way as it may.
    Uploads,
    /// Too many bytes came with its token that were not stored.
    NotStored { wait: Duration },
    /// Its network has sent as many bytes for nothing as it may in a day.
    FreeUploads { wait: Duration },
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
        Self {
            rates: RateBuckets::new(),
            uploads: Slots::default(),
            not_stored: Counts::new(MAX_PAYMENTS),
            free_bytes: Counts::new(MAX_NETWORKS),
            freebies: Counts::new(MAX_NETWORKS),
        }
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
            Self::Uploads => (
                StatusCode::TOO_MANY_REQUESTS,
                "too_many_uploads",
                "This token has as many uploads under way as it may. Come again when one has ended.",
            ),
            Self::NotStored { .. } => (
                StatusCode::TOO_MANY_REQUESTS,
                "too_much_not_stored",
                "Much more was sent with this token than it bought, and not stored. It stays good; come again later.",
            ),
            Self::FreeUploads { .. } => (
                StatusCode::TOO_MANY_REQUESTS,
                "free_uploads_used_up",
                "As much was uploaded from this network as a day has for free. Come again later, or pay for it.",
            ),
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
            Self::Rate { wait } | Self::NotStored { wait } | Self::FreeUploads { wait } => answer.retry_after(wait),
            Self::Uploads => answer.retry_after(UPLOADS_RETRY_AFTER),
        }
    }
}

/// When to come again for who has too many uploads under way.
const UPLOADS_RETRY_AFTER: Duration = Duration::from_secs(2);

const GRPC_PERMISSION_DENIED: u8 = 7;
pub(crate) const GRPC_RESOURCE_EXHAUSTED: u8 = 8;
