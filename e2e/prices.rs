//! Uploads whose price is of their size, and another service beside them.

use reqwest::{Response, StatusCode};
use serde_json::Value;
use sluice_common::l402::Credential;

use crate::support::{MIB, Sluice, authorized, bytes, challenge, form};

/// Sells uploads of up to 16 MB by size, and a path of another server, which is the media server again.
const SIZED: &str = r#"
    [[service]]
    name = "report"
    paths = ["/api/*"]
    free = ["GET /api/ping"]
    price_sat = 9
    upstream = "http://127.0.0.1:PORT"
    rewrite = { from = "/api", to = "/" }

    [[service]]
    name = "media"
    protect = ["POST /largefile"]
    price = { per_mib_sat = 3, minimum_sat = 5 }
    max_upload_mb = 16
    reuse = 1
    capabilities = ["large_upload"]
"#;

async fn post(sluice: &Sluice, target: &str, file: &[u8]) -> Response {
    let (content_type, body) = form::with_file(file);
    sluice.post(target).header("content-type", content_type).body(body).send().await.unwrap()
}

async fn price(reply: Response) -> (u64, u64, String) {
    assert_eq!(reply.status(), StatusCode::PAYMENT_REQUIRED);
    let problem: Value = reply.json().await.unwrap();
    let number = |value: &Value| value.as_u64().unwrap();
    (
        number(&problem["price_sat"]),
        number(&problem["allows"]["max_upload_bytes"]) / MIB as u64,
        problem["reason"].as_str().unwrap().to_owned(),
    )
}

#[tokio::test]
async fn a_file_costs_its_own_size_and_what_was_bought_holds_it() {
    let sluice = Sluice::start_with(&SIZED.replace("PORT", "1")).await;
    for size in [3 * MIB, 3 * MIB - 200, 3 * MIB - 1] {
        let file = bytes(size, size as u64);
        let asked = sluice.get(&format!("/largefile?size={size}")).send().await.unwrap();
        assert_eq!(price(asked).await, (9, 3, "no_credential".into()), "{size}");
        let unpaid = post(&sluice, "/largefile", &file).await;
        let credential = sluice.pay(&challenge(&unpaid)).await;
        assert_eq!(price(unpaid).await, (9, 3, "no_credential".into()), "{size}");
        assert_eq!(sluice.upload(&credential, &file).await.status(), StatusCode::OK, "{size}");
    }
    let one = sluice.get("/largefile?size=1").send().await.unwrap();
    let token = sluice.pay(&challenge(&one)).await;
    assert_eq!(price(one).await, (5, 1, "no_credential".into()));
    // It might fit with a long form, so it is read to its end; then the gateway sells what it takes.
    let larger = sluice.upload(&token, &bytes(2 * MIB - 1_000, 1)).await;
    assert_eq!(price(larger).await, (6, 2, "too_small".into()));
    assert_eq!(sluice.upload(&token, &bytes(MIB, 2)).await.status(), StatusCode::OK, "and nothing is spent");
    assert_eq!(sluice.upload(&token, &bytes(40 * MIB, 3)).await.status(), StatusCode::PAYLOAD_TOO_LARGE);
    sluice.finish().await;
}

#[tokio::test]
async fn the_command_pays_for_the_size_of_its_file() {
    let sluice = Sluice::start_with(&SIZED.replace("PORT", "1")).await;
    std::fs::write(sluice.folder().join("file"), bytes(2 * MIB, 1)).unwrap();
    let output = sluice.run(&["upload", "file", "--paid", "--pay"]).await;
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(output.status.success() && said.contains("price: 6 sat"), "{said}");
    std::fs::write(sluice.folder().join("file"), bytes(17 * MIB, 1)).unwrap();
    let output = sluice.run(&["upload", "file", "--paid", "--pay"]).await;
    assert!(!output.status.success() && sluice.payments_made().await == 1);
    sluice.finish().await;
}

