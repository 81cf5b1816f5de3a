//! Where a request has its login (JWT). Whether it is good, the media server says.

use http::{
    HeaderMap,
    header::{AUTHORIZATION, COOKIE},
};
use percent_encoding::percent_decode_str;

/// The login of a request: the first of `Authorization: Bearer`, `?jwt=`, the cookie `jwt`.
pub fn find_jwt(headers: &HeaderMap, query: Option<&str>) -> Option<String> {
    bearer(headers).or_else(|| query.and_then(in_query)).or_else(|| cookie(headers))
}

fn bearer(headers: &HeaderMap) -> Option<String> {
    // Some clients join two header lines into one.
    let lines = headers.get_all(AUTHORIZATION).iter().filter_map(|value| value.to_str().ok());
    lines.flat_map(|line| line.split(',')).find_map(|part| {
        let (scheme, jwt) = part.trim().split_once(' ').unwrap_or((part.trim(), ""));
        scheme.eq_ignore_ascii_case("Bearer").then(|| jwt.trim().to_owned())
    })
}

fn in_query(query: &str) -> Option<String> {
    let jwt = query.split('&').find_map(|pair| pair.strip_prefix("jwt=")).filter(|jwt| !jwt.is_empty())?;
    // Bytes that are no UTF-8 make a JWT that is not valid.
    Some(percent_decode_str(jwt).decode_utf8_lossy().into_owned())
}

fn cookie(headers: &HeaderMap) -> Option<String> {
    let lines = headers.get_all(COOKIE).iter().filter_map(|value| value.to_str().ok());
    lines.flat_map(|line| line.split(';')).find_map(|pair| {
        let (name, jwt) = pair.trim().split_once('=')?;
        let jwt = jwt.trim_matches('"');
        // A cookie that was cleared is none.
        (name == "jwt" && !jwt.is_empty()).then(|| jwt.to_owned())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(headers: &[(&'static str, &'static str)], uri: &'static str) -> Option<String> {
        let headers = headers.iter().map(|(name, value)| (name.parse().unwrap(), value.parse().unwrap())).collect();
        find_jwt(&headers, http::Uri::from_static(uri).query())
    }

    #[test]
    fn finds_a_login_in_three_places() {
        let a = Some("a.b.c".to_owned());
        assert_eq!(found(&[("authorization", "Bearer a.b.c")], "/file"), a);
        assert_eq!(found(&[("authorization", "bearer  a.b.c")], "/file?jwt=x"), a);
        assert_eq!(found(&[("authorization", "L402 x:y"), ("authorization", "BEARER a.b.c")], "/"), a);
        assert_eq!(found(&[("authorization", "L402 x:y, Bearer a.b.c")], "/"), a);
        assert_eq!(found(&[], "/file?x=1&jwt=a.b%2Ec&jwt=x"), a);
        assert_eq!(found(&[("cookie", "x=1; jwt=a.b.c; y=2")], "/file"), a);
        assert_eq!(found(&[("cookie", "xjwt=1"), ("cookie", "jwt=\"a.b.c\"")], "/file?jw=1"), a);
        assert_eq!(found(&[("authorization", "Basic YTpi"), ("cookie", "xjwt=1; jwt=")], "/file?xjwt=1&jwt="), None);
        assert_eq!(found(&[("authorization", "Bearer ")], "/"), Some(String::new()), "one that is not valid");
    }
}
