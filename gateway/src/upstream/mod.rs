//! The servers behind a service: which of them serves a request, how it is connected to, and what it sees.

mod balance;

use std::{net::SocketAddr, sync::Arc, time::Duration};

use http::{HeaderValue, Uri, header::HOST};
use pingora::{
    Error,
    ErrorType::{ConnectError, InternalError},
    OrErr, Result,
    http::RequestHeader,
    protocols::{
        l4::ext::TcpKeepalive,
        tls::{ALPN, CaType},
    },
    upstreams::peer::HttpPeer,
    utils::tls::{WrappedX509, parse_x509},
};
use tokio::{net::lookup_host, time::timeout};

use self::balance::Balancer;
use crate::{
    config::{HostPolicy, Protocol, Rewrite, UpstreamAddress, UpstreamConfig},
    request::{is_one_to_cgi, remove_headers},
};

/// How long a server may take to accept a connection.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// How long a server may take to accept the next bytes.
const WRITE_TIMEOUT: Duration = Duration::from_secs(60);

/// How long an idle connection is kept: less than the media server keeps it, so that no request is sent into one that is
/// being closed.
const IDLE_TIMEOUT: Duration = Duration::from_secs(30);

/// How many requests share a connection of HTTP/2, where the server allows it.
const MAX_H2_STREAMS: usize = 100;

/// The servers behind a service.
pub struct Upstream {
    peers: Arc<Peers>,
    /// Where there is a choice, or a check.
    balancer: Option<Balancer>,
    /// Of the configured addresses, as a `Host` header has them.
    hosts: Vec<HeaderValue>,
}

/// An address of a server that may serve a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Candidate {
    address: SocketAddr,
    /// Which of the configured addresses it is of.
    of: usize,
}

/// How servers are connected to.
struct Peers {
    config: UpstreamConfig,
    trusted: Option<Arc<CaType>>,
    /// Keeps connections that were checked in another way apart.
    group: u64,
}

impl Upstream {
    /// The servers of a service; `index` is another one each time. Must be called in a tokio runtime, which then checks them.
    pub async fn start(config: UpstreamConfig, index: usize) -> Result<Self> {
        let authorities = config.trusted.iter().map(|der| WrappedX509::new(der.to_vec(), parse_x509));
        let trusted = (!config.trusted.is_empty()).then(|| authorities.collect::<Vec<_>>().into());
        let authority = |address: &UpstreamAddress| {
            HeaderValue::try_from(address.authority(config.protocol)).or_err(InternalError, "an upstream's host")
        };
        let hosts = config.addresses.iter().map(authority).collect::<Result<_>>()?;
        let needs_balancer = config.addresses.len() > 1 || config.health_check.is_some();
        let peers = Arc::new(Peers { config, trusted, group: index as u64 + 1 });
        let balancer = if needs_balancer { Some(Balancer::start(Arc::clone(&peers)).await) } else { None };
        Ok(Self { peers, balancer, hosts })
    }

    /// The addresses to try for a request, the best first; at least one. Those that seem to be down are the last.
    pub async fn candidates(&self) -> Result<Vec<Candidate>> {
        let balanced = self.balancer.as_ref().map(Balancer::candidates).unwrap_or_default();
        if !balanced.is_empty() {
            return Ok(balanced);
        }
        let mut found = Vec::new();
        for (of, address) in self.peers.config.addresses.iter().enumerate() {
            found.extend(resolve(address).await.into_iter().map(|address| Candidate { address, of }));
        }
        if found.is_empty() {
            return Err(Error::explain(ConnectError, "the upstream's name has no address").into_up());
        }
        Ok(found)
    }

    /// How `candidate` is connected to. An upgrade (to WebSocket) is HTTP/1.1's.
    pub fn peer(&self, candidate: Candidate, is_upgrade: bool) -> HttpPeer {
        let mut peer = self.peers.peer(candidate);
        if is_upgrade && self.peers.config.protocol == Protocol::Tls {
            peer.options.alpn = ALPN::H1;
        }
        peer
    }

    /// Makes a request what `candidate` sees, with its path rewritten.
    pub fn adapt(&self, request: &mut RequestHeader, candidate: Candidate, rewrite: Option<&Rewrite>) -> Result<()> {
        let config = &self.peers.config;
        let path = rewrite.and_then(|rewrite| rewrite.apply(request.uri.path()));
        if let Some(path) = path {
            let target = request.uri.query().map_or_else(|| path.clone(), |query| format!("{path}?{query}"));
            request.set_uri(target.parse::<Uri>().or_err(InternalError, "a rewritten path")?);
        }
        let host = match &config.host {
            // HTTP/1.0 need not have one, and what goes on must.
            HostPolicy::Client if request.headers.contains_key(HOST) => None,
            HostPolicy::Client | HostPolicy::Upstream => self.hosts.get(candidate.of),
            HostPolicy::Fixed(host) => Some(host),
        };
        if let Some(host) = host {
            request.insert_header(HOST, host.clone())?;
        }
        for (name, value) in &config.headers {
            remove_headers(request, |other| is_one_to_cgi(name.as_str(), other));
            request.insert_header(name.clone(), value.clone())?;
        }
        Ok(())
    }
}

