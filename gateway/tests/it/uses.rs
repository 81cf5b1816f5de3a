//! The uses that the gateway counts, of services whose server does not see the token.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use sluice_common::{l402::Credential, secret::Secret};
use sluice_gateway::{
    config::{Access, Price, ServiceConfig, UpstreamConfig},
    db::GatewayDb,
    ledger::{LedgerDb, PostgresLedger},
};
use sluice_testing::postgres;
use tokio::{
    io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader},
    net::{TcpListener, TcpStream},
    sync::Semaphore,
    time::timeout,
};

use crate::{
    MIB, World,
    client::{Reply, Request, send_and_hang_up},
    with,
};

/// A server that answers with the status that the path ends with; `none`: not at all; `early`: neither, and it reads no
/// body; `swallow`: neither, however much comes; `wait`: once it may.
struct Worker {
    address: SocketAddr,
    may_answer: Arc<Semaphore>,
    waiting: Arc<Semaphore>,
}

impl Worker {
    async fn start() -> Self {
        Self::on(TcpListener::bind("127.0.0.1:0").await.unwrap())
    }

    fn on(listener: TcpListener) -> Self {
        let (may_answer, waiting) = (Arc::new(Semaphore::new(0)), Arc::new(Semaphore::new(0)));
        let worker = Self { address: listener.local_addr().unwrap(), may_answer, waiting };
        let (may_answer, waiting) = (worker.may_answer.clone(), worker.waiting.clone());
        tokio::spawn(async move {
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                tokio::spawn(serve(stream, may_answer.clone(), waiting.clone()));
            }
        });
        worker
    }

    async fn is_asked(&self) {
        timeout(Duration::from_secs(30), self.waiting.acquire()).await.unwrap().unwrap().forget();
    }
}

async fn serve(stream: TcpStream, may_answer: Arc<Semaphore>, waiting: Arc<Semaphore>) -> std::io::Result<()> {
    let mut stream = BufReader::new(stream);
    let (mut path, mut body_bytes) = (String::new(), 0);
    loop {
        let mut line = String::new();
        stream.read_line(&mut line).await?;
        let line = line.trim().to_ascii_lowercase();
        if line.is_empty() {
            break;
        }
        if path.is_empty() {
            path = line.split(' ').nth(1).unwrap().to_owned();
        } else if let Some(length) = line.strip_prefix("content-length: ") {
            body_bytes = length.parse().unwrap();
        } else {
            assert!(!line.starts_with("authorization: l402"), "the token is none of its business");
        }
    }
    if path.ends_with("/early") {
        return Ok(());
    }
    if !path.ends_with("/swallow") && stream.read_exact(&mut vec![0; body_bytes]).await.is_err() {
        return Ok(());
    }
    let (status, more) = match path.rsplit('/').next().unwrap() {
        "none" => return Ok(()),
        "swallow" => {
            waiting.add_permits(1);
            return tokio::io::copy(&mut stream, &mut tokio::io::sink()).await.map(drop);
        }
        "wait" => {
            waiting.add_permits(1);
            may_answer.acquire().await.unwrap().forget();
            ("200", "")
        }
        "grpc" => ("200", "grpc-status: 14\r\n"),
        status => (status, ""),
    };
    let answer = format!("HTTP/1.1 {status} Said\r\ncontent-length: 0\r\nconnection: close\r\n{more}\r\n");
    stream.write_all(answer.as_bytes()).await
}

/// Sells `max_uses` uses of a server at `upstream`.
fn counted(service: &mut ServiceConfig, upstream: SocketAddr, max_uses: u64) {
    service.offer.forward_credential = false;
    service.offer.terms.max_uses = Some(max_uses);
    service.offer.access = Access::protect(vec!["POST /work/*".parse().unwrap()]);
    service.offer.access.auth_only = vec!["GET /result/*".parse().unwrap()];
    service.upstream = UpstreamConfig::new(&[upstream.to_string()]).unwrap();
}

async fn world(worker: &Worker, max_uses: u64) -> World {
    World::with(|service| counted(service, worker.address, max_uses)).await
}

async fn buy(world: &World) -> Credential {
    let reply = world.send(Request::post("/work/200", b"x")).await;
    world.pay(&reply).await
}

async fn work(world: &World, how: &str, credential: &Credential) -> Reply {
    world.send(with(Request::post(&format!("/work/{how}"), b"work"), credential)).await
}

fn assert_used_up(reply: &Reply) {
    assert_eq!((reply.status, reply.json()["reason"].as_str()), (402, Some("used_up")), "{}", reply.text());
    assert_eq!(reply.all("www-authenticate").len(), 2);
}

