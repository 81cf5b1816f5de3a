//! Master keys: from them and a token's identifier every root key is derived, so that minting writes nothing.

use rand::RngCore;
use subtle::ConstantTimeEq;

use crate::{
    hmac::hmac_sha256,
    l402::{Identifier, TokenId},
    network::Network,
    secret::Secret,
};

/// The length of a master key in bytes.
pub const MASTER_KEY_LEN: usize = 32;

const FINGERPRINT_LEN: usize = 8;

/// All master keys, each with a time from which it mints. Every key verifies; the newest whose time has come mints, so a
/// key can be known everywhere before it is used. One that is retired, for it has leaked, never mints, and what verifies
/// under it is no proof: its tokens must be in the ledger, too ([`Self::is_retired`]).
#[derive(Debug, Clone)]
pub struct MasterKeys(Vec<MasterKey>);

/// A master key: 32 random bytes, kept as what is derived from it.
#[derive(Debug, Clone)]
pub struct MasterKey {
    fingerprint: [u8; FINGERPRINT_LEN],
    mints_from: u64,
    retired: bool,
    root_keys: Secret<[u8; 32]>,
    token_ids: Secret<[u8; 32]>,
    permits: Secret<[u8; 32]>,
}

/// Why keys cannot be used together.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum KeysError {
    /// There is none.
    #[error("there is no master key")]
    None,
    /// The same key twice.
    #[error("a master key stands in the list twice")]
    Twice,
}

impl MasterKeys {
    /// The keys of this list.
    pub fn new(keys: Vec<MasterKey>) -> Result<Self, KeysError> {
        if keys.is_empty() {
            return Err(KeysError::None);
        }
        let twice =
            |(at, key): (usize, &MasterKey)| keys[..at].iter().any(|other| other.fingerprint == key.fingerprint);
        if keys.iter().enumerate().any(twice) {
            return Err(KeysError::Twice);
        }
        Ok(Self(keys))
    }

    /// The key that mints at `now` (unix seconds): the newest whose time has come, of those not retired.
    pub fn minting(&self, now: u64) -> Option<&MasterKey> {
        self.0.iter().filter(|key| key.mints_from <= now && !key.retired).max_by_key(|key| key.mints_from)
    }

    /// The key that `token_id` was minted under, by its fingerprint.
    pub fn of(&self, token_id: &TokenId) -> Option<&MasterKey> {
        self.0.iter().find(|key| key.fingerprint == token_id.key_fingerprint())
    }

    /// Whether a token id was made by one of these keys: then the settlement that names it is ours.
    pub fn made(&self, token_id: &TokenId) -> bool {
        self.of(token_id).is_some_and(|key| key.tag(&token_id.0[..TAG_AT]) == token_id.0[TAG_AT..])
    }

    /// Whether a token was minted under a key that is retired. Anybody may have made it then: it is worth something only
    /// if a node said that just this token was paid.
    pub fn is_retired(&self, token_id: &TokenId) -> bool {
        self.of(token_id).is_some_and(|key| key.retired)
    }

    /// All keys.
    pub fn iter(&self) -> impl Iterator<Item = &MasterKey> {
        self.0.iter()
    }

    /// Whether one of these keys, but a retired one, made the MAC of a [`crate::permit::FreePermit`].
    pub(crate) fn made_permit(&self, mac: &[u8; 32], message: &[u8]) -> bool {
        self.0.iter().filter(|key| !key.retired).any(|key| key.permit_mac(message).ct_eq(mac).into())
    }

    /// What tells each key from others and says nothing of it: 16 hexadecimal digits.
    pub fn fingerprints(&self) -> impl Iterator<Item = String> {
        self.0.iter().map(MasterKey::fingerprint)
    }
}

/// A key that rows depend on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeyUse {
    /// What the key is for, as configuration names it, for instance `LOCAL_ENCRYPTION_KEY`.
    pub name: String,
    /// Tells keys apart and says nothing of them.
    pub fingerprint: String,
}

/// A key that rows depend on is not among those configured.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "{name} is not the key that the database was used with (its fingerprint there: {fingerprint}); start with that key, \
     or, to give up all that depends on it: sluice keys forget {name} {fingerprint}"
)]
pub struct KeyMissing {
    /// What configuration calls it.
    pub name: String,
    /// Of the key that is missing.
    pub fingerprint: String,
}

