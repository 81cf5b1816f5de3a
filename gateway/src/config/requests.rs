//! Which requests a service takes, and which of them cost.

use std::{fmt, str::FromStr};

use http::Method;

use super::{ConfigError, Rewrite};
use crate::path;

/// Which requests are a service's.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Scope {
    /// The hosts; empty: any.
    pub hosts: Vec<HostPattern>,
    /// The paths; empty: any.
    pub paths: Vec<PathPattern>,
    /// The methods; empty: any. `GET` stands for `HEAD`, too.
    pub methods: Vec<Method>,
    /// What all of its paths begin with, and what the server behind sees in the place of it; none: they begin as they like,
    /// and it sees them as they are. Another path is not the service's: it would reach the server under the name of one that
    /// costs. Whoever forwards the request rewrites it.
    pub rewrite: Option<Rewrite>,
}

/// A host without its port, written `example.com`, or all hosts below one, written `*.example.com`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HostPattern {
    /// In lower case.
    name: String,
    is_below: bool,
}

/// A normalised path, or, with `*` at its end, all that begin as it does.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum PathPattern {
    /// This path.
    Exact(String),
    /// All paths that begin so.
    Prefix(String),
}

/// Requests, written `METHOD /path`, or `/path` for every method. `GET` stands for `HEAD`, too.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct RequestPattern {
    /// The method; none: any.
    pub method: Option<Method>,
    /// The path.
    pub path: PathPattern,
}

/// Which requests of a service cost.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Access {
    /// What tells them apart.
    pub rule: Rule,
    /// What needs a token and is never sold one: 401 in the place of 402. Goes before the rule.
    pub auth_only: Vec<RequestPattern>,
}

/// What tells requests that cost from those that do not.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Rule {
    /// These cost, all else is free.
    Protect(Vec<RequestPattern>),
    /// These are free, all else costs.
    Free(Vec<RequestPattern>),
}

/// What a request costs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cost {
    /// Nothing.
    Free,
    /// Nothing, but it asks for the price of what another method of its path costs. Only of a path that is named in full:
    /// among those of a prefix it is more likely to want what stands there.
    Question,
    /// A token, which is sold to who has none.
    Token,
    /// A token, which is not sold here.
    TokenUnsold,
}

impl Scope {
    /// Whether a request to `host`, perhaps with a port, and the normalised `path` is the service's.
    pub fn covers(&self, method: &Method, host: &str, path: &str) -> bool {
        let none_or = |is_empty: bool, any: bool| is_empty || any;
        none_or(self.methods.is_empty(), self.methods.iter().any(|one| stands_for(one, method)))
            && none_or(self.hosts.is_empty(), self.hosts.iter().any(|one| one.covers(host)))
            && none_or(self.paths.is_empty(), self.paths.iter().any(|one| one.covers(path)))
            && self.rewrite.as_ref().is_none_or(|rewrite| rewrite.apply(path).is_some())
    }
}

impl HostPattern {
    /// Whether it is this host, perhaps with a port.
    pub fn covers(&self, host: &str) -> bool {
        let host = without_port(host);
        let host = host.strip_suffix('.').unwrap_or(host);
        if !self.is_below {
            return host.eq_ignore_ascii_case(&self.name);
        }
        let at = host.len().checked_sub(self.name.len()).filter(|at| *at > 1);
        at.and_then(|at| Some((host.get(..at)?, host.get(at..)?)))
            .is_some_and(|(below, name)| below.ends_with('.') && name.eq_ignore_ascii_case(&self.name))
    }
}

/// As it is read.
impl fmt::Display for HostPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.is_below { write!(f, "*.{}", self.name) } else { f.write_str(&self.name) }
    }
}

/// As it is read.
impl fmt::Display for PathPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Exact(path) => f.write_str(path),
            Self::Prefix(prefix) => write!(f, "{prefix}*"),
        }
    }
}

/// As it is read.
impl fmt::Display for RequestPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.method.as_ref().map_or(Ok(()), |method| write!(f, "{method} "))?;
        self.path.fmt(f)
    }
}

impl PathPattern {
    /// Whether a normalised path is this one.
    fn is(&self, path: &str) -> bool {
        matches!(self, Self::Exact(exact) if exact == path)
    }

    /// Whether any of these begins with what `rewrite` takes the place of.
    pub(super) fn has_any_of(&self, rewrite: &Rewrite) -> bool {
        match self {
            Self::Exact(path) => rewrite.apply(path).is_some(),
            Self::Prefix(prefix) => rewrite.apply(prefix).is_some() || rewrite.from().starts_with(prefix.as_str()),
        }
    }

