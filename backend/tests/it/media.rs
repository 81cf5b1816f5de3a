//! `/media` and `/mymedia`: what files are, for whom.

use serde_json::json;

use crate::support::{Server, assert_problem, get, head};

const NONE: &str = "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=";

#[tokio::test]
async fn my_media_are_mine_alone() {
    let server = Server::new().await;
    let first = server.store("/file", 1, &[], b"one").await;
    let second = server.store("/public", 1, &[], b"two").await;
    let others = server.store("/public", 2, &[], b"three").await;
    let jwt = server.login(1);
    let list = server.send(get("/mymedia").bearer(&jwt).empty()).await.json();
    let muids: Vec<_> = list.as_array().unwrap().iter().map(|media| media["muid"].as_str().unwrap()).collect();
    assert_eq!(muids, [&second, &first]);
    assert_eq!(server.send(get(&format!("/mymedia/{first}")).bearer(&jwt).empty()).await.json(), list[1]);
    for path in [others.as_str(), NONE, "junk"] {
        let answer = server.send(get(&format!("/mymedia/{path}")).bearer(&jwt).empty()).await;
        assert_problem(&answer, 404, "no_such_file");
    }
    let answer = server.send(head("/mymedia").bearer(&jwt).empty()).await;
    assert_eq!((answer.status.as_u16(), answer.bytes()), (200, &b""[..]));
}

#[tokio::test]
async fn of_a_private_file_strangers_learn_what_a_download_needs() {
    let server = Server::new().await;
    let muid = server.store("/file", 1, &[("price", "7")], b"some text").await;
    let of = async |node| server.send(get(&format!("/media/{muid}")).bearer(&server.login(node)).empty()).await.json();
    assert_eq!(of(1).await["price"], 7);
    let filename_alone =
        json!({"muid": muid, "filename": "note.txt", "size": 9, "mime": "text/plain", "width": 0, "height": 0});
    assert_eq!(of(2).await, filename_alone);

    // Another owner makes it public: that row speaks for it to strangers, the first owner still sees the own one.
    server.store("/public", 3, &[("price", "8")], b"some text").await;
    assert_eq!(of(2).await["price"], 8);
    assert_eq!(of(1).await["price"], 7);
    let answer = server.send(get(&format!("/media/{NONE}")).bearer(&server.login(1)).empty()).await;
    assert_problem(&answer, 404, "no_such_file");
}
