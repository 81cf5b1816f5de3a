//! `Sluice-Permit`: what the gateway says to the media server of an upload that it lets through without a token, for
//! nothing is to be paid for it. Clients never see one, and theirs are taken away.

use http::{
    HeaderMap, HeaderName, HeaderValue, Method,
    header::{AUTHORIZATION, COOKIE},
};

use crate::keys::MasterKeys;

/// In which header it goes.
pub const PERMIT_HEADER: HeaderName = HeaderName::from_static("sluice-permit");

/// How long one is good for, in seconds: as long as a request takes from the gateway to the media server, and as their
/// clocks may differ. It is looked at when the request begins.
pub const PERMIT_LASTS_SECS: u64 = 60;

/// The right to one upload without a token, of one request alone. Written `MAX_UPLOAD_BYTES.EXPIRES_AT.MAC_HEX`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FreePermit {
    /// The largest file.
    pub max_upload_bytes: u64,
    /// Unix seconds from which on it is good no more.
    pub expires_at: u64,
}

/// What of a request a permit is for, as it is forwarded: whoever learns of one can do with it only what was let through,
/// and only for the same login. The host is not in it, for what stands between the parts may change that.
#[derive(Debug, Clone, Copy)]
pub struct PermittedRequest<'a> {
    /// The method.
    pub method: &'a Method,
    /// Path and query.
    pub target: &'a str,
    /// The headers, of which those count that a login stands in.
    pub headers: &'a HeaderMap,
}

impl FreePermit {
    /// The header's value, signed with the key that mints at `now` (unix seconds); none if no key does.
    pub fn sign(&self, request: &PermittedRequest<'_>, keys: &MasterKeys, now: u64) -> Option<HeaderValue> {
        let mac = keys.minting(now)?.permit_mac(&self.message(request));
        let Self { max_upload_bytes, expires_at } = self;
        HeaderValue::try_from(format!("{max_upload_bytes}.{expires_at}.{}", hex::encode(mac))).ok()
    }

    /// The permit that `request` carries; none if it has none, or one that is for another request, or was not signed with
    /// any of `keys`, or is over at `now` (unix seconds).
    pub fn of(request: &PermittedRequest<'_>, keys: &MasterKeys, now: u64) -> Option<Self> {
        let mut lines = request.headers.get_all(PERMIT_HEADER).iter();
        let (line, None) = (lines.next()?.to_str().ok()?, lines.next()) else { return None };
        let mut parts = line.split('.');
        let (max_upload_bytes, expires_at) = (parts.next()?.parse().ok()?, parts.next()?.parse().ok()?);
        let mut mac = [0; 32];
        hex::decode_to_slice(parts.next()?, &mut mac).ok()?;
        let permit = Self { max_upload_bytes, expires_at };
        (parts.next().is_none() && now < expires_at && keys.made_permit(&mac, &permit.message(request)))
            .then_some(permit)
    }

    /// What is signed: each part with its length before it, so that no two requests read alike.
    fn message(&self, request: &PermittedRequest<'_>) -> Vec<u8> {
        let mut message = [self.max_upload_bytes.to_be_bytes(), self.expires_at.to_be_bytes()].concat();
        let joined = |name: HeaderName, between: &[u8]| {
            // Several lines and one with all of them mean the same, and are made of each other on the way.
            request.headers.get_all(name).iter().map(HeaderValue::as_bytes).collect::<Vec<_>>().join(between)
        };
        for part in [
            request.method.as_str().as_bytes(),
            request.target.as_bytes(),
            &joined(AUTHORIZATION, b", "),
            &joined(COOKIE, b"; "),
        ] {
            message.extend_from_slice(&(part.len() as u64).to_be_bytes());
            message.extend_from_slice(part);
        }
        message
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{keys::MasterKey, secret::Secret};

    const NOW: u64 = 1_800_000_000;

    fn keys(bytes: &[u8]) -> MasterKeys {
        MasterKeys::new(bytes.iter().map(|&byte| MasterKey::new(&Secret::new([byte; 32]), 0)).collect()).unwrap()
    }

    fn headers(lines: &[(&'static str, &'static str)]) -> HeaderMap {
        lines.iter().map(|(name, value)| (name.parse().unwrap(), value.parse().unwrap())).collect()
    }

    const LOGIN: [(&str, &str); 2] = [("authorization", "Bearer a.b.c"), ("cookie", "x=1; jwt=d")];

    fn permit() -> FreePermit {
        FreePermit { max_upload_bytes: 5, expires_at: NOW + PERMIT_LASTS_SECS }
    }

    fn signed() -> HeaderValue {
        let (method, headers) = (Method::POST, headers(&LOGIN));
        let request = PermittedRequest { method: &method, target: "/largefile?a=b", headers: &headers };
        permit().sign(&request, &keys(&[1]), NOW).unwrap()
    }

    fn read(method: &Method, target: &str, lines: &[(&'static str, &'static str)], value: HeaderValue) -> bool {
        read_with(&keys(&[2, 1]), method, target, lines, value, NOW)
    }

    fn read_with(
        keys: &MasterKeys,
        method: &Method,
        target: &str,
        lines: &[(&'static str, &'static str)],
        value: HeaderValue,
        now: u64,
    ) -> bool {
        let mut headers = headers(lines);
        headers.append(PERMIT_HEADER, value);
        let found = FreePermit::of(&PermittedRequest { method, target, headers: &headers }, keys, now);
        assert!(found.is_none_or(|found| found == permit()));
        found.is_some()
    }

    #[test]
    fn is_for_one_request_of_one_login_until_its_time_is_over() {
        let (post, path) = (Method::POST, "/largefile?a=b");
        assert!(read(&post, path, &LOGIN, signed()));
        let crumbs = [("authorization", "Bearer a.b.c"), ("cookie", "x=1"), ("cookie", "jwt=d"), ("x", "y")];
        assert!(read(&post, path, &crumbs, signed()), "HTTP/2 parts cookies");
        assert!(!read(&Method::PUT, path, &LOGIN, signed()));
        assert!(!read(&post, "/largefile", &LOGIN, signed()));
        assert!(!read(&post, path, &LOGIN[..1], signed()));
        assert!(!read(&post, path, &[("authorization", "Bearer e.f.g"), LOGIN[1]], signed()));
        let at = |now| read_with(&keys(&[1]), &post, path, &LOGIN, signed(), now);
        assert!(at(NOW + PERMIT_LASTS_SECS - 1) && !at(NOW + PERMIT_LASTS_SECS));
        assert!(!read_with(&keys(&[2]), &post, path, &LOGIN, signed(), NOW), "of another key");
    }

    #[test]
    fn what_was_not_signed_is_none() {
        let signed = signed().to_str().unwrap().to_owned();
        let (rest, mac) = signed.rsplit_once('.').unwrap();
        for value in [
            format!("6.{}.{mac}", NOW + PERMIT_LASTS_SECS),
            format!("5.{}.{mac}", NOW + PERMIT_LASTS_SECS + 1),
            format!("{rest}.{}", "00".repeat(32)),
            format!("{rest}.{}", &mac[..62]),
            format!("{signed}.x"),
            rest.to_owned(),
            String::new(),
        ] {
            assert!(!read(&Method::POST, "/largefile?a=b", &LOGIN, value.parse().unwrap()), "{value}");
        }
        let twice = [("authorization", "Bearer a.b.c"), ("cookie", "x=1; jwt=d"), ("sluice-permit", "1.2.3")];
        assert!(!read(&Method::POST, "/largefile?a=b", &twice, signed.parse().unwrap()), "two are none");
    }
}
