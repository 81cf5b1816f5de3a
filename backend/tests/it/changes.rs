//! Changing, deleting and selling files: `PUT` and `DELETE /mymedia/{muid}`, `PUT /purchase/{muid}`.

use axum::body::Body;
use serde_json::{Value, json};
use time::OffsetDateTime;

use crate::support::{Server, assert_problem, delete, eventually, get, post, put};

const NONE: &str = "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=";

async fn mine(server: &Server, node: u8, muid: &str) -> Value {
    server.send(get(&format!("/mymedia/{muid}")).bearer(&server.login(node)).empty()).await.json()
}

#[tokio::test]
async fn what_is_named_changes_and_the_rest_stays() {
    for server in Server::on_each_database().await {
        let muid =
            server.store("/file", 1, &[("name", "old"), ("price", "5"), ("tags", "a,b"), ("ttl", "60")], b"x").await;
        let path = format!("/mymedia/{muid}");
        let jwt = server.login(1);
        let before = mine(&server, 1, &muid).await;

        let changed = server.send(put(&path).bearer(&jwt).json(&json!({"name": "Über", "price": null}))).await;
        assert_eq!(changed.status, 200, "{changed:?}");
        let mut wanted = before.clone();
        wanted["name"] = "Über".into();
        wanted["updated"] = changed.json()["updated"].clone();
        assert_eq!(changed.json(), wanted);
        assert_eq!(mine(&server, 1, &muid).await, wanted);

        let all = json!({"name": "", "description": "", "price": 0, "tags": ["c", "d,e"], "ttl": 7, "public": true});
        let changed = server.send(put(&path).bearer(&jwt).json(&all)).await.json();
        assert_eq!((&changed["name"], &changed["description"], &changed["price"]), (&"".into(), &"".into(), &0.into()));
        assert_eq!(
            (&changed["tags"], &changed["ttl"], &changed["public"]),
            (&json!(["c", "d", "e"]), &7.into(), &true.into())
        );
        assert_eq!(server.get(&format!("/public/{muid}")).await.status, 200);

        let form = [("name", "from a form"), ("name", "second"), ("tags", "f, g"), ("ttl", "0"), ("public", "false")];
        let changed = server.send(put(&path).bearer(&jwt).fields(&form)).await.json();
        assert_eq!((&changed["name"], &changed["tags"]), (&"from a form".into(), &json!(["f", "g"])));
        assert_eq!((&changed["ttl"], &changed["public"]), (&31_536_000.into(), &false.into()));
        assert_problem(&server.get(&format!("/public/{muid}")).await, 404, "no_such_file");
        assert_eq!(server.send(put(&path).bearer(&jwt).json(&json!({}))).await.status, 200);
    }
}

#[tokio::test]
async fn what_cannot_be_changed_changes_nothing() {
    for server in Server::on_each_database().await {
        let muid = server.store("/file", 1, &[("price", "5")], b"x").await;
        let (path, jwt) = (format!("/mymedia/{muid}"), server.login(1));
        let before = mine(&server, 1, &muid).await;
        for (json, code) in [
            (json!({"price": -1}), "invalid_field"),
            (json!({"name": "n".repeat(1_025)}), "invalid_field"),
            (json!({"name": "a\0b"}), "invalid_field"),
            (json!({"tags": vec!["t"; 65]}), "invalid_field"),
            (json!({"price": "5"}), "malformed_change"),
            (json!({"price": 1.5}), "malformed_change"),
            (json!({"expiry": 5}), "malformed_change"),
            (json!({"owner_pub_key": "x"}), "malformed_change"),
            (json!([]), "malformed_change"),
            (json!(7), "malformed_change"),
        ] {
            assert_problem(&server.send(put(&path).bearer(&jwt).json(&json)).await, 422, code);
        }
        for (name, value) in [("price", "many"), ("expiry", "5"), ("owner", "x"), ("public", "maybe")] {
            assert_problem(&server.send(put(&path).bearer(&jwt).fields(&[(name, value)])).await, 422, "invalid_field");
        }
        for content_type in ["text/plain", "multipart/form-data; boundary=x", "junk"] {
            let request = put(&path).bearer(&jwt).header("content-type", content_type).body("{}".into());
            assert_problem(&server.send(request).await, 415, "unsupported_media_type");
        }
        let long = "d".repeat(200_000);
        for request in [
            put(&path).bearer(&jwt).json(&json!({"description": long})),
            put(&path).bearer(&jwt).fields(&[("description", &long)]),
        ] {
            let answer = server.send(request).await;
            assert_problem(&answer, 413, "body_too_large");
            let problem = answer.json();
            assert_eq!(problem["limit_bytes"], 131_072);
            assert!(problem["detail"].as_str().unwrap().starts_with("the body is longer than"), "{problem}");
        }
        let broken =
            futures_util::stream::iter([Ok("{"), Err(std::io::Error::from(std::io::ErrorKind::ConnectionReset))]);
        let broken = put(&path).bearer(&jwt).header("content-type", "application/json").body(Body::from_stream(broken));
        assert_problem(&server.send(broken).await, 400, "incomplete_body");
        assert_eq!(mine(&server, 1, &muid).await, before);
    }
}

