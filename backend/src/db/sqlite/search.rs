//! Finding public media and media for sale by their words, with FTS5.

use sqlx::{AssertSqlSafe, Row, SqlSafeStr, Sqlite, SqliteConnection, query::Query, sqlite::SqliteArguments};
use time::OffsetDateTime;

use super::rows;
use crate::db::{
    Cursor, DbError, Listing, Page,
    classes::{Class, Step, Within, has_begins, steps},
    search::Search,
};

/// A word is frequent that so many rows have. No more are counted.
const FREQUENT: i64 = 5_000;

/// A class of what is found. FTS5 gives it newest first, and no more of it than is read: rows are numbered as they came.
/// Of a content with several rows only the best is shown.
///
/// Parameters: what to match, the number of the row before the first, now, what matches in the
/// classes before (null: there are none), limit.
pub(super) const SEARCH: &str = "\
SELECT media.* FROM media_search CROSS JOIN media ON media.id = media_search.rowid
WHERE media_search MATCH ?1 AND media_search.rowid < ?2
  AND (public = 1 OR price > 0) AND (expiry IS NULL OR expiry > ?3)
  AND EXISTS (SELECT 1 FROM content WHERE content.muid = media.muid AND variant = 'file' AND state = 'stored')
  AND NOT EXISTS (
    SELECT 1 FROM media AS other
    WHERE other.muid = media.muid AND other.id <> media.id
      AND (other.public = 1 OR other.price > 0) AND (other.expiry IS NULL OR other.expiry > ?3)
      AND (
        (?4 IS NOT NULL AND EXISTS (SELECT 1 FROM media_search WHERE media_search MATCH ?4 AND rowid = other.id))
        OR (other.id > media.id AND EXISTS (SELECT 1 FROM media_search WHERE media_search MATCH ?1 AND rowid = other.id))
      )
  )
ORDER BY media_search.rowid DESC LIMIT ?5";

/// Parameters: a phrase, the most rows.
pub(super) const COUNT: &str =
    "SELECT count(*) FROM (SELECT 1 FROM media_search WHERE media_search MATCH ? ORDER BY rowid DESC LIMIT ?)";

pub(super) async fn search(
    db: &mut SqliteConnection,
    search: &Search,
    page: &Page,
    now: OffsetDateTime,
) -> Result<Listing, DbError> {
    let mut found = vec![];
    if !search.is_empty() {
        let after = page.after.as_ref();
        let begins = looks_for_begins(db, search, after).await?;
        let spelled = Spelled::new(search);
        for step in steps(begins, spelled.excludes, after) {
            let left = rows::one_more(page.limit) - found.len() as i64;
            for row in ask(SEARCH, &spelled, &step, now, left).fetch_all(&mut *db).await? {
                found.push((rows::media(&row)?, (step.class.rank, row.try_get("id")?)));
            }
            if found.len() as i64 == rows::one_more(page.limit) {
                break;
            }
        }
    }
    let cursor = |media: &_, &(rank, id): &_| Cursor { created_micros: id, ..Cursor::new(media, rank) };
    Ok(Listing::cut(found, page.limit, cursor))
}

/// Whether words are looked for that only begin with the last one. Where it is frequent they are not: there is enough, and
/// FTS5 would read all of them first. Later pages do as the first did.
async fn looks_for_begins(
    db: &mut SqliteConnection,
    search: &Search,
    after: Option<&Cursor>,
) -> Result<bool, sqlx::Error> {
    let Some(word) = search.fts5_begun() else { return Ok(false) };
    if let Some(after) = after {
        return Ok(has_begins(after));
    }
    let rows: i64 = sqlx::query_scalar(COUNT).bind(word).bind(FREQUENT).fetch_one(db).await?;
    Ok(rows < FREQUENT)
}

/// A search in FTS5's syntax.
struct Spelled {
    whole_words: String,
    with_begin: String,
    excludes: bool,
}

impl Spelled {
    fn new(search: &Search) -> Self {
        let whole_words = search.clone().whole_words().to_fts5();
        Self { whole_words, with_begin: search.to_fts5(), excludes: search.excludes() }
    }

    /// What matches for the class, and perhaps for better ones.
    fn matching(&self, class: &Class) -> String {
        let all = if class.begins { &self.with_begin } else { &self.whole_words };
        let within = match class.within {
            Within::Name => format!("{{name}} : ({all})"),
            Within::NameAndDescription => format!("{{name description}} : ({all})"),
            Within::All => return all.clone(),
        };
        // What must not be there must be nowhere.
        if self.excludes { format!("({within}) AND ({all})") } else { within }
    }

    fn above(&self, step: &Step<'_>) -> Option<String> {
        let above: Vec<_> = step.above.iter().map(|class| format!("({})", self.matching(class))).collect();
        (!above.is_empty()).then(|| above.join(" OR "))
    }
}

/// How the search is done.
pub(super) async fn plan(
    db: &mut SqliteConnection,
    search: &Search,
    now: OffsetDateTime,
) -> Result<Vec<String>, DbError> {
    let begins = looks_for_begins(db, search, None).await?;
    let spelled = Spelled::new(search);
    let mut plan = vec![];
    for step in steps(begins, spelled.excludes, None) {
        let explain = AssertSqlSafe(format!("EXPLAIN QUERY PLAN {SEARCH}"));
        plan.push(format!("class {}", step.class.rank));
        for row in ask(explain, &spelled, &step, now, 13).fetch_all(&mut *db).await? {
            plan.push(row.try_get("detail")?);
        }
    }
    Ok(plan)
}

fn ask(
    sql: impl SqlSafeStr,
    spelled: &Spelled,
    step: &Step<'_>,
    now: OffsetDateTime,
    limit: i64,
) -> Query<'static, Sqlite, SqliteArguments> {
    let above = spelled.above(step);
    let matching = spelled.matching(&step.class);
    let only = above.as_ref().map(|above| format!("({matching}) NOT ({above})"));
    sqlx::query(sql)
        .bind(only.unwrap_or(matching))
        .bind(step.after.map_or(i64::MAX, |after| after.created_micros))
        .bind(rows::micros(now))
        .bind(above)
        .bind(limit)
}
