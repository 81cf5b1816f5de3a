//! Clients that are slow, that are many at once, and that send what is never stored.

use std::{num::NonZeroU32, time::Duration};

use bytes::Bytes;
use sluice_common::l402::Credential;
use sluice_gateway::{
    config::GatewayConfig,
    ledger::Payment,
    limits::{LimitsConfig, SlowClients},
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpSocket, TcpStream},
    sync::mpsc,
    time::{Instant, timeout},
};

use super::{MIB, Request, World, behind::LARGE, client::pieces, ledger, metrics, with};

/// Longer than any bound of these tests, shorter than those of a real gateway.
const SOON: Duration = Duration::from_secs(10);

/// Between two pieces of what comes slowly.
const PAUSE: Duration = Duration::from_millis(20);

fn slow() -> SlowClients {
    SlowClients {
        head_timeout: Duration::from_millis(300),
        keepalive: Duration::from_secs(1),
        body_timeout: Duration::from_millis(400),
        min_body_rate: 1_000,
    }
}

async fn limited(change: impl FnOnce(&mut LimitsConfig)) -> World {
    World::configured(|config| change(&mut config.limits), None).await
}

fn positive(number: u32) -> NonZeroU32 {
    NonZeroU32::new(number).unwrap()
}

fn upload_head(credential: &Credential, content_length: usize) -> String {
    let authorization = credential.authorization();
    format!(
        "POST /largefile HTTP/1.1\r\nhost: a\r\ncontent-type: multipart/form-data; boundary=x\r\nauthorization: {}\r\n\
         content-length: {content_length}\r\n\r\n",
        authorization.expose()
    )
}

