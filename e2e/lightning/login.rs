//! The media server, with signatures that a real node makes.

use base64::{Engine, engine::general_purpose::URL_SAFE};
use reqwest::StatusCode;
use secp256k1::SecretKey;
use serde_json::Value;
use sluice_common::{
    lightning_message::NodeKey,
    media_token::{MediaToken, SignedOver, Terms},
};

use crate::{
    network::{Macaroon, Network},
    shop,
    support::{bytes, form},
};

pub async fn the_nodes_signature_logs_in_and_sells(network: &mut Network) {
    let sluice = shop::open(&network.seller, Macaroon::Admin, "", &[]).await;
    let owner = &network.payer;
    let pubkey = owner.pubkey().await;
    let mut jwt = String::new();
    for over in [SignedOver::Raw, SignedOver::Text] {
        let asked: Value = sluice.get("/ask").send().await.unwrap().json().await.unwrap();
        let challenge = asked["challenge"].as_str().unwrap();
        let signature = match over {
            SignedOver::Raw => owner.sign(&URL_SAFE.decode(challenge).unwrap()).await,
            SignedOver::Text => owner.sign(challenge.as_bytes()).await,
        };
        let form = [("id", asked["id"].as_str().unwrap()), ("sig", &URL_SAFE.encode(signature)), ("pubkey", &pubkey)];
        let reply = sluice.post("/verify").form(&form).send().await.unwrap();
        assert_eq!(reply.status(), StatusCode::OK, "{over:?}");
        let answer: Value = reply.json().await.unwrap();
        jwt = answer["token"].as_str().unwrap().to_owned();
        sluice.is_secret(&jwt);
        say!("POST /verify with LND's SignMessage over the challenge ({over:?}): 200");
    }

    let file = bytes(100_000, 1);
    let (content_type, body) = form::with_file(&file);
    let upload = sluice.post("/file").bearer_auth(&jwt).header("content-type", content_type).body(body);
    let media: Value = upload.send().await.unwrap().json().await.unwrap();
    assert_eq!(media["owner_pub_key"], NodeKey::from_hex(&pubkey).unwrap().to_string());

    // Whoever owns a file needs no token for it.
    let buyer = SecretKey::from_slice(&[7; 32]).unwrap();
    let login = sluice.log_in(&buyer).await;
    let terms = |expires_at| Terms {
        host: sluice.address().to_string(),
        muid: media["muid"].as_str().unwrap().parse().unwrap(),
        buyer: Some(NodeKey::of(&buyer)),
        expires_at: Some(expires_at),
        meta: "amt=5".to_owned(),
    };
    for (over, signer, expires_at, status) in [
        (SignedOver::Raw, owner, u32::MAX, StatusCode::OK),
        (SignedOver::Text, owner, u32::MAX, StatusCode::OK),
        (SignedOver::Raw, owner, 1, StatusCode::GONE),
        (SignedOver::Raw, &network.seller, u32::MAX, StatusCode::UNAUTHORIZED),
    ] {
        let signature = signer.sign(&terms(expires_at).message(over)).await;
        let token = MediaToken::new(terms(expires_at), Some(signature)).unwrap().to_string();
        sluice.is_secret(&token);
        let reply = sluice.get(&format!("/file/{token}")).bearer_auth(&login).send().await.unwrap();
        let by_owner = std::ptr::eq(signer, owner);
        say!("a media token signed {over:?} by {}: {}", if by_owner { "its owner" } else { "another" }, reply.status());
        assert_eq!(reply.status(), status);
        if status == StatusCode::OK {
            assert!(reply.bytes().await.unwrap() == file, "not the bytes that were sent");
        }
    }
    sluice.finish().await;
}
