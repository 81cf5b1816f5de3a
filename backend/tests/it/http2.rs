//! HTTP/2 without TLS, by prior knowledge.

use std::pin::Pin;

use futures_util::{Stream, StreamExt, stream};
use http::{Request, StatusCode, header::CONTENT_LENGTH};
use http_body_util::{BodyExt, StreamBody};
use hyper::{
    body::{Bytes, Frame},
    client::conn::http2::{self, SendRequest},
};
use hyper_util::rt::{TokioExecutor, TokioIo};
use serde_json::Value;
use tempfile::TempDir;
use tokio::{net::TcpStream, sync::oneshot, time::timeout};

use crate::{
    server::{SOON, login, start, stop},
    support::{BOUNDARY, MB, bytes, config, eventually, form},
};

type Pieces = Pin<Box<dyn Stream<Item = Result<Frame<Bytes>, std::io::Error>> + Send>>;
type Client = SendRequest<StreamBody<Pieces>>;

async fn connect(running: &sluice_backend::server::Running) -> Client {
    let stream = TcpStream::connect(running.local_addr()).await.unwrap();
    let (client, connection) = http2::handshake(TokioExecutor::new(), TokioIo::new(stream)).await.unwrap();
    tokio::spawn(connection);
    client
}

/// `body` in pieces, and what says that the last was taken.
fn in_pieces(body: Vec<u8>) -> (Pieces, oneshot::Receiver<()>) {
    let (all, is_all) = oneshot::channel();
    let pieces: Vec<_> = body.chunks(64 * 1024).map(|piece| Ok(Frame::data(Bytes::copy_from_slice(piece)))).collect();
    let last = stream::once(async move {
        let _ = all.send(());
        Ok(Frame::data(Bytes::new()))
    });
    (Box::pin(stream::iter(pieces).chain(last)), is_all)
}

fn request(path: &str, jwt: &str, len: Option<usize>, body: Pieces) -> Request<StreamBody<Pieces>> {
    let mut request = Request::post(format!("http://media.example{path}"))
        .header("content-type", format!("multipart/form-data; boundary={BOUNDARY}"))
        .header("authorization", format!("Bearer {jwt}"));
    if let Some(len) = len {
        request = request.header(CONTENT_LENGTH, len);
    }
    request.body(StreamBody::new(body)).unwrap()
}

/// Status and JSON of the answer to an upload.
async fn upload(client: &mut Client, request: Request<StreamBody<Pieces>>) -> (StatusCode, Value) {
    let answer = timeout(SOON, client.send_request(request)).await.expect("an answer").unwrap();
    let status = answer.status();
    let body = timeout(SOON, answer.into_body().collect()).await.expect("its end").unwrap().to_bytes();
    (status, serde_json::from_slice(&body).unwrap())
}

#[tokio::test]
async fn stores_an_upload_of_declared_length_or_not() {
    let dir = TempDir::new().unwrap();
    let config = config(&dir);
    let jwt = login(&config);
    let (running, shutdown) = start(config).await;
    let mut client = connect(&running).await;
    for declares in [true, false] {
        let body = form(&[], &bytes(10 * MB + usize::from(declares)));
        let len = declares.then_some(body.len());
        let (status, media) = upload(&mut client, request("/file", &jwt, len, in_pieces(body).0)).await;
        assert_eq!(status, 200, "{media}");
        assert_eq!(media["size"], 10 * MB + usize::from(declares));
    }
    drop(client);
    stop(running, shutdown).await;
}

#[tokio::test]
async fn an_early_answer_comes_and_the_body_is_read_on() {
    let dir = TempDir::new().unwrap();
    let config = config(&dir);
    let jwt = login(&config);
    let (running, shutdown) = start(config).await;
    let mut client = connect(&running).await;
    for (path, jwt, len, status, code) in [
        ("/file", "junk", 24 * MB, 401, "invalid_login"),
        ("/largefile", jwt.as_str(), 24 * MB, 402, "payment_required"),
        ("/file", &jwt, 40 * MB, 413, "too_large"),
    ] {
        for declared in [Some(len), None] {
            let mut body = form(&[], &vec![b'x'; len]);
            body.truncate(len);
            let (pieces, is_all) = in_pieces(body);
            let (answered, problem) = upload(&mut client, request(path, jwt, declared, pieces)).await;
            assert_eq!((answered.as_u16(), &problem["code"]), (status, &code.into()), "{declared:?}");
            timeout(SOON, is_all).await.expect("it is read on").expect("to its end");
        }
    }
    assert!(std::fs::read_dir(dir.path().join("files")).unwrap().next().is_none());
    drop(client);
    stop(running, shutdown).await;
}

#[tokio::test]
async fn a_stream_that_is_reset_stores_nothing() {
    let dir = TempDir::new().unwrap();
    let config = config(&dir);
    let jwt = login(&config);
    let (running, shutdown) = start(config).await;
    let mut client = connect(&running).await;
    let files = dir.path().join("files");
    let count = move || std::fs::read_dir(&files).unwrap().count();
    let seen = count.clone();
    let half = Bytes::from(form(&[], &bytes(2 * MB))).slice(..MB);
    let pieces = stream::once(async { Ok(Frame::data(half)) }).chain(stream::once(async move {
        eventually(async || seen() == 1).await;
        Err(std::io::ErrorKind::Interrupted.into())
    }));
    let reset = client.send_request(request("/file", &jwt, None, Box::pin(pieces)));
    assert!(timeout(SOON, reset).await.expect("it ends").is_err());
    eventually(async || count() == 0).await;
    drop(client);
    stop(running, shutdown).await;
}
