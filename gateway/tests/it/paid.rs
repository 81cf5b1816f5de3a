//! What costs, is paid, and goes on.

use std::{net::TcpListener, sync::Arc, time::Duration};

use sluice_common::l402::{Credential, Macaroon};
use sluice_gateway::{
    config::{GatewayConfig, UpstreamConfig},
    server::{Beside, Gateway},
};

use super::{MIB, World, client, client::Request, with};

#[tokio::test(flavor = "multi_thread")]
async fn asks_for_payment_takes_it_and_forwards() {
    let world = World::new().await;
    let reply = world.send(Request::post("/largefile", b"hello")).await;
    assert_eq!(reply.status, 402);
    let lines = reply.all("www-authenticate");
    assert!(lines[0].starts_with("LSAT macaroon=\"") && lines[1].starts_with("L402 macaroon=\""), "{lines:?}");
    assert_eq!(lines.len(), 2);
    assert_eq!(reply.one("cache-control"), "no-store");
    assert_eq!(reply.one("content-type"), "application/problem+json");
    assert_eq!(reply.one("access-control-allow-origin"), "*");
    let body = reply.json();
    assert_eq!(body["code"], "payment_required");
    assert_eq!(body["reason"], "no_credential");
    assert_eq!(body["price_sat"], 100);
    assert_eq!(body["allows"]["max_upload_bytes"], 2 * MIB);
    assert_eq!(body["invoice"], reply.challenge().invoice);
    assert!(world.behind.seen().is_empty(), "nothing unpaid reaches the server behind");

    let credential = world.pay(&reply).await;
    let reply = world.send(with(Request::post("/largefile?a=b%20c", b"hello"), &credential)).await;
    assert_eq!(reply.status, 200, "{}", reply.text());
    let seen = world.behind.seen();
    assert_eq!(
        (seen[0].method.as_str(), seen[0].target.as_str(), seen[0].body_bytes),
        ("POST", "/largefile?a=b%20c", 5)
    );
    assert_eq!(seen[0].headers["authorization"], *credential.authorization().expose());
    world.gateway.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_price_is_told_without_a_body() {
    let world = World::new().await;
    let reply = world.send(Request::new("GET", "/largefile")).await;
    assert_eq!(reply.status, 402);
    let credential = world.pay(&reply).await;
    let head = world.send(Request::new("HEAD", "/largefile")).await;
    assert_eq!((head.status, head.body.len()), (402, 0));
    assert_eq!(head.all("www-authenticate").len(), 2);
    let reply = world.send(with(Request::new("GET", "/largefile"), &credential)).await;
    assert_eq!(reply.status, 200, "a token's state is for the server behind to tell");
    world.gateway.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_grpc_client_reads_it_in_its_own_way() {
    let world = World::new().await;
    let reply = world.send(Request::post("/largefile", b"x").header("content-type", "application/grpc+proto")).await;
    assert_eq!((reply.status, reply.body.len()), (200, 0));
    assert_eq!((reply.one("grpc-status"), reply.one("grpc-message")), ("13", "payment required"));
    assert_eq!((reply.one("content-type"), reply.one("cache-control")), ("application/grpc", "no-store"));
    assert_eq!(reply.all("www-authenticate").len(), 2);
    world.gateway.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_money_cannot_mend_is_refused_without_an_invoice() {
    let world = World::new().await;
    let good = world.buy().await;
    let (token, preimage) = (good.macaroon().to_base64(), good.preimage().expose_hex());
    let widened = good.macaroon().attenuate(&["large_upload_max_mb=4096".into()]).unwrap().to_base64();
    let strange = good.macaroon().attenuate(&["ip=10.0.0.1".into()]).unwrap().to_base64();
    let mut forged = good.macaroon().as_bytes().to_vec();
    *forged.last_mut().unwrap() ^= 1;
    let forged = Macaroon::from_bytes(forged).unwrap().to_base64();
    for (value, status, code) in [
        ("L402 !!!:00".to_owned(), 401, "malformed_credential"),
        (format!("LSAT {token}:"), 401, "malformed_credential"),
        (format!("L402 {}:{preimage}", &token[..token.len() / 2]), 401, "malformed_credential"),
        (format!("L402 {forged}:{preimage}"), 401, "forged_token"),
        (format!("L402 {token}:{}", "00".repeat(32)), 401, "wrong_preimage"),
        (format!("L402 {widened}:{preimage}"), 401, "widened_caveat"),
        (format!("L402 {strange}:{preimage}"), 401, "caveat_not_understood"),
        (format!("L402 {token}:{preimage}, L402 {strange}:{preimage}"), 400, "two_credentials"),
    ] {
        for method in ["POST", "GET"] {
            let reply = world.send(Request::new(method, "/largefile").header("authorization", &value)).await;
            assert_eq!((reply.status, reply.json()["code"].as_str()), (status, Some(code)), "{method} {value}");
            assert!(reply.all("www-authenticate").is_empty());
            assert!(!reply.text().contains(&preimage));
        }
    }
    assert!(world.behind.seen().is_empty());
    world.gateway.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_size_is_bounded_by_its_declaration_and_while_it_streams() {
    let world = World::new().await;
    let credential = world.buy().await;
    // What a form may have beside its file, the media server measures.
    let (limit, form) = (3 * MIB, ("content-type", "multipart/form-data; boundary=x"));
    let (file, other) = (2 * MIB, ("content-type", "video/mp4"));
    for (body, kind, status) in [(limit, form, 200), (limit + 1, form, 413), (file, other, 200), (file + 1, other, 413)]
    {
        for chunked in [false, true] {
            let request = Request::post("/largefile", &vec![7; body]).header(kind.0, kind.1);
            let reply = world.send(with(request, &credential).chunked(chunked)).await;
            assert_eq!(reply.status, status, "{body} bytes, {kind:?}, chunked: {chunked}: {}", reply.text());
            if status == 413 {
                let problem = reply.json();
                assert_eq!((&problem["code"], &problem["limit_bytes"]), (&"too_large".into(), &(2 * MIB).into()));
                assert!(problem["size_bytes"].as_u64().unwrap() > (2 * MIB) as u64);
                assert!(reply.all("www-authenticate").is_empty());
            }
        }
    }
    let unpaid = world.send(Request::post("/largefile", &vec![7; limit + 1]).header(form.0, form.1)).await;
    assert_eq!(unpaid.status, 413, "no money makes room for it");
    world.gateway.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_came_whole_is_forwarded_whatever_its_sender_does_then() {
    // All of them may be under way at once.
    let many = |config: &mut GatewayConfig| config.limits.max_uploads_per_token = 100.try_into().unwrap();
    let world = World::configured(many, None).await;
    let credential = world.buy().await;
    for _ in 0..100 {
        let request = with(Request::post("/largefile", &[7; 100_000]), &credential);
        client::send_and_hang_up(world.gateway.address(), request).await;
    }
    let came = async {
        while world.behind.seen().len() < 100 {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(30), came).await.expect("some were not forwarded");
    let reply = world.send(with(Request::post("/largefile", b"x"), &credential).half_close()).await;
    assert_eq!(reply.status, 200, "who has sent all may say so, and still gets an answer");
    world.gateway.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn paths_are_matched_as_they_are_forwarded() {
    let world = World::new().await;
    for path in ["/largefile", "//largefile", "/x/../largefile", "/%6cargefile", "/./largefile", "/%2Flargefile"] {
        assert_eq!(world.send(Request::post(path, b"x")).await.status, 402, "{path}");
    }
    for path in ["/largefile%00", "/large\\file", "/a%5Cb", "/%zz"] {
        let reply = world.send(Request::post(path, b"x")).await;
        assert_eq!((reply.status, reply.json()["code"].as_str()), (400, Some("malformed_path")), "{path}");
    }
    assert!(world.behind.seen().is_empty());
    for (path, forwarded) in
        [("/a//b/../c?x=//..", "/a/c?x=//.."), ("/file/a%3D", "/file/a%3D"), ("/a%2525", "/a%2525")]
    {
        assert_eq!(world.send(Request::new("GET", path)).await.status, 200);
        assert_eq!(world.behind.seen().last().unwrap().target, forwarded);
    }
    world.gateway.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_server_behind_says_used_up_and_the_gateway_asks_for_payment() {
    let world = World::new().await;
    let credential = world.buy().await;
    for path in ["/largefile?answer=used_up", "/largefile?answer=expired"] {
        let reply = world.send(with(Request::post(path, &vec![1; MIB]), &credential)).await;
        assert_eq!(reply.status, 402);
        assert_eq!(reply.json()["reason"], path.rsplit_once('=').unwrap().1);
        assert_eq!(reply.all("www-authenticate").len(), 2);
        assert!(reply.all("sluice-payment-required").is_empty());
        assert!(world.pay(&reply).await.macaroon().identifier().is_ok());
    }
    let reply = world.send(with(Request::post("/other?answer=used_up", b"x"), &credential)).await;
    assert!(reply.all("www-authenticate").is_empty(), "only what costs is asked for");
    world.gateway.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_expired_or_foreign_token_is_asked_for_payment_again() {
    let world = World::with(|service| service.offer.terms.valid_for_secs = None).await;
    let credential = world.buy().await;
    let narrowed = |caveat: &str| {
        Credential::new(credential.macaroon().attenuate(&[caveat.to_owned()]).unwrap(), credential.preimage().clone())
    };
    for (credential, reason) in
        [(narrowed("media_valid_until=1"), "expired"), (narrowed("media_capabilities="), "not_covered")]
    {
        // The media server looks first whether it is what an expired token stored.
        let target = if reason == "expired" { "/largefile?answer=expired" } else { "/largefile" };
        let reply = world.send(with(Request::post(target, b"x"), &credential)).await;
        assert_eq!((reply.status, reply.json()["reason"].as_str()), (402, Some(reason)));
        assert_eq!(reply.all("www-authenticate").len(), 2);
        let status = world.send(with(Request::new("GET", "/largefile"), &credential)).await;
        assert_eq!(status.status, 200, "what it stored can still be asked");
    }
    world.gateway.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn any_page_may_ask() {
    let world = World::new().await;
    let preflight = Request::new("OPTIONS", "/largefile")
        .header("origin", "https://example.com")
        .header("access-control-request-method", "POST")
        .header("access-control-request-headers", "authorization,content-type,accept-authenticate");
    let reply = world.send(preflight).await;
    assert_eq!(reply.status, 204);
    assert!(reply.one("access-control-allow-methods").contains("POST"));
    for header in ["Authorization", "Content-Type", "Accept-Authenticate"] {
        assert!(reply.one("access-control-allow-headers").contains(header));
    }
    let reply = world.send(Request::new("GET", "/ping").header("origin", "https://example.com")).await;
    assert_eq!((reply.status, reply.one("access-control-allow-origin")), (200, "*"));
    assert!(reply.one("access-control-expose-headers").contains("WWW-Authenticate"));
    world.gateway.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_behind_that_sells_nothing_itself_never_sees_a_credential() {
    let world = World::with(|service| service.offer.forward_credential = false).await;
    let credential = world.buy().await;
    let request = with(Request::post("/largefile", b"x"), &credential)
        .header("authorization", "Bearer a.b.c")
        .header("sluice-permit", "forged");
    assert_eq!(world.send(request).await.status, 200);
    let seen = &world.behind.seen()[0];
    assert_eq!(seen.headers.get_all("authorization").iter().collect::<Vec<_>>(), ["Bearer a.b.c"]);
    assert!(!seen.headers.contains_key("sluice-permit"));
    world.gateway.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn says_so_when_the_server_behind_is_away() {
    let world = World::with(|service| {
        // A port that was free a moment ago, and where nobody listens.
        let free = sluice_testing::free_address();
        service.upstream = UpstreamConfig::new(&[free.to_string()]).unwrap();
    })
    .await;
    let reply = world.send(Request::new("GET", "/ping")).await;
    assert_eq!((reply.status, reply.json()["code"].as_str()), (502, Some("upstream_unavailable")));
    assert_eq!(reply.one("retry-after"), "5");
    let credential = world.buy().await;
    let reply = world.send(with(Request::post("/largefile", &vec![1; 2 * MIB]), &credential)).await;
    assert_eq!(reply.status, 502, "also to a client that sends its body first");
    world.gateway.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_outlives_the_gateway() {
    let first = World::new().await;
    let credential = first.buy().await;
    first.gateway.stop().await;
    let second = World::new().await;
    assert_eq!(second.send(with(Request::post("/largefile", b"x"), &credential)).await.status, 200);
    second.gateway.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_taken_address_is_an_error_and_no_panic() {
    let world = World::new().await;
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap();
    let config = GatewayConfig { listen: address, admin_listen: address, ..world.config.clone() };
    let error = Gateway::start(config, world.wallet.clone(), world.ledger.clone(), Arc::default(), Beside::default())
        .await
        .err()
        .unwrap();
    assert!(error.to_string().starts_with("cannot listen on 127.0.0.1:"), "{error}");
    world.gateway.stop().await;
}
