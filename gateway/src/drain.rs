//! Reading on after an answer that came before the body's end.

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};

use http::header::EXPECT;
use pingora::proxy::Session;
use sluice_common::{
    limits::{MAX_DRAIN_IDLE, MAX_DRAIN_IDLE_AFTER_EXPECT, MAX_DRAIN_TIME, MAX_DRAINS, MAX_DRAINS_PER_CLIENT},
    slots::{Slot, Slots},
};
use tokio::{
    sync::{Semaphore, SemaphorePermit},
    time::{Instant, timeout},
};

use crate::{
    limits::ClientNetwork,
    metrics::{Limit, Metrics},
};

/// Bounds reading on: in bytes, in time, and in requests at once, in all and for each network of clients. Past a bound the
/// connection is closed.
pub struct Drains {
    max_bytes: AtomicU64,
    at_once: Semaphore,
    of_networks: Slots<ClientNetwork>,
    metrics: Arc<Metrics>,
}

impl Drains {
    /// Reads on for at most `max_bytes`: about the largest upload that is allowed. What is not read on is counted in
    /// `metrics`.
    pub fn new(max_bytes: u64, metrics: Arc<Metrics>) -> Self {
        Self {
            max_bytes: AtomicU64::new(max_bytes),
            at_once: Semaphore::new(MAX_DRAINS),
            of_networks: Slots::default(),
            metrics,
        }
    }

    /// Another bound from now on.
    pub fn configure(&self, max_bytes: u64) {
        self.max_bytes.store(max_bytes, Ordering::Relaxed);
    }

    /// Reads and discards the rest of the body of a request from `network`.
    pub async fn drain(&self, session: &mut Session, network: ClientNetwork) {
        let Some(_turn) = self.turn(network) else { return self.metrics.limit(Limit::Drains) };
        let idle = if session.req_header().headers.contains_key(EXPECT) {
            MAX_DRAIN_IDLE_AFTER_EXPECT
        } else {
            MAX_DRAIN_IDLE
        };
        let deadline = Instant::now() + MAX_DRAIN_TIME;
        let mut left = self.max_bytes.load(Ordering::Relaxed);
        while left > 0 && Instant::now() < deadline {
            match timeout(idle, session.as_downstream_mut().read_request_body()).await {
                Ok(Ok(Some(bytes))) => left = left.saturating_sub(bytes.len() as u64),
                Ok(Ok(None) | Err(_)) | Err(_) => return,
            }
        }
    }

    /// A place among those that are read on; none: there are enough.
    fn turn(&self, network: ClientNetwork) -> Option<(Slot<ClientNetwork>, SemaphorePermit<'_>)> {
        Some((self.of_networks.take(network, MAX_DRAINS_PER_CLIENT)?, self.at_once.try_acquire().ok()?))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn so_many_are_read_on_at_once_in_all_and_for_each_network() {
        let drains = Drains::new(1, Arc::default());
        let mut turns = Vec::new();
        let mut take = |network: u8| {
            let before = turns.len();
            turns.extend(std::iter::from_fn(|| drains.turn(ClientNetwork::of([10, 0, network, 1].into()))));
            turns.len() - before
        };
        assert_eq!([0, 1, 2, 3, 4].map(&mut take), [64, 64, 64, 64, 0]);
        assert_eq!(turns.len(), MAX_DRAINS);
        turns.pop();
        assert!(drains.turn(ClientNetwork::of([10, 0, 4, 1].into())).is_some(), "there is room again");
    }
}
