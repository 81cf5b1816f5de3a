//! What PostgreSQL alone must do, and the contract of every database.

mod connections;
mod legacy;
mod searches;

use futures_util::future::join_all;
use sluice_common::secret::Secret;
use sluice_testing::postgres;
use sqlx::{AssertSqlSafe, Executor, PgPool, Row};

use super::{search::Scan, *};
use crate::db::{
    classes::steps,
    contract::{
        database_tests,
        fixture::{LEASE_SECS, SIZE, Server, at, finished, muid, owner, token, upload},
    },
    statements,
};

database_tests!(empty());

async fn empty() -> (Secret<String>, PostgresDatabase) {
    let url = Secret::new(postgres::database());
    let database = open(&url).await;
    (url, database)
}

async fn open(url: &Secret<String>) -> PostgresDatabase {
    PostgresDatabase::open(&PostgresConfig::new(url.clone())).await.unwrap()
}

async fn run(pool: &PgPool, sql: impl Into<String>) {
    sqlx::raw_sql(AssertSqlSafe(sql.into())).execute(pool).await.unwrap();
}

/// What a query gives, each row as text.
async fn rows_of(pool: &PgPool, sql: &'static str) -> Vec<String> {
    sqlx::query_scalar(sql).fetch_all(pool).await.unwrap()
}

async fn tables(pool: &PgPool) -> Vec<String> {
    rows_of(pool, "SELECT tablename::TEXT FROM pg_tables WHERE schemaname = 'public' ORDER BY 1").await
}

/// All that is to be said of the table `media`.
async fn shape_of_media(pool: &PgPool) -> Vec<String> {
    let columns = "SELECT concat_ws(' ', attnum, attname, format_type(atttypid, atttypmod), attnotnull, \
        attcollation::regcollation, pg_get_expr(adbin, adrelid)) FROM pg_attribute LEFT JOIN pg_attrdef \
        ON adrelid = attrelid AND adnum = attnum WHERE attrelid = 'media'::regclass AND attnum > 0 ORDER BY attnum";
    let constraints = "SELECT conname || ' ' || pg_get_constraintdef(oid) FROM pg_constraint \
        WHERE conrelid = 'media'::regclass ORDER BY conname";
    let indexes = "SELECT indexdef FROM pg_indexes WHERE tablename = 'media' ORDER BY indexname";
    let mut shape = Vec::new();
    for part in [columns, constraints, indexes] {
        shape.extend(rows_of(pool, part).await);
    }
    shape
}

#[tokio::test]
async fn migrates_down_and_up_again() {
    let (_url, database) = empty().await;
    let before = tables(&database.pool).await;
    assert_eq!(
        before,
        [
            "_sluice_backend_migrations",
            "content",
            "key_use",
            "media",
            "paid_retry",
            "paid_upload",
            "paid_upload_counter"
        ]
    );
    let shape = shape_of_media(&database.pool).await;
    migrator().undo(&database.pool, 0).await.unwrap();
    assert_eq!(tables(&database.pool).await, ["_sluice_backend_migrations", "media"]);
    migrator().run(&database.pool).await.unwrap();
    assert_eq!(tables(&database.pool).await, before);
    assert_eq!(shape_of_media(&database.pool).await, shape);
    Server::new(&database).upload(1, 1, Some(&token(1, &[1])), 0).await;
}

#[tokio::test]
async fn rows_that_stand_are_migrated_up_and_down() {
    let (_url, database) = empty().await;
    let server = Server::new(&database);
    let put = async |n: u8, public: bool| {
        let (content, _) = server.begin(None, n.into()).await.unwrap();
        let mut end = finished(content, muid(n), owner(1));
        (end.media.public, end.media.price_sat, end.media.expiry) = (public, 0, Some(at(1_000)));
        (end.media.template, end.media.dimensions) = (true, Some((3, 4)));
        server.commit(&end, n.into()).await.unwrap()
    };
    let media = [put(3, true).await, put(2, false).await, put(1, true).await];
    let (content, picture) = server.begin(None, 0).await.unwrap();
    let drawn = FinishedVariant { content, muid: muid(1), variant: Variant::Thumb, size: 5 };
    database.commit_variant(&drawn, &server.store).await.unwrap();

    migrator().undo(&database.pool, 1).await.unwrap();
    assert_eq!(server.sweep(0).await, [picture], "the old program sweeps what it does not know");
    run(&database.pool, "UPDATE media SET description = 'said before'").await;
    migrator().run(&database.pool).await.unwrap();

    let listing = database.owned(&[owner(1)], &Page::default(), at(0)).await.unwrap();
    let said = |media: &Media| Media { description: "said before".to_owned(), ..media.clone() };
    assert_eq!(listing.media, media.iter().map(said).collect::<Vec<_>>());
    let found = database.search("said", &Page::default(), at(0)).await.unwrap();
    assert_eq!(found.media.iter().map(|media| media.muid).collect::<Vec<_>>(), [muid(3), muid(1)]);
    for n in 1..=3 {
        assert!(server.stored_key(n).await.is_some());
    }
    server.upload(3, 2, None, 0).await;
}

