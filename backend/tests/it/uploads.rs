//! Uploads that cost nothing.

use sluice_backend::db::Quota;
use sluice_common::limits::FreeUploads;

use crate::support::{MB, Server, assert_problem, get, head, node_key, post};

#[tokio::test]
async fn an_upload_answers_with_its_media() {
    let server = Server::new().await;
    let fields = [("name", "Über"), ("description", "d"), ("price", "50"), ("ttl", "60"), ("tags", "one, two")];
    for path in ["/file", "/upload", "/public"] {
        let answer = server.send(post(path).bearer(&server.login(1)).form(&fields, b"some text")).await;
        assert_eq!((answer.status.as_u16(), answer.header("cache-control")), (200, "private, no-store"));
        let mut json = answer.json();
        for time in ["created", "updated"] {
            assert!(json[time].take().as_str().unwrap().ends_with('Z'));
        }
        assert_eq!(json["public"].take(), path == "/public");
        insta::allow_duplicates! {
            insta::assert_snapshot!(json, @r#"{"created":null,"description":"d","expiry":null,"filename":"note.txt","height":0,"mime":"text/plain","muid":"7614CTcAW24jdsJxLgox1iBTn_Ue6ZUsQYkJ_wkNnXM=","name":"Über","owner_pub_key":"AxuExVZ7EmRAmV0-1aq6BWXXHhg0YEgZ_5wX9enV3QeP","price":50,"public":null,"size":9,"tags":["one","two"],"template":false,"ttl":60,"updated":null,"width":0}"#);
        }
    }
}

#[tokio::test]
async fn the_form_says_whether_a_file_is_public() {
    let server = Server::new().await;
    for (path, field, public) in
        [("/file", "true", true), ("/file", "false", false), ("/public", "false", false), ("/upload", "true", true)]
    {
        let muid = server.store(path, 1, &[("public", field)], format!("{path}{field}").as_bytes()).await;
        let status = server.get(&format!("/public/{muid}")).await.status;
        assert_eq!(status == 200, public, "{path} {field}");
    }
}

#[tokio::test]
async fn owners_of_one_content_do_not_change_each_others_price() {
    let server = Server::new().await;
    let muid = server.store("/file", 1, &[("price", "10"), ("name", "first")], b"same").await;
    assert_eq!(server.store("/public", 2, &[("price", "20"), ("name", "second")], b"same").await, muid);
    for (node, price, name) in [(1, 10, "first"), (2, 20, "second")] {
        let path = format!("/mymedia/{muid}");
        let json = server.send(get(&path).bearer(&server.login(node)).empty()).await.json();
        assert_eq!((&json["price"], &json["name"]), (&price.into(), &name.into()));
        assert_eq!(json["owner_pub_key"], node_key(node).to_string());
    }
    assert_eq!(server.stored_files().await.len(), 1);
}

#[tokio::test]
async fn the_limit_is_exact_and_a_declared_length_past_it_is_refused_at_once() {
    let server = Server::with(|config| {
        config.free_uploads = FreeUploads { restricted: true, max_free_upload_mb: 1 };
    })
    .await;
    let jwt = server.login(1);
    for path in ["/file", "/public"] {
        assert_eq!(server.send(post(path).bearer(&jwt).form(&[], &vec![7; MB])).await.status, 200);
        let answer = server.send(post(path).bearer(&jwt).form(&[], &vec![7; MB + 1])).await;
        assert_problem(&answer, 413, "too_large");
        assert_eq!(answer.json()["limit_bytes"], MB);
        let declared = post(path).bearer(&jwt).multipart().header("content-length", "99999999").empty();
        let answer = server.send(declared).await;
        assert_problem(&answer, 413, "too_large");
        assert_eq!((&answer.json()["limit_bytes"], &answer.json()["size_bytes"]), (&MB.into(), &99_999_999.into()));
    }
    assert_eq!(server.stored_files().await.len(), 1);
}

#[tokio::test]
async fn junk_is_told_apart_and_leaves_nothing() {
    let server = Server::new().await;
    let jwt = server.login(1);
    let upload = |content_type: &'static str, body: &'static str| {
        post("/file").bearer(&jwt).header("content-type", content_type).body(body.into())
    };
    let form = "multipart/form-data; boundary=B";
    for (request, status, code) in [
        (upload("text/plain", "x"), 415, "not_multipart"),
        (post("/file").bearer(&jwt).body("x".into()), 415, "not_multipart"),
        (upload("multipart/form-data", "x"), 400, "malformed_form"),
        (upload(form, "no form"), 400, "malformed_form"),
        (upload(form, "--B\r\nContent-Disposition: form-data; name=\"file\"\r\n\r\nabc"), 400, "malformed_form"),
        (upload(form, "--B--\r\n"), 422, "no_file"),
        (post("/file").bearer(&jwt).form(&[], b""), 400, "empty_file"),
        (post("/file").bearer(&jwt).form(&[("price", "many")], b"x"), 422, "invalid_field"),
        (post("/file").bearer(&jwt).form(&[("file", "another")], b"x"), 422, "two_files"),
    ] {
        let answer = server.send(request).await;
        assert_problem(&answer, status, code);
    }
    assert!(server.stored_files().await.is_empty());
    assert_eq!(server.send(get("/mymedia").bearer(&jwt).empty()).await.json(), serde_json::json!([]));
}

#[tokio::test]
async fn other_routes_and_methods_are_problems_too() {
    let server = Server::new().await;
    let ping = server.get("/ping").await;
    assert_eq!((ping.bytes(), ping.header("content-type")), (&b"\"pong\""[..], "application/json"));
    assert_eq!(server.send(head("/ping").empty()).await.bytes(), b"");
    for path in ["/", "/nothing", "/file/a/b", "/ping/", "/public/"] {
        assert_problem(&server.get(path).await, 404, "no_such_route");
    }
    for (path, allow) in [("/file", "POST"), ("/ask", ""), ("/largefile", "")] {
        let request = http::Request::delete(path).body(axum::body::Body::empty()).unwrap();
        let answer = server.send(request).await;
        assert_problem(&answer, 405, "method_not_allowed");
        assert!(answer.header("allow").contains(allow) && !answer.header("allow").is_empty());
    }
}

#[tokio::test]
async fn nobody_has_more_than_the_quota() {
    let quota = Quota { max_bytes: Some(3 * MB as u64), max_files: Some(2) };
    let server = Server::with(|config| config.quota = quota).await;
    let jwt = server.login(1);
    let put = async |file: &[u8]| server.send(post("/file").bearer(&jwt).form(&[], file)).await;
    let two = vec![2; 2 * MB];
    assert_eq!(put(&two).await.status, 200);
    for (len, size) in [(2 * MB, 2 * MB), (MB + 1, MB + 1)] {
        let answer = put(&vec![3; len]).await;
        assert_problem(&answer, 413, "over_quota");
        let numbers =
            ["limit_bytes", "limit_files", "used_bytes", "used_files"].map(|name| answer.json()[name].clone());
        assert_eq!(numbers, [3 * MB, 2, 2 * MB, 1].map(serde_json::Value::from));
        assert!(answer.json()["size_bytes"].as_u64().unwrap() <= size as u64);
    }
    // What fits exactly, fits; what is there counts once; a file more is one too many.
    assert_eq!(put(&vec![4; MB]).await.status, 200);
    assert_eq!(put(&two).await.status, 200);
    assert_problem(&put(b"x").await, 413, "over_quota");
    assert_eq!(server.send(post("/file").bearer(&server.login(2)).form(&[], b"x")).await.status, 200);
    assert_eq!(server.stored_files().await.len(), 3);
}

#[tokio::test]
async fn no_upload_begins_that_would_take_what_stays_free() {
    let server = Server::with(|config| config.min_free_disk_bytes = u64::MAX).await;
    let answer = server.send(post("/file").bearer(&server.login(1)).form(&[], b"x")).await;
    assert_problem(&answer, 507, "storage_unavailable");
    assert!(server.stored_files().await.is_empty());
    let server = server.reopened_with(|config| config.min_free_disk_bytes = 1).await;
    assert_eq!(server.send(post("/file").bearer(&server.login(1)).form(&[], b"x")).await.status, 200);
}

#[tokio::test]
async fn what_can_never_fit_is_refused_from_its_declared_length() {
    let server = Server::with(|config| config.quota = Quota { max_bytes: Some(MB as u64), max_files: None }).await;
    let answer = server.send(post("/file").bearer(&server.login(1)).form(&[], &vec![3; 4 * MB])).await;
    assert_problem(&answer, 413, "over_quota");
    // The least that it can be: nobody has read it.
    assert!(answer.json()["size_bytes"].as_u64().unwrap() < 4 * MB as u64);
}
