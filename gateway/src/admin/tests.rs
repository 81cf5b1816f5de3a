use std::time::Duration;

use axum::body::{Body, to_bytes};
use http::{Method, header::ALLOW};
use sluice_common::{l402::Preimage, secret::Secret};
use tempfile::TempDir;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
};
use tower::ServiceExt;

use super::*;
use crate::{
    db::GatewayDb,
    lightning::{Invoice, InvoiceOrder, LightningNode},
};

async fn wallet() -> (Arc<TestWallet>, TempDir) {
    let folder = tempfile::tempdir().unwrap();
    let db = GatewayDb::open(&folder.path().join("gateway.db")).await.unwrap();
    (Arc::new(TestWallet::new(&Secret::new([1; 32]), db)), folder)
}

async fn invoice(wallet: &TestWallet) -> Invoice {
    let order = InvoiceOrder { amount_sat: 100, memo: "media".to_owned(), expiry: Duration::from_secs(60) };
    wallet.create_invoice(&order).await.unwrap()
}

fn admin(ready: bool, wallet: Option<Arc<TestWallet>>) -> Router {
    // The receiver keeps the last value when the sender is gone.
    router(Admin {
        ready: watch::Sender::new(ready).subscribe(),
        node: watch::Sender::new(NodeHealth::Ok).subscribe(),
        wallet,
        metrics: Arc::default(),
        api: None,
    })
}

fn request(method: Method, path: &str) -> http::request::Builder {
    Request::builder().method(method).uri(path).header(HOST, "127.0.0.1:8082")
}

fn pay_request(body: impl Into<Body>) -> Request {
    request(Method::POST, "/wallet/pay").header(CONTENT_TYPE, "application/json").body(body.into()).unwrap()
}

fn order_to_pay(bolt11: &str) -> String {
    serde_json::json!({ "invoice": bolt11 }).to_string()
}

/// Status, content type and body of the answer; and it must forbid caching, and no web page may read it.
async fn send(router: Router, request: Request) -> (u16, String, String) {
    let response = router.oneshot(request).await.unwrap();
    assert_eq!(response.headers()[CACHE_CONTROL], "no-store");
    assert!(!response.headers().contains_key("access-control-allow-origin"));
    let status = response.status().as_u16();
    let content_type = response.headers()[CONTENT_TYPE].to_str().unwrap().to_owned();
    let body = to_bytes(response.into_body(), usize::MAX).await.unwrap();
    (status, content_type, String::from_utf8(body.to_vec()).unwrap())
}

/// Status and code of an answer that must be a problem.
async fn problem(router: Router, request: Request) -> (u16, String) {
    let (status, content_type, body) = send(router, request).await;
    assert_eq!(content_type, problem::CONTENT_TYPE, "{body}");
    let body: serde_json::Value = serde_json::from_str(&body).unwrap();
    assert_eq!(body["status"], status);
    (status, body["code"].as_str().unwrap().to_owned())
}

