//! The check against vectors of another implementation, against the crate, and against whoever appends caveats.

use proptest::prelude::*;
use serde::Deserialize;

use super::*;
use crate::{keys::MasterKey, secret::Secret};

const NOW: u64 = 1_700_000_000;

fn preimage() -> Preimage {
    Preimage::from_bytes([1; 32])
}

fn keys() -> MasterKeys {
    MasterKeys::new(vec![MasterKey::new(&Secret::new([7; 32]), 0)]).unwrap()
}

fn terms() -> ServiceTerms {
    ServiceTerms {
        capabilities: vec!["large_upload".into()],
        max_upload_mb: 500,
        max_uses: Some(3),
        valid_for_secs: Some(3_600),
        constraints: vec![("region".into(), "eu".into()), ("speed".into(), "10".into())],
        ..ServiceTerms::named("media")
    }
}

fn token_for(terms: &ServiceTerms) -> Macaroon {
    let keys = keys();
    let token_id = keys.minting(NOW).unwrap().new_token_id(NOW);
    mint(&keys, Network::TestWallet, terms, token_id, preimage().payment_hash()).unwrap()
}

fn checked(macaroon: &Macaroon) -> Result<Token, Refused> {
    verify(&Credential::new(macaroon.clone(), preimage()), &keys(), Network::TestWallet, &terms())
}

fn with(caveats: &[&str]) -> Result<Token, Refused> {
    let caveats: Vec<String> = caveats.iter().map(|&text| text.to_owned()).collect();
    checked(&token_for(&terms()).attenuate(&caveats).unwrap())
}

#[derive(Deserialize)]
struct Vector {
    name: String,
    root_key_hex: String,
    identifier_hex: String,
    caveats: Vec<String>,
    v2_base64: String,
    preimage_hex: String,
    signature_valid: bool,
}

fn vectors() -> Vec<Vector> {
    #[derive(Deserialize)]
    struct File {
        vectors: Vec<Vector>,
    }
    serde_json::from_str::<File>(include_str!("../../testdata/macaroons.json")).unwrap().vectors
}

fn root_key(vector: &Vector) -> [u8; 32] {
    hex::decode(&vector.root_key_hex).unwrap().try_into().unwrap()
}

#[test]
fn every_vector_of_go_macaroon_is_read_written_and_judged() {
    let expected = |name: &str| match name {
        "l402-4" => Err(Refused::Widened("large_upload_max_mb".into())),
        "l402-6" => Err(Refused::Widened("services".into())),
        "l402-forged" => Err(Refused::Forged),
        "l402-utf8" => Err(Refused::NotUnderstood("note".into())),
        "l402-0" | "l402-5" => Ok((32, Err(Lapsed::NotCovered))),
        "l402-1" => Ok((32, Ok(()))),
        "l402-2" => Ok((500, Ok(()))),
        "l402-3" => Ok((3, Ok(()))),
        "l402-7" => Ok((32, Err(Lapsed::Expired))),
        "l402-8" => Ok((1, Ok(()))),
        "l402-long" => Ok((401, Ok(()))),
        other => panic!("a vector that this test does not know: {other}"),
    };
    let terms = ServiceTerms { capabilities: vec!["large_upload".into()], ..ServiceTerms::named("sphinx_meme") };
    for vector in vectors() {
        let macaroon = Macaroon::from_base64(&vector.v2_base64).unwrap();
        let identifier = macaroon.identifier().unwrap();
        assert_eq!(hex::encode(identifier.to_bytes()), vector.identifier_hex);
        assert!(macaroon.caveats().eq(vector.caveats.iter()), "{}", vector.name);
        assert_eq!(macaroon.to_base64(), vector.v2_base64);
        assert_eq!(macaroon.is_signed_under(&root_key(&vector)), vector.signature_valid, "{}", vector.name);
        if vector.signature_valid {
            let ours = Macaroon::mint(&root_key(&vector), &identifier, &vector.caveats).unwrap();
            assert_eq!(ours.to_base64(), vector.v2_base64, "{}: minted otherwise", vector.name);
        }
        let outcome =
            verify_with_root_key(&macaroon, &vector.preimage_hex.parse().unwrap(), &root_key(&vector), &terms)
                .map(|token| (token.max_upload_bytes() / crate::limits::BYTES_PER_MB, token.permit(NOW).map(|_| ())));
        assert_eq!(outcome, expected(&vector.name), "{}", vector.name);
    }
}

