//! Opening a stream, from any package on.

use super::{
    DareError, DataKey, MAX_PAYLOAD_LEN, OVERHEAD_LEN,
    length::{Span, checked},
    package::{HEADER_LEN, Header, Stream},
};

/// Opens a stream, or the packages of a [`Span`], piece by piece. Holds at most one package.
///
/// The length of the plaintext comes from outside (the file's row), and every package is checked against it: version,
/// cipher, length, final flag on the last one and no other, the same nonce on all, AEAD tag. One file is sealed once
/// under its key, so what passes is what was sealed, where it was sealed.
pub struct Opener {
    key: DataKey,
    /// Known from the first package on.
    stream: Option<Stream>,
    plain_len: u64,
    /// Of the next package.
    number: u32,
    /// Packages still to be opened.
    remaining: u64,
    /// Plain bytes still to be left out, all of them in the next package.
    skip: usize,
    /// Plain bytes still to be given.
    take: u64,
    /// The beginning of the next package.
    partial: Vec<u8>,
    failed: Option<DareError>,
}

impl Opener {
    /// Opens from package `first_package` on to the end of a stream whose plaintext has `plain_len` bytes; the whole
    /// stream with 0. For a range that ends before, see [`Self::for_span`].
    ///
    /// Errors: [`DareError::TooLong`], and [`DareError::OutOfRange`] when the stream has no such package.
    pub fn new(key: &DataKey, first_package: u32, plain_len: u64) -> Result<Self, DareError> {
        let packages = checked(plain_len)?.div_ceil(MAX_PAYLOAD_LEN as u64);
        let remaining = packages.checked_sub(first_package.into()).ok_or(DareError::OutOfRange)?;
        Ok(Self::with(key, first_package, remaining, (0, u64::MAX), plain_len))
    }

    /// Opens the packages of `span` and gives exactly the plain bytes of its range.
    pub fn for_span(key: &DataKey, span: &Span) -> Self {
        let packages = (span.skip as u64 + span.take).div_ceil(MAX_PAYLOAD_LEN as u64);
        Self::with(key, span.first_package, packages, (span.skip, span.take), span.plain_len)
    }

    fn with(key: &DataKey, number: u32, remaining: u64, (skip, take): (usize, u64), plain_len: u64) -> Self {
        let key = key.clone();
        Self { key, stream: None, plain_len, number, remaining, skip, take, partial: Vec::new(), failed: None }
    }

    /// Takes the next sealed bytes, any number of them, and appends to `out` the plain bytes of the packages that are
    /// complete. Only authentic bytes ever get there, those before an error too.
    ///
    /// Errors: whatever is wrong with a package, and [`DareError::Trailing`]. After an error every call gives it again.
    pub fn update(&mut self, sealed: &[u8], out: &mut Vec<u8>) -> Result<(), DareError> {
        if let Some(error) = self.failed {
            return Err(error);
        }
        self.open_complete(sealed, out).inspect_err(|&error| self.failed = Some(error))
    }

    /// Ends the stream or span. What came out before is whole only if this succeeds.
    ///
    /// Errors: [`DareError::Truncated`] when packages are missing, or the error that [`Self::update`] gave.
    pub fn finish(self) -> Result<(), DareError> {
        match self.failed {
            Some(error) => Err(error),
            None if self.remaining > 0 => Err(DareError::Truncated { package: self.number }),
            None => Ok(()),
        }
    }

    fn open_complete(&mut self, mut sealed: &[u8], out: &mut Vec<u8>) -> Result<(), DareError> {
        out.reserve(sealed.len());
        while !sealed.is_empty() {
            if self.remaining == 0 {
                return Err(DareError::Trailing);
            }
            let missing = self.payload_len() + OVERHEAD_LEN - self.partial.len();
            if sealed.len() < missing {
                self.partial.reserve_exact(missing);
                self.partial.extend_from_slice(sealed);
                break;
            }
            let (piece, rest) = sealed.split_at(missing);
            sealed = rest;
            self.open_package(piece, out)?;
            self.partial.clear();
            self.remaining -= 1;
            // Wraps only after package 2^32 - 1, which is always the last.
            self.number = self.number.wrapping_add(1);
        }
        Ok(())
    }

