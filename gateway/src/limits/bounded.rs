//! A map that never has more than so many entries.

use std::{
    hash::Hash,
    num::NonZeroUsize,
    ops::{Deref, DerefMut},
};

use lru::LruCache;

/// How many of the entries that were used longest ago are looked at for one that can go.
const LOOK_AT: usize = 8;

/// A map of at most so many entries. For a new one goes one that says no more than none does, else the one that was
/// used longest ago.
pub(super) struct Bounded<K: Hash + Eq, V>(LruCache<K, V>);

impl<K: Hash + Eq + Copy, V> Bounded<K, V> {
    pub(super) fn new(max: NonZeroUsize) -> Self {
        Self(LruCache::new(max))
    }

    /// Sets an entry. `says_nothing` tells which others can go first.
    pub(super) fn set(&mut self, key: K, value: V, says_nothing: impl Fn(&V) -> bool) {
        if self.0.len() == self.0.cap().get() && !self.0.contains(&key) {
            let goes = self.0.iter().rev().take(LOOK_AT).find(|(_, value)| says_nothing(value)).map(|(key, _)| *key);
            if let Some(goes) = goes {
                self.0.pop(&goes);
            }
        }
        self.0.put(key, value);
    }
}

impl<K: Hash + Eq, V> Deref for Bounded<K, V> {
    type Target = LruCache<K, V>;

    fn deref(&self) -> &Self::Target {
        &self.0
    }
}

impl<K: Hash + Eq, V> DerefMut for Bounded<K, V> {
    fn deref_mut(&mut self) -> &mut Self::Target {
        &mut self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_says_nothing_goes_before_what_is_old() {
        let mut map = Bounded::new(NonZeroUsize::new(3).unwrap());
        let set = |map: &mut Bounded<u32, bool>, key, counts| map.set(key, counts, |counts| !counts);
        for (key, counts) in [(1, true), (2, false), (3, true), (1, true), (4, true), (5, true)] {
            set(&mut map, key, counts);
        }
        let mut keys: Vec<_> = map.iter().map(|(key, _)| *key).collect();
        keys.sort_unstable();
        assert_eq!(keys, [1, 4, 5], "2 said nothing, then 3 was the oldest");
    }
}
