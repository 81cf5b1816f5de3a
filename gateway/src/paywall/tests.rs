//! What is decided, and what becomes of an invoice that is not made.

mod for_its_price;

use http::HeaderValue;
use sluice_common::{
    keys::MasterKey,
    l402::{PaymentHash, Preimage, ServiceTerms},
    limits::FORM_ALLOWANCE_BYTES,
    secret::Secret,
};

use super::*;
use crate::limits::ClientNetwork;
use crate::{
    config::{Access, HostPattern, PricerConfig, Scope, Step},
    db::GatewayDb,
    invoice_limits::RateLimit,
    lightning::{Invoice, InvoiceOrder, LightningError, NodeInfo, Settlement, Settlements, TestWallet},
};

const NOW: u64 = 1_700_000_000;
const MIB: u64 = 1 << 20;

const FORM: (&str, &str) = ("content-type", "multipart/form-data; boundary=x");

fn keys() -> MasterKeys {
    MasterKeys::new(vec![MasterKey::new(&Secret::new([1; 32]), 0)]).unwrap()
}

fn terms() -> ServiceTerms {
    ServiceTerms { max_upload_mb: 4, valid_for_secs: Some(10), ..ServiceTerms::named("media") }
}

fn offer() -> Offer {
    Offer {
        terms: terms(),
        scope: Scope::default(),
        access: Access {
            auth_only: vec!["GET /stream".parse().unwrap()],
            ..Access::protect(vec!["POST /largefile".parse().unwrap(), "PUT /any".parse().unwrap()])
        },
        price: Price::Flat(1),
        forward_credential: true,
        dry_run: false,
        rate_limits: Vec::new(),
        free_uploads: Vec::new(),
        freebies: None,
    }
}

/// Sold by size.
fn sized(price: Price) -> Offer {
    Offer { terms: ServiceTerms { form_allowance_bytes: FORM_ALLOWANCE_BYTES, ..terms() }, price, ..offer() }
}

/// From a server that nobody asks in these tests.
fn external(by_size: bool) -> Price {
    let url = Secret::new("http://127.0.0.1:1/".to_owned());
    Price::External(PricerConfig { url, timeout: Duration::from_secs(1), by_size, last_as_fallback: false })
}

async fn paywall(offers: Vec<Offer>) -> Paywall {
    let folder = tempfile::tempdir().unwrap();
    let db = GatewayDb::open(&folder.path().join("gateway.db")).await.unwrap();
    let wallet = Arc::new(TestWallet::new(&Secret::new([2; 32]), db));
    let (limits, expiry) = (InvoiceLimits::default(), Duration::from_secs(60));
    Paywall::new(offers, keys(), Network::TestWallet, wallet, expiry, limits).unwrap()
}

/// A decision, and the most that the body may have.
fn said(decision: &Decision, max_body_bytes: Option<u64>) -> String {
    match decision {
        Decision::Forward(forward) => {
            format!(
                "forward {:?}{}{}",
                max_body_bytes.map(|max| max / MIB),
                ["", " permitted"][usize::from(forward.permit.is_some())],
                ["", " to be compared"][usize::from(forward.is_only_compared)]
            )
        }
        Decision::Challenge(Demand { reason, purchase, price_sat, .. }) => {
            let for_mib = purchase.max_mib.map(|mib| format!(" for {mib} MiB")).unwrap_or_default();
            let path = purchase.path.as_ref().map(|path| format!(" of {path}")).unwrap_or_default();
            let price = price_sat.map(|sat| format!(" at {sat} sat")).unwrap_or_default();
            format!("challenge {}{for_mib}{path}{price}", reason.code())
        }
        Decision::CostsNothing(answer) => String::from_utf8(answer.body().to_vec()).unwrap(),
        Decision::Refuse(problem) => format!("{} {}", problem.status().as_u16(), problem.code()),
        Decision::RefuseSize { problem, .. } => {
            format!("{} {} with a genuine token", problem.status().as_u16(), problem.code())
        }
    }
}

