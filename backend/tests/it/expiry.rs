//! Files that are over: 410 from that second on, on every route.

use image::ImageFormat;
use serde_json::json;
use time::OffsetDateTime;

use crate::{
    support::{Server, assert_problem, delete, get, post, put},
    thumbnails::picture,
};

#[tokio::test]
async fn every_route_says_that_a_file_is_over() {
    for server in Server::on_each_database().await {
        let now = OffsetDateTime::now_utc().unix_timestamp();
        let (over, later) = ((now - 1).to_string(), (now + 3_600).to_string());
        let picture = picture(9, 9, ImageFormat::Png);
        let upload = async |path: &str, node, expiry: &str| {
            let request = post(path).bearer(&server.login(node)).picture(
                &[("expiry", expiry), ("public", "true"), ("name", "cat")],
                "a.png",
                "image/png",
                &picture,
            );
            let answer = server.send(request).await;
            assert_eq!(answer.status, 200, "{answer:?}");
            answer.json()["muid"].as_str().unwrap().to_owned()
        };
        let muid = upload("/template", 1, &over).await;
        let jwt = server.login(1);
        let requests = || {
            [
                get(&format!("/public/{muid}")),
                get(&format!("/public/{muid}?thumb=true")),
                get(&format!("/file/{muid}")),
                get(&format!("/media/{muid}")),
                get(&format!("/mymedia/{muid}")),
                get(&format!("/template/{muid}")),
                put(&format!("/mymedia/{muid}")),
                put(&format!("/purchase/{muid}")),
                delete(&format!("/mymedia/{muid}")),
            ]
        };
        for request in requests() {
            assert_problem(&server.send(request.bearer(&jwt).json(&json!({}))).await, 410, "file_expired");
        }
        for list in ["/mymedia", "/templates", "/search/cat"] {
            assert_eq!(server.send(get(list).bearer(&jwt).empty()).await.json(), json!([]), "{list}");
        }
        let of_another = server.send(get(&format!("/mymedia/{muid}")).bearer(&server.login(2)).empty()).await;
        assert_problem(&of_another, 404, "no_such_file");

        // Another owner's row counts on.
        upload("/public", 2, &later).await;
        assert_eq!(server.get(&format!("/public/{muid}")).await.bytes(), picture);
        assert_problem(&server.send(get(&format!("/mymedia/{muid}")).bearer(&jwt).empty()).await, 410, "file_expired");
    }
}
