//! What a token's macaroon is known by.

use std::{fmt, str::FromStr};

use super::PaymentHash;

/// The length of an [`Identifier`] in bytes: a `u16` big-endian version, payment hash, token id.
pub const IDENTIFIER_LEN: usize = 66;

const VERSION: [u8; 2] = [0, 0];

/// 32 bytes that name a token: 8 fingerprint of the master key, 8 mint time (`u64` big endian, unix seconds), 8 random,
/// 8 of an HMAC over these. Not secret. Written as hex. (Tokens of Aperture have 32 random bytes here.)
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct TokenId(pub(crate) [u8; 32]);

impl TokenId {
    /// The id whose bytes are `bytes`.
    pub fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// The 32 bytes.
    pub fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }

    /// The fingerprint of the master key, 8 bytes.
    pub fn key_fingerprint(&self) -> &[u8] {
        &self.0[..8]
    }

    /// Unix seconds at which it was minted.
    pub fn minted_at(&self) -> u64 {
        self.0[8..16].iter().fold(0, |time, &byte| time << 8 | u64::from(byte))
    }
}

impl fmt::Display for TokenId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&hex::encode(self.0))
    }
}

impl fmt::Debug for TokenId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "TokenId({self})")
    }
}

impl FromStr for TokenId {
    type Err = super::NotHex32;

    fn from_str(text: &str) -> Result<Self, super::NotHex32> {
        super::payment::from_hex32(text).map(Self)
    }
}

/// What a token's macaroon is known by, version 0: 66 bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Identifier {
    /// The payment that makes the macaroon a credential.
    pub payment_hash: PaymentHash,
    /// The token.
    pub token_id: TokenId,
}

/// The bytes are no [`Identifier`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the macaroon's identifier is not an L402 identifier of version 0")]
pub struct InvalidIdentifier;

impl Identifier {
    /// Reads the 66 bytes.
    pub fn parse(bytes: &[u8]) -> Result<Self, InvalidIdentifier> {
        let bytes: &[u8; IDENTIFIER_LEN] = bytes.try_into().map_err(|_| InvalidIdentifier)?;
        if bytes[..2] != VERSION {
            return Err(InvalidIdentifier);
        }
        let (mut payment_hash, mut token_id) = ([0; 32], [0; 32]);
        payment_hash.copy_from_slice(&bytes[2..34]);
        token_id.copy_from_slice(&bytes[34..]);
        Ok(Self { payment_hash: PaymentHash::from_bytes(payment_hash), token_id: TokenId(token_id) })
    }

    /// The 66 bytes.
    pub fn to_bytes(&self) -> [u8; IDENTIFIER_LEN] {
        let mut bytes = [0; IDENTIFIER_LEN];
        bytes[..2].copy_from_slice(&VERSION);
        bytes[2..34].copy_from_slice(self.payment_hash.as_bytes());
        bytes[34..].copy_from_slice(self.token_id.as_bytes());
        bytes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_what_it_writes_and_no_other_version() {
        let mut token_id = [7; 32];
        token_id[8..16].copy_from_slice(&1_700_000_000_u64.to_be_bytes());
        let identifier = Identifier { payment_hash: PaymentHash::from_bytes([3; 32]), token_id: TokenId(token_id) };
        let mut bytes = identifier.to_bytes();
        assert_eq!(Identifier::parse(&bytes), Ok(identifier));
        assert_eq!(identifier.token_id.minted_at(), 1_700_000_000);
        assert_eq!(identifier.token_id.to_string().parse(), Ok(identifier.token_id));
        assert_eq!(Identifier::parse(&bytes[1..]), Err(InvalidIdentifier));
        bytes[1] = 1;
        assert_eq!(Identifier::parse(&bytes), Err(InvalidIdentifier));
    }
}
