//! The servers behind a service, and what is changed in a request on its way there.

use std::{str::FromStr, time::Duration};

use http::{
    HeaderName, HeaderValue,
    header::{CONNECTION, CONTENT_LENGTH, HOST, TE, TRAILER, TRANSFER_ENCODING, UPGRADE},
};
use rustls::pki_types::{CertificateDer, ServerName, pem::PemObject};
use sluice_common::secret::Secret;

/// The servers behind a service: any of them serves any request.
#[derive(Debug, Clone)]
pub struct UpstreamConfig {
    /// Where they are; at least one.
    pub addresses: Vec<UpstreamAddress>,
    /// What all of them speak.
    pub protocol: Protocol,
    /// Certificates of the authorities that are trusted for them; empty: those of the system.
    pub trusted: Vec<CertificateDer<'static>>,
    /// The name that their certificates must have; none: that of the address.
    pub server_name: Option<String>,
    /// Which `Host` they see.
    pub host: HostPolicy,
    /// Headers that they see, in the place of the client's of the same names. Secret.
    pub headers: Vec<(HeaderName, HeaderValue)>,
    /// How it is found out which of them serve; none: all are taken to.
    pub health_check: Option<HealthCheck>,
}

/// A server.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct UpstreamAddress {
    /// A name or an IP address; IPv6 without brackets.
    pub host: String,
    /// The port.
    pub port: u16,
}

/// What a server speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Protocol {
    /// HTTP/1.1, written `http://`, or nothing.
    Http1,
    /// HTTP/2 without TLS, written `h2c://`.
    H2c,
    /// TLS, with HTTP/2 or HTTP/1.1 as they agree, written `https://`.
    Tls,
}

/// Which `Host` a server sees.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum HostPolicy {
    /// The one that the client sent.
    #[default]
    Client,
    /// The server's address as configured.
    Upstream,
    /// This one.
    Fixed(HeaderValue),
}

/// What is put in the place of the begin of a path. Only whole segments: `/api` is the begin of `/api/x`, not of `/apix`.
/// No two paths become the same one: what costs would be free under the other. So where `/api` becomes `/`, it is the path of
/// `/api/`, and `/api` itself has none.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rewrite {
    from: String,
    to: String,
}

/// How it is found out whether a server serves.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HealthCheck {
    /// What is asked of it with GET, which must answer 2xx; none: it must take a connection, TLS included.
    pub path: Option<String>,
    /// How often.
    pub every: Duration,
}

/// Why servers cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum UpstreamError {
    /// None.
    #[error("upstream is empty")]
    Empty,
    /// Not an address.
    #[error("upstream must be HOST:PORT, http://HOST[:PORT], h2c://HOST:PORT or https://HOST[:PORT], without a path")]
    Address,
    /// Not all the same.
    #[error("all upstreams of a service must speak the same protocol")]
    Protocols,
    /// Only for TLS.
    #[error("{0} is for https:// upstreams")]
    NotTls(&'static str),
    /// Not a name that a certificate can have.
    #[error("upstream_sni is no host name")]
    ServerName,
    /// No certificate.
    #[error("upstream_ca holds no certificate in PEM")]
    Authority,
    /// Not a host.
    #[error("upstream_host must be \"client\", \"upstream\" or a host name")]
    Host,
    /// Not two paths.
    #[error("rewrite must be {{ from = \"/PATH\", to = \"/PATH\" }}, both normalised and without a query")]
    Rewrite,
    /// A header that is not for a configuration to set.
    #[error("headers: `{0}` cannot be set")]
    HeaderName(String),
    /// A value that cannot be in a header.
    #[error("headers: the value of `{0}` has characters that a header cannot have")]
    HeaderValue(String),
    /// Not a check.
    #[error("health_check must be \"off\", \"tcp\" or a /PATH")]
    HealthCheck,
    /// Too often.
    #[error("health_check_secs must be from 1 to 3600")]
    HealthCheckEvery,
}

