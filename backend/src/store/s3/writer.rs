//! An object that is being written: one PUT if it is small, else parts, several of them under way at once.

use async_trait::async_trait;
use aws_sdk_s3::{
    error::SdkError,
    types::{ChecksumAlgorithm, CompletedMultipartUpload, CompletedPart},
};
use bytes::{Bytes, BytesMut};
use tokio::{runtime::Handle, task::JoinSet, time::sleep};

use super::{
    S3Store,
    begun::BegunUpload,
    error::{S3Error, store_error},
    parts::{IN_FLIGHT_BYTES, part_len},
};
use crate::store::{BlobWriter, StoreError, StoreKey};

/// The metadata of an object that says which writer made it. A call whose answer was lost is sent again, and then
/// fails because it had worked: with this it shows.
pub(super) const METADATA: &str = "sluice-writer";

const CREATE: &str = "CreateMultipartUpload";

/// Holds the part that is being filled and those that are under way.
pub(super) struct S3Writer {
    object: Object,
    part: BytesMut,
    /// The length of all parts but the last.
    part_len: usize,
    /// Bytes in the parts before this one.
    sent: u64,
    upload: Option<Upload>,
}

/// What is written, and where.
#[derive(Clone)]
struct Object {
    store: S3Store,
    key: StoreKey,
    /// Of [`METADATA`].
    writer: String,
}

/// A multipart upload.
struct Upload {
    begun: BegunUpload,
    next_number: i32,
    under_way: JoinSet<Result<SentPart, StoreError>>,
    under_way_bytes: u64,
    done: Vec<CompletedPart>,
}

struct SentPart {
    len: u64,
    completed: CompletedPart,
}

impl S3Writer {
    /// Writes at most `longest` bytes.
    pub(super) fn new(store: S3Store, key: StoreKey, longest: u64) -> Self {
        let writer = hex::encode(rand::random::<[u8; 16]>());
        let object = Object { store, key, writer };
        Self { object, part: BytesMut::new(), part_len: part_len(longest) as usize, sent: 0, upload: None }
    }

    /// Sends the part as it is, once there is room.
    async fn send(&mut self) -> Result<(), StoreError> {
        let upload = match &mut self.upload {
            Some(upload) => upload,
            none => none.insert(self.object.begin().await?),
        };
        let len = self.part.len() as u64;
        while !upload.under_way.is_empty() && upload.under_way_bytes + len > IN_FLIGHT_BYTES {
            upload.one_done().await?;
        }
        let room = self.object.store.room.take(len).await?;
        let (object, begun, number) = (self.object.clone(), upload.begun.clone(), upload.next_number);
        let body = self.part.split().freeze();
        upload.next_number += 1;
        upload.under_way_bytes += len;
        upload.under_way.spawn(async move {
            let part = object.put_part(begun, number, body).await;
            drop(room);
            part
        });
        self.sent += len;
        Ok(())
    }
}

#[async_trait]
impl BlobWriter for S3Writer {
    async fn write(&mut self, mut bytes: Bytes) -> Result<(), StoreError> {
        loop {
            let room = self.part_len - self.part.len();
            // A full part waits for more, so that the last one is not empty, and what fits into one part is one PUT.
            if bytes.len() <= room {
                self.part.extend_from_slice(&bytes);
                return Ok(());
            }
            self.part.extend_from_slice(&bytes.split_to(room));
            self.send().await?;
        }
    }

    async fn finish(mut self: Box<Self>) -> Result<(), StoreError> {
        let len = self.sent + self.part.len() as u64;
        if self.upload.is_none() {
            let _room = self.object.store.room.take(len).await?;
            return self.object.put(self.part.split().freeze()).await;
        }
        self.send().await?;
        // Taken only when it is complete: until then, dropping this aborts it.
        let Some(upload) = &mut self.upload else { return Ok(()) };
        while !upload.under_way.is_empty() {
            upload.one_done().await?;
        }
        let parts = upload.parts();
        self.object.complete(&upload.begun.id, parts, len).await?;
        self.object.store.begun.end(&self.object.key, &upload.begun);
        self.upload = None;
        Ok(())
    }
}

impl Drop for S3Writer {
    /// Aborts what is not complete, for [`crate::store::BlobStore::delete`] may come late or never.
    fn drop(&mut self) {
        let Some(mut upload) = self.upload.take() else { return };
        let Ok(runtime) = Handle::try_current() else { return };
        let Object { store, key, .. } = self.object.clone();
        // They end in their own time. One that is cut off the server may have whole.
        upload.under_way.detach_all();
        runtime.spawn(async move {
            let _quiet = upload.begun.quiet().await;
            if store.begun.get(&key).is_none() {
                return;
            }
            match store.abort(&key, &upload.begun.id).await {
                Ok(()) => store.begun.end(&key, &upload.begun),
                Err(error) => tracing::debug!(%error, "cannot abort a multipart upload yet"),
            }
        });
    }
}