#[tokio::test]
async fn another_service_stands_beside_the_media_server() {
    let mut sluice = Sluice::start_with(&SIZED.replace("PORT", "1")).await;
    // Now that it is known where the media server is.
    let config = SIZED.replace("PORT", &sluice.backend_address().port().to_string());
    sluice.stop().await;
    std::fs::write(sluice.folder().join("sluice.toml"), config).unwrap();
    sluice.start_again().await;
    let ping = sluice.get("/api/ping").send().await.unwrap();
    assert_eq!((ping.status(), ping.text().await.unwrap().as_str()), (StatusCode::OK, "\"pong\""));
    let unpaid = sluice.get("/api/mymedia").send().await.unwrap();
    let report = sluice.pay(&challenge(&unpaid)).await;
    let paid = authorized(sluice.get("/api/mymedia"), &report).send().await.unwrap();
    let problem: Value = paid.json().await.unwrap();
    assert_eq!(problem["code"], "login_required", "the token is not shown to it");
    let elsewhere = sluice.upload(&report, b"x").await;
    assert_eq!(price(elsewhere).await, (5, 1, "not_covered".into()));
    sluice.finish().await;
}

/// The same uploads, sold under two names, each at its price.
const TWO_HOSTS: &str = r#"
    [[service]]
    name = "large"
    hosts = ["large.example"]
    protect = ["POST /largefile"]
    price_sat = 9
    max_upload_mb = 4
    reuse = 1

    [[service]]
    name = "small"
    protect = ["POST /largefile"]
    price_sat = 1
    max_upload_mb = 1
    reuse = 1
"#;

#[tokio::test]
async fn two_services_sell_uploads_to_one_media_server_each_its_own() {
    let sluice = Sluice::start_with(TWO_HOSTS).await;
    let file = bytes(3 * MIB, 1);
    let post = async |host: &str, credential: Option<&Credential>, file: &[u8]| {
        let (content_type, body) = form::with_file(file);
        let request = sluice.post("/largefile").header("host", host).header("content-type", content_type).body(body);
        let request = credential.into_iter().fold(request, authorized);
        request.send().await.unwrap()
    };
    let unpaid = post("large.example", None, &file).await;
    let large = sluice.pay(&challenge(&unpaid)).await;
    assert_eq!(price(unpaid).await, (9, 4, "no_credential".into()));
    let unpaid = post("any.example", None, b"x").await;
    let small = sluice.pay(&challenge(&unpaid)).await;
    assert_eq!(price(unpaid).await, (1, 1, "no_credential".into()));

    assert_eq!(price(post("large.example", Some(&small), b"x").await).await, (9, 4, "not_covered".into()));
    assert_eq!(post("any.example", Some(&small), &file).await.status(), StatusCode::PAYLOAD_TOO_LARGE);
    assert_eq!(post("large.example", Some(&large), &file).await.status(), StatusCode::OK);
    assert_eq!(post("any.example", Some(&small), b"x").await.status(), StatusCode::OK);
    assert_eq!(price(post("large.example", Some(&large), b"y").await).await, (9, 4, "used_up".into()));
    assert_eq!(price(post("any.example", Some(&small), b"y").await).await, (1, 1, "used_up".into()));
    sluice.finish().await;
}

#[tokio::test]
async fn the_command_passes_over_a_token_that_is_for_another_service_here() {
    let config = TWO_HOSTS.replace("reuse = 1", "reuse = 5");
    let mut sluice = Sluice::start_with(&config).await;
    std::fs::write(sluice.folder().join("one"), bytes(MIB / 2, 1)).unwrap();
    std::fs::write(sluice.folder().join("two"), bytes(MIB / 2, 2)).unwrap();
    assert!(sluice.run(&["upload", "one", "--paid", "--pay"]).await.status.success());
    sluice.stop().await;
    let config = config.replace("hosts = [\"large.example\"]", "");
    let config = config.replace("name = \"small\"", "name = \"small\"\n    hosts = [\"small.example\"]");
    std::fs::write(sluice.folder().join("sluice.toml"), config).unwrap();
    sluice.start_again().await;
    let output = sluice.run(&["upload", "two", "--paid", "--pay"]).await;
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(output.status.success() && said.contains("price: 9 sat"), "{said}");
    assert_eq!(sluice.payments_made().await, 2);
    sluice.finish().await;
}
