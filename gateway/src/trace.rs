//! What a request is known by: its id, and its place in a trace (W3C Trace Context, <https://www.w3.org/TR/trace-context/>).

use http::{HeaderMap, HeaderName, HeaderValue};
use pingora::{Result, http::RequestHeader};
use rand::RngCore;
use sluice_common::request_id::{REQUEST_ID_HEADER, RequestId};

const TRACEPARENT: HeaderName = HeaderName::from_static("traceparent");
const TRACESTATE: HeaderName = HeaderName::from_static("tracestate");

/// The one flag of version 00: who asked records this trace.
const SAMPLED: u8 = 1;

/// What a request is known by.
#[derive(Debug, Clone)]
pub struct Trace {
    /// Its id.
    pub request_id: RequestId,
    /// The id of its trace.
    trace_id: [u8; 16],
}

/// What a `traceparent` says: which trace, and whether it is recorded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Parent {
    trace_id: [u8; 16],
    flags: u8,
}

impl Trace {
    /// Reads what `request` is known by, or gives it what it lacks; and writes it into the request for the server behind,
    /// with this gateway as the parent. Ids of who is not trusted are not taken: they could be those of somebody else's
    /// requests.
    pub fn begin(request: &mut RequestHeader, is_trusted: bool) -> Result<Self> {
        let brought = is_trusted.then(|| RequestId::from_headers(&request.headers)).flatten();
        let request_id = brought.unwrap_or_else(RequestId::random);
        request.insert_header(REQUEST_ID_HEADER, request_id.header_value())?;

        let parent = Parent::from_headers(&request.headers);
        if parent.is_none() {
            // A state without its trace says nothing.
            request.remove_header(&TRACESTATE);
        }
        let Parent { trace_id, flags } = parent.unwrap_or_else(|| Parent { trace_id: random(), flags: 0 });
        let (trace, this) = (hex::encode(trace_id), hex::encode(random::<8>()));
        request.insert_header(TRACEPARENT, format!("00-{trace}-{this}-{flags:02x}"))?;
        Ok(Self { request_id, trace_id })
    }

    /// The id of its trace, in hex.
    pub fn trace_id(&self) -> String {
        hex::encode(self.trace_id)
    }
}

impl Parent {
    fn from_headers(headers: &HeaderMap) -> Option<Self> {
        let mut lines = headers.get_all(TRACEPARENT).iter();
        let value = lines.next().filter(|_| lines.next().is_none())?;
        Self::parse(value)
    }

    /// `version-trace_id-parent_id-flags`, all in lower hexadecimal digits. Later versions may have more behind it.
    fn parse(value: &HeaderValue) -> Option<Self> {
        let text = value.to_str().ok()?;
        let mut parts = text.splitn(5, '-');
        let version = lower_hex::<1>(parts.next()?)?[0];
        let trace_id = lower_hex::<16>(parts.next()?)?;
        let parent_id = lower_hex::<8>(parts.next()?)?;
        let flags = lower_hex::<1>(parts.next()?)?[0] & SAMPLED;
        let has_more = parts.next().is_some();
        let is_valid = version != 0xff && !(version == 0 && has_more) && trace_id != [0; 16] && parent_id != [0; 8];
        is_valid.then_some(Self { trace_id, flags })
    }
}

fn lower_hex<const N: usize>(text: &str) -> Option<[u8; N]> {
    let mut bytes = [0; N];
    let is_lower = !text.bytes().any(|b| b.is_ascii_uppercase());
    (is_lower && hex::decode_to_slice(text, &mut bytes).is_ok()).then_some(bytes)
}

/// All zeros are nobody's id, and come once in as many requests as there will never be.
fn random<const N: usize>() -> [u8; N] {
    let mut bytes = [0; N];
    rand::rng().fill_bytes(&mut bytes);
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    const TRACE: &str = "0af7651916cd43dd8448eb211c80319c";

    fn begun(headers: &[(&'static str, &str)], is_trusted: bool) -> (Trace, RequestHeader) {
        let mut request = RequestHeader::build("GET", b"/", None).unwrap();
        for (name, value) in headers {
            request.append_header(*name, *value).unwrap();
        }
        (Trace::begin(&mut request, is_trusted).unwrap(), request)
    }

    fn one<'a>(request: &'a RequestHeader, name: &str) -> &'a str {
        let [value] = request.headers.get_all(name).iter().collect::<Vec<_>>()[..] else { panic!("one {name}") };
        value.to_str().unwrap()
    }

    #[test]
    fn a_trace_goes_on_with_this_gateway_as_the_parent() {
        for (traceparent, flags) in [
            (format!("00-{TRACE}-b7ad6b7169203331-01"), "01"),
            (format!("00-{TRACE}-b7ad6b7169203331-00"), "00"),
            (format!("00-{TRACE}-b7ad6b7169203331-ff"), "01"),
            (format!("cc-{TRACE}-b7ad6b7169203331-01-what-comes-later"), "01"),
        ] {
            let (trace, request) = begun(&[("traceparent", &traceparent), ("tracestate", "a=1,b=2")], false);
            let sent = one(&request, "traceparent");
            assert_eq!((trace.trace_id().as_str(), &sent[..36]), (TRACE, &*format!("00-{TRACE}-")), "{traceparent}");
            assert_eq!((sent.len(), &sent[53..]), (55, flags), "{sent}");
            assert!(!sent.contains("b7ad6b7169203331"), "it has a parent id of its own: {sent}");
            assert_eq!(one(&request, "tracestate"), "a=1,b=2");
        }
    }

    #[test]
    fn what_is_no_trace_begins_a_new_one_without_the_old_state() {
        let zeros = format!("00-{}-b7ad6b7169203331-01", "0".repeat(32));
        for wrong in [
            "",
            "00",
            &zeros,
            &format!("00-{TRACE}-0000000000000000-01"),
            &format!("ff-{TRACE}-b7ad6b7169203331-01"),
            &format!("00-{TRACE}-b7ad6b7169203331-01-more"),
            &format!("00-{}-b7ad6b7169203331-01", TRACE.to_uppercase()),
            &format!("00-{TRACE}-b7ad6b7169203331-1"),
            &format!("00-{TRACE}x-b7ad6b7169203331-01"),
        ] {
            let (trace, request) = begun(&[("traceparent", wrong), ("tracestate", "a=1")], false);
            assert_ne!(trace.trace_id(), TRACE, "{wrong}");
            let sent = one(&request, "traceparent");
            assert_eq!((sent, sent.len()), (&*format!("00-{}-{}-00", trace.trace_id(), &sent[36..52]), 55));
            assert!(!request.headers.contains_key("tracestate"), "{wrong}");
        }
        let parent = format!("00-{TRACE}-b7ad6b7169203331-01");
        let (trace, _) = begun(&[("traceparent", &parent), ("traceparent", &parent)], false);
        assert_ne!(trace.trace_id(), TRACE, "of two, none");
    }

    #[test]
    fn an_id_is_taken_from_who_is_trusted_alone() {
        for is_trusted in [true, false] {
            let (trace, request) = begun(&[("x-request-id", "abc-1")], is_trusted);
            assert_eq!(trace.request_id.to_string() == "abc-1", is_trusted);
            assert_eq!(one(&request, "x-request-id"), trace.request_id.to_string());
        }
    }
}
