//! What is logged, at the most talkative level.

use std::{
    io,
    sync::{Arc, Mutex, PoisonError},
};

use sluice_backend::server;
use tempfile::TempDir;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};
use tokio_util::sync::CancellationToken;
use tracing_subscriber::fmt::MakeWriter;

use crate::support::{BOUNDARY, Server, config, form};

#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);

impl Log {
    fn text(&self) -> String {
        String::from_utf8(self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()).unwrap()
    }
}

impl io::Write for Log {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl MakeWriter<'_> for Log {
    type Writer = Self;

    fn make_writer(&self) -> Self {
        self.clone()
    }
}

#[tokio::test]
async fn no_secret_is_logged() {
    let log = Log::default();
    let subscriber =
        tracing_subscriber::fmt().with_max_level(tracing::Level::TRACE).with_ansi(false).with_writer(log.clone());
    // Of all threads, those of the database too, and so also of the tests beside this one.
    tracing::subscriber::set_global_default(subscriber.finish()).unwrap();

    let dir = TempDir::new().unwrap();
    let shutdown = CancellationToken::new();
    let running = server::Server::start(config(&dir), shutdown.clone()).await.unwrap();
    let keys = Server::new().await;
    let (jwt, credential) = (keys.login(1), keys.credential(&[]));
    let (macaroon, preimage) = (credential.macaroon().to_base64(), credential.preimage().expose_hex());
    let muid = "c2VjcmV0LW11aWQtb2YtMzItYnl0ZXMtaGVyZS4uLi4=";
    let media_token = format!("aG9zdA==.{muid}.._____w==.secretsignature");
    let [body, other] = [b"x", b"y"].map(|file| String::from_utf8(form(&[("name", "secretname")], file)).unwrap());
    let upload =
        format!("Content-Type: multipart/form-data; boundary={BOUNDARY}\r\nContent-Length: {}\r\n", body.len());
    for (line, headers, body, status) in [
        ("GET /mymedia", format!("Authorization: Bearer {jwt}\r\n"), "", 200),
        (&format!("GET /mymedia?jwt={jwt}"), String::new(), "", 200),
        (&format!("GET /media/{muid}"), format!("Cookie: jwt={jwt}\r\n"), "", 404),
        (&format!("GET /file/{media_token}"), format!("Authorization: Bearer {jwt}\r\n"), "", 401),
        (&format!("GET /nothing/{media_token}?jwt={jwt}"), String::new(), "", 404),
        ("POST /largefile", format!("{upload}Authorization: L402 {macaroon}:{preimage}\r\n"), &body, 200),
        ("POST /largefile", format!("{upload}Authorization: L402 {macaroon}:{preimage}\r\n"), &other, 402),
        ("GET /largefile", format!("Authorization: LSAT {macaroon}x:{preimage}\r\n"), "", 401),
    ] {
        let mut stream = TcpStream::connect(running.local_addr()).await.unwrap();
        let request = format!(
            "{line} HTTP/1.1\r\nHost: x\r\nConnection: close\r\nX-Request-Id: test-{status}\r\n{headers}\r\n{body}"
        );
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        assert!(answer.starts_with(&format!("HTTP/1.1 {status} ")), "{line}: {answer}");
    }
    shutdown.cancel();
    running.wait().await.unwrap();

    let text = log.text();
    assert!(text.contains("/file/{name}") && text.contains("status=402"), "requests are logged: {text}");
    assert!(text.lines().any(|line| line.contains("request_id=test-402") && line.contains("status=402")), "{text}");
    let signature = jwt.rsplit('.').next().unwrap();
    for secret in [signature, &jwt, &macaroon, &preimage, "secretsignature", "secretname", muid] {
        assert!(!text.contains(secret), "{secret} in {text}");
    }
}
