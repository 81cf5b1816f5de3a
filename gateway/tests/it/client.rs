//! A client that sends all of its body before it reads an answer, as the worst of them do.

use std::{convert::Infallible, net::SocketAddr, time::Duration};

use bytes::Bytes;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    sync::mpsc,
    time::timeout,
};

pub struct Request {
    head: String,
    body: Vec<u8>,
    chunked: bool,
    withhold_body: bool,
    half_close: bool,
    half_body: bool,
}

pub struct Reply {
    pub status: u16,
    headers: Vec<(String, String)>,
    pub body: Vec<u8>,
}

impl Request {
    pub fn new(method: &str, target: &str) -> Self {
        let head = format!("{method} {target} HTTP/1.1\r\nhost: example.com\r\n");
        Self { head, body: Vec::new(), chunked: false, withhold_body: false, half_close: false, half_body: false }
    }

    pub fn post(target: &str, body: &[u8]) -> Self {
        Self { body: body.to_vec(), ..Self::new("POST", target) }
    }

    pub fn header(mut self, name: &str, value: &str) -> Self {
        self.head.push_str(&format!("{name}: {value}\r\n"));
        self
    }

    /// In the place of `example.com`.
    pub fn host(mut self, host: &str) -> Self {
        self.head = self.head.replace("host: example.com", &format!("host: {host}"));
        self
    }

    pub fn chunked(mut self, chunked: bool) -> Self {
        self.chunked = chunked;
        self
    }

    pub fn half_close(mut self) -> Self {
        self.half_close = true;
        self
    }

    /// No more of the body comes than the half of it.
    pub fn half_body(mut self) -> Self {
        self.half_body = true;
        self
    }

    pub fn withhold_body(mut self) -> Self {
        self.withhold_body = true;
        self
    }
}

/// Sends the request, all of it, and reads the answer until the connection closes. Panics if the connection breaks.
pub async fn send(address: SocketAddr, request: Request) -> Reply {
    timeout(Duration::from_secs(30), exchange(address, request)).await.expect("no answer within 30 s")
}

/// Sends the request and closes the connection after its last byte.
pub async fn send_and_hang_up(address: SocketAddr, request: Request) {
    send_all(address, request).await;
}

async fn exchange(address: SocketAddr, request: Request) -> Reply {
    let half_close = request.half_close;
    let mut stream = send_all(address, request).await;
    if half_close {
        stream.shutdown().await.unwrap();
    }
    let mut bytes = Vec::new();
    stream.read_to_end(&mut bytes).await.expect("the connection broke instead of an answer");
    Reply::parse(&bytes)
}

async fn send_all(address: SocketAddr, request: Request) -> TcpStream {
    let mut stream = TcpStream::connect(address).await.unwrap();
    let mut head = request.head;
    head.push_str("connection: close\r\n");
    head.push_str(&match request.chunked {
        true => "transfer-encoding: chunked\r\n\r\n".to_owned(),
        false => format!("content-length: {}\r\n\r\n", request.body.len()),
    });
    stream.write_all(head.as_bytes()).await.unwrap();
    if !request.withhold_body {
        let sent = if request.half_body { request.body.len() / 2 } else { request.body.len() };
        for piece in request.body[..sent].chunks(50_000) {
            if request.chunked {
                stream.write_all(format!("{:x}\r\n", piece.len()).as_bytes()).await.unwrap();
            }
            stream.write_all(piece).await.expect("the connection broke while the body was sent");
            if request.chunked {
                stream.write_all(b"\r\n").await.unwrap();
            }
        }
        if request.chunked && !request.half_body {
            stream.write_all(b"0\r\n\r\n").await.expect("the connection broke at the body's end");
        }
    }
    stream
}

impl Reply {
    fn parse(bytes: &[u8]) -> Self {
        let end = bytes.windows(4).position(|four| four == b"\r\n\r\n").expect("no head");
        let head = std::str::from_utf8(&bytes[..end]).unwrap();
        let mut lines = head.lines();
        let status = lines.next().unwrap().split(' ').nth(1).unwrap().parse().unwrap();
        let headers = lines
            .map(|line| line.split_once(':').unwrap())
            .map(|(n, v)| (n.to_lowercase(), v.trim().to_owned()))
            .collect();
        Self { status, headers, body: bytes[end + 4..].to_vec() }
    }

    pub fn all(&self, name: &str) -> Vec<&str> {
        self.headers.iter().filter(|(n, _)| n == name).map(|(_, value)| value.as_str()).collect()
    }

    pub fn one(&self, name: &str) -> &str {
        match self.all(name)[..] {
            [value] => value,
            ref values => panic!("{name}: {values:?}"),
        }
    }

    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    pub fn json(&self) -> serde_json::Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|error| panic!("{error}: {}", self.text()))
    }
}

/// A body that comes as it is put into the channel, and ends with it.
pub fn pieces() -> (mpsc::Sender<Bytes>, reqwest::Body) {
    let (sender, receiver) = mpsc::channel(4);
    let pieces = futures_util::stream::unfold(receiver, async |mut receiver| {
        let piece = receiver.recv().await?;
        Some((Ok::<_, Infallible>(piece), receiver))
    });
    (sender, reqwest::Body::wrap_stream(pieces))
}
