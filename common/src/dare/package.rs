//! One package: its header, its nonce, its AEAD.

use ring::aead::{AES_256_GCM, Aad, Algorithm, CHACHA20_POLY1305, LessSafeKey, Nonce, UnboundKey};

use super::{DareError, DataKey, MAX_PAYLOAD_LEN};

pub(super) const HEADER_LEN: usize = 16;
pub(super) const TAG_LEN: usize = 16;

const VERSION: u8 = 0x20;
const FINAL_FLAG: u8 = 0x80;
const NONCE_LEN: usize = 12;

/// A stream's nonce, the final flag cleared.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) struct StreamNonce([u8; NONCE_LEN]);

impl StreamNonce {
    pub(super) fn new(mut bytes: [u8; NONCE_LEN]) -> Self {
        bytes[0] &= !FINAL_FLAG;
        Self(bytes)
    }

    fn with_flag(self, last: bool) -> [u8; NONCE_LEN] {
        let mut bytes = self.0;
        bytes[0] |= if last { FINAL_FLAG } else { 0 };
        bytes
    }

    /// The AEAD nonce of package `number`.
    fn of_package(self, number: u32, last: bool) -> Nonce {
        let mut nonce = self.with_flag(last);
        for (byte, number) in nonce[NONCE_LEN - 4..].iter_mut().zip(number.to_le_bytes()) {
            *byte ^= number;
        }
        Nonce::assume_unique_for_key(nonce)
    }
}

/// The ciphers of DARE 2.0.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Cipher {
    Aes256Gcm = 0,
    ChaCha20Poly1305 = 1,
}

impl Cipher {
    fn from_byte(byte: u8) -> Option<Self> {
        match byte {
            0 => Some(Self::Aes256Gcm),
            1 => Some(Self::ChaCha20Poly1305),
            _ => None,
        }
    }

    fn algorithm(self) -> &'static Algorithm {
        match self {
            Self::Aes256Gcm => &AES_256_GCM,
            Self::ChaCha20Poly1305 => &CHACHA20_POLY1305,
        }
    }
}

/// What all packages of a stream share: key, cipher and nonce.
pub(super) struct Stream {
    key: LessSafeKey,
    cipher: Cipher,
    nonce: StreamNonce,
}

/// A package header as it was read, nothing of it proved.
pub(super) struct Header {
    pub(super) cipher: Cipher,
    pub(super) payload_len: usize,
    pub(super) nonce: StreamNonce,
    pub(super) last: bool,
}

impl Header {
    /// Reads the header of package `number`.
    pub(super) fn read(bytes: &[u8; HEADER_LEN], number: u32) -> Result<Self, DareError> {
        let [version, cipher, low, high, nonce @ ..] = *bytes;
        if version != VERSION {
            return Err(DareError::Version { package: number, found: version });
        }
        Ok(Self {
            cipher: Cipher::from_byte(cipher).ok_or(DareError::Cipher { package: number, found: cipher })?,
            payload_len: usize::from(u16::from_le_bytes([low, high])) + 1,
            nonce: StreamNonce::new(nonce),
            last: nonce[0] & FINAL_FLAG != 0,
        })
    }
}

impl Stream {
    pub(super) fn new(key: &DataKey, cipher: Cipher, nonce: StreamNonce) -> Self {
        #[expect(clippy::expect_used, reason = "both ciphers take a key of 32 bytes")]
        let key = UnboundKey::new(cipher.algorithm(), key.expose()).expect("32 bytes");
        Self { key: LessSafeKey::new(key), cipher, nonce }
    }

    pub(super) fn cipher(&self) -> Cipher {
        self.cipher
    }

    pub(super) fn nonce(&self) -> StreamNonce {
        self.nonce
    }

    /// Seals in place what is in `buffer` from `start` on: room for a header, then 1 to 65,536 bytes of payload.
    /// Writes the header and appends the tag.
    pub(super) fn seal(&self, number: u32, last: bool, buffer: &mut Vec<u8>, start: usize) {
        let (header, payload) = buffer[start..].split_at_mut(HEADER_LEN);
        debug_assert!((1..=MAX_PAYLOAD_LEN).contains(&payload.len()));
        header[0] = VERSION;
        header[1] = self.cipher as u8;
        header[2..4].copy_from_slice(&((payload.len() - 1) as u16).to_le_bytes());
        header[4..].copy_from_slice(&self.nonce.with_flag(last));
        let nonce = self.nonce.of_package(number, last);
        #[expect(clippy::expect_used, reason = "it fails past 64 GiB only, a package has at most 64 KiB")]
        let tag = self.key.seal_in_place_separate_tag(nonce, Aad::from(&header[..4]), payload).expect("64 KiB");
        buffer.extend_from_slice(tag.as_ref());
    }

    /// Opens in place what is in `buffer` from `start` on: ciphertext and tag of the package whose header is `header`.
    /// Leaves the payload; if it is not authentic, nothing.
    pub(super) fn open(
        &self,
        number: u32,
        last: bool,
        header: &[u8; HEADER_LEN],
        buffer: &mut Vec<u8>,
        start: usize,
    ) -> Result<(), DareError> {
        let nonce = self.nonce.of_package(number, last);
        let opened = self.key.open_in_place(nonce, Aad::from(&header[..4]), &mut buffer[start..]);
        let payload_len = opened.as_ref().map_or(0, |payload| payload.len());
        let result = opened.map(|_| ()).map_err(|_| DareError::NotAuthentic { package: number });
        buffer.truncate(start + payload_len);
        result
    }
}
