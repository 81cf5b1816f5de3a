//! What the gateway is told, checked before a port is bound.

mod price;
mod requests;
mod upstream;

use std::{net::SocketAddr, sync::Arc, time::Duration};

use http::Method;
use sluice_common::{keys::MasterKeys, l402::ServiceTerms, network::Network};

pub use self::{
    price::{MAX_PRICE_SAT, Price, PricerConfig, Step},
    requests::{Access, Cost, HostPattern, PathPattern, RequestPattern, Rule, Scope},
    upstream::{HealthCheck, HostPolicy, Protocol, Rewrite, UpstreamAddress, UpstreamConfig, UpstreamError},
};
use crate::{
    invoice_limits::InvoiceLimits,
    ledger::SettlementProof,
    limits::{Freebies, LimitsConfig, RateRule},
    tls::ServerCertificate,
};

/// What the gateway is told.
#[derive(Debug, Clone)]
pub struct GatewayConfig {
    /// Where clients come.
    pub listen: SocketAddr,
    /// Where clients come by TLS, if they may.
    pub tls: Option<TlsConfig>,
    /// Sends clients that come without TLS to this port; none: they are served.
    pub https_port: Option<u16>,
    /// Where the operator comes: health, and paying with the embedded wallet. Never open to clients.
    pub admin_listen: SocketAddr,
    /// What is sold. The first that matches a request takes it.
    pub services: Vec<ServiceConfig>,
    /// Under which tokens are minted and checked.
    pub master_keys: MasterKeys,
    /// The network that tokens are bought on. The node must be on it.
    pub network: Network,
    /// How long an invoice can be paid.
    pub invoice_expiry: Duration,
    /// How many invoices the node is asked for.
    pub invoice_limits: InvoiceLimits,
    /// What bounds clients.
    pub limits: LimitsConfig,
    /// What proves that a token is paid.
    pub settlement: SettlementProof,
    /// How long a stop waits for requests under way.
    pub shutdown_timeout: Duration,
}

/// The shortest lifetime of a token, in seconds: its invoice can be paid for half of it.
const MIN_VALID_FOR_SECS: u64 = 60;

/// Where clients come by TLS.
#[derive(Debug, Clone)]
pub struct TlsConfig {
    /// The address.
    pub listen: SocketAddr,
    /// What they are shown.
    pub certificate: Arc<ServerCertificate>,
}

/// One service: what it sells, and who serves it.
#[derive(Debug, Clone)]
pub struct ServiceConfig {
    /// What it sells.
    pub offer: Offer,
    /// The servers behind.
    pub upstream: UpstreamConfig,
}

/// What a paywall is told.
#[derive(Debug, Clone)]
pub struct PaywallConfig {
    /// What is sold. The first that matches a request takes it.
    pub offers: Vec<Offer>,
    /// Under which tokens are minted and checked.
    pub master_keys: MasterKeys,
    /// The network that tokens are bought on. The node must be on it.
    pub network: Network,
    /// How long an invoice can be paid.
    pub invoice_expiry: Duration,
    /// How many invoices the node is asked for.
    pub invoice_limits: InvoiceLimits,
    /// What bounds clients.
    pub limits: LimitsConfig,
    /// What proves that a token is paid.
    pub settlement: SettlementProof,
}

/// What one service sells: which requests, for how much, and what a token allows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Offer {
    /// What a token allows.
    pub terms: ServiceTerms,
    /// Which requests are its own.
    pub scope: Scope,
    /// Which of them cost.
    pub access: Access,
    /// What a token costs.
    pub price: Price,
    /// Whether the server behind sees the credential. The media server counts uses, so it must.
    pub forward_credential: bool,
    /// Whether it is only shadowed: it decides, logs and counts, and lets everything through.
    pub dry_run: bool,
    /// How fast its requests may come. All that cover a request count.
    pub rate_limits: Vec<RateRule>,
    /// The uploads among its requests that cost nothing: each network of clients has so many bytes of them in a day.
    pub free_uploads: Vec<RequestPattern>,
    /// What of it costs a network of clients nothing, though it does others.
    pub freebies: Option<Freebies>,
}

