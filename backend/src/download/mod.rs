//! Sending a stored file: streamed, by range, opened on the way if it is sealed.

mod conditions;
mod disposition;
mod range;
mod thumbnail;

use std::{borrow::Cow, ops::Range, pin::Pin, slice};

use axum::{
    body::Body,
    response::{IntoResponse, Response},
};
use bytes::Bytes;
use futures_util::{Stream, StreamExt, TryStreamExt, future::ready, stream};
use http::{
    HeaderMap, HeaderName, HeaderValue, Method, StatusCode,
    header::{
        ACCEPT_RANGES, CACHE_CONTROL, CONTENT_DISPOSITION, CONTENT_LENGTH, CONTENT_RANGE, CONTENT_SECURITY_POLICY,
        CONTENT_TYPE, ETAG, LAST_MODIFIED, REFERRER_POLICY, X_CONTENT_TYPE_OPTIONS,
    },
};
use sluice_common::dare::{self, DareError, DataKey, Opener};
use time::OffsetDateTime;

use self::{
    conditions::{Outcome, Validators},
    range::Requested,
};
use crate::{
    cache::CachePolicy,
    db::{Content, Media, Variant},
    error::ApiError,
    legacy::LegacyError,
    state::App,
    store::{BlobStream, StoreError},
};

type PlainBytes = Pin<Box<dyn Stream<Item = Result<Bytes, DownloadError>> + Send>>;

