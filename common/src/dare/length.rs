//! Where the packages lie: arithmetic between plain and sealed positions.

use std::ops::Range;

use super::{DareError, MAX_PACKAGE_LEN, MAX_PAYLOAD_LEN, OVERHEAD_LEN};

/// The longest stream, in plain bytes (256 TiB): package numbers are `u32`.
pub const MAX_PLAIN_LEN: u64 = PAYLOAD << 32;

const PAYLOAD: u64 = MAX_PAYLOAD_LEN as u64;
const PACKAGE: u64 = MAX_PACKAGE_LEN as u64;
const OVERHEAD: u64 = OVERHEAD_LEN as u64;

/// How many sealed bytes `plain_len` bytes become. 0 stays 0; past [`MAX_PLAIN_LEN`], where nothing can be sealed, it
/// saturates.
pub fn sealed_len(plain_len: u64) -> u64 {
    plain_len.saturating_add(plain_len.div_ceil(PAYLOAD).saturating_mul(OVERHEAD))
}

/// How many plain bytes are in a stream of `sealed_len` bytes; none when no stream has this length.
pub fn plain_len(sealed_len: u64) -> Option<u64> {
    let full = sealed_len / PACKAGE;
    let last = match sealed_len % PACKAGE {
        0 => 0,
        rest if rest > OVERHEAD => rest - OVERHEAD,
        _ => return None,
    };
    Some(full * PAYLOAD + last).filter(|&len| len <= MAX_PLAIN_LEN)
}

/// Which sealed bytes to read to open a range of plain bytes. Made by [`span`], used up by
/// [`Opener::for_span`](super::Opener::for_span).
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Span {
    /// The sealed bytes to read: whole packages. Empty for an empty range.
    pub sealed: Range<u64>,
    /// The number of the package that they begin with.
    pub first_package: u32,
    /// Bytes of the first package's payload before the range. `Opener::for_span` leaves them out.
    pub skip: usize,
    /// Bytes in the range. `Opener::for_span` gives exactly these.
    pub take: u64,
    /// Bytes of plaintext in the whole stream.
    pub plain_len: u64,
}

/// Which sealed bytes to read to open the plain bytes `range` of a stream with `plain_len` bytes of plaintext.
///
/// Errors: [`DareError::TooLong`], and [`DareError::OutOfRange`] when the range is not within `0..plain_len`.
pub fn span(range: Range<u64>, plain_len: u64) -> Result<Span, DareError> {
    if range.start > range.end || range.end > checked(plain_len)? {
        return Err(DareError::OutOfRange);
    }
    if range.is_empty() {
        return Ok(Span { sealed: 0..0, first_package: 0, skip: 0, take: 0, plain_len });
    }
    let first = range.start / PAYLOAD;
    let end = range.end.div_ceil(PAYLOAD);
    Ok(Span {
        sealed: first * PACKAGE..sealed_len(plain_len).min(end * PACKAGE),
        first_package: u32::try_from(first).map_err(|_| DareError::TooLong)?,
        skip: (range.start % PAYLOAD) as usize,
        take: range.end - range.start,
        plain_len,
    })
}

/// `plain_len` if a stream can be so long.
pub(super) fn checked(plain_len: u64) -> Result<u64, DareError> {
    if plain_len > MAX_PLAIN_LEN { Err(DareError::TooLong) } else { Ok(plain_len) }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn lengths_at_the_edges() {
        for (plain, sealed) in
            [(0, 0), (1, 33), (65_535, 65_567), (65_536, 65_568), (65_537, 65_601), (200_001, 200_129)]
        {
            assert_eq!(sealed_len(plain), sealed);
            assert_eq!(plain_len(sealed), Some(plain));
        }
        for nothing in [1, 16, 32, 65_569, 65_600, u64::MAX, sealed_len(MAX_PLAIN_LEN) + 33] {
            assert_eq!(plain_len(nothing), None, "{nothing}");
        }
        assert_eq!(plain_len(sealed_len(MAX_PLAIN_LEN)), Some(MAX_PLAIN_LEN));
        assert_eq!(sealed_len(u64::MAX), u64::MAX);
    }

    #[test]
    fn spans_at_the_edges() {
        let whole = span(0..200_001, 200_001).unwrap();
        assert_eq!((whole.sealed, whole.first_package, whole.skip), (0..200_129, 0, 0));
        let last = span(196_608..196_609, 200_001).unwrap();
        assert_eq!((last.sealed, last.first_package, last.skip), (196_704..200_129, 3, 0));
        let across = span(65_535..65_537, 200_001).unwrap();
        assert_eq!((across.sealed, across.first_package, across.skip), (0..131_136, 0, 65_535));
        assert!(span(5..5, 5).unwrap().sealed.is_empty());
        assert!(span(0..0, 0).unwrap().sealed.is_empty());
        let end = span(MAX_PLAIN_LEN - 1..MAX_PLAIN_LEN, MAX_PLAIN_LEN).unwrap();
        assert_eq!((end.sealed.end, end.first_package), (sealed_len(MAX_PLAIN_LEN), u32::MAX));
        assert!(span(MAX_PLAIN_LEN..MAX_PLAIN_LEN, MAX_PLAIN_LEN).is_ok());
    }

    #[test]
    fn refuses_what_is_not_there() {
        assert_eq!(span(0..6, 5), Err(DareError::OutOfRange));
        #[expect(clippy::reversed_empty_ranges, reason = "it is what must be refused")]
        let reversed = 3..2;
        assert_eq!(span(reversed, 5), Err(DareError::OutOfRange));
        for range in [0..0, 0..1, 0..u64::MAX, u64::MAX - 1..u64::MAX] {
            assert_eq!(span(range, u64::MAX), Err(DareError::TooLong));
        }
    }

    proptest! {
        #[test]
        fn plain_len_undoes_sealed_len(len in 0..=MAX_PLAIN_LEN) {
            prop_assert_eq!(plain_len(sealed_len(len)), Some(len));
        }

        #[test]
        fn no_two_lengths_are_one(sealed in any::<u64>()) {
            if let Some(plain) = plain_len(sealed) {
                prop_assert_eq!(sealed_len(plain), sealed);
            }
        }
    }
}
