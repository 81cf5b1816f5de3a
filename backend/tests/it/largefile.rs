//! Paid uploads: the credential is checked here too, with no gateway in front.

use axum::body::{Body, Bytes};
use futures_util::stream;
use http::header::AUTHORIZATION;
use serde_json::{Value, json};
use sluice_backend::config::MediaTerms;
use sluice_common::{
    clock::unix_now,
    l402::{Credential, Preimage, ServiceTerms, UnknownCaveats},
    permit::{FreePermit, PermittedRequest},
};
use time::{Duration, OffsetDateTime};
use tokio::sync::mpsc;

use crate::support::{Answer, Builder, MB, Server, assert_problem, eventually, form, get, head, node_key, post, terms};

pub async fn upload(server: &Server, credential: &Credential, file: &[u8]) -> Answer {
    server.send(post("/largefile").credential(credential).form(&[], file)).await
}

pub async fn status(server: &Server, credential: &Credential) -> Value {
    let answer = server.send(get("/largefile").credential(credential).empty()).await;
    assert_eq!((answer.status.as_u16(), answer.header("cache-control")), (200, "private, no-store"));
    answer.json()
}

fn owner(credential: &Credential, server: &Server) -> String {
    let (keys, network) = (&server.config.master_keys, server.config.network);
    let token = sluice_common::l402::verify(credential, keys, network, &terms()).unwrap();
    format!("l402:{}", hex::encode(token.credential_hash()))
}

#[tokio::test]
async fn one_payment_stores_one_file_and_the_token_stays_its_owner() {
    let server = Server::new().await;
    let credential = server.credential(&[]);
    let before = status(&server, &credential).await;
    assert_eq!(
        (&before["can_store"], &before["reason"], &before["uses_left"]),
        (&true.into(), &Value::Null, &1.into())
    );
    assert_eq!((&before["max_upload_bytes"], &before["stored"]), (&(2 * MB).into(), &json!([])));
    assert!(before["valid_until"].as_str().unwrap().ends_with('Z'));

    let file = vec![7; 2 * MB];
    let answer = upload(&server, &credential, &file).await;
    assert_eq!(answer.status, 200, "{answer:?}");
    assert_eq!(
        (&answer.json()["owner_pub_key"], &answer.json()["public"]),
        (&owner(&credential, &server).into(), &false.into())
    );
    let muid = answer.json()["muid"].as_str().unwrap().to_owned();

    let answer = upload(&server, &credential, b"another").await;
    assert_problem(&answer, 402, "used_up");
    assert_eq!(answer.header("sluice-payment-required"), "used_up");
    let after = status(&server, &credential).await;
    assert_eq!(
        (&after["can_store"], &after["reason"], &after["uses_left"]),
        (&false.into(), &"used_up".into(), &0.into())
    );
    assert_eq!((&after["stored"][0]["muid"], &after["stored"][0]["size"]), (&muid.as_str().into(), &(2 * MB).into()));
    assert!(after["stored"][0]["stored_at"].as_str().unwrap().ends_with('Z'));

    for path in [format!("/file/{muid}"), "/mymedia".to_owned(), format!("/mymedia/{muid}"), format!("/media/{muid}")] {
        let answer = server.send(get(&path).credential(&credential).empty()).await;
        assert_eq!(answer.status, 200, "{path}");
        if path.starts_with("/file") {
            assert!(answer.bytes() == file);
        }
    }
    let other = server.credential(&[]);
    let answer = server.send(get(&format!("/file/{muid}")).credential(&other).empty()).await;
    assert_problem(&answer, 404, "no_such_file");
}

