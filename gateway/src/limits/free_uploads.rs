//! Uploads that cost nothing: how many bytes a day.

use std::{
    fmt,
    sync::Arc,
    time::{Duration, Instant},
};

use super::{Allowance, ClientNetwork, Limited, Limits, counts::Taken};

/// For how many bytes more is asked at a time, where the length of a body is not declared.
const STEP_BYTES: u64 = 1 << 20;

/// From the first byte of a network on.
const WINDOW: Duration = Duration::from_secs(24 * 60 * 60);

/// An upload that costs nothing and is under way. Its length counts from the begin; what of it did not come is given back
/// at its end.
pub(crate) struct FreeUpload {
    limits: Arc<Limits>,
    network: ClientNetwork,
    allowed: Allowance,
    /// How many bytes are counted already.
    counted: u64,
    came: u64,
    last: Option<Taken>,
}

impl FreeUpload {
    /// One more upload from `network`, of which the length is perhaps `declared`, if it keeps within `bytes_per_day`.
    pub(crate) fn begin(
        limits: &Arc<Limits>,
        network: ClientNetwork,
        declared: Option<u64>,
        bytes_per_day: u64,
        now: Instant,
    ) -> Result<Self, Limited> {
        let allowed = Allowance { most: bytes_per_day, window: WINDOW };
        let limits = Arc::clone(limits);
        limits.free_bytes.check(network, allowed, now).map_err(|wait| Limited::FreeUploads { wait })?;
        let mut upload = Self { limits, network, allowed, counted: 0, came: 0, last: None };
        upload.count(declared.unwrap_or_default(), now)?;
        Ok(upload)
    }

    /// Bytes of its body came.
    pub(crate) fn came(&mut self, bytes: u64, now: Instant) -> Result<(), Limited> {
        self.came += bytes;
        match self.came.saturating_sub(self.counted) {
            0 => Ok(()),
            more => self.count(more.max(STEP_BYTES), now).or_else(|_| self.count(more, now)),
        }
    }

    fn count(&mut self, bytes: u64, now: Instant) -> Result<(), Limited> {
        let taken = self.limits.free_bytes.take(self.network, bytes, self.allowed, now);
        self.last = Some(taken.map_err(|wait| Limited::FreeUploads { wait })?);
        self.counted += bytes;
        Ok(())
    }
}

impl Drop for FreeUpload {
    fn drop(&mut self) {
        if let Some(last) = self.last {
            self.limits.free_bytes.give_back(self.network, last, self.counted.saturating_sub(self.came));
        }
    }
}

impl fmt::Debug for FreeUpload {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "FreeUpload({} bytes)", self.came)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: u64 = 1 << 20;

    #[test]
    fn a_network_has_so_many_bytes_a_day_and_what_did_not_come_is_given_back() {
        let (limits, now) = (Arc::new(Limits::new()), Instant::now());
        let begin = |address: [u8; 4], declared: Option<u64>, now| {
            FreeUpload::begin(&limits, ClientNetwork::of(address.into()), declared, 10 * MIB, now)
        };
        let (here, there) = ([10, 0, 0, 1], [10, 0, 1, 1]);
        let mut first = begin(here, Some(8 * MIB), now).unwrap();
        assert_eq!(begin(here, Some(3 * MIB), now).err(), Some(Limited::FreeUploads { wait: WINDOW }));
        drop(begin(there, Some(10 * MIB), now).unwrap());
        assert!(begin(there, Some(10 * MIB + 1), now).is_err());
        for _ in 0..5 {
            first.came(MIB, now).unwrap();
        }
        drop(first);

        // 5 of 10 are left. One without a length takes them as it comes, to the last byte.
        let mut second = begin(here, None, now).unwrap();
        for _ in 0..5 * 1_024 - 1 {
            second.came(1_024, now).unwrap();
        }
        assert!(begin(here, Some(1_025), now).is_err(), "it counts while it comes");
        second.came(1_024, now).unwrap();
        assert_eq!(second.came(1, now), Err(Limited::FreeUploads { wait: WINDOW }));
        drop(second);
        assert!(begin(here, None, now).is_err());
        assert!(begin(here, Some(10 * MIB), now + WINDOW).is_ok());
    }
}
