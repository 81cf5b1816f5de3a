//! Services as the gateway takes them, and their terms as the backend takes them.

use std::time::Duration;

use http::Method;
use sluice_common::l402::ServiceTerms;
use sluice_gateway::config::{ConfigError, Protected, ServiceConfig, check_sales};

use super::{Invalid, ServiceSettings, Settings};

/// All satoshis that will ever be.
const MAX_PRICE_SAT: u64 = 2_100_000_000_000_000;

/// What the media server sells: whoever protects this.
const PAID_UPLOAD: (Method, &str) = (Method::POST, "/largefile");

impl Settings {
    /// What is sold, checked.
    pub fn services(&self) -> Result<Vec<ServiceConfig>, Invalid> {
        let services = self.services.iter().map(|service| self.service(service)).collect::<Result<Vec<_>, _>>()?;
        check_sales(&services, self.invoice_expiry())?;
        if let Some(service) = services.iter().find(|service| service.price_sat.get() > MAX_PRICE_SAT) {
            return Err(Invalid::Price(service.terms.name.clone()));
        }
        Ok(services)
    }

    /// What the media server's tokens are checked against.
    pub fn media_terms(&self) -> Result<ServiceTerms, Invalid> {
        let paid_upload =
            |protected: &Protected| (&protected.method, protected.path.as_str()) == (&PAID_UPLOAD.0, PAID_UPLOAD.1);
        let mut services = self.services()?.into_iter();
        let media = services.find(|service| service.protect.iter().any(paid_upload));
        media.map(|service| service.terms).ok_or(Invalid::NoPaidUpload)
    }

    /// How long an invoice can be paid.
    pub fn invoice_expiry(&self) -> Duration {
        Duration::from_secs(self.lightning.invoice_expiry_secs.get())
    }

    fn service(&self, service: &ServiceSettings) -> Result<ServiceConfig, ConfigError> {
        Ok(ServiceConfig {
            terms: ServiceTerms {
                capabilities: service.capabilities.clone(),
                max_upload_mb: service.max_upload_mb.get(),
                max_uses: service.max_uses.map(Into::into),
                valid_for_secs: Some(service.valid_for_secs.get()),
                constraints: service.constraints.clone().into_iter().collect(),
                unknown_caveats: self.l402.unknown_caveats,
                ..ServiceTerms::named(&service.name)
            },
            protect: service.protect.iter().map(|request| request.parse()).collect::<Result<_, _>>()?,
            upstream: self.upstream(service),
            price_sat: service.price_sat,
            forward_credential: service.forward_credential,
        })
    }
}
