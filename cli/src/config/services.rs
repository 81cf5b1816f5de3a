//! Services as the gateway takes them, and their terms as the backend takes them.

use std::{fs, str::FromStr, time::Duration};

use http::Method;
use sluice_backend::config::MediaTerms;
use sluice_common::{l402::ServiceTerms, limits::FORM_ALLOWANCE_BYTES, secret::Secret};
use sluice_gateway::config::{
    Access, ConfigError, HealthCheck, Offer, Price, PricerConfig, Protocol, RequestPattern, Rewrite, Rule, Scope,
    ServiceConfig, Step, UpstreamConfig, UpstreamError, check_offers,
};

use super::{
    Invalid, RateLimitSettings, ServiceSettings, Settings,
    service_settings::{Addresses, Fallback, HeaderSource, PriceSettings, Reuse},
};

/// What the media server sells.
const PAID_UPLOAD: (Method, &str) = (Method::POST, "/largefile");

/// What the media server takes for nothing.
const FREE_UPLOADS: [&str; 4] = ["/file", "/upload", "/public", "/template"];

/// How long a pricer may take, if it is not said.
const PRICER_TIMEOUT_MS: u64 = 2_000;

/// Whether the files that a service names are read.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Files {
    Read,
    Leave,
}

impl Settings {
    /// What is sold and who serves it, checked. Reads the files that services name.
    pub fn services(&self) -> Result<Vec<ServiceConfig>, Invalid> {
        self.services_with(Files::Read)
    }

    /// Whether all services can be, as far as can be said without their files.
    pub(super) fn check_services(&self) -> Result<(), Invalid> {
        self.services_with(Files::Leave).map(drop)
    }

    fn services_with(&self, files: Files) -> Result<Vec<ServiceConfig>, Invalid> {
        let service = |service: &ServiceSettings| {
            let config = ServiceConfig { offer: self.offer(service)?, upstream: self.upstream_config(service, files)? };
            config.check()?;
            Ok(config)
        };
        let services = self.services.iter().map(service).collect::<Result<Vec<_>, Invalid>>()?;
        let offers = || services.iter().map(|service| &service.offer);
        check_offers(offers(), self.invoice_expiry())?;
        let is_uncounted = |offer: &&Offer| {
            offer.forward_credential && offer.terms.max_uses.is_some() && !Self::sells_paid_upload(offer)
        };
        let uncounted = offers().find(is_uncounted).map(|offer| Invalid::Uncounted(offer.terms.name.clone()));
        uncounted.map_or(Ok(services), Err)
    }

    /// What the media server's tokens are checked against: the terms of all services that sell its paid uploads.
    pub fn media_terms(&self) -> Result<MediaTerms, Invalid> {
        let offers = self.services.iter().map(|service| self.offer(service)).collect::<Result<Vec<_>, _>>()?;
        let sells = offers.into_iter().filter(|offer| offer.forward_credential && Self::sells_paid_upload(offer));
        MediaTerms::new(sells.map(|offer| offer.terms)).ok_or(Invalid::NoPaidUpload)
    }

    /// How long an invoice can be paid.
    pub fn invoice_expiry(&self) -> Duration {
        Duration::from_secs(self.lightning.invoice_expiry_secs.get())
    }

    /// Whether a service shows credentials to its upstream, which only the media server is to see.
    pub(super) fn forwards_credential(&self, service: &ServiceSettings) -> bool {
        let names_paid_upload = || {
            let path = rewrite(service).ok().and_then(|rewrite| path_before(rewrite.as_ref(), PAID_UPLOAD.1));
            let is_path = |one: &str| path.as_deref() == Some(one.trim());
            service.protect.iter().flatten().any(|one| one.strip_prefix("POST ").is_some_and(is_path))
        };
        service.forward_credential.unwrap_or_else(|| service.upstream.is_none() || names_paid_upload())
    }

    fn sells_paid_upload(offer: &Offer) -> bool {
        let (method, path) = PAID_UPLOAD;
        let before = path_before(offer.scope.rewrite.as_ref(), path);
        // On whichever of its hosts.
        let scope = Scope { hosts: Vec::new(), ..offer.scope.clone() };
        let offer = Offer { scope, ..offer.clone() };
        before.is_some_and(|before| offer.sells(&method, "", &before))
    }

