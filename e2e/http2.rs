//! HTTP/2 without TLS (by prior knowledge): the same answers, also to who is still sending.

use reqwest::{Client, RequestBuilder, StatusCode};
use serde_json::Value;

use crate::support::{MIB, Sluice, authorized, bytes, challenge, form, raw};

#[tokio::test]
async fn pays_uploads_and_downloads_over_http_2() {
    let sluice = Sluice::start(&["--max-mb", "70"]).await;
    let client = Client::builder().http2_prior_knowledge().no_proxy().build().unwrap();
    let file = bytes(64 * MIB, 1);
    let post = |file: &[u8]| {
        let (content_type, body) = form::with_file(file);
        client.post(sluice.url("/largefile")).header("content-type", content_type).body(body)
    };

    let unpaid = post(&file).send().await.unwrap();
    assert_eq!((unpaid.version(), unpaid.status()), (reqwest::Version::HTTP_2, StatusCode::PAYMENT_REQUIRED));
    let credential = sluice.pay(&challenge(&unpaid)).await;
    let narrow = sluice.restricted(&credential, &["large_upload_max_mb=3"]);
    let send = async |request: RequestBuilder, status: StatusCode| {
        let reply = request.send().await.unwrap();
        assert_eq!((reply.version(), reply.status()), (reqwest::Version::HTTP_2, status));
        reply
    };
    // Known from the headers, and only while it streams.
    let declared = authorized(post(&file), &narrow);
    assert_eq!(problem_code(send(declared, StatusCode::PAYLOAD_TOO_LARGE).await).await, "too_large");
    let (content_type, body) = form::with_file(&file);
    let pieces: Vec<Result<Vec<u8>, std::io::Error>> = body.chunks(60_000).map(|piece| Ok(piece.to_vec())).collect();
    let undeclared = client
        .post(sluice.url("/largefile"))
        .header("content-type", content_type)
        .body(reqwest::Body::wrap_stream(futures_util::stream::iter(pieces)));
    let undeclared = authorized(undeclared, &narrow);
    assert_eq!(problem_code(send(undeclared, StatusCode::PAYLOAD_TOO_LARGE).await).await, "too_large");

    let stored: Value = send(authorized(post(&file), &credential), StatusCode::OK).await.json().await.unwrap();
    let path = sluice.url(&format!("/file/{}", stored["muid"].as_str().unwrap()));
    let downloaded = send(authorized(client.get(&path), &credential), StatusCode::OK).await;
    assert!(downloaded.bytes().await.unwrap() == file, "not the bytes that were sent");
    assert_eq!(sluice.stored_files().len(), 1);
    sluice.finish().await;
}

#[tokio::test]
async fn a_body_without_a_length_is_forwarded_as_one_request() {
    let sluice = Sluice::start(&[]).await;
    let credential = sluice.buy().await;
    let client = Client::builder().http2_prior_knowledge().no_proxy().build().unwrap();
    let (content_type, body) = form::with_file(&bytes(1_000, 1));
    // The end comes in a frame of its own, after the last piece.
    let body = futures_util::stream::iter([Ok::<_, std::io::Error>(body)]);
    let request = client.post(sluice.url("/largefile")).header("content-type", content_type);
    let upload = authorized(request, &credential).body(reqwest::Body::wrap_stream(body));
    assert_eq!(upload.send().await.unwrap().status(), StatusCode::OK);
    // The next one on the same connections.
    assert_eq!(client.get(sluice.url("/ping")).send().await.unwrap().status(), StatusCode::OK);
    assert!(!sluice.log().contains("invalid HTTP method"), "the media server was sent bytes past the request's end");
    sluice.finish().await;
}

async fn problem_code(reply: reqwest::Response) -> String {
    reply.json::<Value>().await.unwrap()["code"].as_str().unwrap().to_owned()
}

#[tokio::test]
async fn a_refusal_reaches_who_sends_far_more_than_is_sold_before_it_listens() {
    let sluice = Sluice::start(&["--max-mb", "2"]).await;
    let credential = sluice.buy().await;
    let (content_type, body) = form::with_file(&bytes(20 * MIB, 1));
    let unpaid = format!(
        "POST /largefile HTTP/1.1\r\nhost: a\r\ncontent-type: {content_type}\r\ncontent-length: {}\r\n\r\n",
        body.len()
    );
    let small = format!("POST /largefile HTTP/1.1\r\nhost: a\r\ncontent-length: {}\r\n\r\n", 2 * MIB);
    for (head, body, status) in [
        (raw::upload_head(&credential, &content_type, body.len()), &body[..], 413),
        // No payment would help.
        (unpaid, &body, 413),
        (small, &body[..2 * MIB], 402),
    ] {
        let answer = raw::send_all_then_listen(sluice.address(), &[head.as_bytes(), body].concat()).await;
        assert_eq!(raw::status(&answer), Some(status), "{answer:.300}");
    }
    assert!(sluice.stored_files().is_empty());
    sluice.finish().await;
}