impl KeyUse {
    /// The use of `key`, which `name` is. `label` keeps fingerprints of different uses apart, and never changes.
    pub fn of(name: &str, key: &[u8], label: &str) -> Self {
        Self { name: name.to_owned(), fingerprint: fingerprint(key, label) }
    }

    /// The use of each of `keys`.
    pub fn of_master_keys(keys: &MasterKeys) -> impl Iterator<Item = Self> {
        keys.fingerprints().map(|fingerprint| Self { name: "SLUICE_MASTER_KEYS".to_owned(), fingerprint })
    }
}

/// 16 hexadecimal digits that tell keys apart: from an HMAC of `label`, which says nothing of the key, nor of what
/// another label gives.
pub fn fingerprint(key: &[u8], label: &str) -> String {
    hex::encode(&hmac_sha256(key, label.as_bytes())[..FINGERPRINT_LEN])
}

/// Refuses to go on without a key that rows depend on.
pub fn check_in_use(in_use: Vec<KeyUse>, configured: &[KeyUse]) -> Result<(), KeyMissing> {
    match in_use.into_iter().find(|key| !configured.contains(key)) {
        Some(KeyUse { name, fingerprint }) => Err(KeyMissing { name, fingerprint }),
        None => Ok(()),
    }
}

/// Where the HMAC stands in a token id.
const TAG_AT: usize = 24;

impl MasterKey {
    /// The key of 32 random bytes that mints from `mints_from` on (unix seconds; 0: always).
    pub fn new(key: &Secret<[u8; MASTER_KEY_LEN]>, mints_from: u64) -> Self {
        let derive = |label: &[u8]| hmac_sha256(key.expose(), label);
        let mut fingerprint = [0; FINGERPRINT_LEN];
        fingerprint.copy_from_slice(&derive(b"sluice v1 master key fingerprint")[..FINGERPRINT_LEN]);
        Self {
            fingerprint,
            mints_from,
            retired: false,
            root_keys: Secret::new(derive(b"sluice v1 l402 root keys")),
            token_ids: Secret::new(derive(b"sluice v1 l402 token ids")),
            permits: Secret::new(derive(b"sluice v1 permits")),
        }
    }

    /// The same key, retired: it has leaked.
    #[must_use]
    pub fn retired(self) -> Self {
        Self { retired: true, ..self }
    }

    /// Whether it is retired.
    pub fn is_retired(&self) -> bool {
        self.retired
    }

    /// From when on it mints, in unix seconds, unless it is retired.
    pub fn mints_from(&self) -> u64 {
        self.mints_from
    }

    /// What tells it from others and says nothing of it: 16 hexadecimal digits.
    pub fn fingerprint(&self) -> String {
        hex::encode(self.fingerprint)
    }

    /// A new token id: fingerprint, `now` (unix seconds), 8 random bytes, 8 of an HMAC over these.
    pub fn new_token_id(&self, now: u64) -> TokenId {
        let mut id = [0; 32];
        id[..8].copy_from_slice(&self.fingerprint);
        id[8..16].copy_from_slice(&now.to_be_bytes());
        rand::rng().fill_bytes(&mut id[16..TAG_AT]);
        let tag = self.tag(&id[..TAG_AT]);
        id[TAG_AT..].copy_from_slice(&tag);
        TokenId(id)
    }

    /// The root key of a macaroon: its network is part of it, so play money buys nothing on a real node.
    pub(crate) fn root_key(&self, network: Network, identifier: &Identifier) -> [u8; 32] {
        let mut message = vec![u8::try_from(network.name().len()).unwrap_or(u8::MAX)];
        message.extend_from_slice(network.name().as_bytes());
        message.extend_from_slice(&identifier.to_bytes());
        hmac_sha256(self.root_keys.expose(), &message)
    }

    /// The MAC of a [`crate::permit::FreePermit`].
    pub(crate) fn permit_mac(&self, message: &[u8]) -> [u8; 32] {
        hmac_sha256(self.permits.expose(), message)
    }

