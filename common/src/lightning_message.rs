//! Messages signed by Lightning nodes, and the keys that sign them.
//!
//! The format of LND's `SignMessage` and Core Lightning's `signmessage`: an ECDSA signature on secp256k1 over
//! SHA-256(SHA-256("Lightning Signed Message:" + message)) from which the signer's key can be recovered, 65 bytes:
//! 31 + recovery id (0 to 3), r (32), s (32). Nodes print it as zbase32; the media server's clients send it as
//! base64url. (31 is Bitcoin's 27, plus 4 for a compressed key; no node sends 27 to 30.)

use std::{fmt, str::FromStr};

use base64::{Engine, engine::general_purpose::URL_SAFE};
use secp256k1::{
    Message, PublicKey, SECP256K1, SecretKey,
    ecdsa::{RecoverableSignature, RecoveryId},
};
use sha2::{Digest, Sha256};

use crate::muid::BASE64URL;

/// Bytes in a signature.
pub const SIGNATURE_LEN: usize = 65;

const PREFIX: &[u8] = b"Lightning Signed Message:";
const FIRST_HEADER: u8 = 31;

/// A Lightning node's public key: a point of secp256k1, 33 bytes compressed, written as padded base64url (44
/// characters).
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct NodeKey([u8; 33]);

/// Not the compressed public key of a node.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not a node's public key: expected a point of secp256k1 in 33 bytes")]
pub struct InvalidNodeKey;

impl NodeKey {
    /// The key with these bytes; an error when they are no point of the curve.
    pub fn from_bytes(bytes: [u8; 33]) -> Result<Self, InvalidNodeKey> {
        PublicKey::from_slice(&bytes).map(Self::from).map_err(|_| InvalidNodeKey)
    }

    /// The key written as 66 hexadecimal digits, of either case, as nodes print it.
    pub fn from_hex(text: &str) -> Result<Self, InvalidNodeKey> {
        let mut bytes = [0; 33];
        hex::decode_to_slice(text, &mut bytes).map_err(|_| InvalidNodeKey)?;
        Self::from_bytes(bytes)
    }

    /// The public key of `secret_key`.
    pub fn of(secret_key: &SecretKey) -> Self {
        secret_key.public_key(SECP256K1).into()
    }

    /// The 33 bytes.
    pub fn as_bytes(&self) -> &[u8; 33] {
        &self.0
    }

    /// The key as nodes print it: 66 hexadecimal digits, lower case.
    pub fn to_hex(&self) -> String {
        hex::encode(self.0)
    }
}

impl From<PublicKey> for NodeKey {
    fn from(key: PublicKey) -> Self {
        Self(key.serialize())
    }
}

impl fmt::Display for NodeKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&URL_SAFE.encode(self.0))
    }
}

impl fmt::Debug for NodeKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "NodeKey({self})")
    }
}

impl FromStr for NodeKey {
    type Err = InvalidNodeKey;

    fn from_str(text: &str) -> Result<Self, InvalidNodeKey> {
        let bytes = BASE64URL.decode(text).map_err(|_| InvalidNodeKey)?;
        Self::from_bytes(bytes.try_into().map_err(|_| InvalidNodeKey)?)
    }
}

impl serde::Serialize for NodeKey {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> serde::Deserialize<'de> for NodeKey {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

/// Why there is no signer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum SignatureError {
    /// Not base64url, padded or not.
    #[error("the signature is not base64url")]
    NotBase64,
    /// Not [`SIGNATURE_LEN`] bytes.
    #[error("the signature has not 65 bytes")]
    Length,
    /// The first byte is not 31 to 34.
    #[error("the signature does not begin with 31 plus a recovery id")]
    Header,
    /// No key can have made it.
    #[error("no key can have made the signature")]
    NoSigner,
}

/// Reads a signature written as base64url, padded or not. Whose it is, [`recover`] tells.
///
/// Errors: all of [`SignatureError`] but `NoSigner`.
pub fn parse_signature(text: &str) -> Result<[u8; SIGNATURE_LEN], SignatureError> {
    let bytes = BASE64URL.decode(text).map_err(|_| SignatureError::NotBase64)?;
    let signature = bytes.try_into().map_err(|_| SignatureError::Length)?;
    recovery_id(&signature)?;
    Ok(signature)
}

/// The key that signed `message`.
///
/// Any well-formed signature has some signer for any message, so the answer says nothing until it is compared with the
/// key that should have signed.
///
/// Errors: [`SignatureError::Header`] and [`SignatureError::NoSigner`].
pub fn recover(message: &[u8], signature: &[u8; SIGNATURE_LEN]) -> Result<NodeKey, SignatureError> {
    let id = recovery_id(signature)?;
    RecoverableSignature::from_compact(&signature[1..], id)
        .and_then(|signature| SECP256K1.recover_ecdsa(&digest(message), &signature))
        .map(NodeKey::from)
        .map_err(|_| SignatureError::NoSigner)
}

/// Signs `message` as a node with `secret_key` does; the same bytes each time (RFC 6979).
pub fn sign(message: &[u8], secret_key: &SecretKey) -> [u8; SIGNATURE_LEN] {
    let (id, compact) = SECP256K1.sign_ecdsa_recoverable(&digest(message), secret_key).serialize_compact();
    let mut signature = [0; SIGNATURE_LEN];
    // A recovery id is 0 to 3.
    signature[0] = FIRST_HEADER + id.to_i32() as u8;
    signature[1..].copy_from_slice(&compact);
    signature
}

fn recovery_id(signature: &[u8; SIGNATURE_LEN]) -> Result<RecoveryId, SignatureError> {
    let id = signature[0].checked_sub(FIRST_HEADER).ok_or(SignatureError::Header)?;
    RecoveryId::from_i32(id.into()).map_err(|_| SignatureError::Header)
}

