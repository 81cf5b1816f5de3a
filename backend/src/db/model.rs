//! The rows, as the rest of the server sees them.

use std::fmt;

use serde::Serialize;
pub use sluice_common::keys::KeyUse;
use sluice_common::{dare, l402::PaymentHash, lightning_message::NodeKey, muid::Muid};
use time::OffsetDateTime;

use super::{DbError, OverQuota, Quota};
use crate::store::{BlobStore, StoreError, StoreKey, StoreKind};

/// Whose a file is: a node's public key (padded base64url of 33 bytes), or `l402:` and the hash of a credential.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize)]
#[serde(transparent)]
pub struct Owner(String);

impl Owner {
    /// The owner that a login names.
    pub fn node(key: &NodeKey) -> Self {
        Self(key.to_string())
    }

    /// The owner that a paid credential is: 32 bytes, see `l402::Token::credential_hash`.
    pub fn credential(hash: &[u8; 32]) -> Self {
        Self(format!("l402:{}", hex::encode(hash)))
    }

    /// The owner that a row or a JWT names.
    pub fn from_text(text: String) -> Self {
        Self(text)
    }

    /// As rows name it.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Owner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// The row of one stored or pending copy.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct ContentId(pub i64);

/// How a copy is sealed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sealing {
    /// The salt of the copy's own key.
    pub nonce: [u8; 32],
    /// Which sealing key, by its fingerprint.
    pub key_fingerprint: String,
}

/// One counter of a token: how many uploads it may store.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UseCounter {
    /// With the payment hash, what the counter is known by.
    pub id: [u8; 32],
    /// The most uploads.
    pub max_uses: u64,
}

/// On which token a paid upload goes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PaidUse {
    /// The payment.
    pub payment_hash: PaymentHash,
    /// The very credential, without its `preimage` caveat.
    pub credential_hash: [u8; 32],
    /// Every one needs room, and every one is charged. Empty: uses are not limited.
    pub counters: Vec<UseCounter>,
}

/// An upload that begins.
#[derive(Debug, Clone)]
pub struct NewUpload {
    /// Which store will have the copy.
    pub store: StoreKind,
    /// Its key there.
    pub store_key: StoreKey,
    /// How it is sealed, if it is.
    pub sealing: Option<Sealing>,
    /// Until when nobody may sweep it.
    pub lease_until: OffsetDateTime,
    /// What it is paid with, on the paid route.
    pub paid: Option<PaidUse>,
}

/// An upload whose copy is durable in its store.
#[derive(Debug, Clone)]
pub struct FinishedUpload {
    /// The row made by `begin_upload`.
    pub content: ContentId,
    /// The hash of the file.
    pub muid: Muid,
    /// The file's length in bytes, before sealing.
    pub size: u64,
    /// The length of the whole body that it came in.
    pub body_size: u64,
    /// What the owner says of it.
    pub media: NewMedia,
    /// How much its owner may have.
    pub quota: Quota,
}

/// A picture of a file, made of it, whose copy is durable in its store.
#[derive(Debug, Clone)]
pub struct FinishedVariant {
    /// The row made by `begin_upload`.
    pub content: ContentId,
    /// The hash of the file that it was made of.
    pub muid: Muid,
    /// Which one it is.
    pub variant: Variant,
    /// Its own length in bytes, before sealing.
    pub size: u64,
}

/// What a stored copy holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Variant {
    /// The file.
    File,
    /// A small picture of it.
    Thumb,
    /// A larger picture of it.
    Medium,
}

impl Variant {
    /// The name in rows. Never changes.
    pub fn name(self) -> &'static str {
        match self {
            Self::File => "file",
            Self::Thumb => "thumb",
            Self::Medium => "medium",
        }
    }
}

/// What an owner says of a file.
#[derive(Debug, Clone)]
pub struct NewMedia {
    /// Whose.
    pub owner: Owner,
    /// A title.
    pub name: String,
    /// A text about it.
    pub description: String,
    /// What a buyer pays the owner, in satoshi.
    pub price_sat: i64,
    /// Words to find it by.
    pub tags: Vec<String>,
    /// How long a media token sold for it should last, in seconds.
    pub ttl_secs: i64,
    /// The name that a download gets.
    pub filename: String,
    /// The content type that a download gets.
    pub mime: String,
    /// When it is to be deleted.
    pub expiry: Option<OffsetDateTime>,
    /// Whether anybody may download it.
    pub public: bool,
    /// Whether it is a template. A file that was one stays one.
    pub template: bool,
    /// Width and height in pixels, of a picture that was measured. None: what was measured before stays.
    pub dimensions: Option<(u32, u32)>,
}

/// What an owner changes of a file. None: it stays.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct MediaChange {
    /// The title.
    pub name: Option<String>,
    /// The text about it.
    pub description: Option<String>,
    /// What a buyer pays, in satoshi.
    pub price_sat: Option<i64>,
    /// Words to find it by.
    pub tags: Option<Vec<String>>,
    /// How long a media token sold for it should last, in seconds.
    pub ttl_secs: Option<i64>,
    /// Whether anybody may download it.
    pub public: Option<bool>,
}

/// What became of an upload that was committed.
#[derive(Debug, Clone, PartialEq)]
pub struct Committed {
    /// What is stored.
    pub media: Media,
    /// Whether its token had stored this for this owner before, and so spent nothing now.
    pub stored_before: bool,
}

