//! Uploads whose answer was lost, sent again with a token that stores nothing more.

use axum::body::{Body, Bytes};
use futures_util::stream;
use sluice_common::{
    clock::unix_now,
    l402::{Credential, ServiceTerms},
};
use tokio::sync::mpsc;

use crate::{
    largefile::{status, upload},
    support::{MB, Server, assert_problem, delete, eventually, form, post, terms},
};

#[tokio::test]
async fn what_an_expired_token_stored_may_be_sent_again_and_nothing_else() {
    let server = Server::new().await;
    let short = |max_uses| ServiceTerms { valid_for_secs: Some(2), max_uses, ..terms() };
    let [used_up, has_uses, any] =
        [Some(1), Some(2), None].map(|uses| server.credential_of(&short(uses), unix_now(), &[]));
    let mut stored = Vec::new();
    for credential in [&used_up, &has_uses, &any] {
        stored.push(upload(&server, credential, b"its answer was lost").await.json());
    }
    let files = server.stored_files().await.len();
    for (credential, stored) in [&used_up, &has_uses, &any].into_iter().zip(stored) {
        eventually(async || status(&server, credential).await["reason"] == "expired").await;
        let again = upload(&server, credential, b"its answer was lost").await;
        assert_eq!((again.status.as_u16(), again.json()), (200, stored));
        for other in [&b"its answer was list"[..], &[7; 10_000]] {
            let answer = upload(&server, credential, other).await;
            assert_problem(&answer, 402, "expired");
            assert_eq!(answer.header("sluice-payment-required"), "expired");
        }
        // Of a use that was stored, five within the hour; the longer one was none.
        for _ in 0..3 {
            assert_eq!(upload(&server, credential, b"its answer was lost").await.status, 200);
        }
        assert_problem(&upload(&server, credential, b"its answer was lost").await, 429, "too_many_retries");
        let stored = status(&server, credential).await["stored"].as_array().unwrap().len();
        assert_eq!(stored, 1, "nothing more is stored");
    }
    assert_eq!(server.stored_files().await.len(), files);
    let idle = server.credential_minted_at(unix_now() - 3_600, &[]);
    assert_problem(&upload(&server, &idle, b"its answer was lost").await, 402, "expired");
}

fn chunked(credential: &Credential, file: &[u8]) -> http::Request<Body> {
    let body = Body::from_stream(stream::iter([Ok::<_, std::io::Error>(form(&[], file))]));
    post("/largefile").credential(credential).multipart().body(body)
}

#[tokio::test]
async fn a_lost_answer_is_given_again_to_the_same_content() {
    for server in Server::on_each_database().await {
        let credential = server.credential(&[]);
        let file = vec![7; MB];
        let stored = upload(&server, &credential, &file).await.json();
        // Its form may say something else: what is stored stays.
        let again = post("/largefile").credential(&credential).form(&[("name", "another")], &file);
        for request in [again, chunked(&credential, &file)] {
            let answer = server.send(request).await;
            assert_eq!((answer.status.as_u16(), answer.json()), (200, stored.clone()));
            assert_eq!(answer.header("sluice-stored-before"), "true", "it was sold once");
        }
        let mut other = file.clone();
        other[MB - 1] ^= 1;
        assert_problem(&upload(&server, &credential, &other).await, 402, "used_up");
        assert_problem(&server.send(chunked(&credential, b"other")).await, 402, "used_up");
        // Not read at all, so it does not count: nothing of this length was stored.
        for _ in 0..10 {
            let answer = upload(&server, &credential, &file[..MB - 5_000]).await;
            assert_problem(&answer, 402, "used_up");
            assert_eq!(answer.header("sluice-payment-required"), "used_up");
        }
        // As another owner it would be another upload.
        let login = server.login(1);
        let of_login = post("/largefile").credential(&credential).bearer(&login).form(&[], &file);
        assert_problem(&server.send(of_login).await, 402, "used_up");
        let answer = upload(&server, &credential, &file).await;
        assert_problem(&answer, 429, "too_many_retries");
        assert!(answer.header("retry-after").parse::<u32>().unwrap() > 3_000, "{answer:?}");
        assert_eq!(answer.header("sluice-payment-required"), "", "nobody is asked for money");

        assert_eq!(status(&server, &credential).await["stored"].as_array().unwrap().len(), 1);
        assert_eq!(server.stored_files().await.len(), 1);
        // The limit is in the database.
        let server = server.reopened_with(|_| {}).await;
        assert_problem(&upload(&server, &credential, &file).await, 429, "too_many_retries");
    }
}

#[tokio::test]
async fn what_is_gone_is_no_answer() {
    let server = Server::new().await;
    let credential = server.credential(&[]);
    let muid = upload(&server, &credential, b"gone").await.json()["muid"].as_str().unwrap().to_owned();
    let delete = delete(&format!("/mymedia/{muid}")).credential(&credential).empty();
    assert_eq!(server.send(delete).await.status, 204);
    assert_problem(&upload(&server, &credential, b"gone").await, 402, "used_up");

    let credential = server.credential(&[]);
    assert_eq!(upload(&server, &credential, b"lost").await.status, 200);
    for path in server.stored_files().await {
        std::fs::remove_file(path).unwrap();
    }
    assert_problem(&upload(&server, &credential, b"lost").await, 402, "used_up");
}

#[tokio::test]
async fn while_a_lost_answer_is_looked_for_others_wait() {
    let server = Server::new().await;
    let credential = server.credential(&[]);
    assert_eq!(upload(&server, &credential, b"first").await.status, 200);
    let (pieces, coming) = mpsc::channel::<Bytes>(1);
    let body = Body::from_stream(stream::unfold(coming, async |mut coming| {
        coming.recv().await.map(|piece| (Ok::<_, std::io::Error>(piece), coming))
    }));
    let slow = server.send(post("/largefile").credential(&credential).multipart().body(body));
    let rest = async {
        let form = form(&[], b"first");
        let (one, rest) = form.split_at(10);
        let (two, three) = rest.split_at(10);
        // There is room for the second once the first is read, so it has begun then.
        for piece in [one, two] {
            pieces.send(piece.to_vec().into()).await.unwrap();
        }
        let answer = upload(&server, &credential, b"first").await;
        assert_problem(&answer, 429, "too_many_retries");
        pieces.send(three.to_vec().into()).await.unwrap();
        drop(pieces);
    };
    let (slow, ()) = tokio::join!(slow, rest);
    assert_eq!(slow.status, 200, "{slow:?}");
}

#[tokio::test]
async fn what_a_token_has_stored_before_is_told_to_the_gateway() {
    for server in Server::on_each_database().await {
        let credential = server.credential_of(&ServiceTerms { max_uses: Some(3), ..terms() }, unix_now(), &[]);
        for (file, said) in [(b"one", ""), (b"one", "true"), (b"two", ""), (b"one", "true")] {
            let answer = upload(&server, &credential, file).await;
            assert_eq!((answer.status.as_u16(), answer.header("sluice-stored-before")), (200, said), "{file:?}");
        }
    }
}
