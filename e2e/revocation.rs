//! Revocation and the admin API: two gateways, two media servers, one ledger.

use std::time::Duration;

use reqwest::{Response, StatusCode};
use serde_json::Value;
use sluice_common::l402::Credential;
use sluice_testing::postgres;
use tokio::time::Instant;

use crate::support::{SINGLE_USE, Sluice, authorized, eventually, eventually_within};

/// In so long a revocation must be in effect everywhere.
const LIMIT: Duration = Duration::from_secs(2);

/// `sluice admin`, for the gateway of `sluice`: its exit code, and what it wrote to each output.
async fn admin(sluice: &Sluice, words: &[&str]) -> (i32, String, String) {
    let data = sluice.data().display().to_string();
    let output = sluice.run(&[&["admin", "--data", &data], words].concat()).await;
    let text = |bytes| String::from_utf8(bytes).unwrap();
    (output.status.code().unwrap(), text(output.stdout), text(output.stderr))
}

async fn json(sluice: &Sluice, words: &[&str]) -> Value {
    let (code, out, err) = admin(sluice, words).await;
    assert_eq!(code, 0, "{words:?}: {err}");
    serde_json::from_str(&out).unwrap()
}

/// What a file is answered: through the gateway, and by the media server to who comes around it.
async fn answers(sluice: &Sluice, muid: &str, credential: &Credential) -> [Response; 2] {
    let path = format!("/file/{muid}");
    let around = sluice.client.get(format!("http://{}{path}", sluice.backend_address()));
    let (through, around) =
        tokio::join!(authorized(sluice.get(&path), credential).send(), authorized(around, credential).send());
    [through.unwrap(), around.unwrap()]
}

async fn revoked_everywhere(sluices: &[Sluice], muid: &str, credential: &Credential, began: Instant) {
    for sluice in sluices {
        let rest = LIMIT.saturating_sub(began.elapsed());
        eventually_within(rest, "revoked everywhere", &mut async || {
            for answer in answers(sluice, muid, credential).await {
                if answer.status() != StatusCode::UNAUTHORIZED {
                    return None;
                }
                assert!(answer.headers().get("www-authenticate").is_none(), "nobody is asked for money");
                assert_eq!(answer.json::<Value>().await.unwrap()["code"], "revoked");
            }
            let upload = sluice.upload(credential, b"another").await;
            (upload.status() == StatusCode::UNAUTHORIZED).then_some(())
        })
        .await;
    }
}

#[tokio::test]
async fn what_is_revoked_is_worth_nothing_anywhere_within_two_seconds() {
    let (rows, ledger) = (postgres::database(), postgres::database());
    let files = tempfile::tempdir().unwrap();
    let files = files.path().display().to_string();
    let environment = [
        ("DATABASE_URL", rows.as_str()),
        ("GATEWAY_DATABASE_URL", &ledger),
        ("LOCAL_DIR", &files),
        ("HOST", "example.com"),
    ];
    let start = || Sluice::start_apart(&environment, SINGLE_USE);
    let (one, other) = tokio::join!(start(), start());
    let sluices = [one, other];
    let [one, other] = &sluices;
    let (credential, good) = (one.buy().await, one.buy().await);
    let stored = one.upload(&credential, b"a file").await;
    assert_eq!(stored.status(), StatusCode::OK);
    let muid = stored.json::<Value>().await.unwrap()["muid"].as_str().unwrap().to_owned();
    let hash = credential.preimage().payment_hash().to_string();
    let token = eventually("the payment is booked", async || {
        let (code, out, _) = admin(other, &["token", &hash]).await;
        let token: Value = serde_json::from_str(&out).ok().filter(|_| code == 0)?;
        token["payment"]["settled_at"].is_string().then_some(token)
    })
    .await;
    assert_eq!((&token["is_revoked"], &token["payment"]["amount_msat"]), (&false.into(), &100_000.into()));

    let began = Instant::now();
    let revoked = json(one, &["revoke", &hash, "--reason", "paid back"]).await;
    assert_eq!(revoked["payment_hash"], hash.as_str());
    revoked_everywhere(&sluices, &muid, &credential, began).await;
    assert_eq!(json(other, &["token", &hash]).await["revocation"]["reason"], "paid back");
    assert_eq!(other.token_state(&good).await["can_store"], true);

    json(other, &["unrevoke", &hash]).await;
    for sluice in &sluices {
        eventually_within(LIMIT, "good again", &mut async || {
            let answers = answers(sluice, &muid, &credential).await;
            answers.iter().all(|answer| answer.status() == StatusCode::OK).then_some(())
        })
        .await;
    }
    assert_eq!(admin(one, &["unrevoke", &hash]).await.0, 1);

    // Everything that there is: of the second in which it was minted, too.
    let minted_at = credential.macaroon().identifier().unwrap().token_id.minted_at();
    eventually("that second is over", async || (sluice_common::clock::unix_now() > minted_at).then_some(())).await;
    let before = sluice_common::clock::rfc3339(minted_at + 1).unwrap();
    let began = Instant::now();
    json(one, &["revoke", "--minted-before", &before]).await;
    revoked_everywhere(&sluices, &muid, &credential, began).await;
    assert_eq!(json(other, &["info"]).await["revoked_before"], before.as_str());
    let bought = one.buy().await;
    assert_eq!(other.upload(&bought, b"bought afterwards").await.status(), StatusCode::OK);
    for sluice in sluices {
        sluice.finish().await;
    }
}