/// What the server says while it is sent `bytes` again and again with pauses, until it closes.
async fn drip(stream: &mut TcpStream, bytes: &[u8]) -> String {
    let mut said = Vec::new();
    let dripping = async {
        loop {
            let mut piece = [0; 4_096];
            match timeout(PAUSE, stream.read(&mut piece)).await {
                Ok(Ok(0) | Err(_)) => return,
                Ok(Ok(len)) => said.extend_from_slice(&piece[..len]),
                // A server that has gone shows when it is read from.
                Err(_) => drop(stream.write_all(bytes).await),
            }
        }
    };
    timeout(SOON, dripping).await.expect("the connection stays open");
    String::from_utf8(said).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_head_that_does_not_come_to_its_end_is_not_waited_for() {
    let world = limited(|limits| limits.slow = slow()).await;
    let connect = || TcpStream::connect(world.gateway.address());
    let h2 = [&b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"[..], &[0, 0, 0, 4, 0, 0, 0, 0, 0]].concat();
    let first = b"GET /free HTTP/1.1\r\nhost: a\r\n\r\n";
    for (begin, more) in [
        (&b""[..], &b""[..]),
        (b"GET", b""),
        (b"GET /free HTTP/1.1\r\nhost: a\r\nx: ", b"x"),
        (b"GET /free HTTP/1.1\r\nhost: a\r\n", b"x: y\r\n"),
        (&h2, b""),
        (&h2[..20], b""),
        // A connection that was good once.
        (first, b""),
        (first, b"x"),
    ] {
        let mut stream = connect().await.unwrap();
        stream.write_all(begin).await.unwrap();
        let began = Instant::now();
        let said = drip(&mut stream, more).await;
        let is_reused = begin == first;
        assert_eq!(said.starts_with("HTTP/1.1 200"), is_reused, "{said}");
        let least = if is_reused { slow().keepalive } else { Duration::from_millis(100) };
        assert!(began.elapsed() > least, "closed too early: {:?}", began.elapsed());
    }
    // Who is only slow within the bound is served.
    let mut stream = connect().await.unwrap();
    for piece in first.chunks(12) {
        stream.write_all(piece).await.unwrap();
        assert!(timeout(PAUSE, stream.read(&mut [0; 16])).await.is_err() || piece.ends_with(b"\r\n\r\n"));
    }
    world.gateway.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_body_that_drips_is_refused_and_a_slow_one_that_lives_is_stored() {
    let world = limited(|limits| limits.slow = slow()).await;
    let credential = world.buy().await;
    let mut stream = TcpStream::connect(world.gateway.address()).await.unwrap();
    stream.write_all(upload_head(&credential, MIB).as_bytes()).await.unwrap();
    let said = drip(&mut stream, b"x").await;
    assert!(said.starts_with("HTTP/1.1 408 ") && said.contains("request_timeout"), "{said}");

    // For much longer than a byte may take, or a head.
    let (pieces, piece) = (100, [7; 100]);
    let mut stream = TcpStream::connect(world.gateway.address()).await.unwrap();
    stream.write_all(upload_head(&credential, pieces * piece.len()).as_bytes()).await.unwrap();
    let (began, mut answer) = (Instant::now(), [0; 4_096]);
    for _ in 0..pieces {
        assert!(timeout(PAUSE, stream.read(&mut answer)).await.is_err(), "answered before the end");
        stream.write_all(&piece).await.unwrap();
    }
    let len = timeout(SOON, stream.read(&mut answer)).await.unwrap().unwrap();
    assert!(answer[..len].starts_with(b"HTTP/1.1 200 "));
    assert!(began.elapsed() > 4 * slow().body_timeout);
    assert_eq!(world.behind.seen().pop().unwrap().body_bytes, pieces * piece.len());
    world.gateway.stop().await;
}

/// A request over HTTP/2 whose body comes as it is put into the channel.
fn streamed(world: &World, path: &str, credential: &Credential) -> (reqwest::RequestBuilder, mpsc::Sender<Bytes>) {
    let client = reqwest::Client::builder().http2_prior_knowledge().build().unwrap();
    let (sender, body) = pieces();
    let request = client
        .post(format!("http://{}{path}", world.gateway.address()))
        .header("authorization", credential.authorization().expose())
        .body(body);
    (request, sender)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_body_of_http2_that_stops_is_not_waited_for_unless_it_is_of_grpc() {
    // Where uploads are taken, gRPC is no excuse.
    for takes_uploads in [true, false] {
        let change = |config: &mut GatewayConfig| {
            config.limits.slow = slow();
            config.services[0].offer.forward_credential = takes_uploads;
        };
        let world = World::configured(change, None).await;
        let credential = world.buy().await;
        for content_type in ["text/plain", "application/grpc"] {
            let (request, pieces) = streamed(&world, "/largefile", &credential);
            let mut answer = Box::pin(request.header("content-type", content_type).send());
            pieces.send(Bytes::from_static(b"x")).await.unwrap();
            if takes_uploads || content_type == "text/plain" {
                let outcome = timeout(SOON, answer).await.expect("it is waited for");
                assert!(outcome.is_err(), "{outcome:?}");
                continue;
            }
            for _ in 0..3 {
                pieces.send(Bytes::from_static(b"x")).await.unwrap();
                let waited = timeout(3 * slow().body_timeout, &mut answer).await;
                assert!(waited.is_err(), "{waited:?}");
            }
            drop(pieces);
            assert_eq!(timeout(SOON, answer).await.unwrap().unwrap().status(), 200);
        }
        world.gateway.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_has_so_many_uploads_at_once_and_others_have_theirs() {
    let world = limited(|limits| limits.max_uploads_per_token = positive(2)).await;
    let (one, other) = (world.buy().await, world.buy().await);
    let mut under_way = Vec::new();
    for _ in 0..2 {
        let mut stream = TcpStream::connect(world.gateway.address()).await.unwrap();
        let head = upload_head(&one, 10).replace("host:", "expect: 100-continue\r\nhost:");
        stream.write_all(head.as_bytes()).await.unwrap();
        let mut go_on = [0; 4_096];
        let len = timeout(SOON, stream.read(&mut go_on)).await.unwrap().unwrap();
        assert!(go_on[..len].starts_with(b"HTTP/1.1 100 "), "it is under way");
        under_way.push(stream);
    }
    let status = async |credential: &Credential| world.send(with(Request::post("/largefile", b"x"), credential)).await;
    let reply = status(&one).await;
    assert_eq!((reply.status, reply.json()["code"].as_str()), (429, Some("too_many_uploads")));
    assert_eq!(reply.one("retry-after"), "2");
    assert_eq!(status(&other).await.status, 200);
    assert_eq!(world.send(with(Request::new("GET", "/largefile"), &one)).await.status, 200, "no upload");
    let narrowed = one.macaroon().attenuate(&["delegate=00000000000000000000000000000000".into()]).unwrap();
    let narrowed = Credential::new(narrowed, one.preimage().clone());
    assert_eq!(status(&narrowed).await.status, 429, "the payment counts");

    let (mut stream, mut answer) = (under_way.pop().unwrap(), [0; 4_096]);
    stream.write_all(b"0123456789").await.unwrap();
    let len = timeout(SOON, stream.read(&mut answer)).await.unwrap().unwrap();
    assert!(answer[..len].starts_with(b"HTTP/1.1 200 "));
    for _ in 0..20 {
        assert_eq!(status(&one).await.status, 200, "one that is answered is no longer under way");
    }
    drop(under_way);
    world.gateway.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_sent_and_never_stored_is_taken_ten_times_and_what_is_stored_does_not_count() {
    let world = World::new().await;
    let (one, other) = (world.buy().await, world.buy().await);
    // 2 MB were sold: 20 MB may come for nothing.
    let body = vec![7; 2 * MIB];
    for _ in 0..15 {
        assert_eq!(world.send(with(Request::post("/largefile", &body), &one)).await.status, 200);
    }
    // A narrower one of the same payment has as much.
    let narrowed = one.macaroon().attenuate(&["large_upload_max_mb=1".into(), "large_upload_max_uses=1000".into()]);
    let narrowed = Credential::new(narrowed.unwrap(), one.preimage().clone());
    let waste = async || {
        let mut stream = TcpStream::connect(world.gateway.address()).await.unwrap();
        stream.write_all(upload_head(&one, 3 * MIB).as_bytes()).await.unwrap();
        stream.write_all(&body).await.unwrap();
    };
    for _ in 0..9 {
        waste().await;
    }
    let small = Request::post("/largefile", b"x").header("authorization", narrowed.authorization().expose());
    assert_eq!(world.send(small).await.status, 200, "18 of 20 MB came");
    waste().await;
    let refused = async {
        loop {
            match world.send(with(Request::post("/largefile", b"x"), &narrowed)).await {
                reply if reply.status == 200 => {}
                reply => return reply,
            }
        }
    };
    let reply = timeout(SOON, refused).await.expect("all of them have ended");
    assert_eq!((reply.status, reply.json()["code"].as_str()), (429, Some("too_much_not_stored")));
    let wait: u32 = reply.one("retry-after").parse().unwrap();
    assert!((86_000..=86_400).contains(&wait), "{wait}");
    assert_eq!(world.send(with(Request::new("GET", "/largefile"), &one)).await.status, 200);
    assert_eq!(world.send(with(Request::post("/largefile", b"x"), &other)).await.status, 200);
    world.gateway.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_stored_before_is_taken_ten_times_too_and_sold_once() {
    let world = World::new().await;
    let credential = world.buy().await;
    // 2 MB were sold: 20 MB may come for nothing.
    let again = || with(Request::post("/largefile?answer=stored_before", &vec![7; 2 * MIB]), &credential);
    for _ in 0..10 {
        let reply = world.send(again()).await;
        assert_eq!(reply.status, 200);
        assert!(reply.all("sluice-stored-before").is_empty());
    }
    let refused = async { while world.send(again()).await.status == 200 {} };
    timeout(SOON, refused).await.expect("there is no bound");
    let reply = world.send(again()).await;
    assert_eq!((reply.status, reply.json()["code"].as_str()), (429, Some("too_much_not_stored")));
    let refused = |payment: &Payment| payment.bought.refused == 2;
    let bought = ledger::payment(&*world.ledger, refused).await.bought;
    assert_eq!((bought.uses, bought.bytes, bought.given_back), (0, 0, 0));
    assert!(!world.metrics.render().contains("sold_bytes_total{"), "{}", world.metrics.render());
    world.gateway.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_is_taken_slowly_but_not_never() {
    let slow = SlowClients { body_timeout: Duration::from_secs(1), ..slow() };
    let world = limited(|limits| limits.slow = slow).await;
    let begun = async || {
        let socket = TcpSocket::new_v4().unwrap();
        socket.set_recv_buffer_size(65_536).unwrap();
        let mut stream = socket.connect(world.gateway.address()).await.unwrap();
        stream.write_all(b"GET /free?answer=large HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n").await.unwrap();
        stream.readable().await.unwrap();
        stream
    };
    let mut living = begun().await;
    // For longer than a body that comes may pause.
    tokio::time::sleep(2 * slow.body_timeout).await;
    let mut all = Vec::new();
    timeout(6 * SOON, living.read_to_end(&mut all)).await.unwrap().unwrap();
    assert!(all.starts_with(b"HTTP/1.1 200 ") && all.len() > LARGE, "{} bytes", all.len());

    let _dead = begun().await;
    let failed = r#"sluice_gateway_requests_total{service="media",outcome="failed",status="2xx"} 1"#;
    metrics::says(&world, failed).await;
    world.gateway.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_not_read_on_is_counted() {
    let world = World::new().await;
    let early = async || {
        let mut stream = TcpStream::connect(world.gateway.address()).await.unwrap();
        stream
            .write_all(b"POST /largefile HTTP/1.1\r\nhost: a\r\nauthorization: L402 !\r\ncontent-length: 9\r\n\r\n")
            .await
            .unwrap();
        assert!(stream.read(&mut [0; 4_096]).await.unwrap() > 0);
        stream
    };
    let mut reading = Vec::new();
    for _ in 0..64 {
        reading.push(early().await);
    }
    assert!(!world.metrics.render().contains("drains"));
    early().await;
    metrics::says(&world, r#"sluice_gateway_limits_total{limit="drains"} 1"#).await;
    drop(reading);
    world.gateway.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_network_uploads_so_much_a_day_for_nothing_and_may_always_pay() {
    let world = World::configured(
        |config| {
            config.services[0].offer.free_uploads = vec!["POST /file".parse().unwrap()];
            config.limits.free_upload_bytes_per_day = Some(3 * MIB as u64);
        },
        None,
    )
    .await;
    let body = vec![7; 2 * MIB];
    for chunked in [false, true] {
        assert_eq!(world.send(Request::post("/file", &body[..MIB]).chunked(chunked)).await.status, 200);
    }
    for chunked in [false, true] {
        let reply = world.send(Request::post("/file", &body).chunked(chunked)).await;
        assert_eq!((reply.status, reply.json()["code"].as_str()), (429, Some("free_uploads_used_up")), "{chunked}");
        let wait: u32 = reply.one("retry-after").parse().unwrap();
        assert!((86_000..=86_400).contains(&wait), "{wait}");
    }
    assert_eq!(world.behind.seen().len(), 2);
    // The one without a length took what was left, as much as came of it.
    assert_eq!(world.send(Request::post("/file", &body[..MIB])).await.status, 429);
    for request in [Request::new("GET", "/file"), Request::post("/other", &body)] {
        assert_eq!(world.send(request).await.status, 200);
    }
    let credential = world.buy().await;
    assert_eq!(world.send(with(Request::post("/largefile", &body), &credential)).await.status, 200);
    world.gateway.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn one_network_has_so_many_connections() {
    for (all, of_client) in [(3, 100), (100, 3)] {
        let world = limited(|limits| {
            limits.max_connections = positive(all);
            limits.max_connections_per_client = positive(of_client);
        })
        .await;
        let mut open = Vec::new();
        let mut refused = 0;
        for _ in 0..6 {
            let mut stream = TcpStream::connect(world.gateway.address()).await.unwrap();
            let _ = stream.write_all(b"GET /free HTTP/1.1\r\nhost: a\r\n\r\n").await;
            let mut answer = [0; 4_096];
            match timeout(SOON, stream.read(&mut answer)).await.unwrap() {
                Ok(0) | Err(_) => refused += 1,
                Ok(len) => {
                    assert!(answer[..len].starts_with(b"HTTP/1.1 200 "));
                    open.push(stream);
                }
            }
        }
        assert_eq!((open.len(), refused), (3, 3));
        open.clear();
        let again = async {
            loop {
                let mut stream = TcpStream::connect(world.gateway.address()).await.unwrap();
                let _ = stream.write_all(b"GET /free HTTP/1.1\r\nhost: a\r\n\r\n").await;
                if matches!(stream.read(&mut [0; 16]).await, Ok(1..)) {
                    return;
                }
            }
        };
        timeout(SOON, again).await.expect("there is room again");
        world.gateway.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_shorter_than_the_begin_of_http2_is_answered_at_once() {
    let world = World::new().await;
    let mut stream = TcpStream::connect(world.gateway.address()).await.unwrap();
    stream.write_all(b"GET /ping HTTP/1.0\r\n\r\n").await.unwrap();
    let mut answer = [0; 4_096];
    let len = timeout(SOON, stream.read(&mut answer)).await.expect("it waits for more").unwrap();
    assert!(answer[..len].starts_with(b"HTTP/1."), "{:?}", std::str::from_utf8(&answer[..len]));
    world.gateway.stop().await;
}
