//! Pictures: how large they are, and small ones of large ones. What strangers send is decoded here, so all of it is bounded:
//! bytes, pixels, memory, how many at once, and how many wait.

mod failures;
mod head;
mod jpeg;
#[cfg(test)]
mod tests;
mod thumbnail;
mod webp;

use std::{future::Future, num::NonZeroUsize, panic::catch_unwind, sync::Arc, thread, time::Duration};

use http::StatusCode;
use sluice_common::muid::Muid;
use tokio::{sync::Semaphore, task::spawn_blocking, time::timeout};

use self::failures::Failures;
pub use self::{
    head::{MAX_PIXELS, MAX_SIDE, dimensions},
    thumbnail::{MAX_SOURCE_BYTES, MEDIUM_SIDE, THUMB_SIDE, Thumbnail, thumbnail},
};

/// How many thumbnails may wait for their turn.
const MAX_WAITING: usize = 64;

/// How long one waits at most.
const MAX_WAIT: Duration = Duration::from_secs(5);

/// Of the threads that decode: more would only take memory.
const MAX_WORKERS: usize = 4;

const PIXELS_PER_PERMIT: u64 = 1_000_000;

/// Why a picture is not made, or not measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum PictureError {
    /// It is no picture, or of a kind that is not read.
    #[error("the file is no picture that can be read: JPEG, PNG, GIF and WebP can")]
    NotSupported,
    /// It cannot be decoded.
    #[error("the picture is broken")]
    Broken,
    /// It has more pixels than are decoded.
    #[error("the picture has more than {MAX_PIXELS} pixels, or {MAX_SIDE} on a side")]
    TooManyPixels,
    /// The file has more bytes than are read.
    #[error("the picture's file has more than {MAX_SOURCE_BYTES} bytes")]
    TooManyBytes,
    /// Too many others are being made.
    #[error("too many pictures are being made; come again")]
    Busy,
}

impl PictureError {
    /// The status that it answers.
    pub fn status(self) -> StatusCode {
        match self {
            Self::NotSupported => StatusCode::UNSUPPORTED_MEDIA_TYPE,
            Self::Broken => StatusCode::UNPROCESSABLE_ENTITY,
            Self::TooManyPixels | Self::TooManyBytes => StatusCode::PAYLOAD_TOO_LARGE,
            Self::Busy => StatusCode::SERVICE_UNAVAILABLE,
        }
    }

    /// The stable machine code.
    pub fn code(self) -> &'static str {
        match self {
            Self::NotSupported => "not_a_picture",
            Self::Broken => "broken_picture",
            Self::TooManyPixels | Self::TooManyBytes => "picture_too_large",
            Self::Busy => "pictures_busy",
        }
    }
}

/// Makes thumbnails, a few at a time, off the threads that answer requests.
pub struct Pictures {
    workers: Arc<Semaphore>,
    waiting: Semaphore,
    /// Millions of pixels that may be in memory at once: those of one picture of the largest kind.
    pixels: Arc<Semaphore>,
    failures: Arc<Failures>,
}

impl Default for Pictures {
    fn default() -> Self {
        let workers = thread::available_parallelism().map_or(1, NonZeroUsize::get).min(MAX_WORKERS);
        Self::new(workers, MAX_WAITING)
    }
}

impl Pictures {
    /// At most `workers` at once, and `waiting` that wait for them.
    fn new(workers: usize, waiting: usize) -> Self {
        Self {
            workers: Arc::new(Semaphore::new(workers)),
            waiting: Semaphore::new(waiting),
            pixels: Arc::new(Semaphore::new(MAX_PIXELS.div_ceil(PIXELS_PER_PERMIT) as usize)),
            failures: Arc::default(),
        }
    }

    /// The thumbnail of the file `muid` that `read` gets, which is not called before it is this picture's turn. None: `read`
    /// found that there is nothing to do any more.
    pub async fn thumbnail<E: From<PictureError>>(
        &self,
        muid: Muid,
        side: u32,
        read: impl Future<Output = Result<Option<Vec<u8>>, E>>,
    ) -> Result<Option<Thumbnail>, E> {
        self.failures.check(muid)?;
        let worker = {
            let _waiting = self.waiting.try_acquire().map_err(|_| PictureError::Busy)?;
            let turn = Arc::clone(&self.workers).acquire_owned();
            timeout(MAX_WAIT, turn).await.ok().and_then(Result::ok).ok_or(PictureError::Busy)?
        };
        // Others may have tried meanwhile.
        self.failures.check(muid)?;
        let Some(file) = read.await? else { return Ok(None) };
        let measuring = spawn_blocking(move || (dimensions(&file), file));
        let (measured, file) = measuring.await.map_err(|_| PictureError::Busy)?;
        let (width, height) = measured.inspect_err(|&error| self.failures.remember(muid, error))?;
        // Whoever has pixels waits for nothing else, so these come.
        let pixels = Arc::clone(&self.pixels).acquire_many_owned(permits(width, height)).await;
        let pixels = pixels.map_err(|_| PictureError::Busy)?;
        let failures = Arc::clone(&self.failures);
        // The permits go along: whoever hangs up stops waiting, not the work.
        let making = spawn_blocking(move || {
            let _permits = (worker, pixels);
            // A decoder that panics met a picture that no decoder should.
            let made = catch_unwind(|| thumbnail(&file, side)).unwrap_or(Err(PictureError::Broken));
            made.inspect_err(|&error| failures.remember(muid, error))
        });
        Ok(Some(making.await.unwrap_or(Err(PictureError::Busy))?))
    }
}

/// What a picture counts as, of the pixels that may be in memory at once.
fn permits(width: u32, height: u32) -> u32 {
    u32::try_from((u64::from(width) * u64::from(height)).div_ceil(PIXELS_PER_PERMIT)).unwrap_or(u32::MAX)
}
