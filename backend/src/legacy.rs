//! Files that sphinx-meme stored. The migration gave each a row; how long it is and how it is sealed shows in the file
//! alone, which is looked at when somebody first asks for it, or soon after the start. From then on it is a file like all
//! others.

use std::time::Duration;

use futures_util::TryStreamExt;
use sluice_common::{
    dare::{self, DareError, DataKey, MAX_PACKAGE_LEN, MAX_PAYLOAD_LEN, Opener},
    muid::{Hasher, Muid},
};
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;

use crate::{
    db::{Content, Database, DbError, LegacyCopy, Sealing, Variant},
    state::App,
    store::{BlobStore, StoreError, StoreKind},
    upload::SealingKey,
};

/// Rows that are asked for at a time.
const BATCH: u32 = 100;

/// How long to wait before going on where the database or the store failed.
const PAUSE: Duration = Duration::from_secs(10);

/// So many files that cannot be adopted are named in the log; the rest are counted.
const NAMED: usize = 20;

/// Why a file that sphinx-meme left cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum LegacyError {
    /// There is a row and no file.
    #[error("a file of sphinx-meme's is not in the store")]
    Missing,
    /// It is sealed, and not under the key that is configured.
    #[error("a file of sphinx-meme's does not open under LOCAL_ENCRYPTION_KEY and the nonce of its row")]
    NotOpened,
    /// Its row says nothing of how it is sealed, and it is not the content that its row names.
    #[error("a file of sphinx-meme's has no good nonce, and is not what its row says")]
    NotItself,
    /// The store.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The database.
    #[error(transparent)]
    Db(#[from] DbError),
}

/// The stored copy of a content; one that sphinx-meme left is adopted first.
pub async fn content(
    db: &dyn Database,
    store: &dyn BlobStore,
    key: Option<&SealingKey>,
    muid: Muid,
) -> Result<Option<Content>, LegacyError> {
    if let Some(content) = db.content(muid, Variant::File).await? {
        return Ok(Some(content));
    }
    adopt_copy_of(db, store, key, muid).await?;
    // Whoever adopted it.
    Ok(db.content(muid, Variant::File).await?)
}

/// Adopts the copy that sphinx-meme left of a content, if it did.
pub async fn adopt_copy_of(
    db: &dyn Database,
    store: &dyn BlobStore,
    key: Option<&SealingKey>,
    muid: Muid,
) -> Result<(), LegacyError> {
    match db.legacy_copy(muid).await? {
        Some(copy) => adopt(db, store, key, &copy).await,
        None => Ok(()),
    }
}

/// Looks at a copy and makes its row one like all others. Nothing is written where the copy cannot be read: with another
/// key it may be.
async fn adopt(
    db: &dyn Database,
    store: &dyn BlobStore,
    key: Option<&SealingKey>,
    copy: &LegacyCopy,
) -> Result<(), LegacyError> {
    let stored_len = store.len(&copy.store_key).await?.ok_or(LegacyError::Missing)?;
    let (sealing, size) = match (key, store.kind()) {
        _ if stored_len == 0 => (None, 0),
        (Some(key), StoreKind::Local) => sealing_of(store, key, copy, stored_len).await?,
        (None, StoreKind::Local) => (None, plain_len(store, copy, stored_len).await?),
        // sphinx-meme sealed nothing there.
        (_, StoreKind::S3) => (None, stored_len),
    };
    Ok(db.adopt(copy.id, store.kind(), sealing.as_ref(), size).await?)
}

/// How a copy in a folder is sealed, and its length before that.
async fn sealing_of(
    store: &dyn BlobStore,
    key: &SealingKey,
    copy: &LegacyCopy,
    stored_len: u64,
) -> Result<(Option<Sealing>, u64), LegacyError> {
    let (nonce, is_good) = nonce(copy.nonce.as_deref().unwrap_or_default());
    if let Some(size) = dare::plain_len(stored_len)
        && opens(store, &DataKey::derive(key.master.expose(), &nonce), copy, size).await?
    {
        let sealing = Sealing { nonce, key_fingerprint: key.fingerprint.clone() };
        return Ok((Some(sealing), size));
    }
    if is_good {
        return Err(LegacyError::NotOpened);
    }
    Ok((None, plain_len(store, copy, stored_len).await?))
}

