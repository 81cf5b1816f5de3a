//! How long searches and listings take among a million media, in both databases, and how the databases go about it.
//!
//! `cargo bench --package sluice-backend --bench search` runs it; `ROWS=100000` takes fewer, `PLANS=1` prints how each
//! search is done, `KEEP=FOLDER` keeps the SQLite file there and takes it as it is the next time. What takes the time is the databases, not the build. The PostgreSQL server is its own, made for this.

#![expect(clippy::unwrap_used, reason = "a measurement that goes wrong says so by panicking")]
#![expect(clippy::print_stdout, reason = "what was measured")]

use std::{
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, Instant},
};

use rand::{Rng, SeedableRng, rngs::StdRng};
use sluice_backend::db::{Cursor, Database, Listing, Owner, Page, PostgresConfig, PostgresDatabase, SqliteDatabase};
use sluice_common::{muid::Muid, secret::Secret};
use sqlx::{ConnectOptions, Connection, PgConnection, sqlite::SqliteConnectOptions};
use time::OffsetDateTime;

/// Each question is asked so often, after once that does not count.
const TIMES: usize = 20;

/// Rows that are inserted at a time.
const BATCH: usize = 10_000;

/// How many different words there are; the n-th is 1/n as frequent as the first.
const WORDS: usize = 30_000;

/// Who has 100 of 1,000 rows.
const GREAT_OWNER: &str = "great owner";

/// A media as it is inserted.
struct Row {
    muid: String,
    owner: String,
    name: String,
    description: String,
    tags: Vec<String>,
    price: i64,
    public: bool,
    template: bool,
    created_micros: i64,
}

/// Makes the same rows each time.
struct Rows {
    random: StdRng,
    made: usize,
}

impl Rows {
    fn new() -> Self {
        Self { random: StdRng::seed_from_u64(6), made: 0 }
    }

    /// A word; frequent ones have low numbers.
    fn word(&mut self) -> String {
        let rank = (WORDS as f64).powf(self.random.random::<f64>()) as usize;
        word(rank - 1)
    }

    fn text(&mut self, words: usize) -> String {
        (0..words).map(|_| self.word()).collect::<Vec<_>>().join(" ")
    }
}

/// The n-th word: `ba`, `bab`, … but never two that begin alike for long.
fn word(n: usize) -> String {
    const CONSONANTS: &[u8; 16] = b"bdfghjklmnprstvz";
    const VOWELS: &[u8; 4] = b"aiou";
    // The digits of an odd multiple, so that neighbours do not begin alike.
    let mut rest = (n + 1).wrapping_mul(40_503) % 65_536 + 65_536 * (n / 65_536);
    let mut word = String::new();
    for _ in 0..3 {
        word.push(CONSONANTS[rest % 16].into());
        word.push(VOWELS[rest / 16 % 4].into());
        rest /= 64;
    }
    word
}

impl Iterator for Rows {
    type Item = Row;

    fn next(&mut self) -> Option<Row> {
        self.made += 1;
        let n = self.made;
        let unnamed = self.random.random_ratio(3, 10);
        let owner = match self.random.random_range(0..1_000) {
            0..100 => GREAT_OWNER.to_owned(),
            owner => format!("owner {owner}"),
        };
        let price = if self.random.random_ratio(1, 10) { 21 } else { 0 };
        Some(Row {
            muid: Muid::of(&n.to_le_bytes()).to_string(),
            owner,
            name: if unnamed { "name".to_owned() } else { self.text(3) },
            description: if unnamed { "description".to_owned() } else { self.text(12) },
            tags: if unnamed { vec![] } else { vec![self.word(), self.word()] },
            price,
            public: self.random.random_ratio(6, 10),
            template: n.is_multiple_of(10_000),
            created_micros: 1_700_000_000_000_000 + n as i64 * 10_000_000,
        })
    }
}

