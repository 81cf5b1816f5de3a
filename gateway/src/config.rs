//! What the gateway is told, checked before a port is bound.

use std::{net::SocketAddr, num::NonZeroU64, str::FromStr, time::Duration};

use http::Method;
use sluice_common::{keys::MasterKeys, l402::ServiceTerms, network::Network};

use crate::{invoice_limits::InvoiceLimits, ledger::SettlementProof, path};

/// What the gateway is told.
#[derive(Debug, Clone)]
pub struct GatewayConfig {
    /// Where clients come.
    pub listen: SocketAddr,
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
    /// What proves that a token is paid.
    pub settlement: SettlementProof,
    /// How long a stop waits for requests under way.
    pub shutdown_timeout: Duration,
}

/// One service: what it sells, for how much, and who serves it.
#[derive(Debug, Clone)]
pub struct ServiceConfig {
    /// What a token of it allows.
    pub terms: ServiceTerms,
    /// What costs: all else is free.
    pub protect: Vec<Protected>,
    /// `HOST:PORT` of the server behind.
    pub upstream: String,
    /// What a token costs.
    pub price_sat: NonZeroU64,
    /// Whether the server behind sees the credential. The media server counts uses, so it must.
    pub forward_credential: bool,
}

/// A method and a path, written `POST /largefile`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Protected {
    /// The method that costs. `GET` and `HEAD` of the same path tell the price.
    pub method: Method,
    /// The normalised path.
    pub path: String,
}

/// Why a configuration is refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ConfigError {
    /// No service, or more than one.
    #[error("there must be exactly one [[service]] (this version serves one), found {0}")]
    Services(usize),
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
    /// Nothing is sold.
    #[error("service `{0}`: protect is empty, so nothing would be sold")]
    NothingProtected(String),
    /// An upstream that is no address.
    #[error("service `{0}`: upstream must be HOST:PORT")]
    Upstream(String),
    /// Not a method and a path of letters, digits and `/-._~`.
    #[error(
        "`{0}` is not METHOD /path, or the method is one that tells the price, or the path has other characters than letters, digits and /-._~"
    )]
    Protected(String),
    /// An invoice that could not be paid in time, or for longer than invoices last.
    #[error("invoice_expiry_secs must be from 60 to 2592000")]
    InvoiceExpiry,
}

impl FromStr for Protected {
    type Err = ConfigError;

    fn from_str(text: &str) -> Result<Self, ConfigError> {
        let error = || ConfigError::Protected(text.to_owned());
        let (method, path) = text.split_once(' ').ok_or_else(error)?;
        let method: Method = method.parse().map_err(|_| error())?;
        let normal = path::normalise(path.trim()).map_err(|_| error())?;
        // GET and HEAD tell the price, so they cannot be sold themselves. A reserved character reads the same escaped or
        // not at most servers, but is matched as it stands: the other spelling would be free.
        let is_plain = |b: u8| b.is_ascii_alphanumeric() || b"/-._~".contains(&b);
        if [Method::GET, Method::HEAD, Method::OPTIONS].contains(&method) || !normal.bytes().all(is_plain) {
            return Err(error());
        }
        Ok(Self { method, path: normal.into_owned() })
    }
}

impl GatewayConfig {
    /// Whether all of it can be served.
    pub fn check(&self) -> Result<(), ConfigError> {
        check_sales(&self.services, self.invoice_expiry)
    }
}

/// Whether these services can be sold, with invoices that last so long. What can be said before any key is read.
pub fn check_sales(services: &[ServiceConfig], invoice_expiry: Duration) -> Result<(), ConfigError> {
    if services.len() != 1 {
        return Err(ConfigError::Services(services.len()));
    }
    if !(60..=2_592_000).contains(&invoice_expiry.as_secs()) {
        return Err(ConfigError::InvoiceExpiry);
    }
    services.iter().try_for_each(ServiceConfig::check)
}

impl ServiceConfig {
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
        for (key, value) in [
            ("max_upload_mb", Some(terms.max_upload_mb)),
            ("max_uses", terms.max_uses),
            ("valid_for_secs", terms.valid_for_secs),
        ] {
            if value == Some(0) {
                return Err(ConfigError::Zero { service: service(), key });
            }
        }
        if self.protect.is_empty() {
            return Err(ConfigError::NothingProtected(service()));
        }
        let port = self.upstream.rsplit_once(':').filter(|(host, _)| !host.is_empty()).map(|(_, port)| port);
        if port.and_then(|port| port.parse::<u16>().ok()).is_none() {
            return Err(ConfigError::Upstream(service()));
        }
        Ok(())
    }
}

fn is_name(text: &str) -> bool {
    !text.is_empty() && text.len() <= 64 && text.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_' || b == b'-')
}

#[cfg(test)]
mod tests {
    use super::*;

    fn service() -> ServiceConfig {
        ServiceConfig {
            terms: ServiceTerms::named("media"),
            protect: vec!["POST /largefile".parse().unwrap()],
            upstream: "127.0.0.1:8083".into(),
            price_sat: NonZeroU64::MIN,
            forward_credential: true,
        }
    }

    fn checked(change: impl FnOnce(&mut ServiceConfig)) -> Result<(), ConfigError> {
        let mut changed = service();
        change(&mut changed);
        changed.check()
    }

    #[test]
    fn says_what_cannot_be_served() {
        assert_eq!(service().check(), Ok(()));
        for (outcome, part) in [
            (checked(|s| s.terms.name = "a=b".into()), "service `a=b`"),
            (checked(|s| s.terms.capabilities = vec!["a,b".into()]), "capability `a,b`"),
            (checked(|s| s.terms.constraints = vec![("services".into(), "x".into())]), "constraint `services`"),
            (checked(|s| s.terms.constraints = vec![("media_valid_until".into(), "1".into())]), "media_valid_until"),
            (checked(|s| s.terms.constraints = vec![("a".into(), "x\n".into())]), "constraint `a`"),
            (checked(|s| s.terms.max_uses = Some(0)), "max_uses"),
            (checked(|s| s.terms.max_upload_mb = 0), "max_upload_mb"),
            (checked(|s| s.protect.clear()), "protect is empty"),
            (checked(|s| s.upstream = "backend".into()), "HOST:PORT"),
            (checked(|s| s.upstream = ":80".into()), "HOST:PORT"),
        ] {
            let error = outcome.unwrap_err().to_string();
            assert!(error.contains(part), "{error}");
        }
        assert_eq!(checked(|s| s.terms.constraints = vec![("region".into(), "eu".into())]), Ok(()));
    }

    #[test]
    fn reads_what_is_protected() {
        let protected: Protected = "POST /x/../largefile".parse().unwrap();
        assert_eq!(protected, Protected { method: Method::POST, path: "/largefile".into() });
        for text in ["POST", "/largefile", "GET /largefile", "POST largefile", "PO ST /x", "POST /%00", "POST /a=b"] {
            assert!(text.parse::<Protected>().is_err(), "{text}");
        }
    }
}
