//! The media server on PostgreSQL, which is not always there.

use reqwest::{Response, StatusCode};
use serde_json::Value;
use sluice_testing::postgres::{self, PostgresServer};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

use crate::support::{MIB, SINGLE_USE, Sluice, authorized, bytes, eventually, form, raw};

/// Configuration with the media server's rows there, and little patience.
fn on(url: &str) -> String {
    format!("{SINGLE_USE}\n[backend]\ndatabase_url = \"{url}\"\ndatabase_acquire_timeout_secs = 1")
}

/// Asserts that an answer says that the database is away, and when to come again.
async fn assert_is_away(answer: Response) {
    assert_eq!(answer.status(), StatusCode::SERVICE_UNAVAILABLE);
    assert_eq!(answer.headers()["retry-after"], "5");
    assert!(answer.headers().get("www-authenticate").is_none(), "nobody is asked for money");
    let problem: Value = answer.json().await.unwrap();
    assert_eq!(problem["code"], "database_unavailable", "{problem}");
}

impl Sluice {
    async fn can_store(&self, credential: &sluice_common::l402::Credential) -> Option<()> {
        let answer = authorized(self.get("/largefile"), credential).send().await.unwrap();
        if answer.status() != StatusCode::OK {
            assert_is_away(answer).await;
            return None;
        }
        (answer.json::<Value>().await.unwrap()["can_store"] == true).then_some(())
    }
}

#[tokio::test]
async fn a_database_that_goes_away_and_comes_back_costs_nobody_anything() {
    let server = PostgresServer::start();
    let url = server.database().replace("postgres@", "postgres:hunter2hunter2@");
    let mut sluice = Sluice::start_with(&on(&url)).await;
    sluice.is_secret("hunter2hunter2");
    let file = bytes(MIB, 1);
    let (first, second) = (sluice.buy().await, sluice.buy().await);
    let stored = sluice.upload(&first, &file).await;
    assert_eq!(stored.status(), StatusCode::OK);
    let muid = stored.json::<Value>().await.unwrap()["muid"].as_str().unwrap().to_owned();

    for _ in 0..2 {
        server.stop();
        assert_is_away(sluice.upload(&second, &file).await).await;
        // Used up or not, nobody knows: what was stored is sent again, or something else.
        for content in [&file, &b"another"[..]] {
            assert_is_away(sluice.upload(&first, content).await).await;
        }
        assert_is_away(authorized(sluice.get(&format!("/file/{muid}")), &first).send().await.unwrap()).await;
        assert_is_away(sluice.get(&format!("/public/{muid}")).send().await.unwrap()).await;
        assert_eq!(sluice.get("/ping").send().await.unwrap().status(), StatusCode::OK);
        server.start_again();
        eventually("it is back", async || sluice.can_store(&second).await).await;
        let again = sluice.upload(&first, &file).await;
        assert_eq!(again.status(), StatusCode::OK);
        assert_eq!(again.json::<Value>().await.unwrap()["muid"], muid);
    }
    assert_eq!(sluice.upload(&second, &file).await.status(), StatusCode::OK);
    for credential in [&first, &second] {
        let answer = authorized(sluice.get(&format!("/file/{muid}")), credential).send().await.unwrap();
        assert!(answer.bytes().await.unwrap() == file, "not the bytes that were sent");
    }
    assert_eq!(sluice.stored_files().len(), 1);

    // Nor does it matter at a start: it waits.
    sluice.stop().await;
    server.stop();
    sluice.start_again().await;
    assert_eq!(sluice.get("/ping").send().await.unwrap().status(), StatusCode::OK);
    assert_is_away(sluice.get(&format!("/public/{muid}")).send().await.unwrap()).await;
    assert_is_away(sluice.upload(&first, &file).await).await;
    server.start_again();
    eventually("it has started", async || {
        let answer = authorized(sluice.get(&format!("/file/{muid}")), &first).send().await.unwrap();
        (answer.status() == StatusCode::OK).then_some(())
    })
    .await;
    let log = sluice.log();
    assert!(log.contains("the database cannot be reached; waiting for it") && log.contains("the database is there"));
    sluice.finish().await;
}

