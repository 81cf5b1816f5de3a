//! Clients that come by TLS.

use std::{fs, num::NonZeroU32, path::Path, sync::Arc, time::Duration};

use reqwest::{Certificate, Client, Version};
use sluice_common::l402::Credential;
use sluice_gateway::{
    config::{GatewayConfig, TlsConfig},
    tls::ServerCertificate,
};
use tempfile::TempDir;
use tokio::{io::AsyncReadExt, net::TcpStream, time::timeout};

use crate::{MIB, World, client::Request};

/// A certificate that can be changed: `localhost` and 127.0.0.1, by the authority `one` or `two`.
struct Files(TempDir);

impl Files {
    fn of(name: &str) -> Self {
        let files = Self(tempfile::tempdir().unwrap());
        files.put(name);
        files
    }

    fn put(&self, name: &str) {
        for kind in ["cert", "key"] {
            fs::write(self.0.path().join(kind), testdata(&format!("{name}.{kind}"))).unwrap();
        }
    }

    fn listen(&self, config: &mut GatewayConfig) {
        let certificate = ServerCertificate::load(&self.0.path().join("cert"), &self.0.path().join("key")).unwrap();
        let listen = sluice_testing::free_address();
        config.tls = Some(TlsConfig { listen, certificate: Arc::new(certificate) });
    }
}

fn testdata(name: &str) -> Vec<u8> {
    fs::read(Path::new(env!("CARGO_MANIFEST_DIR")).join("testdata/tls").join(name)).unwrap()
}

/// A client that trusts one authority alone, and speaks one version.
fn client(authority: &str, version: Version) -> Client {
    let authority = Certificate::from_pem(&testdata(&format!("ca_{authority}.cert"))).unwrap();
    let client = Client::builder().no_proxy().tls_built_in_root_certs(false).add_root_certificate(authority);
    let client = if version == Version::HTTP_11 { client.http1_only() } else { client };
    client.timeout(Duration::from_secs(60)).build().unwrap()
}

fn url(world: &World, path: &str) -> String {
    format!("https://{}{path}", world.gateway.tls_address().unwrap())
}

async fn world(files: &Files, change: impl FnOnce(&mut GatewayConfig)) -> World {
    let configure = |config: &mut GatewayConfig| {
        files.listen(config);
        config.services[0].offer.terms.max_upload_mb = 70;
        change(config);
    };
    World::configured(configure, None).await
}

#[tokio::test(flavor = "multi_thread")]
async fn answers_are_seen_whatever_is_sent_by_either_version() {
    let files = Files::of("one");
    let world = world(&files, |_| ()).await;
    let credential = world.buy().await;
    let narrowed = credential.macaroon().attenuate(&["large_upload_max_mb=0".to_owned()]).unwrap();
    let narrowed = Credential::new(narrowed, credential.preimage().clone());
    for version in [Version::HTTP_11, Version::HTTP_2] {
        let client = client("one", version);
        for size in [2 * MIB, 8 * MIB, 64 * MIB] {
            for (authorization, status, code) in [
                (None, 402, "payment_required"),
                (Some("L402 !!!:00"), 401, "malformed_credential"),
                (Some(narrowed.authorization().expose().as_str()), 413, "too_large"),
                (Some(credential.authorization().expose().as_str()), 200, "stored"),
            ] {
                let mut request = client.post(url(&world, "/largefile")).body(vec![7; size]);
                if let Some(authorization) = authorization {
                    request = request.header("authorization", authorization);
                }
                let reply =
                    request.send().await.unwrap_or_else(|error| panic!("{version:?}, {size}, {status}: {error:?}"));
                assert_eq!((reply.status().as_u16(), reply.version()), (status, version), "{size} bytes");
                let text = reply.text().await.unwrap();
                assert!(text.contains(code), "{version:?}, {size}, {status}: {text}");
            }
            assert_eq!(world.behind.seen().last().unwrap().body_bytes, size);
        }
    }
    world.gateway.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_new_certificate_is_shown_without_a_restart_and_a_broken_one_never() {
    let files = Files::of("one");
    let world = world(&files, |_| ()).await;
    // A client of its own each time, for a connection of its own.
    let sees =
        async |authority: &str| client(authority, Version::HTTP_2).get(url(&world, "/ping")).send().await.is_ok();
    assert!(sees("one").await && !sees("two").await);

    fs::write(files.0.path().join("key"), testdata("two.key")).unwrap();
    world.gateway.reload(world.config.clone()).await.unwrap();
    assert!(sees("one").await, "the key is not the certificate's: the old pair stays");

    files.put("two");
    let shown = async { while !sees("two").await {} };
    tokio::time::timeout(Duration::from_secs(30), shown).await.expect("the new certificate is not shown");
    assert!(!sees("one").await);
    world.gateway.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn who_comes_without_tls_is_sent_there_if_that_is_configured() {
    let files = Files::of("one");
    let world = world(&files, |config| config.https_port = config.tls.as_ref().map(|tls| tls.listen.port())).await;
    let address = world.gateway.tls_address().unwrap();
    let reply = world.send(Request::post("/largefile?a=b", &vec![7; 4 * MIB]).host("127.0.0.1:80")).await;
    assert_eq!((reply.status, reply.one("location")), (308, &*format!("https://{address}/largefile?a=b")));
    let reply = client("one", Version::HTTP_11).get(url(&world, "/ping")).send().await.unwrap();
    assert_eq!(reply.status(), 200, "who has TLS is served");
    let mut config = world.config.clone();
    config.https_port = None;
    world.gateway.reload(config).await.unwrap();
    assert_eq!(world.send(Request::new("GET", "/ping")).await.status, 200);
    world.gateway.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn who_says_nothing_counts_as_a_connection_and_not_for_long() {
    let files = Files::of("one");
    let configure = |config: &mut GatewayConfig| {
        config.limits.max_connections_per_client = NonZeroU32::new(3).unwrap();
        config.limits.slow.head_timeout = Duration::from_secs(2);
    };
    let world = world(&files, configure).await;
    let address = world.gateway.tls_address().unwrap();
    let client = client("one", Version::HTTP_2);
    let ping = async || client.get(url(&world, "/ping")).send().await.is_ok();
    let mut silent = Vec::new();
    for _ in 0..2 {
        silent.push(TcpStream::connect(address).await.unwrap());
    }
    assert!(ping().await, "there is room for one more");
    // That one keeps its connection.
    for _ in 0..20 {
        let mut more = TcpStream::connect(address).await.unwrap();
        let closed = timeout(Duration::from_secs(1), more.read(&mut [0])).await.expect("it is kept");
        assert!(matches!(closed, Ok(0) | Err(_)));
    }
    assert!(ping().await);
    for mut stream in silent {
        let closed = timeout(Duration::from_secs(10), stream.read(&mut [0])).await.expect("it is kept for ever");
        assert!(matches!(closed, Ok(0) | Err(_)));
    }
    world.gateway.stop().await;
}
