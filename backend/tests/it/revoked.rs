//! What the gateway's ledger says of a token holds here too, with no gateway in front.

use std::path::PathBuf;

use http::Request;
use sluice_backend::ledger::LedgerConfig;
use sluice_common::{
    keys::{MasterKey, MasterKeys},
    l402::Credential,
    secret::Secret,
};
use sqlx::{AssertSqlSafe, ConnectOptions, Connection, PgConnection, SqliteConnection, sqlite::SqliteConnectOptions};

use crate::support::{Answer, Server, assert_problem, eventually, get, post};

const SQLITE: [&str; 2] = [
    include_str!("../../../migrations/gateway/sqlite/0002_ledger.up.sql"),
    include_str!("../../../migrations/gateway/sqlite/0005_revocation.up.sql"),
];
const POSTGRES: [&str; 2] = [
    include_str!("../../../migrations/gateway/postgres/0002_ledger.up.sql"),
    include_str!("../../../migrations/gateway/postgres/0005_revocation.up.sql"),
];

/// A gateway's ledger, which is made when a test says so.
enum Ledger {
    Sqlite(PathBuf),
    Postgres(String),
}

impl Ledger {
    async fn run(&self, sql: &str) {
        let sql = AssertSqlSafe(sql.to_owned());
        match self {
            Self::Sqlite(path) => {
                let options = SqliteConnectOptions::new().filename(path).create_if_missing(true);
                let mut ledger: SqliteConnection = options.connect().await.unwrap();
                sqlx::raw_sql(sql).execute(&mut ledger).await.unwrap();
                ledger.close().await.unwrap();
            }
            Self::Postgres(url) => {
                let mut ledger = PgConnection::connect(url).await.unwrap();
                sqlx::raw_sql(sql).execute(&mut ledger).await.unwrap();
            }
        }
    }

    async fn make(&self) {
        for sql in if matches!(self, Self::Sqlite(_)) { SQLITE } else { POSTGRES } {
            self.run(sql).await;
        }
    }

    fn bytes(&self, bytes: &[u8]) -> String {
        let hex = hex::encode(bytes);
        if matches!(self, Self::Sqlite(_)) { format!("x'{hex}'") } else { format!("'\\x{hex}'") }
    }

    /// The next change, in one transaction as the gateway makes it.
    async fn change(&self, statement: &str) {
        let next = "UPDATE revocation_change SET last_change = last_change + 1";
        let statement = statement.replace("NEXT", "(SELECT last_change FROM revocation_change)");
        self.run(&format!("BEGIN; {next}; {statement}; COMMIT;")).await;
    }

    async fn revoke(&self, column: &str, value: &str) {
        let row =
            format!("INSERT INTO revocation (change, {column}, revoked_at, reason) VALUES (NEXT, {value}, 1, '')");
        self.change(&row).await;
    }

    async fn undo_all(&self) {
        self.change("UPDATE revocation SET change = NEXT, undone_at = 2 WHERE undone_at IS NULL").await;
    }

    async fn book(&self, payment_hash: &[u8], token_id: &[u8], settled: bool) {
        let (hash, id) = (self.bytes(payment_hash), self.bytes(token_id));
        let settled = if settled { "100, 5, 'node', NULL" } else { "NULL, NULL, NULL, 5" };
        self.run(&format!(
            "DELETE FROM payment; INSERT INTO payment (payment_hash, service, network, token_id, amount_msat, settled_at,
             node, first_used_at) VALUES ({hash}, 'media', 'test-wallet', {id}, {settled})"
        ))
        .await;
    }
}

/// A server beside a ledger in a file, and one on PostgreSQL.
async fn servers() -> [(Server, Ledger); 2] {
    let dir = tempfile::tempdir().unwrap().keep();
    let (path, url) = (dir.join("gateway.db"), sluice_testing::postgres::database());
    let ledgers = [
        (LedgerConfig::Sqlite { path: path.clone() }, Ledger::Sqlite(path)),
        (LedgerConfig::Postgres { url: Secret::new(url.clone()) }, Ledger::Postgres(url)),
    ];
    let mut servers = Vec::new();
    for (config, ledger) in ledgers {
        servers.push((Server::with(|backend| backend.ledger = config).await, ledger));
    }
    servers.try_into().ok().unwrap()
}

async fn state(server: &Server, credential: &Credential) -> Answer {
    server.send(get("/largefile").credential(credential).empty()).await
}

