//! What a connection does: on a real port.

use std::{net::SocketAddr, time::Duration};

use sluice_backend::{
    auth::JwtKey,
    config::{BackendConfig, StoreConfig},
    keys::KeysError,
    server::{Running, Server, StartError},
};
use sluice_common::{
    keys::{MasterKey, MasterKeys},
    secret::Secret,
};
use tempfile::TempDir;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::timeout,
};
use tokio_util::sync::CancellationToken;

use crate::support::{BOUNDARY, MB, bytes, config, eventually, form};

pub const SOON: Duration = Duration::from_secs(20);

pub async fn start(config: BackendConfig) -> (Running, CancellationToken) {
    let shutdown = CancellationToken::new();
    (Server::start(config, shutdown.clone()).await.unwrap(), shutdown)
}

pub async fn stop(running: Running, shutdown: CancellationToken) {
    shutdown.cancel();
    timeout(SOON, running.wait()).await.expect("it stops").unwrap();
}

/// Sends `request` and reads until the server closes.
async fn ask(addr: SocketAddr, request: &str) -> String {
    let mut stream = TcpStream::connect(addr).await.unwrap();
    stream.write_all(request.as_bytes()).await.unwrap();
    rest(&mut stream).await
}

async fn rest(stream: &mut TcpStream) -> String {
    let mut answer = Vec::new();
    timeout(SOON, stream.read_to_end(&mut answer)).await.expect("it closes").unwrap();
    String::from_utf8(answer).unwrap()
}

/// A login as the server started with `config` gives it.
pub fn login(config: &BackendConfig) -> String {
    let user = sluice_backend::auth::User { key: crate::support::node_key(1), readonly: false };
    sluice_backend::auth::Logins::new(&config.jwt_key).issue(user, time::OffsetDateTime::now_utc()).unwrap()
}

fn upload_head(jwt: &str, len: usize) -> String {
    format!(
        "POST /file HTTP/1.1\r\nHost: x\r\nConnection: close\r\nAuthorization: Bearer {jwt}\r\n\
         Content-Type: multipart/form-data; boundary={BOUNDARY}\r\nContent-Length: {len}\r\n\r\n"
    )
}

#[tokio::test]
async fn serves_http_1_and_http_2_with_large_windows() {
    let dir = TempDir::new().unwrap();
    let (running, shutdown) = start(config(&dir)).await;
    let answer = ask(running.local_addr(), "GET /ping HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").await;
    assert!(answer.starts_with("HTTP/1.1 200 OK\r\n") && answer.ends_with("\"pong\""), "{answer}");

    let mut stream = TcpStream::connect(running.local_addr()).await.unwrap();
    stream.write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0").await.unwrap();
    let mut head = [0; 9];
    stream.read_exact(&mut head).await.unwrap();
    assert_eq!(head[3], 4, "SETTINGS");
    let mut settings = vec![0; usize::from(head[2])];
    stream.read_exact(&mut settings).await.unwrap();
    // SETTINGS_INITIAL_WINDOW_SIZE is 4; 1 MiB.
    assert!(settings.chunks(6).any(|setting| setting == [0, 4, 0, 16, 0, 0]), "{settings:?}");
    drop(stream);
    stop(running, shutdown).await;
}

#[tokio::test]
async fn junk_ends_its_own_connection_only() {
    let dir = TempDir::new().unwrap();
    let (running, shutdown) = start(config(&dir)).await;
    for junk in ["\r\n\r\n\0\0\0", "GET / HTTP/9.9\r\n\r\n", "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\njunkjunkjunk"] {
        let mut stream = TcpStream::connect(running.local_addr()).await.unwrap();
        stream.write_all(junk.as_bytes()).await.unwrap();
        let mut answer = Vec::new();
        // Closed or reset, as may be.
        let _ = timeout(SOON, stream.read_to_end(&mut answer)).await.expect("it closes");
    }
    let answer = ask(running.local_addr(), "GET /ping HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").await;
    assert!(answer.ends_with("\"pong\""));
    stop(running, shutdown).await;
}

