//! Reads the keys that settings name, and makes those that a first start lacks.

pub mod admin_token;
pub mod rotate;

use std::{
    fs, io,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
};

use sluice_backend::{config::PodcastIndexConfig, store::S3Credentials};
use sluice_common::{
    clock::unix_now,
    keys::{KeysError, MasterKey, MasterKeys},
    secret::Secret,
};

use crate::{
    config::{KeySource, MasterKeySettings, S3Settings, Settings, StorageMode},
    files::{self, Existing},
};

/// The fewest characters of a key for logins that is in a file: what is shorter was cut off, or can be guessed.
const MIN_JWT_KEY_CHARS: usize = 32;

/// The most that is read of a key file.
const MAX_KEY_FILE_BYTES: u64 = 4096;

/// What the keys are called in errors: their setting, and their variable if they have one.
const MASTER_KEY: &str = "[l402] master_keys (SLUICE_MASTER_KEYS)";
const WALLET_KEY: &str = "[lightning] wallet_key";
const LND_MACAROON: &str = "[lightning] macaroon (LND_MACAROON_HEX, macdir)";
const JWT_KEY: &str = "[backend] jwt_key (JWT_KEY)";
const S3_ACCESS_KEY_ID: &str = "[backend.s3] access_key_id (AWS_ACCESS_KEY_ID, S3_KEY)";
const S3_SECRET_ACCESS_KEY: &str = "[backend.s3] secret_access_key (AWS_SECRET_ACCESS_KEY, S3_SECRET)";
const S3_SESSION_TOKEN: &str = "[backend.s3] session_token (AWS_SESSION_TOKEN)";
const LOCAL_ENCRYPTION_KEY: &str = "[backend] local_encryption_key (LOCAL_ENCRYPTION_KEY)";
const PODCAST_INDEX_SECRET: &str = "[backend] podcast_index_secret (PODCAST_INDEX_SECRET)";