#[test]
fn the_crate_agrees_on_every_signature() {
    for vector in vectors() {
        let macaroon = macaroon_crate(&vector.v2_base64);
        let mut verifier = ::macaroon::Verifier::default();
        for caveat in &vector.caveats {
            verifier.satisfy_exact(caveat.as_str().into());
        }
        let key = ::macaroon::MacaroonKey::generate(&root_key(&vector));
        assert_eq!(verifier.verify(&macaroon, &key, vec![]).is_ok(), vector.signature_valid, "{}", vector.name);
    }
}

fn macaroon_crate(base64: &str) -> ::macaroon::Macaroon {
    ::macaroon::Macaroon::deserialize_binary(Macaroon::from_base64(base64).unwrap().as_bytes()).unwrap()
}

#[test]
fn a_minted_token_allows_what_was_sold() {
    let macaroon = token_for(&terms());
    let caveats: Vec<&str> = macaroon.caveats().collect();
    assert_eq!(
        caveats,
        [
            "services=media:0",
            "media_capabilities=large_upload",
            "large_upload_max_mb=500",
            "large_upload_max_uses=3",
            "region=eu",
            "speed=10",
            "media_valid_until=1700003600",
        ]
    );
    let token = checked(&macaroon).unwrap();
    assert_eq!(token.payment_hash(), preimage().payment_hash());
    assert_eq!(token.max_upload_bytes(), 500 * 1_048_576);
    assert_eq!(token.valid_until(), Some(NOW + 3_600));
    assert_eq!(token.counters().iter().map(|counter| counter.max_uses).collect::<Vec<_>>(), [3]);
    assert_eq!(token.permit(NOW + 3_599).unwrap().token(), &token);
    assert_eq!(token.permit(NOW + 3_600).unwrap_err(), Lapsed::Expired);
    let plain: Vec<String> = ServiceTerms::named("a").caveats(NOW);
    assert_eq!(plain, ["services=a:0", "a_capabilities=", "large_upload_max_mb=32"]);
}

#[test]
fn a_caveat_may_only_narrow() {
    for narrower in [
        &["large_upload_max_mb=500"][..],
        &["large_upload_max_mb=3", "large_upload_max_mb=3", "large_upload_max_mb=0"],
        &["large_upload_max_uses=2"],
        &["media_capabilities="],
        &["media_valid_until=1700000001"],
        &["expiration=1700000001000"],
        &["delegate=000102030405060708090a0b0c0d0e0f", "delegate=ff0102030405060708090a0b0c0d0e0f"],
        &["region=eu", "speed=9"],
        &[" services = media:0 "],
    ] {
        assert!(with(narrower).is_ok(), "{narrower:?}");
    }
    for (wider, condition) in [
        ("large_upload_max_mb=4096", "large_upload_max_mb"),
        ("large_upload_max_uses=1000", "large_upload_max_uses"),
        ("services=media:0,other:0", "services"),
        ("services=media:1", "services"),
        ("media_capabilities=large_upload,admin", "media_capabilities"),
        ("media_valid_until=1700003601", "media_valid_until"),
        ("region=us", "region"),
        ("speed=11", "speed"),
        ("speed=fast", "speed"),
    ] {
        assert_eq!(with(&[wider]), Err(Refused::Widened(condition.into())), "{wider}");
    }
    assert_eq!(
        with(&["expiration=1000", "expiration=1001"]),
        Err(Refused::Widened("expiration".into())),
        "a first occurrence may be appended, a second only narrows"
    );
    // With the one that was sold.
    assert_eq!(with(&["large_upload_max_uses=1"; 31]).map(|token| token.counters().len()), Ok(32));
    assert_eq!(with(&["large_upload_max_uses=1"; 32]), Err(Refused::TooManyCounters));
    for bad in [
        "large_upload_max_mb=-1",
        "large_upload_max_mb=+1",
        "large_upload_max_mb=",
        "large_upload_max_mb=99999999999999999999",
        "large_upload_max_uses=one",
        "media_valid_until=0x10",
        "expiration=1.5",
        "services=",
        "services=media",
        "services=media:256",
        "services=:0",
        "delegate=00",
        "preimage=00",
    ] {
        let condition = bad.split_once('=').unwrap().0;
        assert_eq!(with(&[bad]), Err(Refused::BadValue(condition.into())), "{bad}");
    }
}

