//! What the client keeps between runs: the key it logs in with, and the tokens it bought or is about to buy.
//!
//! `key`: the secret key, 64 hexadecimal digits. `tokens/PAYMENT_HASH.json`: one file a token. The folder is mode 700,
//! the files 600, and every file is written whole: a temporary one, fsync, rename, fsync of the folder.

mod saved;

use std::{
    ffi::OsString,
    fs, io,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
};

use secp256k1::SecretKey;
use sluice_common::l402::{PaymentHash, Preimage};

pub use self::saved::{SavedToken, SavedTokenError};
use super::console;
use crate::files::{Existing, make_dir, write_whole};

/// The folder of what the client keeps.
#[derive(Debug, Clone)]
pub struct State {
    dir: PathBuf,
}

/// Why what the client keeps cannot be read or written. Names the file.
#[derive(Debug, thiserror::Error)]
pub enum StateError {
    /// Neither `XDG_DATA_HOME` nor `HOME` is set.
    #[error("no folder to keep keys and tokens in: set HOME, or say --state DIR")]
    NoFolder,
    /// A file or folder.
    #[error("{path}: {cause}", path = path.display())]
    Io {
        /// Which.
        path: PathBuf,
        /// What the system says.
        cause: io::Error,
    },
    /// The folder cannot be made.
    #[error(
        "the folder for keys and tokens, {path}, cannot be made: {cause}; name another with --state (SLUICE_STATE)",
        path = path.display()
    )]
    FolderNotMade {
        /// Which.
        path: PathBuf,
        /// What the system says.
        cause: io::Error,
    },
    /// The key file holds something else.
    #[error("{path}: not a secret key: expected 64 hexadecimal digits", path = path.display())]
    NotAKey {
        /// Which.
        path: PathBuf,
    },
    /// A token's file holds something else. It may be worth money, so it is not passed over.
    #[error("{path}: {cause}; mend it or move it away", path = path.display())]
    NotAToken {
        /// Which.
        path: PathBuf,
        /// What is wrong.
        cause: SavedTokenError,
    },
}

impl State {
    /// The folder `dir`, else `$XDG_DATA_HOME/sluice`, else `~/.local/share/sluice`; made if it is missing.
    pub fn open(dir: Option<PathBuf>) -> Result<Self, StateError> {
        let dir = dir.or_else(|| default_dir(|name| std::env::var_os(name))).ok_or(StateError::NoFolder)?;
        let state = Self { dir };
        let tokens = state.tokens_dir();
        make_dir(&tokens).map_err(|cause| StateError::FolderNotMade { path: state.dir.clone(), cause })?;
        Ok(state)
    }

    /// The key that the client logs in with; made on first use.
    pub fn key(&self) -> Result<SecretKey, StateError> {
        let path = self.key_path();
        if !path.try_exists().map_err(io_error(&path))? {
            let key = SecretKey::new(&mut secp256k1::rand::thread_rng());
            let text = format!("{}\n", hex::encode(key.secret_bytes()));
            match write_whole(&path, text.as_bytes(), Existing::Keep) {
                // Another run made one at the same time: that one counts.
                Err(cause) if cause.kind() == io::ErrorKind::AlreadyExists => {}
                other => other.map_err(io_error(&path))?,
            }
        }
        read_key(&path)
    }

    /// The key that the client logs in with, if there is one.
    pub fn existing_key(&self) -> Result<Option<SecretKey>, StateError> {
        let path = self.key_path();
        path.try_exists().map_err(io_error(&path))?.then(|| read_key(&path)).transpose()
    }

    /// All tokens, oldest first.
    pub fn tokens(&self) -> Result<Vec<SavedToken>, StateError> {
        let dir = self.tokens_dir();
        let mut tokens = Vec::new();
        for entry in fs::read_dir(&dir).map_err(io_error(&dir))? {
            let path = entry.map_err(io_error(&dir))?.path();
            // Others are temporary files of a run that was killed.
            if path.extension().is_some_and(|extension| extension == "json") {
                let text = fs::read_to_string(&path).map_err(io_error(&path))?;
                let token = SavedToken::from_json(&text);
                tokens.push(token.map_err(|cause| StateError::NotAToken { path, cause })?);
            }
        }
        tokens.sort_by_key(|token| (token.saved_at, *token.payment_hash.as_bytes()));
        Ok(tokens)
    }

    /// Writes `token`, in place of what was saved of it before.
    pub fn save(&self, token: &SavedToken) -> Result<(), StateError> {
        let path = self.token_path(token.payment_hash);
        write_whole(&path, token.to_json().as_bytes(), Existing::Replace).map_err(io_error(&path))
    }

    /// Saves `preimage` with the token that it pays for, and answers that token; none when there is none.
    pub fn record_preimage(&self, preimage: &Preimage) -> Result<Option<SavedToken>, StateError> {
        let payment_hash = preimage.payment_hash();
        let Some(mut token) = self.tokens()?.into_iter().find(|token| token.payment_hash == payment_hash) else {
            return Ok(None);
        };
        if token.preimage.is_none() {
            token.preimage = Some(preimage.clone());
            self.save(&token)?;
        }
        Ok(Some(token))
    }

    fn key_path(&self) -> PathBuf {
        self.dir.join("key")
    }

    fn tokens_dir(&self) -> PathBuf {
        self.dir.join("tokens")
    }

    fn token_path(&self, payment_hash: PaymentHash) -> PathBuf {
        self.tokens_dir().join(format!("{payment_hash}.json"))
    }
}

/// Reads a secret key: 64 hexadecimal digits. Warns when others may read the file too.
pub fn read_key(path: &Path) -> Result<SecretKey, StateError> {
    let text = fs::read_to_string(path).map_err(io_error(path))?;
    if fs::metadata(path).map_err(io_error(path))?.mode() & 0o077 != 0 {
        console::note(format_args!("warning: others may read the key {}: chmod 600 it", path.display()));
    }
    let mut bytes = [0; 32];
    hex::decode_to_slice(text.trim(), &mut bytes)
        .ok()
        .and_then(|()| SecretKey::from_slice(&bytes).ok())
        .ok_or_else(|| StateError::NotAKey { path: path.to_owned() })
}

fn default_dir(env: impl Fn(&str) -> Option<OsString>) -> Option<PathBuf> {
    // XDG: a relative path counts as none.
    let set = |name: &str| env(name).map(PathBuf::from).filter(|path| path.is_absolute());
    let data = set("XDG_DATA_HOME").or_else(|| Some(set("HOME")?.join(".local/share")))?;
    Some(data.join("sluice"))
}

fn io_error(path: &Path) -> impl FnOnce(io::Error) -> StateError {
    move |cause| StateError::Io { path: path.to_owned(), cause }
}

#[cfg(test)]
mod tests;
