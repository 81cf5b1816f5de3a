//! Clients that lost the answer of an upload send it again with the token that is used up by then, however many and
//! whoever dies: it is stored once, it costs once, and nobody is asked to pay again.
//!
//! `SLUICE_E2E_KILLS` says how often gateway and media server are killed, `SLUICE_E2E_SEED` which instants and sizes; a
//! failure names both.

#![expect(clippy::print_stdout, reason = "a failure shows with what it can be had again")]

use std::{collections::BTreeMap, time::Duration};

use futures_util::future::join_all;
use rand::{Rng, SeedableRng, rngs::StdRng};
use reqwest::{RequestBuilder, Response, StatusCode};
use serde_json::Value;
use sluice_common::{l402::Credential, muid::Muid};
use sluice_testing::postgres;
use tokio::{task::JoinSet, time::sleep};

use crate::support::{SINGLE_USE, Sluice, authorized, bytes, eventually, eventually_within, form, rows::Rows, setting};

/// Retries at once.
const TIMES: usize = 1_000;

/// How often the media server compares with what was stored, in an hour.
const COMPARED: usize = 5;

/// A wait for that hour, not for whoever is first.
const LONG: Duration = Duration::from_secs(60);

/// What an upload that is sent again was answered.
#[derive(Debug)]
enum Answer {
    /// 200, with what is stored.
    Stored(Value),
    /// Come again, for this reason, after this time.
    Later(String, Duration),
}

impl Answer {
    /// Anything else is no answer to who has paid. None: it is cut off.
    async fn of(response: Response) -> Option<Self> {
        let status = response.status();
        let wait = response.headers().get("retry-after").map(|secs| secs.to_str().unwrap().parse().unwrap());
        assert!(response.headers().get("www-authenticate").is_none(), "nobody is asked for money: {response:?}");
        let body: Value = response.json().await.ok()?;
        if status == StatusCode::OK {
            return Some(Self::Stored(body));
        }
        let code = body["code"].as_str().unwrap();
        let is_expected = matches!(
            (status.as_u16(), code),
            (409, "upload_in_progress")
                | (429, "too_many_uploads" | "too_many_retries")
                // On a busy machine a thousand wait longer for the database than they may.
                | (503, "database_unavailable")
        );
        assert!(is_expected, "{status}: {body}");
        Some(Self::Later(code.to_owned(), Duration::from_secs(wait.expect("it says when to come again"))))
    }

    fn is_long_wait(&self) -> bool {
        matches!(self, Self::Later(code, wait) if code == "too_many_retries" && *wait > LONG)
    }
}

/// The upload of a file, as often as it is wanted.
fn upload(sluice: &Sluice, credential: &Credential, file: &[u8]) -> impl Fn() -> RequestBuilder + Send + 'static {
    let (content_type, body) = form::with_file(file);
    let request = authorized(sluice.post("/largefile"), credential).header("content-type", content_type);
    let (request, body) = (request.build().unwrap(), bytes::Bytes::from(body));
    let client = sluice.client.clone();
    move || RequestBuilder::from_parts(client.clone(), request.try_clone().unwrap()).body(body.clone())
}

/// Sends one upload a thousand times at once to all of these, then until it is not compared any more. The rows are what all of
/// them have stored.
async fn a_thousand_store_one(sluices: &[Sluice], rows: &Rows) {
    let credential = sluices[0].buy().await;
    let file = bytes(20_000, 1);
    let uploads: Vec<_> = sluices.iter().map(|sluice| upload(sluice, &credential, &file)).collect();
    let mut retries = JoinSet::new();
    for at in 0..TIMES {
        let request = uploads[at % uploads.len()]();
        retries.spawn(async move { Answer::of(request.send().await.unwrap()).await.unwrap() });
    }
    let mut answers = retries.join_all().await;
    // Those at once may have come while others were compared.
    eventually("all that is compared was", async || {
        answers.push(Answer::of(uploads[0]().send().await.unwrap()).await.unwrap());
        answers.last().is_some_and(Answer::is_long_wait).then_some(())
    })
    .await;

    let mut kinds = BTreeMap::<&str, usize>::new();
    for answer in &answers {
        let kind = match answer {
            Answer::Stored(_) => "200",
            Answer::Later(code, _) => code,
        };
        *kinds.entry(kind).or_default() += 1;
    }
    println!("{} retries: {kinds:?}", answers.len());
    let most = 1 + COMPARED;
    let least = if kinds.contains_key("database_unavailable") { 1 } else { most };
    assert!((least..=most).contains(&kinds["200"]), "{kinds:?}");
    for answer in &answers {
        if let Answer::Stored(media) = answer {
            assert_eq!(media["muid"], Muid::of(&file).to_string());
        }
    }
    stored_once(sluices, rows, &credential, &file).await;
    eventually("nothing else is left", async || (rows.count("content").await == 1).then_some(())).await;
    let counts = rows.counts().await;
    for table in ["paid_upload", "paid_upload_counter", "media"] {
        assert_eq!(counts[table], 1, "{table}: {counts:?}");
    }
    assert_eq!(counts["paid_retry"], COMPARED, "{counts:?}");
}

