use proptest::prelude::*;
use serde_json::Value;

use super::*;

fn vectors() -> Value {
    serde_json::from_str(include_str!("../../testdata/lightning_messages.json")).unwrap()
}

fn secret_key() -> SecretKey {
    SecretKey::from_slice(&[0x11; 32]).unwrap()
}

fn terms() -> Terms {
    Terms {
        host: "localhost:5000".to_owned(),
        muid: Muid::from_bytes([9; 32]),
        buyer: Some(NodeKey::of(&secret_key())),
        expires_at: Some(2_000_000_000),
        meta: "amt=5&ttl=60".to_owned(),
    }
}

/// Over the raw bytes or over their text.
fn is_signed_by(token: &MediaToken, owner: NodeKey) -> bool {
    token.signers().contains(&Some(owner))
}

/// The token of `terms()` with one section replaced.
fn with_section(at: usize, section: &str) -> Result<MediaToken, MediaTokenError> {
    let token = MediaToken::sign(terms(), SignedOver::Raw, &secret_key()).unwrap().to_string();
    let mut sections: Vec<_> = token.split('.').collect();
    sections[at] = section;
    MediaToken::parse(&sections.join("."))
}

#[test]
fn reads_every_token_that_btcec_signed() {
    let vectors = vectors();
    let owner: NodeKey = vectors["signer_pubkey_base64url"].as_str().unwrap().parse().unwrap();
    let tokens = vectors["media_tokens"].as_array().unwrap();
    assert_eq!(tokens.len(), 5);
    for vector in tokens {
        let field = |name: &str| vector[name].as_str().unwrap();
        let token = MediaToken::parse(field("token")).unwrap();
        assert_eq!(token.host(), field("host"));
        assert_eq!(token.muid().to_string(), field("muid"));
        assert_eq!(token.buyer().map(|key| key.to_string()).unwrap_or_default(), field("buyer_pubkey_base64url"));
        assert_eq!(token.expires_at().map(u64::from), vector["exp"].as_u64());
        assert_eq!(token.meta(), field("meta"));
        assert_eq!(token.is_expired_at(1_800_000_000), field("name") == "expired");

        let signed_as_text = field("signed_over") != "raw bytes";
        assert_eq!(token.signers().map(|key| key == Some(owner)), [!signed_as_text, signed_as_text]);
        assert!(is_signed_by(&token, owner) && !is_signed_by(&token, NodeKey::of(&secret_key())));

        assert_eq!(token.to_string(), field("token"));
        assert_eq!(field("token").replace('=', "").parse(), Ok(token.clone()), "unpadded");
        assert_eq!(format!("{token:?}"), "MediaToken([redacted])");
    }
}

#[test]
fn reads_tokens_that_lnd_signed_for_sphinx_meme() {
    let alice = NodeKey::from_hex("03ce90e4efa658177e45ed1ca48e5c2d1986d76a83043c6dae5bcbe99e08638d97").unwrap();
    let bob = NodeKey::from_hex("02eecd086b0d9d6b794260195a65850e6bd8389f9bf9506485a7bb6637073eb8c2").unwrap();
    let head = "MTI3LjAuMC4xOjU3NDc=.beJqnSMHVqYW-TJq5vMW5vH78XpU_u4kQ5Z2d3J5NY8=";
    let for_bob = "Au7NCGsNnWt5QmAZWmWFDmvYOJ-b-VBkhae7ZjcHPrjC._____g==.H7gs6VmZSSVXPhbUQT4NjpHq5AM-_GgedaTNTD2RgToRfEbZOk8clweSGCC9u6ISrE3GAMFGL-CuBuv95P-HIcQ=";
    let for_all = "._____g==.YW10PTUwJnR0bD0zNjAw.IJ7kGrYdUPJYekWoV-VY3L6sMH80nN1PdcKst8vpabyZJG_wRiJbss90FsqG26hd8_LrmJD94WQvHZRWnbt6NuI=";
    for (rest, buyer, meta) in [(for_bob, Some(bob), ""), (for_all, None, "amt=50&ttl=3600")] {
        let token = MediaToken::parse(&format!("{head}.{rest}")).unwrap();
        assert_eq!((token.host(), token.buyer(), token.meta()), ("127.0.0.1:5747", buyer, meta));
        assert!(is_signed_by(&token, alice));
    }
}

