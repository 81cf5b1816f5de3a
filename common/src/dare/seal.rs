//! Sealing a stream.

use std::mem;

use rand::RngCore;

use super::{
    DareError, DataKey, MAX_PACKAGE_LEN, MAX_PAYLOAD_LEN,
    length::MAX_PLAIN_LEN,
    package::{Cipher, HEADER_LEN, Stream, StreamNonce, TAG_LEN},
};

/// Seals a stream with AES-256-GCM, piece by piece. Holds at most one package: the last one is told apart by a flag, so
/// none can be sealed before it is known whether more follows.
pub struct Sealer {
    stream: Stream,
    /// Of the package in `held`.
    number: u32,
    total_bytes: u64,
    /// Room for a header, then 0 to 65,536 bytes of plaintext; sealed in place.
    held: Vec<u8>,
}

impl Sealer {
    /// A sealer for one new stream, under a nonce of its own.
    pub fn new(key: &DataKey) -> Self {
        let mut nonce = [0; 12];
        rand::rng().fill_bytes(&mut nonce);
        Self::with_cipher(key, Cipher::Aes256Gcm, nonce)
    }

    /// A nonce used twice with one key gives both plaintexts away, so only tests choose one.
    fn with_cipher(key: &DataKey, cipher: Cipher, nonce: [u8; 12]) -> Self {
        let stream = Stream::new(key, cipher, StreamNonce::new(nonce));
        Self { stream, number: 0, total_bytes: 0, held: vec![0; HEADER_LEN] }
    }

    /// Takes the next bytes of plaintext, any number of them, and appends to `out` the packages that are complete.
    ///
    /// An empty `out` may be handed another buffer, with what was held, instead of a copy of that.
    ///
    /// Errors: [`DareError::TooLong`] past [`MAX_PLAIN_LEN`]; then nothing of `plain` was taken.
    pub fn update(&mut self, mut plain: &[u8], out: &mut Vec<u8>) -> Result<(), DareError> {
        let total_bytes = self.total_bytes.saturating_add(plain.len() as u64);
        if total_bytes > MAX_PLAIN_LEN {
            return Err(DareError::TooLong);
        }
        self.total_bytes = total_bytes;

        let held_len = self.held.len() - HEADER_LEN;
        if held_len + plain.len() > MAX_PAYLOAD_LEN {
            if held_len > 0 {
                let (fill, rest) = plain.split_at(MAX_PAYLOAD_LEN - held_len);
                plain = rest;
                self.hold(fill);
                self.emit_held(false, plain.len() <= MAX_PAYLOAD_LEN, out);
            }
            // What is left over is never nothing: a package goes out only when a byte follows it.
            out.reserve(plain.len().saturating_sub(1) / MAX_PAYLOAD_LEN * MAX_PACKAGE_LEN);
            while plain.len() > MAX_PAYLOAD_LEN {
                let (payload, rest) = plain.split_at(MAX_PAYLOAD_LEN);
                plain = rest;
                let start = out.len();
                out.extend_from_slice(&[0; HEADER_LEN]);
                out.extend_from_slice(payload);
                self.stream.seal(self.number, false, out, start);
                self.number += 1;
            }
        }
        self.hold(plain);
        Ok(())
    }

    /// Ends the stream: appends its last package to `out`. Nothing for an empty stream.
    pub fn finish(mut self, out: &mut Vec<u8>) {
        if self.held.len() > HEADER_LEN {
            self.emit_held(true, true, out);
        }
    }

    fn hold(&mut self, plain: &[u8]) {
        if self.held.len() + plain.len() + TAG_LEN > self.held.capacity() {
            // At once what a full package needs: growing step by step would copy it again and again.
            self.held.reserve_exact(MAX_PACKAGE_LEN - self.held.len());
        }
        self.held.extend_from_slice(plain);
    }