    /// Whether a normalised path is one of these.
    pub fn covers(&self, path: &str) -> bool {
        match self {
            Self::Exact(exact) => exact == path,
            Self::Prefix(prefix) => path.starts_with(prefix.as_str()),
        }
    }
}

impl RequestPattern {
    /// Whether a request is one of these.
    pub fn covers(&self, method: &Method, path: &str) -> bool {
        self.method.as_ref().is_none_or(|one| stands_for(one, method)) && self.path.covers(path)
    }
}

impl Access {
    /// These cost, all else is free.
    pub fn protect(requests: Vec<RequestPattern>) -> Self {
        Self { rule: Rule::Protect(requests), auth_only: Vec::new() }
    }

    /// What a request to the normalised `path` costs.
    pub fn cost(&self, method: &Method, path: &str) -> Cost {
        let is_one_of = |requests: &[RequestPattern]| requests.iter().any(|one| one.covers(method, path));
        if is_one_of(&self.auth_only) {
            return Cost::TokenUnsold;
        }
        match &self.rule {
            Rule::Free(free) if is_one_of(free) => Cost::Free,
            Rule::Free(_) => Cost::Token,
            Rule::Protect(protected) if is_one_of(protected) => Cost::Token,
            Rule::Protect(protected) => {
                let asks = [Method::GET, Method::HEAD].contains(method);
                let is_protected = asks && protected.iter().any(|one| one.path.is(path));
                if is_protected { Cost::Question } else { Cost::Free }
            }
        }
    }
}

/// Whether a configured method means that of a request.
fn stands_for(one: &Method, method: &Method) -> bool {
    one == method || (one == Method::GET && method == Method::HEAD)
}