#[test]
fn signs_over_bytes_or_text() {
    let owner = NodeKey::of(&secret_key());
    for (over, place) in [(SignedOver::Raw, 0), (SignedOver::Text, 1)] {
        let token = MediaToken::sign(terms(), over, &secret_key()).unwrap();
        assert_eq!(token.signers()[place], Some(owner));
        assert_ne!(token.signers()[1 - place], Some(owner));
        assert_eq!(MediaToken::parse(&token.to_string()), Ok(token.clone()));
        let by_its_node = lightning_message::sign(&terms().message(over), &secret_key());
        assert_eq!(MediaToken::new(terms(), Some(by_its_node)), Ok(token));
    }
}

#[test]
fn any_change_makes_another_signer() {
    let owner = NodeKey::of(&secret_key());
    let signature = lightning_message::sign(&terms().message(SignedOver::Raw), &secret_key());
    for changed in [
        Terms { host: "localhost:5001".to_owned(), ..terms() },
        Terms { muid: Muid::from_bytes([8; 32]), ..terms() },
        Terms { buyer: None, ..terms() },
        Terms { expires_at: Some(2_000_000_001), ..terms() },
        Terms { expires_at: None, ..terms() },
        Terms { meta: "amt=5".to_owned(), ..terms() },
    ] {
        assert!(!is_signed_by(&MediaToken::new(changed, Some(signature)).unwrap(), owner));
    }
}

#[test]
fn moving_the_borders_of_a_signed_token_only_ends_it() {
    let expires_at = u32::from_be_bytes(*b"zzzz");
    let for_buyer = MediaToken::sign(Terms { expires_at: Some(expires_at), ..terms() }, SignedOver::Raw, &secret_key());
    let (owner, token) = (NodeKey::of(&secret_key()), for_buyer.unwrap());
    let signature = token.signature().copied();
    assert!(!token.is_expired_at(1_800_000_000));

    // The expiry as a part of meta: signed, but without an end.
    let moved = Terms { expires_at: None, meta: format!("zzzz{}", token.meta()), ..token.terms().clone() };
    let moved = MediaToken::new(moved, signature).unwrap();
    assert!(is_signed_by(&moved, owner) && moved.is_expired_at(0));

    // The buyer's key as expiry, to make it anyone's token: in 1972 at the latest.
    for first in [[2, 0xff, 0xff, 0xff], [3, 0xff, 0xff, 0xff]] {
        let moved = Terms { buyer: None, expires_at: Some(u32::from_be_bytes(first)), ..terms() };
        assert!(MediaToken::new(moved, signature).unwrap().is_expired_at(70_000_000));
    }

    // The expiry as the beginning of a buyer's key: a key begins with 2 or 3.
    let mut key = *owner.as_bytes();
    key[..4].copy_from_slice(b"zzzz");
    assert_eq!(with_section(2, &URL_SAFE.encode(key)), Err(MediaTokenError::Buyer));
}

#[test]
fn unsigned_tokens_have_no_signer_and_no_end() {
    let priced = format!("{}.{}...{}", URL_SAFE.encode("h"), Muid::from_bytes([1; 32]), URL_SAFE.encode("amt=5"));
    let token = MediaToken::parse(&priced).unwrap();
    assert_eq!((token.meta(), token.signature(), token.signers()), ("amt=5", None, [None, None]));
    assert!(token.is_expired_at(0));
    assert_eq!(token.to_string(), priced);
    assert_eq!(MediaToken::parse(&format!("{priced}.")), Ok(token), "a signature section that is empty");
    // A meta as long as a signature is no signature.
    let long = Terms { meta: format!("x={}", "y".repeat(63)), ..terms() };
    let token = MediaToken::new(long, None).unwrap();
    assert_eq!(MediaToken::parse(&token.to_string()), Ok(token));
}

#[test]
fn ends_at_its_expiry() {
    let token = MediaToken::new(terms(), None).unwrap();
    assert!(!token.is_expired_at(1_999_999_999));
    assert!(token.is_expired_at(2_000_000_000));
    assert!(!token.is_expired_at(i64::MIN));
    let never = MediaToken::new(Terms { expires_at: Some(u32::MAX), ..terms() }, None).unwrap();
    assert!(!never.is_expired_at(4_294_967_294));
}