/// The nonce as sphinx-meme reads it, and whether it is one that it made: what is not hex is 32 zeros to it, what is
/// short ends in zeros, what is long is cut.
fn nonce(text: &str) -> ([u8; 32], bool) {
    let bytes = hex::decode(text).unwrap_or_default();
    let mut nonce = [0; 32];
    let len = bytes.len().min(nonce.len());
    nonce[..len].copy_from_slice(&bytes[..len]);
    (nonce, bytes.len() == nonce.len())
}

/// Whether the first package of a copy opens.
async fn opens(store: &dyn BlobStore, key: &DataKey, copy: &LegacyCopy, size: u64) -> Result<bool, LegacyError> {
    let first_plain = size.min(MAX_PAYLOAD_LEN as u64);
    let opened = async {
        let span = dare::span(0..first_plain, size)?;
        let mut opener = Opener::for_span(key, &span);
        let mut sealed = store.read(&copy.store_key, span.sealed).await?;
        let mut plain = Vec::with_capacity(MAX_PACKAGE_LEN);
        while let Some(piece) = sealed.try_next().await? {
            opener.update(&piece, &mut plain)?;
        }
        Ok(opener.finish()?)
    };
    match opened.await {
        Ok(()) => Ok(true),
        Err(OpenError::Sealed(_)) => Ok(false),
        Err(OpenError::Store(error)) => Err(error.into()),
    }
}

#[derive(Debug, thiserror::Error)]
enum OpenError {
    #[error(transparent)]
    Sealed(#[from] DareError),
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// The length of a copy that is not sealed. Nothing in its row says so, so all of it is read: only the content itself has
/// its hash.
async fn plain_len(store: &dyn BlobStore, copy: &LegacyCopy, stored_len: u64) -> Result<u64, LegacyError> {
    let mut hasher = Hasher::new();
    let mut pieces = store.read(&copy.store_key, 0..stored_len).await?;
    while let Some(piece) = pieces.try_next().await? {
        hasher.update(&piece);
    }
    if hasher.finish() == copy.muid { Ok(stored_len) } else { Err(LegacyError::NotItself) }
}

/// Says what sphinx-meme left open, adopts all of its copies one by one, and says which could not be. Ends then, or with
/// `shutdown`.
pub async fn adopt_all(app: &App, shutdown: &CancellationToken) {
    let adopting = async {
        say_publicity(app).await;
        let mut round = Round::default();
        loop {
            match round.step(app).await {
                Ok(true) => {}
                Ok(false) => return round.say(),
                Err(error) => {
                    tracing::warn!(%error, "cannot look at sphinx-meme's files now");
                    sleep(PAUSE).await;
                }
            }
        }
    };
    shutdown.run_until_cancelled(adopting).await;
}

async fn say_publicity(app: &App) {
    match app.db.of_unknown_publicity().await {
        Ok(0) => {}
        Ok(files) => tracing::warn!(
            files,
            legacy_public = app.legacy_public,
            "sphinx-meme left files of which nobody said whether they are public; they are as [backend] legacy_public \
             says, until an owner says it of each: docs/OPERATING.md, \"Moving from sphinx-meme\""
        ),
        Err(error) => tracing::warn!(%error, "cannot count what sphinx-meme left open"),
    }
}

/// One pass over all copies.
#[derive(Debug, Default)]
struct Round {
    after: Option<crate::db::ContentId>,
    adopted: usize,
    failed: usize,
}

impl Round {
    /// The next few copies. False: there are no more.
    async fn step(&mut self, app: &App) -> Result<bool, LegacyError> {
        let copies = app.db.legacy_copies(self.after, BATCH).await?;
        for copy in &copies {
            match adopt(&*app.db, &*app.store, app.sealing_key.as_ref(), copy).await {
                Ok(()) => self.adopted += 1,
                Err(error @ (LegacyError::Missing | LegacyError::NotOpened | LegacyError::NotItself)) => {
                    if self.failed < NAMED {
                        tracing::warn!(%error, muid = %copy.muid, "cannot adopt a file");
                    }
                    self.failed += 1;
                }
                Err(error) => return Err(error),
            }
            self.after = Some(copy.id);
        }
        Ok(!copies.is_empty())
    }

    fn say(&self) {
        match (self.adopted, self.failed) {
            (0, 0) => {}
            (adopted, 0) => tracing::info!(adopted, "adopted the files that sphinx-meme stored"),
            (adopted, failed) => tracing::warn!(
                adopted,
                failed,
                "adopted the files that sphinx-meme stored, but for some that are missing or cannot be opened; their \
                 rows stay"
            ),
        }
    }
}
