//! Another configuration while requests are under way.

use std::time::Duration;

use sluice_common::{
    keys::{MasterKey, MasterKeys},
    secret::Secret,
};
use sluice_gateway::config::{ConfigError, GatewayConfig, Price};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::timeout,
};

use crate::{MIB, World, behind::Behind, client::Request, media, with};

/// A paid upload of which the first half was sent.
struct HalfSent {
    stream: TcpStream,
    rest: Vec<u8>,
}

impl HalfSent {
    async fn begin(world: &World, authorization: &str) -> Self {
        let mut stream = TcpStream::connect(world.gateway.address()).await.unwrap();
        let head = format!(
            "POST /largefile HTTP/1.1\r\nhost: x\r\nauthorization: {authorization}\r\ncontent-length: {MIB}\r\n\
             connection: close\r\n\r\n"
        );
        stream.write_all(head.as_bytes()).await.unwrap();
        stream.write_all(&vec![7; MIB / 2]).await.unwrap();
        Self { stream, rest: vec![7; MIB / 2] }
    }

    async fn end(mut self) -> String {
        self.stream.write_all(&self.rest).await.unwrap();
        let mut answer = String::new();
        timeout(Duration::from_secs(30), self.stream.read_to_string(&mut answer)).await.unwrap().unwrap();
        answer
    }
}

fn priced(world: &World, price_sat: u64) -> GatewayConfig {
    let mut config = world.config.clone();
    config.services[0].offer.price = Price::Flat(price_sat);
    config
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_under_way_goes_on_and_what_begins_is_served_anew() {
    let world = World::new().await;
    let credential = world.buy().await;
    let uploads: Vec<_> = {
        let authorization = credential.authorization();
        let mut uploads = Vec::new();
        for _ in 0..5 {
            uploads.push(HalfSent::begin(&world, authorization.expose()).await);
        }
        uploads
    };

    // Another price, another server behind, and a service more.
    let elsewhere = Behind::start().await;
    let mut config = priced(&world, 250);
    let mut other = media(&elsewhere.address.to_string());
    other.offer.terms.name = "other".to_owned();
    other.offer.scope.hosts = vec!["other.example".parse().unwrap()];
    config.services.insert(0, other);
    world.gateway.reload(config).await.unwrap();

    let reply = world.send(Request::post("/largefile", b"x")).await;
    assert_eq!((reply.status, &reply.json()["price_sat"]), (402, &250.into()));
    let reply = world.send(with(Request::post("/largefile", b"x"), &credential)).await;
    assert_eq!(reply.status, 200, "the old token stays good");
    assert_eq!(world.send(Request::new("GET", "/x").host("other.example")).await.status, 200);
    assert_eq!((elsewhere.seen().len(), world.behind.seen().len()), (1, 1));

    for upload in uploads {
        let answer = upload.end().await;
        assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
    }
    let seen = world.behind.seen();
    assert_eq!(seen.iter().filter(|seen| seen.body_bytes == MIB).count(), 5, "all of them, and all of each");
    world.gateway.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_new_master_key_mints_and_the_old_one_still_checks() {
    let world = World::new().await;
    let old = world.buy().await;
    let key = |byte, from| MasterKey::new(&Secret::new([byte; 32]), from);
    let mut config = world.config.clone();
    config.master_keys = MasterKeys::new(vec![key(2, 0), key(3, 1)]).unwrap();
    world.gateway.reload(config.clone()).await.unwrap();
    let new = world.buy().await;
    let upload = |credential| with(Request::post("/largefile", b"x"), credential);
    assert_eq!((world.send(upload(&old)).await.status, world.send(upload(&new)).await.status), (200, 200));

    config.master_keys = MasterKeys::new(vec![key(3, 1)]).unwrap();
    world.gateway.reload(config).await.unwrap();
    let reply = world.send(upload(&old)).await;
    assert_eq!((reply.status, &reply.json()["code"]), (401, &"forged_token".into()), "{}", reply.text());
    assert_eq!(world.send(upload(&new)).await.status, 200);
    world.gateway.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_is_refused_and_the_old_one_stays() {
    let world = World::new().await;
    let mut config = priced(&world, 250);
    config.services.push(config.services[0].clone());
    let error = world.gateway.reload(config).await.unwrap_err().to_string();
    assert_eq!(error, ConfigError::SameName("media".to_owned()).to_string());
    let reply = world.send(Request::post("/largefile", b"x")).await;
    assert_eq!((reply.status, &reply.json()["price_sat"]), (402, &100.into()));
    world.gateway.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn invoices_that_were_asked_for_count_on() {
    let world = World::new().await;
    let mut config = world.config.clone();
    config.invoice_limits.max_open = 2.try_into().unwrap();
    assert_eq!(world.send(Request::post("/largefile", b"x")).await.status, 402);
    for status in [402, 503] {
        world.gateway.reload(config.clone()).await.unwrap();
        assert_eq!(world.send(Request::post("/largefile", b"x")).await.status, status);
    }
    world.gateway.stop().await;
}
