//! What SQLite alone must do, and the contract of every database.

use std::{
    fs,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
};

use futures_util::future::join_all;
use sqlx::{AssertSqlSafe, Row, SqlitePool};
use tempfile::TempDir;
use tokio::time::Instant;

use super::{SqliteDatabase, media, migrate, migrator, search, uploads};
use crate::db::{
    BeginError, ContentId, Database, DbError, FinishedVariant, Media, Page, Variant,
    contract::{
        database_tests,
        fixture::{LEASE_SECS, Server, at, finished, muid, owner, token, upload},
    },
    statements,
};

database_tests!(empty());

async fn empty() -> (TempDir, SqliteDatabase) {
    let folder = tempfile::tempdir().unwrap();
    let database = SqliteDatabase::open(&path(&folder)).await.unwrap();
    (folder, database)
}

/// A name that means something to a shell, to SQLite's URIs and to SQL, and nothing here.
fn path(folder: &TempDir) -> PathBuf {
    folder.path().join("a 'file'?mode=ro#%20.db")
}

/// What a crash of the machine at this moment would leave of the database: its files as they are, still open.
async fn crash(folder: &TempDir) -> (TempDir, SqliteDatabase) {
    let left = tempfile::tempdir().unwrap();
    for file in fs::read_dir(folder.path()).unwrap() {
        let name = file.unwrap().file_name();
        if !name.to_string_lossy().ends_with("-shm") {
            fs::copy(folder.path().join(&name), left.path().join(&name)).unwrap();
        }
    }
    let database = SqliteDatabase::open(&path(&left)).await.unwrap();
    (left, database)
}

async fn tables(pool: &SqlitePool) -> Vec<String> {
    let names = "SELECT name FROM sqlite_schema WHERE type = 'table' AND name NOT LIKE 'sqlite_%' ORDER BY name";
    sqlx::query_scalar(names).fetch_all(pool).await.unwrap()
}

#[tokio::test]
async fn keeps_what_it_has_in_a_file_for_this_user_only() {
    let (folder, database) = empty().await;
    Server::new(&database).upload(1, 1, None, 0).await;
    for file in fs::read_dir(folder.path()).unwrap() {
        let file = file.unwrap();
        assert_eq!(file.metadata().unwrap().permissions().mode() & 0o777, 0o600, "{:?}", file.file_name());
    }
    database.close().await;
    assert!(database.keys_in_use().await.is_err());
    // Nothing beside it any more.
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
    let database = SqliteDatabase::open(&path(&folder)).await.unwrap();
    assert!(database.content(muid(1), Variant::File).await.unwrap().is_some());
    assert!(SqliteDatabase::open(Path::new("/nowhere/file.db")).await.is_err());
}

#[tokio::test]
async fn every_connection_is_set_up() {
    let (_folder, database) = empty().await;
    for (pool, query_only) in [(&database.writer, 0), (&database.readers, 1)] {
        // synchronous: 2 is FULL.
        for (pragma, value) in [("foreign_keys", 1), ("synchronous", 2), ("busy_timeout", 10_000)] {
            let query = AssertSqlSafe(format!("PRAGMA {pragma}"));
            assert_eq!(sqlx::query_scalar::<_, i64>(query).fetch_one(pool).await.unwrap(), value, "{pragma}");
        }
        assert_eq!(sqlx::query_scalar::<_, i64>("PRAGMA query_only").fetch_one(pool).await.unwrap(), query_only);
        assert_eq!(sqlx::query_scalar::<_, String>("PRAGMA journal_mode").fetch_one(pool).await.unwrap(), "wal");
    }
}

#[tokio::test]
async fn migrates_down_and_up_again() {
    let (_folder, database) = empty().await;
    let before = tables(&database.writer).await;
    assert!(before.contains(&"content".to_owned()), "{before:?}");
    migrator().undo(&database.writer, 0).await.unwrap();
    assert_eq!(tables(&database.writer).await, ["_sluice_backend_migrations"]);
    migrate(&database.writer).await.unwrap();
    assert_eq!(tables(&database.writer).await, before);
    Server::new(&database).upload(1, 1, Some(&token(1, &[1])), 0).await;
}