async fn fill_sqlite(path: &Path, rows: usize) {
    let mut connection = SqliteConnectOptions::new().filename(path).connect().await.unwrap();
    let mut all = Rows::new();
    for _ in 0..rows.div_ceil(BATCH) {
        let mut tx = connection.begin().await.unwrap();
        for row in all.by_ref().take(BATCH) {
            sqlx::query(
                "INSERT INTO content (muid, state, store, store_key, sealed, size, created)
                VALUES (?, 'stored', 'local', ?, 0, 1, ?)",
            )
            .bind(&row.muid)
            .bind(&row.muid)
            .bind(row.created_micros)
            .execute(&mut *tx)
            .await
            .unwrap();
            sqlx::query(
                "INSERT INTO media (muid, owner_pub_key, name, description, price, tags, ttl, filename, mime, size,
                created, updated, public, template) VALUES (?, ?, ?, ?, ?, ?, 1, 'f', 'm', 1, ?, 0, ?, ?)",
            )
            .bind(&row.muid)
            .bind(&row.owner)
            .bind(&row.name)
            .bind(&row.description)
            .bind(row.price)
            .bind(serde_json::to_string(&row.tags).unwrap())
            .bind(row.created_micros)
            .bind(row.public)
            .bind(row.template)
            .execute(&mut *tx)
            .await
            .unwrap();
        }
        tx.commit().await.unwrap();
    }
    // As it looks when it has been there for a while.
    sqlx::raw_sql("INSERT INTO media_search (media_search) VALUES ('optimize'); PRAGMA wal_checkpoint(TRUNCATE)")
        .execute(&mut connection)
        .await
        .unwrap();
    connection.close().await.unwrap();
}

async fn fill_postgres(url: &str, rows: usize) {
    let mut connection = PgConnection::connect(url).await.unwrap();
    let mut all = Rows::new();
    for _ in 0..rows.div_ceil(BATCH) {
        let batch: Vec<Row> = all.by_ref().take(BATCH).collect();
        let texts = |of: fn(&Row) -> String| batch.iter().map(of).collect::<Vec<_>>();
        let (muids, created) = (texts(|row| row.muid.clone()), batch.iter().map(|row| row.created_micros as f64 / 1e6));
        let created: Vec<f64> = created.collect();
        sqlx::query(
            "INSERT INTO content (muid, state, store, store_key, sealed, size, created)
            SELECT muid, 'stored', 'local', muid, FALSE, 1, to_timestamp(created)
            FROM unnest($1::TEXT[], $2::FLOAT8[]) AS row (muid, created)",
        )
        .bind(&muids)
        .bind(&created)
        .execute(&mut connection)
        .await
        .unwrap();
        sqlx::query(
            "INSERT INTO media (muid, owner_pub_key, name, description, price, tags, ttl, filename, mime, size,
            created, updated, public, template)
            SELECT muid, owner, name, description, price, string_to_array(tags, ','), 1, 'f', 'm', 1,
            to_timestamp(created), to_timestamp(0), public, template
            FROM unnest($1::TEXT[], $2::TEXT[], $3::TEXT[], $4::TEXT[], $5::TEXT[], $6::BIGINT[], $7::FLOAT8[],
            $8::BOOLEAN[], $9::BOOLEAN[])
            AS row (muid, owner, name, description, tags, price, created, public, template)",
        )
        .bind(&muids)
        .bind(texts(|row| row.owner.clone()))
        .bind(texts(|row| row.name.clone()))
        .bind(texts(|row| row.description.clone()))
        .bind(texts(|row| row.tags.join(",")))
        .bind(batch.iter().map(|row| row.price).collect::<Vec<_>>())
        .bind(&created)
        .bind(batch.iter().map(|row| row.public).collect::<Vec<_>>())
        .bind(batch.iter().map(|row| row.template).collect::<Vec<_>>())
        .execute(&mut connection)
        .await
        .unwrap();
    }
    // As autovacuum leaves it.
    sqlx::query("VACUUM ANALYZE").execute(&mut connection).await.unwrap();
    connection.close().await.unwrap();
}

/// Asks again and again; prints how long it took.
async fn measure<F: Future<Output = Listing>>(what: &str, mut ask: impl FnMut() -> F) -> Listing {
    let listing = ask().await;
    let mut times = vec![];
    for _ in 0..TIMES {
        let start = Instant::now();
        ask().await;
        times.push(start.elapsed());
    }
    times.sort();
    let millis = |time: Duration| time.as_secs_f64() * 1_000.0;
    let (median, worst) = (millis(times[TIMES / 2]), millis(times[TIMES - 1]));
    println!("  {what:48} {:4} found {median:8.2} ms median {worst:8.2} ms worst", listing.media.len());
    listing
}

