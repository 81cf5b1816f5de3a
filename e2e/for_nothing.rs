//! What costs nothing is let through without a token, and its login owns it.

use reqwest::StatusCode;
use secp256k1::SecretKey;
use serde_json::Value;
use sluice_common::lightning_message::NodeKey;

use crate::support::{MIB, Sluice, bytes, form};

/// Uploads of up to 1 MB cost nothing, and the media server has another path here than there.
const FREE_MIB: &str = r#"
    [[service]]
    name = "media"
    protect = ["POST /m/largefile"]
    rewrite = { from = "/m", to = "/" }
    price = { steps = [{ up_to_mib = 1, price_sat = 0 }, { price_sat = 9 }] }
    max_upload_mb = 16
"#;

#[tokio::test]
async fn a_login_owns_what_costs_nothing_and_nobody_else_may_send_it() {
    let sluice = Sluice::start_with(FREE_MIB).await;
    let key = SecretKey::from_slice(&[7; 32]).unwrap();
    let jwt = sluice.log_in(&key).await;
    let (content_type, body) = form::with_file(b"for nothing");
    let post = |path: &str| sluice.post(path).header("content-type", &content_type).body(body.clone());
    let login = format!("Bearer {jwt}");

    let stored = post("/m/largefile?x=y").header("authorization", &login).send().await.unwrap();
    assert_eq!(stored.status(), StatusCode::OK);
    let media: Value = stored.json().await.unwrap();
    assert_eq!(media["owner_pub_key"], NodeKey::of(&key).to_string());
    let nobody = post("/m/largefile").send().await.unwrap();
    assert_eq!(nobody.status(), StatusCode::UNAUTHORIZED);
    let problem: Value = nobody.json().await.unwrap();
    assert_eq!(problem["code"], "login_required");
    assert!(problem["detail"].as_str().unwrap().contains("costs nothing"), "{problem}");

    // Past the gateway, or with a permit of one's own, it costs.
    let forged = format!("{}.{}.{}", MIB, u64::MAX, "00".repeat(32));
    for request in [
        sluice.client.post(format!("http://{}/largefile", sluice.backend_address())),
        sluice.client.post(format!("http://{}/largefile", sluice.backend_address())).header("sluice-permit", &forged),
    ] {
        let request = request.header("content-type", &content_type).body(body.clone());
        let refused = request.header("authorization", &login).send().await.unwrap();
        assert_eq!(refused.status(), StatusCode::PAYMENT_REQUIRED);
    }
    let (content_type, body) = form::with_file(&bytes(2 * MIB, 1));
    let larger = sluice.post("/m/largefile").header("content-type", content_type).body(body);
    let larger = larger.header("authorization", &login).header("sluice-permit", &forged).send().await.unwrap();
    assert_eq!(larger.status(), StatusCode::PAYMENT_REQUIRED);
    sluice.finish().await;
}

/// Each network of clients gets two uploads without paying.
const TWO_FREEBIES: &str = r#"
    [[service]]
    name = "media"
    protect = ["POST /largefile"]
    price_sat = 100
    freebies = { requests = 2 }
"#;

#[tokio::test]
async fn a_login_stores_its_freebies_and_then_pays() {
    let sluice = Sluice::start_with(TWO_FREEBIES).await;
    let key = SecretKey::from_slice(&[7; 32]).unwrap();
    let login = format!("Bearer {}", sluice.log_in(&key).await);
    for (content, status) in [("one", StatusCode::OK), ("two", StatusCode::OK), ("three", StatusCode::PAYMENT_REQUIRED)]
    {
        let (content_type, body) = form::with_file(content.as_bytes());
        let request = sluice.post("/largefile").header("content-type", content_type).body(body);
        let reply = request.header("authorization", &login).send().await.unwrap();
        assert_eq!(reply.status(), status, "{content}");
        let answer: Value = reply.json().await.unwrap();
        let owner = (status == StatusCode::OK).then(|| NodeKey::of(&key).to_string());
        assert_eq!(answer["owner_pub_key"].as_str(), owner.as_deref(), "{answer}");
    }
    sluice.finish().await;
}
