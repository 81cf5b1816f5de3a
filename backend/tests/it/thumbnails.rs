//! `?thumb=true` and `?medium=true`: small pictures of large ones.

use std::io::Cursor;

use image::{DynamicImage, ImageFormat, Rgb, RgbImage, RgbaImage};
use sluice_backend::db::Variant;

use crate::support::{Server, assert_problem, delete, eventually, get, head, post};

pub fn picture(width: u32, height: u32, format: ImageFormat) -> Vec<u8> {
    let picture: DynamicImage = match format {
        ImageFormat::Png => RgbaImage::from_fn(width, height, |x, y| image::Rgba([x as u8, y as u8, 9, 128])).into(),
        _ => RgbImage::from_fn(width, height, |x, y| Rgb([x as u8, y as u8, 9])).into(),
    };
    let mut file = Cursor::new(Vec::new());
    picture.write_to(&mut file, format).unwrap();
    file.into_inner()
}

pub async fn upload(server: &Server, path: &str, filename: &str, mime: &str, file: &[u8]) -> String {
    let answer = server.send(post(path).bearer(&server.login(1)).picture(&[], filename, mime, file)).await;
    assert_eq!(answer.status, 200, "{answer:?}");
    answer.json()["muid"].as_str().unwrap().to_owned()
}

#[tokio::test]
async fn a_public_picture_in_both_sizes() {
    for server in Server::on_each_database().await {
        let file = picture(500, 300, ImageFormat::Jpeg);
        let muid = upload(&server, "/public", "cat \u{e9}.jpeg", "image/jpeg", &file).await;
        for (query, side) in [("thumb=true", 60), ("medium=true", 400), ("thumb=true&medium=true", 400)] {
            let answer = server.get(&format!("/public/{muid}?{query}")).await;
            assert_eq!((answer.status.as_u16(), answer.header("content-type")), (200, "image/jpeg"), "{answer:?}");
            let made = image::load_from_memory_with_format(answer.bytes(), ImageFormat::Jpeg).unwrap();
            assert_eq!((made.width(), made.height()), (side, side));
            assert_eq!(answer.header("content-length"), answer.bytes().len().to_string());
            assert!(answer.header("content-disposition").ends_with("''cat%20%C3%A9.jpg"), "{answer:?}");
            assert!(answer.header("cache-control").starts_with("public"));

            let etag = answer.header("etag").to_owned();
            let again =
                server.send(get(&format!("/public/{muid}?{query}")).header("if-none-match", &etag).empty()).await;
            assert_eq!((again.status.as_u16(), again.bytes().len()), (304, 0));
            let asked = server.send(head(&format!("/public/{muid}?{query}")).empty()).await;
            assert_eq!((asked.header("content-length"), asked.bytes().len()), (answer.header("content-length"), 0));
            // A part is none of a picture.
            let part = server.send(get(&format!("/public/{muid}?{query}")).header("range", "bytes=0-1").empty()).await;
            assert_eq!((part.status.as_u16(), part.bytes()), (200, answer.bytes()));
        }
        for query in ["", "?thumb=false", "?medium=false&thumb=false", "?other=true"] {
            assert_eq!(server.get(&format!("/public/{muid}{query}")).await.bytes(), file, "{query}");
        }
        for query in ["thumb=maybe", "thumb=", "medium", "thumb=1"] {
            assert_problem(&server.get(&format!("/public/{muid}?{query}")).await, 400, "invalid_query");
        }
    }
}

#[tokio::test]
async fn a_picture_is_made_once_and_kept_and_goes_with_its_file() {
    for server in Server::on_each_database().await {
        let muid = upload(&server, "/public", "cat.png", "image/png", &picture(90, 90, ImageFormat::Png)).await;
        let path = format!("/public/{muid}?thumb=true");
        let first = server.get(&path).await;
        assert_eq!(first.header("content-type"), "image/png");
        assert!(first.header("content-disposition").contains("cat.png"));
        assert_eq!(server.stored_files().await.len(), 2);
        let kept = server.app.db.content(muid.parse().unwrap(), Variant::Thumb).await.unwrap().unwrap();
        assert!(kept.sealing.is_some());
        assert_eq!(server.get(&path).await.bytes(), first.bytes());
        assert_eq!(server.stored_files().await.len(), 2);

        // One that is lost is made again.
        let lost =
            server.stored_files().await.into_iter().find(|file| file.ends_with(kept.store_key.as_str())).unwrap();
        std::fs::remove_file(lost).unwrap();
        assert_eq!(server.get(&path).await.bytes(), first.bytes());
        assert_eq!(server.stored_files().await.len(), 2);

        let answer = server.send(delete(&format!("/mymedia/{muid}")).bearer(&server.login(1)).empty()).await;
        assert_eq!(answer.status, 204);
        eventually(async || server.stored_files().await.is_empty()).await;
        assert_problem(&server.get(&path).await, 404, "no_such_file");
    }
}

#[tokio::test]
async fn many_who_ask_at_once_get_the_same() {
    for server in Server::on_each_database().await {
        let muid = upload(&server, "/public", "cat.gif", "image/gif", &picture(200, 100, ImageFormat::Gif)).await;
        let path = format!("/public/{muid}?medium=true");
        let answers = futures_util::future::join_all((0..20).map(|_| server.get(&path))).await;
        assert!(answers.iter().all(|answer| answer.status == 200 && answer.bytes() == answers[0].bytes()));
        assert_eq!(server.stored_files().await.len(), 2);
    }
}

#[tokio::test]
async fn what_is_no_picture_has_none() {
    for server in Server::on_each_database().await {
        let note = server.store("/public", 1, &[], b"some text").await;
        let broken = picture(50, 50, ImageFormat::Png);
        let broken = upload(&server, "/public", "a.png", "image/png", &broken[..broken.len() / 2]).await;
        let mut bomb = picture(50, 50, ImageFormat::Gif);
        bomb[6..10].fill(0xff);
        let bomb = upload(&server, "/public", "a.gif", "image/gif", &bomb).await;
        for (muid, status, code) in
            [(note, 415, "not_a_picture"), (broken, 422, "broken_picture"), (bomb, 413, "picture_too_large")]
        {
            for size in ["thumb", "medium"] {
                assert_problem(&server.get(&format!("/public/{muid}?{size}=true")).await, status, code);
            }
            assert_eq!(server.get(&format!("/public/{muid}")).await.status, 200, "the file is there all the same");
        }
        assert_eq!(server.stored_files().await.len(), 3);
    }
}

#[tokio::test]
async fn of_a_private_picture_for_its_owner_alone() {
    for server in Server::on_each_database().await {
        let muid = upload(&server, "/file", "cat.webp", "image/webp", &picture(80, 80, ImageFormat::WebP)).await;
        assert_problem(&server.get(&format!("/public/{muid}?thumb=true")).await, 404, "no_such_file");
        let path = format!("/file/{muid}?thumb=true");
        let answer = server.send(get(&path).bearer(&server.login(1)).empty()).await;
        assert_eq!((answer.status.as_u16(), answer.header("content-type")), (200, "image/jpeg"));
        assert_eq!(answer.header("cache-control"), "private, no-store");
        assert_problem(&server.send(get(&path).bearer(&server.login(2)).empty()).await, 404, "no_such_file");
        assert_problem(&server.get(&path).await, 401, "login_required");
    }
}