impl Upload {
    /// Waits for one of the parts that are under way.
    async fn one_done(&mut self) -> Result<(), StoreError> {
        let Some(part) = self.under_way.join_next().await else { return Ok(()) };
        let part = part.map_err(std::io::Error::other)??;
        self.under_way_bytes -= part.len;
        self.done.push(part.completed);
        Ok(())
    }

    /// Every part, in order. None is under way any more.
    fn parts(&mut self) -> CompletedMultipartUpload {
        self.done.sort_by_key(CompletedPart::part_number);
        CompletedMultipartUpload::builder().set_parts(Some(std::mem::take(&mut self.done))).build()
    }
}

impl Object {
    /// Sends all of it at once.
    async fn put(&self, body: Bytes) -> Result<(), StoreError> {
        let len = body.len() as u64;
        let S3Store { client, bucket, timeouts, .. } = &self.store;
        let put = client.put_object().bucket(&**bucket).key(self.key.as_str()).metadata(METADATA, &self.writer);
        let put = put.if_none_match("*").checksum_algorithm(ChecksumAlgorithm::Crc32).body(body.into()).customize();
        // A checksum goes with it, and TLS or sealing keeps strangers off: no need to hash it all over again.
        let put = put.disable_payload_signing().config_override(self.store.within(timeouts.sending(len)));
        match put.send().await {
            Ok(_) => Ok(()),
            Err(error) => self.is_there(len, store_error("PutObject", error)).await,
        }
    }

    async fn begin(&self) -> Result<Upload, StoreError> {
        let begin = self.store.client.create_multipart_upload().bucket(&*self.store.bucket).key(self.key.as_str());
        let begun = begin.metadata(METADATA, &self.writer).checksum_algorithm(ChecksumAlgorithm::Crc32).send().await;
        let begun = begun.map_err(|error| store_error(CREATE, error))?;
        let id = begun.upload_id.ok_or_else(|| S3Error::away(CREATE, "the answer names no upload"))?;
        let begun = self.store.begun.begin(&self.key, id);
        Ok(Upload { begun, next_number: 1, under_way: JoinSet::new(), under_way_bytes: 0, done: vec![] })
    }

    async fn put_part(&self, upload: BegunUpload, number: i32, body: Bytes) -> Result<SentPart, StoreError> {
        let sending = upload.sending().await;
        let len = body.len() as u64;
        let S3Store { client, bucket, timeouts, .. } = &self.store;
        let put =
            client.upload_part().bucket(&**bucket).key(self.key.as_str()).upload_id(upload.id).part_number(number);
        let put = put.checksum_algorithm(ChecksumAlgorithm::Crc32).body(body.into()).customize();
        let put = put.disable_payload_signing().config_override(self.store.within(timeouts.sending(len)));
        let put = put.send().await;
        if let Err(SdkError::TimeoutError(_) | SdkError::DispatchFailure(_) | SdkError::ResponseError(_)) = put {
            // Nobody heard of its end: the server may be at it for a while.
            let a_while = timeouts.read;
            tokio::spawn(async move {
                sleep(a_while).await;
                drop(sending);
            });
        }
        let put = put.map_err(|error| store_error("UploadPart", error))?;
        let completed = CompletedPart::builder().part_number(number).set_e_tag(put.e_tag);
        Ok(SentPart { len, completed: completed.set_checksum_crc32(put.checksum_crc32).build() })
    }

    async fn complete(&self, upload: &str, parts: CompletedMultipartUpload, len: u64) -> Result<(), StoreError> {
        let complete = self.store.client.complete_multipart_upload().bucket(&*self.store.bucket);
        let complete = complete.key(self.key.as_str()).upload_id(upload).multipart_upload(parts).if_none_match("*");
        let within = self.store.within(self.store.timeouts.complete);
        match complete.customize().config_override(within).send().await {
            Ok(_) => Ok(()),
            Err(error) => self.is_there(len, store_error("CompleteMultipartUpload", error)).await,
        }
    }

    /// Whether the object is there, whole and of this writer, although a call for it ended with `error`.
    async fn is_there(&self, len: u64, error: StoreError) -> Result<(), StoreError> {
        match self.store.head(&self.key).await {
            Ok(Some(head)) if head.len == len && head.writer.as_ref() == Some(&self.writer) => Ok(()),
            _ => Err(error),
        }
    }
}
