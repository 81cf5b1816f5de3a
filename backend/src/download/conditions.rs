//! Conditional requests (RFC 9110 §13): does the client have the file already, or another one in mind?

use std::time::{Duration, SystemTime};

use http::{
    HeaderMap, HeaderName, HeaderValue,
    header::{IF_MATCH, IF_MODIFIED_SINCE, IF_NONE_MATCH, IF_RANGE, IF_UNMODIFIED_SINCE},
};
use sluice_common::muid::Muid;
use time::OffsetDateTime;

use crate::db::Variant;

/// What a client can know a file by. Its bytes never change, so both are strong.
#[derive(Debug, Clone)]
pub struct Validators {
    etag: String,
    modified: SystemTime,
}

/// What the conditions of a request come to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// They hold, or there are none.
    Proceed,
    /// 304: the client has it already.
    NotModified,
    /// 412: the client has another one in mind.
    Failed,
}

impl Validators {
    /// Those of the file `muid` that was stored at `created`, or of a picture of it.
    pub fn new(muid: Muid, variant: Variant, created: OffsetDateTime) -> Self {
        let seconds = created.unix_timestamp().try_into().unwrap_or(0);
        let etag = match variant {
            Variant::File => format!("\"{muid}\""),
            variant => format!("\"{muid}-{}\"", variant.name()),
        };
        Self { etag, modified: SystemTime::UNIX_EPOCH + Duration::from_secs(seconds) }
    }

    /// The value of `ETag`. A muid has nothing that cannot stand in a header.
    pub fn etag(&self) -> Option<HeaderValue> {
        HeaderValue::try_from(&self.etag).ok()
    }

    /// The value of `Last-Modified`.
    pub fn last_modified(&self) -> Option<HeaderValue> {
        HeaderValue::try_from(httpdate::fmt_http_date(self.modified)).ok()
    }

    /// Weighs the conditions of a GET or HEAD, in the order of RFC 9110 §13.2.2.
    pub fn weigh(&self, headers: &HeaderMap) -> Outcome {
        let wanted = if headers.contains_key(IF_MATCH) {
            // A weak tag never matches here.
            self.is_listed(headers, &IF_MATCH, false)
        } else {
            date(headers, &IF_UNMODIFIED_SINCE).is_none_or(|since| self.modified <= since)
        };
        if !wanted {
            return Outcome::Failed;
        }
        let known = if headers.contains_key(IF_NONE_MATCH) {
            self.is_listed(headers, &IF_NONE_MATCH, true)
        } else {
            date(headers, &IF_MODIFIED_SINCE).is_some_and(|since| self.modified <= since)
        };
        if known { Outcome::NotModified } else { Outcome::Proceed }
    }

    /// Whether `If-Range` lets a range be answered with a part: it names this file, or is not there.
    pub fn allow_part(&self, headers: &HeaderMap) -> bool {
        headers.get(IF_RANGE).is_none_or(|value| {
            value.as_bytes() == self.etag.as_bytes() || date(headers, &IF_RANGE) == Some(self.modified)
        })
    }

    fn is_listed(&self, headers: &HeaderMap, name: &HeaderName, weak: bool) -> bool {
        headers.get_all(name).iter().filter_map(|value| value.to_str().ok()).flat_map(|value| value.split(',')).any(
            |tag| {
                let tag = tag.trim();
                let tag = if weak { tag.strip_prefix("W/").unwrap_or(tag) } else { tag };
                tag == "*" || tag == self.etag
            },
        )
    }
}

fn date(headers: &HeaderMap, name: &HeaderName) -> Option<SystemTime> {
    httpdate::parse_http_date(headers.get(name)?.to_str().ok()?).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    const ETAG: &str = "\"AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=\"";
    const BEFORE: &str = "Thu, 01 Jan 1970 00:16:39 GMT";
    const STORED: &str = "Thu, 01 Jan 1970 00:16:40 GMT";
    const AFTER: &str = "Thu, 01 Jan 1970 00:16:41 GMT";

    fn validators() -> Validators {
        Validators::new(
            Muid::from_bytes([0; 32]),
            Variant::File,
            OffsetDateTime::from_unix_timestamp_nanos(1_000_900_000_000).unwrap(),
        )
    }

    fn headers(pairs: &[(HeaderName, &str)]) -> HeaderMap {
        pairs.iter().map(|(name, value)| (name.clone(), value.parse().unwrap())).collect()
    }

    #[test]
    fn are_the_muid_and_the_second_it_was_stored() {
        assert_eq!(validators().etag().unwrap(), ETAG);
        assert_eq!(validators().last_modified().unwrap(), STORED);
    }

    #[test]
    fn conditions_in_their_order() {
        let weak = format!("W/{ETAG}");
        let list = format!("\"x\", {ETAG}");
        for (pairs, outcome) in [
            (vec![], Outcome::Proceed),
            (vec![(IF_NONE_MATCH, ETAG)], Outcome::NotModified),
            (vec![(IF_NONE_MATCH, &weak)], Outcome::NotModified),
            (vec![(IF_NONE_MATCH, &list)], Outcome::NotModified),
            (vec![(IF_NONE_MATCH, "*")], Outcome::NotModified),
            (vec![(IF_NONE_MATCH, "\"x\"")], Outcome::Proceed),
            (vec![(IF_NONE_MATCH, "\"x\""), (IF_MODIFIED_SINCE, AFTER)], Outcome::Proceed),
            (vec![(IF_MODIFIED_SINCE, BEFORE)], Outcome::Proceed),
            (vec![(IF_MODIFIED_SINCE, STORED)], Outcome::NotModified),
            (vec![(IF_MODIFIED_SINCE, "yesterday")], Outcome::Proceed),
            (vec![(IF_MATCH, ETAG)], Outcome::Proceed),
            (vec![(IF_MATCH, "*")], Outcome::Proceed),
            (vec![(IF_MATCH, &list)], Outcome::Proceed),
            (vec![(IF_MATCH, &weak)], Outcome::Failed),
            (vec![(IF_MATCH, "\"x\"")], Outcome::Failed),
            (vec![(IF_MATCH, ETAG), (IF_UNMODIFIED_SINCE, BEFORE)], Outcome::Proceed),
            (vec![(IF_MATCH, ETAG), (IF_NONE_MATCH, ETAG)], Outcome::NotModified),
            (vec![(IF_UNMODIFIED_SINCE, BEFORE)], Outcome::Failed),
            (vec![(IF_UNMODIFIED_SINCE, STORED)], Outcome::Proceed),
        ] {
            assert_eq!(validators().weigh(&headers(&pairs)), outcome, "{pairs:?}");
        }
    }

    #[test]
    fn a_part_only_of_the_file_in_mind() {
        let allow = |value: &str| validators().allow_part(&headers(&[(IF_RANGE, value)]));
        assert!(validators().allow_part(&HeaderMap::new()));
        assert!(allow(ETAG) && allow(STORED));
        assert!(!allow("\"x\"") && !allow(&format!("W/{ETAG}")) && !allow(BEFORE) && !allow(AFTER) && !allow("junk"));
    }
}
