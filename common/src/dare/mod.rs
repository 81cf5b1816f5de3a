//! DARE 2.0, data at rest encryption: how files lie sealed in the local store.
//!
//! A stream is a row of packages of up to 64 KiB payload: header (16 bytes), ciphertext, tag (16 bytes).
//!
//! | header bytes | meaning |
//! |---|---|
//! | 0 | version, `0x20` |
//! | 1 | cipher: 0 AES-256-GCM, 1 ChaCha20-Poly1305 |
//! | 2, 3 | payload length - 1, little endian |
//! | 4 to 15 | the stream's random nonce, the same on every package but for its first bit, which only the last one sets |
//!
//! Every package but the last is full. A package's AEAD nonce is header bytes 4 to 15 with the last four XORed with the
//! package number (`u32`, little endian), its associated data header bytes 0 to 3. An empty stream is 0 bytes.
//!
//! The format is minio's: <https://github.com/minio/sio/blob/master/DARE.md>; files that it sealed are in
//! `testdata/dare`. Package numbers and the final flag are authenticated, so given the length of the plaintext any range
//! can be opened without reading what is before it, and nothing can be cut off, appended or moved unnoticed.

mod length;
mod open;
mod package;
mod seal;
#[cfg(test)]
mod testdata;

use hkdf::Hkdf;
use sha2::Sha256;

pub use self::{
    length::{MAX_PLAIN_LEN, Span, plain_len, sealed_len, span},
    open::Opener,
    seal::Sealer,
};
use crate::secret::Secret;

/// The most plaintext in one package, in bytes; every package but the last holds exactly this.
pub const MAX_PAYLOAD_LEN: usize = 1 << 16;

/// What a package adds to its payload, in bytes: header and tag.
pub const OVERHEAD_LEN: usize = package::HEADER_LEN + package::TAG_LEN;

/// A full package, in bytes.
pub const MAX_PACKAGE_LEN: usize = MAX_PAYLOAD_LEN + OVERHEAD_LEN;

/// The key of one file, 32 bytes. Prints as `[redacted]`, is wiped when dropped.
#[derive(Clone, Debug)]
pub struct DataKey(Secret<[u8; 32]>);

impl DataKey {
    /// The key of the file whose row has `nonce`: HKDF-SHA256 of `master`, with `nonce` (32 random bytes in every row;
    /// any length works) as salt and an empty info. Each file needs a nonce of its own.
    pub fn derive(master: &[u8; 32], nonce: &[u8]) -> Self {
        let mut key = [0; 32];
        #[expect(clippy::expect_used, reason = "HKDF-SHA256 gives up to 8160 bytes")]
        Hkdf::<Sha256>::new(Some(nonce), master).expand(&[], &mut key).expect("32 bytes");
        Self(Secret::new(key))
    }

    fn expose(&self) -> &[u8; 32] {
        self.0.expose()
    }
}

/// Why sealed bytes cannot be opened, or plain bytes not be sealed. Packages are counted from 0 at the stream's start.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum DareError {
    /// More than [`MAX_PLAIN_LEN`].
    #[error("a DARE 2.0 stream holds at most 256 TiB")]
    TooLong,
    /// The asked range does not lie within the plaintext.
    #[error("the range is not within the plaintext")]
    OutOfRange,
    /// Not DARE 2.0.
    #[error("package {package}: version byte {found:#04x} instead of 0x20")]
    Version {
        /// The package's number.
        package: u32,
        /// Its first byte.
        found: u8,
    },
    /// A cipher that DARE 2.0 does not know, or another than the packages before.
    #[error("package {package}: unexpected cipher {found}")]
    Cipher {
        /// The package's number.
        package: u32,
        /// Its second byte.
        found: u8,
    },
    /// Not the payload length that the length of the plaintext demands here.
    #[error("package {package}: payload of {found} bytes instead of {expected}")]
    Length {
        /// The package's number.
        package: u32,
        /// Bytes of payload that there should be.
        expected: u32,
        /// Bytes of payload that its header tells.
        found: u32,
    },
    /// The final flag is on a package that is not the last, or missing on the last.
    #[error("package {package}: misplaced final flag")]
    FinalFlag {
        /// The package's number.
        package: u32,
    },
    /// Another stream's nonce than on the packages before.
    #[error("package {package}: belongs to another stream")]
    Nonce {
        /// The package's number.
        package: u32,
    },
    /// The AEAD tag does not fit: another key, another place, or changed bytes.
    #[error("package {package}: not authentic")]
    NotAuthentic {
        /// The package's number.
        package: u32,
    },
    /// The sealed bytes end too early.
    #[error("the sealed bytes end in or before package {package}")]
    Truncated {
        /// The number of the first package that is not complete.
        package: u32,
    },
    /// There are sealed bytes after what was to be opened.
    #[error("more sealed bytes than were to be opened")]
    Trailing,
}

#[cfg(test)]
mod tests {
    use super::testdata::vectors;

    #[test]
    fn derives_the_keys_that_sio_users_derive_and_prints_none() {
        for vector in vectors() {
            assert_eq!(vector.key().expose(), &vector.derived_key, "{}", vector.name);
            assert_eq!(format!("{:?}", vector.key()), "DataKey([redacted])");
        }
    }
}
