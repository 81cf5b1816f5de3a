//! `[gateway.limits]` and `rate_limits` of a service: what bounds clients.

use std::{
    num::{NonZeroU32, NonZeroU64},
    time::Duration,
};

use serde::{Deserialize, Serialize};
use sluice_common::limits::BYTES_PER_MB;
use sluice_gateway::{
    config::ConfigError,
    limits::{
        Allowance, Cidr, Freebies, LimitsConfig, RateKey, RateLimit, RateRule, SlowClients, TrustedHeader,
        TrustedProxies,
    },
};

/// `[gateway.limits]`
#[derive(Debug, Clone, PartialEq, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct LimitSettings {
    /// The proxies that say where a client is.
    pub trusted_proxies: Vec<Cidr>,
    /// The header in which they do.
    pub trusted_header: TrustedHeader,
    /// Who is not let in.
    pub blocklist: Vec<Cidr>,
    /// How many connections there may be.
    pub max_connections: NonZeroU32,
    /// How many of them from one network of clients.
    pub max_connections_per_client: NonZeroU32,
    /// How long a request's head may take.
    pub head_timeout_secs: NonZeroU32,
    /// How long no byte of a body may come.
    pub body_timeout_secs: NonZeroU32,
    /// The fewest bytes of a body in a second; 0: any.
    pub min_body_rate: u64,
    /// How many uploads may be under way with one token.
    pub max_uploads_per_token: NonZeroU32,
    /// How many MB of free uploads may come from one network of clients in a day; 0: any number.
    pub free_upload_mb_per_day: u64,
}

/// One of `rate_limits`: how fast requests may come.
#[derive(Debug, Clone, PartialEq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct RateLimitSettings {
    /// Which, `METHOD /path` or `/path`, perhaps with `*` at its end; all of the service, if it is not said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub requests: Option<String>,
    /// How many a minute.
    pub per_minute: NonZeroU32,
    /// How many at once; as many as a minute has, if it is not said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub burst: Option<NonZeroU32>,
    /// Who has a rate of its own.
    #[serde(default)]
    pub key: RateKey,
}

/// `freebies = { … }`: what one network of clients gets without paying.
#[derive(Debug, Clone, PartialEq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct FreebieSettings {
    /// So many requests.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub requests: Option<NonZeroU64>,
    /// Or requests with so many MB of bodies.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mb: Option<NonZeroU64>,
    /// In how long, from the first of them on.
    #[serde(default = "day")]
    pub window_secs: NonZeroU32,
}

fn day() -> NonZeroU32 {
    NonZeroU32::MIN.saturating_add(86_399)
}

impl FreebieSettings {
    /// The same as the gateway takes it; none: it says not one thing.
    pub(super) fn freebies(&self) -> Option<Freebies> {
        let window = Duration::from_secs(self.window_secs.get().into());
        let allowance = |most| Allowance { most, window };
        match (self.requests, self.mb) {
            (Some(requests), None) => Some(Freebies::Requests(allowance(requests.get()))),
            (None, Some(mb)) => Some(Freebies::Bytes(allowance(mb.get().saturating_mul(BYTES_PER_MB)))),
            _ => None,
        }
    }
}

impl Default for LimitSettings {
    fn default() -> Self {
        let limits = LimitsConfig::default();
        let secs = |time: Duration| u32::try_from(time.as_secs()).ok().and_then(NonZeroU32::new);
        Self {
            trusted_proxies: limits.proxies.networks,
            trusted_header: limits.proxies.header,
            blocklist: limits.blocklist,
            max_connections: limits.max_connections,
            max_connections_per_client: limits.max_connections_per_client,
            head_timeout_secs: secs(limits.slow.head_timeout).unwrap_or(NonZeroU32::MAX),
            body_timeout_secs: secs(limits.slow.body_timeout).unwrap_or(NonZeroU32::MAX),
            min_body_rate: limits.slow.min_body_rate,
            max_uploads_per_token: limits.max_uploads_per_token,
            free_upload_mb_per_day: limits.free_upload_bytes_per_day.unwrap_or_default() / BYTES_PER_MB,
        }
    }
}

impl LimitSettings {
    /// The same as the gateway takes it.
    pub fn config(&self) -> LimitsConfig {
        let secs = |secs: NonZeroU32| Duration::from_secs(secs.get().into());
        LimitsConfig {
            proxies: TrustedProxies { networks: self.trusted_proxies.clone(), header: self.trusted_header },
            blocklist: self.blocklist.clone(),
            max_connections: self.max_connections,
            max_connections_per_client: self.max_connections_per_client,
            slow: SlowClients {
                head_timeout: secs(self.head_timeout_secs),
                body_timeout: secs(self.body_timeout_secs),
                min_body_rate: self.min_body_rate,
                ..SlowClients::default()
            },
            max_uploads_per_token: self.max_uploads_per_token,
            free_upload_bytes_per_day: Some(self.free_upload_mb_per_day.saturating_mul(BYTES_PER_MB))
                .filter(|&max| max > 0),
        }
    }
}

impl RateLimitSettings {
    /// The same as the gateway takes it.
    pub(super) fn rule(&self) -> Result<RateRule, ConfigError> {
        let requests = self.requests.as_ref().map(|requests| requests.parse()).transpose()?;
        let limit = RateLimit { per_minute: self.per_minute, burst: self.burst.unwrap_or(self.per_minute) };
        Ok(RateRule { requests, limit, key: self.key })
    }
}