#[tokio::test]
async fn the_tokens_of_every_service_that_sells_uploads_are_taken_each_by_its_terms() {
    let small = ServiceTerms { max_upload_mb: 1, ..ServiceTerms::named("small") };
    let both = MediaTerms::new([terms(), small.clone()]).unwrap();
    let server = Server::with(|config| config.terms = both).await;
    for (terms, caveats, status, code) in [
        (terms(), [].as_slice(), 200, ""),
        (small.clone(), &[], 413, "too_large"),
        (ServiceTerms::named("another"), &[], 402, "not_covered"),
        (small.clone(), &["services=media:0"], 401, "widened_caveat"),
        (small.clone(), &["large_upload_max_mb=2"], 401, "widened_caveat"),
    ] {
        let credential = server.credential_of(&terms, unix_now(), caveats);
        let answer = upload(&server, &credential, &vec![1; 3 * MB / 2]).await;
        if status == 200 {
            assert_eq!(answer.status, 200, "{answer:?}");
        } else {
            assert_problem(&answer, status, code);
            // What the gateway may sell another token for.
            let helps = ["", "too_small", "not_covered"][usize::from(status == 413) + 2 * usize::from(status == 402)];
            assert_eq!(answer.header("sluice-payment-required"), helps);
        }
    }
    let credential = server.credential_of(&small, unix_now(), &[]);
    assert_eq!(upload(&server, &credential, &vec![2; MB]).await.status, 200);

    // Another program may sell several together, with caveats of its own. The first is over.
    let tolerant = |terms: ServiceTerms| ServiceTerms { unknown_caveats: UnknownCaveats::Ignore, ..terms };
    let both = MediaTerms::new([tolerant(terms()), tolerant(small)]).unwrap();
    let server = server.reopened_with(|config| config.terms = both).await;
    let together = ServiceTerms { name: "media:0,small".to_owned(), max_upload_mb: 1, ..terms() };
    for (caveats, status) in [
        (["media_valid_until=1", "small_valid_until=9999999999"], 200),
        (["media_valid_until=1", "services=small:0"], 200),
        (["media_valid_until=1", "services=media:0"], 402),
        (["media_valid_until=1", "small_valid_until=1"], 402),
    ] {
        let credential = server.credential_of(&together, unix_now(), &caveats);
        let answer = upload(&server, &credential, caveats.concat().as_bytes()).await;
        assert_eq!(answer.status.as_u16(), status, "{caveats:?} {answer:?}");
        assert_eq!(answer.header("sluice-payment-required"), if status == 402 { "expired" } else { "" });
    }
}

#[tokio::test]
async fn a_token_is_read_in_every_spelling() {
    let server = Server::new().await;
    let terms = ServiceTerms { max_uses: None, ..terms() };
    let credential = server.credential_of(&terms, unix_now(), &[]);
    assert_eq!(status(&server, &credential).await["uses_left"], Value::Null);
    let preimage = format!("preimage={}", credential.preimage().expose_hex());
    let with_preimage = credential.macaroon().attenuate(&[preimage]).unwrap();
    let exposed = credential.expose();
    let owner = owner(&credential, &server);
    for (name, value) in [
        ("authorization", format!("lsat {}", exposed.expose())),
        ("authorization", format!("L402 {}", exposed.expose().replace('+', "-").replace('/', "_"))),
        ("authorization", format!("L402 {}", with_preimage.to_base64())),
        ("macaroon", hex::encode(with_preimage.as_bytes())),
        ("grpc-metadata-macaroon", hex::encode(with_preimage.as_bytes())),
    ] {
        let file = format!("{name} {value}");
        let answer = server.send(post("/largefile").header(name, &value).form(&[], file.as_bytes())).await;
        assert_eq!(answer.status, 200, "{answer:?}");
        assert_eq!(answer.json()["owner_pub_key"], owner);
    }
    assert_eq!(status(&server, &credential).await["stored"].as_array().unwrap().len(), 5);
}

#[tokio::test]
async fn what_no_payment_mends_is_no_402() {
    let server = Server::new().await;
    let credential = server.credential(&[]);
    let macaroon = credential.macaroon().to_base64();
    let preimage = credential.preimage().expose_hex();
    let mut cut = credential.macaroon().as_bytes().to_vec();
    cut.truncate(100);
    let widened = server.credential(&["large_upload_max_mb=4096"]);
    let more_uses = server.credential(&["large_upload_max_uses=1000"]);
    let unknown = server.credential(&["weather=fine"]);
    let mut forged = credential.macaroon().as_bytes().to_vec();
    *forged.last_mut().unwrap() ^= 1;
    let line = |credential: &Credential| credential.authorization().expose().clone();
    for (value, code) in [
        (format!("L402 ???:{preimage}"), "malformed_credential"),
        ("L402".to_owned(), "malformed_credential"),
        (format!("L402 {macaroon}"), "malformed_credential"),
        (format!("L402 {}:{preimage}", base64_of(&cut)), "malformed_credential"),
        (format!("L402 {}:{preimage}", base64_of(&forged)), "forged_token"),
        (line(&Credential::new(credential.macaroon().clone(), Preimage::from_bytes([9; 32]))), "wrong_preimage"),
        (line(&widened), "widened_caveat"),
        (line(&more_uses), "widened_caveat"),
        (line(&unknown), "caveat_not_understood"),
    ] {
        for request in [
            post("/largefile").header(AUTHORIZATION, &value).form(&[], b"x"),
            get("/largefile").header(AUTHORIZATION, &value).empty(),
            get("/mymedia").header(AUTHORIZATION, &value).empty(),
            get("/mymedia").bearer(&server.login(1)).header(AUTHORIZATION, &value).empty(),
        ] {
            assert_problem(&server.send(request).await, 401, code);
        }
    }
    let two = post("/largefile").credential(&credential).credential(&server.credential(&[])).form(&[], b"x");
    assert_problem(&server.send(two).await, 400, "two_credentials");
    assert_eq!(status(&server, &credential).await["uses_left"], 1);
    assert!(server.stored_files().await.is_empty());
}