#[tokio::test]
async fn an_upload_under_way_outlives_an_outage() {
    let server = PostgresServer::start();
    let sluice = Sluice::start_with(&on(&server.database())).await;
    let credential = sluice.buy().await;
    let file = bytes(4 * MIB, 1);
    let (content_type, body) = form::with_file(&file);
    let head = raw::upload_head(&credential, &content_type, body.len());
    let mut client = TcpStream::connect(sluice.address()).await.unwrap();
    client.write_all(head.as_bytes()).await.unwrap();
    client.write_all(&body[..body.len() / 2]).await.unwrap();
    eventually("the upload is under way", async || {
        (sluice.token_state(&credential).await["reason"] == "upload_in_progress").then_some(())
    })
    .await;
    server.stop();
    assert_is_away(sluice.upload(&credential, &file).await).await;
    server.start_again();
    client.write_all(&body[body.len() / 2..]).await.unwrap();
    let mut answer = vec![0; 12];
    client.read_exact(&mut answer).await.unwrap();
    assert_eq!(answer, b"HTTP/1.1 200");
    assert_eq!(sluice.token_state(&credential).await["reason"], "used_up");
    assert_eq!(sluice.stored_files().len(), 1);
    sluice.finish().await;
}

#[tokio::test]
async fn a_start_that_waited_in_vain_can_be_stopped_and_one_that_finds_another_key_ends() {
    let server = PostgresServer::start();
    let url = server.database();
    let mut sluice = Sluice::start_with(&on(&url)).await;
    sluice.stop().await;
    server.stop();
    sluice.start_again().await;
    sluice.stop().await;

    std::fs::write(sluice.data().join("keys/jwt.key"), "5a".repeat(32)).unwrap();
    sluice.start_again().await;
    server.start_again();
    eventually("it says why it does not start", async || {
        let log = sluice.log();
        (log.contains("not used") && log.contains("JWT_KEY is not the key")).then_some(())
    })
    .await;
    eventually("it has ended", async || sluice.get("/ping").send().await.is_err().then_some(())).await;
}

#[tokio::test]
async fn keys_and_doctor_look_into_postgres() {
    let url = postgres::database();
    let mut sluice = Sluice::start_with(&on(&url)).await;
    let credential = sluice.buy().await;
    assert_eq!(sluice.upload(&credential, b"x").await.status(), StatusCode::OK);
    sluice.stop().await;
    let config = sluice.folder().join("sluice.toml").display().to_string();
    let data = sluice.data().display().to_string();
    let run = async |words: &[&str]| {
        let output = sluice.run(&[words, &["--config", &config, "--data", &data]].concat()).await;
        format!("{}{}", String::from_utf8(output.stdout).unwrap(), String::from_utf8(output.stderr).unwrap())
    };
    let listed = run(&["keys", "list"]).await;
    assert_eq!(listed.lines().filter(|line| line.starts_with("backend ")).count(), 3, "{listed}");

    std::fs::write(sluice.data().join("keys/jwt.key"), "5a".repeat(32)).unwrap();
    let listed = run(&["keys", "list"]).await;
    let missing = listed.lines().find(|line| line.ends_with("missing")).unwrap_or_else(|| panic!("{listed}"));
    let fingerprint = missing.split_whitespace().nth(2).unwrap();
    let forgot = run(&["keys", "forget", "JWT_KEY", fingerprint]).await;
    assert!(forgot.contains("the database of the backend forgot JWT_KEY"), "{forgot}");

    let doctor = run(&["doctor"]).await;
    assert!(doctor.contains("backend: postgres://[redacted] answers\n"), "{doctor}");
    let empty = postgres::database();
    std::fs::write(&config, on(&empty)).unwrap();
    let doctor = run(&["doctor"]).await;
    assert!(doctor.contains("answers; its tables are made when Sluice first starts"), "{doctor}");
    let listed = run(&["keys", "list"]).await;
    assert!(!listed.contains("backend "), "and none are made by looking: {listed}");
}
