//! Answers that come while the body is still sent. `make test-clients` asks for those that come before it, with many clients.

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

use crate::support::{MIB, Sluice, bytes, form, raw};

#[tokio::test]
async fn who_was_told_to_continue_is_told_where_it_ends() {
    let sluice = Sluice::start(&[]).await;
    let narrow = sluice.restricted(&sluice.buy().await, &["large_upload_max_mb=1"]);
    let (content_type, body) = form::with_file(&bytes(8 * MIB, 1));
    let head = format!(
        "POST /largefile HTTP/1.1\r\nhost: a\r\nauthorization: {}\r\ncontent-type: {content_type}\r\n\
         transfer-encoding: chunked\r\nexpect: 100-continue\r\n\r\n",
        narrow.authorization().expose()
    );
    let mut stream = TcpStream::connect(sluice.address()).await.unwrap();
    stream.write_all(head.as_bytes()).await.unwrap();
    let mut answer = vec![0; 4096];
    let len = stream.read(&mut answer).await.unwrap();
    assert_eq!(raw::status(std::str::from_utf8(&answer[..len]).unwrap()), Some(100));
    let mut chunked = Vec::new();
    for piece in body.chunks(64 * 1024) {
        chunked.extend_from_slice(format!("{:x}\r\n", piece.len()).as_bytes());
        chunked.extend_from_slice(piece);
        chunked.extend_from_slice(b"\r\n");
    }
    chunked.extend_from_slice(b"0\r\n\r\n");
    stream.write_all(&chunked).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    assert_eq!(raw::status(&answer), Some(413), "{answer:.300}");
    sluice.finish().await;
}