/// Asserts that a token has stored this file, once, and nothing else.
async fn stored_once(sluices: &[Sluice], rows: &Rows, credential: &Credential, file: &[u8]) {
    let muid = Muid::of(file).to_string();
    let payment = credential.preimage().payment_hash();
    let of_payment = format!("paid_upload WHERE payment_hash = '{payment}'");
    eventually("no use is held any more", async || (rows.count(&of_payment).await == 1).then_some(())).await;
    assert_eq!(rows.count(&format!("{of_payment} AND stored_at IS NOT NULL AND muid = '{muid}'")).await, 1);
    for sluice in sluices {
        let state = sluice.token_state(credential).await;
        assert_eq!((&state["uses_left"], &state["reason"]), (&0.into(), &"used_up".into()), "{state}");
        let stored = state["stored"].as_array().unwrap();
        assert_eq!(stored.len(), 1, "{state}");
        assert_eq!(stored[0]["muid"], muid, "{state}");
        let got = authorized(sluice.get(&format!("/file/{muid}")), credential).send().await.unwrap();
        assert!(got.bytes().await.unwrap() == file, "not the bytes that were sent");
    }
}

#[tokio::test]
async fn a_thousand_retries_at_once_store_one_and_charge_once() {
    let sluice = Sluice::start_with(SINGLE_USE).await;
    let rows = Rows::Sqlite(sluice.data().join("backend.db"));
    a_thousand_store_one(std::slice::from_ref(&sluice), &rows).await;
    assert_eq!(sluice.payments_made().await, 1);
    assert_eq!(sluice.stored_files().len(), 1);
    sluice.finish().await;
}

#[tokio::test]
async fn a_thousand_retries_at_two_media_servers_store_one_and_charge_once() {
    let (url, store) = (postgres::database(), tempfile::tempdir().unwrap());
    let environment = [("DATABASE_URL", url.as_str()), ("LOCAL_DIR", store.path().to_str().unwrap())];
    let environment = [&environment[..], &[("HOST", "example.com")]].concat();
    // All of them reach the media servers.
    let config = format!("{SINGLE_USE}\n[gateway.limits]\nmax_uploads_per_token = {TIMES}");
    let start = async || Sluice::start_apart(&environment, &config).await;
    let (one, other) = tokio::join!(start(), start());
    let pair = [one, other];
    a_thousand_store_one(&pair, &Rows::Postgres(url)).await;
    assert_eq!(std::fs::read_dir(store.path()).unwrap().count(), 1);
    for sluice in pair {
        sluice.finish().await;
    }
}

#[tokio::test]
async fn who_lost_the_answer_as_the_token_expired_does_not_pay_again() {
    let config = SINGLE_USE.to_owned() + "valid_for_secs = 60\n";
    let sluice = Sluice::start_with(&config).await;
    let credential = sluice.buy().await;
    // Its time is over in a moment, and still it is all that it was sold as.
    let soon = sluice_common::clock::unix_now() + 5;
    let credential = sluice.restricted(&credential, &[&format!("media_valid_until={soon}")]);
    let (file, other) = (bytes(20_000, 1), bytes(20_000, 2));
    let stored: Value = sluice.upload(&credential, &file).await.json().await.unwrap();
    eventually("the end of the token", async || {
        (sluice.token_state(&credential).await["can_store"] == false && sluice_common::clock::unix_now() >= soon)
            .then_some(())
    })
    .await;
    let again = sluice.upload(&credential, &file).await;
    assert!(again.headers().get("www-authenticate").is_none(), "{again:?}");
    assert_eq!((again.status(), again.json::<Value>().await.unwrap()), (StatusCode::OK, stored));
    for file in [&other, &bytes(100_000, 1)] {
        let reply = sluice.upload(&credential, file).await;
        assert_eq!(reply.status(), StatusCode::PAYMENT_REQUIRED);
        assert_eq!(reply.headers().get_all("www-authenticate").iter().count(), 2);
        assert_eq!(reply.json::<Value>().await.unwrap()["reason"], "expired");
    }
    assert_eq!(sluice.stored_files().len(), 1);
    sluice.finish().await;
}

/// Clients that send the same upload until they are answered, unless `SLUICE_E2E_CLIENTS` says another number; of hundreds
/// each sends a small one.
const CLIENTS: u64 = 6;

/// After how long somebody is killed while they do, at most, each time: most likely in the middle of the upload that is
/// stored, and of comparisons with it.
const WITHIN_MS: [u64; 3] = [60, 60, 200];

/// So that who asks many times a second does not run into the limit on what is sent and not stored, and none of many into
/// that on uploads at once.
fn config() -> String {
    let service = SINGLE_USE.replace("max_upload_mb = 64", "max_upload_mb = 4096");
    format!("{service}\n[gateway.limits]\nmax_uploads_per_token = 100000")
}

/// A gateway and a media server that are killed, and what the media server keeps.
struct Victims {
    sluice: Sluice,
    rows: Rows,
    /// How often the media server was killed in the middle of an upload, and of a comparison.
    interrupted: [usize; 2],
}