impl UpstreamConfig {
    /// The servers at these addresses, each as [`UpstreamError::Address`] says. Several are checked for taking
    /// connections.
    pub fn new<S: AsRef<str>>(addresses: &[S]) -> Result<Self, UpstreamError> {
        let parsed = addresses.iter().map(|text| address(text.as_ref())).collect::<Result<Vec<_>, _>>()?;
        let (protocol, _) = parsed.first().ok_or(UpstreamError::Empty)?;
        let protocol = *protocol;
        if parsed.iter().any(|(other, _)| *other != protocol) {
            return Err(UpstreamError::Protocols);
        }
        let health_check = (parsed.len() > 1).then(HealthCheck::default);
        let addresses = parsed.into_iter().map(|(_, address)| address).collect();
        Ok(Self {
            addresses,
            protocol,
            trusted: Vec::new(),
            server_name: None,
            host: HostPolicy::Client,
            headers: Vec::new(),
            health_check,
        })
    }

    /// Trusts the authorities in this PEM text and no others.
    pub fn trust(&mut self, pem: &[u8]) -> Result<(), UpstreamError> {
        let certificates: Vec<_> =
            CertificateDer::pem_slice_iter(pem).collect::<Result<_, _>>().map_err(|_| UpstreamError::Authority)?;
        let mut roots = rustls::RootCertStore::empty();
        let are_authorities = certificates.iter().all(|certificate| roots.add(certificate.clone()).is_ok());
        if certificates.is_empty() || !are_authorities {
            return Err(UpstreamError::Authority);
        }
        self.trusted = certificates;
        Ok(())
    }

    /// Sets a header, whose value is a secret.
    pub fn set_header(&mut self, name: &str, value: &Secret<String>) -> Result<(), UpstreamError> {
        let ours = [CONNECTION, CONTENT_LENGTH, HOST, TE, TRAILER, TRANSFER_ENCODING, UPGRADE];
        let settable =
            |name: &HeaderName| !ours.contains(name) && !name.as_str().starts_with(crate::request::OWN_HEADERS);
        let parsed: Option<HeaderName> = name.parse().ok();
        let parsed = parsed.filter(settable).ok_or_else(|| UpstreamError::HeaderName(name.to_owned()))?;
        let mut value: HeaderValue = value.expose().parse().map_err(|_| UpstreamError::HeaderValue(name.to_owned()))?;
        value.set_sensitive(true);
        self.headers.push((parsed, value));
        Ok(())
    }

    /// Whether all of it can be used together.
    pub fn check(&self) -> Result<(), UpstreamError> {
        if self.protocol == Protocol::Tls {
            // Without a name pingora would check no certificate.
            let names = self.addresses.iter().map(|address| self.server_name(&address.host));
            for name in names {
                ServerName::try_from(name).map_err(|_| UpstreamError::ServerName)?;
            }
        } else if self.server_name.is_some() {
            return Err(UpstreamError::NotTls("upstream_sni"));
        } else if !self.trusted.is_empty() {
            return Err(UpstreamError::NotTls("upstream_ca"));
        }
        let every = self.health_check.as_ref().map(|check| check.every.as_secs());
        if every.is_some_and(|secs| !(1..=3_600).contains(&secs)) {
            return Err(UpstreamError::HealthCheckEvery);
        }
        Ok(())
    }

    /// The name that the certificate of a server at `host` must have.
    pub fn server_name<'a>(&'a self, host: &'a str) -> &'a str {
        self.server_name.as_deref().unwrap_or(host)
    }
}

impl UpstreamAddress {
    /// As a `Host` header has it: without the port where that is the protocol's own.
    pub fn authority(&self, protocol: Protocol) -> String {
        let host = if self.host.contains(':') { format!("[{}]", self.host) } else { self.host.clone() };
        if Some(self.port) == protocol.default_port() { host } else { format!("{host}:{}", self.port) }
    }
}

impl Protocol {
    fn default_port(self) -> Option<u16> {
        match self {
            Self::Http1 => Some(80),
            Self::H2c => None,
            Self::Tls => Some(443),
        }
    }
}