/// Why a file that somebody may read cannot be sent. All of them are our fault.
#[derive(Debug, thiserror::Error)]
pub enum DownloadError {
    /// A copy that sphinx-meme left cannot be read.
    #[error(transparent)]
    Legacy(LegacyError),
    /// The file's row has no copy.
    #[error("a file has no stored copy")]
    NoCopy,
    /// The copy is in a store that this server does not have.
    #[error("a copy is in the store `{0}`, which is not configured")]
    OtherStore(&'static str),
    /// The copy is gone from its store, or not as long as it must be.
    #[error("a stored copy has {found:?} bytes instead of {expected}")]
    Length {
        /// None: it is gone.
        found: Option<u64>,
        /// As its row says.
        expected: u64,
    },
    /// The copy was sealed under a key that this server does not have.
    #[error("a copy is sealed under the key {0}, which is not LOCAL_ENCRYPTION_KEY")]
    OtherKey(String),
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The copy cannot be opened.
    #[error("a sealed copy cannot be opened: {0}")]
    Sealed(#[from] DareError),
}

impl DownloadError {
    /// Whether there is no copy where the row said that there is one.
    fn is_gone(&self) -> bool {
        matches!(self, Self::NoCopy | Self::Length { found: None, .. } | Self::Store(StoreError::Missing))
    }
}

/// Answers a GET or HEAD for the file of `media`, or for a picture of it, which the caller was found to be allowed.
///
/// A conditional request is 304 or 412 where it must be, a `Range` of one part 206 or 416; several parts and a HEAD are
/// answered as if for the whole. The store is asked first, so that whatever is missing there is an error and not a 200.
///
/// A copy goes with the last row of its file, and when another takes its place. Whom that meets here is told what is so
/// after it.
pub async fn respond(
    app: &App,
    media: &Media,
    variant: Variant,
    cache: CachePolicy,
    method: &Method,
    request: &HeaderMap,
) -> Result<Response, ApiError> {
    match try_respond(app, media, variant, cache, method, request).await {
        Err(ApiError::Download(error)) if error.is_gone() => {}
        answer => return answer,
    }
    let now = OffsetDateTime::now_utc();
    let row = app.db.media(media.muid, slice::from_ref(&media.owner), now).await?;
    let row = row.filter(|row| row.owner == media.owner);
    if row.as_ref().unwrap_or(media).is_expired(now) {
        return Err(ApiError::FileExpired);
    }
    let media = row.ok_or(ApiError::NoSuchFile)?;
    try_respond(app, &media, variant, cache, method, request).await
}

async fn try_respond(
    app: &App,
    media: &Media,
    variant: Variant,
    cache: CachePolicy,
    method: &Method,
    request: &HeaderMap,
) -> Result<Response, ApiError> {
    let validators = Validators::new(media.muid, variant, media.created);
    let mut headers = HeaderMap::new();
    headers.insert(CACHE_CONTROL, cache.header());
    headers
        .extend([(ETAG, validators.etag()), (LAST_MODIFIED, validators.last_modified())].into_iter().filter_map(some));
    match validators.weigh(request) {
        Outcome::Failed => return Err(ApiError::PreconditionFailed),
        Outcome::NotModified => return Ok((StatusCode::NOT_MODIFIED, headers).into_response()),
        Outcome::Proceed => {}
    }

    let source = match variant {
        Variant::File => Source::Copy(app.content(media.muid).await?.ok_or(DownloadError::NoCopy)?),
        variant => Source::Picture(thumbnail::get(app, media.muid, variant).await?),
    };
    let size = source.size();
    let whole = 0..size;
    let part = match method == Method::GET && variant == Variant::File && validators.allow_part(request) {
        true => range::requested(request, size),
        false => Requested::Whole,
    };
    let (status, bytes) = match part {
        Requested::Whole => (StatusCode::OK, whole),
        Requested::Part(part) => (StatusCode::PARTIAL_CONTENT, part),
        Requested::Unsatisfiable => return Err(ApiError::RangeNotSatisfiable { size }),
    };
    if status == StatusCode::PARTIAL_CONTENT {
        let value = format!("bytes {}-{}/{}", bytes.start, bytes.end - 1, size);
        headers.extend(HeaderValue::try_from(value).ok().map(|value| (CONTENT_RANGE, value)));
    }
    describe(media, &source, bytes.end - bytes.start, &mut headers);
    let body = source.body(app, bytes, method == Method::HEAD).await?;
    Ok((status, headers, body).into_response())
}

/// Where the bytes come from.
enum Source {
    Copy(Content),
    Picture(Bytes),
}

impl Source {
    fn size(&self) -> u64 {
        match self {
            Self::Copy(content) => content.size,
            Self::Picture(picture) => picture.len() as u64,
        }
    }

    async fn body(&self, app: &App, range: Range<u64>, is_head: bool) -> Result<Body, DownloadError> {
        match self {
            Self::Copy(content) => {
                check_copy(app, content).await?;
                if is_head { Ok(Body::empty()) } else { read(app, content, range).await }
            }
            Self::Picture(_) if is_head => Ok(Body::empty()),
            Self::Picture(picture) => Ok(picture.clone().into()),
        }
    }
}

fn some((name, value): (HeaderName, Option<HeaderValue>)) -> Option<(HeaderName, HeaderValue)> {
    Some((name, value?))
}

/// What a browser needs to know to save the file, and to do nothing else with it.
fn describe(media: &Media, source: &Source, len: u64, headers: &mut HeaderMap) {
    let (mime, filename) = match source {
        Source::Copy(_) => (
            HeaderValue::try_from(&media.mime).ok().filter(|mime| !mime.is_empty()),
            Cow::Borrowed(media.filename.as_str()),
        ),
        Source::Picture(picture) => (
            Some(HeaderValue::from_static(thumbnail::mime(picture))),
            Cow::Owned(thumbnail::filename(&media.filename, picture)),
        ),
    };
    let mime = mime.unwrap_or(HeaderValue::from_static("application/octet-stream"));
    headers.insert(CONTENT_TYPE, mime);
    headers.insert(CONTENT_LENGTH, len.into());
    // A picture is small, and made again it may have other bytes.
    let ranges = if matches!(source, Source::Copy(_)) { "bytes" } else { "none" };
    headers.insert(ACCEPT_RANGES, HeaderValue::from_static(ranges));
    headers.insert(CONTENT_DISPOSITION, disposition::attachment(&filename));
    headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    headers.insert(CONTENT_SECURITY_POLICY, HeaderValue::from_static("sandbox"));
    headers.insert(REFERRER_POLICY, HeaderValue::from_static("no-referrer"));
}

async fn check_copy(app: &App, content: &Content) -> Result<(), DownloadError> {
    if content.store != app.store.kind() {
        return Err(DownloadError::OtherStore(content.store.name()));
    }
    let (found, expected) = (app.store.len(&content.store_key).await?, content.stored_len());
    if found == Some(expected) { Ok(()) } else { Err(DownloadError::Length { found, expected }) }
}

/// The bytes `range` of a file. The first piece is read before this returns, so that a copy that cannot be read or
/// opened is an error here; one that breaks later breaks the connection off.
async fn read(app: &App, content: &Content, range: Range<u64>) -> Result<Body, DownloadError> {
    if range.is_empty() {
        return Ok(Body::empty());
    }
    let mut stream = open(app, content, range).await?;
    let first = stream.try_next().await?;
    let rest =
        stream.inspect_err(|error| tracing::error!(error = error as &dyn std::error::Error, "a download broke off"));
    Ok(Body::from_stream(stream::iter(first.map(Ok)).chain(rest)))
}

/// The bytes `range` of a copy, opened; not an empty one.
async fn open(app: &App, content: &Content, range: Range<u64>) -> Result<PlainBytes, DownloadError> {
    let stream = match &content.sealing {
        None => app.store.read(&content.store_key, range).await?.map_err(DownloadError::from).left_stream(),
        Some(sealing) => {
            let key = app.sealing_key.as_ref().filter(|key| key.fingerprint == sealing.key_fingerprint);
            let key = key.ok_or_else(|| DownloadError::OtherKey(sealing.key_fingerprint.clone()))?;
            let span = dare::span(range, content.size)?;
            let opener = Opener::for_span(&DataKey::derive(key.master.expose(), &sealing.nonce), &span);
            opened(app.store.read(&content.store_key, span.sealed).await?, opener).right_stream()
        }
    };
    Ok(Box::pin(stream))
}

/// The plain bytes of the packages that come in `sealed`.
fn opened(sealed: BlobStream, opener: Opener) -> impl Stream<Item = Result<Bytes, DownloadError>> + Send {
    stream::try_unfold(Some((sealed, opener)), |state| async move {
        let Some((mut sealed, mut opener)) = state else { return Ok(None) };
        let mut plain = Vec::new();
        let state = match sealed.try_next().await? {
            Some(piece) => {
                opener.update(&piece, &mut plain)?;
                Some((sealed, opener))
            }
            None => {
                opener.finish()?;
                None
            }
        };
        Ok(Some((Bytes::from(plain), state)))
    })
    .try_filter(|plain| ready(!plain.is_empty()))
}
