//! What is changed in a request before it is forwarded, and what a log may say of it.

use http::{
    HeaderMap, HeaderName, HeaderValue, Method, StatusCode, Uri,
    header::{AUTHORIZATION, CONTENT_TYPE, HOST},
};
use pingora::{
    Result,
    http::{RequestHeader, ResponseHeader},
};
use sluice_common::{
    l402::{self, Credential},
    problem::Problem,
};

use crate::{answer::Answer, path};

/// The headers that only the parts of Sluice say to each other begin so.
pub(crate) const OWN_HEADERS: &str = "sluice-";

/// Puts the normalised path in the place of the one that was sent, so that what is forwarded is what was matched.
pub fn normalise_target(request: &mut RequestHeader) -> Result<(), Answer> {
    let refuse = |detail: String| Answer::from(Problem::new(StatusCode::BAD_REQUEST, "malformed_path").detail(detail));
    // `OPTIONS *` asks about the server: it goes on as it is.
    if request.method == Method::OPTIONS && request.uri.path() == "*" {
        return Ok(());
    }
    // A target of bytes that are no UTF-8 reads differently here and behind.
    if !request.raw_path_is_utf8() {
        return Err(refuse("The path is not text.".to_owned()));
    }
    let path = path::normalise(request.uri.path()).map_err(|error| refuse(error.to_string()))?;
    let target = match request.uri.query() {
        Some(query) => format!("{path}?{query}"),
        None => path.into_owned(),
    };
    // HTTP/2 has its host in the target.
    if let Some(authority) = request.uri.authority()
        && !request.headers.contains_key(HOST)
    {
        let host = authority.as_str().to_owned();
        request.insert_header(HOST, host).map_err(|_| refuse("The host is none.".to_owned()))?;
    }
    // Also from the absolute form, which carries a host of its own.
    request.set_uri(target.parse::<Uri>().map_err(|_| refuse("The path cannot be forwarded.".to_owned()))?);
    Ok(())
}

/// Takes from a request what the server behind must not see.
pub fn strip(request: &mut RequestHeader, forwards_credential: bool) -> Result<()> {
    remove_headers(request, is_own);
    if forwards_credential {
        return Ok(());
    }
    for name in l402::MACAROON_HEADERS {
        request.remove_header(name);
    }
    let lines = request.headers.get_all(AUTHORIZATION).iter();
    let others: Vec<HeaderValue> = lines.filter_map(Credential::beside).collect();
    request.remove_header(&AUTHORIZATION);
    others.into_iter().try_for_each(|line| request.append_header(AUTHORIZATION, line).map(drop))
}

/// Takes from a response what only the parts of Sluice say to each other.
pub fn strip_response(response: &mut ResponseHeader) {
    for name in named(&response.headers, is_own) {
        response.remove_header(&name);
    }
}

/// Takes the headers from a request whose names match.
pub(crate) fn remove_headers(request: &mut RequestHeader, matches: impl Fn(&str) -> bool) {
    for name in named(&request.headers, matches) {
        request.remove_header(&name);
    }
}

fn named(headers: &HeaderMap, matches: impl Fn(&str) -> bool) -> Vec<HeaderName> {
    headers.keys().filter(|name| matches(name.as_str())).cloned().collect()
}

fn is_own(name: &str) -> bool {
    name.starts_with(OWN_HEADERS)
}

/// Whether two names of headers are one to a server that reads `_` as `-`, as CGI does.
pub(crate) fn is_one_to_cgi(one: &str, other: &str) -> bool {
    let same = |(a, b): (u8, u8)| a == b || (matches!(a, b'_' | b'-') && matches!(b, b'_' | b'-'));
    one.len() == other.len() && one.bytes().zip(other.bytes()).all(same)
}

/// Whether a gRPC client asks, which reads its outcome from `grpc-status` alone.
pub fn is_grpc(headers: &HeaderMap) -> bool {
    headers.get(CONTENT_TYPE).is_some_and(|value| value.as_bytes().starts_with(b"application/grpc"))
}

/// What a log may say of a path: its first segment, if that is a word. Tokens stand in paths too.
pub fn loggable(path: &str) -> &str {
    let first = path.strip_prefix('/').and_then(|rest| rest.split('/').next());
    let is_word = |word: &&str| word.len() <= 15 && word.bytes().all(|b| b.is_ascii_lowercase());
    first.filter(is_word).map_or("/…", |word| &path[..=word.len()])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_log_says_the_first_word_of_a_path_and_nothing_that_could_be_a_token() {
        for (path, said) in [
            ("/", "/"),
            ("/largefile", "/largefile"),
            ("/file/aGVsbG8=.x.y", "/file"),
            ("/aGVsbG8gd29ybGQ", "/…"),
            ("/averyveryverylongword", "/…"),
            ("*", "/…"),
            ("", "/…"),
            ("é", "/…"),
            ("/é", "/…"),
        ] {
            assert_eq!(loggable(path), said, "{path}");
        }
    }

    #[test]
    fn what_is_forwarded_is_what_was_matched() {
        let normalised = |target: &str| {
            let mut request = RequestHeader::build("GET", target.as_bytes(), None).unwrap();
            normalise_target(&mut request).map(|()| String::from_utf8(request.raw_path().to_vec()).unwrap())
        };
        assert_eq!(normalised("/a//../b?jwt=x//y").unwrap(), "/b?jwt=x//y");
        assert_eq!(normalised("http://elsewhere/%61").unwrap(), "/a");
        assert_eq!(normalised("*").unwrap_err().status(), StatusCode::BAD_REQUEST);
        assert_eq!(normalised("/a%00").unwrap_err().status(), StatusCode::BAD_REQUEST);
    }

    #[test]
    fn the_host_of_a_target_is_the_host_unless_another_is_named() {
        let host = |target: &str, named: Option<&str>| {
            let mut request = RequestHeader::build("GET", b"/", None).unwrap();
            request.set_uri(target.parse().unwrap());
            if let Some(named) = named {
                request.insert_header("host", named).unwrap();
            }
            normalise_target(&mut request).unwrap();
            request.headers.get("host").map(|host| host.to_str().unwrap().to_owned())
        };
        assert_eq!(host("https://a.example:1/x", None).as_deref(), Some("a.example:1"));
        assert_eq!(
            host("https://a.example/x", Some("b.example")).as_deref(),
            Some("b.example"),
            "it is forwarded, too"
        );
        assert_eq!(host("/x", None), None);
    }

    #[test]
    fn a_server_behind_sees_logins_and_credentials_only_where_it_sells() {
        let forwarded = |forwards_credential| {
            let mut request = RequestHeader::build("GET", b"/", None).unwrap();
            for (name, value) in [
                ("authorization", "Bearer a.b.c"),
                ("authorization", "L402 junk"),
                ("authorization", "Bearer d, LSAT junk, token=x,Basic YTpi"),
                ("macaroon", "00"),
                ("grpc-metadata-macaroon", "00"),
                ("sluice-permit", "forged"),
            ] {
                request.append_header(name, value).unwrap();
            }
            strip(&mut request, forwards_credential).unwrap();
            request.headers.iter().map(|(_, value)| value.to_str().unwrap().to_owned()).collect::<Vec<_>>()
        };
        assert_eq!(forwarded(false), ["Bearer a.b.c", "Bearer d,Basic YTpi"]);
        assert_eq!(forwarded(true).len(), 5, "all but what only Sluice says");
    }
}
