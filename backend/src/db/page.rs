//! A part of a long list, and where the next part begins.

use std::{cmp::Reverse, fmt, str::FromStr};

use base64::Engine;
use sluice_common::muid::{BASE64URL, Muid};
use time::OffsetDateTime;

use super::{Media, Owner};

/// Which part of a list is asked for. Default: all of it.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Page {
    /// The most rows.
    pub limit: Option<u32>,
    /// The row before the first one.
    pub after: Option<Cursor>,
}

/// A part of a list.
#[derive(Debug, Clone, PartialEq)]
pub struct Listing {
    /// The rows, in the list's order.
    pub media: Vec<Media>,
    /// What to ask for the next part with. None: this is the last one.
    pub next: Option<Cursor>,
}

/// A place in a list: behind the row with this key. Rows that come or go meanwhile neither hide nor repeat others.
///
/// As text (`?after=`) it is opaque: base64url of rank, place, muid and owner.
#[derive(Debug, Clone, PartialEq)]
pub struct Cursor {
    /// The row's class in a search, more is better; 0 where nothing is searched for.
    pub(super) rank: f64,
    /// When the row was made; of a search in SQLite the number of the row, in whose order it has the words.
    pub(super) created_micros: i64,
    pub(super) muid: Muid,
    pub(super) owner: Owner,
}

/// The text is no [`Cursor`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not a place in a list: send `after` as the server gave it")]
pub struct InvalidCursor;

impl Cursor {
    pub(super) fn new(media: &Media, rank: f64) -> Self {
        let created_micros = super::micros(media.created);
        Self { rank, created_micros, muid: media.muid, owner: media.owner.clone() }
    }

    pub(super) fn created(&self) -> OffsetDateTime {
        // Checked where it was read.
        super::from_micros(self.created_micros).unwrap_or(OffsetDateTime::UNIX_EPOCH)
    }
}

impl Listing {
    /// The first `limit` of rows of which one more was asked for, to see whether there are more; each with what `cursor`
    /// needs to name it.
    pub(super) fn cut<K>(
        mut rows: Vec<(Media, K)>,
        limit: Option<u32>,
        cursor: impl FnOnce(&Media, &K) -> Cursor,
    ) -> Self {
        let limit = limit.map_or(usize::MAX, |limit| limit as usize);
        let more = rows.len() > limit;
        rows.truncate(limit);
        let next = rows.last().filter(|_| more).map(|(media, key)| cursor(media, key));
        Self { media: rows.into_iter().map(|(media, _)| media).collect(), next }
    }

    /// The first `limit` of rows without a rank, newest first.
    pub(super) fn newest(mut rows: Vec<Media>, limit: Option<u32>) -> Self {
        let key = |media: &Media| (media.created, media.muid.to_string(), media.owner.as_str().to_owned());
        rows.sort_by_cached_key(|media| Reverse(key(media)));
        Self::cut(rows.into_iter().map(|media| (media, ())).collect(), limit, |media, ()| Cursor::new(media, 0.0))
    }
}

impl fmt::Display for Cursor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut bytes = Vec::with_capacity(48 + self.owner.as_str().len());
        bytes.extend_from_slice(&self.rank.to_be_bytes());
        bytes.extend_from_slice(&self.created_micros.to_be_bytes());
        bytes.extend_from_slice(self.muid.as_bytes());
        bytes.extend_from_slice(self.owner.as_str().as_bytes());
        // Nobody need escape the padding in a query.
        f.write_str(BASE64URL.encode(bytes).trim_end_matches('='))
    }
}

impl FromStr for Cursor {
    type Err = InvalidCursor;

    fn from_str(text: &str) -> Result<Self, InvalidCursor> {
        let bytes = BASE64URL.decode(text).map_err(|_| InvalidCursor)?;
        let (rank, bytes) = bytes.split_first_chunk().ok_or(InvalidCursor)?;
        let (created, bytes) = bytes.split_first_chunk().ok_or(InvalidCursor)?;
        let (muid, owner) = bytes.split_first_chunk().ok_or(InvalidCursor)?;
        let owner = str::from_utf8(owner).map_err(|_| InvalidCursor)?;
        let (rank, created_micros) = (f64::from_be_bytes(*rank), i64::from_be_bytes(*created));
        // What no row can hold, a database may refuse.
        if !rank.is_finite()
            || created_micros < 0
            || super::from_micros(created_micros).is_none()
            || owner.contains('\0')
        {
            return Err(InvalidCursor);
        }
        let owner = Owner::from_text(owner.to_owned());
        Ok(Self { rank, created_micros, muid: Muid::from_bytes(*muid), owner })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cursor_is_text_and_back() {
        for (rank, created_micros, owner) in [(0.0, 0, ""), (-1.5e-7, i64::MAX / 1_000, "l402:ä"), (0.25, 1, "A86Q")] {
            let owner = Owner::from_text(owner.to_owned());
            let cursor = Cursor { rank, created_micros, muid: Muid::from_bytes([0xfb; 32]), owner };
            let text = cursor.to_string();
            assert!(text.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_'), "{text}");
            assert_eq!(text.parse(), Ok(cursor));
        }
    }

    #[test]
    fn what_no_server_gave_is_none() {
        let bytes = |rank: f64, created: i64, rest: &[u8]| {
            BASE64URL.encode([&rank.to_be_bytes()[..], &created.to_be_bytes(), rest].concat())
        };
        assert!(bytes(0.0, 0, &[0; 32]).parse::<Cursor>().is_ok());
        for text in [
            String::new(),
            "junk!".to_owned(),
            "' OR 1=1 --".to_owned(),
            bytes(0.0, 0, &[0; 31]),
            bytes(f64::NAN, 0, &[0; 32]),
            bytes(f64::INFINITY, 0, &[0; 32]),
            bytes(0.0, i64::MAX, &[0; 32]),
            bytes(0.0, -1, &[0; 32]),
            bytes(0.0, 0, &[0; 33]),
            bytes(0.0, 0, &[0xff; 33]),
        ] {
            assert_eq!(text.parse::<Cursor>(), Err(InvalidCursor), "{text}");
        }
    }
}
