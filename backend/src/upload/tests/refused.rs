//! Uploads that are refused, and what is left of them: nothing.

use std::{
    future::ready,
    io, mem,
    path::Path,
    sync::atomic::{AtomicU64, Ordering::Relaxed},
};

use axum::body::Bytes;
use http::StatusCode;
use http_body_util::{BodyExt, Full};

use super::{
    super::*,
    rig::{self, CONTENT_TYPE, Rig, file_form, form, paid_order},
    trouble::{Step, Stepped},
};
use crate::{
    db::Media,
    disk::DiskGuard,
    store::{LocalStore, contract::bytes},
};

/// A body that must not be read, of this declared length.
fn untouchable(declared: usize) -> Body {
    let body = Full::new(Bytes::from(vec![0; declared]));
    Body::new(body.inspect_frame(|_| panic!("the body was read before the refusal")))
}

#[tokio::test]
async fn says_what_is_wrong_with_a_form_and_keeps_nothing() {
    let large = bytes(600_000);
    let file: (&str, &[u8]) = ("name=\"file\"; filename=\"f\"", &large);
    let whole = form(&[file]);
    let cut_at = |len: usize| whole[..len].to_vec();
    let cases: Vec<(&str, Vec<u8>, &str)> = vec![
        ("nothing", vec![], "400 empty_file"),
        ("no parts", form(&[]), "422 no_file"),
        ("other parts", form(&[("name=\"name\"", b"n"), ("name=\"files\"; filename=\"f\"", b"x")]), "422 no_file"),
        ("no name", form(&[("filename=\"f\"", b"x")]), "422 no_file"),
        ("empty file", form(&[("name=\"file\"; filename=\"f\"", b"")]), "400 empty_file"),
        ("two files", form(&[file, file]), "422 two_files"),
        ("price before", form(&[("name=\"price\"", b"x"), file]), "422 invalid_field"),
        ("price after", form(&[file, ("name=\"price\"", b"-1")]), "422 invalid_field"),
        ("NUL", form(&[file, ("name=\"name\"", b"a\0")]), "422 invalid_field"),
        ("not UTF-8", form(&[file, ("name=\"description\"", b"\xff")]), "422 invalid_field"),
        ("long name", form(&[file, ("name=\"name\"", &[b'n'; 1_025])]), "422 invalid_field"),
        ("junk", b"junk".to_vec(), "400 malformed_form"),
        ("another boundary", b"--other\r\n\r\n\r\n--other--\r\n".to_vec(), "400 malformed_form"),
        ("cut in the boundary", cut_at(10), "400 malformed_form"),
        ("cut in a header", cut_at(60), "400 malformed_form"),
        ("cut in the file", cut_at(400_000), "400 malformed_form"),
        ("cut before the last boundary", cut_at(whole.len() - 4), "400 malformed_form"),
        ("broken header", form(&[("name=\"a\"\r\nbroken header", b"x"), file]), "400 malformed_form"),
        ("many headers", form(&[(&format!("name=\"a\"{}", "\r\nA: b".repeat(40)), b"x"), file]), "400 malformed_form"),
        ("endless header", form(&[(&format!("name=\"{}\"", "a".repeat(2 << 20)), b"x"), file]), "413 form_too_large"),
        ("too large", file_form(&bytes(700_001)), "413 too_large"),
    ];
    let rig = Rig::new().await;
    for (case, body, expected) in cases {
        let order = UploadOrder { max_upload_bytes: 700_000, ..paid_order() };
        let (len, pieces) = (body.len(), futures_util::stream::iter([Ok::<_, io::Error>(Bytes::from(body))]));
        // Without a declared length, so that it is the bytes that count.
        let result = rig.uploads.receive(order, Some(CONTENT_TYPE), Body::from_stream(pieces)).await;
        let problem = result.unwrap_err().to_problem();
        assert_eq!(format!("{} {}", problem.status().as_u16(), problem.code()), expected, "{case}, {len} bytes");
        rig.has_only(0).await;
    }
    // After all these the one use is there.
    rig.upload(paid_order(), whole).await.unwrap();
}

