//! Memory does not grow with the file.

use futures_util::StreamExt;
use reqwest::{Body, StatusCode};
use serde_json::Value;

use crate::support::{MIB, Sluice, authorized, bytes};

#[tokio::test]
async fn a_large_upload_and_download_stay_under_128_mib_of_memory() {
    // 2 GiB by default would be minutes unoptimised: CI sends less, `SLUICE_E2E_LARGE_MIB=2048` all of it.
    let mib: usize = std::env::var("SLUICE_E2E_LARGE_MIB").map_or(384, |text| text.parse().unwrap());
    let sluice = Sluice::start(&[]).await;
    let credential = sluice.buy().await;
    let piece = bytes::Bytes::from(bytes(MIB, 7));
    let boundary = "large";
    let head = format!("--{boundary}\r\nContent-Disposition: form-data; name=\"file\"; filename=\"large\"\r\n\r\n");
    let tail = format!("\r\n--{boundary}--\r\n");
    let length = head.len() + mib * MIB + tail.len();
    let pieces = std::iter::once(bytes::Bytes::from(head))
        .chain(std::iter::repeat_n(piece.clone(), mib))
        .chain([bytes::Bytes::from(tail)])
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
