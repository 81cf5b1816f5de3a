//! 402, pay, send again, stored, downloaded; and what a token allows, to the byte.

use reqwest::StatusCode;
use serde_json::Value;

use crate::support::{MIB, Sluice, authorized, bytes, challenge, form};

#[tokio::test]
async fn a_large_file_is_asked_for_payment_stored_and_given_back() {
    let mut sluice = Sluice::start(&[]).await;
    let file = bytes(40 * MIB, 1);
    let (content_type, body) = form::with(&[("name", "holiday"), ("price", "7"), ("tags", "a, b")], &[&file]);

    // A client that sends all of it first still sees the answer.
    let unpaid =
        sluice.post("/largefile").header("content-type", &content_type).body(body.clone()).send().await.unwrap();
    assert_eq!(unpaid.status(), StatusCode::PAYMENT_REQUIRED);
    let challenge = challenge(&unpaid);
    let problem: Value = unpaid.json().await.unwrap();
    assert_eq!(
        (&problem["price_sat"], &problem["allows"]["max_upload_bytes"]),
        (&100.into(), &(4096_u64 << 20).into())
    );
    assert!(challenge.invoice.starts_with("lnbcrt"), "{}", challenge.invoice);

    let credential = sluice.pay(&challenge).await;
    let paid = authorized(sluice.post("/largefile"), &credential).header("content-type", content_type).body(body);
    let paid = paid.send().await.unwrap();
    assert_eq!(paid.status(), StatusCode::OK);
    let media: Value = paid.json().await.unwrap();
    assert_eq!((&media["name"], &media["price"], &media["size"]), (&"holiday".into(), &7.into(), &(40 * MIB).into()));
    assert_eq!((&media["filename"], &media["mime"]), (&"a b.bin".into(), &"application/x-test".into()));
    assert_eq!(media["tags"], serde_json::json!(["a", "b"]));
    assert!(media["owner_pub_key"].as_str().unwrap().starts_with("l402:"));

    let muid = media["muid"].as_str().unwrap();
    let sealed = std::fs::read(&sluice.stored_files()[0]).unwrap();
    assert!(sealed.len() > file.len() && !sealed.windows(64).any(|window| window == &file[..64]), "it is sealed");

    for restart in [false, true] {
        if restart {
            sluice.stop().await;
            sluice.start_again().await;
        }
        let path = format!("/file/{muid}");
        let whole = authorized(sluice.get(&path), &credential).send().await.unwrap();
        assert_eq!(whole.status(), StatusCode::OK);
        assert!(whole.bytes().await.unwrap() == file, "not the bytes that were sent");
        let range = authorized(sluice.get(&path), &credential).header("range", "bytes=1000000-30000000").send().await;
        let range = range.unwrap();
        assert_eq!(range.status(), StatusCode::PARTIAL_CONTENT);
        assert!(range.bytes().await.unwrap() == file[1_000_000..=30_000_000], "not the range");
        assert_eq!(sluice.get(&path).send().await.unwrap().status(), StatusCode::UNAUTHORIZED);
        let state = sluice.token_state(&credential).await;
        assert_eq!(state["can_store"], true);
        assert_eq!(state["stored"][0]["muid"], muid);
        let mine: Value = authorized(sluice.get("/mymedia"), &credential).send().await.unwrap().json().await.unwrap();
        assert_eq!(mine[0]["muid"], muid);
    }
    let again = sluice.upload(&credential, &bytes(1_000, 2)).await;
    assert_eq!(again.status(), StatusCode::OK, "the token survives a restart of everything");
    sluice.finish().await;
}