impl Peers {
    fn peer(&self, candidate: Candidate) -> HttpPeer {
        let config = &self.config;
        let is_tls = config.protocol == Protocol::Tls;
        // Never empty: pingora checks no certificate then.
        let name = if is_tls { config.server_name(&config.addresses[candidate.of].host) } else { "" };
        let mut peer = HttpPeer::new(candidate.address, is_tls, name.to_owned());
        peer.group_key = self.group;
        let options = &mut peer.options;
        options.alpn = match config.protocol {
            Protocol::Http1 => ALPN::H1,
            Protocol::H2c => ALPN::H2,
            Protocol::Tls => ALPN::H2H1,
        };
        if config.protocol != Protocol::Http1 {
            options.max_h2_streams = MAX_H2_STREAMS;
        }
        options.ca.clone_from(&self.trusted);
        options.connection_timeout = Some(CONNECT_TIMEOUT);
        options.total_connection_timeout = Some(CONNECT_TIMEOUT);
        options.write_timeout = Some(WRITE_TIMEOUT);
        options.idle_timeout = Some(IDLE_TIMEOUT);
        // No read timeout: the answer to an upload of hours comes after hours. A dead peer is found by keep-alive.
        options.tcp_keepalive = Some(TcpKeepalive {
            idle: Duration::from_secs(30),
            interval: Duration::from_secs(10),
            count: 3,
            #[cfg(target_os = "linux")]
            user_timeout: Duration::ZERO,
        });
        peer
    }
}

/// The addresses of a server; none if its name has none now.
async fn resolve(address: &UpstreamAddress) -> Vec<SocketAddr> {
    if let Ok(ip) = address.host.parse() {
        return vec![SocketAddr::new(ip, address.port)];
    }
    let found = timeout(CONNECT_TIMEOUT, lookup_host((address.host.as_str(), address.port))).await;
    found.ok().and_then(Result::ok).into_iter().flatten().collect()
}

#[cfg(test)]
mod tests {
    use sluice_common::secret::Secret;

    use super::*;

    #[tokio::test]
    async fn a_request_becomes_what_the_server_is_to_see() {
        let mut config = UpstreamConfig::new(&["127.0.0.1:1", "127.0.0.1:2"]).unwrap();
        config.host = HostPolicy::Upstream;
        config.set_header("X-Api-Key", &Secret::new("hunter2".to_owned())).unwrap();
        let upstream = Upstream::start(config, 0).await.unwrap();
        let second = Candidate { address: "127.0.0.1:2".parse().unwrap(), of: 1 };
        let mut request = RequestHeader::build("GET", b"/api/x?y=/api/z", None).unwrap();
        request.append_header("host", "client.example").unwrap();
        request.append_header("x-api-key", "the client's").unwrap();
        request.append_header("x-api-key", "another").unwrap();
        request.append_header("X_Api_Key", "the client's").unwrap();
        request.append_header("x-api_key", "the client's").unwrap();
        let rewrite = Rewrite::new("/api", "/v2").unwrap();
        upstream.adapt(&mut request, second, Some(&rewrite)).unwrap();
        assert_eq!(request.raw_path(), b"/v2/x?y=/api/z");
        let all: Vec<_> =
            request.headers.iter().map(|(name, value)| (name.as_str(), value.to_str().unwrap())).collect();
        assert_eq!(all, [("host", "127.0.0.1:2"), ("x-api-key", "hunter2")]);
        assert!(!format!("{request:?}").contains("hunter2"));
    }

    #[tokio::test]
    async fn certificates_are_always_checked_against_a_name() {
        let upstream = Upstream::start(UpstreamConfig::new(&["https://127.0.0.1:1"]).unwrap(), 3).await.unwrap();
        let [candidate] = upstream.candidates().await.unwrap()[..] else { panic!("one address") };
        let peer = upstream.peer(candidate, false);
        assert_eq!(
            (peer.sni.as_str(), peer.options.verify_cert, peer.options.verify_hostname),
            ("127.0.0.1", true, true)
        );
        assert_eq!((peer.group_key, &peer.options.alpn), (4, &ALPN::H2H1));
        assert_eq!(upstream.peer(candidate, true).options.alpn, ALPN::H1);
    }
}
