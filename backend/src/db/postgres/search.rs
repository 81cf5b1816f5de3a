//! Finding public media and media for sale by their words.
//!
//! Of words that are rare, all that match are read by their index, and put in order. Of words that are frequent, that
//! would be too many: then the classes come one by one, each first from the newest media, where it has enough, else by an
//! index that knows the words of just the texts in question.

use std::time::Duration;

use sqlx::{AssertSqlSafe, PgConnection, Postgres, Row, postgres::PgArguments, query::Query};
use time::OffsetDateTime;
use tokio::time::Instant;

use super::{media::columns, rows};
use crate::db::{
    Cursor, DbError, Listing, Media, Page,
    classes::{Class, Step, Within, classes, steps},
    search::Search,
};

/// Words are rare that so few rows have.
const RARE: i64 = 2_000;

/// How many of the newest media are looked at for a page of one row; for one of N rows, the root of N times as many. Where
/// those have too few, the words are so rare that of a million media about as many are left to read by an index.
const NEWEST: f64 = 1_000.0;

/// How long a search may take. One that takes longer (words that are frequent, and nowhere beside each other as the
/// search has them) finds what it has found by then.
const TIMEOUT: Duration = Duration::from_secs(2);

/// What PostgreSQL says of a statement that took too long.
const CANCELLED: &str = "57014";

const STORED: &str =
    "EXISTS (SELECT FROM content WHERE content.muid = m.muid AND variant = 'file' AND state = 'stored' OFFSET 0)";

const IN_ORDER: &str = "ORDER BY created DESC, muid DESC, owner_pub_key DESC";

/// Whether anybody may find a row of the table `m`, and it matches.
fn findable(m: &str) -> String {
    format!(
        "({m}.public IS NOT FALSE OR {m}.price > 0) AND (COALESCE({m}.public, $4) OR {m}.price > 0) \
        AND ({m}.expiry IS NULL OR {m}.expiry > $3) AND {m}.tsv @@ to_tsquery('english', $2)"
    )
}

/// Whether a row of the table `m` matches for the class, and perhaps for better ones, if it matches at all.
fn holds(class: &Class, m: &str) -> String {
    let words = match class.within {
        // As the indexes have them.
        Within::Name => format!("ts_filter({m}.tsv, '{{a}}')"),
        Within::NameAndDescription => format!("ts_filter({m}.tsv, '{{a,b}}')"),
        Within::All => format!("{m}.tsv"),
    };
    let asked = if class.begins { "to_tsquery('english', $2)" } else { "websearch_to_tsquery('english', $1)" };
    format!("{words} @@ {asked}")
}

/// The whole search, and how many match by their words: if those are more than `RARE`, it is not all of it.
///
/// Parameters: whole words, the same with the begin of the last one, which finds all that those find, now, whether a row
/// is public that does not say; after: rank, created, muid, owner; limit.
pub(super) fn rare(begins: bool) -> String {
    let ranks: Vec<_> =
        classes(begins).iter().map(|class| format!("WHEN {} THEN {:.1}", holds(class, "media"), class.rank)).collect();
    format!(
        "WITH pool AS MATERIALIZED (
  SELECT {columns}, (CASE {ranks} ELSE 0 END)::FLOAT8 AS rank FROM media WHERE {findable} LIMIT {RARE} + 1
), best AS (
  SELECT *, row_number() OVER (PARTITION BY muid ORDER BY rank DESC, created DESC, owner_pub_key DESC) AS place FROM pool
)
SELECT * FROM (SELECT count(*) AS pooled FROM pool) AS size LEFT JOIN (
  SELECT * FROM (
    SELECT * FROM best
    WHERE place = 1 AND rank > 0
      AND ($5::FLOAT8 IS NULL OR (rank, created, muid, owner_pub_key) < ($5, $6::TIMESTAMPTZ, $7, $8))
    ORDER BY rank DESC, created DESC, muid DESC, owner_pub_key DESC OFFSET 0
  ) AS m
  WHERE {STORED} LIMIT $9
) AS page ON TRUE
ORDER BY rank DESC, created DESC, muid DESC, owner_pub_key DESC",
        columns = columns!(),
        findable = findable("media"),
        ranks = ranks.join(" "),
    )
}

