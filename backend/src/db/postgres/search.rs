//! Finding public media and media for sale by their words.

use sqlx::{AssertSqlSafe, PgConnection, Postgres, Row, SqlSafeStr, postgres::PgArguments, query::Query};
use time::OffsetDateTime;

use super::{media::columns, rows};
use crate::db::{
    Cursor, DbError, Listing, Page,
    search::{POOLS, Search},
};

/// A search, in which media come from `$from` and the newest of those that match by `$created`.
macro_rules! search {
    ($from:literal, $created:literal) => {
        concat!(
            "WITH pool AS MATERIALIZED (
  SELECT ",
            columns!(),
            ",
    -- What is found by whole words counts more.
    (ts_rank(tsv, websearch_to_tsquery('english', $1)) + ts_rank(tsv, to_tsquery('english', $2)))::FLOAT8 AS rank
  FROM ",
            $from,
            "
  WHERE tsv @@ to_tsquery('english', $2)
    AND (public IS NOT FALSE OR price > 0) AND (COALESCE(public, $10) OR price > 0)
    AND (expiry IS NULL OR expiry > $4)
  ORDER BY ",
            $created,
            " DESC LIMIT $3
), best AS (
  SELECT *, row_number() OVER (PARTITION BY muid ORDER BY rank DESC, created DESC, owner_pub_key DESC) AS place
  FROM pool
  WHERE EXISTS (SELECT FROM content WHERE content.muid = pool.muid AND variant = 'file' AND state = 'stored')
)
SELECT * FROM (SELECT count(*) AS pooled FROM pool) AS size LEFT JOIN best
  ON place = 1 AND ($5::FLOAT8 IS NULL OR (rank, created, muid, owner_pub_key) < ($5, $6, $7, $8))
ORDER BY rank DESC, created DESC, muid DESC, owner_pub_key DESC LIMIT $9"
        )
    };
}

/// PostgreSQL knows how frequent one word is, and takes the newest until enough match, or all that match by their words,
/// whichever is less.
///
/// Parameters: whole words, the same with the begin of the last one, which finds all that those find, how many of the
/// newest are ranked, now, after: rank, created, muid, owner; limit, whether a row is public that does not say.
pub(super) const SEARCH: &str = search!("media", "created");

/// How often several words come together, it does not know. So first only some of the newest are looked at: if the words
/// are frequent, enough match. The same parameters.
pub(super) const SEARCH_NEWEST: &str = search!(
    "(SELECT * FROM media WHERE public IS NOT FALSE OR price > 0 ORDER BY created DESC LIMIT 10000) AS newest",
    "created"
);

/// And if they do not, all that match by their words, which are few, whatever PostgreSQL guesses: see [`set_scans`]. The
/// same parameters.
pub(super) const SEARCH_ALL: &str = search!("media", "(created + INTERVAL '0')");

/// The ways to do a search, one after the other until enough is found.
fn statements(search: &Search) -> &'static [&'static str] {
    if search.is_one_phrase() { &[SEARCH] } else { &[SEARCH_NEWEST, SEARCH_ALL] }
}

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
        let mut pool_is_full = false;
        let statements = statements(search);
        for sql in statements {
            set_scans(db, *sql != SEARCH_ALL).await?;
            let rows = ask(*sql, search, pool, now, page, legacy_public).fetch_all(&mut *db).await?;
            pool_is_full = rows.first().is_some_and(|row| row.get::<i64, _>("pooled") == i64::from(pool));
            found.clear();
            for row in &rows {
                // Where nothing is found, one row says how many were looked at.
                if let Some(rank) = row.try_get("rank")? {
                    found.push((rows::media(row, legacy_public)?, rank));
                }
            }
            if pool_is_full {
                break;
            }
        }
        if Some(found.len() as i64) == wanted || !pool_is_full {
            break;
        }
    }
    Ok(Listing::cut(found, page.limit))
}

/// Whether this transaction may read media in another order than that of their words' index.
async fn set_scans(tx: &mut PgConnection, may: bool) -> Result<(), sqlx::Error> {
    let set = "SELECT set_config('enable_indexscan', $1, TRUE), set_config('enable_seqscan', $1, TRUE)";
    sqlx::query(set).bind(if may { "on" } else { "off" }).execute(tx).await.map(drop)
}

/// How the search is done.
pub(super) async fn plan(
    db: &mut PgConnection,
    search: &Search,
    now: OffsetDateTime,
    legacy_public: bool,
) -> Result<Vec<String>, DbError> {
    let page = Page { limit: Some(12), after: None };
    let mut plan = vec![];
    for sql in statements(search) {
        set_scans(db, *sql != SEARCH_ALL).await?;
        let explain = AssertSqlSafe(format!("EXPLAIN (ANALYZE, BUFFERS) {sql}"));
        for step in ask(explain, search, POOLS[0], now, &page, legacy_public).fetch_all(&mut *db).await? {
            plan.push(step.try_get(0)?);
        }
    }
    Ok(plan)
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