/// What the token is answered once whatever was cut off before is given back.
async fn once_free(world: &World, how: &str, credential: &Credential) -> Reply {
    let free = async {
        loop {
            let reply = work(world, how, credential).await;
            if reply.status != 409 {
                return reply;
            }
        }
    };
    timeout(Duration::from_secs(30), free).await.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_success_spends_and_any_other_answer_gives_back() {
    let worker = Worker::start().await;
    let world = world(&worker, 2).await;
    let credential = buy(&world).await;
    let one = credential.macaroon().attenuate(&["large_upload_max_uses=1".into()]).unwrap();
    let one = Credential::new(one, credential.preimage().clone());
    for (how, credential, status) in [
        ("500", &credential, 500),
        ("201", &one, 201),
        ("404", &credential, 404),
        ("302", &credential, 302),
        ("413", &credential, 413),
        ("grpc", &credential, 200),
    ] {
        assert_eq!(work(&world, how, credential).await.status, status);
    }
    assert_used_up(&work(&world, "200", &one).await);
    assert_eq!(work(&world, "200", &credential).await.status, 200, "one is left to the other");
    let used_up = work(&world, "200", &credential).await;
    assert_used_up(&used_up);
    // What is not sold but needs the token is a part of what was bought.
    let result = world.send(with(Request::new("GET", "/result/200"), &credential)).await;
    assert_eq!(result.status, 200);
    assert_eq!(work(&world, "200", &world.pay(&used_up).await).await.status, 200);
    world.gateway.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_that_lasts_until_it_expires_is_not_counted() {
    let worker = Worker::start().await;
    let world = World::with(|service| {
        counted(service, worker.address, 1);
        service.offer.terms.max_uses = None;
    })
    .await;
    let credential = buy(&world).await;
    for _ in 0..20 {
        assert_eq!(work(&world, "200", &credential).await.status, 200);
    }
    world.gateway.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn without_an_answer_it_is_given_back_three_times_but_always_where_nobody_was_asked() {
    let free = sluice_testing::free_address();
    let world = World::with(|service| counted(service, free, 1)).await;
    let credential = buy(&world).await;
    for _ in 0..6 {
        assert_eq!(work(&world, "200", &credential).await.status, 502, "nobody listens");
    }
    let _worker = Worker::on(TcpListener::bind(free).await.unwrap());
    for _ in 0..4 {
        assert_eq!(work(&world, "none", &credential).await.status, 502);
    }
    assert_used_up(&work(&world, "200", &credential).await);
    world.gateway.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_upload_that_is_cut_off_or_refused_costs_nothing() {
    let worker = Worker::start().await;
    let world = world(&worker, 1).await;
    let credential = buy(&world).await;
    // More often than what nobody answers is given back.
    for _ in 0..5 {
        let cut = with(Request::post("/work/200", &vec![1; MIB]), &credential);
        send_and_hang_up(world.gateway.address(), cut.half_body()).await;
        let reply = once_free(&world, "500", &credential).await;
        assert_eq!(reply.status, 500, "{}", reply.text());
        let large = with(Request::post("/work/swallow", &vec![1; 3 * MIB + 1]), &credential).chunked(true);
        assert_eq!(world.send(large).await.status, 413);
    }
    assert_eq!(once_free(&world, "200", &credential).await.status, 200);
    assert_used_up(&work(&world, "200", &credential).await);
    world.gateway.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_server_may_act_on_before_its_end_is_given_back_three_times() {
    let worker = Worker::start().await;
    let world = world(&worker, 1).await;
    let grpc = ("content-type", "application/grpc");
    for (how, (name, value), chunked) in
        [("swallow", ("x-a", "b"), true), ("swallow", grpc, false), ("early", ("x-a", "b"), false)]
    {
        let credential = buy(&world).await;
        for broken_off in 1..=4 {
            let request = Request::post(&format!("/work/{how}"), &vec![1; MIB]).header(name, value);
            let request = with(request, &credential).chunked(chunked);
            if how == "swallow" {
                send_and_hang_up(world.gateway.address(), request.half_body()).await;
                worker.is_asked().await;
            } else {
                assert_eq!(world.send(request).await.status, 502);
            }
            let reply = once_free(&world, "500", &credential).await;
            let expected = if broken_off == 4 { 402 } else { 500 };
            assert_eq!(reply.status, expected, "{how} {value} for the {broken_off}. time: {}", reply.text());
        }
    }
    world.gateway.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn who_breaks_off_again_and_again_waits_though_hardly_a_byte_came() {
    let worker = Worker::start().await;
    let world = World::with(|service| {
        counted(service, worker.address, 1);
        service.offer.terms.max_upload_mb = 1;
    })
    .await;
    let credential = buy(&world).await;
    // Each counts 64 KiB of the 10 MiB that one of a MiB may send for nothing.
    for _ in 0..10 * MIB / 65_536 {
        let cut = with(Request::post("/work/swallow", b"ab"), &credential);
        send_and_hang_up(world.gateway.address(), cut.half_body()).await;
        worker.is_asked().await;
        let reply = once_free(&world, "500", &credential).await;
        if reply.status == 429 {
            assert_eq!(reply.json()["code"], "too_much_not_stored");
            return world.gateway.stop().await;
        }
    }
    let reply = once_free(&world, "500", &credential).await;
    assert_eq!(reply.status, 429, "{}", reply.text());
    world.gateway.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_uploaded_costs_nothing_where_the_size_is_paid() {
    let worker = Worker::start().await;
    let world = World::with(|service| {
        counted(service, worker.address, 1);
        service.offer.price = Price::PerMib { per_mib_sat: 1, minimum_sat: 0 };
    })
    .await;
    let credential = buy(&world).await;
    for _ in 0..2 {
        let empty = with(Request::post("/work/200", b""), &credential);
        assert_eq!(world.send(empty).await.status, 200);
    }
    // It declares an upload that comes with other requests.
    let declared = with(Request::post("/work/201", b"").header("upload-length", "5"), &credential);
    assert_eq!(world.send(declared).await.status, 201);
    assert_used_up(&work(&world, "200", &credential).await);
    world.gateway.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn who_comes_while_the_last_use_is_under_way_waits() {
    let worker = Worker::start().await;
    let world = world(&worker, 1).await;
    let credential = buy(&world).await;
    let first = work(&world, "wait", &credential);
    let second = async {
        worker.is_asked().await;
        let reply = work(&world, "200", &credential).await;
        assert_eq!((reply.status, reply.json()["code"].as_str()), (409, Some("token_in_use")));
        assert_eq!(reply.one("retry-after"), "2");
        assert!(reply.all("www-authenticate").is_empty());
        worker.may_answer.add_permits(1);
    };
    let (first, ()) = tokio::join!(first, second);
    assert_eq!(first.status, 200);
    assert_used_up(&work(&world, "200", &credential).await);
    world.gateway.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn who_hangs_up_after_all_was_sent_has_used_it() {
    let worker = Worker::start().await;
    let world = world(&worker, 1).await;
    let credential = buy(&world).await;
    let request = with(Request::post("/work/wait", b"work"), &credential);
    send_and_hang_up(world.gateway.address(), request).await;
    worker.is_asked().await;
    worker.may_answer.add_permits(1);
    assert_used_up(&once_free(&world, "500", &credential).await);
    world.gateway.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn two_gateways_of_one_ledger_count_together() {
    let ledger: Arc<dyn LedgerDb> = Arc::new(PostgresLedger::open(&Secret::new(postgres::database())).await.unwrap());
    let worker = Worker::start().await;
    let gateway =
        |ledger| World::configured(|config| counted(&mut config.services[0], worker.address, 5), Some(ledger));
    let worlds = [gateway(ledger.clone()).await, gateway(ledger).await];
    let credential = buy(&worlds[0]).await;
    let mut stored = 0;
    for _ in 0..5 {
        let all = (0..10).map(|number| work(&worlds[number % 2], "200", &credential));
        let replies = futures_util::future::join_all(all).await;
        let count = |status| replies.iter().filter(|reply| reply.status == status).count();
        stored += count(200);
        assert_eq!(count(200) + count(402) + count(409), 10);
        assert!(count(402) == 0 || stored == 5, "asked for money while a use was left");
    }
    assert_eq!(stored, 5);
    for world in worlds {
        assert_used_up(&work(&world, "200", &credential).await);
        world.gateway.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn while_uses_cannot_be_counted_nobody_is_asked_for_money() {
    let worker = Worker::start().await;
    let folder = tempfile::tempdir().unwrap();
    let db = GatewayDb::open(&folder.path().join("ledger.db")).await.unwrap();
    let counted = |config: &mut sluice_gateway::config::GatewayConfig| {
        counted(&mut config.services[0], worker.address, 1);
    };
    let world = World::configured(counted, Some(Arc::new(db.clone()))).await;
    let credential = buy(&world).await;
    db.close().await;
    let reply = work(&world, "200", &credential).await;
    assert_eq!((reply.status, reply.json()["code"].as_str()), (503, Some("uses_unknown")), "{}", reply.text());
    assert_eq!(reply.one("retry-after"), "5");
    assert!(reply.all("www-authenticate").is_empty());
    world.gateway.stop().await;
}