async fn ask_all(db: &dyn Database) {
    let now = OffsetDateTime::now_utc();
    let few = Page { limit: Some(12), after: None };
    for (what, term) in searches() {
        measure(&format!("search {what}: {term}"), async || db.search(&term, &few, now).await.unwrap()).await;
    }
    let frequent = word(0);
    let second = db.search(&frequent, &few, now).await.unwrap().next;
    let page = Page { limit: Some(12), after: second };
    measure("search, second page", async || db.search(&frequent, &page, now).await.unwrap()).await;

    let great = [Owner::from_text(GREAT_OWNER.to_owned())];
    let page = Page { limit: Some(100), after: None };
    let first = measure("100 of an owner's 100,000, first page", async || db.owned(&great, &page, now).await.unwrap());
    let mut after: Option<Cursor> = first.await.next;
    for _ in 0..300 {
        let page = Page { limit: Some(100), after: after.clone() };
        after = db.owned(&great, &page, now).await.unwrap().next.or(after);
    }
    let page = Page { limit: Some(100), after };
    measure("the same, 300 pages on", async || db.owned(&great, &page, now).await.unwrap()).await;
    let small = [Owner::from_text("owner 500".to_owned())];
    measure("all of an owner's 900", async || db.owned(&small, &Page::default(), now).await.unwrap()).await;
    measure("all 100 templates", async || db.templates(&Page::default(), now).await.unwrap()).await;
}

/// What is searched for, from the most frequent words to the rarest.
fn searches() -> Vec<(&'static str, String)> {
    vec![
        ("in 30 of 100", "name".to_owned()),
        ("in 30 of 100, begun", "descr".to_owned()),
        ("most frequent word", word(0)),
        ("10th word", word(9)),
        ("100th word", word(99)),
        ("300th word", word(299)),
        ("1,000th word", word(999)),
        ("10,000th word", word(9_999)),
        ("last word", word(WORDS - 1)),
        ("no word", "qqqq".to_owned()),
        ("one letter", "b".to_owned()),
        ("two letters", word(3)[..2].to_owned()),
        ("three letters", word(3)[..3].to_owned()),
        ("four letters", word(3)[..4].to_owned()),
        ("two frequent", format!("{} {}", word(0), word(1))),
        ("frequent and rare", format!("{} {}", word(0), word(9_999))),
        ("frequent and letter", format!("{} b", word(0))),
        ("phrase", format!("\"{} {}\"", word(0), word(1))),
        ("absent phrase", format!("\"{0} {1} {0} {1} {0} {1} {0} {1}\"", word(0), word(1))),
        ("or", format!("{} or {}", word(9), word(99))),
        ("not", format!("{} -{}", word(0), word(1))),
        ("all not", format!("name -name -{}", word(1))),
    ]
}

#[tokio::main]
async fn main() {
    let rows = std::env::var("ROWS").map_or(1_000_000, |rows| rows.parse().unwrap());
    let plans = std::env::var_os("PLANS").is_some();
    let now = OffsetDateTime::now_utc();

    let folder = tempfile::tempdir().unwrap();
    let keep = std::env::var_os("KEEP").map(PathBuf::from);
    let path = keep.as_deref().unwrap_or(folder.path()).join("backend.db");
    let is_filled = path.exists();
    let sqlite = Arc::new(SqliteDatabase::open(&path).await.unwrap());
    let start = Instant::now();
    if !is_filled {
        fill_sqlite(&path, rows).await;
    }
    let bytes = std::fs::metadata(&path).unwrap().len();
    println!("SQLite, {rows} media, filled in {:.0} s, {} MB", start.elapsed().as_secs_f64(), bytes >> 20);
    ask_all(&*sqlite).await;
    for (what, term) in searches().iter().filter(|_| plans) {
        println!("\n{what}: {term}\n{}", sqlite.search_plan(term, now).await.unwrap().join("\n"));
    }
    sqlite.close().await;

    let url = sluice_testing::postgres::database();
    let postgres = PostgresDatabase::open(&PostgresConfig::new(Secret::new(url.clone()))).await.unwrap();
    let start = Instant::now();
    fill_postgres(&url, rows).await;
    println!("PostgreSQL, {rows} media, filled in {:.0} s", start.elapsed().as_secs_f64());
    ask_all(&postgres).await;
    for (what, term) in searches().iter().filter(|_| plans) {
        println!("\n{what}: {term}\n{}", postgres.search_plan(term, now).await.unwrap().join("\n"));
    }
    postgres.close().await;
}
