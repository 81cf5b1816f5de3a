//! Pictures: how large they are, and small ones of large ones. What strangers send is decoded here, so all of it is bounded:
//! bytes, pixels, memory, how many at once, and how many wait.

mod jpeg;
#[cfg(test)]
mod tests;
mod thumbnail;

use std::{future::Future, num::NonZeroUsize, sync::Arc, thread, time::Duration};

use http::StatusCode;
use tokio::{sync::Semaphore, task::spawn_blocking, time::timeout};

pub use self::thumbnail::{
    MAX_PIXELS, MAX_SIDE, MAX_SOURCE_BYTES, MEDIUM_SIDE, THUMB_SIDE, Thumbnail, dimensions, thumbnail,
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
            pixels: Arc::new(Semaphore::new(permits(MAX_PIXELS) as usize)),
        }
    }

    /// The thumbnail of the file that `read` gets, which is not called before it is this picture's turn. None: `read` found
    /// that there is nothing to do any more.
    pub async fn thumbnail<E: From<PictureError>>(
        &self,
        side: u32,
        read: impl Future<Output = Result<Option<Vec<u8>>, E>>,
    ) -> Result<Option<Thumbnail>, E> {
        let worker = {
            let _waiting = self.waiting.try_acquire().map_err(|_| PictureError::Busy)?;
            let turn = Arc::clone(&self.workers).acquire_owned();
            timeout(MAX_WAIT, turn).await.ok().and_then(Result::ok).ok_or(PictureError::Busy)?
        };
        let Some(file) = read.await? else { return Ok(None) };
        let (width, height) = dimensions(&file)?;
        let pixels = Arc::clone(&self.pixels).acquire_many_owned(permits(u64::from(width) * u64::from(height)));
        // Whoever has pixels waits for nothing else, so these come.
        let pixels = pixels.await.map_err(|_| PictureError::Busy)?;
        // The permits go along: whoever hangs up stops waiting, not the work.
        let making = spawn_blocking(move || {
            let _permits = (worker, pixels);
            thumbnail(&file, side)
        });
        // A decoder that panics met a picture that no decoder should.
        Ok(Some(making.await.unwrap_or(Err(PictureError::Broken))?))
    }
}

fn permits(pixels: u64) -> u32 {
    u32::try_from(pixels.div_ceil(PIXELS_PER_PERMIT)).unwrap_or(u32::MAX)
}
