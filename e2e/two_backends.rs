//! Two media servers on one PostgreSQL and one S3, each behind a gateway of its own, and one ledger: a client need not
//! know which it meets.

use futures_util::future::join_all;
use reqwest::{Response, StatusCode};
use serde_json::Value;
use sluice_common::{clock::unix_now, l402::Credential, muid::Muid};
use sluice_testing::postgres;

use crate::{
    s3_peer::{Call, S3Peer, SECRET_ACCESS_KEY},
    support::{MIB, SINGLE_USE, Sluice, authorized, bytes, eventually, form, raw, rows::Rows},
};

struct Pair {
    sluices: [Sluice; 2],
    peer: S3Peer,
    rows: Rows,
    ledger: Rows,
}

impl Pair {
    async fn start() -> Self {
        let (peer, rows, ledger) = (S3Peer::start().await, postgres::database(), postgres::database());
        let endpoint = peer.endpoint();
        let databases = [("DATABASE_URL", rows.as_str()), ("GATEWAY_DATABASE_URL", &ledger), ("HOST", "example.com")];
        let environment = [&peer.environment(&endpoint)[..], &databases].concat();
        let start = async || {
            let sluice = Sluice::start_apart(&environment, SINGLE_USE).await;
            sluice.is_secret(SECRET_ACCESS_KEY);
            sluice
        };
        // At once: both bring empty databases up to date.
        let (one, other) = tokio::join!(start(), start());
        Self { sluices: [one, other], peer, rows: Rows::Postgres(rows), ledger: Rows::Postgres(ledger) }
    }

    /// What a file is answered through each.
    async fn file(&self, muid: &str, credential: &Credential) -> [Response; 2] {
        let [one, other] = self.sluices.each_ref().map(|sluice| sluice.get(&format!("/file/{muid}")));
        let (one, other) = tokio::join!(authorized(one, credential).send(), authorized(other, credential).send());
        [one.unwrap(), other.unwrap()]
    }

    /// Waits until the bucket has so many objects and nothing unfinished.
    async fn has_objects(&self, number: usize) {
        let stored = async || (self.peer.objects().len() == number && self.peer.unfinished().is_empty()).then_some(());
        eventually(&format!("{number} objects"), stored).await;
    }

    async fn finish(self) {
        for sluice in self.sluices {
            let log = sluice.log();
            sluice.finish().await;
            // Not "cannot remove": two that abort one multipart upload at once may both be told so by s3s-fs, of which one
            // has done it.
            for trouble in ["cannot sweep", "cannot delete", "cannot give up", "cannot forget"] {
                let line = log.lines().find(|line| line.contains(trouble));
                assert_eq!(line, None);
            }
        }
    }
}

async fn muid_of(stored: Response) -> String {
    assert_eq!(stored.status(), StatusCode::OK);
    stored.json::<Value>().await.unwrap()["muid"].as_str().unwrap().to_owned()
}

#[tokio::test]
async fn what_one_stores_the_other_gives_back_and_takes_away() {
    let pair = Pair::start().await;
    let [one, other] = &pair.sluices;
    let file = bytes(20 * MIB, 1);
    let credential = one.buy().await;
    let muid = muid_of(one.upload(&credential, &file).await).await;
    assert_eq!(pair.peer.count(Call::Part), 3);
    for answer in pair.file(&muid, &credential).await {
        assert_eq!(answer.status(), StatusCode::OK);
        assert!(answer.bytes().await.unwrap() == file, "not the bytes that were sent");
    }
    let range = authorized(other.get(&format!("/file/{muid}")), &credential).header("range", "bytes=8000000-17000000");
    let range = range.send().await.unwrap();
    assert_eq!(range.status(), StatusCode::PARTIAL_CONTENT);
    assert!(range.bytes().await.unwrap() == file[8_000_000..=17_000_000], "not the range");

    // The token that one has sold is used up at the other, too; one of the other's is good at the first.
    assert_eq!(other.token_state(&credential).await["reason"], "used_up");
    let refused = other.upload(&credential, b"once more").await;
    assert_eq!(refused.status(), StatusCode::PAYMENT_REQUIRED);
    // Who lost the first's answer has it from the other.
    assert_eq!(muid_of(other.upload(&credential, &file).await).await, muid);
    let second = other.buy().await;
    let same = muid_of(one.upload(&second, &file).await).await;
    assert_eq!(same, muid);
    pair.has_objects(1).await;

    // It goes with its last owner, whichever is told so.
    for (sluice, credential, left) in [(one, &credential, 1), (other, &second, 0)] {
        let deleted = sluice.client.delete(sluice.url(&format!("/mymedia/{muid}")));
        let deleted = authorized(deleted, credential).send().await.unwrap();
        assert_eq!(deleted.status(), StatusCode::NO_CONTENT);
        for answer in pair.file(&muid, credential).await {
            assert_eq!(answer.status(), StatusCode::NOT_FOUND);
        }
        pair.has_objects(left).await;
    }
    // Each payment stands in the one ledger, once, whoever it was made to and used at.
    eventually("both payments are used", async || {
        (pair.ledger.count("payment WHERE first_used_at IS NOT NULL").await == 2).then_some(())
    })
    .await;
    assert_eq!(pair.ledger.count("payment").await, 2);
    pair.finish().await;
}

