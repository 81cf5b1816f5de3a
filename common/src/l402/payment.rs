//! What a Lightning payment is known by: its hash before, its preimage after.

use std::{fmt, str::FromStr};

use serde::Serialize;
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;
use zeroize::Zeroize;

/// SHA-256 of a preimage: 32 bytes that name an invoice. Not secret. Written as hex.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct PaymentHash([u8; 32]);

/// What whoever paid an invoice knows: 32 bytes. As good as money, so `Debug` shows nothing of it.
#[derive(Clone)]
pub struct Preimage([u8; 32]);

/// The text is not 32 bytes in hex.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("expected 32 bytes in hex")]
pub struct NotHex32;

pub(super) fn from_hex32(text: &str) -> Result<[u8; 32], NotHex32> {
    let mut bytes = [0; 32];
    hex::decode_to_slice(text, &mut bytes).map_err(|_| NotHex32)?;
    Ok(bytes)
}

impl PaymentHash {
    /// The hash whose bytes are `bytes`.
    pub fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// The 32 bytes.
    pub fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }
}

impl fmt::Display for PaymentHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&hex::encode(self.0))
    }
}

impl fmt::Debug for PaymentHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PaymentHash({self})")
    }
}

impl FromStr for PaymentHash {
    type Err = NotHex32;

    fn from_str(text: &str) -> Result<Self, NotHex32> {
        from_hex32(text).map(Self)
    }
}

impl Serialize for PaymentHash {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl Preimage {
    /// The preimage whose bytes are `bytes`.
    pub fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// The bytes. Named so that every use stands out in a review.
    pub fn expose(&self) -> &[u8; 32] {
        &self.0
    }

    /// The bytes in hex, as clients send them.
    pub fn expose_hex(&self) -> String {
        hex::encode(self.0)
    }

    /// The payment hash that this preimage proves paid.
    pub fn payment_hash(&self) -> PaymentHash {
        PaymentHash(Sha256::digest(self.0).into())
    }
}

impl PartialEq for Preimage {
    fn eq(&self, other: &Self) -> bool {
        self.0.ct_eq(&other.0).into()
    }
}

impl Eq for Preimage {}

impl Drop for Preimage {
    fn drop(&mut self) {
        self.0.zeroize();
    }
}

impl fmt::Debug for Preimage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Preimage([redacted])")
    }
}

impl FromStr for Preimage {
    type Err = NotHex32;

    fn from_str(text: &str) -> Result<Self, NotHex32> {
        from_hex32(text).map(Self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_preimage_hashes_to_its_payment_hash_and_prints_nothing() {
        let preimage: Preimage = "00".repeat(32).parse().unwrap();
        assert_eq!(
            preimage.payment_hash().to_string(),
            "66687aadf862bd776c8fc18b8e9f8e20089714856ee233b3902a591d0d5f2925"
        );
        assert_eq!(format!("{preimage:?}"), "Preimage([redacted])");
        assert_eq!("zz".parse::<Preimage>(), Err(NotHex32));
        assert_eq!("00".repeat(33).parse::<PaymentHash>(), Err(NotHex32));
    }
}