/// Why a configuration is refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ConfigError {
    /// No service.
    #[error("there is no [[service]]")]
    NoService,
    /// Two of one name: a token of one would be good for the other.
    #[error("service `{0}`: there are two of this name")]
    SameName(String),
    /// A name that cannot stand in a caveat.
    #[error("service `{0}`: a name has letters, digits, `-` and `_` only")]
    Name(String),
    /// A capability that cannot stand in a caveat.
    #[error("service `{service}`: capability `{capability}` has more than letters, digits, `-` and `_`")]
    Capability {
        /// The service.
        service: String,
        /// The capability.
        capability: String,
    },
    /// A constraint that cannot be a caveat.
    #[error(
        "service `{service}`: constraint `{constraint}` has a name of its own already, or characters that a caveat cannot have"
    )]
    Constraint {
        /// The service.
        service: String,
        /// The constraint.
        constraint: String,
    },
    /// A number that must not be 0.
    #[error("service `{service}`: {key} must be at least 1")]
    Zero {
        /// The service.
        service: String,
        /// The key in the file.
        key: &'static str,
    },
    /// A lifetime in which nobody could pay and then send.
    #[error("service `{0}`: valid_for_secs must be at least {MIN_VALID_FOR_SECS}")]
    ValidFor(String),
    /// A path that its server cannot be asked for.
    #[error(
        "service `{service}`: `{path}` does not begin as rewrite.from does (and `/`, where rewrite.to is `/`), so no request of this service has it"
    )]
    NotRewritten {
        /// The service.
        service: String,
        /// As configured.
        path: String,
    },
    /// Nothing is sold.
    #[error("service `{0}`: protect is empty, so nothing would be sold; if that is meant, say price_sat = 0")]
    NothingProtected(String),
    /// A price that cannot be asked.
    #[error("service `{service}`: price: {problem}")]
    Price {
        /// The service.
        service: String,
        /// What is wrong with it.
        problem: &'static str,
    },
    /// Servers that cannot be used.
    #[error("service `{service}`: {error}")]
    Upstream {
        /// The service.
        service: String,
        /// Why not.
        error: UpstreamError,
    },
    /// Not a method and a path.
    #[error(
        "`{0}` is not METHOD /path, /path or either with `*` at its end; or the method is HEAD, which goes with GET, or OPTIONS; or the path has other characters than letters, digits and /-._~"
    )]
    Request(String),
    /// Not a path.
    #[error("`{0}` is not /path or /begin*, of letters, digits and /-._~")]
    Path(String),
    /// Not a host.
    #[error("`{0}` is not a host name, or *.NAME; it has no port")]
    Host(String),
    /// An invoice that could not be paid in time, or for longer than invoices last.
    #[error("invoice_expiry_secs must be from 60 to 2592000")]
    InvoiceExpiry,
}

impl GatewayConfig {
    /// Whether all of it can be served.
    pub fn check(&self) -> Result<(), ConfigError> {
        check_offers(self.services.iter().map(|service| &service.offer), self.invoice_expiry)?;
        self.services.iter().try_for_each(ServiceConfig::check)
    }
}

impl ServiceConfig {
    /// Whether its servers can be used.
    pub fn check(&self) -> Result<(), ConfigError> {
        let service = || self.offer.terms.name.clone();
        self.upstream.check().map_err(|error| ConfigError::Upstream { service: service(), error })
    }
}

/// Whether this can be sold, with invoices that last so long. What can be said before any key or file is read.
pub fn check_offers<'a>(
    offers: impl IntoIterator<Item = &'a Offer>,
    invoice_expiry: Duration,
) -> Result<(), ConfigError> {
    if !(60..=2_592_000).contains(&invoice_expiry.as_secs()) {
        return Err(ConfigError::InvoiceExpiry);
    }
    let mut names = Vec::new();
    for offer in offers {
        offer.check()?;
        let name = offer.terms.name.as_str();
        if names.contains(&name) {
            return Err(ConfigError::SameName(name.to_owned()));
        }
        names.push(name);
    }
    if names.is_empty() { Err(ConfigError::NoService) } else { Ok(()) }
}

impl Offer {
    /// Whether a request to `host`, perhaps with a port, and the normalised `path` is sold a token.
    pub fn sells(&self, method: &Method, host: &str, path: &str) -> bool {
        self.scope.covers(method, host, path) && self.access.cost(method, path) == Cost::Token
    }

    fn check(&self) -> Result<(), ConfigError> {
        let terms = &self.terms;
        let service = || terms.name.clone();
        if !is_name(&terms.name) {
            return Err(ConfigError::Name(service()));
        }
        if let Some(capability) = terms.capabilities.iter().find(|capability| !is_name(capability)) {
            return Err(ConfigError::Capability { service: service(), capability: capability.clone() });
        }
        let cannot_be = |(name, value): &&(String, String)| {
            !is_name(name) || terms.is_reserved(name) || value.trim() != value || value.chars().any(char::is_control)
        };
        if let Some((constraint, _)) = terms.constraints.iter().find(cannot_be) {
            return Err(ConfigError::Constraint { service: service(), constraint: constraint.clone() });
        }
        for (key, value) in [("max_upload_mb", Some(terms.max_upload_mb)), ("reuse", terms.max_uses)] {
            if value == Some(0) {
                return Err(ConfigError::Zero { service: service(), key });
            }
        }
        if terms.valid_for_secs.is_some_and(|secs| secs < MIN_VALID_FOR_SECS) {
            return Err(ConfigError::ValidFor(service()));
        }
        if let Some(path) = self.not_rewritten() {
            return Err(ConfigError::NotRewritten { service: service(), path });
        }
        let is_protected = !self.access.auth_only.is_empty()
            || match &self.access.rule {
                Rule::Protect(protected) => !protected.is_empty(),
                Rule::Free(_) => true,
            };
        if !is_protected && self.price != Price::Flat(0) {
            return Err(ConfigError::NothingProtected(service()));
        }
        self.price.check(&terms.name, terms.max_upload_mb)
    }