/// Sends an upload until it is answered for good: with what is stored, or (none) to come again in an hour.
async fn insist(request: impl Fn() -> RequestBuilder) -> Option<Value> {
    let mut ask = async || {
        // Who is dead says nothing, and a gateway without its media server so.
        let response = request().send().await.ok()?;
        if matches!(response.status(), StatusCode::BAD_GATEWAY | StatusCode::SERVICE_UNAVAILABLE) {
            return None;
        }
        let answer = Answer::of(response).await?;
        (matches!(answer, Answer::Stored(_)) || answer.is_long_wait()).then_some(answer)
    };
    match eventually_within(Duration::from_secs(120), "an answer", &mut ask).await {
        Answer::Stored(media) => Some(media),
        Answer::Later(..) => None,
    }
}

impl Victims {
    fn new(sluice: Sluice, rows: Rows) -> Self {
        Self { sluice, rows, interrupted: [0; 2] }
    }

    /// Kills one of them, or both, and starts them again.
    async fn kill(&mut self, whom: u32) {
        let (gateway, backend) = (whom != 1, whom != 0);
        if gateway {
            self.sluice.kill_gateway().await;
        }
        if backend {
            self.sluice.kill_backend().await;
            let under_way = ["content WHERE state = 'pending'", "paid_retry WHERE lease_until IS NOT NULL"];
            for (interrupted, under_way) in self.interrupted.iter_mut().zip(under_way) {
                *interrupted += usize::from(self.rows.count(under_way).await > 0);
            }
            self.rows.end_leases().await;
            self.sluice.start_backend().await;
        }
        if gateway {
            self.sluice.start_gateway().await;
        }
    }

    async fn survive(mut self, default_kills: u64) {
        let kills = setting("SLUICE_E2E_KILLS").unwrap_or(default_kills);
        let seed = setting("SLUICE_E2E_SEED").unwrap_or_else(rand::random);
        let clients = setting("SLUICE_E2E_CLIENTS").unwrap_or(CLIENTS);
        println!("SLUICE_E2E_KILLS={kills} SLUICE_E2E_SEED={seed} SLUICE_E2E_CLIENTS={clients}");
        let mut random = StdRng::seed_from_u64(seed);
        let rounds = kills.div_ceil(WITHIN_MS.len() as u64);
        let (mut answered, mut told_to_wait) = (0, 0);
        for round in 0..rounds {
            let credential = self.sluice.buy().await;
            let bits = random.random_range(if clients < 100 { 18..24 } else { 12..18 });
            let len = random.random_range(1_usize..2 << bits);
            let file = [&round.to_le_bytes()[..], &bytes(len, seed)].concat();
            let insisting = join_all((0..clients).map(|_| insist(upload(&self.sluice, &credential, &file))));
            let killing = async {
                for within in WITHIN_MS {
                    // The instant is what is random here: nothing is waited for.
                    sleep(Duration::from_millis(within).mul_f64(random.random())).await;
                    self.kill(random.random_range(0..3)).await;
                }
            };
            for media in tokio::join!(insisting, killing).0 {
                let Some(media) = media else {
                    told_to_wait += 1;
                    continue;
                };
                answered += 1;
                assert_eq!(media["muid"], Muid::of(&file).to_string());
            }
            stored_once(std::slice::from_ref(&self.sluice), &self.rows, &credential, &file).await;
        }
        let compared = self.rows.count("paid_retry").await;
        println!(
            "{kills} kills while {rounds} uploads were sent by {clients} clients each, in the middle of an upload and of a \
             comparison: {:?}; {answered} answered 200, {told_to_wait} told to come again in an hour; {compared} times \
             compared",
            self.interrupted,
        );
        let rounds = rounds as usize;
        eventually("all is swept", async || (self.rows.count("content").await == rounds).then_some(())).await;
        let counts = self.rows.counts().await;
        for table in ["paid_upload", "paid_upload_counter", "media"] {
            assert_eq!(counts[table], rounds, "{table}: {counts:?}");
        }
        eventually("a file for each", async || (self.sluice.stored_files().len() == rounds).then_some(())).await;
        assert_eq!(self.sluice.payments_made().await, rounds as i64);
        assert!(self.interrupted[0] > 0 && compared > 0, "no kill was in the middle of an upload");
        self.sluice.stop().await;
    }
}

#[tokio::test]
async fn killed_at_any_instant_it_is_stored_once_on_sqlite() {
    let sluice = Sluice::start_apart(&[("SLUICE_LOG", "info")], &config()).await;
    let rows = Rows::Sqlite(sluice.data().join("backend.db"));
    Victims::new(sluice, rows).survive(60).await;
}

#[tokio::test]
async fn killed_at_any_instant_it_is_stored_once_on_postgres() {
    let url = postgres::database();
    let environment = [("SLUICE_LOG", "info"), ("DATABASE_URL", url.as_str()), ("HOST", "example.com")];
    let sluice = Sluice::start_apart(&environment, &config()).await;
    Victims::new(sluice, Rows::Postgres(url)).survive(30).await;
}