#[tokio::test]
async fn sluice_admin_finds_the_gateway_of_a_data_folder_and_says_how_it_went() {
    let mut sluice = Sluice::start(&[]).await;
    let credential = sluice.buy().await;
    assert_eq!(sluice.upload(&credential, b"x").await.status(), StatusCode::OK);
    let info = json(&sluice, &["info"]).await;
    assert_eq!((&info["network"], &info["node"]["kind"]), (&"test-wallet".into(), &"wallet".into()));
    assert_eq!(json(&sluice, &["keys"]).await[0]["is_minting"], true);
    assert_eq!(json(&sluice, &["services"]).await["services"][0]["name"], "media");
    eventually("the payment is there", async || {
        let payments = json(&sluice, &["payments"]).await;
        (payments[0]["payment_hash"] == credential.preimage().payment_hash().to_string()).then_some(())
    })
    .await;
    assert_eq!(json(&sluice, &["stats"]).await["sums"][0]["payments"], 1);
    let hash = credential.preimage().payment_hash().to_string();
    json(&sluice, &["revoke", &hash]).await;
    // The media server reads the gateway's file.
    let around = format!("http://{}/mymedia", sluice.backend_address());
    eventually_within(LIMIT, "revoked", &mut async || {
        let answer = authorized(sluice.client.get(&around), &credential).send().await.unwrap();
        (answer.status() == StatusCode::UNAUTHORIZED).then_some(())
    })
    .await;

    let unauthorized = sluice.client.get(sluice.admin_url("/v1/info")).send().await.unwrap();
    assert_eq!(unauthorized.status(), StatusCode::UNAUTHORIZED);
    let wrong = sluice.folder().join("wrong");
    std::fs::write(&wrong, "5a".repeat(32)).unwrap();
    let (code, out, err) = admin(&sluice, &["--token-file", wrong.to_str().unwrap(), "info"]).await;
    assert_eq!((code, out.as_str()), (1, ""), "{err}");
    assert_eq!(admin(&sluice, &["revoke"]).await.0, 2);
    sluice.stop().await;
    let (code, _, err) = admin(&sluice, &["info"]).await;
    assert!(code == 3 && err.contains("cannot reach"), "{code}: {err}");
    sluice.start_again().await;
    let (code, ..) = admin(&sluice, &["info"]).await;
    assert_eq!(code, 0, "the token stays");
    let answer = authorized(sluice.get("/mymedia"), &credential).send().await.unwrap();
    assert_eq!(answer.status(), StatusCode::UNAUTHORIZED, "and what is revoked");
    sluice.finish().await;
}
