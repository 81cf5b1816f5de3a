//! How much an owner may have.

/// The most that one owner may have. Default: no bounds.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Quota {
    /// The most bytes of all files together.
    pub max_bytes: Option<u64>,
    /// The most files.
    pub max_files: Option<u64>,
}

/// What an owner has.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Usage {
    /// How many files.
    pub files: u64,
    /// The bytes of all of them.
    pub bytes: u64,
}

/// One more file would be more than its owner may have.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("with this file its owner would have more than allowed: {} files, {} bytes are there now", .used.files, .used.bytes)]
pub struct OverQuota {
    /// The most.
    pub quota: Quota,
    /// What is there without it.
    pub used: Usage,
    /// The file's length in bytes; at the begin of an upload, the least that it can be.
    pub size: u64,
}

impl Quota {
    /// Whether there is any bound.
    pub fn is_limited(&self) -> bool {
        *self != Self::default()
    }

    /// Whether an owner of `used` may have another file of `size` bytes.
    pub fn check(self, used: Usage, size: u64) -> Result<(), OverQuota> {
        let exceeds = |max: Option<u64>, needed: u64| max.is_some_and(|max| needed > max);
        if exceeds(self.max_files, used.files.saturating_add(1))
            || exceeds(self.max_bytes, used.bytes.saturating_add(size))
        {
            return Err(OverQuota { quota: self, used, size });
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_fits_exactly_fits() {
        let used = Usage { files: 2, bytes: 100 };
        let bytes = |max| Quota { max_bytes: Some(max), max_files: None };
        let files = |max| Quota { max_files: Some(max), max_bytes: None };
        assert!(Quota::default().check(Usage { files: u64::MAX, bytes: u64::MAX }, u64::MAX).is_ok());
        assert!(bytes(150).check(used, 50).is_ok() && files(3).check(used, 50).is_ok());
        for quota in [bytes(149), bytes(0), files(2), files(0), Quota { max_files: Some(2), ..bytes(1_000) }] {
            assert_eq!(quota.check(used, 50), Err(OverQuota { quota, used, size: 50 }));
        }
        assert!(!Quota::default().is_limited() && files(1).is_limited());
    }
}
