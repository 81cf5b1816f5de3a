//! Keeps the view of what is revoked up to date, by asking its source every second.

use std::{
    fmt,
    future::Future,
    sync::{Arc, PoisonError, RwLock},
    time::Duration,
};

use tokio::{
    sync::watch,
    task::JoinHandle,
    time::{sleep, timeout},
};

use super::{Change, Revocations};
use crate::l402::Token;

/// How often the source is asked. What is revoked is to be in effect everywhere within 2 s.
const ASK_EVERY: Duration = Duration::from_secs(1);

/// How long the source may take for an answer.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(5);

/// How long a request waits for the first view, after a start.
const FIRST_VIEW_TIMEOUT: Duration = Duration::from_secs(3);

/// A database that keeps what is revoked. It numbers changes in the order in which they can be seen: once a change is seen,
/// no earlier one can come.
pub trait RevocationSource: Send + Sync + 'static {
    /// Why it cannot be asked.
    type Error: fmt::Display + Send;

    /// The number of the last change; 0 if there was none, or no database yet.
    fn last_change(&self) -> impl Future<Output = Result<u64, Self::Error>> + Send;

    /// The changes after one, in their order; perhaps not all of them, but some if there are any.
    fn changes_after(&self, number: u64) -> impl Future<Output = Result<Vec<Change>, Self::Error>> + Send;
}

/// It is not known yet what is revoked: the database could not be asked since the start.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("it is not known yet what is revoked: the ledger's database could not be asked since the start")]
pub struct NotKnown;

/// A view of what is revoked that follows its source. While the source is away the last view holds, and before the first
/// one no token is taken for good.
pub struct RevocationWatch {
    view: Arc<RwLock<Revocations>>,
    known: watch::Receiver<bool>,
    task: JoinHandle<()>,
}

impl RevocationWatch {
    /// Begins to follow `source`. Must be called in a tokio runtime; ends when it is dropped.
    pub fn start(source: impl RevocationSource) -> Self {
        let view = Arc::<RwLock<Revocations>>::default();
        let (sender, known) = watch::channel(false);
        let follower = Follower { source, view: Arc::clone(&view), known: sender };
        Self { view, known, task: tokio::spawn(follower.run()) }
    }

    /// Whether `token` is revoked. Waits, for a moment, only where nothing was ever read.
    pub async fn has(&self, token: &Token) -> Result<bool, NotKnown> {
        self.look(|view| view.has(token)).await
    }

    /// What `look` sees in the view.
    pub async fn look<T>(&self, look: impl FnOnce(&Revocations) -> T) -> Result<T, NotKnown> {
        let is_known = *self.known.borrow();
        if !is_known {
            let mut known = self.known.clone();
            let first = known.wait_for(|known| *known);
            timeout(FIRST_VIEW_TIMEOUT, first).await.map_err(|_| NotKnown)?.map_err(|_| NotKnown)?;
        }
        Ok(look(&self.view.read().unwrap_or_else(PoisonError::into_inner)))
    }
}

impl Drop for RevocationWatch {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl fmt::Debug for RevocationWatch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RevocationWatch").finish_non_exhaustive()
    }
}

struct Follower<S> {
    source: S,
    view: Arc<RwLock<Revocations>>,
    known: watch::Sender<bool>,
}

impl<S: RevocationSource> Follower<S> {
    async fn run(self) {
        let mut away = false;
        loop {
            let asked = timeout(ANSWER_TIMEOUT, self.catch_up()).await;
            let failure = match asked {
                Ok(Ok(())) => None,
                Ok(Err(error)) => Some(error.to_string()),
                Err(_) => Some(format!("no answer within {} s", ANSWER_TIMEOUT.as_secs())),
            };
            match &failure {
                None => drop(self.known.send_replace(true)),
                Some(error) if !away => {
                    let holds =
                        if *self.known.borrow() { "what was revoked before stays so" } else { "no token is taken yet" };
                    tracing::warn!(%error, "cannot ask the ledger what is revoked; {holds}");
                }
                Some(_) => {}
            }
            if away && failure.is_none() {
                tracing::info!("what is revoked is known again");
            }
            away = failure.is_some();
            sleep(ASK_EVERY).await;
        }
    }

