//! Copies as objects of one bucket of an S3 server.

mod begun;
mod error;
mod parts;
mod reader;
#[cfg(test)]
pub(crate) mod tests;
mod writer;

use std::{
    fmt,
    ops::Range,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use async_trait::async_trait;
use aws_sdk_s3::{
    Client,
    config::{
        BehaviorVersion, Config, Credentials, Region, RequestChecksumCalculation, ResponseChecksumValidation,
        StalledStreamProtectionConfig, retry::RetryConfig, timeout::TimeoutConfig,
    },
};
use bytes::Bytes;
use futures_util::stream;
use sluice_common::secret::Secret;
use tokio::time::timeout;

pub use self::error::{S3Error, S3Failure};
use self::{begun::Begun, error::store_error, parts::Room, reader::Reading, writer::S3Writer};
use super::{BlobStore, BlobStream, BlobWriter, StoreError, StoreKey, StoreKind};

/// How often unfinished uploads of a copy that is to go are looked for: a part that was on its way may bring one back.
const ABORT_ROUNDS: usize = 3;

/// How long an abort waits for the parts that are on their way. After that it is for the next who removes the copy.
const QUIET: Duration = Duration::from_secs(10);

const ABORT: &str = "AbortMultipartUpload";

/// How long a HEAD may take with all its attempts: the end of an upload waits for it.
const LOOKING: Duration = Duration::from_secs(10);

/// Which bucket of which server, and how it is talked to.
#[derive(Debug, Clone)]
pub struct S3Config {
    /// The bucket, which exists.
    pub bucket: String,
    /// The server's region, which is part of what is signed.
    pub region: String,
    /// Where the server is, as a URL. None: AWS's own, in the region.
    pub endpoint: Option<String>,
    /// Whether the bucket stands in the path, and not in the host's name.
    pub path_style: bool,
    /// Who we are.
    pub credentials: S3Credentials,
    /// How long to wait for what.
    pub timeouts: S3Timeouts,
    /// How often a call is tried in all. Once where it is 1.
    pub attempts: u32,
}

/// Who we are to the server.
#[derive(Debug, Clone)]
pub struct S3Credentials {
    /// The name of the key.
    pub access_key_id: Secret<String>,
    /// The key.
    pub secret_access_key: Secret<String>,
    /// What goes with a key that was made for a time.
    pub session_token: Option<Secret<String>>,
}

/// How long to wait for what.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct S3Timeouts {
    /// For a connection.
    pub connect: Duration,
    /// For an answer, and then for each next piece of it.
    pub read: Duration,
    /// What sends a body has so much more time for it as this speed, the slowest that will do, makes necessary.
    pub slowest_bytes_per_sec: u64,
    /// For the server to make one object of all parts, which some copy for it.
    pub complete: Duration,
    /// Before the second attempt, at most; about twice as long before each further one.
    pub backoff: Duration,
}

impl Default for S3Timeouts {
    fn default() -> Self {
        Self {
            connect: Duration::from_secs(5),
            read: Duration::from_secs(30),
            slowest_bytes_per_sec: 128 << 10,
            complete: Duration::from_secs(600),
            backoff: Duration::from_secs(1),
        }
    }
}

impl S3Timeouts {
    /// How long a call may take that sends `len` bytes.
    fn sending(&self, len: u64) -> Duration {
        self.read + Duration::from_secs(len / self.slowest_bytes_per_sec.max(1))
    }

    /// For a call that may take `attempt` each time it is tried.
    fn config(&self, attempt: Duration) -> TimeoutConfig {
        TimeoutConfig::builder().connect_timeout(self.connect).operation_attempt_timeout(attempt).build()
    }
}

/// Keeps each copy as an object of one bucket, named by its key. Objects of other names stay alone. Cheap to clone.
#[derive(Clone)]
pub struct S3Store {
    client: Client,
    bucket: Arc<str>,
    timeouts: S3Timeouts,
    room: Room,
    begun: Begun,
    /// Whether the server cannot tell which multipart uploads are unfinished.
    cannot_list: Arc<AtomicBool>,
}

