//! Requests and responses as they go on: what is forwarded is what was matched, and no header goes where it must not.

use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, Uri, header::AUTHORIZATION};
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
const OWN_HEADERS: &str = "sluice-";

/// Puts the normalised path in the place of the one that was sent, so that what is forwarded is what was matched.
pub(super) fn normalise_target(request: &mut RequestHeader) -> Result<(), Answer> {
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
    // Also from the absolute form, which carries a host of its own.
    request.set_uri(target.parse::<Uri>().map_err(|_| refuse("The path cannot be forwarded.".to_owned()))?);
    Ok(())
}

/// Takes from a request what the server behind must not see.
pub(super) fn strip(request: &mut RequestHeader, forwards_credential: bool) -> Result<()> {
    let own: Vec<HeaderName> =
        request.headers.keys().filter(|name| name.as_str().starts_with(OWN_HEADERS)).cloned().collect();
    for name in own {
        request.remove_header(&name);
    }
    if forwards_credential {
        return Ok(());
    }
    for name in l402::MACAROON_HEADERS {
        request.remove_header(name);
    }
    let lines: Vec<HeaderValue> = request.headers.get_all(AUTHORIZATION).iter().cloned().collect();
    request.remove_header(&AUTHORIZATION);
    for line in lines {
        let alone = HeaderMap::from_iter([(AUTHORIZATION, line.clone())]);
        if matches!(Credential::from_headers(&alone), Ok(None)) {
            request.append_header(AUTHORIZATION, line)?;
        }
    }
    Ok(())
}

pub(super) fn remove_own_headers(response: &mut ResponseHeader) {
    let own: Vec<HeaderName> =
        response.headers.keys().filter(|name| name.as_str().starts_with(OWN_HEADERS)).cloned().collect();
    for name in own {
        response.remove_header(&name);
    }
}

/// What a log may say of a path: its first segment, if that is a word. Tokens stand in paths too.
pub(super) fn loggable(path: &str) -> &str {
    let end = path[1.min(path.len())..].find('/').map_or(path.len(), |at| at + 1);
    let first = &path[..end];
    let is_word = first.len() <= 16 && first.bytes().skip(1).all(|b| b.is_ascii_lowercase());
    if is_word { first } else { "/…" }
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
            ("*", "*"),
            ("", ""),
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
        assert_eq!(normalised("/a%00").unwrap_err().status(), StatusCode::BAD_REQUEST);
    }
}
