//! What costs nothing is let through without a token, and its login owns it.

use std::fs;

use reqwest::{StatusCode, header::WWW_AUTHENTICATE};
use secp256k1::SecretKey;
use serde_json::Value;
use sluice_common::{
    l402::{Credential, Macaroon},
    lightning_message::NodeKey,
};

use crate::support::{MIB, SINGLE_USE, Sluice, bytes, eventually, form};

/// Uploads of up to 1 MB cost nothing, and the media server has other paths here than there; beside them its own.
const FREE_MIB: &str = r#"
    [[service]]
    name = "media"
    protect = ["POST /m/largefile"]
    rewrite = { from = "/m", to = "/" }
    price = { steps = [{ up_to_mib = 1, price_sat = 0 }, { price_sat = 9 }] }
    max_upload_mb = 16

    [[service]]
    name = "rest"
    protect = []
    price_sat = 0
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

    // Past the gateway, with a permit of one's own, or under another name it costs.
    let forged = format!("{}.{}.{}", MIB, u64::MAX, "00".repeat(32));
    for request in [
        sluice.client.post(format!("http://{}/largefile", sluice.backend_address())),
        sluice.client.post(format!("http://{}/largefile", sluice.backend_address())).header("sluice-permit", &forged),
        sluice.post("/largefile"),
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

/// Asserts that the price of a file is none, and that the command sends it without a payment.
async fn the_command_pays_nothing(sluice: &Sluice, name: &str) {
    let asked = sluice.get("/largefile?size=5").send().await.unwrap();
    assert_eq!((asked.status(), asked.headers().contains_key(WWW_AUTHENTICATE)), (StatusCode::OK, false));
    let answer: Value = asked.json().await.unwrap();
    assert_eq!((&answer["price_sat"], &answer["allows"]["service"]), (&0.into(), &"media".into()), "{answer}");
    assert!(answer["allows"]["max_upload_bytes"].as_u64().unwrap() >= MIB as u64, "{answer}");
    fs::write(sluice.folder().join(name), name).unwrap();
    let output = sluice.run(&["upload", name, "--paid", "--pay"]).await;
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    assert_eq!(sluice.payments_made().await, 0);
}

#[tokio::test]
async fn the_command_takes_a_price_of_nothing_and_pays_above_it() {
    let config = FREE_MIB.replace("/m/", "/").replace("rewrite = { from = \"/m\", to = \"/\" }", "");
    let sluice = Sluice::start_with(&config).await;
    the_command_pays_nothing(&sluice, "small").await;
    fs::write(sluice.folder().join("large"), bytes(2 * MIB, 1)).unwrap();
    let output = sluice.run(&["upload", "large", "--paid", "--pay"]).await;
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    assert_eq!(sluice.payments_made().await, 1);
    sluice.finish().await;
}

#[tokio::test]
async fn the_command_pays_nothing_in_a_dry_run() {
    let sluice = Sluice::start_with(&format!("{SINGLE_USE}dry_run = true\n")).await;
    the_command_pays_nothing(&sluice, "small").await;
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

/// A token that is nobody's, with the preimage of one that is paid.
fn forged(credential: &Credential) -> Credential {
    let mut macaroon = credential.macaroon().as_bytes().to_vec();
    *macaroon.last_mut().unwrap() ^= 1;
    Credential::new(Macaroon::from_bytes(macaroon).unwrap(), credential.preimage().clone())
}

/// Uploads with these lines of `Authorization`. Nobody is asked for money: status and body of the answer.
async fn upload_with(sluice: &Sluice, lines: &[&str], file: &[u8]) -> (StatusCode, Value) {
    let (content_type, body) = form::with_file(file);
    let request = sluice.post("/largefile").header("content-type", content_type).body(body);
    let reply =
        lines.iter().fold(request, |request, line| request.header("authorization", *line)).send().await.unwrap();
    assert!(!reply.headers().contains_key(WWW_AUTHENTICATE), "{lines:?}");
    (reply.status(), reply.json().await.unwrap())
}

#[tokio::test]
async fn in_a_dry_run_a_login_owns_what_it_sends_and_nobody_is_asked_for_money() {
    let sluice = Sluice::start_with(SINGLE_USE).await;
    let (credential, key) = (sluice.buy().await, SecretKey::from_slice(&[7; 32]).unwrap());
    let login = format!("Bearer {}", sluice.log_in(&key).await);
    fs::write(sluice.folder().join("sluice.toml"), format!("{SINGLE_USE}dry_run = true\n")).unwrap();
    sluice.signal("HUP").await;
    eventually("the dry run", async || sluice.log().contains("the configuration was read again").then_some(())).await;

    let forged = forged(&credential).authorization();
    let tokens = [None, Some(forged.expose().as_str()), Some("L402 !!!:00")];
    for (number, token) in tokens.iter().enumerate() {
        let (status, problem) = upload_with(&sluice, token.as_slice(), b"nobody's").await;
        assert_eq!((status, &problem["code"]), (StatusCode::UNAUTHORIZED, &"login_required".into()), "token {number}");
        let lines: Vec<&str> = token.iter().copied().chain([login.as_str()]).collect();
        let (status, media) = upload_with(&sluice, &lines, format!("with token {number}").as_bytes()).await;
        assert_eq!(status, StatusCode::OK, "{media}");
        assert_eq!(media["owner_pub_key"], NodeKey::of(&key).to_string(), "token {number}");
    }

    // A good one goes on, and is used up.
    assert_eq!(sluice.token_state(&credential).await["can_store"], true);
    let (status, media) = upload_with(&sluice, &[credential.authorization().expose().as_str()], b"paid for").await;
    assert_eq!(status, StatusCode::OK, "{media}");
    assert_eq!(sluice.token_state(&credential).await["reason"], "used_up");
    sluice.finish().await;
}
