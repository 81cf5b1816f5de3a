//! Finding public media and media for sale by their words, with FTS5.

use sqlx::{AssertSqlSafe, Row, SqlSafeStr, Sqlite, SqliteConnection, query::Query, sqlite::SqliteArguments};
use time::OffsetDateTime;

use super::rows;
use crate::db::{
    DbError, Listing, Page,
    search::{POOLS, Search},
};

/// A phrase is rare that fewer rows have. No more are counted.
const RARE: i64 = 5_000;

/// What is the same of both ways to search.
macro_rules! search {
    ($($pool_and_best:literal)*) => {
        concat!(
            "WITH pool AS MATERIALIZED (",
            $($pool_and_best,)*
            "  FROM pool JOIN media USING (id)
  WHERE (public = 1 OR price > 0) AND (expiry IS NULL OR expiry > ?3)
    AND EXISTS (SELECT 1 FROM content WHERE content.muid = media.muid AND variant = 'file' AND state = 'stored')
), best AS (
  SELECT *, row_number() OVER (PARTITION BY muid ORDER BY rank DESC, created DESC, owner_pub_key DESC) AS place
  FROM found
)
SELECT * FROM (SELECT count(*) AS pooled FROM pool) AS size LEFT JOIN best
  ON place = 1 AND (?4 IS NULL OR (rank, created, muid, owner_pub_key) < (?4, ?5, ?6, ?7))
ORDER BY rank DESC, created DESC, muid DESC, owner_pub_key DESC LIMIT ?8"
        )
    };
}

/// Parameters: what to match, how many of the newest are ranked, now, after: rank, created, muid, owner; limit.
pub(super) const SEARCH: &str = search!(
    "SELECT rowid AS id, -bm25(media_search, 1.0, 0.4, 0.2) AS rank FROM media_search WHERE media_search MATCH ?1
  ORDER BY rowid DESC LIMIT ?2
), found AS (
  SELECT media.*, rank"
);

/// Where a phrase is not rare: bm25 would count all rows that have it. Here only those columns count in which all of it
/// is found. Parameters: as of `SEARCH`, the same to match in the name, in name and description.
pub(super) const SEARCH_FREQUENT: &str = search!(
    "SELECT rowid AS id FROM media_search WHERE media_search MATCH ?1 ORDER BY rowid DESC LIMIT ?2
), named AS MATERIALIZED (
  SELECT rowid AS id FROM media_search WHERE media_search MATCH ?9 AND rowid >= (SELECT min(id) FROM pool)
), described AS MATERIALIZED (
  SELECT rowid AS id FROM media_search WHERE media_search MATCH ?10 AND rowid >= (SELECT min(id) FROM pool)
), found AS (
  SELECT media.*, CASE
    WHEN id IN (SELECT id FROM named) THEN 1.0 WHEN id IN (SELECT id FROM described) THEN 0.4 ELSE 0.2
  END AS rank"
);

/// Parameters: a phrase, the most rows.
pub(super) const COUNT: &str =
    "SELECT count(*) FROM (SELECT 1 FROM media_search WHERE media_search MATCH ? ORDER BY rowid DESC LIMIT ?)";

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
    let (sql, search) = choose(db, search).await?;
    let matching = search.to_fts5();
    let mut found = vec![];
    for pool in POOLS {
        let rows = ask(sql, &matching, pool, now, page).fetch_all(&mut *db).await?;
        let pool_is_full = rows.first().is_some_and(|row| row.get::<i64, _>("pooled") == i64::from(pool));
        found.clear();
        for row in &rows {
            // Where nothing is found, one row says how many were looked at.
            if let Some(rank) = row.try_get("rank")? {
                found.push((rows::media(row)?, rank));
            }
        }
        if found.len() as i64 == wanted || !pool_is_full {
            break;
        }
    }
    Ok(Listing::cut(found, page.limit))
}

/// The better way to do a search. Where a word is frequent, what begins with it is not looked for: there is enough, and
/// FTS5 would read all that begins with it first.
async fn choose(db: &mut SqliteConnection, search: &Search) -> Result<(&'static str, Search), sqlx::Error> {
    if let Some(word) = search.fts5_begun()
        && is_frequent(db, word).await?
    {
        return Ok((SEARCH_FREQUENT, search.clone().whole_words()));
    }
    for phrase in search.fts5_phrases() {
        if is_frequent(db, phrase).await? {
            return Ok((SEARCH_FREQUENT, search.clone()));
        }
    }
    Ok((SEARCH, search.clone()))
}

async fn is_frequent(db: &mut SqliteConnection, phrase: String) -> Result<bool, sqlx::Error> {
    let rows: i64 = sqlx::query_scalar(COUNT).bind(phrase).bind(RARE).fetch_one(db).await?;
    Ok(rows == RARE)
}

/// How the search is done.
pub(super) async fn plan(
    db: &mut SqliteConnection,
    search: &Search,
    now: OffsetDateTime,
) -> Result<Vec<String>, DbError> {
    let (sql, search) = choose(db, search).await?;
    let explain = format!("EXPLAIN QUERY PLAN {sql}");
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
        .bind(format!("{{name}} : ({matching})"))
        .bind(format!("{{name description}} : ({matching})"))
}
