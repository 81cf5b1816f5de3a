//! Where the bytes are, behind one trait.

#[cfg(test)]
pub(crate) mod contract;
mod local;
pub(crate) mod s3;

use std::{fmt, ops::Range, pin::Pin, str::FromStr};

use async_trait::async_trait;
use bytes::Bytes;
use futures_util::Stream;

pub use self::{
    local::LocalStore,
    s3::{S3Config, S3Credentials, S3Error, S3Failure, S3Store, S3Timeouts},
};

/// The bytes of a copy, or of a range of it, in pieces of any size.
pub type BlobStream = Pin<Box<dyn Stream<Item = Result<Bytes, StoreError>> + Send>>;

/// Keeps copies of contents under keys that are made once and never written twice. What it keeps may be sealed; it
/// neither knows nor cares. Every implementation passes the same contract suite.
#[async_trait]
pub trait BlobStore: Send + Sync {
    /// Which kind of store this is, as rows name it.
    fn kind(&self) -> StoreKind;

    /// Starts a new copy, of at most `longest` bytes: a store may lay out its memory by that, and fail where more come.
    /// A key that is taken is an error.
    async fn create(&self, key: &StoreKey, longest: u64) -> Result<Box<dyn BlobWriter>, StoreError>;

    /// The length of a copy in bytes; none if there is no such copy.
    async fn len(&self, key: &StoreKey) -> Result<Option<u64>, StoreError>;

    /// The bytes `range` of a copy. Where it ends short of the range, the stream ends with an error.
    async fn read(&self, key: &StoreKey, range: Range<u64>) -> Result<BlobStream, StoreError>;

    /// Removes a copy, also a half-written one; none there is no error.
    async fn delete(&self, key: &StoreKey) -> Result<(), StoreError>;

    /// Whether it can be reached and written.
    async fn check(&self) -> Result<(), StoreError>;
}

/// A copy that is being written. Dropped before [`Self::finish`], it leaves whatever it wrote, for
/// [`BlobStore::delete`] to remove.
#[async_trait]
pub trait BlobWriter: Send {
    /// Appends bytes. May return before they are written; a later call or [`Self::finish`] then says what went wrong.
    async fn write(&mut self, bytes: Bytes) -> Result<(), StoreError>;

    /// Makes the copy durable: when it returns, the copy survives a crash of the machine.
    async fn finish(self: Box<Self>) -> Result<(), StoreError>;
}

/// The kinds of stores, as rows name them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StoreKind {
    /// A folder.
    Local,
    /// A bucket.
    S3,
}

impl StoreKind {
    /// The name in rows. Never changes.
    pub fn name(self) -> &'static str {
        match self {
            Self::Local => "local",
            Self::S3 => "s3",
        }
    }

    /// The kind that a row names.
    pub fn from_name(name: &str) -> Option<Self> {
        [Self::Local, Self::S3].into_iter().find(|kind| kind.name() == name)
    }
}

/// The name of a copy in its store: 32 random hex digits, or the muid of a file that the old server stored. Only
/// letters, digits, `-`, `_` and `=`, so it is a file name and an object key as it stands.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct StoreKey(String);

/// The text cannot be a [`StoreKey`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not the key of a stored copy")]
pub struct InvalidStoreKey;

impl StoreKey {
    /// A key that was never used before.
    pub fn random() -> Self {
        Self(hex::encode(rand::random::<[u8; 16]>()))
    }

    /// The key as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for StoreKey {
    type Err = InvalidStoreKey;

    fn from_str(text: &str) -> Result<Self, InvalidStoreKey> {
        let allowed = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'=');
        if text.is_empty() || text.len() > 128 || !text.bytes().all(allowed) {
            return Err(InvalidStoreKey);
        }
        Ok(Self(text.to_owned()))
    }
}

impl fmt::Debug for StoreKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "StoreKey({})", self.0)
    }
}

/// Why a store did not do what was asked.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StoreError {
    /// A copy is shorter than what was asked of it, or gone.
    #[error("the stored copy is missing or too short")]
    Missing,
    /// There is a copy with this key already.
    #[error("there is a copy of this name already")]
    Taken,
    /// The folder cannot be read or written.
    #[error("the store's folder: {0}")]
    Io(#[from] std::io::Error),
    /// The S3 server.
    #[error("the S3 server: {0}")]
    S3(#[from] S3Error),
}

impl StoreError {
    /// Whether the store has no room.
    pub fn is_full(&self) -> bool {
        use std::io::ErrorKind::{QuotaExceeded, StorageFull};
        match self {
            Self::Io(error) => matches!(error.kind(), StorageFull | QuotaExceeded),
            Self::S3(error) => error.failure() == S3Failure::Full,
            Self::Missing | Self::Taken => false,
        }
    }

    /// Whether the store is away, or so troubled that it is as good as away: it may do better later.
    pub fn is_away(&self) -> bool {
        matches!(self, Self::S3(error) if error.failure() == S3Failure::Away)
    }
}
