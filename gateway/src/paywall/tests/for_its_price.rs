//! Nobody gets more than was paid for, and nobody pays for nothing.

use sluice_common::clock::{rfc3339, unix_now};

use super::*;
use crate::config::Rule;

#[tokio::test]
async fn where_nobody_measures_the_file_the_body_is_what_was_paid_for() {
    let elsewhere = |offer: Offer| Offer { forward_credential: false, terms: terms(), ..offer };
    let flat = paywall(vec![elsewhere(offer())]).await;
    let by_size = paywall(vec![elsewhere(sized(Price::PerMib { per_mib_sat: 7, minimum_sat: 0 }))]).await;
    let one = bought(&keys(), &ServiceTerms { max_upload_mb: 1, ..terms() });
    let most = |paywall: &Paywall, headers: HeaderMap| {
        let id = ServiceId::new(0);
        let token = l402::verify(&one, &keys(), Network::TestWallet, &paywall.offer(id).terms).unwrap();
        paywall.max_body_bytes(&Forward::paid(id, token.permit(NOW).unwrap(), true), &headers)
    };
    let form = HeaderMap::from_iter([("content-type".parse().unwrap(), HeaderValue::from_static(FORM.1))]);
    for paywall in [&flat, &by_size] {
        assert_eq!(most(paywall, HeaderMap::new()), Some(MIB));
        assert_eq!(most(paywall, form.clone()), Some(MIB + FORM_ALLOWANCE_BYTES));
    }
    for (headers, paid, unpaid) in [
        (vec![("content-length", "1048576")], "forward Some(1) permitted", "for 1 MiB at 7 sat"),
        (vec![("content-length", "1048577")], "challenge too_small for 2 MiB at 14 sat", "for 2 MiB at 14 sat"),
        (vec![("content-length", "1081344"), FORM], "forward Some(1) permitted", "for 1 MiB at 7 sat"),
        (vec![("content-length", "1081345"), FORM], "challenge too_small for 2 MiB at 14 sat", "for 2 MiB at 14 sat"),
        (vec![("transfer-encoding", "chunked"), FORM], "forward Some(1) permitted", ""),
    ] {
        assert_eq!(decided(&by_size, "POST /largefile", &headers, Some(&one), NOW), paid, "{headers:?}");
        let without = decided(&by_size, "POST /largefile", &headers, None, NOW);
        assert!(without.ends_with(unpaid), "{headers:?}: {without}");
        let flat = decided(&flat, "POST /largefile", &headers, Some(&one), NOW);
        assert_eq!(
            flat,
            if paid.starts_with("forward") { paid } else { "413 too_large with a genuine token" },
            "{headers:?}"
        );
    }
    let steps = [(Some(1), 0), (None, 90)].map(|(up_to_mib, price_sat)| Step { up_to_mib, price_sat }).to_vec();
    let step = paywall(vec![elsewhere(sized(Price::Steps(steps)))]).await;
    assert_eq!(decided(&step, "POST /largefile?size=1", &[], None, NOW), "forward Some(1)");
    assert_eq!(decided(&step, "GET /largefile?size=1", &[], None, NOW), "forward Some(1)", "a page of its own");
}

#[tokio::test]
async fn what_costs_does_not_go_free_under_the_name_that_it_has_without_its_parameters() {
    let protects = paywall(vec![offer()]).await;
    let free = Access { rule: Rule::Free(vec!["/static/*".parse().unwrap()]), auth_only: Vec::new() };
    let frees = paywall(vec![Offer { access: free, ..offer() }]).await;
    let scope = |path: &str| Scope { paths: vec![path.parse().unwrap()], ..Scope::default() };
    let named = |name, scope, access| Offer { terms: ServiceTerms::named(name), scope, access, ..offer() };
    let all = Access { rule: Rule::Free(Vec::new()), auth_only: Vec::new() };
    let two = vec![named("a", scope("/a/*"), all), named("b", Scope::default(), Access::protect(Vec::new()))];
    let two = paywall(two).await;
    for (paywall, request, decision) in [
        (&protects, "POST /largefile;x", "400 malformed_path"),
        (&protects, "POST /largefile%3Bx=y", "400 malformed_path"),
        (&protects, "POST /;x/largefile", "400 malformed_path"),
        (&protects, "GET /stream;x", "400 malformed_path"),
        (&protects, "POST /search/a;b", "forward None"),
        (&protects, "GET /search/a%3Bb", "forward None"),
        (&frees, "GET /static;x/y", "400 malformed_path"),
        (&frees, "GET /static/x;y", "forward None"),
        (&frees, "GET /other;x", "challenge no_credential at 1 sat"),
        (&two, "GET /a;x/y", "400 malformed_path"),
        (&two, "GET /a/x;y", "challenge no_credential at 1 sat"),
        (&two, "GET /b;x", "forward None"),
    ] {
        assert_eq!(decided(paywall, request, &[], None, NOW), decision, "{request}");
    }
}

#[tokio::test]
async fn a_token_outlives_the_invoice_that_pays_for_it() {
    for (valid_for_secs, invoice_secs) in [(Some(60), 30), (Some(121), 60), (Some(90), 45), (None, 60)] {
        let terms = ServiceTerms { valid_for_secs, ..terms() };
        let paywall = paywall(vec![Offer { terms, ..offer() }]).await;
        let purchase = Purchase { max_mib: None, path: None };
        let service = ServiceId::new(0);
        let demand = Demand { service, reason: Reason::Missing, purchase, price_sat: Some(1), is_question: false };
        let now = unix_now();
        let challenged = paywall.challenge(&demand, ClientNetwork::of([192, 0, 2, 1].into()), now).await.unwrap();
        let Challenged::Answer(answer) = challenged else { panic!("free") };
        let body: serde_json::Value = serde_json::from_slice(answer.body()).unwrap();
        let expires = body["invoice_expires_at"].as_str().unwrap();
        let after = |secs: u64| (now + secs..=now + secs + 5).any(|at| rfc3339(at).as_deref() == Some(expires));
        assert!(after(invoice_secs), "{valid_for_secs:?}: {expires}");
    }
}
