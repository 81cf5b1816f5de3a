//! Unpaid requests without end.

use std::num::NonZeroU32;

use sluice_gateway::invoice_limits::{InvoiceLimits, RateLimit};

use super::{Request, World, ledger, metrics, with};

fn limits(all: u32, per_client: u32, max_open: u32) -> InvoiceLimits {
    let positive = |number| NonZeroU32::new(number).unwrap();
    let rate = |burst| RateLimit { per_minute: positive(1), burst: positive(burst) };
    InvoiceLimits { all: rate(all), per_client: rate(per_client), max_open: positive(max_open) }
}

#[tokio::test(flavor = "multi_thread")]
async fn past_a_limit_strangers_wait_and_who_has_paid_does_not() {
    for (limits, limit) in
        [(limits(2, 9, 9), "all_clients"), (limits(9, 2, 9), "client_network"), (limits(9, 9, 1), "open_invoices")]
    {
        let world = World::limited(|_| (), limits).await;
        let credential = world.buy().await;
        // The paid one is no longer open once the node has said so, which it has when it is booked.
        ledger::payment(&*world.ledger, |payment| payment.settled.is_some()).await;
        assert_eq!(world.send(Request::new("GET", "/largefile")).await.status, 402, "the price is an invoice, too");
        for request in [Request::post("/largefile", &[1; 100_000]), Request::new("GET", "/largefile")] {
            let reply = world.send(request).await;
            assert_eq!((reply.status, reply.json()["code"].as_str()), (503, Some("too_many_invoices")));
            assert_eq!(reply.json()["limit"], limit);
            let wait: u64 = reply.one("retry-after").parse().unwrap();
            assert!((1..=60).contains(&wait), "{wait}");
            assert!(reply.all("www-authenticate").is_empty());
            assert_eq!(reply.one("access-control-allow-origin"), "*");
        }
        let reply = world.send(with(Request::post("/largefile", b"x"), &credential)).await;
        assert_eq!(reply.status, 200, "{limit}: {}", reply.text());
        assert_eq!(world.send(Request::new("GET", "/free")).await.status, 200);

        // The server behind says that the token buys nothing more: that asks for an invoice as any other.
        let reply = world.send(with(Request::post("/largefile?answer=used_up", b"x"), &credential)).await;
        assert_eq!((reply.status, reply.json()["limit"].as_str()), (503, Some(limit)));
        let challenges = r#"sluice_gateway_challenges_total{service="media",reason="no_credential"} 2"#;
        metrics::says(&world, challenges).await;
        let is_counted = world.metrics.render().contains(r#"challenges_total{service="media",reason="used_up"}"#);
        assert!(!is_counted, "nobody was asked for money");

        let grpc = Request::post("/largefile", b"x").header("content-type", "application/grpc");
        let reply = world.send(grpc).await;
        assert_eq!((reply.status, reply.one("grpc-status")), (200, "8"));
        assert_eq!(reply.one("grpc-message"), "too_many_invoices");
        assert!((1..=60).contains(&reply.one("retry-after").parse::<u64>().unwrap()));
        world.gateway.stop().await;
    }
}
