//! Who may keep an answer: the one maker of `Cache-Control`.

use http::HeaderValue;
use time::OffsetDateTime;

/// How long a shared cache may keep a public file, in seconds. Its bytes never change, but its owner may make it private.
const PUBLIC_MAX_AGE_SECS: i64 = 3_600;

/// Who may keep an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CachePolicy {
    /// Nobody: it is for the caller alone.
    Private,
    /// Anybody, for at most this many seconds.
    Public {
        /// From now on.
        max_age_secs: i64,
    },
}

impl CachePolicy {
    /// For a public file, which is kept by nobody past its `expiry`.
    pub fn public(expiry: Option<OffsetDateTime>, now: OffsetDateTime) -> Self {
        let left = expiry.map_or(PUBLIC_MAX_AGE_SECS, |at| (at - now).whole_seconds());
        Self::Public { max_age_secs: left.clamp(0, PUBLIC_MAX_AGE_SECS) }
    }

    /// The value of `Cache-Control`.
    pub fn header(self) -> HeaderValue {
        match self {
            Self::Private => HeaderValue::from_static("private, no-store"),
            Self::Public { max_age_secs } => HeaderValue::try_from(format!("public, max-age={max_age_secs}"))
                .unwrap_or(HeaderValue::from_static("no-store")),
        }
    }
}

#[cfg(test)]
mod tests {
    use time::Duration;

    use super::*;

    #[test]
    fn nobody_keeps_a_public_file_past_its_expiry() {
        let now = OffsetDateTime::UNIX_EPOCH;
        let header = |expiry| CachePolicy::public(expiry, now).header();
        assert_eq!(header(None), "public, max-age=3600");
        assert_eq!(header(Some(now + Duration::days(2))), "public, max-age=3600");
        assert_eq!(header(Some(now + Duration::seconds(9))), "public, max-age=9");
        assert_eq!(header(Some(now - Duration::seconds(9))), "public, max-age=0");
        assert_eq!(CachePolicy::Private.header(), "private, no-store");
    }
}
