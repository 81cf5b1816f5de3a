//! `Range` (RFC 9110 §14): which bytes of a file are asked for.

use std::ops::Range;

use http::{HeaderMap, header::RANGE};

/// What a `Range` header asks of a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Requested {
    /// Everything: none, one that cannot be read, or several ranges, which this server does not serve.
    Whole,
    /// These bytes, at least one of them, all within the file.
    Part(Range<u64>),
    /// Bytes that the file does not have.
    Unsatisfiable,
}

/// Reads the `Range` of a request for a file of `size` bytes.
pub fn requested(headers: &HeaderMap, size: u64) -> Requested {
    let mut values = headers.get_all(RANGE).iter();
    match (values.next().and_then(|value| value.to_str().ok()), values.next()) {
        (Some(value), None) => parse(value, size).unwrap_or(Requested::Whole),
        _ => Requested::Whole,
    }
}

/// None: not one range of bytes that can be read, so it is ignored.
fn parse(value: &str, size: u64) -> Option<Requested> {
    let (unit, range) = value.split_once('=')?;
    if !unit.trim().eq_ignore_ascii_case("bytes") {
        return None;
    }
    let (first, last) = range.trim().split_once('-')?;
    let (start, end) = match (position(first)?, position(last)?) {
        (None, None) => return None,
        (None, Some(suffix)) => (size.saturating_sub(suffix), size),
        (Some(first), None) => (first, size),
        (Some(first), Some(last)) if first > last => return None,
        (Some(first), Some(last)) => (first, size.min(last.saturating_add(1))),
    };
    Some(if start < end { Requested::Part(start..end) } else { Requested::Unsatisfiable })
}

/// A position, or none where it was left out. Digits past 64 bits count as the largest there is.
fn position(text: &str) -> Option<Option<u64>> {
    if text.is_empty() {
        return Some(None);
    }
    text.bytes().all(|byte| byte.is_ascii_digit()).then(|| Some(text.parse().unwrap_or(u64::MAX)))
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;
    use proptest::prelude::*;

    use super::*;

    fn of(value: &str, size: u64) -> Requested {
        let mut headers = HeaderMap::new();
        headers.insert(RANGE, HeaderValue::from_str(value).unwrap());
        requested(&headers, size)
    }

    #[test]
    fn one_range_in_each_spelling() {
        for (value, range) in [
            ("bytes=0-0", 0..1),
            ("bytes=0-9", 0..10),
            ("bytes=2-5", 2..6),
            ("bytes=9-", 9..10),
            ("bytes=3-99", 3..10),
            ("bytes=-3", 7..10),
            ("bytes=-99", 0..10),
            ("bytes=-99999999999999999999999", 0..10),
            ("Bytes=1-18446744073709551615", 1..10),
            ("bytes=1-99999999999999999999999", 1..10),
        ] {
            assert_eq!(of(value, 10), Requested::Part(range), "{value}");
        }
    }

    #[test]
    fn what_the_file_does_not_have() {
        for value in ["bytes=10-", "bytes=10-20", "bytes=-0", "bytes=99999999999999999999999-"] {
            assert_eq!(of(value, 10), Requested::Unsatisfiable, "{value}");
        }
        for value in ["bytes=0-", "bytes=-5", "bytes=0-0"] {
            assert_eq!(of(value, 0), Requested::Unsatisfiable, "{value}");
        }
    }

    #[test]
    fn what_is_ignored() {
        for value in [
            "bytes=5-2",
            "bytes=-",
            "bytes=",
            "bytes",
            "bytes=a-b",
            "bytes=+1-2",
            "lines=0-1",
            "bytes=0-1,3-4",
            "bytes=1",
        ] {
            assert_eq!(of(value, 10), Requested::Whole, "{value}");
        }
        let mut headers = HeaderMap::new();
        assert_eq!(requested(&headers, 10), Requested::Whole);
        for value in ["bytes=0-1", "bytes=3-4"] {
            headers.append(RANGE, HeaderValue::from_static(value));
        }
        assert_eq!(requested(&headers, 10), Requested::Whole);
    }

    proptest! {
        #[test]
        fn a_part_is_the_slice_that_was_asked_for(size in 0_u64..100, first in 0_u64..120, last in 0_u64..120) {
            let bytes: Vec<u64> = (0..size).collect();
            let wanted: Vec<u64> = (first..=last).filter(|at| *at < size).collect();
            match of(&format!("bytes={first}-{last}"), size) {
                Requested::Part(range) => prop_assert_eq!(&bytes[range.start as usize..range.end as usize], &wanted[..]),
                Requested::Unsatisfiable => prop_assert!(wanted.is_empty() && first <= last),
                Requested::Whole => prop_assert!(first > last),
            }
        }

        #[test]
        fn anything_stays_within_the_file(value in "(bytes=)?[0-9, =-]{0,50}", size: u64) {
            if let Requested::Part(range) = of(&value, size) {
                prop_assert!(range.start < range.end && range.end <= size);
            }
        }
    }
}
