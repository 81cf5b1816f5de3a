//! `/ask`, `/verify`, and where a login is looked for.

use base64::{Engine, engine::general_purpose::URL_SAFE};
use sluice_common::lightning_message;
use time::{Duration, OffsetDateTime};

use crate::support::{Answer, Server, assert_problem, get, node_key, post, secret_key};

const NODE: u8 = 1;

fn signed(message: &[u8]) -> String {
    URL_SAFE.encode(lightning_message::sign(message, &secret_key(NODE)))
}

async fn asked(server: &Server) -> (String, String) {
    let answer = server.get("/ask").await;
    assert_eq!((answer.status.as_u16(), answer.header("cache-control")), (200, "private, no-store"));
    let text = |name: &str| answer.json()[name].as_str().unwrap().to_owned();
    (text("id"), text("challenge"))
}

fn token(answer: &Answer) -> String {
    assert_eq!(answer.status, 200, "{answer:?}");
    answer.json()["token"].as_str().unwrap().to_owned()
}

#[tokio::test]
async fn a_node_logs_in_with_either_signature() {
    let server = Server::new().await;
    let pubkey = node_key(NODE).to_hex();
    let (id, challenge) = asked(&server).await;
    for message in [URL_SAFE.decode(&challenge).unwrap(), challenge.clone().into_bytes()] {
        let sig = signed(&message);
        let form = [("id", id.as_str()), ("sig", &sig), ("pubkey", &pubkey)];
        let jwt = token(&server.send(post("/verify").fields(&form)).await);
        assert_eq!(server.app.logins.read(&jwt).unwrap().key, node_key(NODE));
        assert!(!server.app.logins.read(&jwt).unwrap().readonly);
        assert_eq!(server.send(get("/mymedia").bearer(&jwt).empty()).await.json(), serde_json::json!([]));
    }
}

#[tokio::test]
async fn a_login_may_be_for_reading_only() {
    let server = Server::new().await;
    let pubkey = node_key(NODE).to_hex();
    let (id, challenge) = asked(&server).await;
    let sig = signed(challenge.as_bytes());
    let form = [("id", id.as_str()), ("sig", &sig), ("pubkey", &pubkey), ("readonly", "true")];
    let jwt = token(&server.send(post("/verify").fields(&form)).await);
    assert!(server.app.logins.read(&jwt).unwrap().readonly);
    assert_eq!(server.send(get("/mymedia").bearer(&jwt).empty()).await.status, 200);
    assert_problem(&server.send(post("/file").bearer(&jwt).form(&[], b"x")).await, 401, "readonly_login");
}

#[tokio::test]
async fn the_fields_may_stand_in_the_query() {
    let server = Server::new().await;
    let (id, challenge) = asked(&server).await;
    let (sig, pubkey) = (signed(challenge.as_bytes()), node_key(NODE).to_hex());
    let path = format!("/verify?id={id}&sig={sig}&pubkey={pubkey}");
    token(&server.send(post(&path).empty()).await);
}

#[tokio::test]
async fn anything_wrong_is_406() {
    let server = Server::new().await;
    let pubkey = node_key(NODE).to_hex();
    let (id, challenge) = asked(&server).await;
    let late = server.app.challenges.ask(OffsetDateTime::now_utc() - Duration::seconds(11));
    let (sig, late_sig) = (signed(challenge.as_bytes()), signed(late.challenge.as_bytes()));
    let others = node_key(2).to_hex();
    for form in [
        &[("id", id.as_str()), ("sig", &sig), ("pubkey", &others)][..],
        &[("id", &late.id), ("sig", &late_sig), ("pubkey", &pubkey)],
        &[("id", &challenge), ("sig", &sig), ("pubkey", &pubkey)],
        &[("id", &id), ("sig", &late_sig), ("pubkey", &pubkey)],
        &[("id", &id), ("sig", "%00"), ("pubkey", &pubkey)],
        &[("id", &id), ("sig", &sig)],
        &[],
    ] {
        assert_problem(&server.send(post("/verify").fields(form)).await, 406, "login_refused");
    }
    let huge = post("/verify").fields(&[("id", &"A".repeat(1_000_000))]);
    assert_problem(&server.send(huge).await, 406, "login_refused");
    assert_problem(&server.send(post("/verify").multipart().body("junk".into())).await, 406, "login_refused");
    assert_problem(&server.get("/verify").await, 405, "method_not_allowed");
}

#[tokio::test]
async fn a_login_is_found_in_three_places() {
    let server = Server::new().await;
    let jwt = server.login(NODE);
    for request in [
        get("/mymedia").bearer(&jwt),
        get("/mymedia").header("authorization", &format!("bearer {jwt}")),
        get("/mymedia").header("authorization", "Basic YTpi").bearer(&jwt),
        get(&format!("/mymedia?jwt={jwt}")),
        get("/mymedia").header("cookie", &format!("a=b; jwt={jwt}")),
    ] {
        assert_eq!(server.send(request.empty()).await.status, 200);
    }
}

#[tokio::test]
async fn a_login_that_is_over_or_forged_is_401_wherever_it_is_sent() {
    let server = Server::new().await;
    let over = server.login_from(NODE, false, OffsetDateTime::now_utc() - Duration::days(7) - Duration::seconds(2));
    let muid = server.store("/file", NODE, &[], b"x").await;
    for jwt in [over.as_str(), "a.b.c", "x"] {
        for path in ["/mymedia", &format!("/mymedia/{muid}"), &format!("/media/{muid}"), &format!("/file/{muid}")] {
            for request in [
                get(path).bearer(jwt),
                get(&format!("{path}?jwt={jwt}")),
                get(path).header("cookie", &format!("jwt={jwt}")),
            ] {
                assert_problem(&server.send(request.empty()).await, 401, "invalid_login");
            }
        }
        for path in ["/file", "/upload", "/public", "/largefile"] {
            assert_problem(&server.send(post(path).bearer(jwt).form(&[], b"x")).await, 401, "invalid_login");
            let in_query = post(&format!("{path}?jwt={jwt}")).form(&[], b"x");
            assert_problem(&server.send(in_query).await, 401, "invalid_login");
        }
    }
}

#[tokio::test]
async fn without_a_login_private_routes_are_401() {
    let server = Server::new().await;
    let muid = server.store("/public", NODE, &[], b"x").await;
    for path in
        ["/mymedia", &format!("/mymedia/{muid}"), &format!("/media/{muid}"), &format!("/file/{muid}"), "/file/a.b.c"]
    {
        assert_problem(&server.get(path).await, 401, "login_required");
    }
    for path in ["/file", "/upload", "/public"] {
        assert_problem(&server.send(post(path).form(&[], b"x")).await, 401, "login_required");
    }
}
