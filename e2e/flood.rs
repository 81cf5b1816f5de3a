//! A flood of requests that nobody pays for leaves nothing behind.
//!
//! `SLUICE_E2E_FLOOD` says how many requests.

#![expect(clippy::print_stdout, reason = "the figures are what it is run for")]

use std::{collections::BTreeMap, fs};

use reqwest::Client;
use serde_json::Value;
use sluice_testing::postgres;
use tokio::{task::JoinSet, time::Instant};

use crate::support::{Sluice, form, rows::Rows, setting};

/// Connections at once, each of which is used again and again.
const CONNECTIONS: u64 = 32;

/// Limits on invoices that are none: each request is asked for money, with an invoice of its own.
const NO_LIMITS: &str = "
    [gateway]
    invoices_per_minute = 100000000
    invoice_burst = 100000000
    invoices_per_minute_per_client = 100000000
    invoice_burst_per_client = 100000000
    max_open_invoices = 100000000
";

/// How many there are of each status and code.
type Answers = BTreeMap<(u16, String), u64>;

fn requests() -> u64 {
    // 100,000 would be minutes unoptimised: CI sends less, `SLUICE_E2E_FLOOD=100000` all of them.
    setting("SLUICE_E2E_FLOOD").unwrap_or(10_000)
}

/// Sends so many unpaid uploads.
async fn flood(sluice: &Sluice, number: u64) -> Answers {
    let mut clients = JoinSet::new();
    for client in 0..CONNECTIONS {
        let url = sluice.url("/largefile");
        let share = number / CONNECTIONS + u64::from(client < number % CONNECTIONS);
        clients.spawn(async move {
            let client = Client::builder().no_proxy().build().unwrap();
            let (content_type, body) = form::with_file(b"for nothing");
            let (body, mut answers) = (bytes::Bytes::from(body), Answers::new());
            for _ in 0..share {
                let request = client.post(&url).header("content-type", &content_type).body(body.clone());
                let answer = request.send().await.unwrap();
                let (status, has_challenge) = (answer.status(), answer.headers().contains_key("www-authenticate"));
                let problem: Value = answer.json().await.unwrap();
                assert_eq!(has_challenge, status == 402, "{problem}");
                *answers.entry((status.as_u16(), problem["code"].as_str().unwrap().to_owned())).or_default() += 1;
            }
            answers
        });
    }
    clients.join_all().await.into_iter().flatten().fold(Answers::new(), |mut all, (kind, number)| {
        *all.entry(kind).or_default() += number;
        all
    })
}

/// How many rows each table of each database has, and of this one beside those in its folder.
async fn rows(sluice: &Sluice, postgres: Option<&str>) -> BTreeMap<String, BTreeMap<String, usize>> {
    let mut counts = BTreeMap::new();
    if let Some(url) = postgres {
        let postgres = Rows::Postgres(url.to_owned()).counts().await;
        assert!(["media", "payment"].iter().all(|table| postgres.contains_key(*table)), "{postgres:?}");
        counts.insert("postgres".to_owned(), postgres);
    }
    for entry in fs::read_dir(sluice.data()).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_some_and(|extension| extension == "db") {
            let name = path.file_name().unwrap().to_str().unwrap().to_owned();
            counts.insert(name, Rows::Sqlite(path).counts().await);
        }
    }
    // The embedded wallet's is a file in any case.
    let expected = if postgres.is_some() { ["gateway.db", "postgres"] } else { ["backend.db", "gateway.db"] };
    assert_eq!(counts.keys().collect::<Vec<_>>(), expected);
    counts
}

/// Asserts that a flood adds no row and takes little memory, and gives the answers.
async fn leaves_nothing(config: &str, number: u64, postgres: Option<&str>) -> Answers {
    // A line for each request is not what is looked at here.
    let mut environment = vec![("SLUICE_LOG", "warn")];
    environment.extend(postgres.iter().flat_map(|url| [("DATABASE_URL", *url), ("GATEWAY_DATABASE_URL", *url)]));
    let mut sluice = Sluice::start_in(&environment, Some(config), &[]).await;
    let before = rows(&sluice, postgres).await;
    let mut answers = flood(&sluice, number / 10).await;
    let (first, begun) = (sluice.peak_mib(), Instant::now());
    for (kind, number) in flood(&sluice, number - number / 10).await {
        *answers.entry(kind).or_default() += number;
    }
    let (peak, secs) = (sluice.peak_mib(), begun.elapsed().as_secs_f64());
    let rate = (number - number / 10) as f64 / secs;
    println!(
        "{number} unpaid requests: {answers:?}; {rate:.0}/s; peak resident {first} MiB after a tenth, then {peak} MiB"
    );
    assert_eq!(rows(&sluice, postgres).await, before, "rows were added");
    assert!(sluice.stored_files().is_empty());
    assert!(peak < 128, "{peak} MiB");
    sluice.stop().await;
    answers
}

#[tokio::test]
async fn challenges_leave_no_row() {
    let number = requests();
    let answers = leaves_nothing(NO_LIMITS, number, None).await;
    assert_eq!(answers, Answers::from([((402, "payment_required".to_owned()), number)]));
}

#[tokio::test]
async fn challenges_leave_no_row_in_postgres() {
    // As many where the number is said; else another kind of database is not worth as long a wait.
    let number = setting("SLUICE_E2E_FLOOD").unwrap_or(2_000);
    let answers = leaves_nothing(NO_LIMITS, number, Some(&postgres::database())).await;
    assert_eq!(answers, Answers::from([((402, "payment_required".to_owned()), number)]));
}

#[tokio::test]
async fn requests_past_the_limits_on_invoices_leave_no_row() {
    let number = requests();
    let answers = leaves_nothing("", number, None).await;
    let challenged = answers[&(402, "payment_required".to_owned())];
    let refused = answers[&(503, "too_many_invoices".to_owned())];
    assert_eq!(challenged + refused, number, "{answers:?}");
    // 200 at once and 20 a minute, of one network.
    assert!((200..400).contains(&challenged), "{answers:?}");
}
