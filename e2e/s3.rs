//! The same with the files in S3: paid, stored, downloaded by range, with as little memory.

use futures_util::StreamExt;
use reqwest::{Body, StatusCode};
use serde_json::Value;

use crate::{
    s3_peer::{ACCESS_KEY_ID, BUCKET, Call, S3Peer, SECRET_ACCESS_KEY},
    support::{MIB, Sluice, authorized, bytes, form},
};

impl S3Peer {
    /// The variables that make a media server keep its files there.
    pub fn environment<'a>(&self, endpoint: &'a str) -> [(&'static str, &'a str); 5] {
        [
            ("STORAGE_MODE", "s3"),
            ("S3_BUCKET", BUCKET),
            ("S3_ENDPOINT", endpoint),
            ("AWS_ACCESS_KEY_ID", ACCESS_KEY_ID),
            ("AWS_SECRET_ACCESS_KEY", SECRET_ACCESS_KEY),
        ]
    }
}

/// `sluice up` with its files there.
pub async fn start_on(peer: &S3Peer, config: Option<&str>) -> Sluice {
    let sluice = Sluice::start_in(&peer.environment(&peer.endpoint()), config, &[]).await;
    sluice.is_secret(SECRET_ACCESS_KEY);
    sluice
}

#[tokio::test]
async fn a_paid_file_is_stored_in_the_bucket_and_given_back_by_range() {
    let peer = S3Peer::start().await;
    let mut sluice = start_on(&peer, None).await;
    let file = bytes(40 * MIB, 1);
    let credential = sluice.buy().await;
    let (content_type, body) = form::with_file(&file);
    let stored = authorized(sluice.post("/largefile"), &credential).header("content-type", content_type).body(body);
    let stored = stored.send().await.unwrap();
    assert_eq!(stored.status(), StatusCode::OK);
    let media: Value = stored.json().await.unwrap();
    let objects = peer.objects();
    assert_eq!(objects.values().copied().collect::<Vec<_>>(), [40 * MIB as u64], "one object, not sealed");
    assert_eq!((peer.count(Call::Part), peer.unfinished()), (5, vec![]));
    assert!(!sluice.data().join("media").exists(), "nothing is kept here");

    let path = format!("/file/{}", media["muid"].as_str().unwrap());
    for restart in [false, true] {
        if restart {
            sluice.stop().await;
            sluice.start_again().await;
        }
        let whole = authorized(sluice.get(&path), &credential).send().await.unwrap();
        assert_eq!(whole.status(), StatusCode::OK);
        assert!(whole.bytes().await.unwrap() == file, "not the bytes that were sent");
        let range = authorized(sluice.get(&path), &credential).header("range", "bytes=8000000-30000000").send().await;
        let range = range.unwrap();
        assert_eq!(range.status(), StatusCode::PARTIAL_CONTENT);
        assert!(range.bytes().await.unwrap() == file[8_000_000..=30_000_000], "not the range");
    }
    sluice.stop().await;
    sluice.start_again().await;
    // The same again is not kept twice.
    assert_eq!(sluice.upload(&credential, &file).await.status(), StatusCode::OK);
    crate::support::eventually("one object", async || (peer.objects().len() == 1).then_some(())).await;
    sluice.finish().await;
}

#[tokio::test]
async fn memory_does_not_grow_with_the_file() {
    let mib: usize = std::env::var("SLUICE_E2E_LARGE_MIB").map_or(256, |text| text.parse().unwrap());
    let peer = S3Peer::start().await;
    let sluice = start_on(&peer, None).await;
    let credential = sluice.buy().await;
    let piece = bytes::Bytes::from(bytes(MIB, 7));
    let head = "--large\r\nContent-Disposition: form-data; name=\"file\"; filename=\"large\"\r\n\r\n";
    let pieces = std::iter::once(bytes::Bytes::from(head))
        .chain(std::iter::repeat_n(piece.clone(), mib))
        .chain([bytes::Bytes::from("\r\n--large--\r\n")])
        .map(Ok::<_, std::io::Error>);
    let before = sluice.peak_mib();
    let request = authorized(sluice.post("/largefile"), &credential)
        .header("content-type", "multipart/form-data; boundary=large")
        .body(Body::wrap_stream(futures_util::stream::iter(pieces)));
    let reply = request.send().await.unwrap();
    assert_eq!(reply.status(), StatusCode::OK);
    let media: Value = reply.json().await.unwrap();
    let after_upload = sluice.peak_mib();

    let path = format!("/file/{}", media["muid"].as_str().unwrap());
    let mut download = authorized(sluice.get(&path), &credential).send().await.unwrap().bytes_stream();
    let mut len = 0;
    while let Some(got) = download.next().await {
        len += got.unwrap().len();
    }
    assert_eq!(len, mib * MIB);
    let peak = sluice.peak_mib();
    println!(
        "{mib} MiB, {} parts at once: peak resident {before} MiB before, {after_upload} after the upload, {peak} after the download",
        peer.parts_at_once()
    );
    assert!(peer.parts_at_once() <= 3 && peak < 160, "{} parts, {peak} MiB", peer.parts_at_once());
    sluice.finish().await;
}
