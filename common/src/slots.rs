//! How many at once, for each of many.

use std::{
    collections::HashMap,
    fmt,
    hash::Hash,
    sync::{Arc, Mutex, PoisonError},
};

/// Counts what is under way for each key. As large as what is under way, whoever asks.
pub struct Slots<K>(Arc<Mutex<HashMap<K, u32>>>);

/// One of what is under way, until it is dropped.
pub struct Slot<K: Hash + Eq> {
    slots: Arc<Mutex<HashMap<K, u32>>>,
    key: K,
}

impl<K> fmt::Debug for Slots<K> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Slots")
    }
}

impl<K> Default for Slots<K> {
    fn default() -> Self {
        Self(Arc::default())
    }
}

impl<K: Hash + Eq + Copy> Slots<K> {
    /// One more for `key`, unless it has `max` already.
    pub fn take(&self, key: K, max: u32) -> Option<Slot<K>> {
        let mut slots = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let taken = slots.get(&key).copied().unwrap_or_default();
        if taken >= max {
            return None;
        }
        slots.insert(key, taken + 1);
        Some(Slot { slots: Arc::clone(&self.0), key })
    }

    #[cfg(test)]
    fn len(&self) -> usize {
        self.0.lock().unwrap().len()
    }
}

impl<K: Hash + Eq> Drop for Slot<K> {
    fn drop(&mut self) {
        let mut slots = self.slots.lock().unwrap_or_else(PoisonError::into_inner);
        match slots.get_mut(&self.key) {
            Some(taken) if *taken > 1 => *taken -= 1,
            _ => drop(slots.remove(&self.key)),
        }
    }
}

impl<K: Hash + Eq> fmt::Debug for Slot<K> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Slot")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_what_is_under_way_and_forgets_what_is_not() {
        let slots = Slots::default();
        let first = slots.take("a", 2).unwrap();
        let second = slots.take("a", 2).unwrap();
        assert!(slots.take("a", 2).is_none());
        let other = slots.take("b", 1).unwrap();
        drop(first);
        let third = slots.take("a", 2).unwrap();
        assert!(slots.take("a", 2).is_none());
        assert_eq!(slots.len(), 2);
        drop((second, third, other));
        assert_eq!(slots.len(), 0);
        assert!(slots.take("a", 0).is_none());
    }
}
