//! Keeps the ledger while the gateway runs, off the way of every request: from the node's settlements, and from what the
//! gateway forwards. While the database or the node is away it tries again.

use std::{
    convert::Infallible,
    num::NonZeroUsize,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use arc_swap::ArcSwap;
use futures_util::StreamExt;
use lru::LruCache;
use sluice_common::{
    keys::MasterKeys,
    l402::{PaymentHash, Permit},
    network::Network,
};
use tokio::{
    sync::{mpsc, watch},
    task::JoinHandle,
    time::{Instant, sleep, timeout},
};

use super::{Bought, LedgerDb, LedgerError, Sale, SettledToken, TokenUse, bought::Sums};
use crate::{
    lightning::{LightningError, LightningNode, NodeInfo, Settlement},
    metrics::Metrics,
};

/// How many entries wait for the database at most. What comes then is not noted; the next use of its token is.
const MAX_WAITING: usize = 4_096;

/// How many entries are booked, and settlements are read, at once.
const BATCH: usize = 256;

/// How many tokens are known to be booked. A token that is forgotten is booked again, which changes nothing.
const MAX_SEEN: NonZeroUsize = match NonZeroUsize::new(65_536) {
    Some(max) => max,
    None => NonZeroUsize::MIN,
};

const DAY_SECS: u64 = 86_400;

/// How long a stop waits for the entries that are still to be booked.
const STOP_TIMEOUT: Duration = Duration::from_secs(5);

/// The wait after the first failure; each further one doubles it.
const FIRST_WAIT: Duration = Duration::from_millis(500);
const LONGEST_WAIT: Duration = Duration::from_secs(60);

/// Where requests note what is to be booked. Takes no time and never fails.
pub struct Books {
    /// The network that is sold on.
    pub(super) network: Network,
    entries: mpsc::Sender<Entry>,
    seen: Mutex<LruCache<PaymentHash, ()>>,
    sold: Arc<ArcSwap<Sold>>,
    bought: Arc<Sums>,
}

/// What the gateway sells, as far as a settlement shows it.
pub struct Sold {
    /// Under which its tokens are minted.
    pub keys: MasterKeys,
    /// The names of its services.
    pub services: Vec<String>,
    /// The network that it is paid on. A node that is found on another has nothing to say.
    pub network: Network,
}

/// The tasks that book.
pub struct BookKeeper {
    follower: JoinHandle<()>,
    /// Both of what requests note.
    writers: JoinHandle<()>,
    stop: watch::Sender<bool>,
}

enum Entry {
    Use(TokenUse),
    Settled(SettledToken),
}

/// Why the node's settlements are not booked for now.
#[derive(Debug, thiserror::Error)]
enum FollowError {
    #[error(transparent)]
    Node(#[from] LightningError),
    #[error(transparent)]
    Ledger(#[from] LedgerError),
}

impl Books {
    /// Notes that a token was used for `service` at `now` (unix seconds), unless that is known.
    pub fn used(&self, permit: &Permit, service: &str, now: u64) {
        let payment_hash = permit.token().payment_hash();
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        if seen.get(&payment_hash).is_some() {
            return;
        }
        let token_use = TokenUse {
            payment_hash,
            service: service.to_owned(),
            network: self.network,
            token_id: permit.token().token_id(),
            used_at: now,
        };
        if self.entries.try_send(Entry::Use(token_use)).is_ok() {
            seen.put(payment_hash, ());
        }
    }

    /// Adds to what a payment bought of `service` at `now` (unix seconds).
    pub fn bought(&self, payment_hash: PaymentHash, service: &str, bought: Bought, now: u64) {
        let (service, network) = (service.to_owned(), self.network.name());
        self.bought.add(Sale { payment_hash, service, network, day: now / DAY_SECS }, bought);
    }

    /// From now on this is sold, on the same network.
    pub(crate) fn sells(&self, sold: Sold) {
        self.sold.store(Arc::new(sold));
    }

    /// Notes what the node said of a payment. What finds no room comes with the node's settlements.
    pub(super) fn settled(&self, token: SettledToken) {
        let _ = self.entries.try_send(Entry::Settled(token));
    }
}

impl BookKeeper {
    /// Starts to book into `ledger`: what is paid to `node` for what is `sold`, and what is noted in the [`Books`].
    /// `on_settled` is told of every settlement of the node, whatever it is for; those for tokens are counted in
    /// `metrics` once they are booked.
    pub fn start(
        ledger: Arc<dyn LedgerDb>,
        node: Arc<dyn LightningNode>,
        sold: Sold,
        metrics: Arc<Metrics>,
        on_settled: impl Fn(PaymentHash) + Send + Sync + 'static,
    ) -> (Self, Arc<Books>) {
        let (sender, receiver) = mpsc::channel(MAX_WAITING);
        let (stop, stopping) = watch::channel(false);
        let network = sold.network;
        let sold = Arc::new(ArcSwap::from_pointee(sold));
        let follower = Follower {
            ledger: Arc::clone(&ledger),
            node: Arc::clone(&node),
            sold: Arc::clone(&sold),
            metrics,
            on_settled,
        };
        let bought = Arc::new(Sums::default());
        let sums = Arc::clone(&bought).book(Arc::clone(&ledger), stopping.clone());
        let writer = Writer { ledger, node, network, entries: receiver, stopping };
        let writers = tokio::spawn(async { _ = tokio::join!(writer.run(), sums) });
        let seen = Mutex::new(LruCache::new(MAX_SEEN));
        let keeper = Self { follower: tokio::spawn(follower.run()), writers, stop };
        (keeper, Arc::new(Books { network, entries: sender, seen, sold, bought }))
    }

    /// Books what is noted so far, if the database takes it in time, and ends.
    pub async fn stop(mut self) {
        // Whatever it has not booked comes again: its index is not booked either.
        self.follower.abort();
        self.stop.send_replace(true);
        if timeout(STOP_TIMEOUT, &mut self.writers).await.is_err() {
            self.writers.abort();
            tracing::warn!("stopping with uses of tokens that are not in the ledger");
        }
    }
}

/// Books the settlements of a node.
struct Follower<F> {
    ledger: Arc<dyn LedgerDb>,
    node: Arc<dyn LightningNode>,
    sold: Arc<ArcSwap<Sold>>,
    metrics: Arc<Metrics>,
    on_settled: F,
}

impl<F: Fn(PaymentHash)> Follower<F> {
    async fn run(self) {
        let mut wait = Wait::default();
        loop {
            let began = Instant::now();
            let Err(error) = self.follow(&mut wait).await;
            let wait = wait.after(began.elapsed());
            tracing::warn!(%error, retry_secs = wait.as_secs_f32(), "the node's settlements are not booked for now");
            sleep(wait).await;
        }
    }

    async fn follow(&self, wait: &mut Wait) -> Result<Infallible, FollowError> {
        let pubkey = info_on(&*self.node, self.sold.load().network).await?.pubkey;
        let mut after = self.ledger.last_index(&pubkey).await?;
        if after > 0 && !self.node.reaches(after).await? {
            // Whatever is in the ledger already is booked a second time, which changes nothing.
            tracing::error!(node = %pubkey, last_index = after, "the node's settlements began anew: booking all of them");
            self.ledger.forget_index(&pubkey).await?;
            after = 0;
        }
        // What is there comes at once, so that many settlements of the past take few transactions.
        let mut settlements = self.node.settlements(after).await?.ready_chunks(BATCH);
        while let Some(chunk) = settlements.next().await {
            let mut failure = None;
            let read: Vec<Settlement> =
                chunk.into_iter().map_while(|read| read.map_err(|error| failure = Some(error)).ok()).collect();
            self.book(&pubkey, &read).await?;
            if let Some(error) = failure {
                return Err(error.into());
            }
            *wait = Wait::default();
        }
        Err(LightningError::Closed.into())
    }

    async fn book(&self, node: &str, settlements: &[Settlement]) -> Result<(), LedgerError> {
        let Some(last) = settlements.last() else { return Ok(()) };
        settlements.iter().for_each(|settlement| (self.on_settled)(settlement.payment_hash));
        let sold = self.sold.load_full();
        let paid: Vec<_> = settlements.iter().filter_map(|settlement| SettledToken::of(settlement, &sold)).collect();
        self.ledger.book_settlements(node, &paid, Some(last.index)).await?;
        paid.iter().for_each(|paid| self.metrics.payment(&paid.service, paid.amount_msat));
        Ok(())
    }
}

/// Books what requests noted.
struct Writer {
    ledger: Arc<dyn LedgerDb>,
    node: Arc<dyn LightningNode>,
    network: Network,
    entries: mpsc::Receiver<Entry>,
    stopping: watch::Receiver<bool>,
}

impl Writer {
    async fn run(mut self) {
        loop {
            let mut entries = Vec::new();
            tokio::select! {
                biased;
                () = stopped(&mut self.stopping), if !self.entries.is_closed() => self.entries.close(),
                count = self.entries.recv_many(&mut entries, BATCH) => match count {
                    0 => return,
                    _ => self.book_or_try_again(entries).await,
                },
            }
        }
    }

    async fn book_or_try_again(&mut self, entries: Vec<Entry>) {
        let (mut uses, mut paid) = (Vec::new(), Vec::new());
        for entry in entries {
            match entry {
                Entry::Use(token_use) => uses.push(token_use),
                Entry::Settled(token) => paid.push(token),
            }
        }
        let mut wait = Wait::default();
        while let Err(error) = self.book(&uses, &paid).await {
            let wait = wait.next();
            tracing::warn!(%error, retry_secs = wait.as_secs_f32(), "uses of tokens are not booked for now");
            let is_stopping = timeout(wait, stopped(&mut self.stopping)).await.is_ok();
            if is_stopping && self.book(&uses, &paid).await.is_err() {
                tracing::warn!(payments = uses.len() + paid.len(), "not booked before the stop");
                return;
            }
        }
    }

    async fn book(&self, uses: &[TokenUse], paid: &[SettledToken]) -> Result<(), LedgerError> {
        // Who the node is, it must say; while it does not, its settlements come another way.
        if !paid.is_empty()
            && let Ok(node) = info_on(&*self.node, self.network).await
        {
            self.ledger.book_settlements(&node.pubkey, paid, None).await?;
        }
        if !uses.is_empty() {
            self.ledger.book_uses(uses).await?;
        }
        Ok(())
    }
}

/// Who the node is, if it is on `network`.
async fn info_on(node: &dyn LightningNode, network: Network) -> Result<NodeInfo, LightningError> {
    let info = node.info().await?;
    if info.network == network {
        return Ok(info);
    }
    Err(LightningError::OtherNetwork { configured: network, found: info.network })
}

pub(super) async fn stopped(stopping: &mut watch::Receiver<bool>) {
    // A sender that is gone means stop, too.
    let _ = stopping.wait_for(|stop| *stop).await;
}

/// How long to wait before the next attempt.
pub(super) struct Wait(Duration);

impl Default for Wait {
    fn default() -> Self {
        Self(FIRST_WAIT)
    }
}

impl Wait {
    /// The wait after a failure of what had gone on for so long: what went well for long, though nobody paid, is no
    /// further failure in a row.
    fn after(&mut self, lived: Duration) -> Duration {
        if lived > LONGEST_WAIT {
            *self = Self::default();
        }
        self.next()
    }

    pub(super) fn next(&mut self) -> Duration {
        let wait = self.0;
        self.0 = (wait * 2).min(LONGEST_WAIT);
        wait
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_longer_after_each_failure_but_not_after_one_that_was_long_in_coming() {
        let mut wait = Wait::default();
        let waits: Vec<_> = (0..9).map(|_| wait.after(Duration::from_secs(1)).as_millis()).collect();
        assert_eq!(waits, [500, 1_000, 2_000, 4_000, 8_000, 16_000, 32_000, 60_000, 60_000]);
        assert_eq!(wait.after(LONGEST_WAIT), LONGEST_WAIT, "it failed as soon as it was tried");
        assert_eq!(wait.after(LONGEST_WAIT + Duration::from_secs(1)), FIRST_WAIT);
        assert_eq!(wait.after(Duration::ZERO), FIRST_WAIT * 2);
    }
}