    /// Opens the package that `partial` begins and `piece` completes.
    fn open_package(&mut self, piece: &[u8], out: &mut Vec<u8>) -> Result<(), DareError> {
        let mut header = [0; HEADER_LEN];
        for (to, from) in header.iter_mut().zip(self.partial.iter().chain(piece)) {
            *to = *from;
        }
        let (number, last) = (self.number, self.is_last());
        let read = Header::read(&header, number)?;
        self.check(&read)?;

        let start = out.len();
        out.extend_from_slice(self.partial.get(HEADER_LEN..).unwrap_or_default());
        out.extend_from_slice(&piece[HEADER_LEN.saturating_sub(self.partial.len())..]);
        let stream = self.stream.get_or_insert_with(|| Stream::new(&self.key, read.cipher, read.nonce));
        stream.open(number, last, &header, out, start)?;
        self.cut_to_range(out, start);
        Ok(())
    }

    fn check(&self, header: &Header) -> Result<(), DareError> {
        let (package, expected) = (self.number, self.payload_len());
        if header.payload_len != expected {
            return Err(DareError::Length { package, expected: expected as u32, found: header.payload_len as u32 });
        }
        if header.last != self.is_last() {
            return Err(DareError::FinalFlag { package });
        }
        match &self.stream {
            Some(stream) if stream.cipher() != header.cipher => {
                Err(DareError::Cipher { package, found: header.cipher as u8 })
            }
            Some(stream) if stream.nonce() != header.nonce => Err(DareError::Nonce { package }),
            _ => Ok(()),
        }
    }

    /// Leaves of the payload that begins at `start` only what is in the range.
    fn cut_to_range(&mut self, out: &mut Vec<u8>, start: usize) {
        if self.skip > 0 {
            out.drain(start..start + self.skip);
            self.skip = 0;
        }
        let len = (out.len() - start) as u64;
        if len > self.take {
            out.truncate(start + self.take as usize);
        }
        self.take -= len.min(self.take);
    }

    /// Plain bytes from the next package on.
    fn plain_left(&self) -> u64 {
        self.plain_len - u64::from(self.number) * MAX_PAYLOAD_LEN as u64
    }

    /// Of the next package.
    fn payload_len(&self) -> usize {
        self.plain_left().min(MAX_PAYLOAD_LEN as u64) as usize
    }

    fn is_last(&self) -> bool {
        self.plain_left() <= MAX_PAYLOAD_LEN as u64
    }
}

#[cfg(test)]
mod tests {
    use std::{ops::Range, sync::LazyLock};

    use proptest::prelude::*;

    use super::{
        super::{
            MAX_PACKAGE_LEN, MAX_PLAIN_LEN, Sealer, span,
            testdata::{Vector, vectors},
        },
        *,
    };

    static VECTORS: LazyLock<Vec<Vector>> = LazyLock::new(vectors);