#[tokio::test]
async fn a_token_used_at_both_at_once_stores_one() {
    let pair = Pair::start().await;
    let [one, other] = &pair.sluices;
    const TOKENS: usize = 10;
    for token in 0..TOKENS {
        let credential = if token % 2 == 0 { one.buy().await } else { other.buy().await };
        let files: Vec<_> = (0..8).map(|at| bytes(100_000, (token * 8 + at) as u64)).collect();
        let uploads = files.iter().enumerate();
        let uploads = uploads.map(|(at, file)| pair.sluices[at % 2].upload(&credential, file));
        let mut winner = None;
        for (answer, file) in join_all(uploads).await.into_iter().zip(&files) {
            match answer.status() {
                StatusCode::OK => assert!(winner.replace((muid_of(answer).await, file)).is_none(), "two are stored"),
                // Each is as long as the one that is stored, and may be compared with it.
                StatusCode::CONFLICT | StatusCode::PAYMENT_REQUIRED | StatusCode::TOO_MANY_REQUESTS => {}
                status => panic!("{status}"),
            }
        }
        let (muid, file) = winner.expect("one is stored");
        for answer in pair.file(&muid, &credential).await {
            assert!(answer.bytes().await.unwrap() == *file, "not the bytes that were sent");
        }
        for sluice in &pair.sluices {
            let state = sluice.token_state(&credential).await;
            assert_eq!((state["stored"].as_array().unwrap().len(), &state["uses_left"]), (1, &0.into()));
        }
    }
    pair.has_objects(TOKENS).await;
    assert_eq!(pair.rows.count("paid_upload").await, TOKENS);
    assert_eq!(pair.rows.count("content").await, TOKENS);
    pair.finish().await;
}

#[tokio::test]
async fn the_same_file_through_both_at_once_is_kept_once() {
    let pair = Pair::start().await;
    let file = bytes(9 * MIB, 1);
    let mut credentials = Vec::new();
    for at in 0..6 {
        credentials.push(pair.sluices[at % 2].buy().await);
    }
    let uploads = credentials.iter().enumerate().map(|(at, credential)| pair.sluices[at % 2].upload(credential, &file));
    for stored in join_all(uploads).await {
        assert_eq!(muid_of(stored).await, Muid::of(&file).to_string());
    }
    pair.has_objects(1).await;
    for credential in &credentials {
        for answer in pair.file(&Muid::of(&file).to_string(), credential).await {
            assert!(answer.bytes().await.unwrap() == file, "not the bytes that were sent");
        }
    }
    pair.finish().await;
}

#[tokio::test]
async fn what_expires_is_gone_from_both() {
    let pair = Pair::start().await;
    let [one, _] = &pair.sluices;
    let credential = one.buy().await;
    let expiry = unix_now() + 4;
    let (content_type, body) = form::with(&[("expiry", &expiry.to_string())], &[b"for a moment"]);
    let stored = authorized(one.post("/largefile"), &credential).header("content-type", content_type).body(body);
    let muid = muid_of(stored.send().await.unwrap()).await;
    for answer in pair.file(&muid, &credential).await {
        assert_eq!(answer.status(), StatusCode::OK);
    }
    // 410 from that second, 404 when the row is swept: either at each.
    eventually("it has expired at both", async || {
        let answers = pair.file(&muid, &credential).await;
        let gone = answers.iter().all(|answer| matches!(answer.status(), StatusCode::GONE | StatusCode::NOT_FOUND));
        gone.then_some(())
    })
    .await;
    assert!(unix_now() >= expiry);
    pair.has_objects(0).await;
    assert_eq!((pair.rows.count("media").await, pair.rows.count("content").await), (0, 0));
    pair.finish().await;
}

#[tokio::test]
async fn both_sweep_at_once_what_uploads_at_both_left() {
    const UPLOADS: usize = 30;
    let mut pair = Pair::start().await;
    let credential = pair.sluices[0].buy().await;
    let kept = bytes(9 * MIB, 1);
    let muid = muid_of(pair.sluices[0].upload(&credential, &kept).await).await;
    // Each has sent more than one part, and waits with the rest.
    let mut clients = Vec::new();
    for at in 0..UPLOADS {
        let sluice = &pair.sluices[at % 2];
        let held = sluice.buy().await;
        let (content_type, body) = form::with_file(&bytes(9 * MIB, 2 + at as u64));
        let head = raw::upload_head(&held, &content_type, body.len() + 1);
        let (address, half_sent) = (sluice.address(), [head.as_bytes(), &body].concat());
        clients.push(tokio::spawn(async move { raw::send_and_wait(address, &half_sent).await }));
    }
    eventually("each has a part in the store", async || {
        let unfinished = pair.peer.unfinished();
        (unfinished.iter().filter(|name| name.contains(".part-")).count() == UPLOADS).then_some(())
    })
    .await;
    for sluice in &mut pair.sluices {
        sluice.kill_backend().await;
    }
    join_all(clients).await;
    eventually("the store is idle", async || pair.peer.is_idle().then_some(())).await;
    assert_eq!(pair.rows.count("content WHERE state = 'pending'").await, UPLOADS);
    pair.rows.end_leases().await;
    let [one, other] = &mut pair.sluices;
    tokio::join!(one.start_backend(), other.start_backend());
    eventually("all is swept", async || (pair.rows.count("content").await == 1).then_some(())).await;
    pair.has_objects(1).await;
    for (table, rows) in [("media", 1), ("paid_upload", 1), ("paid_upload_counter", 1)] {
        assert_eq!(pair.rows.count(table).await, rows, "{table}");
    }
    for answer in pair.file(&muid, &credential).await {
        assert!(answer.bytes().await.unwrap() == kept, "not the bytes that were sent");
    }
    pair.finish().await;
}
