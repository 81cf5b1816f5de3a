//! `/template` and `/templates`.

use image::ImageFormat;

use crate::{
    support::{Server, assert_problem, get, node_key, post},
    thumbnails::picture,
};

#[tokio::test]
async fn a_template_is_measured_stored_whole_and_listed_for_everybody() {
    for server in Server::on_each_database().await {
        let mut muids = vec![];
        for (format, mime) in [
            (ImageFormat::Jpeg, "image/jpeg"),
            (ImageFormat::Png, "image/png"),
            (ImageFormat::Gif, "image/gif"),
            (ImageFormat::WebP, "image/webp"),
        ] {
            let file = picture(64, 48, format);
            let fields = [("name", mime), ("price", "5")];
            let answer =
                server.send(post("/template").bearer(&server.login(1)).picture(&fields, "meme", mime, &file)).await;
            let json = answer.json();
            assert_eq!(
                (answer.status.as_u16(), &json["width"], &json["height"]),
                (200, &64.into(), &48.into()),
                "{json}"
            );
            assert_eq!(
                (&json["template"], &json["public"], &json["mime"]),
                (&true.into(), &false.into(), &mime.into())
            );
            let muid = json["muid"].as_str().unwrap().to_owned();
            let got = server.send(get(&format!("/template/{muid}")).bearer(&server.login(2)).empty()).await;
            assert_eq!((got.status.as_u16(), got.bytes(), got.header("content-type")), (200, &file[..], mime));
            let thumb =
                server.send(get(&format!("/template/{muid}?thumb=true")).bearer(&server.login(2)).empty()).await;
            assert_eq!(thumb.status, 200);
            muids.push(muid);
        }
        let list = server
            .send(get("/templates").bearer(&server.login_from(3, true, time::OffsetDateTime::now_utc())).empty())
            .await;
        let list: Vec<_> =
            list.json().as_array().unwrap().iter().map(|media| media["muid"].as_str().unwrap().to_owned()).collect();
        muids.reverse();
        assert_eq!(list, muids);
        for path in ["/templates".to_owned(), format!("/template/{}", muids[0])] {
            assert_problem(&server.get(&path).await, 401, "login_required");
        }
    }
}

#[tokio::test]
async fn a_file_that_is_no_template_is_not_given() {
    for server in Server::on_each_database().await {
        let file = picture(8, 8, ImageFormat::Png);
        let private =
            server.send(post("/file").bearer(&server.login(1)).picture(&[], "a.png", "image/png", &file)).await;
        let path = format!("/template/{}", private.json()["muid"].as_str().unwrap());
        assert_problem(&server.send(get(&path).bearer(&server.login(2)).empty()).await, 404, "no_such_file");
        // Another owner makes it one, whatever the first owner's row says.
        server.send(post("/template").bearer(&server.login(3)).picture(&[], "b.png", "image/png", &file)).await;
        let answer = server.send(get(&path).bearer(&server.login(2)).empty()).await;
        assert_eq!(answer.header("content-disposition"), "attachment; filename=\"b.png\"");
    }
}

#[tokio::test]
async fn only_a_picture_becomes_a_template() {
    for server in Server::on_each_database().await {
        let png = picture(50, 50, ImageFormat::Png);
        let mut bomb = picture(50, 50, ImageFormat::Gif);
        bomb[6..10].fill(0xff);
        for (file, status, code) in [
            (&b"some text"[..], 415, "not_a_picture"),
            (&png[..20], 422, "broken_picture"),
            (&bomb, 413, "picture_too_large"),
            (b"", 400, "empty_file"),
        ] {
            let upload = post("/template").bearer(&server.login(1)).picture(&[], "a.png", "image/png", file);
            assert_problem(&server.send(upload).await, status, code);
        }
        assert!(server.stored_files().await.is_empty());
    }
}

#[tokio::test]
async fn who_may_add_templates_is_configured() {
    let server = Server::with(|config| config.template_uploaders = Some(vec![node_key(1)])).await;
    let upload =
        |jwt: &str| post("/template").bearer(jwt).picture(&[], "a.png", "image/png", &picture(8, 8, ImageFormat::Png));
    assert_eq!(server.send(upload(&server.login(1))).await.status, 200);
    assert_problem(&server.send(upload(&server.login(2))).await, 403, "templates_not_allowed");
    let readonly = server.login_from(1, true, time::OffsetDateTime::now_utc());
    assert_problem(&server.send(upload(&readonly)).await, 401, "readonly_login");
    let paid = post("/template").credential(&server.credential(&[]));
    assert_problem(&server.send(paid.picture(&[], "a.png", "image/png", b"x")).await, 401, "login_required");
}
