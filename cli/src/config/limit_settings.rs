//! `[gateway.limits]` and `rate_limits` of a service: what bounds clients.

use std::num::NonZeroU32;

use serde::{Deserialize, Serialize};
use sluice_gateway::{
    config::ConfigError,
    limits::{Cidr, LimitsConfig, RateKey, RateLimit, RateRule, TrustedHeader, TrustedProxies},
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

impl Default for LimitSettings {
    fn default() -> Self {
        let LimitsConfig { proxies, blocklist } = LimitsConfig::default();
        Self { trusted_proxies: proxies.networks, trusted_header: proxies.header, blocklist }
    }
}

impl LimitSettings {
    /// The same as the gateway takes it.
    pub fn config(&self) -> LimitsConfig {
        LimitsConfig {
            proxies: TrustedProxies { networks: self.trusted_proxies.clone(), header: self.trusted_header },
            blocklist: self.blocklist.clone(),
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
