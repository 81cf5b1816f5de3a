//! Token buckets.

use std::{
    num::NonZeroU32,
    time::{Duration, Instant},
};

/// What rates are given by.
const MINUTE: Duration = Duration::from_secs(60);

/// A rate, and how many at once while nobody has asked for a time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct RateLimit {
    /// How many a minute.
    pub per_minute: NonZeroU32,
    /// How many at once.
    pub burst: NonZeroU32,
}

/// A token bucket as the generic cell rate algorithm keeps it: as when it is full again. `None`: it is full.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Bucket(Option<Instant>);

/// A token bucket's size and how fast it fills, both as times.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Rate {
    /// How long it takes to fill by one.
    interval: Duration,
    /// How long it takes to fill from empty.
    whole: Duration,
}

impl Bucket {
    pub(crate) const FULL: Self = Self(None);

    /// Whether it is as full as one that was never used.
    pub(crate) fn is_full(self, now: Instant) -> bool {
        self.0.is_none_or(|full_at| full_at <= now)
    }
}

impl Rate {
    pub(crate) fn new(limit: RateLimit) -> Self {
        let interval = MINUTE / limit.per_minute.get();
        Self { interval, whole: interval * limit.burst.get() }
    }

    /// The bucket after one is taken from it at `now`, or how long until one can be.
    pub(crate) fn take(self, bucket: Bucket, now: Instant) -> Result<Bucket, Duration> {
        let full_at = bucket.0.map_or(now, |full_at| full_at.max(now)) + self.interval;
        let wait = full_at.saturating_duration_since(now).saturating_sub(self.whole);
        if wait.is_zero() { Ok(Bucket(Some(full_at))) } else { Err(wait) }
    }

    /// The bucket after one is put back into it. It is never fuller than full.
    pub(crate) fn give_back(self, bucket: Bucket) -> Bucket {
        Bucket(bucket.0.and_then(|full_at| full_at.checked_sub(self.interval)))
    }
}