/// A file of an owner, as stored. Serialised with the names of protocols.md §3 by the routes.
#[derive(Debug, Clone, PartialEq)]
pub struct Media {
    /// The content.
    pub muid: Muid,
    /// Whose.
    pub owner: Owner,
    /// A title.
    pub name: String,
    /// A text about it.
    pub description: String,
    /// What a buyer pays the owner, in satoshi.
    pub price_sat: i64,
    /// Words to find it by.
    pub tags: Vec<String>,
    /// How long a media token sold for it should last, in seconds.
    pub ttl_secs: i64,
    /// The name that a download gets.
    pub filename: String,
    /// The content type that a download gets.
    pub mime: String,
    /// The file's length in bytes.
    pub size: u64,
    /// When it was first stored for this owner.
    pub created: OffsetDateTime,
    /// When the row last changed.
    pub updated: OffsetDateTime,
    /// When it is to be deleted.
    pub expiry: Option<OffsetDateTime>,
    /// What buyers paid in all, in satoshi.
    pub total_sats: i64,
    /// How many bought it.
    pub total_buys: i64,
    /// Pixels, of a picture that was measured.
    pub width: Option<i64>,
    /// Pixels, of a picture that was measured.
    pub height: Option<i64>,
    /// Whether it is a template.
    pub template: bool,
    /// Whether anybody may download it.
    pub public: bool,
}

impl Media {
    /// Whether it is as good as gone: to be deleted by now.
    pub fn is_expired(&self, now: OffsetDateTime) -> bool {
        self.expiry.is_some_and(|expiry| expiry <= now)
    }
}

/// A stored copy, and all that is needed to read it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Content {
    /// The row.
    pub id: ContentId,
    /// The hash of the file.
    pub muid: Muid,
    /// Which store has it.
    pub store: StoreKind,
    /// Its key there.
    pub store_key: StoreKey,
    /// How it is sealed, if it is.
    pub sealing: Option<Sealing>,
    /// The file's length in bytes, before sealing.
    pub size: u64,
}

impl Content {
    /// How long the copy in the store must be.
    pub fn stored_len(&self) -> u64 {
        if self.sealing.is_some() { dare::sealed_len(self.size) } else { self.size }
    }

    /// Whether this copy does for a new one of the same content, of `size` bytes and sealed like `sealing`: it is whole,
    /// and both are sealed under the same key, or neither is. A key that is not the new one's may be one that nobody has
    /// any more.
    pub(super) async fn can_stand_for(
        &self,
        size: u64,
        sealing: Option<&Sealing>,
        store: &dyn BlobStore,
    ) -> Result<bool, StoreError> {
        let key = |sealing: Option<&Sealing>| sealing.map(|sealing| sealing.key_fingerprint.clone());
        Ok(self.store == store.kind()
            && self.size == size
            && key(self.sealing.as_ref()) == key(sealing)
            && store.len(&self.store_key).await? == Some(self.stored_len()))
    }
}

/// A copy that sphinx-meme stored, and that was not looked at yet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LegacyCopy {
    /// The row.
    pub id: ContentId,
    /// The hash of the file.
    pub muid: Muid,
    /// Its key in whichever store is configured.
    pub store_key: StoreKey,
    /// What its row said of the salt of its key: 64 hex digits, if all is well.
    pub nonce: Option<String>,
}

/// A copy that is to be removed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DiscardedCopy {
    /// The row.
    pub id: ContentId,
    /// Its key in its store.
    pub store_key: StoreKey,
}

/// What became of a token.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TokenUse {
    /// The state of each counter, in the order of the token's counters.
    pub counters: Vec<CounterUse>,
    /// What this very credential stored, newest first, at most 100.
    pub stored: Vec<StoredUpload>,
    /// Whether an upload of this very credential is under way.
    pub is_storing: bool,
}

/// The state of one counter.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CounterUse {
    /// The most uploads.
    pub max_uses: u64,
    /// Uploads that are stored.
    pub spent: u64,
    /// Uploads that are under way.
    pub held: u64,
}

impl CounterUse {
    /// Whether another upload has room.
    pub fn has_room(&self) -> bool {
        self.spent.saturating_add(self.held) < self.max_uses
    }

    /// Whether none will have room, however the uploads under way end.
    pub fn is_used_up(&self) -> bool {
        self.spent >= self.max_uses
    }
}

/// An upload that a credential paid for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredUpload {
    /// The content.
    pub muid: Muid,
    /// Its length in bytes.
    pub size: u64,
    /// When it was stored.
    pub stored_at: OffsetDateTime,
}

/// Why an upload may not begin.
#[derive(Debug, thiserror::Error)]
pub enum BeginError {
    /// As many uploads as the token allows are stored.
    #[error("the token has stored as many uploads as it allows")]
    UsedUp,
    /// Every use that is left is held by an upload under way.
    #[error("every use that is left is held by an upload under way")]
    InProgress,
    /// The database.
    #[error(transparent)]
    Db(#[from] DbError),
}

/// Why an upload is not stored.
#[derive(Debug, thiserror::Error)]
pub enum CommitError {
    /// The upload is pending no more: its lease was over before it was done.
    #[error("the upload's lease was over before it was done")]
    LeaseLost,
    /// There is no file any more that this picture could be of.
    #[error("the file that a picture was made of is gone")]
    NoFile,
    /// Its owner would have more than allowed.
    #[error(transparent)]
    OverQuota(#[from] OverQuota),
    /// The store could not say whether an older copy is whole.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The database.
    #[error(transparent)]
    Db(#[from] DbError),
}

impl From<sqlx::Error> for BeginError {
    fn from(error: sqlx::Error) -> Self {
        Self::Db(error.into())
    }
}

impl From<sqlx::Error> for CommitError {
    fn from(error: sqlx::Error) -> Self {
        Self::Db(error.into())
    }
}