#[tokio::test]
async fn rows_that_stand_are_migrated_up_and_down() {
    let (_folder, database) = empty().await;
    let server = Server::new(&database);
    let put = async |n: u8, public: bool| {
        let (content, _) = server.begin(None, n.into()).await.unwrap();
        let mut end = finished(content, muid(n), owner(1));
        (end.media.public, end.media.price_sat, end.media.expiry) = (public, 0, Some(at(1_000)));
        (end.media.template, end.media.dimensions) = (true, Some((3, 4)));
        server.commit(&end, n.into()).await.unwrap()
    };
    let media = [put(1, true).await, put(2, false).await, put(3, true).await];
    let (content, picture) = server.begin(None, 0).await.unwrap();
    let drawn = FinishedVariant { content, muid: muid(1), variant: Variant::Thumb, size: 5 };
    database.commit_variant(&drawn, &server.store).await.unwrap();

    migrator().undo(&database.writer, 1).await.unwrap();
    assert_eq!(server.sweep(0).await, [picture], "the old program sweeps what it does not know");
    let columns = "SELECT group_concat(name) FROM pragma_table_info('media')";
    let columns: String = sqlx::query_scalar(columns).fetch_one(&database.writer).await.unwrap();
    assert!(columns.starts_with("muid,owner_pub_key,name"), "{columns}");
    // A row of the old program's.
    sqlx::query("UPDATE media SET description = 'said before' WHERE name LIKE 'Ein%'")
        .execute(&database.writer)
        .await
        .unwrap();
    migrate(&database.writer).await.unwrap();

    let listing = database.owned(&[owner(1)], &Page::default(), at(0)).await.unwrap();
    let expected: Vec<_> =
        media.iter().rev().map(|media| Media { description: "said before".to_owned(), ..media.clone() }).collect();
    assert_eq!(listing.media, expected);
    let found = database.search("said", &Page::default(), at(0)).await.unwrap();
    assert_eq!(found.media.iter().map(|media| media.muid).collect::<Vec<_>>(), [muid(3), muid(1)]);
    for n in 1..=3 {
        assert!(server.stored_key(n).await.is_some());
    }
    server.upload(3, 2, None, 0).await;
}

