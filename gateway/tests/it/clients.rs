//! What bounds clients: where they are, who is not let in, and how fast they may ask.

use std::{num::NonZeroU32, time::Duration};

use sluice_gateway::limits::{Allowance, Freebies, RateKey, RateLimit, RateRule, TrustedProxies};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::timeout,
};

use super::{MIB, Request, World, with};

fn rule(requests: Option<&str>, burst: u32, key: RateKey) -> RateRule {
    let positive = |number| NonZeroU32::new(number).unwrap();
    // One more in a minute: none while a test runs.
    let limit = RateLimit { per_minute: positive(1), burst: positive(burst) };
    RateRule { requests: requests.map(|requests| requests.parse().unwrap()), limit, key }
}

fn loopback_is_a_proxy() -> TrustedProxies {
    TrustedProxies { networks: vec!["127.0.0.0/8".parse().unwrap()], ..TrustedProxies::default() }
}

/// Headers in which somebody says where a client is.
fn from(address: &str, request: Request) -> Request {
    request.header("x-forwarded-for", address).header("x-forwarded-proto", "https").header("x-real-ip", address)
}

#[tokio::test(flavor = "multi_thread")]
async fn servers_behind_learn_where_a_client_is_from_who_is_trusted() {
    for (proxies, told) in [
        (TrustedProxies::default(), ["127.0.0.1", "http", "example.com"]),
        (loopback_is_a_proxy(), ["203.0.113.9, 127.0.0.1", "https", "example.com"]),
    ] {
        let world = World::configured(|config| config.limits.proxies = proxies, None).await;
        let credential = world.buy().await;
        for request in [Request::new("GET", "/free"), with(Request::post("/largefile", b"x"), &credential)] {
            assert_eq!(world.send(from("203.0.113.9", request)).await.status, 200);
            let headers = world.behind.seen().pop().unwrap().headers;
            let names = ["x-forwarded-for", "x-forwarded-proto", "x-forwarded-host"];
            assert_eq!(names.map(|name| headers[name].to_str().unwrap().to_owned()), told);
            assert!(!headers.contains_key("x-real-ip"));
        }
        world.gateway.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn who_is_blocked_is_answered_and_not_listened_to() {
    let world = World::configured(
        |config| {
            config.limits.proxies = loopback_is_a_proxy();
            config.limits.blocklist = vec!["203.0.113.0/24".parse().unwrap(), "2001:db8::/32".parse().unwrap()];
        },
        None,
    )
    .await;
    let credential = world.buy().await;
    for address in ["203.0.113.9", "2001:db8:1::1", "198.51.100.1, ::ffff:203.0.113.9"] {
        let preflight = Request::new("OPTIONS", "/largefile").header("access-control-request-method", "POST");
        let paid = with(Request::post("/largefile", b"x"), &credential);
        for request in [Request::new("GET", "/free"), Request::new("GET", "/%00"), preflight, paid] {
            let reply = world.send(from(address, request)).await;
            assert_eq!((reply.status, reply.json()["code"].as_str()), (403, Some("blocked")), "{address}");
        }
        // It is answered at once, and its body is not waited for.
        let sent = Request::post("/largefile", &vec![1; MIB]).withhold_body();
        assert_eq!(world.send(from(address, sent)).await.status, 403);
        let grpc = Request::post("/largefile", b"x").header("content-type", "application/grpc");
        let reply = world.send(from(address, grpc)).await;
        assert_eq!((reply.status, reply.one("grpc-status")), (200, "7"));
    }
    assert!(world.behind.seen().is_empty());
    for address in ["203.0.114.9", "203.0.113.9, 198.51.100.1"] {
        assert_eq!(world.send(from(address, Request::new("GET", "/free"))).await.status, 200, "{address}");
    }
    assert_eq!(world.send(Request::new("GET", "/free")).await.status, 200);
    world.gateway.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn who_is_blocked_is_not_sent_elsewhere_either() {
    let world = World::configured(
        |config| {
            config.limits.proxies = loopback_is_a_proxy();
            config.limits.blocklist = vec!["203.0.113.0/24".parse().unwrap()];
            config.https_port = Some(443);
        },
        None,
    )
    .await;
    for (address, status) in [("203.0.113.9", 403), ("198.51.100.1", 308)] {
        let sent = Request::post("/largefile", &vec![1; MIB]).header("x-forwarded-for", address).withhold_body();
        assert_eq!(world.send(sent).await.status, status, "{address}");
    }
    world.gateway.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn each_client_has_a_rate_and_each_token_one_of_its_own() {
    let world = World::configured(
        |config| {
            config.limits.proxies = loopback_is_a_proxy();
            config.services[0].offer.rate_limits =
                vec![rule(Some("/free"), 2, RateKey::Client), rule(Some("POST /largefile"), 3, RateKey::Token)];
        },
        None,
    )
    .await;
    let limited = |reply: super::Reply| {
        assert_eq!((reply.status, reply.json()["code"].as_str()), (429, Some("rate_limited")));
        assert!((1..=60).contains(&reply.one("retry-after").parse::<u32>().unwrap()));
        assert_eq!(reply.one("access-control-allow-origin"), "*");
    };
    let free = |address: &str| world.send(from(address, Request::new("GET", "/free")));
    for address in ["203.0.113.1", "203.0.113.2", "203.0.114.1", "203.0.114.1"] {
        assert_eq!(free(address).await.status, 200);
    }
    limited(free("203.0.113.3").await);
    limited(free("203.0.114.3").await);
    let grpc = Request::post("/free", b"x").header("content-type", "application/grpc");
    let reply = world.send(from("203.0.113.3", grpc)).await;
    assert_eq!((reply.status, reply.one("grpc-status"), reply.body.len()), (200, "8", 0));
    assert_eq!(world.send(from("203.0.113.3", Request::new("GET", "/other"))).await.status, 200);

    // Two credentials, each asked for from one network: what is unpaid counts for the network.
    let (one, other) = (world.buy().await, world.buy().await);
    for credential in [&one, &other] {
        for address in ["203.0.113.1", "203.0.114.1", "203.0.115.1"] {
            let reply = world.send(from(address, with(Request::post("/largefile", b"x"), credential))).await;
            assert_eq!(reply.status, 200);
        }
        // The whole of its body is sent, and the answer is seen all the same.
        limited(
            world.send(from("203.0.116.1", with(Request::post("/largefile", &vec![1; 2 * MIB]), credential))).await,
        );
    }
    // A token that is none has the rate of its network, which the two bought in.
    let forged = || Request::post("/largefile", b"x").header("authorization", "L402 AAAA:00");
    assert_eq!(world.send(forged()).await.status, 401);
    limited(world.send(forged()).await);
    limited(world.send(Request::post("/largefile", b"x")).await);
    world.gateway.stop().await;
}

/// How many bodies of one network of clients are read on at once.
const DRAINS_OF_A_CLIENT: usize = 64;

#[tokio::test(flavor = "multi_thread")]
async fn one_network_does_not_take_the_turns_of_others_to_be_read_on() {
    let world = World::configured(|config| config.limits.proxies = loopback_is_a_proxy(), None).await;
    let refused = async |address: &str| {
        let mut stream = TcpStream::connect(world.gateway.address()).await.unwrap();
        let head = format!(
            "POST /largefile HTTP/1.1\r\nhost: a\r\nx-forwarded-for: {address}\r\nauthorization: L402 AAAA:00\r\n\
             content-length: 1000\r\n\r\n"
        );
        stream.write_all(head.as_bytes()).await.unwrap();
        let mut answer = [0; 4_096];
        let len = stream.read(&mut answer).await.unwrap();
        assert!(answer[..len].starts_with(b"HTTP/1.1 401 "));
        stream
    };
    let mut waiting = Vec::new();
    for number in 0..DRAINS_OF_A_CLIENT {
        waiting.push(refused(&format!("203.0.113.{number}")).await);
    }
    // One more is not read on: it is closed before its body could have been waited for.
    let closed = timeout(Duration::from_secs(5), refused("203.0.113.200").await.read_to_end(&mut Vec::new())).await;
    assert!(closed.is_ok(), "the connection is left open");
    // The others are waited for, and so is another network.
    waiting.push(refused("203.0.114.1").await);
    for stream in &mut waiting {
        stream.write_all(b"x").await.unwrap();
        let read = timeout(Duration::from_millis(1), stream.read(&mut [0; 16])).await;
        assert!(read.is_err(), "the connection is closed: {read:?}");
    }
    drop(waiting);
    world.gateway.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_network_gets_a_few_for_nothing_and_then_pays() {
    let allowance = |most| Allowance { most, window: Duration::from_secs(3_600) };
    for freebies in [Freebies::Requests(allowance(2)), Freebies::Bytes(allowance(2 * MIB as u64))] {
        let world = World::configured(
            |config| {
                config.limits.proxies = loopback_is_a_proxy();
                config.services[0].offer.freebies = Some(freebies);
            },
            None,
        )
        .await;
        let body = vec![7; MIB];
        // The media server asks for a login where nobody paid.
        let upload = || Request::post("/largefile?jwt=a.b.c", &body);
        for network in ["203.0.113.1", "203.0.114.1"] {
            assert_eq!(world.send(from(network, Request::new("GET", "/largefile"))).await.status, 402, "its price");
            let nameless = Request::post("/largefile", &body);
            assert_eq!(world.send(from(network, nameless)).await.status, 402, "who could not own the file can pay");
            let forged = upload().header("authorization", "L402 AAAA:00");
            assert_eq!(world.send(from(network, forged)).await.status, 401, "it is checked all the same");
            for _ in 0..2 {
                assert_eq!(world.send(from(network, upload())).await.status, 200, "{network} {freebies:?}");
            }
            assert_eq!(world.send(from(network, upload())).await.status, 402, "{network} {freebies:?}");
        }
        let large = world.send(from("203.0.115.1", Request::post("/largefile", &vec![7; 4 * MIB]))).await;
        assert_eq!(large.status, 413, "no larger than what is sold");
        let chunked = world.send(from("203.0.115.1", upload().chunked(true))).await;
        let is_counted = matches!(freebies, Freebies::Requests(_));
        assert_eq!(chunked.status, if is_counted { 200 } else { 402 }, "how much it is nobody knows");
        assert_eq!(world.behind.seen().len(), if is_counted { 5 } else { 4 });
        world.gateway.stop().await;
    }
}
