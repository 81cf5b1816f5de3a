//! Proving to be a node: the server asks, the node signs, the server answers with a login.
//!
//! A challenge is stateless. Its `id` is 8 bytes of time (milliseconds since 1970, big endian) and 16 random ones; the
//! challenge is an HMAC-SHA256 of the id under a key that is derived from `JWT_KEY`. So any server with the key can check
//! an answer, nobody else can foresee a challenge, and no challenge can be chosen to be a message that means something
//! elsewhere. Whoever overhears an answer can send it again within the 10 seconds: that gives another login of the same
//! node, which an eavesdropper of `POST /verify` has read in its answer anyway.

use base64::{Engine, engine::general_purpose::URL_SAFE};
use serde::Serialize;
use sluice_common::{
    hmac::hmac_sha256,
    lightning_message::{self, NodeKey, SignatureError},
    muid::BASE64URL,
    secret::Secret,
};
use time::{Duration, OffsetDateTime};
use utoipa::ToSchema;

use crate::auth::JwtKey;

/// How long a challenge may be answered.
const ANSWERED_WITHIN: Duration = Duration::seconds(10);

/// How far another server's clock may be ahead of this one's.
const CLOCK_SKEW: Duration = Duration::seconds(2);

const ID_LEN: usize = 24;

/// Makes challenges and checks their answers.
pub struct Challenges {
    key: Secret<[u8; 32]>,
}

/// What `GET /ask` answers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
pub struct Challenge {
    /// Tells the server which challenge an answer is to.
    pub id: String,
    /// 32 bytes in padded base64url. The node signs these bytes, or this text.
    pub challenge: String,
}

/// What `POST /verify` is sent.
#[derive(Debug, Clone, Copy)]
pub struct Answer<'a> {
    /// The challenge's.
    pub id: &'a str,
    /// The node's signature, base64url of 65 bytes.
    pub signature: &'a str,
    /// The node's public key in hex.
    pub public_key: &'a str,
}

/// Why an answer proves nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum AnswerError {
    /// The id is none that this server gives.
    #[error("`id` is not that of a challenge of this server")]
    Id,
    /// More than 10 seconds have passed.
    #[error("the challenge was given more than 10 seconds ago: ask for another one")]
    TooLate,
    /// The public key cannot be read.
    #[error("`pubkey` is not a public key of 33 bytes in hex")]
    PublicKey,
    /// The signature cannot be read.
    #[error("`sig`: {0}")]
    Signature(#[from] SignatureError),
    /// The signature is another node's, or over something else.
    #[error("`sig` is not the signature of `pubkey` over the challenge")]
    NotSigned,
}

impl Challenges {
    /// Challenges that are bound to `key`.
    pub fn new(key: &JwtKey) -> Self {
        // Signed JWTs have a dot in them, so none can be this message.
        Self { key: Secret::new(hmac_sha256(key.expose(), b"sluice v1 login challenges")) }
    }

    /// A new challenge.
    pub fn ask(&self, now: OffsetDateTime) -> Challenge {
        let mut id = [0; ID_LEN];
        id[..8].copy_from_slice(&millis(now).to_be_bytes());
        id[8..].copy_from_slice(&rand::random::<[u8; ID_LEN - 8]>());
        Challenge { id: URL_SAFE.encode(id), challenge: URL_SAFE.encode(self.challenge(&id)) }
    }

    /// The node that answered within 10 seconds.
    pub fn verify(&self, answer: Answer<'_>, now: OffsetDateTime) -> Result<NodeKey, AnswerError> {
        let id = BASE64URL.decode(answer.id).map_err(|_| AnswerError::Id)?;
        let id: [u8; ID_LEN] = id.try_into().map_err(|_| AnswerError::Id)?;
        let (given, _) = id.split_first_chunk().ok_or(AnswerError::Id)?;
        let age = i128::from(millis(now)) - i128::from(u64::from_be_bytes(*given));
        if age > ANSWERED_WITHIN.whole_milliseconds() || age < -CLOCK_SKEW.whole_milliseconds() {
            return Err(AnswerError::TooLate);
        }
        let key = NodeKey::from_hex(answer.public_key).map_err(|_| AnswerError::PublicKey)?;
        let signature = lightning_message::parse_signature(answer.signature)?;
        let bytes = self.challenge(&id);
        let text = URL_SAFE.encode(bytes);
        let is_signed = |message: &[u8]| lightning_message::recover(message, &signature) == Ok(key);
        // Core Lightning signs text only.
        if is_signed(&bytes) || is_signed(text.as_bytes()) { Ok(key) } else { Err(AnswerError::NotSigned) }
    }

