//! `examples/plugin.rs`: the paywall in somebody else's proxy.

#[path = "../../examples/plugin.rs"]
mod example;

use async_trait::async_trait;
use pingora::server::{RunArgs, ShutdownSignal, ShutdownSignalWatch};
use sluice_common::l402::{Challenge, Credential};
use tokio::{net::TcpStream, sync::watch};

use crate::{
    behind::Behind,
    client::{Request, send},
    with,
};

struct Told(watch::Receiver<bool>);

#[async_trait]
impl ShutdownSignalWatch for Told {
    async fn recv(&self) -> ShutdownSignal {
        let _ = self.0.clone().wait_for(|told| *told).await;
        ShutdownSignal::FastShutdown
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn any_proxy_can_have_the_paywall() {
    let (folder, behind) = (tempfile::tempdir().unwrap(), Behind::start().await);
    let (proxy, wallet, book_keeper) = example::plugged(folder.path(), behind.address).await.unwrap();
    let listen = sluice_testing::free_address();
    let (stop, told) = watch::channel(false);
    let server = std::thread::spawn(move || {
        let args = RunArgs { shutdown_signal: Box::new(Told(told)) };
        example::serve(proxy, listen, args).map_err(|error| error.to_string())
    });
    let listens = async { while TcpStream::connect(listen).await.is_err() {} };
    tokio::time::timeout(std::time::Duration::from_secs(30), listens).await.expect("it does not listen");

    assert_eq!(send(listen, Request::new("GET", "/free")).await.status, 200);
    let reply = send(listen, Request::new("GET", "/report")).await;
    assert_eq!((reply.status, reply.json()["price_sat"].as_u64()), (402, Some(10)));
    let challenge = Challenge::parse(reply.all("www-authenticate")).unwrap();
    let preimage = wallet.pay(&challenge.invoice, std::time::SystemTime::now()).await.unwrap();
    let credential = Credential::new(challenge.macaroon, preimage);
    assert_eq!(send(listen, with(Request::new("GET", "//report"), &credential)).await.status, 200);
    let seen: Vec<_> =
        behind.seen().into_iter().map(|seen| (seen.target, seen.headers.contains_key("authorization"))).collect();
    assert_eq!(seen, [("/free".to_owned(), false), ("/report".to_owned(), false)]);

    stop.send_replace(true);
    server.join().unwrap().unwrap();
    book_keeper.stop().await;
}