#[tokio::test]
async fn a_token_for_3_mb_takes_3_mb_and_not_one_byte_more() {
    let sluice = Sluice::start(&[]).await;
    let bought = sluice.buy().await;
    let narrow = sluice.restricted(&bought, &["large_upload_max_mb=3"]);
    let fits = sluice.upload(&narrow, &bytes(3 * MIB, 1)).await;
    assert_eq!(fits.status(), StatusCode::OK);
    let before = sluice.stored_files();
    for bytes_more in [1, MIB / 2, 2 * MIB] {
        let too_large = sluice.upload(&narrow, &bytes(3 * MIB + bytes_more, 2)).await;
        assert_eq!(too_large.status(), StatusCode::PAYLOAD_TOO_LARGE, "{bytes_more} bytes more");
        assert!(too_large.headers().get("www-authenticate").is_none(), "no money makes room");
        let problem: Value = too_large.json().await.unwrap();
        assert_eq!((&problem["code"], &problem["limit_bytes"]), (&"too_large".into(), &(3 * MIB).into()));
    }
    assert_eq!(sluice.stored_files(), before, "nothing is left of what was refused");
    assert_eq!(sluice.upload(&bought, &bytes(3 * MIB + 1, 3)).await.status(), StatusCode::OK);
    sluice.finish().await;
}

#[tokio::test]
async fn nobody_gains_by_appending() {
    let sluice = Sluice::start(&[]).await;
    let bought = sluice.buy().await;
    let narrow = sluice.restricted(&bought, &["large_upload_max_mb=3", "large_upload_max_uses=1"]);
    for (credential, wider) in [
        (&bought, "large_upload_max_mb=4097"),
        (&narrow, "large_upload_max_mb=4096"),
        (&narrow, "large_upload_max_uses=1000"),
        (&bought, "services=media:0,other:0"),
        (&bought, "media_valid_until=99999999999"),
        (&bought, "media_capabilities=large_upload,all"),
    ] {
        let reply = sluice.upload(&sluice.restricted(credential, &[wider]), b"x").await;
        assert_eq!(reply.status(), StatusCode::UNAUTHORIZED, "{wider}");
        assert!(reply.headers().get("www-authenticate").is_none());
        assert_eq!(reply.json::<Value>().await.unwrap()["code"], "widened_caveat");
    }
    // A first `max_uses` narrows, however large; the size stays what was bought.
    let counted = sluice.restricted(&bought, &["large_upload_max_uses=1000", "large_upload_max_mb=4096"]);
    assert_eq!(sluice.token_state(&counted).await["max_upload_bytes"], 4096_u64 << 20);
    assert_eq!(sluice.upload(&counted, b"x").await.status(), StatusCode::OK);
    sluice.finish().await;
}

#[tokio::test]
async fn whoever_was_handed_a_narrower_token_sees_what_was_stored_with_it_alone() {
    let sluice = Sluice::start(&[]).await;
    let giver = sluice.buy().await;
    let delegated =
        |id: &str| sluice.restricted(&giver, &[&format!("delegate={}", id.repeat(16)), "large_upload_max_uses=1"]);
    let (one, other) = (delegated("01"), delegated("02"));
    for (credential, seed) in [(&giver, 1), (&one, 2), (&other, 3)] {
        assert_eq!(sluice.upload(credential, &bytes(1_000, seed)).await.status(), StatusCode::OK);
    }
    for credential in [&giver, &one, &other] {
        let mine: Value = authorized(sluice.get("/mymedia"), credential).send().await.unwrap().json().await.unwrap();
        assert_eq!(mine.as_array().unwrap().len(), 1);
    }
    assert_eq!(sluice.upload(&one, b"more").await.status(), StatusCode::PAYMENT_REQUIRED);
    assert_eq!(sluice.upload(&giver, b"more").await.status(), StatusCode::OK);
    sluice.finish().await;
}

#[tokio::test]
async fn without_the_gateway_in_front_it_is_still_closed() {
    let sluice = Sluice::start(&[]).await;
    let behind = format!("http://{}/largefile", sluice.backend_address());
    let (content_type, body) = form::with_file(b"x");
    let post = || sluice.client.post(&behind).header("content-type", &content_type).body(body.clone());
    let unpaid = post().send().await.unwrap();
    assert_eq!(unpaid.status(), StatusCode::PAYMENT_REQUIRED);
    assert!(unpaid.headers().get("www-authenticate").is_none());
    let bought = sluice.buy().await;
    let wider = sluice.restricted(&bought, &["large_upload_max_mb=5000"]);
    assert_eq!(authorized(post(), &wider).send().await.unwrap().status(), StatusCode::UNAUTHORIZED);
    assert_eq!(authorized(post(), &bought).send().await.unwrap().status(), StatusCode::OK);
    sluice.finish().await;
}