fn base64_of(bytes: &[u8]) -> String {
    use base64::{Engine, engine::general_purpose::STANDARD};
    STANDARD.encode(bytes)
}

#[tokio::test]
async fn what_a_payment_mends_is_402_and_says_why() {
    let server = Server::new().await;
    let expired = server.credential_minted_at(unix_now() - 3_600, &[]);
    let elsewhere = server.credential_of(&ServiceTerms::named("elsewhere"), unix_now(), &[]);
    for (credential, reason) in [(&expired, "expired"), (&elsewhere, "not_covered")] {
        let answer = upload(&server, credential, b"x").await;
        assert_problem(&answer, 402, reason);
        assert_eq!(answer.header("sluice-payment-required"), reason);
        let status = status(&server, credential).await;
        assert_eq!((&status["can_store"], &status["reason"]), (&false.into(), &reason.into()));
    }
    for request in [post("/largefile").form(&[], b"x"), get("/largefile").empty()] {
        let answer = server.send(request).await;
        assert_problem(&answer, 402, "payment_required");
        assert_eq!(answer.header("sluice-payment-required"), "");
    }
    let of_head = server.send(head("/largefile").empty()).await;
    assert_eq!((of_head.status.as_u16(), of_head.bytes()), (402, &b""[..]));
    let of_head = server.send(head("/largefile").credential(&expired).empty()).await;
    assert_eq!((of_head.status.as_u16(), of_head.bytes()), (200, &b""[..]));
}

#[tokio::test]
async fn an_expired_token_still_opens_what_it_stored() {
    let server = Server::new().await;
    let credential = server.credential(&[]);
    let muid = upload(&server, &credential, b"kept").await.json()["muid"].as_str().unwrap().to_owned();
    // The same payment, narrowed to a time that is over: another credential, so another owner.
    let over = credential.macaroon().attenuate(&["media_valid_until=1".to_owned()]).unwrap();
    let narrowed = Credential::new(over, credential.preimage().clone());
    let answer = server.send(get("/mymedia").credential(&narrowed).empty()).await;
    assert_eq!((answer.status.as_u16(), answer.json()), (200, json!([])));

    let short = ServiceTerms { valid_for_secs: Some(2), ..terms() };
    let dying = server.credential_of(&short, unix_now(), &[]);
    let muid_of_dying = upload(&server, &dying, b"kept too").await.json()["muid"].as_str().unwrap().to_owned();
    eventually(async || status(&server, &dying).await["reason"] == "expired").await;
    for (credential, muid) in [(&credential, &muid), (&dying, &muid_of_dying)] {
        assert_eq!(server.send(get(&format!("/file/{muid}")).credential(credential).empty()).await.status, 200);
    }
}

#[tokio::test]
async fn a_login_beside_the_token_owns_the_file() {
    let server = Server::new().await;
    let readonly = server.login_from(1, true, OffsetDateTime::now_utc());
    let over = server.login_from(1, false, OffsetDateTime::now_utc() - Duration::days(8));
    let credential = server.credential(&[]);
    for (jwt, code) in [(readonly.as_str(), "readonly_login"), (&over, "invalid_login"), ("junk", "invalid_login")] {
        for request in [
            post("/largefile").credential(&credential).bearer(jwt),
            post(&format!("/largefile?jwt={jwt}")).credential(&credential),
            post("/largefile").credential(&credential).header("cookie", &format!("jwt={jwt}")),
        ] {
            assert_problem(&server.send(request.form(&[], b"x")).await, 401, code);
        }
    }
    assert_eq!(status(&server, &credential).await["uses_left"], 1);

    let places: [fn(&str) -> Builder; 3] = [
        |jwt| post("/largefile").bearer(jwt),
        |jwt| post(&format!("/largefile?jwt={jwt}")),
        |jwt| post("/largefile").header("cookie", &format!("jwt={jwt}")),
    ];
    for place in places {
        let credential = server.credential(&[]);
        let answer = server.send(place(&server.login(1)).credential(&credential).form(&[], b"x")).await;
        assert_eq!(answer.json()["owner_pub_key"], node_key(1).to_string());
        let credentials = server.send(get("/mymedia").credential(&credential).empty()).await;
        assert_eq!(credentials.json(), json!([]), "it is the login's");
        assert_eq!(
            status(&server, &credential).await["stored"][0]["muid"],
            answer.json()["muid"],
            "but this paid for it"
        );
    }
}

