//! Connections, what becomes of them, and a server that is not always there.

use std::sync::Arc;

use sluice_testing::postgres::PostgresServer;
use tokio::{task::spawn_blocking, time::Instant};

use super::*;

const TLS_TESTDATA: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/testdata/postgres-tls");

fn pem(name: &str) -> String {
    std::fs::read_to_string(format!("{TLS_TESTDATA}/{name}")).unwrap()
}

/// The name of the database that a URL names.
fn name_of(url: &str) -> &str {
    url.split_once('?').unwrap().0.rsplit_once('/').unwrap().1
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
    let testdata = TLS_TESTDATA;
    let (server, port) = PostgresServer::start_with_tls(&pem("server.pem"), &pem("server.key"));
    let database = server.database();
    let name = name_of(&database);
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

/// A server of the test's own, and a database in it. Whoever connects while it is away is refused.
async fn own() -> (Arc<PostgresServer>, PostgresDatabase) {
    let (server, port) = PostgresServer::start_with_tls(&pem("server.pem"), &pem("server.key"));
    let url = format!("postgres://postgres@127.0.0.1:{port}/{}?sslmode=disable", name_of(&server.database()));
    let config = PostgresConfig { acquire_timeout: Duration::from_secs(4), ..PostgresConfig::new(Secret::new(url)) };
    (Arc::new(server), PostgresDatabase::open(&config).await.unwrap())
}

#[tokio::test]
async fn while_it_is_known_to_be_away_nobody_waits_but_who_ends_an_upload() {
    let (server, database) = own().await;
    let (content, _) = Server::new(&database).begin(None, 0).await.unwrap();
    server.stop();
    while !matches!(database.keys_in_use().await, Err(DbError::Away)) {}
    let asked = Instant::now();
    for answer in join_all((0..100).map(|_| database.keys_in_use())).await {
        let error = answer.unwrap_err();
        assert!(matches!(error, DbError::Away) && error.is_away(), "{error}");
    }
    let begun = database.begin_upload(&upload(at(0), None), at(0)).await;
    assert!(matches!(begun, Err(BeginError::Db(DbError::Away))), "{begun:?}");
    assert!(asked.elapsed() < Duration::from_secs(1), "{:?}", asked.elapsed());

    let renewed = database.renew_lease(content, at(1_000));
    tokio::pin!(renewed);
    assert!(futures_util::poll!(renewed.as_mut()).is_pending());
    let again = Arc::clone(&server);
    let starting = spawn_blocking(move || again.start_again());
    assert!(renewed.await.unwrap());
    starting.await.unwrap();
    // Which everybody knows from then on.
    database.keys_in_use().await.unwrap();
}

#[tokio::test]
async fn is_found_back_although_nobody_asks() {
    let (server, database) = own().await;
    server.stop();
    while !matches!(database.keys_in_use().await, Err(DbError::Away)) {}
    server.start_again();
    let back = async {
        while database.outage.is_known() {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    timeout(Duration::from_secs(30), back).await.expect("it is found back");
    database.keys_in_use().await.unwrap();
}

#[tokio::test]
async fn one_that_is_only_busy_is_not_away() {
    let config = PostgresConfig {
        max_connections: 1,
        acquire_timeout: Duration::from_millis(200),
        ..PostgresConfig::new(Secret::new(postgres::database()))
    };
    let database = PostgresDatabase::open(&config).await.unwrap();
    let held = database.pool.acquire().await.unwrap();
    for _ in 0..3 {
        let error = database.keys_in_use().await.unwrap_err();
        assert!(matches!(error, DbError::Sqlx(sqlx::Error::PoolTimedOut)), "{error:?}");
    }
    drop(held);
    database.keys_in_use().await.unwrap();
}