    fn tag(&self, id: &[u8]) -> [u8; 8] {
        let mut tag = [0; 8];
        tag.copy_from_slice(&hmac_sha256(self.token_ids.expose(), id)[..8]);
        tag
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(byte: u8, mints_from: u64) -> MasterKey {
        MasterKey::new(&Secret::new([byte; 32]), mints_from)
    }

    #[test]
    fn the_newest_key_whose_time_has_come_mints_and_all_are_known() {
        let keys = MasterKeys::new(vec![key(1, 0), key(3, 2_000), key(2, 1_000)]).unwrap();
        let minted_under =
            |now| *keys.minting(now).unwrap().new_token_id(now).key_fingerprint().first_chunk::<8>().unwrap();
        assert_eq!(minted_under(999), key(1, 0).fingerprint);
        assert_eq!(minted_under(1_000), key(2, 0).fingerprint);
        assert_eq!(minted_under(5_000), key(3, 0).fingerprint);
        assert!(MasterKeys::new(vec![key(1, 10)]).unwrap().minting(9).is_none());
        assert_eq!(MasterKeys::new(vec![key(1, 0), key(1, 5)]).unwrap_err(), KeysError::Twice);
        assert_eq!(MasterKeys::new(vec![]).unwrap_err(), KeysError::None);
        let leaked = MasterKeys::new(vec![key(1, 0), key(2, 1_000).retired()]).unwrap();
        assert_eq!(leaked.minting(5_000).unwrap().fingerprint, key(1, 0).fingerprint);
        for (byte, retired) in [(1, false), (2, true), (3, false)] {
            assert_eq!(leaked.is_retired(&key(byte, 0).new_token_id(1_000)), retired);
        }
        assert!(!format!("{keys:?}").contains(&hex::encode(keys.0[0].root_keys.expose())));
    }

    #[test]
    fn a_key_in_use_that_is_not_configured_is_named() {
        let configured = [KeyUse::of("a", b"key", "label"), KeyUse::of("b", b"key", "label")];
        assert_eq!(check_in_use(vec![], &configured), Ok(()));
        assert_eq!(check_in_use(vec![configured[1].clone()], &configured), Ok(()));
        let missing = KeyUse::of("b", b"other key", "label");
        let error = check_in_use(vec![configured[0].clone(), missing.clone()], &configured).unwrap_err();
        assert_eq!((&error.name, &error.fingerprint), (&missing.name, &missing.fingerprint));
        assert!(error.to_string().ends_with(&format!("sluice keys forget b {}", missing.fingerprint)), "{error}");
        assert_eq!(missing.fingerprint.len(), 16);
        assert_ne!(fingerprint(b"key", "label"), fingerprint(b"key", "other label"));
        let keys = MasterKeys::new(vec![key(1, 0)]).unwrap();
        assert_eq!(KeyUse::of_master_keys(&keys).next().unwrap().fingerprint, keys.fingerprints().next().unwrap());
    }

    #[test]
    fn token_ids_say_when_they_were_made_and_by_whom() {
        let keys = MasterKeys::new(vec![key(1, 0)]).unwrap();
        let id = keys.minting(1_700_000_000).unwrap().new_token_id(1_700_000_000);
        assert_eq!(id.minted_at(), 1_700_000_000);
        assert!(keys.made(&id));
        let mut forged = id;
        forged.0[20] ^= 1;
        assert!(!keys.made(&forged));
        assert!(!MasterKeys::new(vec![key(2, 0)]).unwrap().made(&id));
        assert_ne!(id, keys.minting(1_700_000_000).unwrap().new_token_id(1_700_000_000));
    }

    #[test]
    fn root_keys_differ_by_network_and_identifier() {
        let key = key(1, 0);
        let identifier = |byte| Identifier {
            payment_hash: crate::l402::PaymentHash::from_bytes([byte; 32]),
            token_id: TokenId([9; 32]),
        };
        let root = key.root_key(Network::Regtest, &identifier(1));
        assert_eq!(root, key.root_key(Network::Regtest, &identifier(1)));
        assert_ne!(root, key.root_key(Network::TestWallet, &identifier(1)));
        assert_ne!(root, key.root_key(Network::Regtest, &identifier(2)));
    }
}