#[tokio::test]
async fn healthy_once_everything_serves() {
    let (started, ready) = watch::channel(false);
    let (changed, node) = watch::channel(NodeHealth::Ok);
    let router = router(Admin { ready, node, wallet: None, metrics: Arc::default(), api: None });
    let ask = || request(Method::GET, "/healthz").body(Body::empty()).unwrap();
    assert_eq!(problem(router.clone(), ask()).await, (503, "not_ready".to_owned()));
    started.send_replace(true);
    let (status, content_type, body) = send(router.clone(), ask()).await;
    assert_eq!((status, &*content_type, &*body), (200, "application/json", r#"{"status":"ok"}"#));

    changed.send_replace(NodeHealth::Degraded("the node is not synced to the chain".to_owned()));
    let (status, _, body) = send(router.clone(), ask()).await;
    assert_eq!((status, &*body), (200, r#"{"status":"degraded","reason":"the node is not synced to the chain"}"#));

    // A load balancer may ask by whatever name it knows.
    let named = Request::builder().uri("/healthz").header(HOST, "gateway:8082").body(Body::empty()).unwrap();
    assert_eq!(send(router, named).await.0, 200);
}

#[tokio::test]
async fn pays_and_gives_the_preimage() {
    let (wallet, _folder) = wallet().await;
    let invoice = invoice(&wallet).await;
    for host in ["127.0.0.1:8082", "localhost:8082", "LOCALHOST", "[::1]:8082", "10.0.0.7"] {
        let request = Request::builder()
            .method(Method::POST)
            .uri("/wallet/pay")
            .header(HOST, host)
            .header(CONTENT_TYPE, "application/json; charset=utf-8")
            .body(order_to_pay(&invoice.bolt11).into())
            .unwrap();
        let (status, content_type, body) = send(admin(true, Some(wallet.clone())), request).await;
        assert_eq!((status, &*content_type), (200, "application/json"), "{host}: {body}");
        let body: serde_json::Value = serde_json::from_str(&body).unwrap();
        let preimage: Preimage = body["preimage"].as_str().unwrap().parse().unwrap();
        assert_eq!(preimage.payment_hash(), invoice.payment_hash);
    }
    assert!(wallet.settlement(invoice.payment_hash).await.unwrap().is_some());
}

#[tokio::test]
async fn refuses_what_a_web_page_could_send() {
    let (wallet, _folder) = wallet().await;
    let bolt11 = invoice(&wallet).await;
    let body = order_to_pay(&bolt11.bolt11);
    let router = admin(true, Some(wallet.clone()));

    for host in ["evil.example", "evil.example:8082", "localhost.evil.example", "127.0.0.1.evil.example", "", "a b"] {
        let mut rebound = pay_request(body.clone());
        rebound.headers_mut().insert(HOST, host.parse().unwrap());
        assert_eq!(problem(router.clone(), rebound).await, (403, "host_not_allowed".to_owned()), "{host}");
    }
    let mut nameless = pay_request(body.clone());
    nameless.headers_mut().remove(HOST);
    assert_eq!(problem(router.clone(), nameless).await.0, 403);
    let mut authority = pay_request(body.clone());
    *authority.uri_mut() = "http://evil.example/wallet/pay".parse().unwrap();
    assert_eq!(problem(router.clone(), authority).await.0, 403);

    // What a form or a simple fetch sends without asking first.
    for content_type in ["text/plain", "application/x-www-form-urlencoded", "multipart/form-data; boundary=x"] {
        let mut simple = pay_request(body.clone());
        simple.headers_mut().insert(CONTENT_TYPE, content_type.parse().unwrap());
        assert_eq!(problem(router.clone(), simple).await, (415, "unsupported_media_type".to_owned()));
    }
    let mut untyped = pay_request(body);
    untyped.headers_mut().remove(CONTENT_TYPE);
    assert_eq!(problem(router, untyped).await.0, 415);
    assert!(wallet.settlement(bolt11.payment_hash).await.unwrap().is_none());
}

#[tokio::test]
async fn says_why_it_does_not_pay() {
    let (wallet, _folder) = wallet().await;
    let router = admin(true, Some(wallet));
    let (others, _others_folder) = {
        let folder = tempfile::tempdir().unwrap();
        let db = GatewayDb::open(&folder.path().join("gateway.db")).await.unwrap();
        (TestWallet::new(&Secret::new([2; 32]), db), folder)
    };
    let foreign = invoice(&others).await.bolt11;
    // A test vector of BOLT 11.
    let mainnet = "lnbc2500u1pvjluezsp5zyg3zyg3zyg3zyg3zyg3zyg3zyg3zyg3zyg3zyg3zyg3zyg3zygspp5qqqsyqcyq5rqwzqfqqqsyqcyq5rqwzqfqqqsyqcyq5rqwzqfqypqdq5xysxxatsyp3k7enxv4jsxqzpu9qrsgquk0rl77nj30yxdy8j9vdx85fkpmdla2087ne0xh8nhedh8w27kyke0lp53ut353s06fv3qfegext0eh0ymjpf39tuven09sam30g4vgpfna3rh";
    for (bolt11, code) in [("", "not_an_invoice"), (mainnet, "other_network"), (&*foreign, "not_ours")] {
        assert_eq!(problem(router.clone(), pay_request(order_to_pay(bolt11))).await, (422, code.to_owned()));
    }
    for junk in ["", "{", "[]", "{}", r#"{"invoice":1}"#, r#"{"invoice":null}"#, "\u{0}"] {
        assert_eq!(problem(router.clone(), pay_request(junk)).await, (400, "invalid_body".to_owned()), "{junk}");
    }
    assert_eq!(problem(router.clone(), pay_request(vec![0xff; 10])).await.0, 400);
    let huge = order_to_pay(&"q".repeat(MAX_BODY_BYTES));
    assert_eq!(problem(router, pay_request(huge)).await, (413, "body_too_large".to_owned()));
}

#[test]
fn an_expired_invoice_has_its_own_code() {
    let problem = unpaid(&PayError::Expired);
    assert_eq!((problem.status().as_u16(), problem.code()), (422, "invoice_expired"));
    let problem = unpaid(&PayError::Database(sqlx::Error::PoolClosed));
    assert_eq!((problem.status().as_u16(), problem.code()), (500, "internal"));
    assert!(!problem.to_json().contains("pool"), "no cause is sent");
}

#[tokio::test]
async fn without_a_wallet_there_is_nothing_to_pay() {
    let router = admin(true, None);
    assert_eq!(problem(router, pay_request(order_to_pay("lnbcrt"))).await, (404, "no_wallet".to_owned()));
}

#[tokio::test]
async fn other_routes_and_methods_are_problems_too() {
    let (wallet, _folder) = wallet().await;
    let router = admin(true, Some(wallet));
    let none = request(Method::GET, "/wallet").body(Body::empty()).unwrap();
    assert_eq!(problem(router.clone(), none).await, (404, "not_found".to_owned()));
    for (method, path, allow) in [(Method::GET, "/wallet/pay", "POST"), (Method::POST, "/healthz", "GET,HEAD")] {
        let request = || request(method.clone(), path).body(Body::empty()).unwrap();
        let response = router.clone().oneshot(request()).await.unwrap();
        assert_eq!(response.headers()[ALLOW], allow);
        assert_eq!(problem(router.clone(), request()).await, (405, "method_not_allowed".to_owned()));
    }
    let preflight = request(Method::OPTIONS, "/wallet/pay")
        .header("origin", "https://evil.example")
        .header("access-control-request-method", "POST")
        .header("access-control-request-headers", "content-type")
        .body(Body::empty())
        .unwrap();
    assert_eq!(problem(router, preflight).await.0, 405);
}

#[tokio::test]
async fn metrics_are_said_to_whoever_asks_and_say_how_the_node_is() {
    let (node, health) = watch::channel(NodeHealth::Ok);
    let ready = watch::Sender::new(true).subscribe();
    let router = router(Admin { ready, node: health, wallet: None, metrics: Arc::default(), api: None });
    let scrape = || request(Method::GET, "/metrics").body(Body::empty()).unwrap();
    let (status, content_type, body) = send(router.clone(), scrape()).await;
    assert_eq!((status, content_type.as_str()), (200, metrics::CONTENT_TYPE));
    assert!(body.contains("\nsluice_gateway_node_up 1\n"), "{body}");
    node.send_replace(NodeHealth::Degraded("away".to_owned()));
    let (_, _, body) = send(router, scrape()).await;
    assert!(body.contains("\nsluice_gateway_node_up 0\n"), "{body}");
}

/// A stream is reset behind an answer that comes before its body, and curl takes such an answer for none.
#[tokio::test(flavor = "multi_thread")]
async fn what_is_refused_in_http2_is_answered_behind_its_body_and_not_reset() {
    const DATA: u8 = 0;
    const HEADERS: u8 = 1;
    const SETTINGS: u8 = 4;
    const PING: u8 = 6;
    let frame = |kind: u8, flags: u8, stream: u8, payload: &[u8]| {
        [&[0, 0, payload.len() as u8, kind, flags, 0, 0, 0, stream], payload].concat()
    };
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let mut stream = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
    tokio::spawn(axum::serve(listener, admin(true, None)).into_future());
    // Of HPACK's static table `POST` and `http`, then a path and a host.
    let head = frame(HEADERS, 4, 1, b"\x83\x86\x04\x07/nosuch\x01\x09127.0.0.1");
    let begin = [b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec(), frame(SETTINGS, 0, 0, b""), head].concat();
    stream.write_all(&begin).await.unwrap();
    // What came of the request while each of some pings went there and back.
    let mut answered = async |body: Vec<u8>| {
        let mut came = Vec::new();
        for sent in [body].into_iter().chain(vec![Vec::new(); 20]) {
            stream.write_all(&[sent, frame(PING, 0, 0, &[0; 8])].concat()).await.unwrap();
            loop {
                let mut begin = [0; 9];
                stream.read_exact(&mut begin).await.unwrap();
                let [a, b, c, kind, .., stream_id] = begin;
                stream.read_exact(&mut vec![0; u32::from_be_bytes([0, a, b, c]) as usize]).await.unwrap();
                match (stream_id, kind) {
                    (0, PING) => break,
                    (1, kind) => came.push(kind),
                    _ => {}
                }
            }
        }
        came
    };
    assert_eq!(answered(Vec::new()).await, [0; 0]);
    assert_eq!(answered(frame(DATA, 1, 1, b"x")).await, [HEADERS, DATA]);
}