#[test]
fn what_is_not_understood_is_refused_by_name_unless_it_is_anothers() {
    assert_eq!(with(&["ip=10.0.0.1"]), Err(Refused::NotUnderstood("ip".into())));
    assert_eq!(with(&["no condition"]), Err(Refused::NotUnderstood("no condition".into())));
    assert_eq!(with(&["media_color=red"]), Err(Refused::NotUnderstood("media_color".into())));
    assert_eq!(with(&["other_valid_until=5"]), Err(Refused::NotUnderstood("other_valid_until".into())));
    let long = format!("x\n{}=1", "x".repeat(500));
    assert_eq!(with(&[&long]), Err(Refused::NotUnderstood("x".repeat(64))), "shown short, on one line");

    let keys = keys();
    let identifier =
        Identifier { payment_hash: preimage().payment_hash(), token_id: keys.minting(0).unwrap().new_token_id(0) };
    let root_key = keys.minting(0).unwrap().root_key(Network::TestWallet, &identifier);
    let caveats =
        ["services=media:0,other:0", "other_valid_until=5", "other_valid_until=9", "services=media:0", "other_x=1"];
    let both = Macaroon::mint(&root_key, &identifier, &caveats.map(str::to_owned)).unwrap();
    assert!(checked(&both).unwrap().permit(NOW).is_ok());

    let ignoring = ServiceTerms { unknown_caveats: UnknownCaveats::Ignore, ..terms() };
    let note = token_for(&ignoring).attenuate(&["ip=10.0.0.1".into(), "no condition".into()]).unwrap();
    assert!(verify(&Credential::new(note, preimage()), &keys, Network::TestWallet, &ignoring).is_ok());
}

#[test]
fn a_token_for_one_path_stays_one_for_it() {
    let terms = ServiceTerms { path: Some("/a=b/c".into()), ..terms() };
    let token = token_for(&terms);
    assert!(token.caveats().any(|caveat| caveat == format!("{}_path=/a=b/c", terms.name)));
    assert_eq!(checked(&token).unwrap().path(), Some("/a=b/c"));
    let again = |path: &str| checked(&token.attenuate(&[format!("{}_path={path}", terms.name)]).unwrap());
    assert!(again("/a=b/c").is_ok());
    assert_eq!(again("/a"), Err(Refused::Widened(format!("{}_path", terms.name))));
}

#[test]
fn a_token_priced_by_size_has_room_for_a_form_unless_it_has_none_at_all() {
    let terms = ServiceTerms { form_allowance_bytes: 5, ..terms() };
    let allowed = |mb: u64| {
        let macaroon = token_for(&ServiceTerms { max_upload_mb: mb, ..terms.clone() });
        verify(&Credential::new(macaroon, preimage()), &keys(), Network::TestWallet, &terms).unwrap().max_upload_bytes()
    };
    assert_eq!((allowed(0), allowed(3)), (0, 3 * 1_048_576 + 5));
}

#[test]
fn a_token_for_another_service_or_without_its_capability_lapses() {
    let other = token_for(&ServiceTerms::named("other"));
    assert_eq!(checked(&other).unwrap().permit(NOW).unwrap_err(), Lapsed::NotCovered);
    assert_eq!(with(&["media_capabilities="]).unwrap().permit(NOW).unwrap_err(), Lapsed::NotCovered);
    let without = token_for(&ServiceTerms::named("media"));
    assert!(checked(&without).unwrap().permit(NOW).is_ok(), "sold before the service had capabilities");
}

#[test]
fn forged_unpaid_and_foreign_tokens_are_refused() {
    let token = token_for(&terms());
    let judged = |macaroon: &Macaroon, preimage: Preimage, network| {
        verify(&Credential::new(macaroon.clone(), preimage), &keys(), network, &terms()).unwrap_err()
    };
    assert_eq!(judged(&token, Preimage::from_bytes([2; 32]), Network::TestWallet), Refused::WrongPreimage);
    assert_eq!(judged(&token, preimage(), Network::Regtest), Refused::Forged, "play money buys nothing");
    let other_keys = MasterKeys::new(vec![MasterKey::new(&Secret::new([8; 32]), 0)]).unwrap();
    assert_eq!(
        verify(&Credential::new(token.clone(), preimage()), &other_keys, Network::TestWallet, &terms()).unwrap_err(),
        Refused::UnknownKey
    );
    const LOCATION: std::ops::Range<usize> = 3..7;
    assert_eq!(&token.as_bytes()[LOCATION], b"lsat", "all but the location is signed");
    for at in (0..token.as_bytes().len()).filter(|at| !LOCATION.contains(at)) {
        let mut bytes = token.as_bytes().to_vec();
        bytes[at] ^= 1;
        assert!(Macaroon::from_bytes(bytes).ok().is_none_or(|changed| checked(&changed).is_err()), "byte {at} changed");
    }
    let preimage_of_another = Preimage::from_bytes([9; 32]).expose_hex();
    assert_eq!(with(&[&format!("preimage={preimage_of_another}")]), Err(Refused::WrongPreimage));
}