fn digest(message: &[u8]) -> Message {
    let once = Sha256::new().chain_update(PREFIX).chain_update(message).finalize();
    Message::from_digest(Sha256::digest(once).into())
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;
    use serde_json::Value;

    use super::*;

    fn vectors() -> Value {
        serde_json::from_str(include_str!("../testdata/lightning_messages.json")).unwrap()
    }

    fn secret_key() -> SecretKey {
        SecretKey::from_slice(&[0x11; 32]).unwrap()
    }

    #[test]
    fn recovers_the_signer_of_every_message_that_btcec_signed() {
        let vectors = vectors();
        let signer: NodeKey = vectors["signer_pubkey_base64url"].as_str().unwrap().parse().unwrap();
        let messages = vectors["messages"].as_array().unwrap();
        assert_eq!(messages.len(), 4);
        for vector in messages {
            let message = hex::decode(vector["message_hex"].as_str().unwrap()).unwrap();
            let text = vector["sig_base64url"].as_str().unwrap();
            let signature = parse_signature(text).unwrap();
            assert_eq!(parse_signature(text.trim_end_matches('=')), Ok(signature));
            assert_eq!(recover(&message, &signature), Ok(signer), "{text}");
            assert_ne!(recover(&[&message, &b"!"[..]].concat(), &signature), Ok(signer), "{text}");
        }
    }

    #[test]
    fn keys_read_what_they_write() {
        let vectors = vectors();
        let (hex, text) = (vectors["signer_pubkey_hex"].as_str().unwrap(), vectors["signer_pubkey_base64url"].as_str());
        let key = NodeKey::from_hex(hex).unwrap();
        assert_eq!(key.to_string(), text.unwrap());
        assert_eq!(key.to_hex(), hex);
        assert_eq!(NodeKey::from_hex(&hex.to_uppercase()), Ok(key));
        assert_eq!(serde_json::from_value::<NodeKey>(serde_json::to_value(key).unwrap()).unwrap(), key);
        assert_eq!(format!("{key:?}"), format!("NodeKey({key})"));
        assert_eq!(BTreeSet::from([key, NodeKey::of(&secret_key()), key]).len(), 2);
    }

    #[test]
    fn keys_are_points_in_33_bytes() {
        let hex = NodeKey::of(&secret_key()).to_hex();
        let uncompressed = hex::encode(secret_key().public_key(SECP256K1).serialize_uncompressed());
        for junk in ["", "02", &hex[2..], &format!("{hex}00"), &hex.replace('0', "g"), &uncompressed] {
            assert_eq!(NodeKey::from_hex(junk), Err(InvalidNodeKey), "{junk}");
        }
        assert_eq!(NodeKey::from_bytes([2; 33]).map(|key| *key.as_bytes()), Ok([2; 33]));
        for not_a_point in [[0; 33], [4; 33], [0xff; 33]] {
            assert_eq!(NodeKey::from_bytes(not_a_point), Err(InvalidNodeKey));
        }
        for junk in ["", "====", "AAAA", &hex] {
            assert_eq!(junk.parse::<NodeKey>(), Err(InvalidNodeKey), "{junk}");
        }
        assert!(serde_json::from_str::<NodeKey>("\"AAAA\"").is_err());
    }

    #[test]
    fn refuses_signatures_of_another_form() {
        let mut signature = sign(b"m", &secret_key());
        let text = URL_SAFE.encode(signature);
        assert_eq!(parse_signature(&text), Ok(signature));
        assert_eq!(parse_signature(&text.replace('=', "!")), Err(SignatureError::NotBase64));
        assert_eq!(parse_signature(&format!(" {text}")), Err(SignatureError::NotBase64));
        // 65 bytes leave two bits of the last character unused; only zeros are canonical.
        assert_eq!(parse_signature(&format!("{}B=", &text[..86])), Err(SignatureError::NotBase64));
        assert_eq!(parse_signature(""), Err(SignatureError::Length));
        assert_eq!(parse_signature(&text[..84]), Err(SignatureError::Length));
        assert_eq!(parse_signature(&URL_SAFE.encode([31; 66])), Err(SignatureError::Length));
        for header in [0, 27, 30, 35, 255] {
            signature[0] = header;
            assert_eq!(parse_signature(&URL_SAFE.encode(signature)), Err(SignatureError::Header), "{header}");
            assert_eq!(recover(b"m", &signature), Err(SignatureError::Header), "{header}");
        }
        for (r_and_s, header) in [(0, 31), (0xff, 31), (1, 33)] {
            signature = [r_and_s; SIGNATURE_LEN];
            signature[0] = header;
            let signer = recover(b"m", &signature);
            assert!(signer == Err(SignatureError::NoSigner) || r_and_s == 1, "{signer:?}");
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        #[test]
        fn signatures_lead_back_to_their_key(message: Vec<u8>, secret in any::<[u8; 32]>()) {
            prop_assume!(SecretKey::from_slice(&secret).is_ok());
            let secret_key = SecretKey::from_slice(&secret).unwrap();
            let signature = sign(&message, &secret_key);
            prop_assert!((31..=34).contains(&signature[0]));
            prop_assert_eq!(recover(&message, &signature), Ok(NodeKey::of(&secret_key)));
        }

        #[test]
        fn never_panics(message: Vec<u8>, text: String, head: [u8; 32], tail: [u8; 33]) {
            let _ = parse_signature(&text);
            let _ = text.parse::<NodeKey>();
            let _ = NodeKey::from_hex(&text);
            let _ = NodeKey::from_bytes(tail);
            let _ = recover(&message, &[&head[..], &tail].concat().try_into().unwrap());
        }
    }
}
