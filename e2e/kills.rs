//! The media server killed at many instants, while it stores: what was answered 200 is there, and of the rest no trace.
//!
//! `SLUICE_E2E_KILLS` says how often, `SLUICE_E2E_SEED` which instants and sizes; a failure names both.

#![expect(clippy::print_stdout, reason = "a failure shows with what it can be had again")]

use std::{collections::HashMap, time::Duration};

use futures_util::{StreamExt, stream};
use rand::{Rng, SeedableRng, rngs::StdRng};
use reqwest::{RequestBuilder, StatusCode};
use sluice_common::{l402::Credential, muid::Muid};
use sluice_testing::postgres;
use tokio::{task::JoinSet, time::sleep};

use crate::{
    s3_peer::S3Peer,
    support::{Sluice, authorized, bytes, eventually, form, rows::Rows, setting},
};

/// Clients that upload at once, each one file after the other until it is not answered 200.
const CLIENTS: u64 = 4;

const MAX_USES: usize = 1_000_000;

/// One token for all of it, whose uses are counted.
fn config() -> String {
    format!(
        "[[service]]
        name = \"media\"
        protect = [\"POST /largefile\"]
        price_sat = 100
        max_upload_mb = 64
        reuse = {MAX_USES}
        capabilities = [\"large_upload\"]
        forward_credential = true"
    )
}

/// A media server, its gateway, and what it keeps.
struct Victim {
    sluice: Sluice,
    rows: Rows,
    /// Where the files are; none: in its folder.
    peer: Option<S3Peer>,
    /// The longest file, in bits of its length.
    max_bits: u32,
    /// How long after the begin of uploads it is killed, at most.
    within: Duration,
}

/// How an upload ended.
struct Attempt {
    file: File,
    was_answered: bool,
}

/// What a file is made of, by its number, which no other has.
#[derive(Debug, Clone, Copy)]
struct File {
    number: u64,
    len: usize,
}

impl File {
    fn bytes(self, base: &[u8]) -> Vec<u8> {
        [&self.number.to_le_bytes(), &base[..self.len]].concat()
    }
}

/// One file after the other until one is not answered 200.
async fn upload_all(request: impl Fn() -> RequestBuilder, files: Vec<File>, base: &[u8]) -> Vec<Attempt> {
    let mut attempts = Vec::new();
    for file in files {
        let (content_type, body) = form::with_file(&file.bytes(base));
        let answer = request().header("content-type", content_type).body(body).send().await;
        let was_answered = answer.is_ok_and(|answer| answer.status() == StatusCode::OK);
        attempts.push(Attempt { file, was_answered });
        if !was_answered {
            break;
        }
    }
    attempts
}

impl Victim {
    /// Copies in the store, and what is unfinished of them.
    fn copies(&self) -> (usize, usize) {
        match &self.peer {
            Some(peer) => (peer.objects().len(), peer.unfinished().len()),
            None => (self.sluice.stored_files().len(), 0),
        }
    }

    /// As if half a minute had passed: the leases of all uploads are over, and the store is done with all that the dead
    /// server asked of it.
    async fn let_time_pass(&self) {
        if let Some(peer) = &self.peer {
            eventually("the store is idle", async || peer.is_idle().then_some(())).await;
        }
        self.rows.end_leases().await;
    }

    /// Everybody uploads, and it is killed meanwhile.
    async fn round(
        &mut self,
        credential: &Credential,
        round: u64,
        random: &mut StdRng,
        base: &'static [u8],
    ) -> Vec<Attempt> {
        let mut clients = JoinSet::new();
        for client in 0..CLIENTS {
            let files = (0..100).map(|at| {
                let bits = random.random_range(0..self.max_bits);
                File { number: (round * CLIENTS + client) * 100 + at, len: random.random_range(1_usize..2 << bits) }
            });
            let request = authorized(self.sluice.post("/largefile"), credential);
            let request = move || request.try_clone().unwrap();
            clients.spawn(upload_all(request, files.collect(), base));
        }
        // The instant is what is random here: nothing is waited for.
        sleep(self.within.mul_f64(random.random())).await;
        self.sluice.kill_backend().await;
        clients.join_all().await.into_iter().flatten().collect()
    }

    async fn survives(mut self, default_kills: u64) {
        let kills = setting("SLUICE_E2E_KILLS").unwrap_or(default_kills);
        let seed = setting("SLUICE_E2E_SEED").unwrap_or_else(rand::random);
        println!("SLUICE_E2E_KILLS={kills} SLUICE_E2E_SEED={seed}");
        let mut random = StdRng::seed_from_u64(seed);
        let base: &'static [u8] = bytes(2 << self.max_bits, seed).leak();
        let credential = self.sluice.buy().await;

        let mut attempts = HashMap::new();
        let (mut in_the_middle, mut left_behind) = (0, 0);
        for round in 0..kills {
            for attempt in self.round(&credential, round, &mut random, base).await {
                attempts.insert(Muid::of(&attempt.file.bytes(base)).to_string(), attempt);
            }
            let pending = self.rows.count("content WHERE state = 'pending'").await;
            in_the_middle += u64::from(pending > 0);
            // So that the sweep of the next start is at work when that is killed.
            if random.random() {
                left_behind += pending;
                self.let_time_pass().await;
            }
            self.sluice.start_backend().await;
        }
        self.sluice.kill_backend().await;
        self.let_time_pass().await;
        self.sluice.start_backend().await;
        eventually("all is swept", async || {
            (self.rows.count("content WHERE state <> 'stored'").await == 0).then_some(())
        })
        .await;

        let stored = self.rows.texts("SELECT muid FROM media").await;
        let answered = attempts.values().filter(|attempt| attempt.was_answered).count();
        println!(
            "{kills} kills, {in_the_middle} in the middle of an upload; {} uploads: {answered} answered 200, {} stored and \
             not answered, {} cut off; {left_behind} copies of dead uploads swept between kills",
            attempts.len(),
            stored.len() - answered,
            attempts.len() - stored.len(),
        );
        for (muid, attempt) in &attempts {
            assert!(!attempt.was_answered || stored.contains(muid), "answered 200 and gone: {:?}", attempt.file);
        }
        self.has_exactly(&stored, &attempts, &credential, base).await;
        assert!(answered > 0 && in_the_middle > 0, "no kill was in the middle of an upload");
        self.sluice.stop().await;
    }

    /// Each of `stored` is whole, and there is nothing else.
    async fn has_exactly(
        &self,
        stored: &[String],
        attempts: &HashMap<String, Attempt>,
        credential: &Credential,
        base: &[u8],
    ) {
        let reading = stored.iter().map(|muid| async move {
            let answer = authorized(self.sluice.get(&format!("/file/{muid}")), credential).send().await.unwrap();
            assert_eq!(answer.status(), StatusCode::OK, "{muid}");
            let file = attempts[muid].file;
            assert!(answer.bytes().await.unwrap() == file.bytes(base), "not the bytes that were sent: {file:?}");
        });
        stream::iter(reading).buffer_unordered(4).collect::<()>().await;

        assert_eq!(self.copies(), (stored.len(), 0), "copies, and unfinished ones");
        for table in ["content", "paid_upload", "paid_upload WHERE stored_at IS NOT NULL", "paid_upload_counter"] {
            assert_eq!(self.rows.count(table).await, stored.len(), "{table}");
        }
        let state = self.sluice.token_state(credential).await;
        assert_eq!(state["uses_left"], MAX_USES - stored.len(), "each stored upload has cost one use");
    }
}

#[tokio::test]
async fn on_sqlite_and_local_files() {
    let sluice = Sluice::start_apart(&[("SLUICE_LOG", "info")], &config()).await;
    let rows = Rows::Sqlite(sluice.data().join("backend.db"));
    let within = Duration::from_millis(150);
    Victim { sluice, rows, peer: None, max_bits: 20, within }.survives(200).await;
}

#[tokio::test]
async fn on_postgres_and_s3() {
    let (peer, url) = (S3Peer::start().await, postgres::database());
    let endpoint = peer.endpoint();
    let environment = [&peer.environment(&endpoint)[..], &[("SLUICE_LOG", "info"), ("DATABASE_URL", &url)]].concat();
    let sluice = Sluice::start_apart(&environment, &config()).await;
    let within = Duration::from_millis(600);
    Victim { sluice, rows: Rows::Postgres(url), peer: Some(peer), max_bits: 23, within }.survives(40).await;
}