impl fmt::Debug for S3Store {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("S3Store").field("bucket", &self.bucket).finish_non_exhaustive()
    }
}

impl S3Store {
    /// The store in the bucket that `config` names. Asks nobody yet: see [`BlobStore::check`].
    pub fn new(config: &S3Config) -> Self {
        let S3Credentials { access_key_id, secret_access_key, session_token } = &config.credentials;
        let token = session_token.as_ref().map(|token| token.expose().clone());
        let credentials = Credentials::new(
            access_key_id.expose().clone(),
            secret_access_key.expose().clone(),
            token,
            None,
            "sluice's settings",
        );
        let timeouts = config.timeouts;
        let retries = RetryConfig::standard()
            .with_max_attempts(config.attempts.max(1))
            .with_initial_backoff(timeouts.backoff)
            .with_max_backoff(timeouts.backoff * 20);
        let mut sdk = Config::builder()
            .behavior_version(BehaviorVersion::v2026_01_12())
            .region(Region::new(config.region.clone()))
            .credentials_provider(credentials)
            .force_path_style(config.path_style)
            .retry_config(retries)
            .timeout_config(timeouts.config(timeouts.read))
            // The reader has a timeout of its own, and parts are handed over whole.
            .stalled_stream_protection(StalledStreamProtectionConfig::disabled())
            .request_checksum_calculation(RequestChecksumCalculation::WhenSupported)
            // There is none for a range.
            .response_checksum_validation(ResponseChecksumValidation::WhenRequired);
        sdk.set_endpoint_url(config.endpoint.clone());
        Self {
            client: Client::from_conf(sdk.build()),
            bucket: config.bucket.as_str().into(),
            timeouts,
            room: Room::new(),
            begun: Begun::default(),
            cannot_list: Arc::default(),
        }
    }

    /// A change to one call: it may take `attempt` each time it is tried.
    fn within(&self, attempt: Duration) -> aws_sdk_s3::config::Builder {
        Config::builder().timeout_config(self.timeouts.config(attempt))
    }