#[tokio::test]
async fn a_silent_connection_is_closed() {
    let dir = TempDir::new().unwrap();
    let mut config = config(&dir);
    config.timeouts.header_read = Duration::from_millis(100);
    let (running, shutdown) = start(config).await;
    for said in ["", "PRI", "GET /ping HT"] {
        let mut stream = TcpStream::connect(running.local_addr()).await.unwrap();
        stream.write_all(said.as_bytes()).await.unwrap();
        rest(&mut stream).await;
    }
    stop(running, shutdown).await;
}

#[tokio::test]
async fn a_refusal_reaches_a_client_that_sends_on() {
    let dir = TempDir::new().unwrap();
    let (running, shutdown) = start(config(&dir)).await;
    let body = vec![b'x'; 8 << 20];
    let mut stream = TcpStream::connect(running.local_addr()).await.unwrap();
    stream.write_all(upload_head("junk", body.len()).as_bytes()).await.unwrap();
    stream.write_all(&body).await.unwrap();
    let answer = rest(&mut stream).await;
    assert!(answer.starts_with("HTTP/1.1 401 Unauthorized\r\n"), "{answer}");

    let mut stream = TcpStream::connect(running.local_addr()).await.unwrap();
    let head = upload_head("junk", body.len()).replace("\r\n\r\n", "\r\nExpect: 100-continue\r\n\r\n");
    stream.write_all(head.as_bytes()).await.unwrap();
    let answer = rest(&mut stream).await;
    assert!(answer.starts_with("HTTP/1.1 401 Unauthorized\r\n"), "no 100 before it: {answer}");
    stop(running, shutdown).await;
}

#[tokio::test]
async fn what_is_refused_for_its_size_is_read_on() {
    let dir = TempDir::new().unwrap();
    let config = config(&dir);
    let head = upload_head(&login(&config), 60 * MB);
    let (running, shutdown) = start(config).await;
    let mut stream = TcpStream::connect(running.local_addr()).await.unwrap();
    stream.write_all(head.as_bytes()).await.unwrap();
    for _ in 0..60 {
        stream.write_all(&vec![b'x'; MB]).await.unwrap();
    }
    let answer = rest(&mut stream).await;
    assert!(answer.starts_with("HTTP/1.1 413 Payload Too Large\r\n"), "{answer}");
    stop(running, shutdown).await;
}

#[tokio::test]
async fn who_sends_no_more_is_answered_all_the_same() {
    let dir = TempDir::new().unwrap();
    let config = config(&dir);
    let body = form(&[], &bytes(1_000_000));
    let head = upload_head(&login(&config), body.len()).replace("Connection: close\r\n", "");
    let (running, shutdown) = start(config).await;
    for (sent, status) in [(body.len(), "200 OK"), (body.len() - 1, "400 Bad Request")] {
        let mut stream = TcpStream::connect(running.local_addr()).await.unwrap();
        stream.write_all(head.as_bytes()).await.unwrap();
        stream.write_all(&body[..sent]).await.unwrap();
        stream.shutdown().await.unwrap();
        // And closed at once after it, for nothing more can come.
        let answer = rest(&mut stream).await;
        assert!(answer.starts_with(&format!("HTTP/1.1 {status}\r\n")), "{sent}: {answer}");
    }
    // Which waits until nothing is left of what was refused.
    stop(running, shutdown).await;
    assert_eq!(files(&dir), 1);
}

#[tokio::test]
async fn who_is_gone_is_noticed() {
    let dir = TempDir::new().unwrap();
    let config = config(&dir);
    let jwt = login(&config);
    // More than all socket buffers on the way hold.
    let body = form(&[("public", "true")], &bytes(30 * MB));
    let (running, shutdown) = start(config).await;
    let mut stream = TcpStream::connect(running.local_addr()).await.unwrap();
    stream.write_all(upload_head(&jwt, body.len()).as_bytes()).await.unwrap();
    stream.write_all(&body).await.unwrap();
    let answer = rest(&mut stream).await;
    let muid = answer.split("\"muid\":\"").nth(1).unwrap().split('"').next().unwrap();
    for half_closes in [false, true] {
        let mut stream = TcpStream::connect(running.local_addr()).await.unwrap();
        let get = format!("GET /public/{muid} HTTP/1.1\r\nHost: x\r\n\r\n");
        stream.write_all(get.as_bytes()).await.unwrap();
        if half_closes {
            stream.shutdown().await.unwrap();
        }
        let mut first = [0; 12];
        stream.read_exact(&mut first).await.unwrap();
        assert_eq!(&first, b"HTTP/1.1 200");
    }
    // Sooner than it would cut off who is still there.
    stop(running, shutdown).await;
}

