//! Searches through the gateway, which decodes `%2F` in paths.

use reqwest::StatusCode;
use serde_json::{Value, json};

use crate::support::{Sluice, authorized, form};

#[tokio::test]
async fn any_term_passes_through_the_gateway() {
    let sluice = Sluice::start(&[]).await;
    let credential = sluice.buy().await;
    let name = "AC/DC 100% \"live\" straße 日本語 a+b";
    let (content_type, body) = form::with(&[("public", "true"), ("name", name)], &[b"a song"]);
    let upload = authorized(sluice.post("/largefile"), &credential).header("content-type", content_type).body(body);
    let media: Value = upload.send().await.unwrap().json().await.unwrap();
    assert_eq!(media["name"], name);

    let escaped = |term: &str| term.bytes().map(|byte| format!("%{byte:02X}")).collect::<String>();
    let find = async |path: String| {
        let found = sluice.get(&path).send().await.unwrap();
        assert_eq!(found.status(), StatusCode::OK, "{path}");
        found.json::<Vec<Value>>().await.unwrap().into_iter().map(|row| row["muid"].clone()).collect::<Vec<_>>()
    };
    for term in [
        "AC/DC",
        "/AC/DC/",
        "AC//DC",
        "ac",
        "100%",
        "%",
        "\"live\" 100",
        "\"AC/DC\"",
        "'live'",
        "straße",
        "日本語",
        "a+b",
    ] {
        let expected = if term == "%" { vec![] } else { vec![media["muid"].clone()] };
        assert_eq!(find(format!("/search/{}", escaped(term))).await, expected, "{term}");
    }
    for path in ["/search/AC%2FDC", "/search/AC/DC", "/search/AC%20DC?limit=1"] {
        assert_eq!(find(path.to_owned()).await, [media["muid"].clone()], "{path}");
    }
    for path in ["/search/", "/search/%2F", "/search/%20"] {
        assert_eq!(find(path.to_owned()).await, [json!(null); 0], "{path}");
    }
    sluice.finish().await;
}
