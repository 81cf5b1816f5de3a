//! What PostgreSQL alone must do, and the contract of every database.

use futures_util::future::join_all;
use sluice_testing::postgres;
use sqlx::{AssertSqlSafe, Executor, PgPool, Row};

use super::*;
use crate::db::contract::{
    database_tests,
    fixture::{LEASE_SECS, SIZE, Server, at, finished, muid, owner, token, upload},
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

const ALL_MEDIA: &str = "SELECT media::TEXT FROM media ORDER BY id";

/// A database as a real sphinx-meme left it.
async fn legacy() -> (Secret<String>, PgPool) {
    let url = Secret::new(postgres::database());
    let pool = PgPool::connect_with(connect_options(&url).unwrap()).await.unwrap();
    run(&pool, include_str!("../../../testdata/sphinx-meme/media.sql")).await;
    (url, pool)
}

#[tokio::test]
async fn migrates_down_and_up_again() {
    let (_url, database) = empty().await;
    let before = tables(&database.pool).await;
    assert_eq!(
        before,
        ["_sluice_backend_migrations", "content", "key_use", "media", "paid_upload", "paid_upload_counter"]
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

/// What the real sphinx-meme found, and perhaps more; in another order where several fit equally well: the newest first.
#[tokio::test]
async fn finds_what_sphinx_meme_found() {
    let (url, _legacy) = legacy().await;
    let expected: serde_json::Value =
        serde_json::from_str(include_str!("../../../testdata/sphinx-meme/expected.json")).unwrap();
    let database = open(&url).await;
    for (term, found) in expected["search"].as_object().unwrap() {
        let expected: Vec<_> = found.as_array().unwrap().iter().map(|media| media["muid"].as_str().unwrap()).collect();
        let listing = database.search(term, &Page { limit: Some(12), after: None }, at(0)).await.unwrap();
        let found: Vec<_> = listing.media.iter().map(|media| media.muid.to_string()).collect();
        assert!(expected.iter().all(|muid| found.iter().any(|found| found == muid)), "{term}: {found:?} {expected:?}");
    }
    // More than before: tags are words.
    let one = database.search("two", &Page::default(), at(0)).await.unwrap();
    assert_eq!(one.media.iter().map(|media| media.name.as_str()).collect::<Vec<_>>(), ["Exact"]);
    // Where the operator closes what nobody spoke of, only what is for sale is found.
    let closed = PostgresConfig { legacy_public: false, ..PostgresConfig::new(url.clone()) };
    let closed = PostgresDatabase::open(&closed).await.unwrap();
    let found = closed.search("green or exact or tall", &Page::default(), at(0)).await.unwrap();
    assert!(!found.media.is_empty() && found.media.iter().all(|media| media.price_sat > 0), "{found:?}");
}

#[tokio::test]
async fn takes_the_longest_texts_that_a_sphinx_meme_left() {
    let url = Secret::new(postgres::database());
    let pool = PgPool::connect_with(connect_options(&url).unwrap()).await.unwrap();
    run(&pool, include_str!("../../../testdata/sphinx-meme/media.sql")).await;
    run(
        &pool,
        "UPDATE media SET name = repeat('n', 3000000), \
            description = (SELECT string_agg(md5(i::TEXT), ' ') FROM generate_series(1, 100000) AS i), \
            tags = ARRAY[repeat('t ', 2000000), NULL, ''], tsv = NULL",
    )
    .await;
    let database = open(&url).await;
    assert_eq!(
        database.search("c4ca4238a0b923820dcc509a6f75849b", &Page::default(), at(0)).await.unwrap().media.len(),
        7
    );
}

#[test]
fn counts_its_migrations_as_sqlite_does() {
    let versions = |migrator: Migrator| -> Vec<_> {
        migrator.iter().map(|migration| (migration.version, migration.migration_type.is_up_migration())).collect()
    };
    assert_eq!(versions(migrator()), versions(crate::db::sqlite::migrator()));
}

#[tokio::test]
async fn adopts_the_table_of_sphinx_meme_and_gives_it_back() {
    let (url, legacy) = legacy().await;
    let (rows, shape) = (rows_of(&legacy, ALL_MEDIA).await, shape_of_media(&legacy).await);
    assert_eq!(rows.len(), 7);
    let look = async |url: &Secret<String>| PostgresDatabase::look(&PostgresConfig::new(url.clone())).await.unwrap();
    assert_eq!(look(&url).await, PostgresState::Legacy);
    assert_eq!(look(&Secret::new(postgres::database())).await, PostgresState::Empty);
    let database = open(&url).await;
    assert_eq!(look(&url).await, PostgresState::Ours);
    assert_eq!(database.of_unknown_publicity().await.unwrap(), 7);
    let copies = database.legacy_copies(None, 100).await.unwrap();
    assert_eq!(copies.len(), 7);
    assert_eq!(database.legacy_copies(Some(copies[1].id), 3).await.unwrap(), copies[2..5]);
    for copy in &copies {
        assert_eq!(copy.store_key.as_str(), copy.muid.to_string());
        assert_eq!(copy.nonce.as_deref().map(str::len), Some(64));
        assert_eq!(database.legacy_copy(copy.muid).await.unwrap().as_ref(), Some(copy));
        assert_eq!(database.content(copy.muid, Variant::File).await.unwrap(), None);
        assert!(database.media(copy.muid, &[], at(0)).await.unwrap().unwrap().public);
    }
    // No row of it is ever swept.
    assert_eq!(database.discarded(StoreKind::Local, None, 100, at(1_000_000_000)).await.unwrap(), []);

    // In the same shape as a database that begins with us.
    let (_url, fresh) = empty().await;
    assert_eq!(shape_of_media(&database.pool).await, shape_of_media(&fresh.pool).await);

    let sealing = Sealing { nonce: [7; 32], key_fingerprint: "0123abcd".to_owned() };
    database.adopt(copies[0].id, StoreKind::Local, None, 1).await.unwrap();
    database.adopt(copies[1].id, StoreKind::Local, Some(&sealing), 1).await.unwrap();
    migrator().undo(&database.pool, 0).await.unwrap();
    assert_eq!(shape_of_media(&legacy).await, shape);
    let back = rows_of(&legacy, ALL_MEDIA).await;
    let changed = back.iter().zip(&rows).filter(|(back, before)| back != before).count();
    assert_eq!((back.len(), changed), (7, 1), "only the nonce that the test changed\n{back:#?}\n{rows:#?}");
}

#[tokio::test]
async fn gives_no_table_back_in_which_two_owners_have_one_file() {
    let (url, legacy) = legacy().await;
    let database = open(&url).await;
    let server = Server::new(&database);
    for (n, owners) in [(1, 3), (2, 2), (3, 1)] {
        for who in 1..=owners {
            server.upload(n, who, None, 0).await;
        }
    }
    let before = tables(&legacy).await;
    // On a connection of its own, which has the migrator's lock until it is closed.
    let mut connection = database.pool.acquire().await.unwrap().detach();
    let error = migrator().undo(&mut connection, 0).await.unwrap_err();
    connection.close().await.unwrap();
    assert!(error.to_string().contains("2 files have more than one owner"), "{error}");
    assert_eq!(tables(&legacy).await, before);
    assert_eq!(server.owned(1, 2).await.unwrap().size, SIZE);

    run(&legacy, format!("DELETE FROM media WHERE owner_pub_key IN ('{}', '{}')", owner(2), owner(3))).await;
    migrator().undo(&database.pool, 0).await.unwrap();
    assert_eq!(rows_of(&legacy, ALL_MEDIA).await.len(), 10);
}

#[tokio::test]
async fn takes_rows_with_holes() {
    let (url, legacy) = legacy().await;
    let ids: Vec<String> = (1..=3).map(|n| muid(n).to_string()).collect();
    // The table of an early sphinx-meme.
    run(&legacy, "ALTER TABLE media DROP template, DROP width, DROP height").await;
    for (id, nonce) in ids.iter().zip(["NULL", "''", "'no hex'"]) {
        let row = format!("INSERT INTO media (id, owner_pub_key, nonce, size) VALUES ('{id}', 'me', {nonce}, -1)");
        run(&legacy, row).await;
    }
    run(&legacy, format!("UPDATE media SET size = NULL, tags = '{{NULL,a}}' WHERE id = '{}'", ids[0])).await;
    let database = open(&url).await;
    for n in 1..=3 {
        let media = database.media(muid(n), &[], at(0)).await.unwrap().unwrap();
        assert_eq!((media.name.as_str(), media.price_sat, media.ttl_secs, media.size), ("", 0, 0, 0));
        assert_eq!((media.filename.as_str(), media.mime.as_str(), media.expiry), ("", "", None));
        assert_eq!((media.created.unix_timestamp(), media.width, media.template), (0, None, false));
        assert_eq!(media.tags, if n == 1 { vec!["a"] } else { vec![] });
    }
    for (n, nonce) in [(1, None), (2, Some("")), (3, Some("no hex"))] {
        assert_eq!(database.legacy_copy(muid(n)).await.unwrap().unwrap().nonce.as_deref(), nonce);
    }
    // Only where nobody said a size.
    let copy = database.legacy_copy(muid(1)).await.unwrap().unwrap();
    database.adopt(copy.id, StoreKind::Local, None, 77).await.unwrap();
    database.adopt(copy.id, StoreKind::Local, None, 99).await.unwrap();
    assert_eq!(database.media(muid(1), &[], at(0)).await.unwrap().unwrap().size, 77);
    assert_eq!(database.content(muid(1), Variant::File).await.unwrap().unwrap().size, 77);
    assert_eq!(database.legacy_copy(muid(1)).await.unwrap(), None);
}

#[tokio::test]
async fn refuses_a_table_of_something_else_and_changes_nothing() {
    let (url, legacy) = legacy().await;
    let before = rows_of(&legacy, ALL_MEDIA).await;
    run(&legacy, "INSERT INTO media (id, owner_pub_key) VALUES ('junk', 'me')").await;
    let error = PostgresDatabase::open(&PostgresConfig::new(url)).await.unwrap_err();
    assert!(error.to_string().contains("1 rows whose id is that of no file, for example \"junk\""), "{error}");
    assert!(!error.is_away());
    assert_eq!(tables(&legacy).await, ["_sluice_backend_migrations", "media"]);
    assert_eq!(rows_of(&legacy, ALL_MEDIA).await.len(), before.len() + 1);
}

#[tokio::test]
async fn what_sphinx_meme_did_not_know_is_as_the_setting_says() {
    let (url, legacy) = legacy().await;
    open(&url).await;
    let config = PostgresConfig { legacy_public: false, ..PostgresConfig::new(url) };
    let database = PostgresDatabase::open(&config).await.unwrap();
    let copies = database.legacy_copies(None, 100).await.unwrap();
    run(&legacy, format!("UPDATE media SET public = TRUE WHERE muid = '{}'", copies[0].muid)).await;
    for copy in &copies {
        let media = database.media(copy.muid, &[], at(0)).await.unwrap().unwrap();
        assert_eq!(media.public, copy.muid == copies[0].muid);
        let owned = database.owned(&[media.owner], &Page::default(), at(0)).await.unwrap().media;
        assert!(owned.iter().all(|media| media.public == (media.muid == copies[0].muid)), "{owned:#?}");
    }
    assert_eq!(database.of_unknown_publicity().await.unwrap(), 6);
}

#[tokio::test]
async fn an_upload_takes_the_place_of_a_copy_that_was_not_adopted() {
    let (url, legacy) = legacy().await;
    let database = open(&url).await;
    let copy = database.legacy_copies(None, 1).await.unwrap().remove(0);
    let server = Server::new(&database);
    let (content, key) = server.begin(None, 0).await.unwrap();
    server.commit(&finished(content, copy.muid, owner(1)), 0).await.unwrap();
    assert_eq!(database.content(copy.muid, Variant::File).await.unwrap().unwrap().store_key, key);
    assert_eq!(database.legacy_copy(copy.muid).await.unwrap(), None);
    database.adopt(copy.id, StoreKind::Local, None, 1).await.unwrap();
    assert_eq!(server.sweep(0).await, [copy.store_key]);
    // The old owner's row is as it was, and still open.
    assert_eq!(rows_of(&legacy, "SELECT muid FROM media WHERE public IS NULL").await.len(), 7);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn several_that_start_at_once_all_start() {
    let (url, _legacy) = legacy().await;
    let all = join_all((0..5).map(|_| open(&url))).await;
    for database in all {
        assert_eq!(database.legacy_copies(None, 100).await.unwrap().len(), 7);
    }
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
    for sql in [
        media::STORED,
        media::LEGACY,
        media::ALL_LEGACY,
        media::FIRST,
        media::OWNED,
        media::TEMPLATES,
        media::EXPIRED,
        media::USAGE,
        media::OWNS_OF_SIZE,
        search::SEARCH,
        search::SEARCH_NEWEST,
        search::SEARCH_ALL,
        uploads::COUNT,
        uploads::STORED_WITH,
        uploads::ENDED_OF_PAYMENT,
        uploads::ENDED,
        uploads::DISCARDED,
        uploads::GIVE_BACK_IF_CHARGED,
    ] {
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

#[tokio::test]
async fn every_connection_is_set_up() {
    let url = Secret::new(postgres::database());
    let config = PostgresConfig { statement_timeout: Duration::from_millis(300), ..PostgresConfig::new(url) };
    let database = PostgresDatabase::open(&config).await.unwrap();
    let slow = sqlx::query("SELECT pg_sleep(60)").execute(&database.pool).await.unwrap_err();
    assert!(DbError::from(slow).is_away());
    // Whoever holds a lock and does nothing loses it.
    let mut holder = database.pool.begin().await.unwrap();
    holder.execute("LOCK TABLE key_use").await.unwrap();
    while let Err(error) = database.keys_in_use().await {
        assert!(error.is_away(), "{error}");
    }
    assert!(holder.execute("SELECT 1").await.is_err());
}

#[tokio::test]
async fn says_why_it_cannot_be_opened_and_no_password() {
    for (url, away) in [
        ("mysql://u:hunter2@h/d", false),
        ("postgres://u:hunter2@h:port/d", false),
        ("postgres://u:hunter2@localhost:1/d", true),
        ("postgres://u:hunter2@nobody.invalid/d", true),
    ] {
        let config = PostgresConfig::new(Secret::new(url.to_owned()));
        let error = PostgresDatabase::open(&config).await.unwrap_err();
        assert!(!format!("{error} {error:?}").contains("hunter2"), "{error:?}");
        assert_eq!(error.is_away(), away, "{error:?}");
        assert_eq!(matches!(error, DbError::Url), !away, "{error:?}");
    }
    let nowhere = postgres::database().replace("/test_", "/no_");
    let error = PostgresDatabase::open(&PostgresConfig::new(Secret::new(nowhere))).await.unwrap_err();
    assert!(!error.is_away() && error.to_string().contains("does not exist"), "{error}");
}

#[tokio::test]
async fn tls_is_as_the_url_says() {
    // As `main` does: sqlx brings ring and the S3 client aws-lc, and rustls does not choose.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let testdata = concat!(env!("CARGO_MANIFEST_DIR"), "/testdata/postgres-tls");
    let pem = |name: &str| std::fs::read_to_string(format!("{testdata}/{name}")).unwrap();
    let (server, port) = postgres::PostgresServer::start_with_tls(&pem("server.pem"), &pem("server.key"));
    let database = server.database();
    let name = database.split_once('?').unwrap().0.rsplit_once('/').unwrap().1;
    let open = async |host: &str, query: &str| {
        let url = format!("postgres://postgres@{host}:{port}/{name}?{query}");
        PostgresDatabase::open(&PostgresConfig::new(Secret::new(url))).await
    };
    // The certificate is for localhost.
    for (host, query, encrypted) in [
        ("localhost", format!("sslmode=verify-full&sslrootcert={testdata}/ca.pem"), true),
        ("127.0.0.1", format!("sslmode=verify-ca&sslrootcert={testdata}/ca.pem"), true),
        ("127.0.0.1", "sslmode=require".to_owned(), true),
        ("127.0.0.1", String::new(), true),
        ("127.0.0.1", "sslmode=disable".to_owned(), false),
    ] {
        let database = open(host, &query).await.unwrap_or_else(|error| panic!("{host} {query}: {error}"));
        let ssl = sqlx::query_scalar("SELECT ssl FROM pg_stat_ssl WHERE pid = pg_backend_pid()");
        assert_eq!(ssl.fetch_one(&database.pool).await.ok(), Some(encrypted), "{host} {query}");
    }
    for (host, query) in [
        ("127.0.0.1", format!("sslmode=verify-full&sslrootcert={testdata}/ca.pem")),
        ("localhost", format!("sslmode=verify-full&sslrootcert={testdata}/other-ca.pem")),
        ("localhost", "sslmode=verify-ca".to_owned()),
    ] {
        let error = open(host, &query).await.expect_err(&query);
        assert!(error.to_string().contains("certificate"), "{host} {query}: {error}");
        // Nobody is to wait for what does not mend itself.
        assert!(!error.is_away(), "{host} {query}: {error:?}");
    }
    let error = open("localhost", "sslmode=verify-full&sslrootcert=/nowhere.pem").await.unwrap_err();
    assert!(!error.is_away() && error.to_string().contains("/nowhere.pem"), "{error:?}");
}