    fn challenge(&self, id: &[u8; ID_LEN]) -> [u8; 32] {
        hmac_sha256(self.key.expose(), id)
    }
}

fn millis(time: OffsetDateTime) -> u64 {
    u64::try_from(time.unix_timestamp_nanos() / 1_000_000).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use secp256k1::SecretKey;

    use super::*;

    fn challenges(key: &str) -> Challenges {
        Challenges::new(&JwtKey::new(Secret::new(key.to_owned())).unwrap())
    }

    fn node() -> SecretKey {
        SecretKey::from_slice(&[7; 32]).unwrap()
    }

    fn signed(message: &[u8]) -> String {
        URL_SAFE.encode(lightning_message::sign(message, &node()))
    }

    fn answer(
        challenges: &Challenges,
        challenge: &Challenge,
        signature: &str,
        after: Duration,
    ) -> Result<NodeKey, AnswerError> {
        let public_key = NodeKey::of(&node()).to_hex();
        challenges.verify(Answer { id: &challenge.id, signature, public_key: &public_key }, NOW + after)
    }

    const NOW: OffsetDateTime = time::macros::datetime!(2026-11-23 12:00:00.5 UTC);

    #[test]
    fn a_node_signs_the_bytes_or_the_text() {
        let challenges = challenges("key");
        let challenge = challenges.ask(NOW);
        assert_ne!(challenge, challenges.ask(NOW));
        let bytes = URL_SAFE.decode(&challenge.challenge).unwrap();
        assert_eq!(bytes.len(), 32);
        for message in [&bytes[..], challenge.challenge.as_bytes()] {
            assert_eq!(answer(&challenges, &challenge, &signed(message), Duration::ZERO), Ok(NodeKey::of(&node())));
        }
    }

    #[test]
    fn only_for_ten_seconds() {
        let challenges = challenges("key");
        let challenge = challenges.ask(NOW);
        let signature = signed(challenge.challenge.as_bytes());
        for (after_millis, good) in [(10_000, true), (10_001, false), (-2_000, true), (-2_001, false)] {
            let result = answer(&challenges, &challenge, &signature, Duration::milliseconds(after_millis));
            assert_eq!(result.is_ok(), good, "{after_millis}");
            assert!(good || result == Err(AnswerError::TooLate));
        }
    }

    #[test]
    fn only_this_servers_challenge_and_the_nodes_own_signature() {
        let challenges = challenges("key");
        let challenge = challenges.ask(NOW);
        let signature = signed(challenge.challenge.as_bytes());
        let refused = |challenge: &Challenge, signature: &str| {
            answer(&challenges, challenge, signature, Duration::ZERO).unwrap_err()
        };
        let other_server = super::tests::challenges("other").ask(NOW);
        assert_eq!(refused(&other_server, &signed(other_server.challenge.as_bytes())), AnswerError::NotSigned);
        assert_eq!(refused(&challenges.ask(NOW), &signature), AnswerError::NotSigned);
        assert_eq!(refused(&challenge, &signed(b"something else")), AnswerError::NotSigned);
        assert!(matches!(refused(&challenge, "???"), AnswerError::Signature(_)));
        for id in ["", "AAAA", "???", &challenge.challenge] {
            assert_eq!(
                refused(&Challenge { id: id.to_owned(), ..challenge.clone() }, &signature),
                AnswerError::Id,
                "{id}"
            );
        }
        for public_key in ["", "zz", &"02".repeat(32)] {
            let answer = Answer { id: &challenge.id, signature: &signature, public_key };
            assert_eq!(challenges.verify(answer, NOW), Err(AnswerError::PublicKey));
        }
        let other = NodeKey::of(&SecretKey::from_slice(&[8; 32]).unwrap()).to_hex();
        let answer = Answer { id: &challenge.id, signature: &signature, public_key: &other };
        assert_eq!(challenges.verify(answer, NOW), Err(AnswerError::NotSigned));
    }
}
