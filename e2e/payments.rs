//! `sluice payments`: what was paid, and nothing of who only asked.

use std::fs;

use serde_json::Value;
use sluice_testing::postgres;
use sqlx::{Connection, PgConnection};
use tokio::process::Command;

use crate::support::{Sluice, eventually};

impl Sluice {
    /// What `sluice payments` prints of this one's ledger.
    async fn payments(&self, options: &[&str]) -> String {
        let data = self.data();
        let words = [&["payments", "--data", data.to_str().unwrap()], options].concat();
        let output = self.run(&words).await;
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        assert!(output.stderr.is_empty(), "{}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap()
    }

    async fn payments_json(&self, options: &[&str]) -> Vec<Value> {
        serde_json::from_str(&self.payments(&[&["--format", "json"], options].concat()).await).unwrap()
    }
}

#[tokio::test]
async fn what_is_paid_is_listed_once_also_after_a_restart() {
    let mut sluice = Sluice::start(&[]).await;
    for _ in 0..20 {
        assert_eq!(sluice.get("/largefile").send().await.unwrap().status(), 402);
    }
    assert!(sluice.payments_json(&[]).await.is_empty(), "who only asks leaves nothing");

    let (used, kept) = (sluice.buy().await, sluice.buy().await);
    for _ in 0..2 {
        assert_eq!(sluice.upload(&used, b"x").await.status(), 200);
    }
    let listed = eventually("both are in the ledger, one as used", async || {
        let listed = sluice.payments_json(&[]).await;
        let settled = listed.iter().filter(|payment| payment["settled_at"].is_string()).count();
        let used = listed.iter().filter(|payment| payment["first_used_at"].is_string()).count();
        ((settled, used) == (2, 1)).then_some(listed)
    })
    .await;
    assert_eq!(listed.len(), 2);
    for (credential, is_used) in [(&used, true), (&kept, false)] {
        let identifier = credential.macaroon().identifier().unwrap();
        let payment_hash = identifier.payment_hash.to_string();
        let payment = listed.iter().find(|payment| payment["payment_hash"] == payment_hash).unwrap();
        assert_eq!(payment["token_id"], identifier.token_id.to_string());
        assert_eq!((&payment["service"], &payment["amount_msat"]), (&"media".into(), &100_000.into()));
        assert_eq!(payment["first_used_at"].is_string(), is_used);
    }

    sluice.kill().await;
    sluice.start_again().await;
    assert_eq!(sluice.upload(&used, b"y").await.status(), 200);
    sluice.stop().await;
    let (mut after, mut before) = (sluice.payments_json(&[]).await, listed.clone());
    let bought =
        |payment: &Value| payment["payment_hash"] == used.macaroon().identifier().unwrap().payment_hash.to_string();
    let of_used = after.iter().find(|payment| bought(payment)).unwrap();
    // A second of statistics is lost by a kill, none by a stop.
    assert!([1.into(), 2.into()].contains(&of_used["uses"]) && of_used["bytes"].as_u64() > Some(0), "{of_used}");
    for payment in after.iter_mut().chain(&mut before) {
        let payment = payment.as_object_mut().unwrap();
        for statistic in ["uses", "bytes", "refused", "given_back"] {
            payment.remove(statistic).unwrap();
        }
    }
    assert_eq!(after, before, "nothing twice, nothing lost");

    let sums: Vec<Value> = sluice.payments_json(&["--sum"]).await;
    assert_eq!((&sums[0]["payments"], &sums[0]["amount_msat"]), (&2.into(), &200_000.into()));
    assert_eq!(sluice.payments_json(&["--service", "other"]).await.len(), 0);
    assert_eq!(sluice.payments_json(&["--to", "2020-01-01"]).await.len(), 0);
    assert_eq!(sluice.payments_json(&["--from", "2020-01-01", "--service", "media"]).await.len(), 2);
    assert_eq!(sluice.payments(&["--format", "csv"]).await.lines().count(), 3);
    let table = sluice.payments(&[]).await;
    for payment in &listed {
        assert!(table.contains(payment["payment_hash"].as_str().unwrap()), "{table}");
    }
    sluice.start_again().await;
    sluice.finish().await;
}

#[tokio::test]
async fn with_the_nodes_word_for_proof_what_the_wallet_was_paid_is_good() {
    let sluice = Sluice::start_with("[lightning]\nsettlement = \"node\"").await;
    let credential = sluice.buy().await;
    assert_eq!(sluice.upload(&credential, b"x").await.status(), 200);
    sluice.finish().await;
}

#[tokio::test]
async fn the_ledger_can_be_in_postgres_and_its_password_stands_in_no_log() {
    let url = postgres::database().replace("postgres@", "postgres:hunter2hunter2@");
    let sluice = Sluice::start_with(&format!("[gateway]\ndatabase_url = \"{url}\"")).await;
    sluice.is_secret("hunter2hunter2");
    let credential = sluice.buy().await;
    assert_eq!(sluice.upload(&credential, b"x").await.status(), 200);
    let config = sluice.folder().join("sluice.toml");
    let listed = eventually("it is in the ledger", async || {
        let listed = sluice.payments_json(&["--config", config.to_str().unwrap()]).await;
        let is_whole = |payment: &Value| payment["settled_at"].is_string() && payment["first_used_at"].is_string();
        listed.first().is_some_and(is_whole).then_some(listed)
    })
    .await;
    assert_eq!((listed.len(), &listed[0]["amount_msat"]), (1, &100_000.into()));
    assert!(sluice.payments_json(&[]).await.is_empty(), "the embedded wallet's own file holds no ledger");
    sluice.finish().await;
}

#[tokio::test]
async fn who_only_reads_makes_no_tables() {
    let url = postgres::database();
    let folder = tempfile::tempdir().unwrap();
    let config = folder.path().join("sluice.toml");
    fs::write(&config, format!("[gateway]\ndatabase_url = \"{url}\"")).unwrap();
    let reads = async |command: &[&str]| {
        let data = folder.path().join("data");
        let options = ["--config", config.to_str().unwrap(), "--data", data.to_str().unwrap()];
        let output = Command::new(env!("CARGO_BIN_EXE_sluice")).args(command).args(options).env_clear().output();
        let error = String::from_utf8(output.await.unwrap().stderr).unwrap();
        assert!(error.contains("there is no "), "{error}");
    };
    reads(&["payments"]).await;
    reads(&["keys", "list"]).await;
    let mut database = PgConnection::connect(&url).await.unwrap();
    let tables = "SELECT count(*) FROM information_schema.tables WHERE table_schema = current_schema()";
    assert_eq!(sqlx::query_scalar::<_, i64>(tables).fetch_one(&mut database).await.unwrap(), 0);
}
