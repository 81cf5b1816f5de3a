//! Logging in, free uploads, and media tokens, through the gateway.

use reqwest::StatusCode;
use secp256k1::SecretKey;
use serde_json::Value;
use sluice_common::{
    lightning_message::NodeKey,
    media_token::{MediaToken, SignedOver, Terms},
};

use crate::support::{MIB, Sluice, authorized, bytes, form};

fn key(byte: u8) -> SecretKey {
    SecretKey::from_slice(&[byte; 32]).unwrap()
}

#[tokio::test]
async fn an_owner_uploads_for_free_and_sells_by_media_token() {
    let sluice = Sluice::start(&[]).await;
    let (owner, buyer) = (sluice.log_in(&key(1)).await, sluice.log_in(&key(2)).await);
    let file = bytes(MIB, 1);
    let (content_type, body) = form::with(&[("price", "5")], &[&file]);
    let upload = |path: &str| sluice.post(path).header("content-type", &content_type).body(body.clone());
    assert_eq!(upload("/file").send().await.unwrap().status(), StatusCode::UNAUTHORIZED);
    let stored = upload("/file").bearer_auth(&owner).send().await.unwrap();
    assert_eq!(stored.status(), StatusCode::OK);
    let media: Value = stored.json().await.unwrap();
    assert_eq!(media["owner_pub_key"], NodeKey::of(&key(1)).to_string());

    let host = sluice.address().to_string();
    let terms = |buyer| Terms {
        host: host.clone(),
        muid: media["muid"].as_str().unwrap().parse().unwrap(),
        buyer: Some(NodeKey::of(&key(buyer))),
        expires_at: Some(u32::MAX),
        meta: String::new(),
    };
    let token = |buyer, over| MediaToken::sign(terms(buyer), over, &key(1)).unwrap().to_string();
    for over in [SignedOver::Raw, SignedOver::Text] {
        let token = token(2, over);
        sluice.is_secret(&token);
        let path = format!("/file/{token}");
        let got = sluice.get(&path).bearer_auth(&buyer).send().await.unwrap();
        assert_eq!(got.status(), StatusCode::OK);
        assert!(got.bytes().await.unwrap() == file, "not the bytes that were sent");
        for place in [format!("{path}?jwt={buyer}"), path.clone()] {
            let got = sluice.get(&place).header("cookie", format!("jwt={buyer}")).send().await.unwrap();
            assert_eq!(got.status(), StatusCode::OK, "{place}");
        }
        assert_eq!(sluice.get(&path).send().await.unwrap().status(), StatusCode::UNAUTHORIZED);
    }
    let for_another =
        sluice.get(&format!("/file/{}", token(3, SignedOver::Raw))).bearer_auth(&buyer).send().await.unwrap();
    assert_eq!(for_another.status(), StatusCode::UNAUTHORIZED);
    sluice.finish().await;
}

#[tokio::test]
async fn a_paid_upload_with_a_login_is_the_logins() {
    let sluice = Sluice::start(&[]).await;
    let credential = sluice.buy().await;
    let jwt = sluice.log_in(&key(1)).await;
    let (content_type, body) = form::with_file(&bytes(1_000, 1));
    let post = |jwt: &str| {
        let request = authorized(sluice.post("/largefile"), &credential).header("content-type", &content_type);
        request.header("authorization", format!("Bearer {jwt}")).body(body.clone())
    };
    assert_eq!(post("a.b.c").send().await.unwrap().status(), StatusCode::UNAUTHORIZED);
    let media: Value = post(&jwt).send().await.unwrap().json().await.unwrap();
    assert_eq!(media["owner_pub_key"], NodeKey::of(&key(1)).to_string());
    let mine: Value = sluice.get("/mymedia").bearer_auth(&jwt).send().await.unwrap().json().await.unwrap();
    assert_eq!(mine[0]["muid"], media["muid"]);
    assert_eq!(sluice.token_state(&credential).await["stored"].as_array().unwrap().len(), 1);
    sluice.finish().await;
}

#[tokio::test]
async fn free_uploads_are_bounded_to_the_byte() {
    let sluice = Sluice::start(&[]).await;
    let jwt = sluice.log_in(&key(1)).await;
    for (len, status) in [(32 * MIB, StatusCode::OK), (32 * MIB + 1, StatusCode::PAYLOAD_TOO_LARGE)] {
        let (content_type, body) = form::with_file(&bytes(len, 1));
        let request = sluice.post("/public").bearer_auth(&jwt).header("content-type", content_type).body(body);
        assert_eq!(request.send().await.unwrap().status(), status, "{len}");
    }
    let mine: Value = sluice.get("/mymedia").bearer_auth(&jwt).send().await.unwrap().json().await.unwrap();
    let muid = mine[0]["muid"].as_str().unwrap();
    let public = sluice.get(&format!("/public/{muid}")).send().await.unwrap();
    assert_eq!(public.status(), StatusCode::OK);
    assert!(public.bytes().await.unwrap() == bytes(32 * MIB, 1), "not the bytes that were sent");
    sluice.finish().await;
}
