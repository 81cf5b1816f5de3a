//! A client that behaves badly: it holds bytes back, hangs up, sends what is no HTTP.

use std::{net::SocketAddr, time::Duration};

use sluice_common::l402::Credential;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::timeout,
};

/// The head of a paid upload.
pub fn upload_head(credential: &Credential, content_type: &str, content_length: usize) -> String {
    format!(
        "POST /largefile HTTP/1.1\r\nhost: example.com\r\nauthorization: {}\r\ncontent-type: {content_type}\r\n\
         content-length: {content_length}\r\n\r\n",
        credential.authorization().expose()
    )
}

/// Sends these bytes and hangs up at once, whatever the server says.
pub async fn send_and_hang_up(address: SocketAddr, head: &str, body: &[u8]) {
    let mut stream = TcpStream::connect(address).await.unwrap();
    stream.write_all(head.as_bytes()).await.unwrap();
    // A server that has answered and gone is none of this client's concern.
    let _ = stream.write_all(body).await;
}

/// Sends these bytes and reads what the server says until it closes. An empty answer: it
/// closed without a word.
pub async fn send(address: SocketAddr, bytes: &[u8]) -> String {
    let exchange = async {
        let mut stream = TcpStream::connect(address).await.unwrap();
        let _ = stream.write_all(bytes).await;
        let mut answer = Vec::new();
        let _ = stream.read_to_end(&mut answer).await;
        String::from_utf8_lossy(&answer).into_owned()
    };
    timeout(Duration::from_secs(30), exchange).await.expect("no end within 30 s")
}

/// Sends these bytes in pieces until the server says something, and reads on until it closes.
pub async fn send_until_answered(address: SocketAddr, bytes: &[u8]) -> String {
    let exchange = async {
        let (mut reader, mut writer) = TcpStream::connect(address).await.unwrap().into_split();
        let mut answer = vec![0; 4096];
        let mut pieces = bytes.chunks(16 * 1024);
        let len = loop {
            tokio::select! {
                biased;
                len = reader.read(&mut answer) => break len.unwrap_or_default(),
                // A server that is gone shows when its answer is read.
                _ = writer.write_all(pieces.next().unwrap_or_default()), if pieces.len() > 0 => {}
            }
        };
        answer.truncate(len);
        let _ = reader.read_to_end(&mut answer).await;
        String::from_utf8_lossy(&answer).into_owned()
    };
    timeout(Duration::from_secs(30), exchange).await.expect("no end within 30 s")
}

/// Sends all of these bytes, whatever the server says meanwhile, then reads until it closes. An error: the server broke
/// off before it had taken them.
pub async fn send_all_then_listen(address: SocketAddr, bytes: &[u8]) -> String {
    let exchange = async {
        let mut stream = TcpStream::connect(address).await.unwrap();
        stream.write_all(bytes).await.expect("all is taken");
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).await.expect("the answer is not cut off");
        String::from_utf8(answer).unwrap()
    };
    timeout(Duration::from_secs(30), exchange).await.expect("no end within 30 s")
}

/// Sends these bytes and waits until the server closes, or is killed at any of them.
pub async fn send_and_wait(address: SocketAddr, bytes: &[u8]) {
    let mut stream = TcpStream::connect(address).await.unwrap();
    if stream.write_all(bytes).await.is_ok() {
        let _ = stream.read_to_end(&mut Vec::new()).await;
    }
}

/// The status of an answer.
pub fn status(answer: &str) -> Option<u16> {
    answer.strip_prefix("HTTP/1.1 ")?.get(..3)?.parse().ok()
}
