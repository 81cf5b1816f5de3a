//! Several services, and several servers behind one.

use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::Duration,
};

use axum::{Router, extract::Request as Received, http::Version};
use hyper_util::{
    rt::{TokioExecutor, TokioIo},
    server::conn::auto::Builder,
    service::TowerToHyperService,
};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject};
use sluice_common::{l402::ServiceTerms, secret::Secret};
use sluice_gateway::config::{
    Access, GatewayConfig, HealthCheck, HostPolicy, Offer, Price, Rewrite, Scope, ServiceConfig, UpstreamConfig,
};
use tokio::{net::TcpListener, time::Instant};
use tokio_rustls::TlsAcceptor;

use crate::{World, behind::Behind, client::Request, with};

const CA: &[u8] = include_bytes!("../../testdata/upstream/ca.cert");
const CERTIFICATE: &[u8] = include_bytes!("../../testdata/upstream/server.cert");
const KEY: &[u8] = include_bytes!("../../testdata/upstream/server.key");

/// A server that counts what it is asked, and is well or not.
struct Server {
    address: SocketAddr,
    asked: Arc<AtomicUsize>,
    is_well: Arc<AtomicBool>,
}

impl Server {
    async fn start() -> Self {
        let (asked, is_well) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicBool::new(true)));
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let health = {
            let is_well = is_well.clone();
            move || async move { if is_well.load(Ordering::SeqCst) { 204 } else { 503 } }
        };
        let health = move || {
            let status = health.clone()();
            async move { http::StatusCode::from_u16(status.await).unwrap() }
        };
        let count = {
            let asked = asked.clone();
            move || async move {
                asked.fetch_add(1, Ordering::SeqCst);
            }
        };
        let router = Router::new().route("/health", axum::routing::get(health)).fallback(count);
        tokio::spawn(async move { axum::serve(listener, router).await });
        Self { address, asked, is_well }
    }

    fn asked(&self) -> usize {
        self.asked.load(Ordering::SeqCst)
    }
}

/// An address where nobody listens.
fn nobody() -> SocketAddr {
    sluice_testing::free_address()
}

async fn behind(upstream: UpstreamConfig) -> World {
    World::with(|service| service.upstream = upstream).await
}

