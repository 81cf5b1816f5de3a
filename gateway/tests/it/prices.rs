//! Prices that depend on the size or the path.

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};

use axum::{Json, Router, routing::post};
use serde_json::{Value, json};
use sluice_common::{l402::Credential, limits::FORM_ALLOWANCE_BYTES, secret::Secret};
use sluice_gateway::config::{Access, Price, PricerConfig};
use tokio::net::TcpListener;

use crate::{
    MIB, World,
    client::{Reply, Request},
    with,
};

const FORM: (&str, &str) = ("content-type", "multipart/form-data; boundary=x");

/// Sells uploads of at most 4 MB at 7 sat a MiB.
async fn by_size() -> World {
    World::with(|service| {
        service.offer.terms.max_upload_mb = 4;
        service.offer.terms.form_allowance_bytes = FORM_ALLOWANCE_BYTES;
        service.offer.price = Price::PerMib { per_mib_sat: 7, minimum_sat: 0 };
    })
    .await
}

fn form(target: &str, len: usize) -> Request {
    Request::post(target, &vec![1; len]).header(FORM.0, FORM.1)
}

fn priced(reply: &Reply) -> (u64, u64) {
    assert_eq!(reply.status, 402, "{}", reply.text());
    let body = reply.json();
    (body["price_sat"].as_u64().unwrap(), body["allows"]["max_upload_bytes"].as_u64().unwrap() / MIB as u64)
}

fn caveats(credential: &Credential) -> Vec<String> {
    credential.macaroon().caveats().map(str::to_owned).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_asked_for_is_what_is_paid_and_what_then_fits() {
    let world = by_size().await;
    let question = world.send(Request::new("GET", &format!("/largefile?size={}", 2 * MIB))).await;
    assert_eq!(priced(&question), (14, 2));
    assert_eq!(priced(&world.send(form("/largefile", 2 * MIB + 300)).await), (14, 2), "a form costs nothing");
    let credential = world.pay(&question).await;
    assert!(caveats(&credential).contains(&"large_upload_max_mb=2".to_owned()));
    for request in [
        form("/largefile", 2 * MIB + 300),
        form(&format!("/largefile?size={}", 2 * MIB), 2 * MIB + 40_000),
        form("/largefile", 2 * MIB + 300).chunked(true),
    ] {
        assert_eq!(world.send(with(request, &credential)).await.status, 200);
    }
    let larger = world.send(with(form("/largefile", 4 * MIB), &credential)).await;
    assert_eq!((priced(&larger), larger.json()["reason"].as_str()), ((28, 4), Some("too_small")));
    assert_eq!(world.send(with(form("/largefile", 4 * MIB), &world.pay(&larger).await)).await.status, 200);
    world.gateway.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn sizes_that_are_missing_wrong_or_too_large_are_said_before_the_body() {
    let world = by_size().await;
    for (request, status, code) in [
        (Request::new("GET", "/largefile"), 411, "length_required"),
        (form("/largefile", MIB).chunked(true), 411, "length_required"),
        (form("/largefile?size=1", 3 * MIB), 400, "two_sizes"),
        (form("/largefile?size=-1", 10), 400, "malformed_size"),
        (form("/largefile", 6 * MIB), 413, "too_large"),
        (Request::new("GET", "/largefile?size=99999999999"), 413, "too_large"),
        (Request::post("/largefile", b"").header("upload-length", "99999999999"), 413, "too_large"),
    ] {
        let reply = world.send(request).await;
        assert_eq!((reply.status, reply.json()["code"].as_str()), (status, Some(code)));
        assert!(reply.all("www-authenticate").is_empty());
    }
    assert!(world.behind.seen().is_empty());
    world.gateway.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_media_server_measures_as_too_large_is_sold_more() {
    let world = by_size().await;
    let credential = world.pay(&world.send(Request::new("GET", "/largefile?size=1")).await).await;
    let reply = world.send(with(form("/largefile?answer=too_small", 2 * MIB), &credential)).await;
    assert_eq!((priced(&reply), reply.json()["reason"].as_str()), ((14, 2), Some("too_small")));
    for (target, size, why) in [
        ("/largefile?answer=too_small", MIB, "no larger one is needed for this"),
        ("/largefile?answer=413", 2 * MIB, "it is no matter of the token: perhaps its owner has too much"),
    ] {
        let reply = world.send(with(form(target, size), &credential)).await;
        assert_eq!((reply.status, reply.all("www-authenticate").len()), (413, 0), "{why}");
    }
    world.gateway.stop().await;
}

/// A server that says the price in it, doubled for `/twice`; what it was asked goes to the second.
async fn pricer(price: Arc<AtomicU64>) -> (String, Arc<std::sync::Mutex<Vec<Value>>>) {
    let asked = Arc::<std::sync::Mutex<Vec<Value>>>::default();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/price", listener.local_addr().unwrap());
    let answer = {
        let asked = asked.clone();
        move |Json(question): Json<Value>| async move {
            let times = if question["path"] == "/twice" { 2 } else { 1 };
            asked.lock().unwrap().push(question);
            Json(json!({"price_sat": times * price.load(Ordering::SeqCst)}))
        }
    };
    tokio::spawn(async move { axum::serve(listener, Router::new().route("/price", post(answer))).await });
    (url, asked)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_price_of_a_path_is_for_that_path_and_none_is_let_through() {
    let price = Arc::new(AtomicU64::new(21));
    let (url, asked) = pricer(price.clone()).await;
    let timeout = std::time::Duration::from_secs(5);
    let config = PricerConfig { url: Secret::new(url), timeout, by_size: false, last_as_fallback: false };
    let world = World::with(|service| {
        service.offer.access = Access::protect(vec!["GET /*".parse().unwrap()]);
        service.offer.price = Price::External(config);
    })
    .await;
    let reply = world.send(Request::new("GET", "/once?secret=x")).await;
    assert_eq!((priced(&reply).0, reply.json()["allows"]["path"].as_str()), (21, Some("/once")));
    assert_eq!(*asked.lock().unwrap(), [json!({"service": "media", "path": "/once"})]);
    let credential = world.pay(&reply).await;
    assert!(caveats(&credential).contains(&"media_path=/once".to_owned()));
    assert_eq!(world.send(with(Request::new("GET", "/x/../once"), &credential)).await.status, 200);
    let reply = world.send(with(Request::new("GET", "/twice"), &credential)).await;
    assert_eq!((priced(&reply).0, reply.json()["reason"].as_str()), (42, Some("not_covered")));

    price.store(0, Ordering::SeqCst);
    assert_eq!(world.send(Request::new("GET", "/once")).await.status, 200);
    price.store(u64::MAX / 2, Ordering::SeqCst);
    let reply = world.send(Request::new("GET", "/once")).await;
    assert_eq!((reply.status, reply.json()["code"].as_str(), reply.one("retry-after")), (503, Some("no_price"), "5"));
    assert_eq!(world.send(with(Request::new("GET", "/once"), &credential)).await.status, 200);
    world.gateway.stop().await;
}