#[test]
fn counts_its_migrations_as_sqlite_does() {
    let versions = |migrator: Migrator| -> Vec<_> {
        migrator.iter().map(|migration| (migration.version, migration.migration_type.is_up_migration())).collect()
    };
    assert_eq!(versions(migrator()), versions(crate::db::sqlite::migrator()));
}

#[tokio::test]
async fn passes_over_what_a_newer_program_migrated_but_not_over_a_change() {
    let (url, database) = empty().await;
    let newer = "INSERT INTO _sluice_backend_migrations (version, description, success, checksum, execution_time) \
        VALUES (9999, 'of a newer program', TRUE, '\\x00', 0)";
    run(&database.pool, newer).await;
    open(&url).await;
    run(&database.pool, "UPDATE _sluice_backend_migrations SET checksum = '\\x00' WHERE version = 1").await;
    let error = PostgresDatabase::open(&PostgresConfig::new(url)).await.unwrap_err();
    assert!(matches!(error, DbError::Migrate(_)) && !error.is_away(), "{error}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_backends_sell_a_use_once() {
    let (url, one) = empty().await;
    let other = open(&url).await;
    let (token, now) = (token(1, &[1]), at(0));
    let begins = (0..100).map(|n| {
        let (database, token) = (if n % 2 == 0 { &one } else { &other }, &token);
        async move { database.begin_upload(&upload(now, Some(token)), now).await }
    });
    let begun = join_all(begins).await;
    assert_eq!(begun.iter().filter(|begun| begun.is_ok()).count(), 1);
    let in_progress = begun.iter().filter(|begun| matches!(begun, Err(BeginError::InProgress))).count();
    assert_eq!(in_progress, 99, "{begun:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sweepers_of_many_backends_end_each_upload_once() {
    let (url, one) = empty().await;
    let others = join_all((0..4).map(|_| open(&url))).await;
    let server = Server::new(&one);
    for n in 0..50 {
        server.begin(Some(&token(n, &[1])), 0).await.unwrap();
    }
    let swept = join_all(others.iter().map(|db| db.discarded(StoreKind::Local, None, 100, at(LEASE_SECS)))).await;
    assert!(swept.iter().all(Result::is_ok), "{swept:?}");
    assert_eq!(server.sweep(LEASE_SECS).await.len(), 50);
    assert_eq!(rows_of(&one.pool, "SELECT content_id::TEXT FROM paid_upload").await, [""; 0]);
}

#[tokio::test]
async fn every_query_finds_its_rows_by_an_index() {
    let (_url, database) = empty().await;
    let mut connection = database.pool.acquire().await.unwrap();
    // In a table of no rows it would rather read them all.
    sqlx::raw_sql("SET enable_seqscan = off; SET plan_cache_mode = force_generic_plan")
        .execute(&mut *connection)
        .await
        .unwrap();
    let steps = || steps(true, false, None).chain(steps(false, true, None));
    let searches = steps().flat_map(|step| [Scan::Newest, Scan::Words].map(|scan| search::class(&step, scan)));
    for sql in searches.chain([true, false].map(search::rare)).chain(
        [
            media::STORED,
            media::LEGACY,
            media::ALL_LEGACY,
            media::FIRST,
            media::OWNED,
            media::TEMPLATES,
            media::EXPIRED,
            media::USAGE,
            media::OWNS_OF_SIZE,
            statements::COUNT,
            statements::STORED_WITH,
            statements::IS_STORING,
            uploads::ENDED_OF_PAYMENT,
            uploads::ENDED,
            uploads::DISCARDED,
            statements::GIVE_BACK_IF_CHARGED,
        ]
        .map(str::to_owned),
    ) {
        let parameters =
            (1..).take_while(|n| sql.contains(&format!("${n}"))).map(|_| "NULL").collect::<Vec<_>>().join(", ");
        let prepare = format!("DEALLOCATE ALL; PREPARE asked AS {sql}");
        sqlx::raw_sql(AssertSqlSafe(prepare)).execute(&mut *connection).await.unwrap();
        let explain = sqlx::raw_sql(AssertSqlSafe(format!("EXPLAIN EXECUTE asked ({parameters})")));
        let plan = explain.fetch_all(&mut *connection).await;
        let steps: Vec<String> = plan.unwrap().iter().map(|step| step.get(0)).collect();
        assert!(!steps.iter().any(|step| step.contains("Seq Scan")), "{sql}\n{steps:#?}");
    }
}
