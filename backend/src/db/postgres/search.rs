//! Finding public media and media for sale by their words.

use sqlx::{PgConnection, Row};
use time::OffsetDateTime;

use super::{media::columns, rows};
use crate::db::{
    Cursor, DbError, Listing, Page,
    search::{POOLS, Search},
};

/// Parameters: whole words, the same with the begin of the last one, which finds all that those find, how many of the newest are ranked, now, after:
/// rank, created, muid, owner; limit, whether a row is public that does not say.
pub(super) const SEARCH: &str = concat!(
    "WITH pool AS MATERIALIZED (
  SELECT ",
    columns!(),
    ",
    -- What is found by whole words counts more.
    (ts_rank(tsv, websearch_to_tsquery('english', $1)) + ts_rank(tsv, to_tsquery('english', $2)))::FLOAT8 AS rank
  FROM media
  WHERE tsv @@ to_tsquery('english', $2)
    AND (public IS NOT FALSE OR price > 0) AND (COALESCE(public, $10) OR price > 0)
    AND (expiry IS NULL OR expiry > $4)
  ORDER BY created DESC LIMIT $3
), best AS (
  SELECT *, row_number() OVER (PARTITION BY muid ORDER BY rank DESC, created DESC, owner_pub_key DESC) AS place
  FROM pool
  WHERE EXISTS (SELECT FROM content WHERE content.muid = pool.muid AND variant = 'file' AND state = 'stored')
)
SELECT *, (SELECT count(*) FROM pool) AS pooled FROM best
WHERE place = 1 AND ($5::FLOAT8 IS NULL OR (rank, created, muid, owner_pub_key) < ($5, $6, $7, $8))
ORDER BY rank DESC, created DESC, muid DESC, owner_pub_key DESC LIMIT $9"
);

pub(super) async fn search(
    db: &mut PgConnection,
    search: &Search,
    page: &Page,
    now: OffsetDateTime,
    legacy_public: bool,
) -> Result<Listing, DbError> {
    if search.is_empty() {
        return Ok(Listing::cut(vec![], page.limit));
    }
    let after = page.after.as_ref();
    let wanted = rows::one_more(page.limit);
    let (whole, prefix) = (search.to_websearch(), search.to_tsquery());
    let mut found = vec![];
    for pool in POOLS {
        let rows = sqlx::query(SEARCH)
            // Which plan is good depends on the words.
            .persistent(false)
            .bind(&whole)
            .bind(&prefix)
            .bind(i64::from(pool))
            .bind(now)
            .bind(after.map(|after| after.rank))
            .bind(after.map(Cursor::created))
            .bind(after.map(|after| after.muid.to_string()))
            .bind(after.map(|after| after.owner.as_str()))
            .bind(wanted)
            .bind(legacy_public)
            .fetch_all(&mut *db)
            .await?;
        let ranked = |row| Ok((rows::media(row, legacy_public)?, row.try_get("rank")?));
        found = rows.iter().map(ranked).collect::<Result<_, DbError>>()?;
        let pool_is_full = rows.first().is_none_or(|row| row.get::<i64, _>("pooled") == i64::from(pool));
        if Some(rows.len() as i64) == wanted || !pool_is_full {
            break;
        }
    }
    Ok(Listing::cut(found, page.limit))
}
