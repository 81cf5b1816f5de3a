//! What is counted of requests.

use std::time::Duration;

use crate::{MIB, World, client::Request, with};

/// Waits until `line` is said: a request is counted after its answer has gone out.
pub async fn says(world: &World, line: &str) {
    let said = async {
        while !world.metrics.render().lines().any(|said| said == line) {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    let said = tokio::time::timeout(Duration::from_secs(20), said).await;
    said.unwrap_or_else(|_| panic!("{line} is not in:\n{}", world.metrics.render()));
}

#[tokio::test(flavor = "multi_thread")]
async fn requests_payments_and_uploads_are_counted() {
    let world = World::new().await;
    let credential = world.buy().await;
    for (request, status) in [
        (Request::new("GET", "/ping"), 200),
        (with(Request::post("/largefile", b"hello"), &credential), 200),
        (with(Request::post("/largefile?answer=used_up", b"hello"), &credential), 402),
        (with(Request::post("/largefile", &vec![7; 3 * MIB + 1]), &credential).chunked(true), 413),
        (Request::post("/largefile", b"x").header("authorization", "L402 !!!:00"), 401),
        (with(Request::post("/largefile?answer=409", b"hello"), &credential), 409),
        (with(Request::post("/largefile?answer=503", b"hello"), &credential), 503),
        (with(Request::post("/largefile", &vec![7; 3 * MIB + 1]), &credential), 413),
    ] {
        assert_eq!(world.send(request).await.status, status);
    }
    for line in [
        r#"sluice_gateway_requests_total{service="media",outcome="free",status="2xx"} 1"#,
        r#"sluice_gateway_requests_total{service="media",outcome="paid",status="2xx"} 1"#,
        r#"sluice_gateway_requests_total{service="media",outcome="paid",status="5xx"} 1"#,
        r#"sluice_gateway_requests_total{service="media",outcome="challenged",status="4xx"} 2"#,
        r#"sluice_gateway_requests_total{service="media",outcome="refused",status="4xx"} 2"#,
        r#"sluice_gateway_requests_total{service="media",outcome="failed",status="4xx"} 1"#,
        r#"sluice_gateway_challenges_total{service="media",reason="no_credential"} 1"#,
        r#"sluice_gateway_challenges_total{service="media",reason="used_up"} 1"#,
        r#"sluice_gateway_uploads_total{service="media",outcome="committed",reason=""} 1"#,
        r#"sluice_gateway_uploads_total{service="media",outcome="given_back",reason=""} 1"#,
        r#"sluice_gateway_uploads_total{service="media",outcome="refused",reason="used_up"} 1"#,
        r#"sluice_gateway_uploads_total{service="media",outcome="refused",reason="conflict"} 1"#,
        r#"sluice_gateway_uploads_total{service="media",outcome="refused",reason="malformed_credential"} 1"#,
        r#"sluice_gateway_uploads_total{service="media",outcome="refused",reason="too_large"} 2"#,
        r#"sluice_gateway_sold_bytes_total{service="media"} 5"#,
        r#"sluice_gateway_payments_total{service="media"} 1"#,
        r#"sluice_gateway_paid_sat_total{service="media"} 100"#,
        "sluice_gateway_check_seconds_count 5",
    ] {
        says(&world, line).await;
    }
    world.gateway.stop().await;
}