fn address(text: &str) -> Result<(Protocol, UpstreamAddress), UpstreamError> {
    let (protocol, rest, default_port) = match text.split_once("://") {
        None => (Protocol::Http1, text, None),
        Some(("http", rest)) => (Protocol::Http1, rest, Some(80)),
        Some(("h2c", rest)) => (Protocol::H2c, rest, None),
        Some(("https", rest)) => (Protocol::Tls, rest, Some(443)),
        Some(_) => return Err(UpstreamError::Address),
    };
    let is_bare = rest.ends_with(']') || !rest.contains(':');
    let (host, port) = match rest.rsplit_once(':') {
        Some((host, port)) if !is_bare => (host, port.parse().ok()),
        _ => (rest, default_port),
    };
    let bracketed = host.strip_prefix('[').and_then(|host| host.strip_suffix(']'));
    let is_host = match bracketed {
        Some(address) => address.parse::<std::net::Ipv6Addr>().is_ok(),
        None => !host.is_empty() && host.bytes().all(|b| b.is_ascii_alphanumeric() || b"-._".contains(&b)),
    };
    let port = port.filter(|_| is_host).ok_or(UpstreamError::Address)?;
    Ok((protocol, UpstreamAddress { host: bracketed.unwrap_or(host).to_owned(), port }))
}

impl FromStr for HostPolicy {
    type Err = UpstreamError;

    fn from_str(text: &str) -> Result<Self, UpstreamError> {
        match text {
            "client" => Ok(Self::Client),
            "upstream" => Ok(Self::Upstream),
            _ => {
                text.parse::<http::uri::Authority>()
                    .ok()
                    .filter(|host| !host.as_str().contains('@'))
                    .ok_or(UpstreamError::Host)?;
                text.parse().map(Self::Fixed).map_err(|_| UpstreamError::Host)
            }
        }
    }
}

impl Rewrite {
    /// Puts `to` in the place of `from`, both normalised paths.
    pub fn new(from: &str, to: &str) -> Result<Self, UpstreamError> {
        let is_normal = |path: &str| crate::path::normalise(path).is_ok_and(|normal| normal == path);
        if !is_normal(from) || !is_normal(to) {
            return Err(UpstreamError::Rewrite);
        }
        let without_slash = |path: &str| path.strip_suffix('/').unwrap_or(path).to_owned();
        Ok(Self { from: without_slash(from), to: without_slash(to) })
    }

    /// What the path begins with, without a `/` at its end.
    pub(super) fn from(&self) -> &str {
        &self.from
    }

    /// The path that a server sees; none: it is not among those that are rewritten.
    pub fn apply(&self, path: &str) -> Option<String> {
        Self::replace(path, &self.from, &self.to)
            .filter(|new| Self::replace(new, &self.to, &self.from).as_deref() == Some(path))
    }

    /// The path of which a server sees `path`; none: there is none.
    pub fn undo(&self, path: &str) -> Option<String> {
        Self::replace(path, &self.to, &self.from)
            .filter(|before| Self::replace(before, &self.from, &self.to).as_deref() == Some(path))
    }

    fn replace(path: &str, from: &str, to: &str) -> Option<String> {
        let rest = path.strip_prefix(from).filter(|rest| rest.is_empty() || rest.starts_with('/'))?;
        let new = format!("{to}{rest}");
        Some(if new.is_empty() { "/".to_owned() } else { new })
    }
}

