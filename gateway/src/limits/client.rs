//! Where a client is: its address, its network, and what the servers behind are told of it.

#[cfg(test)]
mod tests;

use std::{
    fmt::Write,
    net::{IpAddr, SocketAddr},
};

use http::{
    HeaderMap, HeaderName, HeaderValue,
    header::{FORWARDED, HOST},
};
use pingora::{Result, http::RequestHeader};
use serde::{Deserialize, Serialize};
use sluice_common::client_network::ClientNetwork;

use super::Cidr;
use crate::request::{is_one_to_cgi, remove_headers};

const X_FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
const X_FORWARDED_PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");
const X_FORWARDED_HOST: HeaderName = HeaderName::from_static("x-forwarded-host");

/// Headers in which some proxies say where a client is, beside those that begin with `x-forwarded-`.
const OTHER_ADDRESSES: [&str; 7] = [
    "forwarded",
    "x-real-ip",
    "x-client-ip",
    "x-cluster-client-ip",
    "true-client-ip",
    "cf-connecting-ip",
    "fastly-client-ip",
];

/// The proxies in front of the gateway, which say where a client is.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct TrustedProxies {
    /// Where they are.
    pub networks: Vec<Cidr>,
    /// Where they say it.
    pub header: TrustedHeader,
}

/// The header in which a trusted proxy says where a client is. The other one is never believed: a proxy that does not
/// write it passes on what a client wrote.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum TrustedHeader {
    /// `X-Forwarded-For`
    #[default]
    XForwardedFor,
    /// `Forwarded` (RFC 7239)
    Forwarded,
}

/// Where a request comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Client {
    address: IpAddr,
    /// The proxies that it came through, the last one is connected to us.
    via: Vec<IpAddr>,
    /// Whether the connection is a trusted proxy's.
    by_proxy: bool,
    over_tls: bool,
}

impl TrustedProxies {
    /// Where a request comes from whose connection is from `peer`: the last address that a trusted proxy says and that
    /// is not one itself. What is no address ends it: what stands before was written by nobody who is trusted.
    pub fn client(&self, peer: IpAddr, headers: &HeaderMap, over_tls: bool) -> Client {
        let peer = peer.to_canonical();
        let by_proxy = self.contains(peer);
        let mut client = Client { address: peer, via: Vec::new(), by_proxy, over_tls };
        if !by_proxy {
            return client;
        }
        let (name, read): (_, fn(&str) -> Option<IpAddr>) = match self.header {
            TrustedHeader::XForwardedFor => (X_FORWARDED_FOR, node),
            TrustedHeader::Forwarded => (FORWARDED, forwarded_for),
        };
        let lines: Vec<_> = headers.get_all(name).iter().collect();
        let hops = lines.iter().rev().flat_map(|line| line.to_str().unwrap_or_default().rsplit(','));
        for address in hops.map_while(read) {
            client.via.insert(0, client.address);
            client.address = address.to_canonical();
            if !self.contains(client.address) {
                break;
            }
        }
        client
    }

    /// Whether one of them is at `address`.
    pub(crate) fn contains(&self, address: IpAddr) -> bool {
        self.networks.iter().any(|network| network.contains(address))
    }
}

impl Client {
    /// Its address. An IPv4 address is one, also where it came as an IPv6 one.
    pub fn address(&self) -> IpAddr {
        self.address
    }

    /// Whether the connection is of this machine, or of a trusted proxy.
    pub(crate) fn is_trusted(&self) -> bool {
        self.by_proxy || self.address.is_loopback()
    }

    /// Whether its request came over TLS, here or at a trusted proxy that says so in `X-Forwarded-Proto`.
    pub(crate) fn is_over_tls(&self, headers: &HeaderMap) -> bool {
        self.over_tls || (self.by_proxy && headers.get(X_FORWARDED_PROTO).is_some_and(|proto| proto == "https"))
    }

    /// Its network.
    pub fn network(&self) -> ClientNetwork {
        ClientNetwork::of(self.address)
    }

    /// Says in a request to a server behind where the client is, and takes from it what only the client claims.
    pub(crate) fn tell(&self, request: &mut RequestHeader) -> Result<()> {
        let told = |name: HeaderName| request.headers.get(name).filter(|_| self.by_proxy).cloned();
        let proto = told(X_FORWARDED_PROTO).filter(|proto| ["http", "https"].contains(&proto.to_str().unwrap_or("")));
        let host = told(X_FORWARDED_HOST).or_else(|| request.headers.get(HOST).cloned());
        remove_headers(request, |name| claims_address(name, self.by_proxy));
        request.insert_header(X_FORWARDED_FOR, self.chain())?;
        let own = HeaderValue::from_static(if self.over_tls { "https" } else { "http" });
        request.insert_header(X_FORWARDED_PROTO, proto.unwrap_or(own))?;
        if let Some(host) = host {
            request.insert_header(X_FORWARDED_HOST, host)?;
        }
        Ok(())
    }

    /// The client and the proxies, as `X-Forwarded-For` has them.
    fn chain(&self) -> String {
        let mut chain = self.address.to_string();
        for proxy in &self.via {
            // A text takes whatever is written to it.
            let _ = write!(chain, ", {proxy}");
        }
        chain
    }
}

/// Whether a header is one of those that say where a client is. Of a trusted proxy's, those stay that say something else
/// (the port, the prefix of the path). A server behind may read `_` as `-`, as CGI does.
fn claims_address(name: &str, by_proxy: bool) -> bool {
    const PREFIX: &str = "x-forwarded-";
    let is = |other: &str| is_one_to_cgi(name, other);
    OTHER_ADDRESSES.iter().any(|other| is(other))
        || [&X_FORWARDED_FOR, &X_FORWARDED_PROTO, &X_FORWARDED_HOST].iter().any(|other| is(other.as_str()))
        || (!by_proxy && name.get(..PREFIX.len()).is_some_and(|begin| is_one_to_cgi(begin, PREFIX)))
}

/// An address as proxies write it, perhaps with a port.
fn node(text: &str) -> Option<IpAddr> {
    let text = text.trim();
    let bracketed = || text.strip_prefix('[')?.strip_suffix(']')?.parse().ok();
    let with_port = || text.parse().ok().map(|address: SocketAddr| address.ip());
    text.parse().ok().or_else(bracketed).or_else(with_port)
}

/// The address in an element of `Forwarded`: `for=192.0.2.1;proto=https`, `for="[2001:db8::1]:4711"`.
fn forwarded_for(element: &str) -> Option<IpAddr> {
    let pairs = element.split(';').filter_map(|pair| pair.trim().split_once('='));
    let value = pairs.filter(|(name, _)| name.eq_ignore_ascii_case("for")).map(|(_, value)| value).next()?;
    node(value.strip_prefix('"').and_then(|value| value.strip_suffix('"')).unwrap_or(value))
}
