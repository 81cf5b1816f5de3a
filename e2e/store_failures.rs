//! The store fails in the middle of an upload: the client is told, nothing is half stored, and the use is given back.

use std::{
    io::Write,
    path::PathBuf,
    sync::{Arc, Mutex},
};

use reqwest::{Response, StatusCode};
use serde_json::Value;

use crate::{
    s3::start_on,
    s3_peer::{Call, Fate, S3Peer},
    support::{MIB, SINGLE_USE, Sluice, authorized, bytes, eventually, rows::Rows},
};

/// Asserts what a client is told whose file cannot be stored.
async fn assert_is_refused(answer: Response, status: StatusCode, code: &str) {
    assert_eq!(answer.status(), status);
    assert!(answer.headers().get("www-authenticate").is_none(), "nobody is asked for money");
    let problem: Value = answer.json().await.unwrap();
    assert_eq!(problem["code"], code, "{problem}");
}

fn rows(sluice: &Sluice) -> Rows {
    Rows::Sqlite(sluice.data().join("backend.db"))
}

async fn has_no_rows(sluice: &Sluice) {
    eventually("no rows", async || {
        for table in ["content", "media", "paid_upload", "paid_upload_counter"] {
            if rows(sluice).count(table).await > 0 {
                return None;
            }
        }
        Some(())
    })
    .await;
}

#[tokio::test]
async fn an_s3_that_answers_500_in_the_middle() {
    // The call that fails, from its so-manieth on.
    let failing: Arc<Mutex<Option<(Call, usize)>>> = Arc::default();
    let asked = Arc::clone(&failing);
    let peer = S3Peer::with(true, move |call, before| match *asked.lock().unwrap() {
        Some((failing, from)) if failing == call && before >= from => Fate::Refused(500, "InternalError"),
        _ => Fate::Served,
    })
    .await;
    let sluice = start_on(&peer, Some(SINGLE_USE)).await;
    let credential = sluice.buy().await;
    let (large, small) = (bytes(40 * MIB, 1), bytes(MIB, 2));
    for (call, after, file) in [
        (Call::Begin, 0, &large),
        (Call::Part, 0, &large),
        (Call::Part, 2, &large),
        (Call::Part, 4, &large),
        (Call::Complete, 0, &large),
        (Call::Put, 0, &small),
    ] {
        *failing.lock().unwrap() = Some((call, peer.count(call) + after));
        assert_is_refused(sluice.upload(&credential, file).await, StatusCode::SERVICE_UNAVAILABLE, "store_away").await;
        *failing.lock().unwrap() = None;
        let nothing = async || (peer.objects().is_empty() && peer.unfinished().is_empty()).then_some(());
        eventually(&format!("nothing is left after {call:?} {after}"), nothing).await;
        has_no_rows(&sluice).await;
        assert_eq!(sluice.token_state(&credential).await["can_store"], true, "{call:?} {after}");
    }
    let stored = sluice.upload(&credential, &large).await;
    assert_eq!(stored.status(), StatusCode::OK);
    assert_eq!((peer.objects().len(), peer.unfinished().len()), (1, 0));
    sluice.finish().await;
}

/// Runs a program where a small disk is mounted on the folder that is named first, which nobody else sees and which
/// ends with the program.
const ON_A_SMALL_DISK: &str = r#"mount -t tmpfs -o size=8m sluice-e2e "$0" && exec "$@""#;

#[tokio::test]
async fn a_full_disk() {
    let mut sluice = Sluice::prepare(&["up"], &[], &[]);
    let store = sluice.folder().join("small");
    std::fs::create_dir(&store).unwrap();
    let small = store.display().to_string();
    let wrapper = ["unshare", "--mount", "--map-root-user", "sh", "-c", ON_A_SMALL_DISK, &small];
    let mounted = std::process::Command::new(wrapper[0]).args(&wrapper[1..]).arg("true").output();
    if !mounted.as_ref().is_ok_and(|output| output.status.success()) {
        // Not by a macro, whose output only a test that fails shows.
        writeln!(std::io::stderr(), "LEFT OUT a_full_disk: a small disk cannot be mounted here: {mounted:?}").unwrap();
        return;
    }
    sluice.wrapper = wrapper.map(str::to_owned).to_vec();
    sluice.configure(&format!("{SINGLE_USE}\n[backend]\nmin_free_disk_mb = 0\nlocal_dir = \"{small}\""));
    sluice.start_again().await;
    // The folder as the server sees it.
    let seen = PathBuf::from(format!("/proc/{}/root{small}", sluice.pid()));
    let files = || std::fs::read_dir(&seen).unwrap().count();
    let space = async || rows(&sluice).count("content").await;

    let credential = sluice.buy().await;
    for _ in 0..3 {
        let answer = sluice.upload(&credential, &bytes(20 * MIB, 1)).await;
        assert_is_refused(answer, StatusCode::INSUFFICIENT_STORAGE, "storage_unavailable").await;
        eventually("nothing is left", async || (files() == 0 && space().await == 0).then_some(())).await;
        has_no_rows(&sluice).await;
        assert_eq!(sluice.token_state(&credential).await["can_store"], true);
    }
    // What there is room for is stored, and outlives that another is refused.
    let first = bytes(5 * MIB, 2);
    let stored = sluice.upload(&credential, &first).await;
    assert_eq!(stored.status(), StatusCode::OK);
    let muid = stored.json::<Value>().await.unwrap()["muid"].as_str().unwrap().to_owned();
    let second = sluice.buy().await;
    let answer = sluice.upload(&second, &bytes(4 * MIB, 3)).await;
    assert_is_refused(answer, StatusCode::INSUFFICIENT_STORAGE, "storage_unavailable").await;
    eventually("one file is left", async || (files() == 1 && space().await == 1).then_some(())).await;
    let answer = authorized(sluice.get(&format!("/file/{muid}")), &credential).send().await.unwrap();
    assert!(answer.bytes().await.unwrap() == first, "not the bytes that were sent");

    // Where it is deleted there is room again.
    let deleted = sluice.client.delete(sluice.url(&format!("/mymedia/{muid}")));
    assert_eq!(authorized(deleted, &credential).send().await.unwrap().status(), StatusCode::NO_CONTENT);
    eventually("no file is left", async || (files() == 0).then_some(())).await;
    assert_eq!(sluice.upload(&second, &bytes(4 * MIB, 3)).await.status(), StatusCode::OK);
    sluice.finish().await;
}