#[tokio::test]
async fn tells_what_a_client_needs_to_know() {
    let rig = Rig::new().await;
    let order = UploadOrder { max_upload_bytes: 3, ..rig::order() };
    let problem = rig.upload(order, file_form(b"four")).await.unwrap_err().to_problem();
    insta::assert_snapshot!(problem.to_json(), @r#"{"type":"about:blank","title":"Payload Too Large","status":413,"code":"too_large","detail":"the file is larger than the 3 bytes that are allowed","limit_bytes":3}"#);
    let problem = rig.upload(rig::order(), form(&[("name=\"ttl\"", b"soon")])).await.unwrap_err().to_problem();
    insta::assert_snapshot!(problem.to_json(), @r#"{"type":"about:blank","title":"Unprocessable Entity","status":422,"code":"invalid_field","detail":"the form field `ttl` is not a whole number of at least 0","field":"ttl"}"#);
}

#[tokio::test]
async fn decides_without_the_body_where_it_can() {
    let rig = Rig::new().await;
    let try_with = async |order: UploadOrder, content_type: Option<&str>| {
        let problem = rig.uploads.receive(order, content_type, untouchable(10_000)).await.unwrap_err().to_problem();
        format!("{} {}", problem.status().as_u16(), problem.code())
    };
    for (content_type, expected) in [
        (None, "415 not_multipart"),
        (Some(""), "415 not_multipart"),
        (Some("application/json"), "415 not_multipart"),
        (Some("multipart/mixed; boundary=x"), "415 not_multipart"),
        (Some("multipart/form-data"), "400 malformed_form"),
        (Some("multipart/form-data; boundary=\"\""), "415 not_multipart"),
        (Some(&format!("multipart/form-data; boundary={}", "b".repeat(201))), "400 malformed_form"),
    ] {
        assert_eq!(try_with(paid_order(), content_type).await, expected, "{content_type:?}");
    }
    // An upload under way holds the one use.
    let (sender, body) = rig::slow_body();
    let slow = rig.begin(body);
    sender.send(Ok(Bytes::from_static(b"--"))).await.unwrap();
    rig::eventually("a held use", async || rig.count("SELECT count(*) FROM paid_upload").await == 1).await;
    assert_eq!(try_with(paid_order(), Some(CONTENT_TYPE)).await, "409 upload_in_progress");
    drop(sender);
    slow.await.unwrap().unwrap_err();
    rig.upload(paid_order(), file_form(b"x")).await.unwrap();
    // Nothing of that length was stored with it.
    assert_eq!(try_with(paid_order(), Some(CONTENT_TYPE)).await, "402 used_up");
    rig.has_only(1).await;

    // A body that says how long it is.
    let order = UploadOrder { max_upload_bytes: 10, ..rig::order() };
    let body = Body::from(vec![0; 10 + (1 << 20) + 1]);
    let result = rig.uploads.receive(order, Some(CONTENT_TYPE), body).await;
    assert!(matches!(result, Err(UploadError::TooLarge { limit_bytes: 10 })), "{result:?}");
}

/// A store that fails at one place, as a local one whose disk is full would.
fn failing(inner: Arc<LocalStore>, at: Step, kind: io::ErrorKind) -> Arc<dyn BlobStore> {
    let ask = move |step: Step| {
        ready(if mem::discriminant(&step) == mem::discriminant(&at) { Err(kind.into()) } else { Ok(()) })
    };
    Arc::new(Stepped { inner, ask })
}

#[tokio::test]
async fn a_store_that_fails_costs_nothing() {
    use io::ErrorKind::{PermissionDenied, StorageFull};
    for (at, kind, status) in [
        (Step::Create(0), PermissionDenied, StatusCode::SERVICE_UNAVAILABLE),
        (Step::Create(0), StorageFull, StatusCode::INSUFFICIENT_STORAGE),
        (Step::Written, StorageFull, StatusCode::INSUFFICIENT_STORAGE),
        (Step::Finished, StorageFull, StatusCode::INSUFFICIENT_STORAGE),
        (Step::Finished, PermissionDenied, StatusCode::SERVICE_UNAVAILABLE),
    ] {
        let rig = Rig::build(|db, store| Uploads::new(db, failing(store, at, kind), None)).await;
        for len in [10, 1_000_000] {
            let problem = rig.upload(paid_order(), file_form(&bytes(len))).await.unwrap_err().to_problem();
            assert_eq!((problem.status(), problem.code()), (status, "storage_unavailable"), "{at:?}");
            assert!(!problem.to_json().contains("denied"), "internals stay inside");
            rig.has_only(0).await;
        }
    }
}

#[tokio::test]
async fn a_store_that_cannot_say_what_it_has_stores_nothing_new() {
    let denied = io::ErrorKind::PermissionDenied;
    let rig = Rig::build(|db, store| Uploads::new(db, failing(store, Step::Len, denied), None)).await;
    rig.upload(rig::order(), file_form(b"the same")).await.unwrap();
    let problem = rig.upload(paid_order(), file_form(b"the same")).await.unwrap_err().to_problem();
    assert_eq!(problem.code(), "storage_unavailable");
    rig.has_only(1).await;
}

#[tokio::test]
async fn what_the_disk_has_no_room_for_is_refused_before_it_is_read_or_once_that_shows() {
    const MIB: u64 = 1024 * 1024;
    let free = Arc::new(AtomicU64::new(100 * MIB));
    let probe = Arc::clone(&free);
    let disk = DiskGuard::new(Some(Path::new("/")), None, 90 * MIB).probed(move |_| Ok(probe.load(Relaxed)));
    let rig = Rig::build(|db, store| Uploads::new(db, store, None).with_disk(disk)).await;
    let full = |result: Result<Media, UploadError>| {
        let problem = result.unwrap_err().to_problem();
        assert_eq!((problem.status(), problem.code()), (StatusCode::INSUFFICIENT_STORAGE, "storage_unavailable"));
    };

    let form = file_form(&bytes(11 << 20));
    let order = || UploadOrder { max_upload_bytes: 20 * MIB, ..paid_order() };
    full(rig.upload(order(), form.clone()).await);
    rig.has_only(0).await;
    // Of unknown length it begins; then the disk fills up.
    let filling = Arc::clone(&free);
    let pieces = futures_util::stream::iter(form.chunks(1 << 20).map(Bytes::copy_from_slice).collect::<Vec<_>>());
    let pieces = futures_util::StreamExt::map(pieces, move |piece| {
        filling.fetch_sub(piece.len() as u64 * 2, Relaxed);
        Ok::<_, io::Error>(piece)
    });
    let filled = rig.uploads.receive(order(), Some(CONTENT_TYPE), Body::from_stream(pieces)).await;
    full(filled.map(|committed| committed.media));
    rig.has_only(0).await;
    free.store(102 * MIB, Relaxed);
    rig.upload(order(), form).await.unwrap();
    rig.has_only(1).await;
}
