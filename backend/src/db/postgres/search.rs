//! Finding public media and media for sale by their words.

use sqlx::{AssertSqlSafe, PgConnection, Postgres, Row, SqlSafeStr, postgres::PgArguments, query::Query};
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
    let wanted = rows::one_more(page.limit);
    let mut found = vec![];
    for pool in POOLS {
        let rows = ask(SEARCH, search, pool, now, page, legacy_public).fetch_all(&mut *db).await?;
        let ranked = |row| Ok((rows::media(row, legacy_public)?, row.try_get("rank")?));
        found = rows.iter().map(ranked).collect::<Result<_, DbError>>()?;
        let pool_is_full = rows.first().is_none_or(|row| row.get::<i64, _>("pooled") == i64::from(pool));
        if Some(rows.len() as i64) == wanted || !pool_is_full {
            break;
        }
    }
    Ok(Listing::cut(found, page.limit))
}

/// How the search is done.
pub(super) async fn plan(
    db: &mut PgConnection,
    search: &Search,
    now: OffsetDateTime,
    legacy_public: bool,
) -> Result<Vec<String>, DbError> {
    let explain = AssertSqlSafe(format!("EXPLAIN (ANALYZE, BUFFERS) {SEARCH}"));
    let page = Page { limit: Some(12), after: None };
    let steps = ask(explain, search, POOLS[0], now, &page, legacy_public).fetch_all(db).await?;
    Ok(steps.iter().map(|step| step.try_get(0)).collect::<Result<_, _>>()?)
}

fn ask<'q>(
    sql: impl SqlSafeStr,
    search: &Search,
    pool: u32,
    now: OffsetDateTime,
    page: &'q Page,
    legacy_public: bool,
) -> Query<'q, Postgres, PgArguments> {
    let after = page.after.as_ref();
    sqlx::query(sql)
        // Which plan is good depends on the words.
        .persistent(false)
        .bind(search.to_websearch())
        .bind(search.to_tsquery())
        .bind(i64::from(pool))
        .bind(now)
        .bind(after.map(|after| after.rank))
        .bind(after.map(Cursor::created))
        .bind(after.map(|after| after.muid.to_string()))
        .bind(after.map(|after| after.owner.as_str()))
        .bind(rows::one_more(page.limit))
        .bind(legacy_public)
}
