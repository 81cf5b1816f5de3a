//! How large the parts of a multipart upload are, and how many are under way at once.

use std::sync::Arc;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::store::StoreError;

const MIB: u64 = 1 << 20;

/// The length of a part, until a file is so long that 10,000 of them would not hold it.
pub(super) const PART_LEN: u64 = 8 * MIB;

/// From then on a part is this fraction of all that went before it. With it, 10,000 parts, which is all that S3 takes,
/// hold 5 TiB, which is too; and a part stays under 5 GiB, again the most.
const PARTS_BEFORE_GROWTH: u64 = 1_350;

/// What one upload has under way at once, in bytes; a single part may be more.
pub(super) const IN_FLIGHT_BYTES: u64 = 3 * PART_LEN;

/// What all uploads into one store have under way at once, in MiB; a single part may be more.
const ALL_IN_FLIGHT_MIB: u32 = 128;

/// The length of the part that begins after `sent` bytes of its file.
pub(super) fn part_len(sent: u64) -> u64 {
    (sent / PARTS_BEFORE_GROWTH).next_multiple_of(MIB).max(PART_LEN)
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

    /// The largest part, and the number of parts, of a file of `len` bytes.
    fn parts(len: u64) -> (u64, u64) {
        let (mut sent, mut largest, mut count) = (0, 0, 0);
        while sent < len {
            let part = part_len(sent).min(len - sent);
            (sent, largest, count) = (sent + part, largest.max(part), count + 1);
        }
        (largest, count)
    }

    #[test]
    fn what_s3_takes_at_most_fits_and_small_parts_do_for_what_is_usual() {
        let gib = 1 << 30;
        assert_eq!(parts(4 * gib), (PART_LEN, 512));
        assert_eq!(parts(10 * gib), (PART_LEN, 1_280));
        let (largest, count) = parts(100 * gib);
        assert!(largest <= 80 * MIB && count < 10_000, "{largest} {count}");
        let (largest, count) = parts(5 << 40);
        assert!(largest < 5 * gib && count <= 10_000, "{largest} {count}");
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
