//! What the wallet's one key file becomes: a node key, and the key of its preimages.

use hmac::{Hmac, KeyInit, Mac};
use secp256k1::{Message, PublicKey, SECP256K1, SecretKey, ecdsa::RecoverableSignature};
use sha2::Sha256;
use sluice_common::{l402::Preimage, network::Network, secret::Secret};

// Names in the derivation. They never change: invoices and tokens that are out depend on them.
const NODE_KEY: &[u8] = b"sluice test wallet v1 node key";
const PREIMAGE_KEY: &[u8] = b"sluice test wallet v1 preimage key";

/// The keys of a wallet.
pub(super) struct WalletKeys {
    node_key: SecretKey,
    node_id: PublicKey,
    /// HMAC-SHA256 under the preimage key, ready to be fed.
    preimages: Hmac<Sha256>,
}

impl WalletKeys {
    /// The keys that belong to `wallet_key`.
    pub(super) fn derive(wallet_key: &Secret<[u8; 32]>) -> Self {
        let wallet = keyed(wallet_key.expose());
        let node_key = node_key(&wallet);
        Self {
            node_key,
            node_id: node_key.public_key(SECP256K1),
            preimages: keyed(&finish(wallet.chain_update(PREIMAGE_KEY))),
        }
    }

    /// The node's public key.
    pub(super) fn node_id(&self) -> PublicKey {
        self.node_id
    }

    /// The node's secret key, with which a test signs what the wallet never would.
    #[cfg(test)]
    pub(super) fn node_key(&self) -> SecretKey {
        self.node_key
    }

    /// The node's signature.
    pub(super) fn sign(&self, message: &Message) -> RecoverableSignature {
        SECP256K1.sign_ecdsa_recoverable(message, &self.node_key)
    }

    /// The preimage of an invoice that asks for `amount_msat`, can be paid until `expires_at` (unix seconds), and
    /// carries `payment_secret`, which makes it the only one of its kind.
    pub(super) fn preimage(&self, amount_msat: u64, expires_at: u64, payment_secret: &[u8; 32]) -> Preimage {
        // The network's name is the only part that could vary in length, and it comes last.
        let mac = self
            .preimages
            .clone()
            .chain_update(amount_msat.to_be_bytes())
            .chain_update(expires_at.to_be_bytes())
            .chain_update(payment_secret)
            .chain_update(Network::TestWallet.name());
        Preimage::from_bytes(finish(mac))
    }
}

/// The node's key: the first of the candidates that is one. Fewer than one in 2^127 numbers is not.
fn node_key(wallet: &Hmac<Sha256>) -> SecretKey {
    let mut count: u64 = 0;
    loop {
        let candidate = finish(wallet.clone().chain_update(NODE_KEY).chain_update(count.to_be_bytes()));
        if let Ok(key) = SecretKey::from_slice(&candidate) {
            return key;
        }
        count += 1;
    }
}

/// HMAC-SHA256 under `key`. HMAC itself fills a short key with zeros to one block of 64 bytes; a whole block cannot be of
/// the wrong length.
fn keyed(key: &[u8; 32]) -> Hmac<Sha256> {
    let mut block = [0; 64];
    block[..32].copy_from_slice(key);
    Hmac::new(&block.into())
}

fn finish(mac: Hmac<Sha256>) -> [u8; 32] {
    mac.finalize().into_bytes().into()
}