    /// Seals what is held; `only` says that this call emits no other package.
    fn emit_held(&mut self, last: bool, only: bool, out: &mut Vec<u8>) {
        self.stream.seal(self.number, last, &mut self.held, 0);
        // The 2^32nd package is the last that the check of the total lets through.
        self.number = self.number.wrapping_add(1);
        if only && out.is_empty() {
            mem::swap(out, &mut self.held);
        } else {
            out.extend_from_slice(&self.held);
        }
        self.held.clear();
        self.held.resize(HEADER_LEN, 0);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::{
        super::{
            Opener, sealed_len,
            testdata::{plaintext, vectors},
        },
        *,
    };

    fn key() -> DataKey {
        DataKey::derive(&[7; 32], b"nonce")
    }

    /// Seals in pieces of `chunk` bytes; `gather` into one buffer, or a new one for each piece.
    fn seal(mut sealer: Sealer, plain: &[u8], chunk: usize, gather: bool) -> Vec<u8> {
        let mut sealed = Vec::new();
        for piece in plain.chunks(chunk) {
            let mut out = if gather { mem::take(&mut sealed) } else { Vec::new() };
            sealer.update(piece, &mut out).unwrap();
            sealed.extend(out);
        }
        sealer.finish(&mut sealed);
        sealed
    }

    fn open(sealed: &[u8], plain_len: usize) -> Result<Vec<u8>, DareError> {
        let mut plain = Vec::new();
        let mut opener = Opener::new(&key(), 0, plain_len as u64)?;
        opener.update(sealed, &mut plain)?;
        opener.finish()?;
        Ok(plain)
    }

    #[test]
    fn what_is_sealed_opens_again_however_it_was_cut() {
        for len in [0, 1, 65_535, 65_536, 65_537, 131_072, 200_001] {
            let plain = plaintext(len, 3);
            for chunk in [777, 8_192, 65_535, 65_536, 65_537, 100_000, 300_000] {
                for gather in [true, false] {
                    let sealed = seal(Sealer::new(&key()), &plain, chunk, gather);
                    assert_eq!(sealed.len() as u64, sealed_len(len as u64), "{len} in pieces of {chunk}");
                    assert!(open(&sealed, len) == Ok(plain.clone()), "{len} in pieces of {chunk}");
                }
            }
        }
        let bytewise = seal(Sealer::new(&key()), &plaintext(65_537, 3), 1, true);
        assert!(open(&bytewise, 65_537) == Ok(plaintext(65_537, 3)));
    }

    #[test]
    fn seals_the_bytes_that_sio_seals() {
        for vector in vectors() {
            let nonce = vector.sealed[4..16].try_into().unwrap();
            for (chunk, gather) in [(1_000, true), (65_536, false), (1 << 20, true)] {
                let sealer = Sealer::with_cipher(&vector.key(), vector.cipher, nonce);
                assert!(seal(sealer, &vector.plain, chunk, gather) == vector.sealed, "{} {chunk}", vector.name);
            }
        }
    }

    #[test]
    fn leaves_alone_what_out_already_holds() {
        let mut sealer = Sealer::new(&key());
        let mut out = b"before".to_vec();
        sealer.update(&[1; 100_000], &mut out).unwrap();
        assert_eq!(out.len(), 6 + MAX_PACKAGE_LEN);
        sealer.finish(&mut out);
        assert_eq!(&out[..6], b"before");
        assert!(open(&out[6..], 100_000).unwrap() == [1; 100_000]);
    }

    #[test]
    fn each_stream_has_a_nonce_of_its_own_and_its_first_bit_free() {
        let nonces: Vec<_> =
            (0..64).map(|_| seal(Sealer::new(&key()), &[0; 70_000], 70_000, true)[4..16].to_vec()).collect();
        for (i, nonce) in nonces.iter().enumerate() {
            assert_eq!(nonce[0] & 0x80, 0);
            assert!(!nonces[..i].contains(nonce));
        }
    }

    #[test]
    fn refuses_the_byte_past_the_last_package_number() {
        let mut sealer = Sealer::new(&key());
        sealer.total_bytes = MAX_PLAIN_LEN - 65_536;
        sealer.number = u32::MAX;
        let mut out = Vec::new();
        sealer.update(&[0; 65_536], &mut out).unwrap();
        assert_eq!(sealer.update(&[0], &mut out), Err(DareError::TooLong));
        assert!(out.is_empty());
        sealer.finish(&mut out);
        let mut opener = Opener::new(&key(), u32::MAX, MAX_PLAIN_LEN).unwrap();
        let mut plain = Vec::new();
        opener.update(&out, &mut plain).unwrap();
        opener.finish().unwrap();
        assert!(plain == [0; 65_536]);
    }

    #[test]
    fn can_move_between_threads() {
        fn is_send<T: Send + 'static>() {}
        is_send::<Sealer>();
        is_send::<Opener>();
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        #[test]
        fn pieces_of_any_lengths_make_one_stream(lens in proptest::collection::vec(0_usize..150_000, 0..6)) {
            let plain = plaintext(lens.iter().sum(), 9);
            let mut sealer = Sealer::new(&key());
            let (mut rest, mut sealed) = (&plain[..], Vec::new());
            for len in lens {
                let (piece, after) = rest.split_at(len);
                rest = after;
                sealer.update(piece, &mut sealed).unwrap();
            }
            sealer.finish(&mut sealed);
            prop_assert_eq!(sealed.len() as u64, sealed_len(plain.len() as u64));
            prop_assert!(open(&sealed, plain.len()) == Ok(plain));
        }
    }
}