#[tokio::test]
async fn a_narrower_token_takes_its_limit_exactly() {
    let server = Server::new().await;
    let credential = server.credential(&["large_upload_max_mb=1"]);
    let answer = upload(&server, &credential, &vec![7; MB + 1]).await;
    assert_problem(&answer, 413, "too_large");
    assert_eq!(answer.json()["limit_bytes"], MB);
    let declared =
        post("/largefile").credential(&credential).multipart().header("content-length", &(3 * MB).to_string());
    let answer = server.send(declared.empty()).await;
    assert_problem(&answer, 413, "too_large");
    assert_eq!((&answer.json()["limit_bytes"], &answer.json()["size_bytes"]), (&MB.into(), &(3 * MB).into()));
    assert_problem(&upload(&server, &credential, b"").await, 400, "empty_file");
    assert_eq!(status(&server, &credential).await["uses_left"], 1);
    assert_eq!(upload(&server, &credential, &vec![7; MB]).await.status, 200);
}

#[tokio::test]
async fn while_an_upload_holds_the_last_use_others_wait() {
    let server = Server::new().await;
    let credential = server.credential(&[]);
    let (pieces, coming) = mpsc::unbounded_channel::<Bytes>();
    let body = Body::from_stream(stream::unfold(coming, async |mut coming| {
        coming.recv().await.map(|piece| (Ok::<_, std::io::Error>(piece), coming))
    }));
    let first = server.send(post("/largefile").credential(&credential).multipart().body(body));
    let rest = async {
        eventually(async || status(&server, &credential).await["reason"] == "upload_in_progress").await;
        assert_eq!(status(&server, &credential).await["uses_left"], 1, "held, not spent");
        let answer = upload(&server, &credential, b"second").await;
        assert_problem(&answer, 409, "upload_in_progress");
        assert_eq!((answer.header("retry-after"), answer.header("sluice-payment-required")), ("2", ""));
        pieces.send(form(&[], b"first").into()).unwrap();
        drop(pieces);
    };
    let (first, ()) = tokio::join!(first, rest);
    assert_eq!(first.status, 200);
    assert_problem(&upload(&server, &credential, b"second").await, 402, "used_up");
}

#[tokio::test]
async fn a_hundred_at_once_store_one() {
    let server = Server::new().await;
    let credential = server.credential(&[]);
    let files: Vec<_> = (0..100).map(|number: u32| number.to_be_bytes()).collect();
    let uploads = files.iter().map(|file| upload(&server, &credential, file));
    let answers = futures_util::future::join_all(uploads).await;
    assert_eq!(answers.iter().filter(|answer| answer.status == 200).count(), 1);
    for answer in answers.iter().filter(|answer| answer.status != 200) {
        let (status, code) = answer.problem();
        assert!(code == "used_up" || code == "upload_in_progress", "{status} {code}");
    }
    assert_eq!(status(&server, &credential).await["stored"].as_array().unwrap().len(), 1);
    assert_eq!(server.stored_files().await.len(), 1);
}

/// The same files as a form whose length nobody declares.
#[tokio::test]
async fn an_upload_for_nothing_needs_a_permit_of_this_request_and_a_login() {
    let server = Server::new().await;
    let (login, other) = (format!("Bearer {}", server.login(1)), format!("Bearer {}", server.login(2)));
    let keys = &server.config.master_keys;
    let signed = |target: &str, login: Option<&str>, expires_at: u64| {
        let headers = login.map(|login| (AUTHORIZATION, login.parse().unwrap())).into_iter().collect();
        let request = PermittedRequest { method: &http::Method::POST, target, headers: &headers };
        let permit = FreePermit { max_upload_bytes: MB as u64, expires_at };
        permit.sign(&request, keys, unix_now()).unwrap().to_str().unwrap().to_owned()
    };
    let good = signed("/largefile?a=b", Some(&login), unix_now() + 60);
    let send = async |permit: &str, login: Option<&str>, file: &[u8]| {
        let request = post("/largefile?a=b").header("sluice-permit", permit);
        let request = login.into_iter().fold(request, |request, login| request.header(AUTHORIZATION, login));
        server.send(request.form(&[], file)).await
    };
    let answer = send(&good, Some(&login), &vec![7; MB]).await;
    assert_eq!((answer.status.as_u16(), &answer.json()["owner_pub_key"]), (200, &node_key(1).to_string().into()));
    assert_problem(&send(&good, Some(&login), &vec![7; MB + 1]).await, 413, "too_large");
    for (permit, login) in [
        (&good, &other),
        (&signed("/largefile", Some(&login), unix_now() + 60), &login),
        (&signed("/largefile?a=b", Some(&login), unix_now()), &login),
        (&"junk".to_owned(), &login),
    ] {
        assert_problem(&send(permit, Some(login), b"x").await, 402, "payment_required");
    }
    let nobody = send(&signed("/largefile?a=b", None, unix_now() + 60), None, b"x").await;
    assert_problem(&nobody, 401, "login_required");
}