    /// A stream of four packages, the last one short.
    fn long() -> &'static Vector {
        VECTORS.iter().find(|vector| vector.plain.len() == 200_001).unwrap()
    }

    fn feed(mut opener: Opener, sealed: &[u8], chunk: usize) -> (Vec<u8>, Result<(), DareError>) {
        let mut plain = Vec::new();
        for piece in sealed.chunks(chunk) {
            if let Err(error) = opener.update(piece, &mut plain) {
                assert_eq!(opener.update(b"", &mut plain), Err(error), "an error stays");
                return (plain, Err(error));
            }
        }
        (plain, opener.finish())
    }

    /// Opens `sealed` as if it were `vector`'s stream.
    fn open_as(vector: &Vector, sealed: &[u8], chunk: usize) -> (Vec<u8>, Result<(), DareError>) {
        feed(Opener::new(&vector.key(), 0, vector.plain.len() as u64).unwrap(), sealed, chunk)
    }

    fn open_range(vector: &Vector, range: Range<usize>, chunk: usize) -> Vec<u8> {
        let span = span(range.start as u64..range.end as u64, vector.plain.len() as u64).unwrap();
        let sealed = &vector.sealed[span.sealed.start as usize..span.sealed.end as usize];
        let (plain, result) = feed(Opener::for_span(&vector.key(), &span), sealed, chunk);
        assert_eq!(result, Ok(()), "{} {range:?}", vector.name);
        plain
    }

    fn package(sealed: &[u8], number: usize) -> &[u8] {
        sealed.chunks(MAX_PACKAGE_LEN).nth(number).unwrap()
    }

    #[test]
    fn opens_what_sio_sealed_however_it_is_cut() {
        for vector in VECTORS.iter() {
            for chunk in [15, 17, 999, 65_536, 65_568, 65_569, 1 << 20] {
                let (plain, result) = open_as(vector, &vector.sealed, chunk);
                assert_eq!(result, Ok(()), "{} in pieces of {chunk}", vector.name);
                assert!(plain == vector.plain, "{} in pieces of {chunk}", vector.name);
            }
        }
    }

    #[test]
    fn opens_ranges_at_the_edges() {
        for vector in VECTORS.iter() {
            let len = vector.plain.len();
            let edges = [0, 1, 65_535, 65_536, 65_537, 131_071, 131_072, 196_608, len - 1, len];
            for start in edges {
                for end in edges.into_iter().filter(|&end| start <= end && end <= len) {
                    assert!(open_range(vector, start..end, 4_096) == vector.plain[start..end], "{start}..{end}");
                }
            }
        }
    }

    #[test]
    fn opens_from_a_package_to_the_end() {
        let vector = long();
        let opener = Opener::new(&vector.key(), 2, 200_001).unwrap();
        let (plain, result) = feed(opener, &vector.sealed[2 * MAX_PACKAGE_LEN..], 70_000);
        assert_eq!(result, Ok(()));
        assert!(plain == vector.plain[131_072..]);
        assert_eq!(Opener::new(&vector.key(), 5, 200_001).err(), Some(DareError::OutOfRange));
        assert_eq!(Opener::new(&vector.key(), 0, MAX_PLAIN_LEN + 1).err(), Some(DareError::TooLong));
    }

    #[test]
    fn an_empty_stream_has_no_bytes() {
        let key = long().key();
        assert_eq!(feed(Opener::new(&key, 0, 0).unwrap(), b"", 1), (vec![], Ok(())));
        assert_eq!(feed(Opener::new(&key, 0, 0).unwrap(), b"x", 1), (vec![], Err(DareError::Trailing)));
        assert_eq!(feed(Opener::for_span(&key, &span(7..7, 9).unwrap()), b"", 1), (vec![], Ok(())));
    }

    #[test]
    fn refuses_a_stream_cut_off_anywhere() {
        let vector = long();
        for len in [0, 1, 16, 65_567, 65_568, 65_569, 131_136, 196_704, 196_705, 200_128] {
            let (plain, result) = open_as(vector, &vector.sealed[..len], 50_000);
            let package = (len / MAX_PACKAGE_LEN) as u32;
            assert_eq!(result, Err(DareError::Truncated { package }), "{len}");
            assert!(plain == vector.plain[..package as usize * MAX_PAYLOAD_LEN], "{len}");
        }
        // Cut off, and the row changed to match: the final flag tells.
        let opener = Opener::new(&vector.key(), 0, 131_072).unwrap();
        let (_, result) = feed(opener, &vector.sealed[..131_136], 50_000);
        assert_eq!(result, Err(DareError::FinalFlag { package: 1 }));
        // And with the flag set on what is last now: the tag tells.
        let mut forged = vector.sealed[..131_136].to_vec();
        forged[MAX_PACKAGE_LEN + 4] |= 0x80;
        let (plain, result) = feed(Opener::new(&vector.key(), 0, 131_072).unwrap(), &forged, 50_000);
        assert_eq!(result, Err(DareError::NotAuthentic { package: 1 }));
        assert!(plain == vector.plain[..65_536]);
    }

    #[test]
    fn refuses_a_range_cut_off_or_with_more_behind() {
        let vector = long();
        let part = span(70_000..70_010, 200_001).unwrap();
        let sealed = &vector.sealed[65_568..];
        let (plain, result) = feed(Opener::for_span(&vector.key(), &part), &sealed[..65_567], 1_000);
        assert_eq!((plain, result), (vec![], Err(DareError::Truncated { package: 1 })));
        let (plain, result) = feed(Opener::for_span(&vector.key(), &part), &sealed[..65_569], 1_000);
        assert_eq!(result, Err(DareError::Trailing));
        assert!(plain == vector.plain[70_000..70_010]);
    }

    #[test]
    fn refuses_appended_bytes() {
        for vector in VECTORS.iter() {
            for more in [&b"x"[..], &vector.sealed] {
                assert_eq!(open_as(vector, &[&vector.sealed, more].concat(), 8_192).1, Err(DareError::Trailing));
            }
        }
    }

    #[test]
    fn refuses_packages_in_another_order_or_of_another_stream() {
        let vector = long();
        let of = |number| package(&vector.sealed, number);
        for (order, wrong) in [([1, 0, 2, 3], 0), ([0, 2, 1, 3], 1), ([0, 0, 2, 3], 1), ([0, 1, 1, 3], 2)] {
            let (plain, result) = open_as(vector, &order.map(of).concat(), 8_192);
            assert_eq!(result, Err(DareError::NotAuthentic { package: wrong }), "{order:?}");
            assert!(plain == vector.plain[..wrong as usize * MAX_PAYLOAD_LEN]);
        }
        assert_eq!(open_as(vector, &[0, 3].map(of).concat(), 200_000).1, Err(DareError::Truncated { package: 1 }));

        let mut other = Vec::new();
        let mut sealer = Sealer::new(&vector.key());
        sealer.update(&vector.plain, &mut other).unwrap();
        sealer.finish(&mut other);
        let mixed = [of(0), package(&other, 1), of(2), of(3)].concat();
        assert_eq!(open_as(vector, &mixed, 8_192).1, Err(DareError::Nonce { package: 1 }));

        let stranger = &VECTORS[0];
        let opener = Opener::new(&stranger.key(), 0, 200_001).unwrap();
        assert_eq!(feed(opener, &vector.sealed, 8_192), (vec![], Err(DareError::NotAuthentic { package: 0 })));
    }

    #[test]
    fn says_what_is_wrong_with_a_header() {
        let vector = long();
        let broken = |at: usize, byte: u8| {
            let mut sealed = vector.sealed.clone();
            sealed[MAX_PACKAGE_LEN + at] = byte;
            open_as(vector, &sealed, 1 << 20).1
        };
        assert_eq!(broken(0, 0x10), Err(DareError::Version { package: 1, found: 0x10 }));
        assert_eq!(broken(1, 2), Err(DareError::Cipher { package: 1, found: 2 }));
        assert_eq!(broken(1, 1 - vector.cipher as u8), Err(DareError::Cipher { package: 1, found: 1 }));
        assert_eq!(broken(2, 0xfe), Err(DareError::Length { package: 1, expected: 65_536, found: 65_535 }));
        assert_eq!(broken(4, vector.sealed[4] | 0x80), Err(DareError::FinalFlag { package: 1 }));
        assert_eq!(broken(15, vector.sealed[15] ^ 1), Err(DareError::Nonce { package: 1 }));
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(128))]

        #[test]
        fn any_range_is_the_plaintext_there(
            (which, a, b, chunk) in (0..VECTORS.len(), any::<usize>(), any::<usize>(), 1_usize..140_000),
        ) {
            let vector = &VECTORS[which];
            let (a, b) = (a % (vector.plain.len() + 1), b % (vector.plain.len() + 1));
            let range = a.min(b)..a.max(b);
            prop_assert!(open_range(vector, range.clone(), chunk.max(16)) == vector.plain[range]);
        }

        #[test]
        fn any_flipped_bit_is_found_and_nothing_after_it_comes_out(
            (which, at, bit) in (0..VECTORS.len(), any::<usize>(), 0..8),
        ) {
            let vector = &VECTORS[which];
            let mut sealed = vector.sealed.clone();
            let at = at % sealed.len();
            sealed[at] ^= 1_u8 << bit;
            let (plain, result) = open_as(vector, &sealed, 30_000);
            prop_assert!(result.is_err());
            let before = at / MAX_PACKAGE_LEN * MAX_PAYLOAD_LEN;
            prop_assert!(plain == vector.plain[..before]);
        }
    }
}