/// A request: `METHOD TARGET`, and its headers.
fn decided(
    paywall: &Paywall,
    request: &str,
    headers: &[(&'static str, &str)],
    credential: Option<&Credential>,
    now: u64,
) -> String {
    let (method, target) = request.split_once(' ').unwrap();
    let (path, query) = target.split_once('?').map_or((target, None), |(path, query)| (path, Some(query)));
    let mut map = HeaderMap::new();
    for (name, value) in headers {
        map.append(*name, value.parse().unwrap());
    }
    if let Some(credential) = credential {
        map.insert("authorization", credential.authorization().expose().parse().unwrap());
    }
    let method = method.parse().unwrap();
    let asked = Asked { method: &method, host: "a.example:8081", path, query, headers: &map };
    let decision = paywall.decide(paywall.service(&asked), &asked, now);
    let forward = if let Decision::Forward(forward) = &decision { Some(forward) } else { None };
    said(&decision, forward.and_then(|forward| paywall.max_body_bytes(forward, &map)))
}

/// A credential minted under these keys for these terms.
fn bought(keys: &MasterKeys, terms: &ServiceTerms) -> Credential {
    let preimage = Preimage::from_bytes([5; 32]);
    let token_id = keys.minting(NOW).unwrap().new_token_id(NOW);
    let payment_hash: PaymentHash = preimage.payment_hash();
    Credential::new(l402::mint(keys, Network::TestWallet, terms, token_id, payment_hash).unwrap(), preimage)
}

/// A node that makes no invoice, and says why.
struct Broken(fn() -> LightningError);

#[async_trait::async_trait]
impl LightningNode for Broken {
    async fn create_invoice(&self, _: &InvoiceOrder) -> Result<Invoice, LightningError> {
        Err((self.0)())
    }
    async fn settlement(&self, _: PaymentHash) -> Result<Option<Settlement>, LightningError> {
        Err((self.0)())
    }
    async fn settlements(&self, _: u64) -> Result<Settlements, LightningError> {
        Err((self.0)())
    }
    async fn reaches(&self, _: u64) -> Result<bool, LightningError> {
        Err((self.0)())
    }
    async fn info(&self) -> Result<NodeInfo, LightningError> {
        Err((self.0)())
    }
}

#[tokio::test]
async fn a_place_is_given_back_only_where_the_node_certainly_made_no_invoice() {
    fn elsewhere() -> LightningError {
        LightningError::OtherNetwork { configured: Network::Mainnet, found: Network::Regtest }
    }
    let refusals: [(fn() -> LightningError, bool); 9] = [
        (|| LightningError::Refused(String::new()), true),
        (|| LightningError::Permission { right: "invoices:write", said: String::new() }, true),
        (|| LightningError::Unreached(String::new()), true),
        (elsewhere, true),
        (|| LightningError::Unsold(Box::new(elsewhere())), false),
        (|| LightningError::Unavailable(String::new()), false),
        (|| LightningError::Malformed("an invoice"), false),
        (|| LightningError::Closed, false),
        (|| LightningError::Database(sqlx::Error::PoolClosed), false),
    ];
    for (error, is_given_back) in refusals {
        // One at once: one place, and one of the rate for clients.
        let one = std::num::NonZeroU32::MIN;
        let rate = RateLimit { per_minute: one, burst: one };
        let limits = InvoiceLimits { per_client: rate, max_open: one, ..InvoiceLimits::default() };
        let node = Arc::new(Broken(error));
        let paywall =
            Paywall::new(vec![offer()], keys(), Network::Mainnet, node, Duration::from_secs(60), limits).unwrap();
        let purchase = Purchase { max_mib: None, path: None };
        let service = ServiceId::new(0);
        let demand = Demand { service, reason: Reason::Missing, purchase, price_sat: Some(1), is_question: false };
        let ask = |client: [u8; 4]| paywall.challenge(&demand, ClientNetwork::of(client.into()), NOW);
        assert!(matches!(ask([192, 0, 2, 1]).await, Err(ChallengeError::Node(_))));
        for client in [[192, 0, 2, 1], [192, 0, 3, 1]] {
            let again = ask(client).await.map(|_| ()).unwrap_err();
            assert_eq!(matches!(again, ChallengeError::Node(_)), is_given_back, "{}: {again}", error());
            assert_eq!(matches!(again, ChallengeError::TooMany(_)), !is_given_back, "{}: {again}", error());
        }
    }
}

#[tokio::test]
async fn decides_from_the_headers_alone() {
    let good = || Some(bought(&keys(), &terms()));
    let other = || Some(bought(&keys(), &ServiceTerms::named("other")));
    let larger = || Some(bought(&keys(), &ServiceTerms { max_upload_mb: 8, valid_for_secs: Some(10), ..terms() }));
    let foreign = || Some(bought(&MasterKeys::new(vec![MasterKey::new(&Secret::new([9; 32]), 0)]).unwrap(), &terms()));
    let paywall = paywall(vec![offer()]).await;
    let (later, fits, too_large) = (NOW + 10, 5 * MIB, 5 * MIB + 1);
    for (request, credential, declared, now, decision) in [
        ("POST /file", None, too_large, NOW, "forward None"),
        ("PUT /largefile", None, fits, NOW, "forward None"),
        ("POST /largefile", None, fits, NOW, "challenge no_credential at 1 sat"),
        ("POST /largefile?size=nothing", None, fits, NOW, "challenge no_credential at 1 sat"),
        ("POST /largefile", None, too_large, NOW, "413 too_large"),
        ("GET /largefile", None, too_large, NOW, "challenge no_credential at 1 sat"),
        ("GET /largefile?size=4194304", None, 0, NOW, "challenge no_credential at 1 sat"),
        ("GET /largefile?size=4194305", None, 0, NOW, "413 too_large"),
        ("HEAD /largefile", None, 0, NOW, "challenge no_credential at 1 sat"),
        ("POST /largefile", good(), fits, NOW, "forward Some(5) permitted"),
        ("POST /largefile", good(), too_large, NOW, "413 too_large with a genuine token"),
        ("POST /largefile", good(), fits, later, "forward Some(5) permitted to be compared"),
        ("PUT /any", good(), fits, later, "challenge expired at 1 sat"),
        ("POST /largefile", good(), too_large, later, "413 too_large"),
        ("GET /largefile", good(), 0, later, "forward None"),
        ("POST /largefile", other(), fits, NOW, "challenge not_covered at 1 sat"),
        ("POST /largefile", other(), too_large, NOW, "413 too_large"),
        ("POST /largefile", larger(), too_large, NOW, "forward Some(9) permitted"),
        ("POST /largefile", larger(), too_large, later, "413 too_large"),
        ("POST /largefile", foreign(), fits, NOW, "401 forged_token"),
        ("GET /largefile", foreign(), fits, NOW, "401 forged_token"),
        ("GET /stream", None, 0, NOW, "401 credential_required"),
        ("GET /stream", good(), 0, NOW, "forward Some(5) permitted"),
        ("GET /stream", good(), 0, later, "401 expired"),
        ("GET /stream", other(), 0, NOW, "401 not_covered"),
        ("POST /stream", None, 0, NOW, "forward None"),
    ] {
        let declared_text = declared.to_string();
        let headers = [("content-length", declared_text.as_str()), FORM];
        let got = decided(&paywall, request, &headers, credential.as_ref(), now);
        assert_eq!(got, decision, "{request}, credential: {}, {declared} bytes, at {now}", credential.is_some());
    }
}

#[tokio::test]
async fn a_flat_price_is_not_asked_for_a_resumable_upload_that_no_token_holds() {
    let paywall = paywall(vec![offer()]).await;
    let good = bought(&keys(), &terms());
    for (length, unpaid, paid) in [
        ("4194304", "challenge no_credential at 1 sat", "forward Some(4) permitted"),
        ("4194305", "413 too_large", "413 too_large with a genuine token"),
    ] {
        let headers = [("upload-length", length), ("content-length", "0")];
        assert_eq!(decided(&paywall, "POST /largefile", &headers, None, NOW), unpaid);
        assert_eq!(decided(&paywall, "POST /largefile", &headers, Some(&good), NOW), paid);
    }
}

#[tokio::test]
async fn the_first_service_that_matches_takes_a_request() {
    let hosts = |host: &str| Scope { hosts: vec![host.parse::<HostPattern>().unwrap()], ..Scope::default() };
    let named = |name: &str, scope: Scope, price_sat| Offer {
        terms: ServiceTerms::named(name),
        scope,
        price: Price::Flat(price_sat),
        ..offer()
    };
    let paths = Scope { paths: vec!["/largefile".parse().unwrap()], ..Scope::default() };
    let offers = vec![named("b", hosts("b.example"), 1), named("a", hosts("a.example"), 2), named("c", paths, 3)];
    let at_a = paywall(offers.clone()).await;
    assert_eq!(decided(&at_a, "POST /largefile", &[], None, NOW), "challenge no_credential at 2 sat");
    let elsewhere = paywall(vec![offers[0].clone(), offers[2].clone()]).await;
    assert_eq!(decided(&elsewhere, "POST /largefile", &[], None, NOW), "challenge no_credential at 3 sat");
    assert_eq!(decided(&elsewhere, "GET /other", &[], None, NOW), "404 no_such_service");
    let of_c = bought(&keys(), &offers[2].terms);
    assert_eq!(decided(&at_a, "POST /largefile", &[], Some(&of_c), NOW), "challenge not_covered at 2 sat");
    assert_eq!(decided(&elsewhere, "POST /largefile", &[], Some(&of_c), NOW), "forward Some(32) permitted");
}

#[tokio::test]
async fn a_price_by_size_needs_a_size_and_sells_that() {
    let paywall = paywall(vec![sized(Price::PerMib { per_mib_sat: 7, minimum_sat: 10 })]).await;
    let token = |mb: u64| bought(&keys(), &ServiceTerms { max_upload_mb: mb, ..terms() });
    let (two, three) = (token(2), token(3));
    let form = FORM;
    for (request, headers, credential, decision) in [
        ("GET /largefile", &[][..], None, "411 length_required"),
        ("POST /largefile", &[("transfer-encoding", "chunked"), form], None, "411 length_required"),
        ("GET /largefile?size=0", &[], None, "challenge no_credential for 1 MiB at 10 sat"),
        ("GET /largefile?size=2097152", &[], None, "challenge no_credential for 2 MiB at 14 sat"),
        ("HEAD /largefile?size=2097153", &[], None, "challenge no_credential for 3 MiB at 21 sat"),
        (
            "POST /largefile",
            &[("content-length", "2097500"), form],
            None,
            "challenge no_credential for 2 MiB at 14 sat",
        ),
        ("POST /largefile", &[("content-length", "2097500")], None, "challenge no_credential for 3 MiB at 21 sat"),
        (
            "POST /largefile",
            &[("upload-length", "2097152"), ("content-length", "0")],
            None,
            "challenge no_credential for 2 MiB at 14 sat",
        ),
        (
            "POST /largefile?size=2097152",
            &[("content-length", "2200000"), form],
            None,
            "challenge no_credential for 2 MiB at 14 sat",
        ),
        (
            "POST /largefile",
            &[("content-length", "5000000"), form],
            None,
            "challenge no_credential for 4 MiB at 28 sat",
        ),
        ("POST /largefile", &[("content-length", "5242881"), form], None, "413 too_large"),
        ("GET /largefile?size=4194305", &[], None, "413 too_large"),
        ("GET /largefile?size=1&size=2", &[], None, "400 two_sizes"),
        ("POST /largefile?size=2097152", &[("content-length", "2097151"), form], None, "400 two_sizes"),
        ("GET /largefile?size=x", &[], None, "400 malformed_size"),
        ("POST /largefile", &[("content-length", "2097500"), form], Some(&two), "forward Some(3) permitted"),
        (
            "POST /largefile?size=2097153",
            &[("content-length", "2097500"), form],
            Some(&two),
            "forward Some(3) permitted",
        ),
        (
            "POST /largefile?size=2200000",
            &[("content-length", "2200300"), form],
            Some(&two),
            "challenge too_small for 3 MiB at 21 sat",
        ),
        (
            "POST /largefile",
            &[("content-length", "3300000"), form],
            Some(&two),
            "challenge too_small for 4 MiB at 28 sat",
        ),
        ("POST /largefile", &[("content-length", "5300000"), form], Some(&two), "413 too_large with a genuine token"),
        ("POST /largefile?size=x", &[form], Some(&two), "400 malformed_size"),
        ("POST /largefile", &[("transfer-encoding", "chunked"), form], Some(&two), "forward Some(3) permitted"),
        (
            "POST /largefile?size=2200000",
            &[("content-length", "2200300"), form],
            Some(&three),
            "forward Some(4) permitted",
        ),
        ("GET /largefile", &[], Some(&two), "forward None"),
        ("GET /stream?size=2200000", &[], Some(&two), "413 too_large with a genuine token"),
    ] {
        assert_eq!(decided(&paywall, request, headers, credential, NOW), decision, "{request} {headers:?}");
    }
    let found = decided(&paywall, "POST /largefile", &[("content-length", "2097500"), form], Some(&two), NOW + 10);
    assert_eq!(found, "forward Some(3) permitted to be compared");
    let longer = decided(&paywall, "POST /largefile", &[("content-length", "4194304"), form], Some(&two), NOW + 10);
    assert_eq!(longer, "challenge expired for 4 MiB at 28 sat", "which it cannot have stored");
}

#[tokio::test]
async fn a_step_is_sold_whole_and_one_that_costs_nothing_is_let_through_within_its_size() {
    let steps = [(Some(1), 0), (Some(3), 30), (None, 90)];
    let steps = steps.map(|(up_to_mib, price_sat)| Step { up_to_mib, price_sat }).to_vec();
    let paywall = paywall(vec![sized(Price::Steps(steps))]).await;
    for (size, decision) in [
        (MIB, "forward Some(2)"),
        (MIB + 1, "challenge no_credential for 3 MiB at 30 sat"),
        (3 * MIB + 1, "challenge no_credential for 4 MiB at 90 sat"),
        (4 * MIB + 1, "413 too_large"),
    ] {
        assert_eq!(decided(&paywall, &format!("POST /largefile?size={size}"), &[FORM], None, NOW), decision);
        let question = decided(&paywall, &format!("GET /largefile?size={size}"), &[], None, NOW);
        let none = r#"{"allows":{"max_upload_bytes":1081344,"service":"media"},"price_sat":0}"#;
        assert_eq!(question, if size == MIB { none } else { decision }, "{size}");
    }
    let foreign = bought(&MasterKeys::new(vec![MasterKey::new(&Secret::new([9; 32]), 0)]).unwrap(), &terms());
    assert_eq!(decided(&paywall, "POST /largefile?size=1", &[], Some(&foreign), NOW), "401 forged_token");
}

#[tokio::test]
async fn a_price_by_path_is_for_that_path() {
    let everything = || vec!["/*".parse().unwrap()];
    let by_path = Offer { access: Access::protect(everything()), price: external(false), ..offer() };
    let by_both = Offer { access: Access::protect(everything()), ..sized(external(true)) };
    let (by_path, by_both) = (paywall(vec![by_path]).await, paywall(vec![by_both]).await);
    assert_eq!(decided(&by_path, "GET /a/b?c=d", &[], None, NOW), "challenge no_credential of /a/b");
    assert_eq!(decided(&by_both, "GET /a/b?size=2097152", &[], None, NOW), "challenge no_credential for 2 MiB of /a/b");
    assert_eq!(decided(&by_both, "GET /a/b", &[], None, NOW), "411 length_required");
    assert_eq!(decided(&by_path, &format!("GET /{}", "a".repeat(2_048)), &[], None, NOW), "414 path_too_long");

    let of_path = bought(&keys(), &ServiceTerms { path: Some("/a/b".into()), ..terms() });
    assert_eq!(decided(&by_path, "GET /a/b?x", &[], Some(&of_path), NOW), "forward Some(4) permitted");
    assert_eq!(decided(&by_path, "GET /a", &[], Some(&of_path), NOW), "challenge not_covered of /a");
    let of_all = bought(&keys(), &terms());
    assert_eq!(decided(&by_path, "GET /a", &[], Some(&of_all), NOW), "forward Some(4) permitted", "sold before");
}

#[tokio::test]
async fn what_the_server_behind_finds_too_large_is_sold_more() {
    let paywall = paywall(vec![sized(Price::PerMib { per_mib_sat: 7, minimum_sat: 10 })]).await;
    let post = Method::POST;
    let asked_again = |mb: u64, length: u64| {
        let credential = bought(&keys(), &ServiceTerms { max_upload_mb: mb, ..terms() });
        let mut headers = HeaderMap::from_iter([(CONTENT_LENGTH, HeaderValue::from(length))]);
        headers.insert("content-type", HeaderValue::from_static("multipart/form-data; boundary=x"));
        headers.insert("authorization", credential.authorization().expose().parse().unwrap());
        let asked = Asked { method: &post, host: "", path: "/largefile", query: None, headers: &headers };
        let Decision::Forward(forward) = paywall.decide(paywall.service(&asked), &asked, NOW) else {
            panic!("not forwarded")
        };
        paywall.sell_larger(&forward, &asked).as_ref().map(|decision| said(decision, None))
    };
    assert_eq!(asked_again(2, 2 * MIB + 500_000).as_deref(), Some("challenge too_small for 3 MiB at 21 sat"));
    assert_eq!(asked_again(2, 2 * MIB + 300), None, "it is not for its size");
    assert_eq!(asked_again(4, 4 * MIB + 500_000), None, "there is no larger one");
}
