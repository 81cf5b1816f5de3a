//! Of which files no picture can be made: a file never changes, so nobody needs to find out twice.

use std::{
    collections::HashMap,
    sync::{Mutex, PoisonError},
};

use sluice_common::muid::Muid;

use super::PictureError;

/// How many are remembered. When there are more all are forgotten, which costs no more than to find out once again.
const MAX_REMEMBERED: usize = 4_096;

/// Why no picture can be made of a file, as long as the server runs.
#[derive(Debug, Default)]
pub(super) struct Failures(Mutex<HashMap<Muid, PictureError>>);

impl Failures {
    /// The failure that is remembered, if there is one.
    pub(super) fn check(&self, muid: Muid) -> Result<(), PictureError> {
        let failures = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        failures.get(&muid).map_or(Ok(()), |&error| Err(error))
    }

    pub(super) fn remember(&self, muid: Muid, error: PictureError) {
        let mut failures = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if failures.len() >= MAX_REMEMBERED {
            failures.clear();
        }
        failures.insert(muid, error);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn are_remembered_and_never_too_many() {
        let failures = Failures::default();
        let muid = |number: usize| Muid::of(&number.to_be_bytes());
        for number in 0..3 * MAX_REMEMBERED {
            assert_eq!(failures.check(muid(number)), Ok(()));
            failures.remember(muid(number), PictureError::Broken);
            assert_eq!(failures.check(muid(number)), Err(PictureError::Broken));
            assert!(failures.0.lock().unwrap().len() <= MAX_REMEMBERED);
        }
    }
}