#[tokio::test]
async fn an_upload_under_way_is_finished_before_the_server_stops() {
    let dir = TempDir::new().unwrap();
    let config = config(&dir);
    // More than the pipeline waits for before it begins a copy.
    let body = form(&[], &bytes(1_000_000));
    let head = upload_head(&login(&config), body.len());
    let (running, shutdown) = start(config).await;
    let addr = running.local_addr();
    let mut stream = TcpStream::connect(addr).await.unwrap();
    stream.write_all(head.as_bytes()).await.unwrap();
    stream.write_all(&body[..body.len() - 1]).await.unwrap();
    eventually(async || files(&dir) == 1).await;
    shutdown.cancel();
    eventually(async || TcpStream::connect(addr).await.is_err()).await;
    stream.write_all(&body[body.len() - 1..]).await.unwrap();
    let answer = rest(&mut stream).await;
    assert!(answer.starts_with("HTTP/1.1 200 OK\r\n"), "{answer}");
    timeout(SOON, running.wait()).await.expect("it stops").unwrap();
    assert_eq!(files(&dir), 1);
}

#[tokio::test]
async fn an_upload_that_does_not_end_does_not_hold_the_server_up() {
    let dir = TempDir::new().unwrap();
    let mut config = config(&dir);
    config.timeouts.shutdown = Duration::from_millis(100);
    let head = upload_head(&login(&config), 2_000_000);
    let (running, shutdown) = start(config).await;
    let mut stream = TcpStream::connect(running.local_addr()).await.unwrap();
    stream.write_all(head.as_bytes()).await.unwrap();
    stream.write_all(&form(&[], &bytes(1_000_000))).await.unwrap();
    eventually(async || files(&dir) == 1).await;
    stop(running, shutdown).await;
    assert_eq!(files(&dir), 0, "nothing half-written is left");
}

fn files(dir: &TempDir) -> usize {
    std::fs::read_dir(dir.path().join("files")).unwrap().count()
}

#[tokio::test]
async fn a_start_without_a_key_in_use_is_refused_by_its_name() {
    let dir = TempDir::new().unwrap();
    let (running, shutdown) = start(config(&dir)).await;
    stop(running, shutdown).await;

    let change = |change: fn(&mut BackendConfig)| {
        let mut changed = config(&dir);
        change(&mut changed);
        changed
    };
    for (name, changed) in [
        ("JWT_KEY", change(|config| config.jwt_key = JwtKey::new(Secret::new("other".to_owned())).unwrap())),
        ("SLUICE_MASTER_KEYS", change(|config| config.master_keys = MasterKeys::new(vec![master_key(7)]).unwrap())),
        ("LOCAL_ENCRYPTION_KEY", change(|config| set_encryption_key(config, None))),
        ("LOCAL_ENCRYPTION_KEY", change(|config| set_encryption_key(config, Some(Secret::new([9; 32]))))),
    ] {
        let error = Server::start(changed, CancellationToken::new()).await.unwrap_err();
        assert!(matches!(&error, StartError::Keys(KeysError::Missing(missing)) if missing.name == name), "{error}");
        assert!(error.to_string().contains(name));
    }
    // Another key beside the one in use is fine, and is in use from then on.
    let mut both = config(&dir);
    both.master_keys = MasterKeys::new(vec![master_key(6), master_key(7)]).unwrap();
    let (running, shutdown) = start(both).await;
    stop(running, shutdown).await;
    let error = Server::start(config(&dir), CancellationToken::new()).await.unwrap_err();
    assert!(error.to_string().contains("SLUICE_MASTER_KEYS"), "{error}");
}

fn master_key(byte: u8) -> MasterKey {
    MasterKey::new(&Secret::new([byte; 32]), 0)
}

fn set_encryption_key(config: &mut BackendConfig, key: Option<Secret<[u8; 32]>>) {
    let StoreConfig::Local { encryption_key, .. } = &mut config.store else { panic!("not a folder") };
    *encryption_key = key;
}