#[test]
fn an_empty_meta_section_is_none() {
    let token = MediaToken::sign(Terms { meta: String::new(), ..terms() }, SignedOver::Raw, &secret_key()).unwrap();
    let text = token.to_string();
    assert_eq!(text.split('.').count(), 5);
    let (head, signature) = text.rsplit_once('.').unwrap();
    assert_eq!(MediaToken::parse(&format!("{head}..{signature}")), Ok(token));
}

#[test]
fn says_which_section_is_wrong() {
    let encode = |bytes: &[u8]| URL_SAFE.encode(bytes);
    let cases: [(usize, String, MediaTokenError); 17] = [
        (0, String::new(), MediaTokenError::Host),
        (0, encode(b"a b"), MediaTokenError::Host),
        (0, encode("hé".as_bytes()), MediaTokenError::Host),
        (0, encode(b"\xff"), MediaTokenError::Host),
        (0, "a/b".to_owned(), MediaTokenError::NotBase64),
        (0, "YR==".to_owned(), MediaTokenError::NotBase64),
        (1, String::new(), MediaTokenError::Muid),
        (1, encode(&[0; 31]), MediaTokenError::Muid),
        (2, encode(&[2; 32]), MediaTokenError::Buyer),
        (2, encode(&[0; 33]), MediaTokenError::Buyer),
        (3, encode(&[0; 3]), MediaTokenError::Expiry),
        (3, encode(&[0; 8]), MediaTokenError::Expiry),
        (4, encode(b"\xff"), MediaTokenError::Meta),
        (4, "=".to_owned(), MediaTokenError::NotBase64),
        (5, encode(&[31; 64]), MediaTokenError::Signature),
        (5, encode(&[30; 65]), MediaTokenError::Signature),
        (5, " ".to_owned(), MediaTokenError::NotBase64),
    ];
    for (at, section, error) in cases {
        assert_eq!(with_section(at, &section), Err(error), "{at}: {section}");
    }
}

#[test]
fn refuses_other_shapes_and_sizes() {
    let token = MediaToken::sign(terms(), SignedOver::Raw, &secret_key()).unwrap().to_string();
    for shape in ["", ".", "....", "......", "a.b", &format!("{token}."), &format!("{token}.AAAA")] {
        assert!(MediaToken::parse(shape).is_err(), "{shape}");
    }
    let four = token.rsplitn(3, '.').nth(2).unwrap();
    assert_eq!(MediaToken::parse(four), Err(MediaTokenError::Sections));
    assert_eq!(MediaToken::parse(&"A".repeat(MAX_TOKEN_LEN + 1)), Err(MediaTokenError::TooLong));
    assert_eq!(MediaToken::parse(&".".repeat(MAX_TOKEN_LEN)), Err(MediaTokenError::Sections));
    let long = Terms { meta: "m".repeat(MAX_TOKEN_LEN), ..terms() };
    assert_eq!(MediaToken::new(long, None), Err(MediaTokenError::TooLong));
    assert_eq!(MediaToken::new(terms(), Some([0; 65])), Err(MediaTokenError::Signature));
}

proptest! {
    #[test]
    fn no_text_makes_it_panic(text in ".*", sections in "([A-Za-z0-9_=-]{0,48}\\.){4,5}[A-Za-z0-9_=-]{0,88}") {
        for text in [text, sections] {
            if let Ok(token) = MediaToken::parse(&text) {
                let _ = token.signers();
                prop_assert_eq!(MediaToken::parse(&token.to_string()), Ok(token));
            }
        }
    }

    #[test]
    fn reads_what_it_writes(
        host in "[!-~]{1,40}",
        muid: [u8; 32],
        has_buyer: bool,
        expires_at: Option<u32>,
        meta in prop_oneof![".{0,40}", " [a-z]{64}", "\\PC{65}"],
        signature in proptest::option::of((31_u8..=34, any::<[u8; 32]>(), any::<[u8; 32]>())),
    ) {
        let buyer = has_buyer.then(|| NodeKey::of(&secret_key()));
        let signature = signature.map(|(id, r, s)| [&[id][..], &r, &s].concat().try_into().unwrap());
        let terms = Terms { host, muid: Muid::from_bytes(muid), buyer, expires_at, meta };
        let token = MediaToken::new(terms, signature).unwrap();
        let _ = token.signers();
        prop_assert_eq!(MediaToken::parse(&token.to_string()), Ok(token));
    }
}
