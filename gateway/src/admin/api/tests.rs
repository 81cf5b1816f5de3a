use std::time::Duration;

use axum::body::{Body, to_bytes};
use http::{HeaderMap, Method, header::RETRY_AFTER};
use serde_json::{Value, json};
use sluice_common::{
    keys::{MasterKey, MasterKeys},
    l402::{PaymentHash, ServiceTerms},
    secret::Secret,
};
use tempfile::TempDir;
use tower::ServiceExt;

use super::*;
use crate::{
    config::{Access, Offer, Price, Scope, ServiceConfig, UpstreamConfig},
    db::GatewayDb,
    invoice_limits::InvoiceLimits,
    ledger::{Bought, RevocationDb, Sale, SettledToken, SettlementProof, TokenUse},
    limits::LimitsConfig,
};

const TOKEN: &str = "0123456789abcdef0123456789abcdef";
const NOW: u64 = 1_700_000_000;

struct World {
    api: Arc<Api>,
    keys: MasterKeys,
    node: watch::Sender<NodeHealth>,
    db: GatewayDb,
    _folder: TempDir,
}

struct Reply {
    status: u16,
    headers: HeaderMap,
    body: String,
}

impl Reply {
    fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or_else(|error| panic!("{error}: {}", self.body))
    }

    /// Status and code of what must be a problem.
    fn problem(&self) -> (u16, String) {
        assert_eq!(self.headers[CONTENT_TYPE], "application/problem+json", "{}", self.body);
        let problem = self.json();
        assert_eq!(problem["status"], self.status);
        assert!(!problem["detail"].as_str().unwrap_or_default().is_empty() || self.status == 405, "{}", self.body);
        (self.status, problem["code"].as_str().unwrap().to_owned())
    }
}

fn config(keys: MasterKeys) -> GatewayConfig {
    let offer = Offer {
        terms: ServiceTerms { max_uses: Some(2), ..ServiceTerms::named("media") },
        scope: Scope { hosts: vec!["*.example.com".parse().unwrap()], ..Scope::default() },
        access: Access::protect(vec!["POST /largefile".parse().unwrap(), "/v1/*".parse().unwrap()]),
        price: Price::PerMib { per_mib_sat: 2, minimum_sat: 10 },
        forward_credential: true,
        dry_run: false,
        rate_limits: Vec::new(),
        free_uploads: Vec::new(),
        freebies: None,
    };
    GatewayConfig {
        listen: "127.0.0.1:0".parse().unwrap(),
        admin_listen: "127.0.0.1:0".parse().unwrap(),
        tls: None,
        https_port: None,
        services: vec![ServiceConfig { offer, upstream: UpstreamConfig::new(&["127.0.0.1:8083"]).unwrap() }],
        master_keys: keys,
        network: Network::Regtest,
        invoice_expiry: Duration::from_secs(600),
        invoice_limits: InvoiceLimits::default(),
        limits: LimitsConfig::default(),
        settlement: SettlementProof::Preimage,
        shutdown_timeout: Duration::from_secs(1),
    }
}

