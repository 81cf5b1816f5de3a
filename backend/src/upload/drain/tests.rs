use std::net::SocketAddr;

use axum::{Router, extract::Request, middleware, routing::post};
use http::StatusCode;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
};

use super::*;

const PATIENCE: Duration = Duration::from_secs(20);
/// More than all socket buffers between client and server hold.
const LARGE: usize = 24 << 20;

fn limits() -> DrainLimits {
    // Only the bound that a test sets can end a drain in its time.
    let for_ever = Duration::from_secs(600);
    DrainLimits {
        max_time: for_ever,
        max_idle: for_ever,
        max_idle_after_expect: for_ever,
        ..DrainLimits::for_uploads_of(1 << 30)
    }
}

/// A server whose routes refuse: `/unread` at once, `/partly` after the first bytes, `/late` some time after it gave the body up; `/read` reads all.
async fn serve(drains: Option<DrainLimits>) -> SocketAddr {
    let mut app = Router::new()
        .route("/unread", post(|_: Request| async { StatusCode::PAYLOAD_TOO_LARGE }))
        .route(
            "/partly",
            post(|request: Request| async {
                let mut body = request.into_body();
                assert!(body.frame().await.unwrap().unwrap().is_data());
                // As an upload does: another task has the body when the answer goes.
                tokio::spawn(async move { drop(body) });
                StatusCode::PAYLOAD_TOO_LARGE
            }),
        )
        .route(
            "/late",
            post(|request: Request| async {
                drop(request);
                // Time enough for a drain that does not wait for the answer to be seen.
                tokio::time::sleep(Duration::from_millis(10)).await;
                StatusCode::PAYLOAD_TOO_LARGE
            }),
        )
        .route("/read", post(|body: Bytes| async move { body.len().to_string() }));
    if let Some(limits) = drains {
        app = app.layer(middleware::from_fn_with_state(Drains::new(limits), drain_unread));
    }
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let addr = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let service = hyper_util::service::TowerToHyperService::new(app.clone());
            let io = hyper_util::rt::TokioIo::new(stream);
            tokio::spawn(hyper::server::conn::http1::Builder::new().serve_connection(io, service));
        }
    });
    addr
}

async fn connect(addr: SocketAddr, path: &str, len: usize, headers: &str) -> TcpStream {
    let mut stream = TcpStream::connect(addr).await.unwrap();
    let head = format!("POST {path} HTTP/1.1\r\nHost: x\r\nContent-Length: {len}\r\n{headers}\r\n");
    stream.write_all(head.as_bytes()).await.unwrap();
    stream
}

/// Reads one answer without a body of its own.
async fn answer(stream: &mut TcpStream) -> String {
    let mut head = Vec::new();
    timeout(PATIENCE, async {
        while !head.ends_with(b"\r\n\r\n") {
            head.push(stream.read_u8().await.unwrap());
        }
    })
    .await
    .expect("an answer");
    String::from_utf8(head).unwrap()
}

/// Whether the server closes the connection, in time.
async fn closes(stream: &mut TcpStream) -> bool {
    timeout(PATIENCE, stream.read(&mut [0; 64])).await.is_ok_and(|read| !matches!(read, Ok(1..)))
}

#[tokio::test(flavor = "multi_thread")]
async fn the_answer_comes_first_and_the_connection_lives_on() {
    let addr = serve(Some(limits())).await;
    for path in ["/unread", "/partly"] {
        let mut stream = connect(addr, path, LARGE, "").await;
        let body = vec![0; LARGE];
        stream.write_all(&body[..1_000]).await.unwrap();
        // Long before the body's end.
        assert!(answer(&mut stream).await.starts_with("HTTP/1.1 413 "), "{path}");
        stream.write_all(&body[1_000..]).await.unwrap();
        // The same connection serves another request.
        stream.write_all(b"POST /unread HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n").await.unwrap();
        assert!(answer(&mut stream).await.starts_with("HTTP/1.1 413 "), "{path}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_only_writes_sees_the_answer_in_the_end() {
    let addr = serve(Some(limits())).await;
    let mut stream = connect(addr, "/unread", LARGE, "").await;
    for piece in vec![0; LARGE].chunks(100_000) {
        stream.write_all(piece).await.unwrap();
    }
    assert!(answer(&mut stream).await.starts_with("HTTP/1.1 413 "));
}

#[tokio::test(flavor = "multi_thread")]
async fn without_it_the_connection_breaks() {
    let addr = serve(None).await;
    let mut stream = connect(addr, "/unread", LARGE, "").await;
    assert!(stream.write_all(&vec![0; LARGE]).await.is_err(), "if this no longer fails, drains are needed no more");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_read_is_not_changed() {
    let addr = serve(Some(limits())).await;
    let mut stream = connect(addr, "/read", 300_000, "Connection: close\r\n").await;
    stream.write_all(&[7; 300_000]).await.unwrap();
    let mut all = String::new();
    timeout(PATIENCE, stream.read_to_string(&mut all)).await.unwrap().unwrap();
    assert!(all.starts_with("HTTP/1.1 200 ") && all.ends_with("\r\n\r\n300000"), "{all}");
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_is_told_to_go_on_before_a_refusal() {
    let addr = serve(Some(DrainLimits { max_idle_after_expect: Duration::from_millis(10), ..limits() })).await;
    for path in ["/unread", "/late"] {
        let mut stream = connect(addr, path, 1_000, "Expect: 100-continue\r\n").await;
        assert!(answer(&mut stream).await.starts_with("HTTP/1.1 413 "));
        assert!(closes(&mut stream).await, "who waits for a 100 is not waited for");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn every_bound_closes() {
    let bounds = [
        DrainLimits { max_bytes: 1 << 20, ..limits() },
        DrainLimits { max_time: Duration::from_millis(50), ..limits() },
        DrainLimits { max_idle: Duration::from_millis(50), ..limits() },
        DrainLimits { at_once: 0, ..limits() },
    ];
    for bound in bounds {
        let addr = serve(Some(bound)).await;
        let mut stream = connect(addr, "/unread", LARGE, "").await;
        // As much as it takes, but not all of the body.
        let _ = stream.write_all(&vec![0; 4 << 20]).await;
        let mut all = Vec::new();
        assert!(timeout(PATIENCE, stream.read_to_end(&mut all)).await.is_ok(), "{bound:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn one_network_has_not_all_places() {
    let addr = serve(Some(DrainLimits { at_once: 3, at_once_per_client: 1, ..limits() })).await;
    let from = async |address: &str| {
        let mut stream = connect(addr, "/unread", LARGE, &format!("X-Forwarded-For: {address}, 10.0.0.1\r\n")).await;
        assert!(answer(&mut stream).await.starts_with("HTTP/1.1 413 "), "{address}");
        stream
    };
    let _reading = from("192.0.2.1").await;
    assert!(closes(&mut from("192.0.2.2").await).await, "of the same network");
    // It takes more than the sockets hold: it is read on.
    let mut other = from("198.51.100.1").await;
    timeout(PATIENCE, other.write_all(&vec![0; LARGE / 2])).await.unwrap().unwrap();
}