/// What is wrong with a key. Never says anything of the key itself.
#[derive(Debug, thiserror::Error)]
pub enum KeyError {
    /// There is no such file.
    #[error(
        "{name}: there is no key file {}; put the key there, or make a new one: \
         (umask 077; openssl rand -hex 32 > {})", path.display(), path.display()
    )]
    Missing {
        /// Which key.
        name: &'static str,
        /// Its file.
        path: PathBuf,
    },
    /// There is no such file, and no new key may take its place.
    #[error(
        "{name}: there is no key file {}, and no new key can take its place, for there is {} already; \
         put the key back", path.display(), found.display()
    )]
    Lost {
        /// Which key.
        name: &'static str,
        /// Its file.
        path: PathBuf,
        /// What depends on it.
        found: PathBuf,
    },
    /// The file cannot be read.
    #[error("{name}: {}: {source}", path.display())]
    Unreadable {
        /// Which key.
        name: &'static str,
        /// Its file.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// The file cannot be written.
    #[error("cannot write {}: {source}", path.display())]
    Unwritable {
        /// The file.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// Nothing is there.
    #[error("{name}: {place} is empty")]
    Empty {
        /// Which key.
        name: &'static str,
        /// The file, or the setting.
        place: String,
    },
    /// Not 64 hexadecimal digits.
    #[error("{name}: {place} is not 64 hexadecimal digits")]
    NotHex {
        /// Which key.
        name: &'static str,
        /// The file, or the setting.
        place: String,
    },
    /// A text that is no macaroon.
    #[error("{name}: not hexadecimal; a file is written \"file:PATH\"")]
    NotAMacaroon {
        /// Which.
        name: &'static str,
    },
    /// There is no such file, and nobody but LND makes it.
    #[error("{name}: there is no file {}; LND's own are in data/chain/bitcoin/NETWORK of its folder", path.display())]
    NoMacaroon {
        /// Which.
        name: &'static str,
        /// The file.
        path: PathBuf,
    },
    /// Too short for a key.
    #[error("{name}: {place} has less than {MIN_JWT_KEY_CHARS} characters")]
    TooShort {
        /// Which key.
        name: &'static str,
        /// The file.
        place: String,
    },
    /// No master key whose time has come.
    #[error("{MASTER_KEY}: none makes tokens: of each, the mints_from is still to come, or it is retired")]
    NoneMints,
    /// Keys that cannot be used together.
    #[error("{MASTER_KEY}: {0}")]
    Master(#[from] KeysError),
}

/// The keys that tokens are made and checked with.
pub fn master_keys(settings: &Settings) -> Result<MasterKeys, KeyError> {
    let read = |key: MasterKeySettings| {
        let mints_from = u64::try_from(key.mints_from.unix_timestamp()).unwrap_or_default();
        let master_key = MasterKey::new(&hex_key(MASTER_KEY, &key.key)?, mints_from);
        Ok(if key.retired { master_key.retired() } else { master_key })
    };
    let keys = settings.master_keys().into_iter().map(read).collect::<Result<_, KeyError>>()?;
    Ok(MasterKeys::new(keys)?)
}

/// The same, for who makes tokens: one of them must do so by now.
pub fn minting_master_keys(settings: &Settings) -> Result<MasterKeys, KeyError> {
    let keys = master_keys(settings)?;
    if keys.minting(unix_now()).is_none() { Err(KeyError::NoneMints) } else { Ok(keys) }
}

/// The embedded wallet's key.
pub fn wallet_key(settings: &Settings) -> Result<Secret<[u8; 32]>, KeyError> {
    hex_key(WALLET_KEY, &settings.wallet_key())
}

/// LND's macaroon: a file of its bytes, as LND makes it, or hex, in a file or not.
pub fn lnd_macaroon(source: &KeySource) -> Result<Secret<Vec<u8>>, KeyError> {
    let name = LND_MACAROON;
    let bytes = match source {
        KeySource::Value(text) => Secret::new(text.expose().clone().into_bytes()),
        KeySource::File(path) => Secret::new(read_bytes(name, path).map_err(|error| match error {
            KeyError::Missing { name, path } => KeyError::NoMacaroon { name, path },
            error => error,
        })?),
    };
    // Who may read the file is LND's affair: it makes this one readable to all, and guards the folder.
    // A macaroon in binary begins with its version, 2, or in an old form with a length in hex digits and a word that has
    // others.
    match (hex::decode(bytes.expose().trim_ascii()), source) {
        (Ok(bytes), _) => Ok(Secret::new(bytes)),
        (Err(_), KeySource::File(_)) => Ok(bytes),
        (Err(_), KeySource::Value(_)) => Err(KeyError::NotAMacaroon { name }),
    }
}

/// The key that stored files are sealed with. Where new ones are not, it need not be there.
pub fn local_encryption_key(settings: &Settings) -> Result<Option<Secret<[u8; 32]>>, KeyError> {
    match hex_key(LOCAL_ENCRYPTION_KEY, &settings.local_encryption_key()) {
        Err(KeyError::Missing { .. }) if !settings.seals() && settings.backend.local_encryption_key.is_none() => {
            Ok(None)
        }
        key => key.map(Some),
    }
}

/// What the S3 server knows us by. Where no file is kept there, none of the settings is needed.
pub fn s3_credentials(s3: &S3Settings) -> Result<S3Credentials, KeyError> {
    let read_or_missing = |name, source: &Option<KeySource>| match source {
        Some(source) => read(name, source),
        None => Err(KeyError::Empty { name, place: "its value".to_owned() }),
    };
    Ok(S3Credentials {
        access_key_id: read_or_missing(S3_ACCESS_KEY_ID, &s3.access_key_id)?,
        secret_access_key: read_or_missing(S3_SECRET_ACCESS_KEY, &s3.secret_access_key)?,
        session_token: s3.session_token.as_ref().map(|source| read(S3_SESSION_TOKEN, source)).transpose()?,
    })
}

/// The key that logins are signed with, as text. From a file it comes without the end of its line.
pub fn jwt_key(settings: &Settings) -> Result<Secret<String>, KeyError> {
    let source = settings.jwt_key();
    let key = read(JWT_KEY, &source)?;
    // Given as text, it may be as short as sphinx-meme allowed.
    if matches!(source, KeySource::File(_)) && key.expose().chars().count() < MIN_JWT_KEY_CHARS {
        return Err(KeyError::TooShort { name: JWT_KEY, place: place(&source) });
    }
    Ok(key)
}

/// What is to be said of a key for logins that is read, and yet easily guessed.
pub fn weak_jwt_key(settings: &Settings) -> Result<Option<String>, KeyError> {
    let is_weak = jwt_key(settings)?.expose().len() < MIN_JWT_KEY_CHARS;
    Ok(is_weak.then(|| {
        format!(
            "{JWT_KEY} is shorter than {MIN_JWT_KEY_CHARS} bytes: who guesses it logs in as anybody. Use another, for \
             instance of `openssl rand -hex 32`; everybody logs in again then"
        )
    }))
}

/// Who this server is to the Podcast Index, if it is anybody there.
pub fn podcast_index(settings: &Settings) -> Result<Option<PodcastIndexConfig>, KeyError> {
    let backend = &settings.backend;
    let (Some(key), Some(secret)) = (&backend.podcast_index_key, &backend.podcast_index_secret) else {
        return Ok(None);
    };
    let secret = read(PODCAST_INDEX_SECRET, secret)?;
    Ok(Some(PodcastIndexConfig { base_url: backend.podcast_index_url.clone(), key: key.clone(), secret }))
}

/// What is to be said where only the secret of the Podcast Index is configured, as sphinx-meme's operators have it.
pub fn lone_podcast_secret(settings: &Settings) -> Option<String> {
    let backend = &settings.backend;
    (backend.podcast_index_secret.is_some() && backend.podcast_index_key.is_none()).then(|| {
        format!("{PODCAST_INDEX_SECRET} needs podcast_index_key (PODCAST_INDEX_KEY): without it /podcast is 404")
    })
}

/// Makes the key files that are missing, if this is a first start: no database, and no stored file. Gives their paths.
pub fn make_missing(settings: &Settings) -> Result<Vec<PathBuf>, KeyError> {
    let missing = missing(settings)?;
    for path in &missing {
        make(path).map_err(|source| KeyError::Unwritable { path: path.clone(), source })?;
    }
    Ok(missing)
}

/// Checks the keys that are there, and gives the files of those that a first start would make.
pub fn check(settings: &Settings) -> Result<Vec<PathBuf>, KeyError> {
    let missing = missing(settings)?;
    let keys = [
        minting_master_keys(settings).map(drop),
        if settings.lightning.is_wallet() { wallet_key(settings).map(drop) } else { Ok(()) },
        jwt_key(settings).map(drop),
        podcast_index(settings).map(drop),
        local_encryption_key(settings).map(drop),
        if settings.backend.storage_mode == StorageMode::S3 {
            s3_credentials(&settings.backend.s3).map(drop)
        } else {
            Ok(())
        },
    ];
    let wrong = keys.into_iter().filter_map(Result::err).find(|error| !matches!(error, KeyError::Missing { .. }));
    wrong.map_or(Ok(missing), Err)
}

/// The key files that are missing; an error unless this is a first start.
fn missing(settings: &Settings) -> Result<Vec<PathBuf>, KeyError> {
    let mut sources: Vec<_> = settings.master_keys().into_iter().map(|key| (MASTER_KEY, key.key)).collect();
    if settings.lightning.is_wallet() {
        sources.push((WALLET_KEY, settings.wallet_key()));
    }
    sources.push((JWT_KEY, settings.jwt_key()));
    if settings.seals() {
        sources.push((LOCAL_ENCRYPTION_KEY, settings.local_encryption_key()));
    }

    let mut missing = Vec::new();
    for (name, source) in sources {
        let KeySource::File(path) = source else { continue };
        if exists(name, &path)? {
            continue;
        }
        if let Some(found) = earlier_state(settings)? {
            return Err(KeyError::Lost { name, path, found });
        }
        // One file may stand for two keys.
        if !missing.contains(&path) {
            missing.push(path);
        }
    }
    Ok(missing)
}

/// What says that this is no first start.
fn earlier_state(settings: &Settings) -> Result<Option<PathBuf>, KeyError> {
    let backend = settings.backend_database();
    for path in backend.sqlite_path().map(Path::to_owned).into_iter().chain([settings.wallet_database()]) {
        if exists("database_url", &path)? {
            return Ok(Some(path));
        }
    }
    let local_dir = settings.local_dir();
    match fs::read_dir(&local_dir) {
        Ok(mut files) => Ok(files.next().is_some().then_some(local_dir)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(source) => Err(KeyError::Unreadable { name: "local_dir", path: local_dir, source }),
    }
}

/// Whether there is something at `path`; not being able to tell is an error, for a key must not be made then.
fn exists(name: &'static str, path: &Path) -> Result<bool, KeyError> {
    // A link that points nowhere counts as there: whoever made it means something by it.
    match fs::symlink_metadata(path) {
        Ok(_) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(source) => Err(KeyError::Unreadable { name, path: path.to_owned(), source }),
    }
}

fn make(path: &Path) -> io::Result<()> {
    if let Some(dir) = path.parent() {
        files::make_dir(dir)?;
    }
    let key = Secret::new(rand::random::<[u8; 32]>());
    let text = Secret::new(hex::encode(key.expose()) + "\n");
    files::write_whole(path, text.expose().as_bytes(), Existing::Keep)
}

fn hex_key(name: &'static str, source: &KeySource) -> Result<Secret<[u8; 32]>, KeyError> {
    let text = read(name, source)?;
    let mut key = [0; 32];
    hex::decode_to_slice(text.expose().trim(), &mut key)
        .map_err(|_| KeyError::NotHex { name, place: place(source) })?;
    Ok(Secret::new(key))
}

/// The text of a key, from a file without the end of its line; never empty.
fn read(name: &'static str, source: &KeySource) -> Result<Secret<String>, KeyError> {
    let text = match source {
        KeySource::Value(value) => value.clone(),
        KeySource::File(path) => {
            let text = Secret::new(read_file(name, path)?);
            Secret::new(text.expose().trim_end_matches(['\r', '\n']).to_owned())
        }
    };
    if text.expose().trim().is_empty() {
        return Err(KeyError::Empty { name, place: place(source) });
    }
    Ok(text)
}

/// Where a key is, for errors.
fn place(source: &KeySource) -> String {
    match source {
        KeySource::File(path) => path.display().to_string(),
        KeySource::Value(_) => "its value".to_owned(),
    }
}

fn read_file(name: &'static str, path: &Path) -> Result<String, KeyError> {
    let unreadable = |source| KeyError::Unreadable { name, path: path.to_owned(), source };
    let bytes = read_bytes(name, path)?;
    if fs::metadata(path).map_err(unreadable)?.permissions().mode() & 0o077 != 0 {
        tracing::warn!(path = %path.display(), "others than the owner may read this key file: chmod 600 it");
    }
    // What is no text is wiped with the error that holds it.
    String::from_utf8(bytes).map_err(|error| {
        drop(Secret::new(error.into_bytes()));
        unreadable(io::Error::new(io::ErrorKind::InvalidData, "not UTF-8"))
    })
}

fn read_bytes(name: &'static str, path: &Path) -> Result<Vec<u8>, KeyError> {
    let unreadable = |source| KeyError::Unreadable { name, path: path.to_owned(), source };
    let metadata = match fs::metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            return Err(KeyError::Missing { name, path: path.to_owned() });
        }
        metadata => metadata.map_err(unreadable)?,
    };
    if metadata.len() > MAX_KEY_FILE_BYTES {
        return Err(unreadable(io::Error::other("too large for a key")));
    }
    fs::read(path).map_err(unreadable)
}

#[cfg(test)]
mod tests;