/// A class of the search, among all media or the newest. Nothing is looked up for a row that is not shown.
///
/// Parameters: as of [`rare`], but $5: how many of the newest, if not all.
pub(super) fn class(step: &Step<'_>, scan: Scan) -> String {
    let holds_any = |m| {
        let above: Vec<_> = step.above.iter().map(|class| holds(class, m)).collect();
        if above.is_empty() { "FALSE".to_owned() } else { above.join(" OR ") }
    };
    let behind = "($6::TIMESTAMPTZ IS NULL OR (created, muid, owner_pub_key) < ($6, $7, $8))";
    let newest = format!(
        "(SELECT * FROM media WHERE (public IS NOT FALSE OR price > 0) AND {behind} {IN_ORDER} LIMIT $5::BIGINT) AS media"
    );
    format!(
        "SELECT * FROM (
  SELECT {columns} FROM {from}
  WHERE {findable} AND {holds} AND NOT ({above}) AND {behind} AND $5::BIGINT IS {bounded} NULL
  {IN_ORDER} OFFSET 0
) AS m
WHERE {STORED} AND NOT EXISTS (
  SELECT FROM media AS other
  WHERE other.muid = m.muid AND other.owner_pub_key <> m.owner_pub_key AND {other_findable}
    AND ({other_above} OR ({other_holds} AND (other.created, other.owner_pub_key) > (m.created, m.owner_pub_key)))
  OFFSET 0
)
{IN_ORDER} LIMIT $9",
        columns = columns!(),
        from = if scan == Scan::Newest { &newest } else { "media" },
        bounded = if scan == Scan::Newest { "NOT" } else { "" },
        findable = findable("media"),
        holds = holds(&step.class, "media"),
        above = holds_any("media"),
        other_findable = findable("other"),
        other_above = holds_any("other"),
        other_holds = holds(&step.class, "other"),
    )
}

pub(super) async fn search(
    db: &mut PgConnection,
    search: &Search,
    page: &Page,
    now: OffsetDateTime,
    legacy_public: bool,
) -> Result<Listing, DbError> {
    let (mut found, mut is_cut) = (vec![], false);
    if !search.is_empty() {
        let asked = Asked::new(search, page, now, legacy_public);
        match asked.search(db, &mut found).await {
            Err(DbError::Sqlx(error)) if is_cancelled(&error) => {
                tracing::warn!(found = found.len(), "a search took too long: it shows what it had found");
                is_cut = true;
            }
            done => done?,
        }
    }
    let next = found.last().filter(|_| is_cut).map(|(media, rank)| Cursor::new(media, *rank));
    let listing = Listing::cut(found, page.limit, |media, &rank| Cursor::new(media, rank));
    Ok(Listing { next: listing.next.or(next), ..listing })
}

fn is_cancelled(error: &sqlx::Error) -> bool {
    error.as_database_error().and_then(|error| error.code()).is_some_and(|code| code == CANCELLED)
}

/// A search under way.
struct Asked<'a> {
    whole_words: String,
    with_begin: String,
    begins: bool,
    excludes: bool,
    page: &'a Page,
    now: OffsetDateTime,
    legacy_public: bool,
    end: Instant,
}

impl<'a> Asked<'a> {
    fn new(search: &Search, page: &'a Page, now: OffsetDateTime, legacy_public: bool) -> Self {
        Self {
            whole_words: search.to_websearch(),
            with_begin: search.to_tsquery(),
            begins: search.has_begin(),
            excludes: search.excludes(),
            page,
            now,
            legacy_public,
            end: Instant::now() + TIMEOUT,
        }
    }

    async fn search(&self, db: &mut PgConnection, found: &mut Vec<(Media, f64)>) -> Result<(), DbError> {
        let wanted = rows::one_more(self.page.limit);
        let after = self.page.after.as_ref();
        if self.looks_rare(db).await? {
            self.prepare(db, Scan::Words).await?;
            let rows = self.ask_rare(rare(self.begins)).fetch_all(&mut *db).await?;
            if rows.first().is_none_or(|row| row.get::<i64, _>("pooled") <= RARE) {
                for row in &rows {
                    // Where nothing is found, one row says how many match.
                    if let Some(rank) = row.try_get("rank")? {
                        found.push((rows::media(row, self.legacy_public)?, rank));
                    }
                }
                return Ok(());
            }
        }
        for step in steps(self.begins, self.excludes, after) {
            let left = wanted.map(|wanted| wanted - found.len() as i64);
            if left == Some(0) {
                break;
            }
            let mut rows = vec![];
            for scan in [Scan::Newest, Scan::Words] {
                // Who wants all need not look twice.
                if scan == Scan::Newest && left.is_none() {
                    continue;
                }
                self.prepare(db, scan).await?;
                rows = self.ask_class(class(&step, scan), &step, scan, left).fetch_all(&mut *db).await?;
                if left == Some(rows.len() as i64) {
                    break;
                }
            }
            for row in &rows {
                found.push((rows::media(row, self.legacy_public)?, step.class.rank));
            }
        }
        Ok(())
    }

