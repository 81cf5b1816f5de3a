//! Answers that come before the body is read, to bodies of every length and framing: none may be lost.

use bytes::Bytes;
use futures_util::stream;
use reqwest::{Body, Client, StatusCode};
use serde_json::Value;
use sluice_common::l402::Credential;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

use crate::support::{MIB, Sluice, bytes, form, raw};

/// How often each is tried, for what is lost is lost now and then. Fewer of the largest.
const TIMES: usize = 20;
const TIMES_OF_LARGEST: usize = 5;

/// It asks far more often than a client does.
const NO_INVOICE_LIMITS: &str = "
    [gateway]
    invoices_per_minute = 1000000
    invoice_burst = 1000000
    invoices_per_minute_per_client = 1000000
    invoice_burst_per_client = 1000000
";

/// What is sent, and what must come back.
struct Case<'a> {
    credential: Option<&'a Credential>,
    status: StatusCode,
    code: &'a str,
    http2: bool,
    has_length: bool,
    expects: bool,
}

#[tokio::test]
async fn reqwest_sees_every_refusal_whatever_it_sends() {
    let sluice = Sluice::start_with(NO_INVOICE_LIMITS).await;
    let paid = sluice.buy().await;
    let narrow = sluice.restricted(&paid, &["large_upload_max_mb=0"]);
    let forged = Credential::new(paid.macaroon().clone(), "00".repeat(32).parse().unwrap());
    let refusals = [
        (None, StatusCode::PAYMENT_REQUIRED, "payment_required"),
        (Some(&forged), StatusCode::UNAUTHORIZED, "wrong_preimage"),
        (Some(&narrow), StatusCode::PAYLOAD_TOO_LARGE, "too_large"),
    ];
    for (len, times) in [(1, TIMES), (MIB, TIMES), (8 * MIB, TIMES), (64 * MIB, TIMES_OF_LARGEST)] {
        let (content_type, form) = form::with_file(&bytes(len, 1));
        let form = Bytes::from(form);
        for (credential, status, code) in refusals {
            for choice in 0..8 {
                let (http2, has_length, expects) = (choice & 1 > 0, choice & 2 > 0, choice & 4 > 0);
                let case = Case { credential, status, code, http2, has_length, expects };
                check(&sluice, &case, &content_type, &form, times).await;
            }
        }
    }
    assert_eq!(sluice.payments_made().await, 1);
    sluice.finish().await;
}

async fn check(sluice: &Sluice, case: &Case<'_>, content_type: &str, form: &Bytes, times: usize) {
    let client = Client::builder().no_proxy();
    let client = if case.http2 { client.http2_prior_knowledge() } else { client };
    let client = client.build().unwrap();
    for time in 0..times {
        let body = if case.has_length { Body::from(form.clone()) } else { in_pieces(form) };
        let mut request = client.post(sluice.url("/largefile")).header("content-type", content_type).body(body);
        if let Some(credential) = case.credential {
            request = request.header("authorization", credential.authorization().expose());
        }
        if case.expects {
            // It does not wait, but the server cannot know.
            request = request.header("expect", "100-continue");
        }
        let what = format!(
            "{} for {} bytes, the {time}th time; HTTP/2: {}, length: {}, Expect: {}",
            case.code,
            form.len(),
            case.http2,
            case.has_length,
            case.expects
        );
        let reply = request.send().await.unwrap_or_else(|error| panic!("{what}: {error:?}"));
        let status = reply.status();
        let problem: Value = reply.json().await.unwrap_or_else(|error| panic!("{what}: {status}, {error:?}"));
        assert_eq!((status, &problem["code"]), (case.status, &Value::from(case.code)), "{what}");
    }
}

/// The same bytes, sent without their length.
fn in_pieces(form: &Bytes) -> Body {
    let pieces: Vec<Result<Bytes, std::io::Error>> =
        form.chunks(60_000).map(|piece| Ok(form.slice_ref(piece))).collect();
    Body::wrap_stream(stream::iter(pieces))
}

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