    /// A path that is named, of which there is none where paths are rewritten.
    fn not_rewritten(&self) -> Option<String> {
        let rewrite = self.scope.rewrite.as_ref()?;
        let (Rule::Protect(requests) | Rule::Free(requests)) = &self.access.rule;
        let limited = self.rate_limits.iter().filter_map(|rule| rule.requests.as_ref());
        let requests = requests.iter().chain(&self.access.auth_only).chain(limited).map(|request| &request.path);
        requests.chain(&self.scope.paths).find(|path| !path.has_any_of(rewrite)).map(ToString::to_string)
    }
}

fn is_name(text: &str) -> bool {
    !text.is_empty() && text.len() <= 64 && text.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_' || b == b'-')
}

#[cfg(test)]
mod tests {
    use std::num::NonZeroU32;

    use super::*;
    use crate::limits::{RateKey, RateLimit};

    fn offer() -> Offer {
        Offer {
            terms: ServiceTerms::named("media"),
            scope: Scope::default(),
            access: Access::protect(vec!["POST /largefile".parse().unwrap()]),
            price: Price::Flat(1),
            forward_credential: true,
            dry_run: false,
            rate_limits: Vec::new(),
            free_uploads: Vec::new(),
            freebies: None,
        }
    }

    fn rate(path: &str) -> RateRule {
        let limit = RateLimit { per_minute: NonZeroU32::MIN, burst: NonZeroU32::MIN };
        RateRule { requests: Some(path.parse().unwrap()), limit, key: RateKey::Client }
    }

    fn checked(change: impl FnOnce(&mut Offer)) -> Result<(), ConfigError> {
        let mut changed = offer();
        change(&mut changed);
        check_offers([&changed], Duration::from_secs(60))
    }

    #[test]
    fn says_what_cannot_be_sold() {
        for (outcome, part) in [
            (checked(|o| o.terms.name = "a=b".into()), "service `a=b`"),
            (checked(|o| o.terms.capabilities = vec!["a,b".into()]), "capability `a,b`"),
            (checked(|o| o.terms.constraints = vec![("services".into(), "x".into())]), "constraint `services`"),
            (checked(|o| o.terms.constraints = vec![("media_valid_until".into(), "1".into())]), "media_valid_until"),
            (checked(|o| o.terms.constraints = vec![("media_path".into(), "/".into())]), "media_path"),
            (checked(|o| o.terms.constraints = vec![("a".into(), "x\n".into())]), "constraint `a`"),
            (checked(|o| o.terms.max_uses = Some(0)), "reuse"),
            (checked(|o| o.terms.max_upload_mb = 0), "max_upload_mb"),
            (checked(|o| o.terms.valid_for_secs = Some(59)), "valid_for_secs must be at least 60"),
            (checked(|o| o.access = Access::protect(Vec::new())), "protect is empty"),
            (checked(|o| o.scope.rewrite = Some(Rewrite::new("/api", "/").unwrap())), "`/largefile` does not begin"),
            (
                checked(|o| o.scope.rewrite = Some(Rewrite::new("/largefile", "/").unwrap())),
                "`/largefile` does not begin",
            ),
            (
                checked(|o| {
                    o.scope.rewrite = Some(Rewrite::new("/largefile", "/v1").unwrap());
                    o.rate_limits = vec![rate("/v1")];
                }),
                "`/v1` does not begin",
            ),
            (checked(|o| o.price = Price::Steps(Vec::new())), "service `media`: price: "),
            (check_offers([&offer(), &offer()], Duration::from_secs(60)), "two of this name"),
            (check_offers([], Duration::from_secs(60)), "no [[service]]"),
            (check_offers([&offer()], Duration::from_secs(59)), "invoice_expiry_secs"),
        ] {
            let error = outcome.unwrap_err().to_string();
            assert!(error.contains(part), "{error}");
        }
        for outcome in [
            checked(|_| ()),
            checked(|o| o.terms.constraints = vec![("region".into(), "eu".into())]),
            checked(|o| (o.access, o.price) = (Access::protect(Vec::new()), Price::Flat(0))),
            checked(|o| o.access.rule = Rule::Free(Vec::new())),
            checked(|o| o.scope.rewrite = Some(Rewrite::new("/", "/v1").unwrap())),
            checked(|o| {
                o.scope.rewrite = Some(Rewrite::new("/largefile", "/v1").unwrap());
                o.rate_limits = vec![rate("/largefile/x")];
                o.scope.paths = vec!["/large*".parse().unwrap(), "/largefile/*".parse().unwrap()];
            }),
        ] {
            assert_eq!(outcome, Ok(()));
        }
    }

    #[test]
    fn says_whose_upstream_cannot_be_used() {
        let mut upstream = UpstreamConfig::new(&["a:1"]).unwrap();
        upstream.server_name = Some("a".into());
        let error = ServiceConfig { offer: offer(), upstream }.check().unwrap_err();
        assert_eq!(error.to_string(), "service `media`: upstream_sni is for https:// upstreams");
    }
}