    fn offer(&self, service: &ServiceSettings) -> Result<Offer, Invalid> {
        let price = price(service)?;
        let rule = match (&service.protect, &service.free) {
            (Some(protect), None) => Rule::Protect(parsed(service, protect)?),
            (None, Some(free)) => Rule::Free(parsed(service, free)?),
            _ => return Err(Invalid::ProtectOrFree(service.name.clone())),
        };
        let method = |text: &String| {
            text.parse().map_err(|_| Invalid::Method { service: service.name.clone(), method: text.clone() })
        };
        // Other servers behind may take the body for the file, which has then what was paid for.
        let is_measured = price.is_by_size() && self.forwards_credential(service);
        let terms = ServiceTerms {
            capabilities: service.capabilities.clone(),
            max_upload_mb: service.max_upload_mb.get(),
            form_allowance_bytes: if is_measured { FORM_ALLOWANCE_BYTES } else { 0 },
            max_uses: max_uses(service, &price),
            valid_for_secs: Some(service.valid_for_secs.get()),
            constraints: service.constraints.clone().into_iter().collect(),
            unknown_caveats: self.l402.unknown_caveats,
            ..ServiceTerms::named(&service.name)
        };
        let scope = Scope {
            hosts: parsed(service, &service.hosts)?,
            paths: parsed(service, &service.paths)?,
            methods: service.methods.iter().map(method).collect::<Result<_, _>>()?,
            rewrite: rewrite(service).map_err(|error| upstream_error(service, error))?,
        };
        let free_uploads = self.free_uploads(service, scope.rewrite.as_ref())?;
        let access = Access { rule, auth_only: parsed(service, &service.auth_only)? };
        let whose = |error| Invalid::InService { service: service.name.clone(), error };
        let rate_limits = service.rate_limits.iter().map(RateLimitSettings::rule).collect::<Result<_, _>>();
        let not_one = || Invalid::Freebies(service.name.clone());
        let freebies = service.freebies.as_ref().map(|freebies| freebies.freebies().ok_or_else(not_one));
        Ok(Offer {
            terms,
            scope,
            access,
            price,
            forward_credential: self.forwards_credential(service),
            dry_run: service.dry_run,
            rate_limits: rate_limits.map_err(whose)?,
            free_uploads,
            freebies: freebies.transpose()?,
        })
    }

    /// The uploads that the media server takes for nothing, as clients of `service` name them.
    fn free_uploads(
        &self,
        service: &ServiceSettings,
        rewrite: Option<&Rewrite>,
    ) -> Result<Vec<RequestPattern>, Invalid> {
        if !self.forwards_credential(service) && service.upstream.is_some() {
            return Ok(Vec::new());
        }
        let before = FREE_UPLOADS.iter().filter_map(|path| path_before(rewrite, path));
        parsed(service, &before.map(|path| format!("POST {path}")).collect::<Vec<_>>())
    }

    fn upstream_config(&self, service: &ServiceSettings, files: Files) -> Result<UpstreamConfig, Invalid> {
        let wrong = |error| upstream_error(service, error);
        let Addresses(addresses) = self.upstream(service);
        let mut upstream = UpstreamConfig::new(&addresses).map_err(wrong)?;
        upstream.server_name.clone_from(&service.upstream_sni);
        upstream.host = service.upstream_host.parse().map_err(wrong)?;
        upstream.health_check = health_check(service, upstream.health_check).map_err(wrong)?;
        if let Some(path) = &service.upstream_ca {
            if upstream.protocol != Protocol::Tls {
                return Err(wrong(UpstreamError::NotTls("upstream_ca")));
            }
            if files == Files::Read {
                let unreadable = |source| Invalid::file(service, "upstream_ca", path, source);
                upstream.trust(&fs::read(path).map_err(unreadable)?).map_err(wrong)?;
            }
        }
        for (name, source) in &service.headers {
            let value = match source {
                HeaderSource::Text(text) => text.clone(),
                HeaderSource::File(_) if files == Files::Leave => Secret::new(String::new()),
                HeaderSource::File(path) => {
                    let text = fs::read_to_string(path).map(Secret::new);
                    let text = text.map_err(|source| Invalid::file(service, "headers", path, source))?;
                    Secret::new(text.expose().trim().to_owned())
                }
            };
            upstream.set_header(name, &value).map_err(wrong)?;
        }
        Ok(upstream)
    }
}

