//! Memory does not grow with the file.

use std::{fs, sync::Arc, time::Duration};

use bytes::Bytes;
use futures_util::{
    StreamExt,
    future::{join, join_all},
};
use reqwest::{Body, StatusCode};
use serde_json::Value;
use sluice_common::l402::Credential;
use tokio::{sync::Barrier, time::timeout};

use crate::support::{MIB, Sluice, authorized, bytes};

#[tokio::test]
async fn a_large_upload_and_download_stay_under_128_mib_of_memory() {
    // 2 GiB by default would be minutes unoptimised: CI sends less, `SLUICE_E2E_LARGE_MIB=2048` all of it.
    let mib: usize = std::env::var("SLUICE_E2E_LARGE_MIB").map_or(384, |text| text.parse().unwrap());
    let sluice = Sluice::start(&[]).await;
    let credential = sluice.buy().await;
    let piece = Bytes::from(bytes(MIB, 7));
    let boundary = "large";
    let head = format!("--{boundary}\r\nContent-Disposition: form-data; name=\"file\"; filename=\"large\"\r\n\r\n");
    let tail = format!("\r\n--{boundary}--\r\n");
    let length = head.len() + mib * MIB + tail.len();
    let pieces = std::iter::once(Bytes::from(head))
        .chain(std::iter::repeat_n(piece.clone(), mib))
        .chain([Bytes::from(tail)])
        .map(Ok::<_, std::io::Error>);
    let request = authorized(sluice.post("/largefile"), &credential)
        .header("content-type", format!("multipart/form-data; boundary={boundary}"))
        .header("content-length", length)
        .body(Body::wrap_stream(futures_util::stream::iter(pieces)));
    let reply = request.send().await.unwrap();
    assert_eq!(reply.status(), StatusCode::OK);
    let media: Value = reply.json().await.unwrap();
    assert_eq!(media["size"], mib * MIB);
    let after_upload = sluice.peak_mib();

    let path = format!("/file/{}", media["muid"].as_str().unwrap());
    let mut download = authorized(sluice.get(&path), &credential).send().await.unwrap().bytes_stream();
    let mut at = 0;
    while let Some(got) = download.next().await {
        for byte in got.unwrap() {
            assert_eq!(byte, piece[at % MIB], "byte {at}");
            at += 1;
        }
    }
    assert_eq!(at, mib * MIB);
    let peak = sluice.peak_mib();
    println!("{mib} MiB: peak resident {after_upload} MiB after the upload, {peak} MiB after the download");
    assert!(peak < 128, "{peak} MiB");
    sluice.finish().await;
}

/// How many uploads come at once, and how much of each.
const AT_ONCE: usize = 20;
const SLOW_MIB: usize = 10;

/// What comes of each at a time, and how long until the next comes: four seconds for all of it.
const PIECE_LEN: usize = 64 * 1024;
const PAUSE: Duration = Duration::from_millis(25);

/// Sends an upload slowly. It waits for `all` when a tenth of it has come, and when nothing but the last piece is left.
async fn upload_slowly(sluice: &Sluice, credential: &Credential, number: usize, piece: &Bytes, all: &Arc<Barrier>) {
    let (count, all) = (SLOW_MIB * MIB / PIECE_LEN, Arc::clone(all));
    let head = format!("--slow\r\nContent-Disposition: form-data; name=\"file\"; filename=\"{number}\"\r\n\r\n");
    // Contents that differ: each is stored.
    let pieces = [Bytes::from(format!("{head}{number}"))]
        .into_iter()
        .chain(std::iter::repeat_n(piece.clone(), count))
        .chain([Bytes::from("\r\n--slow--\r\n")]);
    let pieces = futures_util::stream::iter(pieces.enumerate()).then(move |(at, piece)| {
        let all = Arc::clone(&all);
        async move {
            if at == count / 10 || at == count {
                all.wait().await;
            }
            tokio::time::sleep(PAUSE).await;
            Ok::<_, std::io::Error>(piece)
        }
    });
    let request = authorized(sluice.post("/largefile"), credential)
        .header("content-type", "multipart/form-data; boundary=slow")
        .body(Body::wrap_stream(pieces));
    assert_eq!(request.send().await.unwrap().status(), StatusCode::OK);
}

/// The most memory that the gateway, in a process of its own, ever had resident, in MiB.
fn gateway_peak_mib(sluice: &Sluice) -> u64 {
    let pid = fs::read_to_string(sluice.data().join("gateway.pid")).unwrap();
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status.lines().find(|line| line.starts_with("VmHWM:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap() / 1024
}

#[tokio::test]
async fn slow_uploads_at_once_take_memory_for_their_number_and_not_for_what_comes() {
    let sluice = Sluice::start_apart(&[], "").await;
    let credential = sluice.buy().await;
    let piece = Bytes::from(bytes(PIECE_LEN, 7));
    let all = Arc::new(Barrier::new(AT_ONCE + 1));
    let uploads = (0..AT_ONCE).map(|number| upload_slowly(&sluice, &credential, number, &piece, &all));
    let peaks = || (gateway_peak_mib(&sluice), sluice.peak_mib());
    let measured = async {
        all.wait().await;
        let begun = peaks();
        // None has ended before all come to their last piece.
        all.wait().await;
        begun
    };
    let done = timeout(Duration::from_secs(60), join(measured, join_all(uploads)));
    let (begun, _) = done.await.expect("the uploads do not end");
    let ended = peaks();
    println!(
        "{AT_ONCE} slow uploads of {SLOW_MIB} MiB: peak resident of gateway and media server {begun:?} MiB, then {ended:?} MiB"
    );
    // 180 MiB came between. What is more is how the buffers of 20 fall together: 1 MiB and 6 MiB, and when nobody is slow
    // 4 MiB and 34 MiB.
    assert!(ended.0 < begun.0 + 16, "the gateway: {} MiB, then {} MiB", begun.0, ended.0);
    assert!(ended.1 < begun.1 + 48, "the media server: {} MiB, then {} MiB", begun.1, ended.1);
    sluice.finish().await;
}
