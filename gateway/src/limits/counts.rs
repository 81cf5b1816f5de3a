//! How much in a window of time, for each of many.

use std::{
    hash::Hash,
    num::NonZeroUsize,
    sync::{Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use super::bounded::Bounded;

/// How much each key has used in its window, which begins with the first use. Bounded memory: for a new key one goes
/// whose window is over, else the one that was used longest ago.
pub(crate) struct Counts<K: Hash + Eq>(Mutex<Bounded<K, Used>>);

/// How much may be used in how long.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Allowance {
    /// How much, in requests or bytes.
    pub most: u64,
    /// How long, from the first use on.
    pub window: Duration,
}

#[derive(Debug, Clone, Copy)]
struct Used {
    amount: u64,
    ends: Instant,
}

/// What was taken, so that it can be given back.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Taken {
    amount: u64,
    ends: Instant,
}

impl<K: Hash + Eq + Copy> Counts<K> {
    pub(crate) fn new(max_keys: NonZeroUsize) -> Self {
        Self(Mutex::new(Bounded::new(max_keys)))
    }

    /// Takes `amount` of what `key` is allowed, or says when it may have more. Who is refused takes nothing.
    pub(crate) fn take(&self, key: K, amount: u64, allowed: Allowance, now: Instant) -> Result<Taken, Duration> {
        let mut counts = self.counts();
        let used = counts.peek(&key).copied().filter(|used| used.ends > now);
        let Used { amount: before, ends } = used.unwrap_or(Used { amount: 0, ends: now + allowed.window });
        let after = before.saturating_add(amount);
        if after > allowed.most {
            return Err(ends.saturating_duration_since(now));
        }
        counts.set(key, Used { amount: after, ends }, |used| used.ends <= now);
        Ok(Taken { amount, ends })
    }

    /// Whether `key` may have any more, or when it may.
    pub(crate) fn check(&self, key: K, allowed: Allowance, now: Instant) -> Result<(), Duration> {
        let used = self.counts().peek(&key).copied().filter(|used| used.ends > now && used.amount >= allowed.most);
        used.map_or(Ok(()), |used| Err(used.ends.saturating_duration_since(now)))
    }

    /// Counts what was used already, however much that is.
    pub(crate) fn add(&self, key: K, amount: u64, window: Duration, now: Instant) {
        let unbounded = Allowance { most: u64::MAX, window };
        let _ = self.take(key, amount, unbounded, now);
    }

    /// Gives back `amount` of what was taken, if its window is not over.
    pub(crate) fn give_back(&self, key: K, taken: Taken, amount: u64) {
        if let Some(used) = self.counts().peek_mut(&key).filter(|used| used.ends == taken.ends) {
            used.amount = used.amount.saturating_sub(amount.min(taken.amount));
        }
    }

    fn counts(&self) -> MutexGuard<'_, Bounded<K, Used>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.counts().len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DAY: Duration = Duration::from_secs(86_400);
    const TEN_A_DAY: Allowance = Allowance { most: 10, window: DAY };

    fn counts() -> Counts<u32> {
        Counts::new(NonZeroUsize::new(2).unwrap())
    }

    #[test]
    fn a_window_begins_with_the_first_use_and_gives_no_more_than_allowed() {
        let (counts, start) = (counts(), Instant::now());
        assert!(counts.take(1, 4, TEN_A_DAY, start).is_ok());
        let hour = start + Duration::from_secs(3_600);
        assert_eq!(counts.take(1, 7, TEN_A_DAY, hour).unwrap_err(), DAY - Duration::from_secs(3_600));
        assert!(counts.take(1, 6, TEN_A_DAY, hour).is_ok(), "who was refused took nothing");
        assert!(counts.take(1, 1, TEN_A_DAY, start + DAY - Duration::from_secs(1)).is_err());
        assert!(counts.take(2, 10, TEN_A_DAY, hour).is_ok(), "another's");
        assert!(counts.take(1, 10, TEN_A_DAY, start + DAY).is_ok());
        assert!(counts.take(1, 1, TEN_A_DAY, start + DAY).is_err());
        assert!(counts.take(3, 11, TEN_A_DAY, start).is_err());
        assert!(counts.take(3, u64::MAX, TEN_A_DAY, start).is_err());
    }

    #[test]
    fn what_was_used_already_counts_however_much_it_is() {
        let (counts, start) = (counts(), Instant::now());
        for (amount, refused) in [(9, None), (1, Some(DAY)), (u64::MAX, Some(DAY))] {
            counts.add(1, amount, DAY, start);
            assert_eq!(counts.check(1, TEN_A_DAY, start).err(), refused, "{amount}");
        }
        assert_eq!(counts.check(2, TEN_A_DAY, start), Ok(()));
        assert_eq!(counts.check(1, TEN_A_DAY, start + DAY), Ok(()));
    }

    #[test]
    fn what_is_given_back_can_be_taken_again_but_not_in_another_window() {
        let (counts, start) = (counts(), Instant::now());
        let taken = counts.take(1, 10, TEN_A_DAY, start).unwrap();
        counts.give_back(1, taken, 4);
        assert!(counts.take(1, 5, TEN_A_DAY, start).is_err());
        assert!(counts.take(1, 4, TEN_A_DAY, start).is_ok());
        let later = start + DAY;
        counts.take(1, 10, TEN_A_DAY, later).unwrap();
        counts.give_back(1, taken, 6);
        assert!(counts.take(1, 1, TEN_A_DAY, later).is_err(), "that was of yesterday");
        counts.give_back(7, taken, 1);
    }

    #[test]
    fn remembers_only_so_many_and_forgets_first_whose_window_is_over() {
        let (counts, start) = (counts(), Instant::now());
        let short = Allowance { window: Duration::from_secs(60), ..TEN_A_DAY };
        counts.take(1, 10, TEN_A_DAY, start).unwrap();
        counts.take(2, 10, short, start).unwrap();
        counts.add(3, 20, DAY, start + Duration::from_secs(61));
        assert_eq!(counts.len(), 2);
        assert!(counts.take(1, 1, TEN_A_DAY, start).is_err(), "the window of 2 was over");
        assert!(counts.take(3, 1, TEN_A_DAY, start).is_err());
        for key in 10..1_000 {
            counts.take(key, 1, TEN_A_DAY, start).unwrap();
        }
        assert_eq!(counts.len(), 2);
    }
}