    /// Whether PostgreSQL guesses that few rows match. It knows how frequent each word is, not which come together.
    async fn looks_rare(&self, db: &mut PgConnection) -> Result<bool, DbError> {
        self.prepare(db, Scan::Words).await?;
        let explain = "EXPLAIN SELECT FROM media \
            WHERE tsv @@ to_tsquery('english', $1) AND (public IS NOT FALSE OR price > 0)";
        let plan: String =
            sqlx::query(explain).persistent(false).bind(&self.with_begin).fetch_one(db).await?.try_get(0)?;
        let rows = plan.split_once("rows=").and_then(|(_, rest)| rest.split(' ').next()?.parse().ok());
        Ok(rows.is_none_or(|rows: i64| rows <= RARE))
    }

    /// How the next statement may read media, and how long it may take.
    async fn prepare(&self, tx: &mut PgConnection, scan: Scan) -> Result<(), sqlx::Error> {
        let set = "SELECT set_config('enable_indexscan', $1, TRUE), set_config('enable_seqscan', $1, TRUE), \
            set_config('statement_timeout', $2, TRUE)";
        let scans = if scan == Scan::Newest { "on" } else { "off" };
        let left = self.end.saturating_duration_since(Instant::now()).as_millis().max(1);
        sqlx::query(set).bind(scans).bind(left.to_string()).execute(tx).await.map(drop)
    }

    fn ask_rare(&self, sql: String) -> Query<'_, Postgres, PgArguments> {
        let after = self.page.after.as_ref();
        let query = self.ask(sql).bind(after.map(|after| after.rank));
        bind_place(query, after).bind(rows::one_more(self.page.limit))
    }

    fn ask_class<'q>(
        &'q self,
        sql: String,
        step: &Step<'q>,
        scan: Scan,
        left: Option<i64>,
    ) -> Query<'q, Postgres, PgArguments> {
        let newest = left.filter(|_| scan == Scan::Newest).map(|left| (NEWEST * (left as f64).sqrt()) as i64);
        bind_place(self.ask(sql).bind(newest), step.after).bind(left)
    }

    fn ask(&self, sql: String) -> Query<'_, Postgres, PgArguments> {
        sqlx::query(AssertSqlSafe(sql))
            // Which plan is good depends on the words.
            .persistent(false)
            .bind(&self.whole_words)
            .bind(&self.with_begin)
            .bind(self.now)
            .bind(self.legacy_public)
    }
}

/// In which order media are read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Scan {
    /// The newest first.
    Newest,
    /// By the index of their words, which alone finds few, whatever PostgreSQL guesses.
    Words,
}

fn bind_place<'q>(
    query: Query<'q, Postgres, PgArguments>,
    after: Option<&'q Cursor>,
) -> Query<'q, Postgres, PgArguments> {
    query
        .bind(after.map(Cursor::created))
        .bind(after.map(|after| after.muid.to_string()))
        .bind(after.map(|after| after.owner.as_str()))
}

/// How the search is done.
pub(super) async fn plan(
    db: &mut PgConnection,
    search: &Search,
    now: OffsetDateTime,
    legacy_public: bool,
) -> Result<Vec<String>, DbError> {
    let page = Page { limit: Some(12), after: None };
    let asked = Asked::new(search, &page, now, legacy_public);
    let mut plan = vec![];
    if asked.looks_rare(db).await? {
        let sql = format!("EXPLAIN (ANALYZE, BUFFERS) {}", rare(asked.begins));
        for step in asked.ask_rare(sql).fetch_all(&mut *db).await? {
            plan.push(step.try_get(0)?);
        }
        return Ok(plan);
    }
    for step in steps(asked.begins, asked.excludes, None) {
        for scan in [Scan::Newest, Scan::Words] {
            asked.prepare(db, scan).await?;
            let sql = format!("EXPLAIN (ANALYZE, BUFFERS) {}", class(&step, scan));
            plan.push(format!("class {} {scan:?}", step.class.rank));
            for line in asked.ask_class(sql, &step, scan, Some(13)).fetch_all(&mut *db).await? {
                plan.push(line.try_get(0)?);
            }
        }
    }
    Ok(plan)
}