async fn ask(world: &World, times: usize) {
    for _ in 0..times {
        assert_eq!(world.send(Request::new("GET", "/x")).await.status, 200);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn each_server_serves_in_turn_and_one_that_is_away_is_not_noticed() {
    let (one, two) = (Server::start().await, Server::start().await);
    let addresses = [one.address.to_string(), nobody().to_string(), two.address.to_string()];
    for check in [None, Some(HealthCheck::default())] {
        let mut config = UpstreamConfig::new(&addresses).unwrap();
        config.health_check = check;
        let world = behind(config).await;
        let before = (one.asked(), two.asked());
        ask(&world, 12).await;
        let now = (one.asked() - before.0, two.asked() - before.1);
        assert!(now.0 >= 4 && now.1 >= 4 && now.0 + now.1 == 12, "{now:?}");
        world.gateway.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_is_not_well_serves_only_when_none_is() {
    let (one, two) = (Server::start().await, Server::start().await);
    let mut config = UpstreamConfig::new(&[one.address.to_string(), two.address.to_string()]).unwrap();
    config.health_check = Some(HealthCheck { path: Some("/health".into()), every: Duration::from_secs(1) });
    let world = behind(config).await;
    one.is_well.store(false, Ordering::SeqCst);
    let deadline = Instant::now() + Duration::from_secs(20);
    loop {
        let before = one.asked();
        ask(&world, 6).await;
        if one.asked() == before {
            break;
        }
        assert!(Instant::now() < deadline, "it still serves");
    }
    two.is_well.store(false, Ordering::SeqCst);
    let deadline = Instant::now() + Duration::from_secs(20);
    let before = one.asked();
    while one.asked() == before {
        ask(&world, 2).await;
        assert!(Instant::now() < deadline, "nobody serves");
    }
    world.gateway.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn where_all_are_away_a_client_is_told_to_come_again() {
    let world = behind(UpstreamConfig::new(&[nobody().to_string(), nobody().to_string()]).unwrap()).await;
    let reply = world.send(Request::post("/x", &[1; 100_000])).await;
    assert_eq!((reply.status, reply.json()["code"].as_str()), (502, Some("upstream_unavailable")));
    assert_eq!(reply.one("retry-after"), "5");
    world.gateway.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn services_are_told_apart_by_host_path_and_method_and_each_has_its_tokens() {
    let (files, api) = (Behind::start().await, Behind::start().await);
    let service = |name: &str, scope: Scope, upstream: &Behind| ServiceConfig {
        offer: Offer {
            terms: ServiceTerms::named(name),
            scope,
            access: Access::protect(vec!["POST /paid".parse().unwrap()]),
            price: Price::Flat(1),
            forward_credential: false,
            dry_run: false,
            rate_limits: Vec::new(),
            free_uploads: Vec::new(),
            freebies: None,
        },
        upstream: UpstreamConfig::new(&[upstream.address.to_string()]).unwrap(),
    };
    let hosts = Scope { hosts: vec!["api.example".parse().unwrap()], ..Scope::default() };
    let paths = Scope {
        paths: vec!["/paid".parse().unwrap(), "/files/*".parse().unwrap()],
        methods: vec!["GET".parse().unwrap(), "POST".parse().unwrap()],
        ..Scope::default()
    };
    let world = World::configured(
        |config: &mut GatewayConfig| {
            config.services = vec![service("api", hosts, &api), service("files", paths, &files)];
        },
        None,
    )
    .await;
    let of_api = |request: Request| request.host("api.example:8081");
    assert_eq!(world.send(of_api(Request::new("GET", "/x"))).await.status, 200);
    assert_eq!(world.send(Request::new("GET", "/files/x")).await.status, 200);
    let seen = |behind: &Behind| behind.seen().iter().map(|seen| seen.target.clone()).collect::<Vec<_>>();
    assert_eq!((seen(&api), seen(&files)), (vec!["/x".to_owned()], vec!["/files/x".to_owned()]));
    for request in
        [Request::new("GET", "/x"), Request::new("DELETE", "/files/x"), Request::post("/files", &[1; 50_000])]
    {
        let reply = world.send(request).await;
        assert_eq!((reply.status, reply.json()["code"].as_str()), (404, Some("no_such_service")));
        assert!(reply.all("www-authenticate").is_empty());
    }

    let credential = world.pay(&world.send(Request::post("/paid", b"x")).await).await;
    assert_eq!(world.send(with(Request::post("/paid", b"x"), &credential)).await.status, 200);
    let reply = world.send(of_api(with(Request::post("/paid", b"x"), &credential))).await;
    assert_eq!((reply.status, reply.json()["reason"].as_str()), (402, Some("not_covered")));
    assert_eq!(reply.json()["allows"]["service"], "api");
    world.gateway.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_sees_the_path_the_host_and_the_headers_that_are_configured() {
    let server = Behind::start().await;
    let mut config = UpstreamConfig::new(&[server.address.to_string()]).unwrap();
    config.host = HostPolicy::Fixed("internal.example".parse().unwrap());
    config.set_header("x-api-key", &Secret::new("secret".to_owned())).unwrap();
    let world = World::with(|service| {
        service.upstream = config;
        service.offer.scope.rewrite = Some(Rewrite::new("/api", "/").unwrap());
        service.offer.access = Access {
            auth_only: vec!["GET /api/live".parse().unwrap()],
            ..Access::protect(vec!["POST /api/paid".parse().unwrap()])
        };
    })
    .await;
    let credential = world.pay(&world.send(Request::post("/api/paid", b"x")).await).await;
    let request = with(Request::post("/api/paid?q=/api/", b"x"), &credential);
    let request = request.header("x-api-key", "the client's").header("X_Api-Key", "the client's");
    assert_eq!(world.send(request).await.status, 200);
    let seen = server.seen().pop().unwrap();
    assert_eq!((seen.target.as_str(), &seen.headers["host"]), ("/paid?q=/api/", &"internal.example".parse().unwrap()));
    assert_eq!(seen.headers.get_all("x-api-key").iter().collect::<Vec<_>>(), ["secret"]);
    assert!(!seen.headers.contains_key("x_api-key"), "which CGI reads as the same");

    let reply = world.send(Request::new("GET", "/api/live")).await;
    assert_eq!((reply.status, reply.json()["code"].as_str()), (401, Some("credential_required")));
    assert!(reply.all("www-authenticate").is_empty());
    assert_eq!(world.send(with(Request::new("GET", "/api/live"), &credential)).await.status, 200);
    let reply = world.send(with(Request::new("GET", "/api/live?answer=expired"), &credential)).await;
    assert_eq!((reply.status, reply.json()["code"].as_str()), (401, Some("expired")), "nor is it sold one then");

    // What costs has one name: that by which the server knows it is nobody's.
    for path in ["/paid?around", "/live?around", "/apis/paid?around", "/api?around"] {
        let reply = world.send(Request::post(path, b"x")).await;
        assert_eq!((reply.status, reply.json()["code"].as_str()), (404, Some("no_such_service")), "{path}");
    }
    assert!(server.seen().iter().all(|seen| !seen.target.contains("around")));
    world.gateway.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_check_names_the_host_that_requests_name() {
    for (policy, host) in
        [(HostPolicy::Fixed("internal.example".parse().unwrap()), Some("internal.example")), (HostPolicy::Client, None)]
    {
        let server = Behind::start().await;
        let mut config = UpstreamConfig::new(&[server.address.to_string()]).unwrap();
        config.host = policy;
        config.health_check = Some(HealthCheck { path: Some("/health".into()), every: Duration::from_secs(1) });
        let world = behind(config).await;
        let deadline = Instant::now() + Duration::from_secs(20);
        let seen = loop {
            if let Some(seen) = server.seen().pop() {
                break seen;
            }
            assert!(Instant::now() < deadline, "it was not checked");
            tokio::task::yield_now().await;
        };
        let address = server.address.to_string();
        assert_eq!(
            (seen.target.as_str(), seen.headers["host"].to_str().unwrap()),
            ("/health", host.unwrap_or(&address))
        );
        world.gateway.stop().await;
    }
}

/// A server with a certificate for `upstream.test` that says the version it is spoken to in, and the host.
async fn tls_server(protocols: &[&[u8]]) -> SocketAddr {
    let certificate = CertificateDer::from_pem_slice(CERTIFICATE).unwrap();
    let mut config = rustls::ServerConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![certificate], PrivateKeyDer::from_pem_slice(KEY).unwrap())
        .unwrap();
    config.alpn_protocols = protocols.iter().map(|protocol| protocol.to_vec()).collect();
    let (listener, acceptor) = (TcpListener::bind("127.0.0.1:0").await.unwrap(), TlsAcceptor::from(Arc::new(config)));
    let address = listener.local_addr().unwrap();
    let router = Router::new().fallback(async |request: Received| {
        let version = if request.version() == Version::HTTP_2 { 2 } else { 1 };
        let body = axum::body::to_bytes(request.into_body(), usize::MAX).await.unwrap();
        format!("{version} {}", body.len())
    });
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let (acceptor, router) = (acceptor.clone(), router.clone());
            tokio::spawn(async move {
                let Ok(stream) = acceptor.accept(stream).await else { return };
                let service = TowerToHyperService::new(router);
                let _ = Builder::new(TokioExecutor::new()).serve_connection(TokioIo::new(stream), service).await;
            });
        }
    });
    address
}

#[tokio::test(flavor = "multi_thread")]
async fn tls_is_verified_and_speaks_what_both_can() {
    for (protocols, version) in [(&[&b"h2"[..], b"http/1.1"][..], 2), (&[b"http/1.1"], 1), (&[], 1)] {
        let address = tls_server(protocols).await;
        let mut config = UpstreamConfig::new(&[format!("https://{address}")]).unwrap();
        config.trust(CA).unwrap();
        config.server_name = Some("upstream.test".into());
        config.health_check = Some(HealthCheck { path: Some("/".into()), every: Duration::from_secs(1) });
        let world = behind(config).await;
        for _ in 0..2 {
            let reply = world.send(Request::post("/x", &[7; 200_000])).await;
            assert_eq!((reply.status, reply.text()), (200, format!("{version} 200000")));
        }
        world.gateway.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_with_another_certificate_is_away() {
    let address = tls_server(&[b"h2"]).await;
    let with = |change: fn(&mut UpstreamConfig)| {
        let mut config = UpstreamConfig::new(&[format!("https://{address}")]).unwrap();
        change(&mut config);
        behind(config)
    };
    for world in [
        with(|config| config.server_name = Some("upstream.test".into())).await,
        with(|config| config.trust(CA).unwrap()).await,
        with(|config| {
            config.trust(CA).unwrap();
            config.server_name = Some("other.test".into());
        })
        .await,
    ] {
        let reply = world.send(Request::new("GET", "/x")).await;
        assert_eq!((reply.status, reply.json()["code"].as_str()), (502, Some("upstream_unavailable")));
        world.gateway.stop().await;
    }
}
