//! How files are sent.

use std::{fs, ops::Range};

use proptest::prelude::*;
use sluice_backend::config::{BackendConfig, StoreConfig};
use sluice_common::secret::Secret;

use crate::support::{Answer, Server, assert_problem, bytes, get, head, post};

const NONE: &str = "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=";

fn unsealed(config: &mut BackendConfig) {
    let StoreConfig::Local { encryption_key, .. } = &mut config.store else { panic!("not a folder") };
    *encryption_key = None;
}

async fn asked_for(server: &Server, muid: &str, headers: &[(&'static str, &str)]) -> Answer {
    let request =
        headers.iter().fold(get(&format!("/public/{muid}")), |request, (name, value)| request.header(*name, value));
    server.send(request.empty()).await
}

#[tokio::test]
async fn a_public_file_is_sent_to_anybody_as_an_attachment() {
    let server = Server::new().await;
    let file = bytes(200_001);
    let muid = server.store("/public", 1, &[], &file).await;
    let answer = server.get(&format!("/public/{muid}")).await;
    assert!(answer.bytes() == file);
    for (name, value) in [
        ("content-type", "text/plain"),
        ("content-length", "200001"),
        ("content-disposition", "attachment; filename=\"note.txt\""),
        ("accept-ranges", "bytes"),
        ("etag", &format!("\"{muid}\"")),
        ("cache-control", "public, max-age=3600"),
        ("x-content-type-options", "nosniff"),
        ("content-security-policy", "sandbox"),
        ("referrer-policy", "no-referrer"),
    ] {
        assert_eq!(answer.header(name), value, "{name}");
    }
    let of_head = server.send(head(&format!("/public/{muid}")).empty()).await;
    assert_eq!((of_head.status, of_head.bytes()), (answer.status, &b""[..]));
    assert_eq!(of_head.headers, answer.headers);
}

#[tokio::test]
async fn a_private_file_is_as_good_as_none() {
    let server = Server::new().await;
    let private = server.store("/file", 1, &[], b"private").await;
    let said = async |name: &str| server.get(&format!("/public/{name}")).await.json();
    assert_eq!(said(&private).await, said(NONE).await);
    assert_eq!(said(&private).await, said("junk").await);
    assert_problem(&server.get(&format!("/public/{private}")).await, 404, "no_such_file");
}

#[test]
fn any_range_is_that_slice_of_the_file() {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let file = bytes(140_000);
    for unseal in [false, true] {
        let (server, muid) = runtime.block_on(async {
            let server = Server::with(|config| {
                if unseal {
                    unsealed(config)
                }
            })
            .await;
            let muid = server.store("/public", 1, &[], &file).await;
            (server, muid)
        });
        let edges = prop_oneof![0..140_010_usize, Just(0), Just(65_535), Just(65_536), Just(131_072), Just(139_999)];
        proptest!(ProptestConfig::with_cases(64), |(first in edges.clone(), last in edges)| {
            let answer = runtime.block_on(asked_for(&server, &muid, &[("range", &format!("bytes={first}-{last}"))]));
            let expected: Range<usize> = first..file.len().min(last + 1);
            if first > last {
                prop_assert_eq!(answer.status, 200);
            } else if first >= file.len() {
                prop_assert_eq!(answer.status, 416);
                prop_assert_eq!(answer.header("content-range"), "bytes */140000");
            } else {
                prop_assert_eq!(answer.status, 206);
                let content_range = format!("bytes {}-{}/140000", expected.start, expected.end - 1);
                prop_assert_eq!(answer.header("content-range"), content_range);
                prop_assert_eq!(answer.header("content-length"), expected.len().to_string());
                prop_assert!(answer.bytes() == &file[expected]);
            }
        });
    }
}

#[tokio::test]
async fn ranges_and_what_is_answered_in_whole() {
    let server = Server::new().await;
    let file = bytes(70_000);
    let muid = server.store("/public", 1, &[], &file).await;
    let etag = format!("\"{muid}\"");
    for (headers, range) in [
        (&[("range", "bytes=-5")][..], Some(69_995..70_000)),
        (&[("range", "bytes=65530-")], Some(65_530..70_000)),
        (&[("range", "bytes=0-0")], Some(0..1)),
        (&[("range", "bytes=3-4"), ("if-range", &etag)], Some(3..5)),
        (&[("range", "bytes=3-4"), ("if-range", "\"other\"")], None),
        (&[("range", "bytes=99999-"), ("if-range", "\"other\"")], None),
        (&[("range", "bytes=0-1,3-4")], None),
        (&[("range", "junk")], None),
    ] {
        let answer = asked_for(&server, &muid, headers).await;
        assert_eq!(answer.status, if range.is_some() { 206 } else { 200 }, "{headers:?}");
        assert!(answer.bytes() == &file[range.unwrap_or(0..70_000)], "{headers:?}");
    }
    let answer = asked_for(&server, &muid, &[("range", "bytes=70000-")]).await;
    assert_problem(&answer, 416, "range_not_satisfiable");
    // HEAD knows no ranges.
    let answer = server.send(head(&format!("/public/{muid}")).header("range", "bytes=0-1").empty()).await;
    assert_eq!((answer.status.as_u16(), answer.header("content-length")), (200, "70000"));
}

#[tokio::test]
async fn conditional_requests() {
    let server = Server::new().await;
    let muid = server.store("/public", 1, &[], b"x").await;
    let etag = format!("\"{muid}\"");
    let answer = asked_for(&server, &muid, &[("if-none-match", &etag), ("range", "bytes=0-0")]).await;
    assert_eq!((answer.status.as_u16(), answer.bytes()), (304, &b""[..]));
    assert_eq!((answer.header("etag"), answer.header("cache-control")), (etag.as_str(), "public, max-age=3600"));
    let modified = answer.header("last-modified").to_owned();
    assert_eq!(asked_for(&server, &muid, &[("if-modified-since", &modified)]).await.status, 304);
    assert_eq!(asked_for(&server, &muid, &[("if-none-match", "\"other\"")]).await.bytes(), b"x");
    assert_eq!(asked_for(&server, &muid, &[("if-match", &etag)]).await.bytes(), b"x");
    assert_problem(&asked_for(&server, &muid, &[("if-match", "\"other\"")]).await, 412, "precondition_failed");
}

#[tokio::test]
async fn a_copy_that_is_not_whole_is_never_a_200() {
    for (range, unseal) in [(None, false), (None, true), (Some("bytes=0-9"), false), (Some("bytes=0-9"), true)] {
        let server = Server::with(|config| {
            if unseal {
                unsealed(config)
            }
        })
        .await;
        let muid = server.store("/public", 1, &[], &bytes(100_000)).await;
        let [copy] = &server.stored_files().await[..] else { panic!("one copy") };
        let headers: Vec<_> = range.into_iter().map(|range| ("range", range)).collect();
        let status = async || asked_for(&server, &muid, &headers).await.status;

        let whole = fs::read(copy).unwrap();
        assert_eq!(whole.len(), if unseal { 100_000 } else { 100_064 });
        fs::write(copy, &whole[..whole.len() - 1]).unwrap();
        assert_eq!(status().await, 500);
        fs::write(copy, [&whole[..], b"x"].concat()).unwrap();
        assert_eq!(status().await, 500);
        fs::remove_file(copy).unwrap();
        assert_problem(&asked_for(&server, &muid, &headers).await, 500, "file_unavailable");
        assert_eq!(server.send(head(&format!("/public/{muid}")).empty()).await.status, 500);
    }
}

#[tokio::test]
async fn a_sealed_copy_that_was_changed_breaks_off_before_the_change() {
    let server = Server::new().await;
    let muid = server.store("/public", 1, &[], &bytes(1_000_000)).await;
    let [copy] = &server.stored_files().await[..] else { panic!("one copy") };
    let whole = fs::read(copy).unwrap();
    let changed = |at: usize| {
        let mut changed = whole.clone();
        changed[at] ^= 1;
        fs::write(copy, changed).unwrap();
    };
    changed(100);
    assert_problem(&asked_for(&server, &muid, &[]).await, 500, "file_unavailable");
    changed(900_000);
    let answer = asked_for(&server, &muid, &[]).await;
    assert_eq!((answer.status.as_u16(), answer.body), (200, None), "broken off, not ended");
    assert_eq!(asked_for(&server, &muid, &[("range", "bytes=0-99")]).await.bytes(), &bytes(100));
}

#[tokio::test]
async fn what_was_sealed_under_another_key_is_not_sent() {
    let server = Server::new().await;
    let muid = server.store("/public", 1, &[], b"sealed").await;
    let server = server.reopened_with(unsealed).await;
    assert_problem(&server.get(&format!("/public/{muid}")).await, 500, "file_unavailable");
    let server = server
        .reopened_with(|config| {
            let StoreConfig::Local { encryption_key, .. } = &mut config.store else { panic!("not a folder") };
            *encryption_key = Some(Secret::new([9; 32]));
        })
        .await;
    assert_problem(&server.get(&format!("/public/{muid}")).await, 500, "file_unavailable");
}

#[tokio::test]
async fn names_and_types_cannot_break_out_of_their_headers() {
    let server = Server::new().await;
    let body = "--X-BOUNDARY\r\nContent-Disposition: form-data; name=\"file\"; filename=\"a%22; x=né.html\"\r\n\
                Content-Type: text/html\r\n\r\n<script>\r\n--X-BOUNDARY--\r\n";
    let request = post("/public").bearer(&server.login(1)).multipart().body(body.into());
    let muid = server.send(request).await.json()["muid"].as_str().unwrap().to_owned();
    let answer = server.get(&format!("/public/{muid}")).await;
    let disposition = "attachment; filename=\"a_; x=n_.html\"; filename*=UTF-8''a%22%3B%20x%3Dn%C3%A9.html";
    assert_eq!(answer.header("content-disposition"), disposition);
    assert_eq!((answer.header("content-type"), answer.header("content-security-policy")), ("text/html", "sandbox"));
}
