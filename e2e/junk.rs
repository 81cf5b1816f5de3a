//! Junk gets a clear status and changes nothing.

use base64::{Engine, engine::general_purpose::STANDARD};
use reqwest::StatusCode;
use serde_json::Value;
use sluice_common::l402::MAX_MACAROON_LEN;

use crate::support::{MIB, Sluice, authorized, bytes, eventually, form, raw};

#[tokio::test]
async fn junk_credentials_are_refused_and_not_asked_for_money() {
    let sluice = Sluice::start(&[]).await;
    let good = sluice.buy().await;
    let (token, preimage) = (good.macaroon().to_base64(), good.preimage().expose_hex());
    let cut = &token[..token.len() - 20];
    let many_caveats = "A".repeat(100_000 * 20);
    for (value, statuses, code) in [
        ("L402 %%%:00".to_owned(), &[401][..], Some("malformed_credential")),
        (format!("L402 {cut}:{preimage}"), &[401], Some("malformed_credential")),
        (format!("L402 {token}AAAA:{preimage}"), &[401], Some("malformed_credential")),
        (format!("L402 {token}:{}", "ab".repeat(32)), &[401], Some("wrong_preimage")),
        (format!("LSAT {token}"), &[401], Some("malformed_credential")),
        (format!("L402 {}:{preimage}", "A".repeat(40_000)), &[401], Some("malformed_credential")),
    ] {
        let reply = sluice.post("/largefile").header("authorization", &value).body("x").send().await.unwrap();
        assert!(statuses.contains(&reply.status().as_u16()), "{}: {:.60}", reply.status(), value);
        assert!(reply.headers().get("www-authenticate").is_none());
        let problem: Value = reply.json().await.unwrap();
        assert_eq!(problem["code"].as_str(), code, "{value:.60}");
    }
    // 100,000 caveats are a header of 2 MB: more than any server takes.
    let head = format!("POST /largefile HTTP/1.1\r\nhost: a\r\nauthorization: L402 {many_caveats}:{preimage}\r\n\r\n");
    let answer = raw::send_until_answered(sluice.address(), head.as_bytes()).await;
    assert!(matches!(raw::status(&answer), Some(400 | 431)), "{answer:.200}");
    assert!(sluice.stored_files().is_empty());
    assert_eq!(sluice.upload(&good, b"x").await.status(), StatusCode::OK, "and it still serves");
    sluice.finish().await;
}

#[tokio::test]
async fn a_token_may_have_as_many_caveats_as_fit_and_not_one_more() {
    const CAVEAT: &str = "services=media:0";
    let sluice = Sluice::start(&[]).await;
    let bought = sluice.buy().await;
    let len = bought.macaroon().as_bytes().len();
    // A caveat stands between a type and a length before it and a zero behind it.
    let most = (MAX_MACAROON_LEN - len) / (CAVEAT.len() + 3);
    let full = sluice.restricted(&bought, &vec![CAVEAT; most]);
    assert_eq!(full.macaroon().as_bytes().len(), len + most * (CAVEAT.len() + 3));
    assert_eq!(sluice.upload(&full, b"x").await.status(), StatusCode::OK, "{most} caveats");

    // One more, before the zero, type, length and signature at the end.
    let mut longer = full.macaroon().as_bytes().to_vec();
    let one_more = [&[2, u8::try_from(CAVEAT.len()).unwrap()], CAVEAT.as_bytes(), &[0]].concat();
    longer.splice(longer.len() - 35..longer.len() - 35, one_more);
    assert!(longer.len() > MAX_MACAROON_LEN);
    let value = format!("L402 {}:{}", STANDARD.encode(&longer), bought.preimage().expose_hex());
    let reply = sluice.post("/largefile").header("authorization", value).body("x").send().await.unwrap();
    assert_eq!(reply.status(), StatusCode::UNAUTHORIZED);
    assert_eq!(reply.json::<Value>().await.unwrap()["code"], "malformed_credential");
    sluice.finish().await;
}