impl World {
    async fn unconfigured() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let db = GatewayDb::open(&folder.path().join("gateway.db")).await.unwrap();
        let key = |byte, from| MasterKey::new(&Secret::new([byte; 32]), from);
        let keys = MasterKeys::new(vec![key(1, 0).retired(), key(2, 1_000)]).unwrap();
        let node = watch::Sender::new(NodeHealth::Ok);
        let token = AdminToken::new(&Secret::new(TOKEN.to_owned())).unwrap();
        let api = Arc::new(Api::new(token, Arc::new(db.clone()), node.subscribe(), false, Network::Regtest));
        Self { api, keys, node, db, _folder: folder }
    }

    async fn new() -> Self {
        let world = Self::unconfigured().await;
        world.api.configured(&config(world.keys.clone()));
        world
    }

    async fn ask(&self, method: Method, path: &str, bearer: Option<&str>, body: Option<Value>) -> Reply {
        let mut request = Request::builder().method(method).uri(path);
        if let Some(bearer) = bearer {
            request = request.header(AUTHORIZATION, bearer);
        }
        if body.is_some() {
            request = request.header(CONTENT_TYPE, "application/json");
        }
        let body = body.map_or_else(Body::empty, |body| body.to_string().into());
        let response = router(Arc::clone(&self.api)).oneshot(request.body(body).unwrap()).await.unwrap();
        let (status, headers) = (response.status().as_u16(), response.headers().clone());
        let body = to_bytes(response.into_body(), usize::MAX).await.unwrap();
        Reply { status, headers, body: String::from_utf8(body.to_vec()).unwrap() }
    }

    async fn get(&self, path: &str) -> Reply {
        self.ask(Method::GET, path, Some(&format!("Bearer {TOKEN}")), None).await
    }

    async fn send(&self, method: Method, path: &str, body: Option<Value>) -> Reply {
        self.ask(method, path, Some(&format!("Bearer {TOKEN}")), body).await
    }

    /// Books a payment at each of these times, each day's for another service.
    async fn pay(&self, times: &[u64]) -> Vec<PaymentHash> {
        let paid = |(at, &settled_at): (usize, &u64)| SettledToken {
            payment_hash: PaymentHash::from_bytes([at as u8 + 1; 32]),
            service: format!("of \"{}\"", settled_at / 86_400),
            network: Network::Regtest,
            token_id: self.keys.minting(NOW).unwrap().new_token_id(NOW),
            amount_msat: 1_000,
            settled_at,
        };
        let paid: Vec<_> = times.iter().enumerate().map(paid).collect();
        self.db.book_settlements("02ab", &paid, None).await.unwrap();
        paid.iter().map(|token| token.payment_hash).collect()
    }
}

/// Every path of the document with its methods.
async fn documented(world: &World) -> Vec<(String, Method)> {
    let document = world.get("/v1/openapi.json").await.json();
    let paths = document["paths"].as_object().unwrap().clone();
    let operations = paths.into_iter().flat_map(|(path, item)| {
        let methods: Vec<_> = item.as_object().unwrap().keys().map(|method| method.to_uppercase()).collect();
        methods.into_iter().map(move |method| (path.clone(), method.parse().unwrap()))
    });
    operations.collect()
}

#[tokio::test]
async fn every_route_needs_the_token_and_is_in_the_document_as_it_is_in_the_router() {
    let world = World::new().await;
    let operations = documented(&world).await;
    assert_eq!(operations.len(), 9);
    for (path, method) in &operations {
        let path = path.replace("{payment_hash}", &"00".repeat(32)).replace("{revoked}", "2026-01-31T12:00:00Z");
        for bearer in [None, Some("Bearer "), Some("Bearer wrong"), Some(TOKEN), Some("Basic YTpi")] {
            let reply = world.ask(method.clone(), &path, bearer, None).await;
            assert_eq!(reply.problem(), (401, "admin_token_required".to_owned()), "{method} {path} {bearer:?}");
            assert_eq!(reply.headers["www-authenticate"], "Bearer");
        }
        let reply = world.send(method.clone(), &path, None).await;
        let is_missing = reply.status == 405 || (reply.status == 404 && reply.body.is_empty());
        assert!(!is_missing, "{method} {path}: {}", reply.body);
        let reply = world.send(Method::PATCH, &path, None).await;
        assert_eq!(reply.problem(), (405, "method_not_allowed".to_owned()), "{path}");
    }
    // The router knows no other way to get a route: each `routes!` is in the document.
    let router =
        include_str!("mod.rs").split_once("fn routes()").unwrap().1.split_once("pub(super) fn router").unwrap().0;
    assert!(!router.contains(".route(") && !router.contains("merge(") && !router.contains("nest("));
    let manual = include_str!("../../../../docs/API.md");
    for (path, method) in &operations {
        assert!(manual.contains(&format!("`{method} {path}`")), "docs/API.md says nothing of {method} {path}");
    }
}

