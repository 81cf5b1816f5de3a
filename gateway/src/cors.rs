//! Cross-origin requests: any page may ask, none may use the cookies of another.

use http::{
    HeaderMap, HeaderName, HeaderValue, Method,
    header::{
        ACCESS_CONTROL_ALLOW_HEADERS, ACCESS_CONTROL_ALLOW_METHODS, ACCESS_CONTROL_ALLOW_ORIGIN,
        ACCESS_CONTROL_EXPOSE_HEADERS, ACCESS_CONTROL_MAX_AGE, ACCESS_CONTROL_REQUEST_METHOD,
    },
};
use pingora::{Result, http::ResponseHeader};

const METHODS: HeaderValue = HeaderValue::from_static("GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS");

const REQUEST_HEADERS: HeaderValue = HeaderValue::from_static(
    "Authorization, Content-Type, Accept-Authenticate, Accept-Payment, Macaroon, Grpc-Metadata-Macaroon, Range, \
     If-Range, If-Match, If-None-Match, Idempotency-Key, Tus-Resumable, Upload-Length, Upload-Offset, Upload-Metadata, \
     Upload-Complete, Upload-Draft-Interop-Version",
);

const RESPONSE_HEADERS: HeaderValue = HeaderValue::from_static(
    "WWW-Authenticate, Payment-Receipt, Retry-After, Location, Content-Disposition, Content-Length, Content-Range, \
     Accept-Ranges, ETag, Tus-Resumable, Upload-Length, Upload-Offset, Upload-Expires, \
     X-Request-Id",
);

/// Whether a request asks what a page may do.
pub fn is_preflight(method: &Method, headers: &HeaderMap) -> bool {
    method == Method::OPTIONS && headers.contains_key(ACCESS_CONTROL_REQUEST_METHOD)
}

/// What a page may do.
pub fn preflight_headers() -> Vec<(HeaderName, HeaderValue)> {
    vec![
        (ACCESS_CONTROL_ALLOW_METHODS, METHODS),
        (ACCESS_CONTROL_ALLOW_HEADERS, REQUEST_HEADERS),
        (ACCESS_CONTROL_MAX_AGE, HeaderValue::from_static("7200")),
    ]
}

/// Lets a page of any origin read the answer. Without `Access-Control-Allow-Credentials`: browsers then keep cookies out
/// of it, so no page can act for whoever has one.
pub fn add_headers(header: &mut ResponseHeader) -> Result<()> {
    header.insert_header(ACCESS_CONTROL_ALLOW_ORIGIN, HeaderValue::from_static("*"))?;
    header.insert_header(ACCESS_CONTROL_EXPOSE_HEADERS, RESPONSE_HEADERS)
}