#[tokio::test]
async fn junk_bodies_leave_no_file() {
    let sluice = Sluice::start(&[]).await;
    let credential = sluice.buy().await;
    let (form_type, whole) = form::with_file(&bytes(3 * MIB, 1));
    let part = &whole[..2 * MIB];
    let (_, empty) = form::with_file(b"");
    let (_, none) = form::with(&[("name", "x")], &[]);
    let (_, two) = form::with(&[], &[b"a", b"b"]);
    let (_, long_name) = form::with(&[("name", &"n".repeat(1_025))], &[b"a"]);
    let (_, long_field) = form::with(&[("other", &"n".repeat(MIB + 1))], &[b"a"]);
    for (what, content_type, body, status) in [
        ("empty file", form_type.as_str(), empty.as_slice(), 400),
        ("no file", &form_type, &none, 422),
        ("two files", &form_type, &two, 422),
        ("long name", &form_type, &long_name, 422),
        ("long form", &form_type, &long_field, 413),
        ("cut off", &form_type, part, 400),
        ("no multipart", &form_type, b"junk", 400),
        ("nothing", &form_type, b"", 400),
        ("another boundary", "multipart/form-data; boundary=other", &two, 400),
        ("no boundary", "multipart/form-data", &whole, 400),
        ("another type", "application/json", b"{}", 415),
    ] {
        let request = authorized(sluice.post("/largefile"), &credential).header("content-type", content_type);
        let reply = request.body(body.to_vec()).send().await.unwrap();
        assert_eq!(reply.status(), status, "{what}");
        assert_eq!(reply.headers()["content-type"], "application/problem+json", "{what}");
        let problem: Value = reply.json().await.unwrap();
        assert!(problem["code"].is_string() && problem["detail"].is_string(), "{what}: {problem}");
    }
    eventually("no file is left", async || sluice.stored_files().is_empty().then_some(())).await;
    sluice.finish().await;
}

#[tokio::test]
async fn chunked_without_a_length_is_counted_too() {
    let sluice = Sluice::start(&["--max-mb", "2"]).await;
    let credential = sluice.buy().await;
    for (len, status) in [(2 * MIB, 200), (2 * MIB + 1, 413), (5 * MIB, 413)] {
        let (content_type, body) = form::with_file(&bytes(len, 1));
        let pieces: Vec<Result<Vec<u8>, std::io::Error>> =
            body.chunks(60_000).map(|piece| Ok(piece.to_vec())).collect();
        let body = reqwest::Body::wrap_stream(futures_util::stream::iter(pieces));
        let request =
            authorized(sluice.post("/largefile"), &credential).header("content-type", content_type).body(body);
        assert_eq!(request.send().await.unwrap().status(), status, "{len} bytes");
    }
    eventually("one file", async || (sluice.stored_files().len() == 1).then_some(())).await;
    sluice.finish().await;
}

#[tokio::test]
async fn a_client_that_hangs_up_halfway_leaves_no_file() {
    let sluice = Sluice::start(&[]).await;
    let credential = sluice.buy().await;
    let (content_type, body) = form::with_file(&bytes(6 * MIB, 1));
    let head = raw::upload_head(&credential, &content_type, body.len());
    for part in [0, 10, 1_000, MIB, 5 * MIB] {
        raw::send_and_hang_up(sluice.address(), &head, &body[..part]).await;
    }
    eventually("no file is left", async || sluice.stored_files().is_empty().then_some(())).await;
    assert_eq!(sluice.token_state(&credential).await["stored"], serde_json::json!([]));
    sluice.finish().await;
}

#[tokio::test]
async fn paths_that_try_to_slip_by_are_asked_for_payment_or_refused() {
    let sluice = Sluice::start(&[]).await;
    for (path, status) in [
        ("/largefile", 402),
        ("//largefile", 402),
        ("/%6Cargefile", 402),
        ("/file/../largefile", 402),
        ("/file/%2e%2e/largefile", 402),
        ("/file/..%2flargefile", 402),
        ("http://a/largefile", 402),
        ("http://elsewhere/largefile", 400),
        ("/largefile?x=/../file", 402),
        ("/largefile%00", 400),
        ("/largefile\\", 400),
        ("/largefile%5c", 400),
        ("/largefile%", 400),
        ("/largefile%2", 400),
        ("/largefile/", 404),
        ("/largefile%252f", 404),
        ("/LARGEFILE", 404),
        ("/largefile;x", 400),
    ] {
        let request = format!("POST {path} HTTP/1.1\r\nhost: a\r\ncontent-length: 1\r\nconnection: close\r\n\r\nx");
        let answer = raw::send(sluice.address(), request.as_bytes()).await;
        assert_eq!(raw::status(&answer), Some(status), "{path}: {answer:.300}");
    }
    for request in [
        "POST /largefile HTTP/1.1\r\ncontent-length: -1\r\n\r\n",
        "POST /largefile HTTP/1.1\r\nhost: a\r\ncontent-length: 1\r\ncontent-length: 2\r\n\r\n",
        "POST /largefile HTTP/1.1\r\nhost: a\r\nbad header\r\n\r\n",
    ] {
        let answer = raw::send(sluice.address(), request.as_bytes()).await;
        assert!(matches!(raw::status(&answer), None | Some(400..=505)), "{request:?}: {answer:.200}");
    }
    assert_eq!(sluice.get("/ping").send().await.unwrap().status(), StatusCode::OK);
    sluice.finish().await;
}