/// A host as a `Host` header has it, without its port; an IPv6 address keeps its brackets.
fn without_port(host: &str) -> &str {
    match host.rsplit_once(':') {
        Some((name, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) => name,
        _ => host,
    }
}

impl FromStr for HostPattern {
    type Err = ConfigError;

    fn from_str(text: &str) -> Result<Self, ConfigError> {
        let (name, is_below) = text.strip_prefix("*.").map_or((text, false), |name| (name, true));
        let is_host = |b: u8| b.is_ascii_alphanumeric() || b"-._[]:".contains(&b);
        if name.is_empty() || !name.bytes().all(is_host) || without_port(name) != name || name.ends_with('.') {
            return Err(ConfigError::Host(text.to_owned()));
        }
        Ok(Self { name: name.to_ascii_lowercase(), is_below })
    }
}

impl FromStr for PathPattern {
    type Err = ConfigError;

    fn from_str(text: &str) -> Result<Self, ConfigError> {
        let error = || ConfigError::Path(text.to_owned());
        let (path, is_prefix) = text.strip_suffix('*').map_or((text, false), |path| (path, true));
        let normal = path::normalise(path).map_err(|_| error())?;
        // A reserved character reads the same escaped or not at most servers, but is matched as it stands: the other
        // spelling would be another service's, or free.
        let is_plain = |b: u8| b.is_ascii_alphanumeric() || b"/-._~".contains(&b);
        // `/a/..*` would be another prefix than it looks.
        if !normal.bytes().all(is_plain) || (is_prefix && normal != path) {
            return Err(error());
        }
        let normal = normal.into_owned();
        Ok(if is_prefix { Self::Prefix(normal) } else { Self::Exact(normal) })
    }
}

impl FromStr for RequestPattern {
    type Err = ConfigError;

    fn from_str(text: &str) -> Result<Self, ConfigError> {
        let error = || ConfigError::Request(text.to_owned());
        let (method, path) = match text.split_once(' ') {
            Some((method, path)) => (Some(method.parse::<Method>().map_err(|_| error())?), path.trim()),
            None => (None, text),
        };
        // A preflight is answered before any of this; HEAD goes with GET, so that it cannot be free beside it.
        if method.as_ref().is_some_and(|method| [Method::HEAD, Method::OPTIONS].contains(method)) {
            return Err(error());
        }
        Ok(Self { method, path: path.parse().map_err(|_| error())? })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn all<T: FromStr<Err = ConfigError>>(texts: &[&str]) -> Vec<T> {
        texts.iter().map(|text| text.parse().unwrap()).collect()
    }

    #[test]
    fn a_service_takes_what_its_hosts_paths_and_methods_name() {
        let scope = Scope {
            hosts: all(&["Example.com", "*.api.example.com", "[::1]"]),
            paths: all(&["/exact", "/v1/*", "/pre*"]),
            methods: vec![Method::GET, Method::POST],
            rewrite: None,
        };
        for (method, host, path, covered) in [
            ("GET", "example.com", "/exact", true),
            ("HEAD", "EXAMPLE.com:8081", "/v1/", true),
            ("POST", "example.com.", "/v1/a/b", true),
            ("GET", "a.api.example.com:1", "/prefix", true),
            ("GET", "[::1]:8081", "/pre", true),
            ("GET", "[::1]", "/pre", true),
            ("PUT", "example.com", "/exact", false),
            ("GET", "api.example.com", "/exact", false),
            ("GET", ".api.example.com", "/exact", false),
            ("GET", "xapi.example.com", "/exact", false),
            ("GET", "a.example.com", "/exact", false),
            ("GET", "é.é", "/exact", false),
            ("GET", "", "/exact", false),
            ("GET", "example.com", "/exact/", false),
            ("GET", "example.com", "/v1", false),
        ] {
            let method = method.parse().unwrap();
            assert_eq!(scope.covers(&method, host, path), covered, "{method} {host} {path}");
        }
        assert!(Scope::default().covers(&Method::DELETE, "", "/"));
    }

    #[test]
    fn what_is_rewritten_begins_as_it_is_said() {
        let scope = |from| Scope { rewrite: Some(Rewrite::new(from, "/").unwrap()), ..Scope::default() };
        for (from, path, covered) in [
            ("/api", "/api", false),
            ("/api", "/api/", true),
            ("/api", "/api/work", true),
            ("/api", "/work", false),
            ("/api", "/apis", false),
            ("/api", "/", false),
            ("/", "/work", true),
        ] {
            assert_eq!(scope(from).covers(&Method::POST, "", path), covered, "{from} {path}");
        }
    }

    #[test]
    fn what_costs_is_said_either_way_round() {
        let protect = Access {
            auth_only: all(&["GET /stream*", "POST /file/status"]),
            ..Access::protect(all(&["POST /file", "POST /file/*", "GET /report", "/any"]))
        };
        let free = Access { rule: Rule::Free(all(&["GET /", "/ping"])), auth_only: all(&["/ping/live"]) };
        for (access, method, path, cost) in [
            (&protect, "POST", "/file", Cost::Token),
            (&protect, "POST", "/file/x", Cost::Token),
            (&protect, "POST", "/file/status", Cost::TokenUnsold),
            (&protect, "GET", "/file", Cost::Question),
            (&protect, "HEAD", "/file", Cost::Question),
            (&protect, "GET", "/file/x", Cost::Free),
            (&protect, "PUT", "/file", Cost::Free),
            (&protect, "GET", "/report", Cost::Token),
            (&protect, "HEAD", "/report", Cost::Token),
            (&protect, "POST", "/report", Cost::Free),
            (&protect, "DELETE", "/any", Cost::Token),
            (&protect, "GET", "/any", Cost::Token),
            (&protect, "HEAD", "/stream/1", Cost::TokenUnsold),
            (&protect, "GET", "/", Cost::Free),
            (&free, "GET", "/", Cost::Free),
            (&free, "HEAD", "/", Cost::Free),
            (&free, "POST", "/", Cost::Token),
            (&free, "PUT", "/ping", Cost::Free),
            (&free, "GET", "/ping/live", Cost::TokenUnsold),
            (&free, "GET", "/x", Cost::Token),
        ] {
            assert_eq!(access.cost(&method.parse().unwrap(), path), cost, "{method} {path}");
        }
    }

    #[test]
    fn reads_requests_paths_and_hosts_and_nothing_doubtful() {
        let request: RequestPattern = "POST /x/../largefile".parse().unwrap();
        assert_eq!((request.method, request.path), (Some(Method::POST), PathPattern::Exact("/largefile".into())));
        assert_eq!("/a*".parse::<RequestPattern>().unwrap().path, PathPattern::Prefix("/a".into()));
        for text in
            ["POST", "HEAD /x", "OPTIONS /x", "POST x", "PO ST /x", "POST /%00", "POST /a=b", "/a/../*", "/*x", ""]
        {
            assert!(text.parse::<RequestPattern>().is_err(), "{text}");
        }
        for text in ["", "*", "*.", "a.", "a:1", "a/b", "a b", "*.*.a"] {
            assert!(text.parse::<HostPattern>().is_err(), "{text}");
        }
    }
}