    /// Reads what has changed since.
    async fn catch_up(&self) -> Result<(), S::Error> {
        let last = self.source.last_change().await?;
        let mut seen = self.view.read().unwrap_or_else(PoisonError::into_inner).last_change();
        if last >= seen {
            while seen < last {
                let changes = self.source.changes_after(seen).await?;
                // Some of them may be gone: an operator can delete rows.
                seen = changes.last().map_or(last, |change| change.number);
                self.change(|view| {
                    view.apply(&changes);
                    view.seen(seen);
                });
            }
            return Ok(());
        }
        // Its numbers began anew: it was restored from a backup. The view stays until the new one is whole.
        let mut view = Revocations::default();
        while view.last_change() < last {
            let changes = self.source.changes_after(view.last_change()).await?;
            view.apply(&changes);
            view.seen(changes.last().map_or(last, |change| change.number));
        }
        self.change(|old| *old = view);
        Ok(())
    }

    fn change(&self, change: impl FnOnce(&mut Revocations)) {
        change(&mut self.view.write().unwrap_or_else(PoisonError::into_inner));
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use super::*;
    use crate::{
        l402::PaymentHash,
        revocation::{Revoked, tests::change},
    };

    /// A database that can be away; it gives two changes at a time.
    #[derive(Default)]
    struct Source {
        changes: Mutex<Vec<Change>>,
        last: Mutex<u64>,
        away: Mutex<bool>,
    }

    impl Source {
        fn add(&self, change: Change) {
            self.changes.lock().unwrap().push(change);
            *self.last.lock().unwrap() = change.number;
        }
    }

    impl RevocationSource for Arc<Source> {
        type Error = &'static str;

        async fn last_change(&self) -> Result<u64, &'static str> {
            if *self.away.lock().unwrap() { Err("away") } else { Ok(*self.last.lock().unwrap()) }
        }

        async fn changes_after(&self, number: u64) -> Result<Vec<Change>, &'static str> {
            let changes = self.changes.lock().unwrap();
            Ok(changes.iter().filter(|change| change.number > number).take(2).copied().collect())
        }
    }

    /// Lets time pass, which is not the clock's here.
    async fn pass(time: Duration) {
        sleep(time).await;
    }

    fn hash(byte: u8) -> PaymentHash {
        PaymentHash::from_bytes([byte; 32])
    }

    async fn revoked(watch: &RevocationWatch) -> Result<Vec<u8>, NotKnown> {
        watch.look(|view| (0..9).filter(|&byte| view.has_payment(hash(byte))).collect()).await
    }

    #[tokio::test(start_paused = true)]
    async fn follows_its_source_and_keeps_the_last_view_while_that_is_away() {
        let source = Arc::new(Source::default());
        for number in 1..=5 {
            source.add(change(number, Revoked::Payment(hash(number as u8)), true));
        }
        let watch = RevocationWatch::start(Arc::clone(&source));
        assert_eq!(revoked(&watch).await, Ok(vec![1, 2, 3, 4, 5]), "all of it before the first answer");

        source.add(change(6, Revoked::Payment(hash(3)), false));
        pass(ASK_EVERY * 2).await;
        assert_eq!(revoked(&watch).await, Ok(vec![1, 2, 4, 5]));

        *source.away.lock().unwrap() = true;
        source.add(change(7, Revoked::Payment(hash(6)), true));
        pass(ASK_EVERY * 9).await;
        assert_eq!(revoked(&watch).await, Ok(vec![1, 2, 4, 5]), "the last view holds");
        *source.away.lock().unwrap() = false;
        pass(ASK_EVERY * 2).await;
        assert_eq!(revoked(&watch).await, Ok(vec![1, 2, 4, 5, 6]));

        // One whose last change is gone, and one that was restored from a backup.
        *source.last.lock().unwrap() = 8;
        pass(ASK_EVERY * 2).await;
        source.add(change(9, Revoked::Payment(hash(7)), true));
        pass(ASK_EVERY * 2).await;
        assert_eq!(revoked(&watch).await, Ok(vec![1, 2, 4, 5, 6, 7]));
        source.changes.lock().unwrap().truncate(3);
        *source.last.lock().unwrap() = 3;
        pass(ASK_EVERY * 2).await;
        assert_eq!(revoked(&watch).await, Ok(vec![1, 2, 3]));
    }

    #[tokio::test(start_paused = true)]
    async fn takes_nothing_for_good_before_it_knows() {
        let source = Arc::new(Source::default());
        *source.away.lock().unwrap() = true;
        let watch = RevocationWatch::start(Arc::clone(&source));
        assert_eq!(revoked(&watch).await, Err(NotKnown));
        *source.away.lock().unwrap() = false;
        assert_eq!(revoked(&watch).await, Ok(vec![]), "a request waits for the first view");
    }
}
