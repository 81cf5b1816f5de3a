//! An upload whose answer was lost comes again, with a token that is used up. It is let through to be compared with what
//! that token stored, within bounds, for all of it is read.

use time::{Duration, OffsetDateTime};

use super::DbError;

/// In which time retries are counted.
pub(super) const WINDOW: Duration = Duration::hours(1);

/// How many there may be in that time for each upload that the credential stored.
const RETRIES_OF_A_USE: u64 = 5;

/// By how many bytes the lengths of two bodies with the same file may differ: boundaries vary.
pub(super) const LIKENESS: i64 = 4_096;

/// When to come again while another one is under way.
const BUSY: Duration = Duration::seconds(2);

/// One retry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RetryId(pub i64);

/// Why a retry is not let through.
#[derive(Debug, thiserror::Error)]
pub enum RetryError {
    /// The credential stored nothing of that length: it is another upload.
    #[error("the token stored no upload of this length")]
    Unlike,
    /// Another one is under way, or there were too many.
    #[error("too many uploads with a token that is used up")]
    TooMany {
        /// When there is room again.
        wait: Duration,
    },
    /// The database.
    #[error(transparent)]
    Db(#[from] DbError),
}

impl From<sqlx::Error> for RetryError {
    fn from(error: sqlx::Error) -> Self {
        Self::Db(error.into())
    }
}

/// Whether another retry of a credential may begin that stored so many uploads, so many of them of the declared length,
/// where so many are noted, the first of them at `first`, and so many of them are under way.
pub(super) fn check(
    stored: u64,
    alike: u64,
    begun: u64,
    running: u64,
    first: Option<OffsetDateTime>,
    now: OffsetDateTime,
) -> Result<(), RetryError> {
    if alike == 0 {
        return Err(RetryError::Unlike);
    }
    if running > 0 {
        return Err(RetryError::TooMany { wait: BUSY });
    }
    if begun >= stored.saturating_mul(RETRIES_OF_A_USE) {
        let wait = first.map_or(WINDOW, |first| first + WINDOW - now);
        return Err(RetryError::TooMany { wait: wait.max(BUSY) });
    }
    Ok(())
}

/// What a number of either database can hold of `value`.
pub(super) fn to_i64(value: u64) -> i64 {
    // Half of it, so that a difference has room, too.
    i64::try_from(value).unwrap_or(i64::MAX).min(i64::MAX / 2)
}
