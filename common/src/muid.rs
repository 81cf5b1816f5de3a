//! The name of a content: BLAKE2b-256 of its bytes.

use std::{fmt, str::FromStr};

use base64::{
    Engine, alphabet,
    engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig, general_purpose::URL_SAFE},
};
use blake2::{Blake2b256, Digest};

/// URL-safe base64 that writes padding and reads with or without it.
pub const BASE64URL: GeneralPurpose = GeneralPurpose::new(
    &alphabet::URL_SAFE,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

/// A content's name: BLAKE2b-256 of its bytes, written as padded base64url (44 characters).
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Muid([u8; 32]);

/// Makes the muid of a content from its bytes, in pieces of any length.
#[derive(Debug, Clone, Default)]
pub struct Hasher(Blake2b256);

impl Hasher {
    /// No bytes yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Takes the next bytes.
    pub fn update(&mut self, bytes: &[u8]) {
        self.0.update(bytes);
    }

    /// The muid of all bytes taken.
    pub fn finish(self) -> Muid {
        Muid(self.0.finalize().into())
    }
}

/// The text is not 32 bytes of base64url.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not a muid: expected 32 bytes of base64url")]
pub struct InvalidMuid;

impl Muid {
    /// The muid whose hash is `hash`.
    pub fn from_bytes(hash: [u8; 32]) -> Self {
        Self(hash)
    }

    /// The muid of the whole `content`.
    pub fn of(content: &[u8]) -> Self {
        let mut hasher = Hasher::new();
        hasher.update(content);
        hasher.finish()
    }

    /// The 32 bytes of the hash.
    pub fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }
}

impl fmt::Display for Muid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&URL_SAFE.encode(self.0))
    }
}

impl fmt::Debug for Muid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Muid({self})")
    }
}

impl FromStr for Muid {
    type Err = InvalidMuid;

    fn from_str(text: &str) -> Result<Self, InvalidMuid> {
        let bytes = BASE64URL.decode(text).map_err(|_| InvalidMuid)?;
        Ok(Self(bytes.try_into().map_err(|_| InvalidMuid)?))
    }
}

impl serde::Serialize for Muid {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> serde::Deserialize<'de> for Muid {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// BLAKE2b-256 of `abc`, by Python's hashlib.
    #[test]
    fn is_the_hash_of_all_pieces() {
        let muid = Muid::of(b"abc");
        assert_eq!(muid.to_string(), "vd2BPGNCOXIxce8_7phXm5SWTjuxyz5CcmLIwGjVIxk=");
        let mut hasher = Hasher::new();
        for piece in ["a", "", "bc"] {
            hasher.update(piece.as_bytes());
        }
        assert_eq!(hasher.finish(), muid);
    }

    #[test]
    fn reads_what_it_writes_padded_or_not() {
        let muid = Muid::from_bytes([0xfb; 32]);
        let text = muid.to_string();
        assert_eq!(text.len(), 44);
        assert_eq!(text.parse(), Ok(muid));
        assert_eq!(text.trim_end_matches('=').parse(), Ok(muid));
        for junk in ["", "===", "AAAA", "../../../../etc/passwd", &format!("{text}A")] {
            assert_eq!(junk.parse::<Muid>(), Err(InvalidMuid), "{junk}");
        }
    }
}