    /// What a HEAD says of a copy; none if there is no such copy.
    async fn head(&self, key: &StoreKey) -> Result<Option<Head>, StoreError> {
        let head = self.client.head_object().bucket(&*self.bucket).key(key.as_str()).customize();
        let timeouts = self.timeouts.config(self.timeouts.read).to_builder().operation_timeout(LOOKING).build();
        let head = head.config_override(Config::builder().timeout_config(timeouts)).send().await;
        match head.map_err(|error| store_error("HeadObject", error)) {
            Ok(head) => {
                let len = head.content_length().and_then(|len| u64::try_from(len).ok());
                let len = len.ok_or_else(|| S3Error::away("HeadObject", "the answer says no length"))?;
                let writer = head.metadata().and_then(|metadata| metadata.get(writer::METADATA)).cloned();
                Ok(Some(Head { len, writer }))
            }
            Err(StoreError::Missing) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Ends the unfinished multipart uploads of a copy: the one that this process knows of, and those that the server
    /// names.
    async fn abort_all(&self, key: &StoreKey) -> Result<(), StoreError> {
        if let Some(upload) = self.begun.get(key) {
            let quiet = timeout(QUIET, upload.quiet()).await;
            let _quiet = quiet.map_err(|_| S3Error::away(ABORT, "a part of the upload may still be on its way"))?;
            match self.abort(key, &upload.id).await {
                Err(error) if error.is_away() => return Err(error),
                // If it is there all the same, the server names it below.
                Err(error) => tracing::warn!(%error, "cannot abort a multipart upload"),
                Ok(()) => {}
            }
            self.begun.end(key, &upload);
        }
        let mut refused = None;
        for _ in 0..ABORT_ROUNDS {
            let unfinished = self.unfinished(key).await?;
            if unfinished.is_empty() {
                return Ok(());
            }
            refused = None;
            for upload in unfinished {
                match self.abort(key, &upload).await {
                    Ok(()) => {}
                    Err(error) if error.is_away() => return Err(error),
                    // Another sweeper may have been faster, and not every server says so with 404. If it is there all
                    // the same, the server names it again.
                    Err(error) => refused = Some(error),
                }
            }
        }
        refused.map_or(Ok(()), Err)
    }

    async fn abort(&self, key: &StoreKey, upload: &str) -> Result<(), StoreError> {
        let abort = self.client.abort_multipart_upload().bucket(&*self.bucket).key(key.as_str()).upload_id(upload);
        match abort.send().await.map_err(|error| store_error(ABORT, error)) {
            Ok(_) | Err(StoreError::Missing) => Ok(()),
            Err(error) => Err(error),
        }
    }

    /// The unfinished multipart uploads of a copy, as far as the server tells.
    async fn unfinished(&self, key: &StoreKey) -> Result<Vec<String>, StoreError> {
        if self.cannot_list.load(Ordering::Relaxed) {
            return Ok(vec![]);
        }
        // One page will do: the uploads of one key are few, and others are only those whose keys begin with it.
        let list = self.client.list_multipart_uploads().bucket(&*self.bucket).prefix(key.as_str()).send().await;
        match list.map_err(|error| store_error("ListMultipartUploads", error)) {
            Ok(list) => {
                let of_key = list.uploads().iter().filter(|upload| upload.key() == Some(key.as_str()));
                Ok(of_key.filter_map(|upload| upload.upload_id().map(str::to_owned)).collect())
            }
            Err(StoreError::S3(error)) if error.failure() == S3Failure::Unsupported => {
                if !self.cannot_list.swap(true, Ordering::Relaxed) {
                    tracing::warn!(
                        "the S3 server cannot list unfinished multipart uploads: those of a server that died are for \
                         a lifecycle rule of the bucket to remove"
                    );
                }
                Ok(vec![])
            }
            Err(StoreError::Missing) => Ok(vec![]),
            Err(error) => Err(error),
        }
    }
}

/// What a HEAD says of an object.
struct Head {
    len: u64,
    /// Who wrote it.
    writer: Option<String>,
}

#[async_trait]
impl BlobStore for S3Store {
    fn kind(&self) -> StoreKind {
        StoreKind::S3
    }

    /// Not every server knows `If-None-Match`, so a HEAD comes first; a server that does know it is asked to look
    /// again when the copy is whole.
    async fn create(&self, key: &StoreKey, longest: u64) -> Result<Box<dyn BlobWriter>, StoreError> {
        match self.head(key).await? {
            Some(_) => Err(StoreError::Taken),
            None => Ok(Box::new(S3Writer::new(self.clone(), key.clone(), longest))),
        }
    }

    async fn len(&self, key: &StoreKey) -> Result<Option<u64>, StoreError> {
        Ok(self.head(key).await?.map(|head| head.len))
    }

    async fn read(&self, key: &StoreKey, range: Range<u64>) -> Result<BlobStream, StoreError> {
        if range.is_empty() {
            return Ok(Box::pin(stream::empty::<Result<Bytes, StoreError>>()));
        }
        let reading = Reading::open(self.clone(), key.clone(), range).await?;
        Ok(Box::pin(stream::try_unfold(reading, Reading::step)))
    }

    async fn delete(&self, key: &StoreKey) -> Result<(), StoreError> {
        self.abort_all(key).await?;
        let deleted = self.client.delete_object().bucket(&*self.bucket).key(key.as_str()).send().await;
        match deleted.map_err(|error| store_error("DeleteObject", error)) {
            Ok(_) | Err(StoreError::Missing) => Ok(()),
            Err(error) => Err(error),
        }
    }

    /// Writes, reads and removes a copy of its own, so that a right that is missing shows now.
    async fn check(&self) -> Result<(), StoreError> {
        let key = StoreKey::random();
        let mut writer = self.create(&key, 5).await?;
        writer.write(Bytes::from_static(b"probe")).await?;
        writer.finish().await?;
        let read = async { Reading::open(self.clone(), key.clone(), 0..5).await?.step().await };
        let read = read.await.map(drop);
        self.delete(&key).await?;
        read
    }
}
