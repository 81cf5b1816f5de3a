//! The gateway killed at many instants while it counts uses of a server that does not see the token: no use is lost, and none
//! is spent twice, but for what nobody can know.
//!
//! `SLUICE_E2E_KILLS` says how often, `SLUICE_E2E_SEED` which instants; a failure names both.

#![expect(clippy::print_stdout, reason = "a failure shows with what it can be had again")]

use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use axum::{Router, routing::post};
use rand::{Rng, SeedableRng, rngs::StdRng};
use reqwest::{RequestBuilder, StatusCode};
use serde_json::Value;
use sluice_testing::postgres;
use tokio::{net::TcpListener, task::JoinSet, time::sleep};

use crate::support::{Sluice, authorized, challenge, eventually, rows::Rows, setting};

/// Clients at once: as many as a use is given back of which nobody knows what the server did.
const CLIENTS: usize = 3;

/// After how long the gateway is killed, at most, once it has served again.
const WITHIN: Duration = Duration::from_millis(60);

/// How long the server works on a request: long enough to be killed within.
const WORK: Duration = Duration::from_millis(20);

/// A server, and how often it did its work.
async fn worker() -> (SocketAddr, Arc<AtomicUsize>) {
    let done = Arc::<AtomicUsize>::default();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let work = {
        let done = done.clone();
        move || async move {
            sleep(WORK).await;
            done.fetch_add(1, Ordering::SeqCst);
        }
    };
    tokio::spawn(async move { axum::serve(listener, Router::new().route("/work", post(work))).await });
    (address, done)
}

/// Asks until the token is used up, whoever dies meanwhile, and counts the successes.
async fn use_up(request: RequestBuilder, heard: Arc<AtomicUsize>) {
    loop {
        // Who is dead says nothing.
        if let Ok(reply) = request.try_clone().unwrap().send().await {
            match reply.status() {
                StatusCode::OK => {
                    heard.fetch_add(1, Ordering::SeqCst);
                    continue;
                }
                StatusCode::CONFLICT => {}
                StatusCode::PAYMENT_REQUIRED => {
                    let problem: Value = reply.json().await.unwrap();
                    assert_eq!(problem["reason"], "used_up", "{problem}");
                    return;
                }
                status => panic!("{status}: {}", reply.text().await.unwrap()),
            }
        }
        sleep(Duration::from_millis(20)).await;
    }
}

/// Kills the gateway again and again while a token is used up.
async fn survives(environment: &[(&str, &str)], rows: impl FnOnce(&Sluice) -> Rows) {
    let kills = setting("SLUICE_E2E_KILLS").unwrap_or(6);
    let seed = setting("SLUICE_E2E_SEED").unwrap_or_else(rand::random);
    println!("SLUICE_E2E_KILLS={kills} SLUICE_E2E_SEED={seed}");
    let mut random = StdRng::seed_from_u64(seed);
    let uses = 40 * (kills as usize + 1);
    let (address, done) = worker().await;
    let config = format!(
        "[[service]]
        name = \"work\"
        paths = [\"/work\"]
        protect = [\"POST /work\"]
        price_sat = 1
        reuse = {uses}
        upstream = \"{address}\"

        [[service]]
        name = \"media\"
        protect = [\"POST /largefile\"]
        price_sat = 1"
    );
    let environment = [&[("SLUICE_LOG", "warn")], environment].concat();
    let mut sluice = Sluice::start_apart(&environment, &config).await;
    let rows = rows(&sluice);
    let credential = sluice.pay(&challenge(&sluice.post("/work").send().await.unwrap())).await;
    let (heard, mut clients) = (Arc::<AtomicUsize>::default(), JoinSet::new());
    for _ in 0..CLIENTS {
        clients.spawn(use_up(authorized(sluice.post("/work"), &credential).body("work"), heard.clone()));
    }
    let mut left_behind = 0;
    for _ in 0..kills {
        let before = heard.load(Ordering::SeqCst);
        // A success ends what is given back in a row: so of what one kill leaves, nothing is spent.
        eventually("a success", async || (heard.load(Ordering::SeqCst) > before).then_some(())).await;
        // The instant is what is random here: nothing is waited for.
        sleep(WITHIN.mul_f64(random.random())).await;
        sluice.kill_gateway().await;
        left_behind += rows.count("use_hold").await;
        // Whoever held them is dead.
        rows.texts("UPDATE use_hold SET lease_until = 0 RETURNING CAST(lease_until AS TEXT)").await;
        sluice.start_gateway().await;
    }
    clients.join_all().await;
    let (heard, done) = (heard.load(Ordering::SeqCst), done.load(Ordering::SeqCst));
    println!("{kills} kills left {left_behind} uses held; of {uses} uses {heard} were heard of, and {done} done");
    let spent = rows.texts("SELECT CAST(spent AS TEXT) FROM use_counter").await;
    assert_eq!((spent, rows.count("use_hold").await), (vec![uses.to_string()], 0));
    assert!(done >= uses, "{done} of {uses}: a use was lost");
    assert!(done <= uses + left_behind, "{done} of {uses}, {left_behind} given back: a use was had twice");
    assert!(heard <= uses, "{heard} of {uses}: a use was spent twice");
    assert!(left_behind > 0, "no kill was in the middle of a use");
    sluice.stop().await;
}

#[tokio::test]
async fn killed_at_any_instant_no_use_is_lost_or_had_twice_on_sqlite() {
    survives(&[], |sluice| Rows::Sqlite(sluice.data().join("gateway.db"))).await;
}

#[tokio::test]
async fn killed_at_any_instant_no_use_is_lost_or_had_twice_on_postgres() {
    let url = postgres::database();
    survives(&[("GATEWAY_DATABASE_URL", &url)], |_| Rows::Postgres(url.clone())).await;
}
