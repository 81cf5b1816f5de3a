//! Downloads through the gateway: ranges, conditions, headers.

use reqwest::StatusCode;
use serde_json::Value;

use crate::support::{Sluice, authorized, bytes, form};

#[tokio::test]
async fn ranges_conditions_and_headers_pass_through_the_gateway() {
    let sluice = Sluice::start(&[]).await;
    let credential = sluice.buy().await;
    let file = bytes(300_000, 1);
    let (content_type, body) = form::with(&[("public", "true")], &[&file]);
    let request = authorized(sluice.post("/largefile"), &credential).header("content-type", content_type).body(body);
    let media: Value = request.send().await.unwrap().json().await.unwrap();
    let path = format!("/public/{}", media["muid"].as_str().unwrap());
    let get = |name: &str, value: &str| sluice.get(&path).header(name, value).send();

    let whole = sluice.get(&path).send().await.unwrap();
    let header = |name: &str| whole.headers()[name].to_str().unwrap().to_owned();
    assert_eq!(header("content-length"), "300000");
    assert_eq!(header("accept-ranges"), "bytes");
    assert_eq!(header("content-type"), "application/x-test");
    assert!(header("content-disposition").starts_with("attachment; filename="));
    assert_eq!(header("x-content-type-options"), "nosniff");
    assert_eq!(header("content-security-policy"), "sandbox");
    assert_eq!(header("referrer-policy"), "no-referrer");
    assert_eq!(header("access-control-allow-origin"), "*");
    let etag = header("etag");
    assert_eq!(etag, format!("\"{}\"", media["muid"].as_str().unwrap()));

    for (range, expected) in [
        ("bytes=0-0", &file[..1]),
        ("bytes=65535-65536", &file[65_535..=65_536]),
        ("bytes=-1", &file[299_999..]),
        ("bytes=100000-", &file[100_000..]),
        ("bytes=299999-900000", &file[299_999..]),
    ] {
        let part = get("range", range).await.unwrap();
        assert_eq!(part.status(), StatusCode::PARTIAL_CONTENT, "{range}");
        assert!(part.bytes().await.unwrap() == expected, "{range}");
    }
    let beyond = get("range", "bytes=300000-").await.unwrap();
    assert_eq!(beyond.status(), StatusCode::RANGE_NOT_SATISFIABLE);
    assert_eq!(beyond.headers()["content-range"], "bytes */300000");
    assert_eq!(get("if-none-match", &etag).await.unwrap().status(), StatusCode::NOT_MODIFIED);
    let head = sluice.client.head(sluice.url(&path)).send().await.unwrap();
    assert_eq!((head.status(), head.headers()["content-length"].to_str().unwrap()), (StatusCode::OK, "300000"));
    let private = authorized(sluice.get(&path.replace("public", "file")), &credential).send().await.unwrap();
    assert_eq!(private.status(), StatusCode::OK);
    sluice.finish().await;
}
