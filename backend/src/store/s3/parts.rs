//! How large the parts of a multipart upload are, and how many are under way at once.

use std::sync::Arc;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::store::StoreError;

const MIB: u64 = 1 << 20;

/// The length of a part, unless 10,000 of them (78 GiB) might not hold the file.
pub(super) const PART_LEN: u64 = 8 * MIB;

/// All that S3 takes, of one upload and in one object. So no part is longer than 525 MiB.
const MAX_PARTS: u64 = 10_000;
const MAX_OBJECT_LEN: u64 = 5 << 40;

/// What one upload has under way at once, in bytes; a single part may be more. Beside it, it holds the part that it
/// fills: 32 MiB in all, and where parts are longer than 24 MiB (files that may have 234 GiB) two of those.
pub(super) const IN_FLIGHT_BYTES: u64 = 3 * PART_LEN;

/// What all uploads into one store have under way at once, in MiB; a single part may be more.
const ALL_IN_FLIGHT_MIB: u32 = 128;

/// The length of every part, but the last, of a copy of at most `longest` bytes.
pub(super) fn part_len(longest: u64) -> u64 {
    longest.min(MAX_OBJECT_LEN).div_ceil(MAX_PARTS).next_multiple_of(MIB).max(PART_LEN)
}

/// The room that all uploads of a store share for what is under way to the server. Who waits for it holds no more than
/// the part that it wants to send; who has it needs nobody else to come to an end.
#[derive(Debug, Clone)]
pub(super) struct Room(Arc<Semaphore>);

impl Room {
    pub(super) fn new() -> Self {
        Self(Arc::new(Semaphore::new(ALL_IN_FLIGHT_MIB as usize)))
    }

    /// Waits for room for `bytes`; it is given back with the permit.
    pub(super) async fn take(&self, bytes: u64) -> Result<OwnedSemaphorePermit, StoreError> {
        let mib = bytes.div_ceil(MIB).min(ALL_IN_FLIGHT_MIB.into());
        let permit = Arc::clone(&self.0).acquire_many_owned(mib as u32).await;
        permit.map_err(|_| std::io::Error::from(std::io::ErrorKind::BrokenPipe).into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_s3_takes_at_most_fits_and_small_parts_do_for_what_is_usual() {
        const GIB: u64 = 1 << 30;
        for len in [0, 1, 10 * GIB, 11 * GIB, PART_LEN * MAX_PARTS] {
            assert_eq!(part_len(len), PART_LEN, "{len}");
        }
        for (len, part) in [(PART_LEN * MAX_PARTS + 1, 9), (100 * GIB, 11), (234 * GIB, 24), (1 << 40, 105)] {
            assert_eq!(part_len(len), part * MIB, "{len}");
            assert!(len.div_ceil(part_len(len)) <= MAX_PARTS, "{len}");
        }
        for len in [MAX_OBJECT_LEN, u64::MAX] {
            assert_eq!(part_len(len), 525 * MIB);
        }
    }

    #[tokio::test]
    async fn room_is_shared_and_a_part_larger_than_all_of_it_waits_for_the_others_alone() {
        let room = Room::new();
        let first = room.take(100 * MIB).await.unwrap();
        let huge = room.take(1 << 40);
        tokio::pin!(huge);
        assert!(futures_util::poll!(huge.as_mut()).is_pending());
        drop(first);
        assert_eq!(huge.await.unwrap().num_permits(), ALL_IN_FLIGHT_MIB as usize);
    }
}
