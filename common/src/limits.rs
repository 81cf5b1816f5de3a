//! How large an upload may be, and how much of one is read that was refused.

use std::time::Duration;

/// Bytes in what every limit and every token calls 1 MB.
pub const BYTES_PER_MB: u64 = 1_048_576;

/// The largest file, in MB, where nothing else is said: on free routes, and for a token without `large_upload_max_mb`.
pub const DEFAULT_MAX_UPLOAD_MB: u64 = 32;

/// Everything of an upload's form that is not the file's bytes: fields, part headers, boundaries, what follows the last
/// boundary. So a request body of more than the file's limit and this is too large whatever it holds.
pub const MAX_FORM_OVERHEAD_BYTES: u64 = 1_048_576;

/// What a file may have beyond the MB of a token that was priced by size, and what is taken off a form's length before it
/// is priced: boundaries, part headers and fields of a usual form. So a file of 10 MiB costs 10 MiB, whether its own length
/// is declared or that of the form around it, and what was bought always holds the file.
pub const FORM_ALLOWANCE_BYTES: u64 = 32_768;

/// The largest value of the form field `name`.
pub const MAX_NAME_BYTES: usize = 1_024;

/// The largest value of the form field `description`.
pub const MAX_DESCRIPTION_BYTES: usize = 16_384;

/// The most tags that one upload may carry.
pub const MAX_TAGS: usize = 64;

/// The most bytes of all tags of one upload together.
pub const MAX_TAGS_BYTES: usize = 4_096;

/// The longest time that a body is read on and thrown away after an early answer. Most clients see the answer only once
/// they have sent all. The server behind a gateway must not give up before the gateway does, so both have these bounds.
pub const MAX_DRAIN_TIME: Duration = Duration::from_secs(120);

/// The longest time without a byte of such a body.
pub const MAX_DRAIN_IDLE: Duration = Duration::from_secs(10);

/// The same for a request with `Expect`: who waits for a 100 closes, who does not wait is sending.
pub const MAX_DRAIN_IDLE_AFTER_EXPECT: Duration = Duration::from_secs(1);

/// How many such bodies a server reads on at once.
pub const MAX_DRAINS: usize = 256;

/// How many of them from one network of clients: a quarter.
pub const MAX_DRAINS_PER_CLIENT: u32 = 64;

/// The fewest bytes that [`drain_bytes`] gives.
const MIN_DRAIN_BYTES: u64 = 64 * BYTES_PER_MB;

/// The limits of the upload routes that cost nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FreeUploads {
    /// `RESTRICT_UPLOAD_SIZE`: free routes take at most [`Self::max_free_upload_mb`].
    pub restricted: bool,
    /// `MAX_FREE_UPLOAD_SIZE_MB`.
    pub max_free_upload_mb: u64,
}

impl Default for FreeUploads {
    fn default() -> Self {
        Self { restricted: false, max_free_upload_mb: 1 }
    }
}

impl FreeUploads {
    /// The largest file on a free route.
    pub fn max_upload_bytes(&self) -> u64 {
        let mb = if self.restricted { self.max_free_upload_mb } else { DEFAULT_MAX_UPLOAD_MB };
        mb.saturating_mul(BYTES_PER_MB)
    }
}

/// Whether a request body of `declared_bytes` cannot hold a file within `max_upload_bytes`.
pub fn body_too_large(declared_bytes: u64, max_upload_bytes: u64) -> bool {
    declared_bytes > max_upload_bytes.saturating_add(MAX_FORM_OVERHEAD_BYTES)
}

/// The most bytes of a refused body that are read on, by a server whose largest upload has `max_upload_bytes`: twice as
/// much and a form, for what is refused for its size is longer than that upload, and never less than 64 MiB.
pub fn drain_bytes(max_upload_bytes: u64) -> u64 {
    max_upload_bytes.saturating_mul(2).saturating_add(MAX_FORM_OVERHEAD_BYTES).max(MIN_DRAIN_BYTES)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn free_uploads_take_32_mb_unless_restricted() {
        let mut limits = FreeUploads::default();
        assert_eq!(limits.max_upload_bytes(), 32 * 1_048_576);
        limits.restricted = true;
        assert_eq!(limits.max_upload_bytes(), 1_048_576);
        limits.max_free_upload_mb = u64::MAX;
        assert_eq!(limits.max_upload_bytes(), u64::MAX);
    }

    #[test]
    fn drains_more_than_the_largest_upload() {
        assert_eq!(drain_bytes(0), 64 * BYTES_PER_MB);
        assert_eq!(drain_bytes(31 * BYTES_PER_MB), 64 * BYTES_PER_MB);
        assert_eq!(drain_bytes(500 * BYTES_PER_MB), 1_001 * BYTES_PER_MB);
        assert_eq!(drain_bytes(u64::MAX), u64::MAX);
    }

    #[test]
    fn a_body_has_one_mib_for_its_form() {
        assert!(!body_too_large(2 * 1_048_576, 1_048_576));
        assert!(body_too_large(2 * 1_048_576 + 1, 1_048_576));
        assert!(!body_too_large(u64::MAX, u64::MAX));
    }
}
