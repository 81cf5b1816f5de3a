//! What can be said of settings only once they are all known.

use std::net::SocketAddr;

use sluice_common::l402::ServiceTerms;

use super::{LightningKind, Parts, ServiceSettings, Settings, StorageMode};

/// What the media server sells: the service that protects this.
pub const PAID_UPLOAD: &str = "POST /largefile";

/// All satoshis that will ever be.
const MAX_PRICE_SAT: u64 = 2_100_000_000_000_000;

/// The largest `max_upload_mb`: 8 EiB, past which lengths of files have no name.
const MAX_UPLOAD_MB: u64 = 1 << 43;

/// Settings that are each well formed and yet cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Invalid {
    /// A node that this version cannot use.
    #[error("[lightning] kind = \"lnd\" is not supported yet; use \"wallet\"")]
    Lnd,
    /// A store that this version cannot use.
    #[error("[backend] storage_mode = \"s3\" (STORAGE_MODE) is not supported yet; use \"local\"")]
    S3,
    /// Play money for everyone.
    #[error(
        "the embedded wallet is no real money: with it, {0} listens on {1}, where others can reach it; \
         if that is meant, say [lightning] allow_test_wallet = true"
    )]
    TestWalletExposed(&'static str, SocketAddr),
    /// Two servers at one place.
    #[error("{0} and {1} cannot both listen on {2}")]
    SameAddress(&'static str, &'static str, SocketAddr),
    /// A name that cannot stand in a media token.
    #[error("[backend] host (HOST): \"{0}\" is not a host name in ASCII")]
    Host(String),
    /// Nothing to sell.
    #[error("there is no [[service]]: nothing would be protected")]
    NoService,
    /// Nobody could pay for an upload.
    #[error("no [[service]] protects \"{PAID_UPLOAD}\": the backend would know no token")]
    NoPaidUpload,
    /// A flag for the only service, where there is not just one.
    #[error("--price-sat and --max-mb are for one [[service]], but there are {0}")]
    WhichService(usize),
    /// Two services of one name.
    #[error("two services are named \"{0}\"")]
    TwoServices(String),
    /// A service that cannot be sold.
    #[error("service \"{name}\": {wrong}")]
    Service {
        /// Which.
        name: String,
        /// Why not.
        wrong: WrongService,
    },
}

/// Why a service cannot be sold.
#[derive(Debug, thiserror::Error)]
pub enum WrongService {
    /// Names stand in caveats.
    #[error("a name is letters, digits, \"_\" and \"-\", at most 64")]
    Name,
    /// Capabilities stand in caveats.
    #[error("capability \"{0}\": a capability is letters, digits, \"_\" and \"-\", at most 64")]
    Capability(String),
    /// A constraint that means something else.
    #[error("constraint \"{0}\": the name is taken; it has a setting of its own")]
    ReservedConstraint(String),
    /// A constraint that cannot stand in a caveat.
    #[error("constraint \"{0}\": names are letters, digits, \"_\" and \"-\", values at most 1024 printable characters")]
    Constraint(String),
    /// It would sell nothing.
    #[error("protect names no request")]
    ProtectsNothing,
    /// More than there is.
    #[error("price_sat is more than {MAX_PRICE_SAT}")]
    Price,
    /// More than there can be.
    #[error("max_upload_mb is more than {MAX_UPLOAD_MB}")]
    MaxUpload,
}

/// Checks what `parts` need.
pub(super) fn check(settings: &Settings, parts: Parts) -> Result<(), Invalid> {
    if settings.lightning.kind == LightningKind::Lnd {
        return Err(Invalid::Lnd);
    }
    if parts.has_backend() && settings.backend.storage_mode == StorageMode::S3 {
        return Err(Invalid::S3);
    }
    let host = settings.host();
    if host.is_empty() || !host.bytes().all(|byte| byte.is_ascii_graphic()) {
        return Err(Invalid::Host(host));
    }
    check_addresses(settings, parts)?;
    check_services(settings)
}

fn check_addresses(settings: &Settings, parts: Parts) -> Result<(), Invalid> {
    let gateway = [("the gateway", settings.gateway.listen), ("its admin address", settings.gateway.admin_listen)];
    let gateway = gateway.into_iter().filter(|_| parts.has_gateway());
    if !settings.lightning.allow_test_wallet
        && let Some((who, address)) = gateway.clone().find(|(_, address)| !address.ip().is_loopback())
    {
        return Err(Invalid::TestWalletExposed(who, address));
    }
    let backend = [("the backend", settings.backend.listen)].into_iter().filter(|_| parts.has_backend());
    let all: Vec<_> = gateway.chain(backend).collect();
    for (at, (second, address)) in all.iter().enumerate() {
        let same = all[..at].iter().find(|(_, other)| other == address && address.port() != 0);
        if let Some((first, _)) = same {
            return Err(Invalid::SameAddress(first, second, *address));
        }
    }
    Ok(())
}

fn check_services(settings: &Settings) -> Result<(), Invalid> {
    if settings.services.is_empty() {
        return Err(Invalid::NoService);
    }
    for (at, service) in settings.services.iter().enumerate() {
        if settings.services[..at].iter().any(|other| other.name == service.name) {
            return Err(Invalid::TwoServices(service.name.clone()));
        }
        check_service(service).map_err(|wrong| Invalid::Service { name: service.name.clone(), wrong })?;
    }
    settings.paid_upload().map(|_| ()).ok_or(Invalid::NoPaidUpload)
}

fn check_service(service: &ServiceSettings) -> Result<(), WrongService> {
    if !is_name(&service.name) {
        return Err(WrongService::Name);
    }
    if let Some(capability) = service.capabilities.iter().find(|capability| !is_name(capability)) {
        return Err(WrongService::Capability(capability.clone()));
    }
    // Without its constraints, for what is asked is whether another setting has the name.
    let others = ServiceTerms::named(&service.name);
    for (condition, value) in &service.constraints {
        if others.is_reserved(condition) {
            return Err(WrongService::ReservedConstraint(condition.clone()));
        }
        if !is_name(condition) || value.len() > 1024 || value.chars().any(char::is_control) {
            return Err(WrongService::Constraint(condition.clone()));
        }
    }
    if service.protect.is_empty() {
        return Err(WrongService::ProtectsNothing);
    }
    if service.price_sat.get() > MAX_PRICE_SAT {
        return Err(WrongService::Price);
    }
    if service.max_upload_mb.get() > MAX_UPLOAD_MB {
        return Err(WrongService::MaxUpload);
    }
    Ok(())
}

/// Whether `text` can stand in a caveat as a name.
fn is_name(text: &str) -> bool {
    (1..=64).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'-'))
}
