//! What hangs up, stalls or gets lost, and what is stored then.

use std::net::SocketAddr;

use axum::{Router, body::Bytes, extract::Request, middleware, response::IntoResponse, routing::post};
use http::{StatusCode, header::CONTENT_TYPE as CONTENT_TYPE_HEADER};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    sync::Semaphore,
    time::timeout,
};

use super::{
    super::{
        drain::{DrainLimits, Drains, drain_unread},
        *,
    },
    rig::{self, CONTENT_TYPE, PATIENCE, Rig, eventually, file_form, paid_order},
    trouble::{Troubled, gate},
};
use crate::store::contract::bytes;

/// A real server with one route, which uploads on a single-use token.
async fn serve(uploads: Arc<Uploads>) -> SocketAddr {
    let route = async move |request: Request| {
        let content_type =
            request.headers().get(CONTENT_TYPE_HEADER).and_then(|value| value.to_str().ok()).map(str::to_owned);
        match uploads.receive(paid_order(), content_type.as_deref(), request.into_body()).await {
            Ok(committed) => (StatusCode::OK, committed.media.muid.to_string()).into_response(),
            Err(error) => (error.to_problem().status(), error.to_problem().to_json()).into_response(),
        }
    };
    let drains = Drains::new(DrainLimits::for_uploads_of(1 << 30));
    let app = Router::new().route("/", post(route)).layer(middleware::from_fn_with_state(drains, drain_unread));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let addr = listener.local_addr().unwrap();
    tokio::spawn(async move { axum::serve(listener, app).await });
    addr
}

async fn connect(addr: SocketAddr, declared: usize) -> TcpStream {
    let mut stream = TcpStream::connect(addr).await.unwrap();
    let head =
        format!("POST / HTTP/1.1\r\nHost: x\r\nContent-Type: {CONTENT_TYPE}\r\nContent-Length: {declared}\r\n\r\n");
    stream.write_all(head.as_bytes()).await.unwrap();
    stream
}

async fn answer(mut stream: TcpStream) -> String {
    let mut answer = Vec::new();
    timeout(PATIENCE, async {
        while !answer.ends_with(b"}") {
            answer.push(stream.read_u8().await.unwrap());
        }
    })
    .await
    .unwrap();
    String::from_utf8(answer).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn who_hangs_up_midway_leaves_nothing_and_pays_nothing() {
    let rig = Rig::new().await;
    let addr = serve(Arc::clone(&rig.uploads)).await;
    let body = file_form(&bytes(2_000_000));
    for sent in [0, 100, 700_000, body.len() - 1] {
        let mut stream = connect(addr, body.len()).await;
        stream.write_all(&body[..sent]).await.unwrap();
        rig.is_under_way().await;
        if sent == 700_000 {
            eventually("bytes in the store", async || rig::some_file(&rig.store_dir())).await;
        }
        drop(stream);
        rig.has_only(0).await;
    }
    // The use is there again.
    rig.upload(paid_order(), body).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn the_last_declared_byte_is_awaited() {
    let rig = Rig::new().await;
    let addr = serve(Arc::clone(&rig.uploads)).await;
    let body = file_form(&bytes(300_000));
    // The form is whole, but the body is one byte longer.
    let mut stream = connect(addr, body.len() + 1).await;
    stream.write_all(&body).await.unwrap();
    eventually("the first batch in the store", async || rig::some_file(&rig.store_dir())).await;
    assert!(timeout(Duration::from_millis(100), rig.uploads.wait()).await.is_err(), "it waits");
    assert_eq!(rig.count("SELECT count(*) FROM content WHERE state = 'stored'").await, 0);
    drop(stream);
    rig.has_only(0).await;

    let mut stream = connect(addr, body.len() + 1).await;
    stream.write_all(&body).await.unwrap();
    stream.write_all(b"\n").await.unwrap();
    rig::eventually("it is stored", async || rig.count("SELECT count(*) FROM media").await == 1).await;
    rig.has_only(1).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn who_hangs_up_after_the_last_byte_is_stored() {
    let rig = Rig::new().await;
    let addr = serve(Arc::clone(&rig.uploads)).await;
    let body = file_form(&bytes(1_000_000));
    let mut stream = connect(addr, body.len()).await;
    stream.write_all(&body).await.unwrap();
    stream.shutdown().await.unwrap();
    drop(stream);
    eventually("it is stored", async || rig.count("SELECT count(*) FROM media").await == 1).await;
    rig.has_only(1).await;
}

#[tokio::test]
async fn no_hang_up_cancels_what_came_whole() {
    let open = Arc::new(Semaphore::new(0));
    let rig = Rig::build(|db, store| Uploads::new(db, gate(store, &open), None)).await;
    // Dropped by the server while the store is at it.
    let dropped = timeout(Duration::from_millis(100), rig.upload(paid_order(), file_form(b"x"))).await;
    assert!(dropped.is_err());
    rig.is_under_way().await;
    assert!(matches!(rig.upload(paid_order(), file_form(b"y")).await, Err(UploadError::UploadInProgress)));
    open.add_permits(1);
    rig.has_only(1).await;
    assert!(matches!(rig.upload(paid_order(), file_form(b"y")).await, Err(UploadError::UsedUp)));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_early_answer_reaches_who_is_still_sending() {
    let rig = Rig::new().await;
    let addr = serve(Arc::clone(&rig.uploads)).await;
    let mut body = rig::form(&[("name=\"price\"", b"junk")]);
    body.resize(24 << 20, 0);
    let mut stream = connect(addr, body.len()).await;
    for piece in body.chunks(100_000) {
        stream.write_all(piece).await.unwrap();
    }
    let answer = answer(stream).await;
    assert!(answer.starts_with("HTTP/1.1 422 ") && answer.contains("\"field\":\"price\""), "{answer}");
    rig.has_only(0).await;
}

#[tokio::test]
async fn what_may_be_stored_is_not_removed() {
    let rig = Rig::build(|db, store| {
        let db = Troubled { loses_answers: true, ..Troubled::new(db) };
        Uploads::new(Arc::new(db), store, None)
    })
    .await;
    let problem = rig.upload(paid_order(), file_form(b"x")).await.unwrap_err().to_problem();
    assert_eq!((problem.status(), problem.code()), (StatusCode::SERVICE_UNAVAILABLE, "database_unavailable"));
    rig.has_only(1).await;
}

#[tokio::test]
async fn a_broken_body_is_told_so() {
    let rig = Rig::new().await;
    let (sender, body) = rig::slow_body();
    let sending = async {
        sender.send(Ok(Bytes::from_static(b"--"))).await.unwrap();
        sender.send(rig::hang_up()).await.unwrap();
    };
    let (result, ()) = tokio::join!(rig.uploads.receive(paid_order(), Some(CONTENT_TYPE), body), sending);
    assert!(matches!(result, Err(UploadError::IncompleteBody)), "{result:?}");
    rig.has_only(0).await;
}