#[tokio::test]
async fn only_an_owner_changes_sells_and_deletes() {
    for server in Server::on_each_database().await {
        let muid = server.store("/public", 1, &[], b"x").await;
        let readonly = server.login_from(1, true, OffsetDateTime::now_utc());
        let requests = |muid: &str| {
            [put(&format!("/mymedia/{muid}")), delete(&format!("/mymedia/{muid}")), put(&format!("/purchase/{muid}"))]
        };
        for request in requests(&muid) {
            assert_problem(&server.send(request.json(&json!({}))).await, 401, "login_required");
        }
        for request in requests(&muid) {
            assert_problem(&server.send(request.bearer(&readonly).json(&json!({}))).await, 401, "readonly_login");
        }
        for muid in [&muid, NONE, "junk"] {
            for request in requests(muid) {
                assert_problem(
                    &server.send(request.bearer(&server.login(2)).json(&json!({}))).await,
                    404,
                    "no_such_file",
                );
            }
        }
        assert_eq!(server.get(&format!("/public/{muid}")).await.status, 200);
    }
}

#[tokio::test]
async fn a_sale_counts_and_is_the_owners_alone_to_know() {
    for server in Server::on_each_database().await {
        let muid = server.store("/public", 1, &[("price", "50"), ("ttl", "60")], b"x").await;
        server.store("/public", 2, &[("price", "7")], b"x").await;
        for sales in 1..=2 {
            let answer = server.send(put(&format!("/purchase/{muid}")).bearer(&server.login(1)).empty()).await;
            assert_eq!((answer.status.as_u16(), answer.json()), (200, json!({"muid": muid, "price": 50, "ttl": 60})));
            let media = mine(&server, 1, &muid).await;
            assert_eq!((&media["total_buys"], &media["total_sats"]), (&sales.into(), &(sales * 50).into()));
        }
        assert!(mine(&server, 2, &muid).await.get("total_buys").is_none());
        let info = server.send(get(&format!("/media/{muid}")).bearer(&server.login(1)).empty()).await.json();
        assert!(info.get("total_sats").is_none() && info["price"] == 50);
    }
}

#[tokio::test]
async fn the_bytes_go_with_the_last_owner() {
    for server in Server::on_each_database().await {
        let muid = server.store("/file", 1, &[], b"shared").await;
        server.store("/public", 2, &[], b"shared").await;
        let remove = async |node| {
            let answer = server.send(delete(&format!("/mymedia/{muid}")).bearer(&server.login(node)).empty()).await;
            (answer.status.as_u16(), answer.bytes().len())
        };
        assert_eq!(remove(1).await, (204, 0));
        assert_eq!(remove(1).await.0, 404);
        assert_eq!(server.get(&format!("/public/{muid}")).await.bytes(), b"shared");
        assert_eq!(remove(2).await, (204, 0));
        assert_problem(&server.get(&format!("/public/{muid}")).await, 404, "no_such_file");
        eventually(async || server.stored_files().await.is_empty()).await;
    }
}

#[tokio::test]
async fn who_paid_without_a_login_owns_what_was_stored() {
    for server in Server::on_each_database().await {
        let credential = server.credential(&[]);
        let answer = server.send(post("/largefile").credential(&credential).form(&[], b"paid")).await;
        let muid = answer.json()["muid"].as_str().unwrap().to_owned();
        let path = format!("/mymedia/{muid}");
        let changed = server.send(put(&path).credential(&credential).json(&json!({"name": "mine", "price": 3}))).await;
        assert_eq!((changed.status.as_u16(), &changed.json()["name"]), (200, &"mine".into()));
        let sold = server.send(put(&format!("/purchase/{muid}")).credential(&credential).empty()).await;
        assert_eq!(sold.json()["price"], 3);
        // Another one does not; nor does it with a login beside it that owns nothing.
        let other = server.credential(&[]);
        assert_problem(&server.send(delete(&path).credential(&other).empty()).await, 404, "no_such_file");
        let both = delete(&path).bearer(&server.login(9)).credential(&credential);
        assert_eq!(server.send(both.empty()).await.status, 204);
        assert_eq!(server.send(get("/mymedia").credential(&credential).empty()).await.json(), json!([]));
    }
}
