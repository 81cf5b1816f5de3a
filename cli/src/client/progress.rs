//! A progress bar with speed and time left, on standard error; hidden when that is no terminal.

use std::{
    future::Future,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

const TEMPLATE: &str = "{prefix} {bar:30} {binary_bytes} of {binary_total_bytes}, {binary_bytes_per_sec}, {eta} left";

/// How far a transfer is.
#[derive(Clone)]
pub(super) struct Progress {
    bar: ProgressBar,
    moved: Arc<AtomicU64>,
}

/// Nothing moved for long.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("nothing moved for {} seconds", .0.as_secs())]
pub struct Stalled(Duration);

impl Progress {
    /// A bar from `start` to `total` bytes, named `what`.
    pub(super) fn new(what: &'static str, start: u64, total: u64) -> Self {
        let bar = ProgressBar::with_draw_target(Some(total), ProgressDrawTarget::stderr());
        // Without a template that can be read the default bar will do.
        if let Ok(style) = ProgressStyle::with_template(TEMPLATE) {
            bar.set_style(style);
        }
        bar.set_prefix(what);
        bar.set_position(start);
        bar.reset_eta();
        Self { bar, moved: Arc::new(AtomicU64::new(0)) }
    }

    /// `n` more bytes went over.
    pub(super) fn advance(&self, n: usize) {
        self.moved.fetch_add(n as u64, Ordering::Relaxed);
        self.bar.inc(n as u64);
    }

    /// Takes the bar away.
    pub(super) fn clear(&self) {
        self.bar.finish_and_clear();
    }

    /// Waits for `transfer` as long as bytes move: gives up after `limit` without any.
    pub(super) async fn watch<T>(&self, limit: Duration, transfer: impl Future<Output = T>) -> Result<T, Stalled> {
        let mut transfer = std::pin::pin!(transfer);
        let mut seen = self.moved.load(Ordering::Relaxed);
        loop {
            tokio::select! {
                done = &mut transfer => return Ok(done),
                () = tokio::time::sleep(limit) => {
                    let moved = self.moved.load(Ordering::Relaxed);
                    if moved == seen {
                        return Err(Stalled(limit));
                    }
                    seen = moved;
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn gives_up_on_a_transfer_that_stands_still_and_not_on_a_slow_one() {
        let progress = Progress::new("test", 0, 10);
        let limit = Duration::from_secs(20);
        assert_eq!(progress.watch(limit, std::future::pending::<()>()).await, Err(Stalled(limit)));

        let slow = async {
            for _ in 0..9 {
                tokio::time::sleep(Duration::from_secs(15)).await;
                progress.advance(1);
            }
            7
        };
        assert_eq!(progress.watch(limit, slow).await, Ok(7));
    }
}
