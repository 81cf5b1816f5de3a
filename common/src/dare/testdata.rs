//! Files that minio/sio sealed: `testdata/dare`.

use std::{fs, path::Path};

use serde::Deserialize;

use super::{DataKey, package::Cipher};

/// A file that minio/sio sealed.
pub(super) struct Vector {
    pub(super) name: String,
    pub(super) cipher: Cipher,
    pub(super) plain: Vec<u8>,
    pub(super) sealed: Vec<u8>,
    pub(super) derived_key: [u8; 32],
    master_key: [u8; 32],
    salt: Vec<u8>,
}

impl Vector {
    pub(super) fn key(&self) -> DataKey {
        DataKey::derive(&self.master_key, &self.salt)
    }
}

#[derive(Deserialize)]
struct Listing {
    master_key_hex: String,
    vectors: Vec<Entry>,
}

#[derive(Deserialize)]
struct Entry {
    name: String,
    cipher: String,
    hkdf_salt_nonce_hex: String,
    derived_key_hex: String,
    plaintext_size: usize,
    plaintext_sha256: String,
}

/// `len` bytes that differ from package to package.
pub(super) fn plaintext(len: usize, seed: usize) -> Vec<u8> {
    (0..len).map(|i| ((7 * i + seed) % 256) as u8 ^ ((i >> 8) % 256) as u8).collect()
}

pub(super) fn vectors() -> Vec<Vector> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("testdata/dare");
    let listing: Listing = serde_json::from_slice(&fs::read(folder.join("dare.json")).unwrap()).unwrap();
    let key = |text: &str| -> [u8; 32] { hex::decode(text).unwrap().try_into().unwrap() };
    let vectors: Vec<_> = listing
        .vectors
        .into_iter()
        .enumerate()
        .map(|(i, entry)| Vector {
            plain: checked(plaintext(entry.plaintext_size, i + 1), &entry.plaintext_sha256),
            sealed: fs::read(folder.join(&entry.name).with_added_extension("bin")).unwrap(),
            cipher: match entry.cipher.as_str() {
                "AES-256-GCM" => Cipher::Aes256Gcm,
                "CHACHA20-POLY1305" => Cipher::ChaCha20Poly1305,
                other => panic!("{other}"),
            },
            derived_key: key(&entry.derived_key_hex),
            master_key: key(&listing.master_key_hex),
            salt: hex::decode(entry.hkdf_salt_nonce_hex).unwrap(),
            name: entry.name,
        })
        .collect();
    assert_eq!(vectors.len(), 14);
    vectors
}

fn checked(plain: Vec<u8>, sha256: &str) -> Vec<u8> {
    use sha2::{Digest, Sha256};
    assert_eq!(hex::encode(Sha256::digest(&plain)), sha256);
    plain
}