#[tokio::test]
async fn a_search_finds_its_rows_after_a_vacuum() {
    let (_folder, database) = empty().await;
    let server = Server::new(&database);
    for n in 1..=3 {
        server.upload(n, 1, None, 0).await;
    }
    database.delete_media(muid(1), &owner(1)).await.unwrap();
    sqlx::query("VACUUM").execute(&database.writer).await.unwrap();
    let found = database.search("name", &Page::default(), at(0)).await.unwrap();
    assert_eq!(found.media.len(), 2);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_that_start_at_once_both_start() {
    for _ in 0..20 {
        let folder = tempfile::tempdir().unwrap();
        let open = || {
            let path = path(&folder);
            tokio::spawn(async move { SqliteDatabase::open(&path).await })
        };
        let (one, other) = tokio::join!(open(), open());
        let (one, other) = (one.unwrap().unwrap(), other.unwrap().unwrap());
        Server::new(&one).upload(1, 1, None, 0).await;
        assert!(other.content(muid(1), Variant::File).await.unwrap().is_some());
    }
}

#[tokio::test]
async fn passes_over_what_a_newer_program_migrated_but_not_over_a_change() {
    let (folder, database) = empty().await;
    let newer = "INSERT INTO _sluice_backend_migrations (version, description, success, checksum, execution_time) \
        VALUES (9999, 'of a newer program', TRUE, x'00', 0)";
    sqlx::query(newer).execute(&database.writer).await.unwrap();
    database.close().await;
    let database = SqliteDatabase::open(&path(&folder)).await.unwrap();
    let changed = "UPDATE _sluice_backend_migrations SET checksum = x'00' WHERE version = 1";
    sqlx::query(changed).execute(&database.writer).await.unwrap();
    database.close().await;
    assert!(SqliteDatabase::open(&path(&folder)).await.is_err());
}

#[tokio::test]
async fn a_crash_between_begin_and_commit_costs_nobody_a_use() {
    let (folder, database) = empty().await;
    let token = token(1, &[1]);
    let (lost, key) = Server::new(&database).begin(Some(&token), 0).await.unwrap();
    let (_left, database) = crash(&folder).await;
    let server = Server::new(&database);
    assert!(matches!(server.begin(Some(&token), 1).await, Err(BeginError::InProgress)));
    server.upload(1, 1, Some(&token), LEASE_SECS).await;
    assert_eq!(server.sweep(LEASE_SECS).await, [key]);
    assert!(server.commit(&finished(lost, muid(2), owner(1)), LEASE_SECS).await.is_err());
}

#[tokio::test]
async fn what_was_committed_survives_a_crash() {
    let (folder, database) = empty().await;
    let server = Server::new(&database);
    let token = token(1, &[9]);
    for n in 1..=3 {
        let key = server.upload(n, 1, Some(&token), 0).await;
        let (_left, database) = crash(&folder).await;
        let after = Server::new(&database);
        assert_eq!(after.stored_key(n).await, Some(key));
        assert_eq!(after.uses(&token, 0).await, [(n.into(), 0)]);
        assert!(after.owned(n, 1).await.is_some());
    }
}

#[tokio::test]
async fn two_processes_sell_a_use_once() {
    let (folder, one) = empty().await;
    let other = SqliteDatabase::open(&path(&folder)).await.unwrap();
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

#[tokio::test]
async fn writes_again_after_sqlite_ended_a_transaction_itself() {
    let (_folder, db) = empty().await;
    let mut transaction = db.begin().await.unwrap();
    // As SQLite does where the disk is full: sqlx takes the transaction for open, and cannot roll it back.
    sqlx::query("ROLLBACK").execute(&mut *transaction).await.unwrap();
    drop(transaction);
    Server::new(&db).begin(None, 0).await.unwrap();
}

#[tokio::test]
async fn who_waits_for_the_writer_can_try_again_before_a_lease_is_over() {
    let (_folder, db) = empty().await;
    let _transaction = db.begin().await.unwrap();
    tokio::time::pause();
    let start = Instant::now();
    let renewed = db.renew_lease(ContentId(1), at(0)).await;
    assert!(matches!(renewed, Err(DbError::Sqlx(sqlx::Error::PoolTimedOut))), "{renewed:?}");
    assert!(start.elapsed() < crate::upload::LEASE / 3);
}

#[tokio::test]
async fn a_file_keeps_what_it_earned() {
    let (_folder, database) = empty().await;
    let server = Server::new(&database);
    server.upload(1, 1, None, 0).await;
    let earned = "UPDATE media SET total_sats = 42, total_buys = 2, template = 1, width = 3, height = 4";
    sqlx::query(earned).execute(&database.writer).await.unwrap();
    server.upload(1, 1, None, 10).await;
    let media = server.owned(1, 1).await.unwrap();
    assert_eq!((media.total_sats, media.total_buys, media.template), (42, 2, true));
    assert_eq!((media.width, media.height), (Some(3), Some(4)));
    assert_eq!((media.created, media.updated), (at(0), at(10)));
}

#[tokio::test]
async fn says_which_column_cannot_be_read() {
    let (_folder, database) = empty().await;
    Server::new(&database).upload(1, 1, None, 0).await;
    sqlx::query("UPDATE content SET nonce = 'junk'").execute(&database.writer).await.unwrap();
    let error = database.content(muid(1), Variant::File).await.unwrap_err();
    assert_eq!(error.to_string(), "the database holds a row that cannot be read: nonce");
}

#[tokio::test]
async fn what_another_kind_of_store_gives_up_hides_nothing() {
    let (_folder, database) = empty().await;
    let server = Server::new(&database);
    let (lost, _) = server.begin(None, 0).await.unwrap();
    database.abandon_upload(lost).await.unwrap();
    sqlx::query("UPDATE content SET store = 'of a newer program'").execute(&database.writer).await.unwrap();
    let (_, key) = server.begin(None, 0).await.unwrap();
    assert_eq!(server.sweep(LEASE_SECS).await, [key]);
}

#[tokio::test]
async fn every_query_finds_its_rows_by_an_index() {
    let (_folder, database) = empty().await;
    for sql in [
        media::STORED,
        media::FIRST,
        media::OWNED,
        media::TEMPLATES,
        media::EXPIRED,
        media::USAGE,
        media::OWNS_OF_SIZE,
        search::SEARCH,
        search::COUNT,
        statements::COUNT,
        statements::STORED_WITH,
        uploads::ENDED_OF_PAYMENT,
        uploads::ENDED,
        uploads::DISCARDED,
        statements::GIVE_BACK_IF_CHARGED,
    ] {
        let plan = sqlx::query(AssertSqlSafe(format!("EXPLAIN QUERY PLAN {sql}"))).fetch_all(&database.writer).await;
        let steps: Vec<String> = plan.unwrap().iter().map(|step| step.get("detail")).collect();
        // A count reads what was found.
        let table_scan = |step: &String| {
            step.starts_with("SCAN") && !["INDEX", "VIRTUAL", "SCAN ("].iter().any(|few| step.contains(few))
        };
        assert!(!steps.iter().any(table_scan), "{sql}\n{steps:#?}");
        assert!(steps.iter().any(|step| step.contains("INDEX") || step.contains("PRIMARY KEY")), "{sql}\n{steps:#?}");
    }
}

#[tokio::test]
async fn says_what_to_do_about_a_file_that_is_no_database() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("backend.db");
    std::fs::write(&path, [0xaa; 8_192]).unwrap();
    let error = SqliteDatabase::open(&path).await.unwrap_err().to_string();
    assert!(error.contains("backend.db is damaged, or no database: restore it from the backup"), "{error}");
}
