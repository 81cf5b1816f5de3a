//! A request's body, counted and bounded.

use std::{
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    task::{Context, Poll},
    time::Duration,
};

use axum::body::{Body, Bytes, HttpBody};
use futures_util::Stream;
use sluice_common::limits::MAX_FORM_OVERHEAD_BYTES;
use tokio::time::{Instant, Sleep};
use tokio_util::sync::{CancellationToken, WaitForCancellationFutureOwned};

use super::UploadError;

/// The longest time without a byte.
const MAX_IDLE: Duration = Duration::from_secs(60);

/// The most bytes that are given before the reader gets a turn. multer reads on while there is something to read.
const MAX_PIECE_LEN: usize = 64 * 1024;

/// Bytes that may be given out and not yet known to be the file's. Only bounds memory: the count at the end is exact.
const UNSORTED_LEN: u64 = 4 * MAX_PIECE_LEN as u64;

/// The bytes of a request's body. Ends only where the body does: a body that breaks off, that is shorter than it said,
/// or that stops coming, is [`UploadError::IncompleteBody`].
pub(super) struct BodyBytes {
    body: Body,
    declared: Option<u64>,
    /// Of the last frame, not yet given.
    rest: Bytes,
    given: u64,
    of_file: FileBytes,
    since_pause: usize,
    ended: bool,
    last_byte: Instant,
    idle: Pin<Box<Sleep>>,
    interrupted: Pin<Box<WaitForCancellationFutureOwned>>,
}

/// How many bytes of a body turned out to be the file's.
#[derive(Clone, Default)]
pub(super) struct FileBytes(Arc<AtomicU64>);

impl FileBytes {
    /// Counts `len` more and says how many there are.
    pub(super) fn add(&self, len: usize) -> u64 {
        self.0.fetch_add(len as u64, Ordering::Relaxed) + len as u64
    }

    fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

impl BodyBytes {
    /// The bytes of `body`, which end with [`UploadError::Interrupted`] once `interrupted` is cancelled.
    pub(super) fn new(body: Body, interrupted: CancellationToken) -> Self {
        Self {
            declared: body.size_hint().exact(),
            body,
            rest: Bytes::new(),
            given: 0,
            of_file: FileBytes::default(),
            since_pause: 0,
            ended: false,
            last_byte: Instant::now(),
            idle: Box::pin(tokio::time::sleep(MAX_IDLE)),
            interrupted: Box::pin(interrupted.cancelled_owned()),
        }
    }

    /// How many bytes it said there are.
    pub(super) fn declared(&self) -> Option<u64> {
        self.declared
    }

    /// Where the reader counts the file's bytes.
    pub(super) fn file_bytes(&self) -> FileBytes {
        self.of_file.clone()
    }

    /// Whether not one byte was given.
    pub(super) fn is_empty(&self) -> bool {
        self.given == 0
    }

    /// Bytes given.
    pub(super) fn given(&self) -> u64 {
        self.given
    }

    /// Bytes given that are not the file's. Exact once the form is read.
    pub(super) fn overhead(&self) -> u64 {
        self.given.saturating_sub(self.of_file.get())
    }

    fn give(&mut self) -> Bytes {
        let piece = self.rest.split_to(self.rest.len().min(MAX_PIECE_LEN));
        self.given += piece.len() as u64;
        self.since_pause += piece.len();
        piece
    }

    /// The error of a body that does not come, if it is time for one.
    fn poll_given_up(&mut self, cx: &mut Context<'_>) -> Poll<UploadError> {
        if self.interrupted.as_mut().poll(cx).is_ready() {
            return Poll::Ready(UploadError::Interrupted);
        }
        while self.idle.as_mut().poll(cx).is_ready() {
            let end = self.last_byte + MAX_IDLE;
            if end <= Instant::now() {
                return Poll::Ready(UploadError::IncompleteBody);
            }
            self.idle.as_mut().reset(end);
        }
        Poll::Pending
    }
}

impl Stream for BodyBytes {
    type Item = Result<Bytes, UploadError>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Bytes, UploadError>>> {
        if self.since_pause >= MAX_PIECE_LEN {
            self.since_pause = 0;
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        while self.rest.is_empty() && !self.ended {
            let error = match Pin::new(&mut self.body).poll_frame(cx) {
                Poll::Ready(Some(Ok(frame))) => {
                    self.rest = frame.into_data().unwrap_or_default();
                    self.last_byte = Instant::now();
                    continue;
                }
                Poll::Ready(None) => {
                    self.ended = true;
                    // HTTP/2 clients can reset a stream in a way that looks like its end.
                    if self.declared.is_none_or(|declared| declared == self.given) {
                        break;
                    }
                    UploadError::IncompleteBody
                }
                Poll::Ready(Some(Err(_))) => UploadError::IncompleteBody,
                Poll::Pending => {
                    self.since_pause = 0;
                    std::task::ready!(self.poll_given_up(cx))
                }
            };
            self.ended = true;
            return Poll::Ready(Some(Err(error)));
        }
        if self.rest.is_empty() {
            return Poll::Ready(None);
        }
        if self.overhead() > MAX_FORM_OVERHEAD_BYTES + UNSORTED_LEN {
            return Poll::Ready(Some(Err(UploadError::FormTooLarge)));
        }
        Poll::Ready(Some(Ok(self.give())))
    }
}

#[cfg(test)]
mod tests {
    use futures_util::{StreamExt, TryStreamExt, stream};

