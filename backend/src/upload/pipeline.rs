//! From plain bytes to a copy in the store: hash, seal, write.
//!
//! Hashing is the slowest of the three, so it has a thread of its own, a batch at a time; the upload's task reads and
//! seals the next batch meanwhile, and the store writes the one before. An upload holds a handful of batches, whatever
//! the size of its file, and while its client is slow it holds no thread at all.

use std::sync::Arc;

use axum::body::Bytes;
use bytes::BytesMut;
use sluice_common::{
    dare::{DataKey, MAX_PLAIN_LEN, Sealer, sealed_len},
    muid::{Hasher, Muid},
};
use tokio::task::{JoinHandle, spawn_blocking};

use super::UploadError;
use crate::{
    disk::Room,
    store::{BlobStore, BlobWriter, StoreKey},
};

/// What is hashed, sealed and written at a time: four packages of a sealed file.
const BATCH_LEN: usize = 256 * 1024;

/// Takes the bytes of one file. Dropped before [`Self::finish`], it leaves a part of a copy behind.
pub(super) struct Pipeline {
    /// None: nothing is written.
    target: Option<Target>,
    hashing: Hashing,
    sealer: Option<Sealer>,
    batch: BytesMut,
    size: u64,
    room: Option<Room>,
}

/// A whole copy.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Stored {
    pub(super) muid: Muid,
    /// Bytes, before sealing.
    pub(super) size: u64,
}

impl Pipeline {
    /// Puts a file of at most `longest` bytes into `store` under `key`, sealed under `sealing_key` if there is one.
    pub(super) fn new(store: Arc<dyn BlobStore>, key: StoreKey, sealing_key: Option<DataKey>, longest: u64) -> Self {
        let longest = if sealing_key.is_some() { sealed_len(longest) } else { longest };
        Self {
            target: Some(Target { store, key, longest, writer: None }),
            hashing: Hashing::Idle(Hasher::new()),
            sealer: sealing_key.as_ref().map(Sealer::new),
            batch: BytesMut::new(),
            size: 0,
            room: None,
        }
    }

    /// Only says what a file is, and writes it nowhere.
    pub(super) fn only_hashing() -> Self {
        Self {
            target: None,
            hashing: Hashing::Idle(Hasher::new()),
            sealer: None,
            batch: BytesMut::new(),
            size: 0,
            room: None,
        }
    }

    /// The same within this room on the disk.
    pub(super) fn within(self, room: Room) -> Self {
        Self { room: Some(room), ..self }
    }

    /// Takes the next bytes.
    pub(super) async fn write(&mut self, mut bytes: &[u8]) -> Result<(), UploadError> {
        self.size += bytes.len() as u64;
        if let Some(room) = &mut self.room {
            room.write(bytes.len() as u64).await?;
        }
        while self.batch.len() + bytes.len() >= BATCH_LEN {
            let (now, later) = bytes.split_at(BATCH_LEN - self.batch.len());
            bytes = later;
            self.batch.extend_from_slice(now);
            let batch = self.batch.split().freeze();
            self.batch.reserve(BATCH_LEN);
            self.pass_on(batch).await?;
        }
        self.batch.extend_from_slice(bytes);
        Ok(())
    }

    async fn pass_on(&mut self, batch: Bytes) -> Result<(), UploadError> {
        self.hashing.update(batch.clone()).await?;
        let Some(target) = &mut self.target else { return Ok(()) };
        let Some(sealer) = &mut self.sealer else { return target.write(batch).await };
        let mut sealed = Vec::new();
        seal(sealer, &batch, &mut sealed)?;
        target.write(sealed.into()).await
    }

    /// Makes the copy durable.
    pub(super) async fn finish(mut self) -> Result<Stored, UploadError> {
        // Less than a batch: not worth another thread.
        let mut hasher = self.hashing.hasher().await?;
        hasher.update(&self.batch);
        let last = match self.sealer {
            Some(mut sealer) => {
                let mut sealed = Vec::new();
                seal(&mut sealer, &self.batch, &mut sealed)?;
                sealer.finish(&mut sealed);
                sealed.into()
            }
            None => self.batch.freeze(),
        };
        if let Some(target) = self.target {
            target.finish(last).await?;
        }
        Ok(Stored { muid: hasher.finish(), size: self.size })
    }
}

fn seal(sealer: &mut Sealer, plain: &[u8], sealed: &mut Vec<u8>) -> Result<(), UploadError> {
    sealer.update(plain, sealed).map_err(|_| UploadError::TooLarge { limit_bytes: MAX_PLAIN_LEN })
}

/// The copy, which the store has from the first bytes on.
struct Target {
    store: Arc<dyn BlobStore>,
    key: StoreKey,
    longest: u64,
    writer: Option<Box<dyn BlobWriter>>,
}

impl Target {
    async fn write(&mut self, bytes: Bytes) -> Result<(), UploadError> {
        let writer = match &mut self.writer {
            Some(writer) => writer,
            none => none.insert(self.store.create(&self.key, self.longest).await?),
        };
        Ok(writer.write(bytes).await?)
    }

    async fn finish(self, last: Bytes) -> Result<(), UploadError> {
        let mut writer = match self.writer {
            Some(writer) => writer,
            None => self.store.create(&self.key, self.longest).await?,
        };
        writer.write(last).await?;
        Ok(writer.finish().await?)
    }
}

/// The hash so far, or the thread that is at it.
enum Hashing {
    Idle(Hasher),
    Busy(JoinHandle<Hasher>),
}

impl Hashing {
    /// Waits for the batch before and starts with `batch`.
    async fn update(&mut self, batch: Bytes) -> Result<(), UploadError> {
        let mut hasher = self.hasher().await?;
        *self = Self::Busy(spawn_blocking(move || {
            hasher.update(&batch);
            hasher
        }));
        Ok(())
    }

    async fn hasher(&mut self) -> Result<Hasher, UploadError> {
        match self {
            Self::Idle(hasher) => Ok(hasher.clone()),
            // It fails only where the server ends.
            Self::Busy(job) => job.await.map_err(|_| UploadError::Interrupted),
        }
    }
}
