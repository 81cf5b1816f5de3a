//! What payments bought: summed by payment, service and day, for statistics. What a payment is worth does not depend on it.

use std::{
    collections::HashMap,
    mem,
    ops::AddAssign,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use sluice_common::{l402::PaymentHash, network::Network};
use tokio::{sync::watch, time::timeout};

use super::{
    LedgerDb,
    book::{Wait, stopped},
};

/// How long sums wait for the database, so that many requests are one row.
const EVERY: Duration = Duration::from_secs(1);

/// How many sums wait at most, while the database is away. What has no room is not summed.
const MAX_SUMS: usize = 65_536;

/// How many are booked at once.
const BATCH: usize = 256;

/// What was bought.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Bought {
    /// Requests that were answered with success.
    pub uses: u64,
    /// The bytes of their bodies.
    pub bytes: u64,
    /// Requests that were refused: they cost nothing.
    pub refused: u64,
    /// Requests that failed, or were cut off: they cost nothing, either.
    pub given_back: u64,
}

/// Where it is summed.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Sale {
    /// The payment.
    pub payment_hash: PaymentHash,
    /// The service.
    pub service: String,
    /// The name of the network that it was paid on.
    pub network: &'static str,
    /// The day, in days since 1970-01-01 (UTC).
    pub day: u64,
}

/// What a service gave for all payments of a network on one day.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BoughtOn {
    /// The day, in days since 1970-01-01 (UTC).
    pub day: u64,
    /// The network.
    pub network: Network,
    /// The service.
    pub service: String,
    /// What it gave.
    pub bought: Bought,
}

impl AddAssign for Bought {
    fn add_assign(&mut self, more: Self) {
        for (sum, more) in [
            (&mut self.uses, more.uses),
            (&mut self.bytes, more.bytes),
            (&mut self.refused, more.refused),
            (&mut self.given_back, more.given_back),
        ] {
            *sum = sum.saturating_add(more);
        }
    }
}

/// What was bought and is not booked yet.
#[derive(Debug, Default)]
pub(super) struct Sums(Mutex<Waiting>);

#[derive(Debug, Default)]
struct Waiting {
    sums: HashMap<Sale, Bought>,
    lost: u64,
}

impl Sums {
    /// Adds one to them, if there is room.
    pub(super) fn add(&self, sale: Sale, bought: Bought) {
        let mut waiting = self.lock();
        if waiting.sums.len() >= MAX_SUMS && !waiting.sums.contains_key(&sale) {
            waiting.lost += 1;
            return;
        }
        *waiting.sums.entry(sale).or_default() += bought;
    }

    fn lock(&self) -> MutexGuard<'_, Waiting> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Books them, again and again, until it is to stop; then once more.
    pub(super) async fn book(self: Arc<Self>, ledger: Arc<dyn LedgerDb>, mut stopping: watch::Receiver<bool>) {
        let mut wait = Wait::default();
        let mut pause = EVERY;
        loop {
            let is_stopping = timeout(pause, stopped(&mut stopping)).await.is_ok();
            let Waiting { sums, lost } = mem::take(&mut *self.lock());
            if lost > 0 {
                tracing::warn!(requests = lost, "what they bought is not in the ledger: it was away for too long");
            }
            let mut sums: Vec<_> = sums.into_iter().collect();
            let mut failure = None;
            while !sums.is_empty() && failure.is_none() {
                let batch = sums.split_off(sums.len().saturating_sub(BATCH));
                failure = ledger.book_bought(&batch).await.err();
                if failure.is_some() {
                    sums.extend(batch);
                }
            }
            pause = EVERY;
            if let Some(error) = failure {
                pause = wait.next();
                tracing::warn!(%error, payments = sums.len(), retry_secs = pause.as_secs_f32(), "what was bought is not booked for now");
                sums.into_iter().for_each(|(sale, bought)| self.add(sale, bought));
            } else {
                wait = Wait::default();
            }
            if is_stopping {
                return;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_has_no_room_is_not_summed_but_what_is_known_goes_on() {
        let sums = Sums::default();
        let sale = |number: u64| Sale {
            payment_hash: PaymentHash::from_bytes([1; 32]),
            service: "media".to_owned(),
            network: "regtest",
            day: number,
        };
        let one = Bought { uses: 1, bytes: 2, refused: 3, given_back: 4 };
        for number in 0..=MAX_SUMS as u64 {
            sums.add(sale(number), one);
        }
        sums.add(sale(0), one);
        let waiting = sums.lock();
        assert_eq!((waiting.sums.len(), waiting.lost), (MAX_SUMS, 1));
        assert_eq!(waiting.sums[&sale(0)], Bought { uses: 2, bytes: 4, refused: 6, given_back: 8 });
    }
}