    use super::*;

    fn bytes_of(body: Body) -> BodyBytes {
        BodyBytes::new(body, CancellationToken::new())
    }

    /// A body of five bytes that says it has `declared`.
    struct Five(u64, bool);

    impl HttpBody for Five {
        type Data = Bytes;
        type Error = std::convert::Infallible;

        fn poll_frame(
            mut self: Pin<&mut Self>,
            _: &mut Context<'_>,
        ) -> Poll<Option<Result<hyper::body::Frame<Bytes>, Self::Error>>> {
            let first = !std::mem::replace(&mut self.1, true);
            Poll::Ready(first.then(|| Ok(hyper::body::Frame::data(Bytes::from_static(b"12345")))))
        }

        fn size_hint(&self) -> hyper::body::SizeHint {
            hyper::body::SizeHint::with_exact(self.0)
        }
    }

    #[tokio::test]
    async fn gives_small_pieces_and_lets_the_reader_work_between() {
        let mut body = bytes_of(Body::from(vec![1; 1_000_000]));
        body.file_bytes().add(1_000_000);
        let mut pieces = 0;
        while let Some(piece) = body.try_next().await.unwrap() {
            assert!(piece.len() <= MAX_PIECE_LEN);
            pieces += 1;
            let mut cx = Context::from_waker(std::task::Waker::noop());
            if piece.len() == MAX_PIECE_LEN {
                assert!(body.poll_next_unpin(&mut cx).is_pending());
            }
        }
        assert_eq!((pieces, body.given), (16, 1_000_000));
    }

    #[tokio::test]
    async fn ends_only_where_it_said() {
        let whole: Vec<_> = bytes_of(Body::new(Five(5, false))).try_collect().await.unwrap();
        assert_eq!(whole.concat(), b"12345");
        for declared in [4, 6] {
            let short: Result<Vec<_>, _> = bytes_of(Body::new(Five(declared, false))).try_collect().await;
            assert!(matches!(short, Err(UploadError::IncompleteBody)), "{declared}");
        }
    }

    #[tokio::test]
    async fn bounds_what_is_not_the_file() {
        let mut body = bytes_of(Body::from(vec![1; 2 << 20]));
        let mut given = 0;
        let error = loop {
            match body.next().await {
                Some(Ok(piece)) => given += piece.len() as u64,
                other => break other,
            }
        };
        assert!(matches!(error, Some(Err(UploadError::FormTooLarge))), "{error:?}");
        assert!(given > MAX_FORM_OVERHEAD_BYTES && given <= MAX_FORM_OVERHEAD_BYTES + 2 * UNSORTED_LEN, "{given}");
    }

    #[tokio::test(start_paused = true)]
    async fn gives_up_when_nothing_comes() {
        let once = stream::once(async {
            tokio::time::sleep(MAX_IDLE / 2).await;
            Ok::<_, std::io::Error>(Bytes::from_static(b"1"))
        });
        let mut body = bytes_of(Body::from_stream(once.chain(stream::pending())));
        let start = Instant::now();
        assert_eq!(body.next().await.unwrap().unwrap(), "1");
        assert!(matches!(body.next().await, Some(Err(UploadError::IncompleteBody))));
        // A whole idle time after the byte. Timers have milliseconds.
        let rest = start.elapsed() - (MAX_IDLE + MAX_IDLE / 2);
        assert!(rest <= Duration::from_millis(2), "{rest:?}");
        assert!(body.next().await.is_none());
    }

    #[tokio::test]
    async fn can_be_interrupted() {
        let token = CancellationToken::new();
        let mut body =
            BodyBytes::new(Body::from_stream(stream::pending::<Result<Bytes, std::io::Error>>()), token.clone());
        let (next, ()) = tokio::join!(body.next(), async { token.cancel() });
        assert!(matches!(next, Some(Err(UploadError::Interrupted))));
    }
}