#[test]
fn owners_and_counters_do_not_depend_on_the_preimage_caveat() {
    let hex = preimage().expose_hex();
    let plain = with(&["large_upload_max_uses=2"]).unwrap();
    assert_eq!(plain.counters().len(), 2);
    // Another token each time, so compare within one.
    let token = token_for(&terms());
    let attenuated = |caveats: &[&str]| {
        let caveats: Vec<String> = caveats.iter().map(|&text| text.to_owned()).collect();
        checked(&token.attenuate(&caveats).unwrap()).unwrap()
    };
    let (bare, mirrored) = (attenuated(&[]), attenuated(&[&format!("preimage={hex}")]));
    assert_eq!(bare, mirrored);
    let narrower = attenuated(&["large_upload_max_uses=2"]);
    let between = attenuated(&[&format!("preimage={hex}"), "large_upload_max_uses=2"]);
    assert_eq!(narrower, between);
    assert_ne!(narrower.credential_hash(), bare.credential_hash());
    assert_eq!(narrower.counters()[0], bare.counters()[0], "the giver's counter counts for whoever it was handed to");
    let delegated = |id: &str| attenuated(&[&format!("delegate={}", id.repeat(16)), "large_upload_max_uses=2"]);
    assert_ne!(delegated("01").counters()[1], delegated("02").counters()[1]);
}

#[test]
fn only_the_whole_v2_form_is_read() {
    let token = token_for(&terms());
    for len in 0..token.as_bytes().len() {
        assert!(Macaroon::from_bytes(token.as_bytes()[..len].to_vec()).is_err(), "cut at {len}");
    }
    let mut longer = token.as_bytes().to_vec();
    longer.push(0);
    assert_eq!(Macaroon::from_bytes(longer), Err(MacaroonError::Malformed));
    let many: Vec<String> = vec!["large_upload_max_mb=1".into(); 1_000];
    assert_eq!(token.attenuate(&many), Err(MacaroonError::TooLong));
    let mut third_party = macaroon_crate(&token.to_base64());
    third_party.add_third_party_caveat("elsewhere", &::macaroon::MacaroonKey::generate(b"k"), "id".into());
    let text = third_party.serialize(::macaroon::Format::V2).unwrap();
    assert_eq!(Macaroon::from_base64(&text), Err(MacaroonError::ThirdParty));
}

proptest! {
    #[test]
    fn junk_is_never_a_macaroon_and_never_a_panic(bytes in proptest::collection::vec(any::<u8>(), 0..300), text in ".{0,200}") {
        prop_assert!(Macaroon::from_bytes(bytes).is_err());
        prop_assert!(Credential::parse(&text).is_err());
        let _ = Challenge::parse([text.as_str()]);
    }

    #[test]
    fn whatever_is_appended_a_token_never_allows_more(
        appended in proptest::collection::vec(
            (prop_oneof![
                Just("services"), Just("media_capabilities"), Just("media_valid_until"), Just("large_upload_max_mb"),
                Just("large_upload_max_uses"), Just("expiration"), Just("region"), Just("speed"), Just("delegate"), Just("x"),
            ], prop_oneof![
                Just("media:0".to_owned()), Just("large_upload".to_owned()), Just("eu".to_owned()), Just(String::new()),
                (0_u64..1_000).prop_map(|n| n.to_string()), (NOW..NOW + 10_000).prop_map(|n| n.to_string()),
                (NOW * 1_000..(NOW + 10_000) * 1_000).prop_map(|n| n.to_string()),
            ]),
            0..6,
        )
    ) {
        let caveats: Vec<String> = appended.iter().map(|(condition, value)| format!("{condition}={value}")).collect();
        let (sold, macaroon) = { let sold = token_for(&terms()); (checked(&sold).unwrap(), sold.attenuate(&caveats).unwrap()) };
        if let Ok(token) = checked(&macaroon) {
            prop_assert!(token.max_upload_bytes() <= sold.max_upload_bytes());
            prop_assert!(token.valid_until() <= sold.valid_until() && token.valid_until().is_some());
            prop_assert!(token.counters().starts_with(sold.counters()));
            let least = |token: &Token| token.counters().iter().map(|counter| counter.max_uses).min();
            prop_assert!(least(&token) <= least(&sold));
        }
    }
}
