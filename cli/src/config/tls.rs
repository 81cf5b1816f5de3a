//! How clients come by TLS.

use std::sync::Arc;

use sluice_gateway::{
    config::TlsConfig,
    tls::{CertificateError, ServerCertificate},
};

use super::{GatewaySettings, Invalid};

impl GatewaySettings {
    /// Where clients come by TLS, with the certificate, which is read here; none: nowhere.
    pub fn tls(&self) -> Result<Option<TlsConfig>, CertificateError> {
        let (Some(listen), Some(certificate), Some(key)) = (self.tls_listen, &self.tls_certificate, &self.tls_key)
        else {
            return Ok(None);
        };
        let certificate = Arc::new(ServerCertificate::load(certificate, key)?);
        Ok(Some(TlsConfig { listen, certificate }))
    }

    /// Whether all that TLS needs is said, or nothing of it.
    pub(super) fn check_tls(&self) -> Result<(), Invalid> {
        match (self.tls_listen, &self.tls_certificate, &self.tls_key) {
            (Some(listen), Some(_), Some(_)) if listen.port() == 0 => Err(Invalid::NoPort("tls_listen")),
            (Some(_), Some(_), Some(_)) => Ok(()),
            (None, None, None) if self.https_port.is_some() => Err(Invalid::HttpsPort),
            (None, None, None) => Ok(()),
            _ => Err(Invalid::Tls),
        }
    }
}