impl Default for HealthCheck {
    fn default() -> Self {
        Self { path: None, every: Duration::from_secs(5) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_say_where_and_how() {
        let at = |host: &str, port| UpstreamAddress { host: host.into(), port };
        for (text, protocol, address, authority) in [
            ("backend:8083", Protocol::Http1, at("backend", 8083), "backend:8083"),
            ("127.0.0.1:1", Protocol::Http1, at("127.0.0.1", 1), "127.0.0.1:1"),
            ("[::1]:1", Protocol::Http1, at("::1", 1), "[::1]:1"),
            ("http://a.example", Protocol::Http1, at("a.example", 80), "a.example"),
            ("h2c://a:50051", Protocol::H2c, at("a", 50051), "a:50051"),
            ("https://[::1]", Protocol::Tls, at("::1", 443), "[::1]"),
            ("https://a:8443", Protocol::Tls, at("a", 8443), "a:8443"),
        ] {
            let config = UpstreamConfig::new(&[text]).unwrap();
            assert_eq!((config.protocol, &config.addresses[0]), (protocol, &address), "{text}");
            assert_eq!(address.authority(protocol), authority);
            assert_eq!((config.check(), config.health_check), (Ok(()), None));
        }
        for text in
            ["backend", ":80", "[::1]", "h2c://a", "ftp://a:1", "http://a/b", "a:99999", "a b:1", "::1:80", "u@a:1"]
        {
            assert_eq!(UpstreamConfig::new(&[text]).err(), Some(UpstreamError::Address), "{text}");
        }
        assert_eq!(UpstreamConfig::new::<&str>(&[]).err(), Some(UpstreamError::Empty));
        assert_eq!(UpstreamConfig::new(&["a:1", "https://a"]).err(), Some(UpstreamError::Protocols));
        assert!(UpstreamConfig::new(&["a:1", "b:1"]).unwrap().health_check.is_some(), "several are checked");
    }

    #[test]
    fn what_is_only_for_tls_is_refused_without() {
        let changed = |address: &str, change: fn(&mut UpstreamConfig)| {
            let mut config = UpstreamConfig::new(&[address]).unwrap();
            change(&mut config);
            config.check()
        };
        let named = |config: &mut UpstreamConfig| config.server_name = Some("a.example".into());
        assert_eq!(changed("https://127.0.0.1", named), Ok(()));
        assert_eq!(changed("127.0.0.1:1", named), Err(UpstreamError::NotTls("upstream_sni")));
        assert_eq!(changed("https://a", |c| c.server_name = Some(String::new())), Err(UpstreamError::ServerName));
        assert_eq!(UpstreamConfig::new(&["https://a"]).unwrap().trust(b"nothing"), Err(UpstreamError::Authority));
    }

    #[test]
    fn headers_are_secret_and_not_those_of_the_framing() {
        let mut config = UpstreamConfig::new(&["a:1"]).unwrap();
        let secret = Secret::new("hunter2".to_owned());
        config.set_header("X-Api-Key", &secret).unwrap();
        assert!(!format!("{config:?}").contains("hunter2"));
        for name in ["Host", "content-length", "transfer-encoding", "sluice-permit", "a b", ""] {
            assert_eq!(config.set_header(name, &secret), Err(UpstreamError::HeaderName(name.to_owned())));
        }
        let broken = config.set_header("a", &Secret::new("hunter2\n".to_owned())).unwrap_err();
        assert_eq!(broken, UpstreamError::HeaderValue("a".to_owned()));
    }

    #[test]
    fn only_whole_segments_are_rewritten() {
        let rewritten = |from: &str, to: &str, path: &str| {
            let rewrite = Rewrite::new(from, to).unwrap();
            let new = rewrite.apply(path);
            if let Some(new) = &new {
                assert_eq!(rewrite.undo(new).as_deref(), Some(path));
            }
            new
        };
        for (from, to, path, new) in [
            ("/api", "/", "/api/x", Some("/x")),
            ("/api/", "/", "/api", None),
            ("/api/", "/", "/api/", Some("/")),
            ("/api", "/v2", "/api", Some("/v2")),
            ("/api", "/v2/", "/api/x/", Some("/v2/x/")),
            ("/", "/v2", "/x", Some("/v2/x")),
            ("/", "/v2", "/", Some("/v2/")),
            ("/api", "/", "/apix", None),
            ("/api", "/", "/x", None),
        ] {
            assert_eq!(rewritten(from, to, path).as_deref(), new, "{from} {to} {path}");
        }
        for (from, to) in [("api", "/"), ("/a/../b", "/"), ("/", ""), ("/a?b", "/")] {
            assert_eq!(Rewrite::new(from, to), Err(UpstreamError::Rewrite));
        }
    }
}