/// Waits until a token is answered so.
async fn becomes(server: &Server, credential: &Credential, status: u16) {
    eventually(async || state(server, credential).await.status == status).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_revoked_token_opens_nothing_on_any_route_until_that_is_undone() {
    for (server, ledger) in servers().await {
        let (credential, other) = (server.credential(&[]), server.credential(&[]));
        let upload = |credential: &Credential| post("/largefile").credential(credential).form(&[], b"file");
        let stored = server.send(upload(&credential)).await;
        assert_eq!(stored.status, 200, "no ledger says nothing: {stored:?}");
        let muid = stored.json()["muid"].as_str().unwrap().to_owned();

        ledger.make().await;
        let hash = ledger.bytes(credential.preimage().payment_hash().as_bytes());
        ledger.revoke("payment_hash", &hash).await;
        becomes(&server, &credential, 401).await;
        let file = format!("/file/{muid}");
        for path in
            ["/largefile", &file, "/mymedia", &format!("/mymedia/{muid}"), &format!("/media/{muid}"), "/templates"]
        {
            let answer = server.send(get(path).credential(&credential).empty()).await;
            assert_problem(&answer, 401, "revoked");
            assert!(answer.headers.get("sluice-payment-required").is_none(), "nobody is asked for money");
        }
        assert_problem(&server.send(upload(&credential)).await, 401, "revoked");
        for method in ["PUT", "DELETE"] {
            let request = Request::builder().method(method).uri(format!("/mymedia/{muid}"));
            let request = request.header("authorization", credential.authorization().expose());
            let request = request.header("content-type", "application/json").body("{}".into()).unwrap();
            assert_problem(&server.send(request).await, 401, "revoked");
        }
        assert_eq!(state(&server, &other).await.status, 200);

        ledger.undo_all().await;
        becomes(&server, &credential, 200).await;
        assert_eq!(server.send(get(&file).credential(&credential).empty()).await.status, 200);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn everything_before_a_date_is_revoked_and_a_start_knows_it_before_it_takes_a_token() {
    for (server, ledger) in servers().await {
        ledger.make().await;
        let now = sluice_common::clock::unix_now();
        let [before, after] = [now - 100, now].map(|minted_at| server.credential_minted_at(minted_at, &[]));
        ledger.revoke("minted_before", &now.to_string()).await;
        becomes(&server, &before, 401).await;
        assert_eq!(state(&server, &after).await.status, 200);

        let server = server.reopened_with(|_| ()).await;
        assert_problem(&state(&server, &before).await, 401, "revoked");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn while_the_ledger_is_away_the_last_view_holds_and_before_the_first_no_token_is_taken() {
    let postgres = sluice_testing::postgres::PostgresServer::start();
    let url = postgres.database();
    let ledger = Ledger::Postgres(url.clone());
    ledger.make().await;
    let config = LedgerConfig::Postgres { url: Secret::new(url) };
    let server = Server::with(|backend| backend.ledger = config).await;
    let (revoked, good) = (server.credential(&[]), server.credential(&[]));
    let hash = ledger.bytes(revoked.preimage().payment_hash().as_bytes());
    ledger.revoke("payment_hash", &hash).await;
    becomes(&server, &revoked, 401).await;

    postgres.stop();
    assert_problem(&state(&server, &revoked).await, 401, "revoked");
    assert_eq!(state(&server, &good).await.status, 200);
    let server = server.reopened_with(|_| ()).await;
    let answer = state(&server, &good).await;
    assert_problem(&answer, 503, "revocations_unknown");
    assert_eq!(answer.header("retry-after"), "5");
    assert_eq!(server.get("/ping").await.status, 200);

    postgres.start_again();
    eventually(async || state(&server, &good).await.status == 200).await;
    assert_problem(&state(&server, &revoked).await, 401, "revoked");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_of_a_retired_key_needs_its_own_payment_in_the_ledger() {
    for (server, ledger) in servers().await {
        let credential = server.credential(&[]);
        let key = |byte| MasterKey::new(&Secret::new([byte; 32]), 0);
        let keys = MasterKeys::new(vec![key(7), key(6).retired()]).unwrap();
        let server = server.reopened_with(|config| config.master_keys = keys).await;
        assert_problem(&state(&server, &credential).await, 503, "settlement_unknown");

        ledger.make().await;
        assert_problem(&state(&server, &credential).await, 401, "not_settled");
        let hash = *credential.preimage().payment_hash().as_bytes();
        let token_id = *credential.macaroon().identifier().unwrap().token_id.as_bytes();
        for (hash, token_id, settled) in [(hash, token_id, false), (hash, [9; 32], true), ([9; 32], token_id, true)] {
            ledger.book(&hash, &token_id, settled).await;
            assert_problem(&state(&server, &credential).await, 401, "not_settled");
        }
        ledger.book(&hash, &token_id, true).await;
        assert_eq!(state(&server, &credential).await.status, 200);
        assert_eq!(state(&server, &server.credential(&[])).await.status, 200, "the new key's need none");
    }
}