#[tokio::test]
async fn says_what_the_gateway_is_and_sells() {
    let world = World::unconfigured().await;
    let early = world.get("/v1/info").await;
    assert_eq!((early.problem().0, &early.headers[RETRY_AFTER]), (503, &"5".parse().unwrap()));
    world.api.configured(&config(world.keys.clone()));
    world.node.send_replace(NodeHealth::Degraded("not synced".to_owned()));
    let info = world.get("/v1/info").await.json();
    assert_eq!((&info["network"], &info["version"]), (&json!("regtest"), &json!(env!("CARGO_PKG_VERSION"))));
    assert_eq!(info["node"], json!({ "kind": "lnd", "status": "degraded", "reason": "not synced" }));
    let fingerprints: Vec<_> = world.keys.fingerprints().collect();
    assert_eq!(
        info["keys"],
        json!([
            { "fingerprint": fingerprints[0], "mints_from": null, "is_minting": false, "is_retired": true },
            { "fingerprint": fingerprints[1], "mints_from": "1970-01-01T00:16:40Z", "is_minting": true, "is_retired": false },
        ])
    );
    let services = world.get("/v1/services").await.json();
    insta::assert_json_snapshot!(services["services"][0], @r#"
    {
      "auth_only": [],
      "capabilities": [],
      "dry_run": false,
      "forward_credential": true,
      "free": null,
      "hosts": [
        "*.example.com"
      ],
      "max_upload_bytes": 33554432,
      "max_uses": 2,
      "methods": [],
      "name": "media",
      "paths": [],
      "price": "2 sat a MiB, at least 10 sat",
      "protect": [
        "POST /largefile",
        "/v1/*"
      ],
      "upstream": [
        "127.0.0.1:8083"
      ],
      "valid_for_secs": null
    }
    "#);
}

#[tokio::test]
async fn payments_come_in_pages_and_as_csv() {
    let world = World::new().await;
    let empty = world.get("/v1/payments").await.json();
    assert_eq!(empty, json!({ "payments": [], "next": null }));
    let names = world.get("/v1/payments?format=csv").await;
    assert_eq!(
        (names.body.as_str(), &names.headers[CONTENT_TYPE]),
        (
            "payment_hash,service,network,token_id,amount_msat,settled_at,first_used_at,node,uses,bytes,refused,given_back\n",
            &"text/csv; charset=utf-8".parse().unwrap()
        )
    );

    let hashes = world.pay(&[NOW, NOW, NOW + 1, NOW + 86_400, NOW + 86_401]).await;
    let (mut seen, mut after) = (Vec::new(), String::new());
    loop {
        let page = world.get(&format!("/v1/payments?limit=2&after={after}")).await.json();
        let payments = page["payments"].as_array().unwrap();
        assert!(payments.len() <= 2);
        seen.extend(payments.iter().map(|payment| payment["payment_hash"].as_str().unwrap().to_owned()));
        let Some(next) = page["next"].as_str() else { break };
        after = next.to_owned();
    }
    assert_eq!(seen, hashes.iter().map(PaymentHash::to_string).collect::<Vec<_>>());
    let csv = world.get("/v1/payments?format=csv").await.body;
    assert_eq!(csv.lines().count(), 6);
    assert!(csv.contains("\"of \"\"19675\"\"\""), "{csv}");

    for (query, count) in [
        ("from=2023-11-15T00:00:00Z", 2),
        ("before=2023-11-15T00:00:00Z", 3),
        ("service=of%20%2219675%22", 3),
        ("network=mainnet", 0),
        ("network=regtest&limit=1000", 5),
    ] {
        let page = world.get(&format!("/v1/payments?{query}")).await.json();
        assert_eq!(page["payments"].as_array().unwrap().len(), count, "{query}");
    }
    for (query, part) in [
        ("limit=0", "`limit` must be a number from 1 to 1000"),
        ("limit=many", "`limit` must be"),
        ("from=yesterday", "`from` must be a time"),
        ("network=bitcoin", "`network` must be mainnet"),
        ("after=7", "`after` must be the `next`"),
        ("format=xml", "`format` must be json or csv"),
        ("servcie=media", "`servcie` is no parameter here"),
        ("limit=1&limit=2", "`limit` stands there twice"),
    ] {
        let reply = world.get(&format!("/v1/payments?{query}")).await;
        assert_eq!(reply.problem(), (400, "invalid_query".to_owned()), "{query}");
        assert!(reply.json()["detail"].as_str().unwrap().contains(part), "{}", reply.body);
    }
    let page: PaymentPage = serde_json::from_str(&world.get("/v1/payments").await.body).unwrap();
    let payments: Vec<_> = page.payments.into_iter().map(|payment| payment.payment().unwrap()).collect();
    assert_eq!(payments, world.db.payments(&crate::ledger::Filter::default(), None).await.unwrap());
}

#[tokio::test]
async fn revokes_and_undoes_and_says_so_of_a_token() {
    let world = World::new().await;
    let hash = world.pay(&[NOW]).await[0].to_string();
    let token = async || world.get(&format!("/v1/tokens/{hash}")).await.json();
    let known = token().await;
    assert_eq!((&known["is_revoked"], &known["revocation"]), (&json!(false), &Value::Null));
    assert_eq!((&known["minted_at"], &known["key_is_retired"]), (&json!("2023-11-14T22:13:20Z"), &json!(false)));
    assert_eq!(known["payment"]["amount_msat"], 1_000);

    let body = json!({ "payment_hash": hash, "reason": "paid back" });
    for _ in 0..2 {
        let revoked = world.send(Method::POST, "/v1/revocations", Some(body.clone())).await;
        assert_eq!(revoked.status, 200, "{}", revoked.body);
        assert_eq!((&revoked.json()["payment_hash"], &revoked.json()["undone_at"]), (&json!(hash), &Value::Null));
    }
    let known = token().await;
    assert_eq!((&known["is_revoked"], &known["revocation"]["reason"]), (&json!(true), &json!("paid back")));
    let undone = world.send(Method::DELETE, &format!("/v1/revocations/{hash}"), None).await.json();
    assert!(undone["undone_at"].is_string());
    assert_eq!(token().await["is_revoked"], false);
    let again = world.send(Method::DELETE, &format!("/v1/revocations/{hash}"), None).await;
    assert_eq!(again.problem(), (404, "not_revoked".to_owned()));

    let date = "2023-11-14T22:13:21Z";
    world.send(Method::POST, "/v1/revocations", Some(json!({ "minted_before": date }))).await;
    let known = token().await;
    assert_eq!((&known["is_revoked"], &known["revoked_before"]), (&json!(true), &json!(date)));
    assert_eq!(world.get("/v1/info").await.json()["revoked_before"], date);
    let first = world.get("/v1/revocations?limit=1").await.json();
    assert_eq!(first["revocations"][0]["minted_before"], date);
    let rest = world.get(&format!("/v1/revocations?after={}", first["next"].as_str().unwrap())).await.json();
    assert_eq!((&rest["revocations"][0]["payment_hash"], &rest["next"]), (&json!(hash), &Value::Null));
    assert_eq!(world.send(Method::DELETE, &format!("/v1/revocations/{date}"), None).await.status, 200);
    assert_eq!(token().await["is_revoked"], false);

    assert_eq!(
        world.get(&format!("/v1/tokens/{}", "00".repeat(32))).await.problem(),
        (404, "unknown_token".to_owned())
    );
    for path in ["/v1/tokens/2026-01-31T12:00:00Z", "/v1/tokens/00"] {
        assert_eq!(world.get(path).await.problem(), (400, "invalid_path".to_owned()));
    }
}

#[tokio::test]
async fn what_cannot_be_revoked_is_refused_with_a_reason() {
    let world = World::new().await;
    let hash = "00".repeat(32);
    let long = "x".repeat(501);
    for (body, part) in [
        (json!({}), "say either"),
        (json!({ "payment_hash": hash, "minted_before": "2020-01-01T00:00:00Z" }), "say either"),
        (json!({ "payment_hash": "00" }), "64 hexadecimal digits"),
        (json!({ "minted_before": "yesterday" }), "`minted_before` must be a time"),
        (json!({ "minted_before": "2999-01-01T00:00:00Z" }), "still to come"),
        (json!({ "payment_hash": hash, "reason": "a\nb" }), "one line"),
        (json!({ "payment_hash": hash, "reason": long }), "500 characters"),
    ] {
        let reply = world.send(Method::POST, "/v1/revocations", Some(body)).await;
        assert_eq!(reply.problem(), (422, "invalid_revocation".to_owned()), "{}", reply.body);
        assert!(reply.json()["detail"].as_str().unwrap().contains(part), "{}", reply.body);
    }
    for body in [
        json!(7),
        json!({ "payment_hash": 1 }),
        json!({ "hash": hash }),
        json!({ "payment_hash": hash, "expires_at": "2999-01-01T00:00:00Z" }),
    ] {
        let reply = world.send(Method::POST, "/v1/revocations", Some(body)).await;
        assert_eq!(reply.problem(), (400, "invalid_body".to_owned()), "{}", reply.body);
    }
    assert_eq!(world.send(Method::POST, "/v1/revocations", None).await.problem(), (400, "invalid_body".to_owned()));
    assert_eq!(world.db.last_revocation_change().await.unwrap(), 0);
}

#[tokio::test]
async fn stats_are_of_days_and_of_a_bounded_period() {
    let world = World::new().await;
    world.pay(&[NOW, NOW + 1, NOW + 86_400]).await;
    let used = TokenUse {
        payment_hash: PaymentHash::from_bytes([9; 32]),
        service: "other".to_owned(),
        network: Network::Mainnet,
        token_id: world.keys.minting(NOW).unwrap().new_token_id(NOW),
        used_at: NOW,
    };
    world.db.book_uses(&[used]).await.unwrap();
    let stats = world.get("/v1/stats?from=2023-11-14T00:00:00Z&before=2023-11-17T00:00:00Z").await.json();
    let day = |day: &str, network: &str, service: &str, payments: u64, without: u64, msat: u64| {
        json!({ "day": day, "network": network, "service": service, "payments": payments, "without_amount": without,
            "amount_msat": msat, "uses": 0, "bytes": 0, "refused": 0, "given_back": 0 })
    };
    assert_eq!(
        stats["days"],
        json!([
            day("2023-11-14", "mainnet", "other", 1, 1, 0),
            day("2023-11-14", "regtest", "of \"19675\"", 2, 0, 2_000),
            day("2023-11-15", "regtest", "of \"19676\"", 1, 0, 1_000),
        ])
    );
    assert_eq!(stats["sums"].as_array().unwrap().len(), 3);
    let sale = |service: &str, day| Sale {
        payment_hash: PaymentHash::from_bytes([9; 32]),
        service: service.to_owned(),
        network: "mainnet",
        day,
    };
    let bought = Bought { uses: 3, bytes: 5, refused: 7, given_back: 9 };
    let (on_the_same_day, later) = (sale("other", NOW / 86_400), sale("media", NOW / 86_400 + 1));
    world.db.book_bought(&[(on_the_same_day, bought), (later, bought)]).await.unwrap();
    let stats = world.get("/v1/stats?from=2023-11-14T00:00:00Z&before=2023-11-17T00:00:00Z").await.json();
    let mut first = day("2023-11-14", "mainnet", "other", 1, 1, 0);
    let mut second = day("2023-11-15", "mainnet", "media", 0, 0, 0);
    for day in [&mut first, &mut second] {
        (day["uses"], day["bytes"], day["refused"], day["given_back"]) = (3.into(), 5.into(), 7.into(), 9.into());
    }
    assert_eq!((&stats["days"][0], &stats["days"][2]), (&first, &second));
    assert_eq!((&stats["sums"][0]["service"], &stats["sums"][0]["bytes"]), (&"media".into(), &5.into()));
    assert_eq!((&stats["sums"][1]["payments"], &stats["sums"][1]["uses"]), (&1.into(), &3.into()));
    let now = world.get("/v1/stats").await.json();
    assert_eq!(now["days"], json!([]));
    for query in ["from=2023-01-01T00:00:00Z", "from=2023-01-02T00:00:00Z&before=2023-01-01T00:00:00Z", "limit=1"] {
        assert_eq!(world.get(&format!("/v1/stats?{query}")).await.problem().0, 400, "{query}");
    }
}

#[tokio::test]
async fn a_ledger_that_is_away_is_said_and_its_cause_is_not() {
    let world = World::new().await;
    world.db.close().await;
    for path in ["/v1/payments", "/v1/payments?format=csv", "/v1/stats", "/v1/info", "/v1/revocations"] {
        let reply = world.get(path).await;
        assert_eq!(reply.problem(), (503, "ledger_unavailable".to_owned()), "{path}");
        assert_eq!(reply.headers[RETRY_AFTER], "5");
        assert!(!reply.body.to_lowercase().contains("pool"), "{}", reply.body);
    }
}
