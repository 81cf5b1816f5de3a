//! A range of an object, streamed; a GET that breaks off is taken up where it broke.

use std::ops::Range;

use aws_sdk_s3::primitives::ByteStream;
use bytes::Bytes;
use tokio::time::{sleep, timeout};

use super::{
    S3Store,
    error::{S3Error, store_error},
};
use crate::store::{StoreError, StoreKey};

/// How often one read may be taken up again.
const RESUMES: u32 = 5;

const GET: &str = "GetObject";

/// What is left of a range.
pub(super) struct Reading {
    store: S3Store,
    key: StoreKey,
    left: Range<u64>,
    body: ByteStream,
    /// Which object it is; another one under the same key is not gone on with.
    etag: Option<String>,
    resumes: u32,
}

impl Reading {
    /// Asks for the bytes `range`, which is not empty.
    pub(super) async fn open(store: S3Store, key: StoreKey, range: Range<u64>) -> Result<Self, StoreError> {
        let (body, etag) = get(&store, &key, &range, None).await?;
        Ok(Self { store, key, left: range, body, etag, resumes: 0 })
    }

    /// The next bytes.
    pub(super) async fn step(mut self) -> Result<Option<(Bytes, Self)>, StoreError> {
        while !self.left.is_empty() {
            let broken = match timeout(self.store.timeouts.read, self.body.next()).await {
                Ok(Some(Ok(bytes))) if bytes.is_empty() => continue,
                Ok(Some(Ok(bytes))) => {
                    self.left.start += bytes.len() as u64;
                    if self.left.start > self.left.end {
                        return Err(S3Error::away(GET, "more bytes came than were asked for").into());
                    }
                    return Ok(Some((bytes, self)));
                }
                Ok(Some(Err(error))) => error.to_string(),
                Ok(None) => "the body ended early".to_owned(),
                Err(_) => "no byte came in time".to_owned(),
            };
            self.resume(broken).await?;
        }
        Ok(None)
    }

    async fn resume(&mut self, broken: String) -> Result<(), StoreError> {
        if self.resumes == RESUMES {
            return Err(S3Error::away(GET, format!("broke off {RESUMES} times, at last: {broken}")).into());
        }
        tracing::debug!(left = ?self.left, broken, "a read from S3 broke off; going on");
        sleep(self.store.timeouts.backoff * 2_u32.pow(self.resumes)).await;
        self.resumes += 1;
        let (body, etag) = get(&self.store, &self.key, &self.left, self.etag.clone()).await?;
        // Not every server knows `If-Match`.
        if etag != self.etag {
            return Err(StoreError::Missing);
        }
        self.body = body;
        Ok(())
    }
}

async fn get(
    store: &S3Store,
    key: &StoreKey,
    range: &Range<u64>,
    etag: Option<String>,
) -> Result<(ByteStream, Option<String>), StoreError> {
    let got = store.client.get_object().bucket(&*store.bucket).key(key.as_str()).set_if_match(etag);
    let got = got.range(format!("bytes={}-{}", range.start, range.end - 1)).send().await;
    let got = got.map_err(|error| match store_error(GET, error) {
        // Only `If-Match` can be meant: the object is another one by now.
        StoreError::Taken => StoreError::Missing,
        error => error,
    })?;
    // The end of a range that goes past the end of its object is left out of the answer. A server that ignores ranges
    // answers with the whole object, which shows here, too, unless the whole was asked for.
    match got.content_length() {
        Some(len) if u64::try_from(len).is_ok_and(|len| len == range.end - range.start) => Ok((got.body, got.e_tag)),
        Some(_) if got.content_range().is_some() => Err(StoreError::Missing),
        _ => Err(S3Error::away(GET, "the answer is not the range that was asked for").into()),
    }
}
