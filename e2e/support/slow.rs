//! A paid upload that is sent piece by piece, for what happens in its middle.

use std::{net::SocketAddr, time::Duration};

use serde_json::Value;
use sluice_common::{l402::Credential, muid::Muid};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::timeout,
};

use super::{form, raw};

pub struct SlowUpload {
    stream: TcpStream,
    file: Vec<u8>,
    body: Vec<u8>,
    sent: usize,
}

impl SlowUpload {
    /// Connects, and sends the head and the first half.
    pub async fn begin(address: SocketAddr, credential: &Credential, file: Vec<u8>) -> Self {
        let (content_type, body) = form::with_file(&file);
        let mut stream = TcpStream::connect(address).await.unwrap();
        let head = raw::upload_head(credential, &content_type, body.len());
        stream.write_all(head.as_bytes()).await.unwrap();
        let mut upload = Self { stream, file, body, sent: 0 };
        upload.send(upload.body.len() / 2).await;
        upload
    }

    /// Sends so many bytes more.
    pub async fn send(&mut self, bytes: usize) {
        let end = (self.sent + bytes).min(self.body.len());
        self.stream.write_all(&self.body[self.sent..end]).await.expect("the connection broke in the middle");
        self.sent = end;
    }

    /// Sends the rest. The answer must be a 200, and what is stored what was sent.
    pub async fn end(mut self) {
        self.send(self.body.len()).await;
        let exchange = async {
            let mut answer = Vec::new();
            loop {
                let mut piece = [0; 4096];
                let len = self.stream.read(&mut piece).await.unwrap();
                answer.extend_from_slice(&piece[..len]);
                let text = String::from_utf8_lossy(&answer);
                // The media server's answer is one JSON object.
                if len == 0 || text.trim_end().ends_with('}') {
                    return text.into_owned();
                }
            }
        };
        let answer = timeout(Duration::from_secs(60), exchange).await.expect("no answer");
        assert_eq!(raw::status(&answer), Some(200), "{answer}");
        let media: Value =
            serde_json::from_str(&answer[answer.find('{').unwrap()..=answer.rfind('}').unwrap()]).unwrap();
        assert_eq!(media["muid"].as_str().unwrap(), Muid::of(&self.file).to_string(), "not the bytes that were sent");
    }
}