/// All of a list, or what is wrong in it and whose it is.
fn parsed<T: FromStr<Err = ConfigError>>(service: &ServiceSettings, texts: &[String]) -> Result<Vec<T>, Invalid> {
    let whose = |error| Invalid::InService { service: service.name.clone(), error };
    texts.iter().map(|text| text.parse().map_err(whose)).collect()
}

fn upstream_error(service: &ServiceSettings, error: UpstreamError) -> Invalid {
    ConfigError::Upstream { service: service.name.clone(), error }.into()
}

fn rewrite(service: &ServiceSettings) -> Result<Option<Rewrite>, UpstreamError> {
    service.rewrite.as_ref().map(|rewrite| Rewrite::new(&rewrite.from, &rewrite.to)).transpose()
}

/// The path by which clients name what a server knows as `path`; none: they cannot.
fn path_before(rewrite: Option<&Rewrite>, path: &str) -> Option<String> {
    rewrite.map_or_else(|| Some(path.to_owned()), |rewrite| rewrite.undo(path))
}

fn health_check(service: &ServiceSettings, unsaid: Option<HealthCheck>) -> Result<Option<HealthCheck>, UpstreamError> {
    let every = Duration::from_secs(service.health_check_secs.get().into());
    match service.health_check.as_deref() {
        None => Ok(unsaid.map(|check| HealthCheck { every, ..check })),
        Some("off") => Ok(None),
        Some("tcp") => Ok(Some(HealthCheck { path: None, every })),
        Some(path) if path.starts_with('/') && path.parse::<http::uri::PathAndQuery>().is_ok() => {
            Ok(Some(HealthCheck { path: Some(path.to_owned()), every }))
        }
        Some(_) => Err(UpstreamError::HealthCheck),
    }
}

/// How often a token can be used. Who pays for a size pays for one upload of it.
fn max_uses(service: &ServiceSettings, price: &Price) -> Option<u64> {
    match service.reuse {
        Some(Reuse::Times(times)) => Some(times.into()),
        Some(Reuse::UntilExpiry) => None,
        None => price.is_by_size().then_some(1),
    }
}

fn price(service: &ServiceSettings) -> Result<Price, Invalid> {
    let wrong = |problem| ConfigError::Price { service: service.name.clone(), problem }.into();
    let settings = match (service.price_sat, &service.price) {
        (Some(price_sat), None) => return Ok(Price::Flat(price_sat)),
        (None, Some(price)) => price,
        (None, None) => return Err(wrong("is missing: say price_sat or price")),
        (Some(_), Some(_)) => return Err(wrong("say price_sat or price, not both")),
    };
    match settings {
        PriceSettings {
            per_mib_sat: Some(per_mib_sat),
            minimum_sat,
            steps: None,
            url: None,
            timeout_ms: None,
            by_size: None,
            fallback: None,
        } => Ok(Price::PerMib { per_mib_sat: *per_mib_sat, minimum_sat: minimum_sat.unwrap_or(0) }),
        PriceSettings {
            per_mib_sat: None,
            minimum_sat: None,
            steps: Some(steps),
            url: None,
            timeout_ms: None,
            by_size: None,
            fallback: None,
        } => {
            let step = |step: &super::StepSettings| Step { up_to_mib: step.up_to_mib, price_sat: step.price_sat };
            Ok(Price::Steps(steps.iter().map(step).collect()))
        }
        PriceSettings {
            per_mib_sat: None,
            minimum_sat: None,
            steps: None,
            url: Some(url),
            timeout_ms,
            by_size,
            fallback,
        } => Ok(Price::External(PricerConfig {
            url: url.clone(),
            timeout: Duration::from_millis(timeout_ms.unwrap_or(PRICER_TIMEOUT_MS)),
            by_size: by_size.unwrap_or(false),
            last_as_fallback: *fallback == Some(Fallback::Last),
        })),
        _ => Err(wrong(
            "it is { per_mib_sat, minimum_sat }, { steps } or { url, timeout_ms, by_size, fallback }, not a mixture",
        )),
    }
}
