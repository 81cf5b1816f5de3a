//! Sends clients that come without TLS to where they have it.

use http::{
    HeaderValue, StatusCode,
    header::{HOST, LOCATION},
    uri::Authority,
};
use pingora::http::RequestHeader;
use sluice_common::problem::Problem;

use crate::answer::Answer;

/// Where authorities look, over plain HTTP, whether a name is ours (RFC 8555 §8.3).
const CHALLENGES: &str = "/.well-known/acme-challenge/";

/// 308 to the same over TLS, which clients reach at `port`. None: this request stays as it is.
pub fn to_https(request: &RequestHeader, port: u16) -> Option<Answer> {
    if request.uri.path().starts_with(CHALLENGES) {
        return None;
    }
    let host = request.headers.get(HOST).and_then(|host| host.to_str().ok()).map(str::to_owned);
    let authority = host.or_else(|| request.uri.authority().map(|authority| authority.as_str().to_owned()));
    let location = authority.and_then(|authority| location(&authority, port, request));
    Some(location.map_or_else(
        || Problem::new(StatusCode::BAD_REQUEST, "host_missing").detail("The request names no host.").into(),
        |location| Answer::elsewhere(StatusCode::PERMANENT_REDIRECT, (LOCATION, location)),
    ))
}

fn location(authority: &str, port: u16, request: &RequestHeader) -> Option<HeaderValue> {
    let authority: Authority = authority.parse().ok()?;
    let host = authority.host();
    let target = request.uri.path_and_query().map_or("/", |target| target.as_str());
    // `OPTIONS *` has no path.
    let target = if target.starts_with('/') { target } else { "/" };
    let port = if port == 443 { String::new() } else { format!(":{port}") };
    (!host.is_empty()).then(|| HeaderValue::try_from(format!("https://{host}{port}{target}")).ok()).flatten()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn redirected(target: &str, host: Option<&str>, port: u16) -> Option<(u16, String)> {
        let mut request = RequestHeader::build("POST", b"/", None).unwrap();
        request.set_uri(target.parse().unwrap());
        if let Some(host) = host {
            request.insert_header("host", host).unwrap();
        }
        let header = to_https(&request, port)?.header().unwrap();
        let location = header.headers.get(LOCATION).map(|location| location.to_str().unwrap().to_owned());
        Some((header.status.as_u16(), location.unwrap_or_default()))
    }

    #[test]
    fn goes_to_the_same_place_over_tls() {
        for (target, host, port, location) in [
            ("/largefile?a=b%20c", Some("a.example"), 443, "https://a.example/largefile?a=b%20c"),
            ("/", Some("a.example:8081"), 443, "https://a.example/"),
            ("/", Some("a.example:8081"), 8443, "https://a.example:8443/"),
            ("/x", Some("[::1]:8081"), 8443, "https://[::1]:8443/x"),
            ("http://b.example/x", None, 443, "https://b.example/x"),
            ("*", Some("a.example"), 443, "https://a.example/"),
        ] {
            assert_eq!(redirected(target, host, port), Some((308, location.to_owned())));
        }
        for host in [None, Some(""), Some("a b")] {
            assert_eq!(redirected("/", host, 443), Some((400, String::new())), "{host:?}");
        }
        assert_eq!(redirected("/.well-known/acme-challenge/x", Some("a.example"), 443), None);
    }
}
