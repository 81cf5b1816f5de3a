//! Finding public media and media for sale by their words, with FTS5.

use sqlx::{AssertSqlSafe, Row, SqlSafeStr, Sqlite, SqliteConnection, query::Query, sqlite::SqliteArguments};
use time::OffsetDateTime;

use super::rows;
use crate::db::{
    DbError, Listing, Page,
    search::{POOLS, Search},
};

/// Parameters: what to match, how many of the newest are ranked, now, after: rank, created, muid, owner; limit.
pub(super) const SEARCH: &str = "\
WITH pool AS MATERIALIZED (
  SELECT rowid AS id, -bm25(media_search, 1.0, 0.4, 0.2) AS rank FROM media_search WHERE media_search MATCH ?1
  ORDER BY rowid DESC LIMIT ?2
), best AS (
  SELECT media.*, rank,
    row_number() OVER (PARTITION BY muid ORDER BY rank DESC, created DESC, owner_pub_key DESC) AS place
  FROM pool JOIN media USING (id)
  WHERE (public = 1 OR price > 0) AND (expiry IS NULL OR expiry > ?3)
    AND EXISTS (SELECT 1 FROM content WHERE content.muid = media.muid AND variant = 'file' AND state = 'stored')
)
SELECT *, (SELECT count(*) FROM pool) AS pooled FROM best
WHERE place = 1 AND (?4 IS NULL OR (rank, created, muid, owner_pub_key) < (?4, ?5, ?6, ?7))
ORDER BY rank DESC, created DESC, muid DESC, owner_pub_key DESC LIMIT ?8";

pub(super) async fn search(
    db: &mut SqliteConnection,
    search: &Search,
    page: &Page,
    now: OffsetDateTime,
) -> Result<Listing, DbError> {
    if search.is_empty() {
        return Ok(Listing::cut(vec![], page.limit));
    }
    let wanted = rows::one_more(page.limit);
    let matching = search.to_fts5();
    let mut found = vec![];
    for pool in POOLS {
        let rows = ask(SEARCH, &matching, pool, now, page).fetch_all(&mut *db).await?;
        found = rows.iter().map(|row| Ok((rows::media(row)?, row.try_get("rank")?))).collect::<Result<_, DbError>>()?;
        let pool_is_full = rows.first().is_none_or(|row| row.get::<i64, _>("pooled") == i64::from(pool));
        if rows.len() as i64 == wanted || !pool_is_full {
            break;
        }
    }
    Ok(Listing::cut(found, page.limit))
}

/// How the search is done.
pub(super) async fn plan(
    db: &mut SqliteConnection,
    search: &Search,
    now: OffsetDateTime,
) -> Result<Vec<String>, DbError> {
    let explain = format!("EXPLAIN QUERY PLAN {SEARCH}");
    let matching = search.to_fts5();
    let page = Page { limit: Some(12), after: None };
    let steps = ask(AssertSqlSafe(explain), &matching, POOLS[0], now, &page).fetch_all(db).await?;
    Ok(steps.iter().map(|step| step.try_get("detail")).collect::<Result<_, _>>()?)
}

fn ask<'q>(
    sql: impl SqlSafeStr,
    matching: &'q str,
    pool: u32,
    now: OffsetDateTime,
    page: &'q Page,
) -> Query<'q, Sqlite, SqliteArguments> {
    let after = page.after.as_ref();
    sqlx::query(sql)
        .bind(matching)
        .bind(pool)
        .bind(rows::micros(now))
        .bind(after.map(|after| after.rank))
        .bind(after.map(|after| after.created_micros))
        .bind(after.map(|after| after.muid.to_string()))
        .bind(after.map(|after| after.owner.as_str()))
        .bind(rows::one_more(page.limit))
}
