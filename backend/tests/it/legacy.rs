//! A deployment that a real sphinx-meme left (`testdata/sphinx-meme`), served: its table in PostgreSQL, its folder, its
//! keys. `expected.json` says what the real program answered.

mod deployment;
mod in_s3;

use std::{collections::BTreeMap, fs};

use percent_encoding::percent_decode_str;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use sluice_backend::{
    config::{DatabaseConfig, StoreConfig},
    db::PostgresConfig,
    legacy,
    sweeper::sweep_once,
};
use sluice_common::secret::Secret;
use sluice_testing::postgres;
use time::OffsetDateTime;
use tokio_util::sync::CancellationToken;

use self::deployment::{Deployment, EXPECTED, all_media, jwt, muid};
use crate::support::{Answer, Server, assert_problem, get, head};

async fn ask_as(server: &Server, owner: &str, path: &str) -> Answer {
    server.send(get(path).bearer(&jwt(owner)).empty()).await
}

/// The name that a client saves a file under.
fn saved_as(disposition: &str) -> String {
    let parameter = |name: &str| disposition.split("; ").find_map(|part| part.strip_prefix(name));
    match parameter("filename*=UTF-8''") {
        Some(name) => percent_decode_str(name).decode_utf8().unwrap().into_owned(),
        None => parameter("filename=").unwrap().trim_matches('"').to_owned(),
    }
}

/// The file itself, with the headers that clients go by.
fn assert_is_the_file(answer: &Answer, media: &Value) {
    let said = format!("{media:#}\n{answer:?}");
    assert_eq!(answer.status, 200, "{said}");
    assert_eq!(hex::encode(Sha256::digest(answer.bytes())), media["stored_sha256"], "{said}");
    let headers = &media["headers"];
    assert_eq!(answer.header("content-type"), headers["Content-Type"], "{said}");
    let disposition = headers["Content-Disposition"].as_str().unwrap();
    assert_eq!(saved_as(answer.header("content-disposition")), saved_as(disposition), "{said}");
    // The old server said a length only where it was a short one.
    assert_eq!(answer.header("content-length"), answer.bytes().len().to_string(), "{said}");
    if let Some(len) = headers["Content-Length"].as_str() {
        assert_eq!(answer.header("content-length"), len, "{said}");
    }
}

/// All that was said of a row, and whether it is public, which nobody said.
fn assert_is_the_row(row: &Value, expected: &Value) {
    let mut row = row.clone();
    assert_eq!(row.as_object_mut().unwrap().remove("public"), Some(json!(true)));
    assert_eq!(&row, expected);
}

/// Everything in `expected.json` that the routes answer. New routes add a line.
async fn assert_is_all_there(server: &Server) {
    public_files(server).await;
    owned_rows(server).await;
    media_rows(server).await;
    files_of_owners(server).await;
    media_tokens(server).await;
    searches(server).await;
}

async fn public_files(server: &Server) {
    for media in all_media() {
        let path = format!("/public/{}", muid(media));
        let answer = server.get(&path).await;
        assert_eq!(answer.status.as_u16(), media["public_status"], "{media:#}");
        assert_is_the_file(&answer, media);
        let headers = server.send(head(&path).empty()).await;
        assert_eq!(headers.header("content-length"), answer.header("content-length"));
        if answer.bytes().len() > 70_000 {
            let part = server.send(get(&path).header("range", "bytes=65530-65545").empty()).await;
            assert_eq!((part.status.as_u16(), part.bytes()), (206, &answer.bytes()[65_530..65_546]));
        }
    }
}

async fn owned_rows(server: &Server) {
    for owner in ["alice", "bob"] {
        let list = ask_as(server, owner, "/mymedia").await.json();
        let list: BTreeMap<_, _> =
            list.as_array().unwrap().iter().map(|row| (row["muid"].as_str().unwrap().to_owned(), row)).collect();
        let mut owned = 0;
        for media in all_media().filter(|media| media["owner"] == owner) {
            assert_is_the_row(list[&muid(media)], &media["mymedia"]);
            let one = ask_as(server, owner, &format!("/mymedia/{}", muid(media))).await;
            assert_is_the_row(&one.json(), &media["mymedia"]);
            owned += 1;
        }
        assert_eq!(list.len(), owned, "{owner}");
    }
}

async fn media_rows(server: &Server) {
    for media in all_media() {
        for owner in ["alice", "bob"] {
            let row = ask_as(server, owner, &format!("/media/{}", muid(media))).await;
            assert_is_the_row(&row.json(), &media["mymedia"]);
        }
    }
}

async fn files_of_owners(server: &Server) {
    for media in all_media() {
        let path = format!("/file/{}", muid(media));
        for owner in ["alice", "bob"] {
            let answer = ask_as(server, owner, &path).await;
            match media["owner"] == owner {
                true => assert_is_the_file(&answer, media),
                false => assert_problem(&answer, 404, "no_such_file"),
            }
        }
    }
}

async fn media_tokens(server: &Server) {
    let all = EXPECTED["media_tokens"].as_array().unwrap();
    assert_eq!(all.len(), 2);
    for token in all {
        let path = format!("/file/{}", token["token"].as_str().unwrap());
        let answer = ask_as(server, "bob", &path).await;
        assert_eq!(answer.status.as_u16(), token["status_for_bob"], "{token:#}");
        let of = path.split('.').nth(1).unwrap();
        assert_is_the_file(&answer, all_media().find(|media| muid(media) == of).unwrap());
        // One names its buyer.
        let status = if token["buyer"] == "bob" { 401 } else { 200 };
        assert_eq!(ask_as(server, "alice", &path).await.status, status);
    }
}

/// What a search finds.
async fn found(server: &Server, term: &str) -> Vec<Value> {
    let answer = server.get(&format!("/search/{term}")).await;
    assert_eq!(answer.status, 200, "{answer:?}");
    serde_json::from_slice(answer.bytes()).unwrap()
}

/// Each finds all that it found. The old server said null of what it had not asked its table for.
async fn searches(server: &Server) {
    let all = EXPECTED["search"].as_object().unwrap();
    assert_eq!(all.values().filter(|found| !found.as_array().unwrap().is_empty()).count(), 3);
    for (term, expected) in all {
        let found = found(server, term).await;
        for expected in expected.as_array().unwrap() {
            let row = found.iter().find(|row| row["muid"] == expected["muid"]);
            let row = row.unwrap_or_else(|| panic!("{term} does not find {expected:#} but {found:#?}"));
            for (member, value) in expected.as_object().unwrap().iter().filter(|(_, value)| !value.is_null()) {
                assert_eq!(&row[member], value, "{term}: {member}");
            }
        }
    }
}

/// Adopts all in the background's way.
async fn adopt_all(server: &Server) {
    legacy::adopt_all(&server.app, &CancellationToken::new()).await;
}

async fn left_to_adopt(server: &Server) -> usize {
    server.app.db.legacy_copies(None, 100).await.unwrap().len()
}

#[tokio::test]
async fn everything_is_there_whether_it_was_looked_at_before_or_not() {
    let deployment = Deployment::new().await;
    let before = deployment.file_names();
    let server = deployment.serve().await;
    assert_eq!(left_to_adopt(&server).await, 7);
    assert_is_all_there(&server).await;
    assert_eq!(left_to_adopt(&server).await, 0, "each was adopted when it was asked for");
    assert_is_all_there(&server).await;

    let deployment = Deployment::new().await;
    let server = deployment.serve().await;
    adopt_all(&server).await;
    assert_eq!(left_to_adopt(&server).await, 0);
    assert_is_all_there(&server).await;
    let server = server.reopened_with(|_| {}).await;
    assert_is_all_there(&server).await;
    // No file was touched.
    sweep_once(&*server.app.db, &*server.app.store, OffsetDateTime::now_utc()).await.unwrap();
    assert_eq!(deployment.file_names(), before);
}

#[tokio::test]
async fn one_setting_closes_what_nobody_said_is_public() {
    let deployment = Deployment::new().await;
    let server = deployment
        .serve_with(|config| {
            let DatabaseConfig::Postgres(postgres) = &mut config.database else { panic!("PostgreSQL") };
            postgres.legacy_public = false;
        })
        .await;
    for media in all_media() {
        assert_problem(&server.get(&format!("/public/{}", muid(media))).await, 404, "no_such_file");
    }
    files_of_owners(&server).await;
    media_tokens(&server).await;
    // What is for sale is found all the same.
    let for_sale = all_media().filter(|media| media["mymedia"]["price"] != 0);
    let for_sale: Vec<_> = for_sale.filter(|media| media["mymedia"]["description"] == "green gif").map(muid).collect();
    let found = found(&server, "green").await;
    assert_eq!(found.iter().map(|row| row["muid"].as_str().unwrap()).collect::<Vec<_>>(), for_sale);
    // And one by one.
    deployment.run("UPDATE media SET public = TRUE WHERE mime LIKE 'image/%'").await;
    for media in all_media() {
        let is_image = media["headers"]["Content-Type"].as_str().unwrap().starts_with("image/");
        let status = server.get(&format!("/public/{}", muid(media))).await.status;
        assert_eq!(status == 200, is_image, "{media:#}");
    }
    assert_eq!(server.app.db.of_unknown_publicity().await.unwrap(), 3);
}

/// The pictures that sphinx-meme made beside some of its files are not looked at: all are made anew, of all pictures.
#[tokio::test]
async fn thumbnails_are_made_of_what_it_left() {
    let deployment = Deployment::new().await;
    let before = deployment.file_names();
    let server = deployment.serve().await;
    let mut pictures = 0;
    for media in all_media() {
        let is_picture = media["headers"]["Content-Type"].as_str().unwrap().starts_with("image/");
        for (size, side) in [("thumb", 60), ("medium", 400)] {
            let public = server.get(&format!("/public/{}?{size}=true", muid(media))).await;
            let path = format!("/file/{}?{size}=true", muid(media));
            let own = ask_as(&server, media["owner"].as_str().unwrap(), &path).await;
            assert_eq!(public.status, own.status, "{media:#}");
            // Nothing is left of a template.
            if is_picture && media["stored_whole"] == true {
                assert_eq!((public.status.as_u16(), public.bytes()), (200, own.bytes()), "{media:#}");
                let made = image::load_from_memory(public.bytes()).unwrap();
                assert_eq!((made.width(), made.height()), (side, side));
                pictures += 1;
            } else {
                assert_problem(&public, 415, "not_a_picture");
            }
        }
    }
    assert_eq!(pictures, 6);
    assert_is_all_there(&server).await;
    server.app.uploads.wait().await;
    let after = deployment.file_names();
    assert!(before.iter().all(|name| after.contains(name)));
    assert_eq!(after.len(), before.len() + pictures);
}

#[tokio::test]
async fn a_wrong_key_spoils_nothing() {
    let deployment = Deployment::new().await;
    let server = deployment
        .serve_with(|config| {
            let StoreConfig::Local { encryption_key, .. } = &mut config.store else {
                panic!("the files are in a folder")
            };
            *encryption_key = Some(Secret::new([1; 32]));
        })
        .await;
    adopt_all(&server).await;
    // All but the empty one, which is sealed under none.
    assert_eq!(left_to_adopt(&server).await, 6);
    let whole = all_media().next().unwrap();
    let answer = server.get(&format!("/public/{}", muid(whole))).await;
    assert_problem(&answer, 500, "file_unavailable");
    let server = server.reopened_with(|config| deployment.configure(config)).await;
    assert_is_all_there(&server).await;
}

/// Where the row of `media` is changed and its file replaced.
async fn changed(deployment: &Deployment, media: &Value, set: &str, file: Option<&[u8]>) {
    deployment.run(&format!("UPDATE media SET {set} WHERE id = '{}'", muid(media))).await;
    if let Some(file) = file {
        fs::write(deployment.files().join(muid(media)), file).unwrap();
    }
}

#[tokio::test]
async fn rows_with_holes_and_missing_files_are_served_or_refused_cleanly() {
    let deployment = Deployment::new().await;
    let [note, exact, photo, tall, template, gif, big] = all_media().collect::<Vec<_>>()[..] else { panic!("seven") };
    let plain = deployment.serve_plain(note).await;
    // Not sealed at all, and so it says: with no nonce, an empty one, and one that is none.
    changed(&deployment, note, "nonce = NULL, mime = NULL, filename = NULL, name = NULL, size = NULL", Some(&plain))
        .await;
    // Sealed, and its row has lost the nonce.
    changed(&deployment, exact, "nonce = ''", None).await;
    // Missing, with and without a nonce.
    fs::remove_file(deployment.files().join(muid(photo))).unwrap();
    fs::remove_file(deployment.files().join(muid(tall))).unwrap();
    changed(&deployment, tall, "nonce = NULL", None).await;
    changed(&deployment, template, "nonce = 'no hex', created = NULL, updated = NULL, tags = '{}'", None).await;
    // Cut off: no sealed file has this length; another, in the middle of a package.
    changed(&deployment, gif, "ttl = NULL, price = NULL", Some(&[0x20; 7])).await;
    let sealed = fs::read(deployment.files().join(muid(big))).unwrap();
    changed(&deployment, big, "total_sats = NULL, total_buys = NULL", Some(&sealed[..200_000])).await;

    let server = deployment.serve().await;
    for round in 0..2 {
        let answer = server.get(&format!("/public/{}", muid(note))).await;
        assert_eq!((answer.status.as_u16(), answer.bytes()), (200, &plain[..]), "{round}");
        assert_eq!(answer.header("content-type"), "application/octet-stream");
        assert_eq!(saved_as(answer.header("content-disposition")), "file");
        for (media, status, code) in [
            (exact, 500, "file_unavailable"),
            (photo, 404, "no_such_file"),
            (tall, 404, "no_such_file"),
            (gif, 500, "file_unavailable"),
        ] {
            assert_problem(&server.get(&format!("/public/{}", muid(media))).await, status, code);
        }
        let answer = server.get(&format!("/public/{}", muid(template))).await;
        assert_eq!((answer.status.as_u16(), answer.bytes()), (200, &b""[..]));
        // Never served as if it were whole.
        let answer = server.get(&format!("/public/{}", muid(big))).await;
        assert!(answer.status == 500 || answer.body.is_none(), "{answer:?}");
        adopt_all(&server).await;
    }
    // Every row is still there.
    let rows = ["alice", "bob"].map(async |owner| ask_as(&server, owner, "/mymedia").await.json());
    let [alice, bob] = rows;
    assert_eq!((alice.await.as_array().unwrap().len(), bob.await.as_array().unwrap().len()), (3, 4));
    let row = ask_as(&server, "alice", &format!("/mymedia/{}", muid(note))).await.json();
    assert_eq!((&row["size"], &row["name"]), (&json!(plain.len()), &json!("")));
}

#[tokio::test]
async fn who_sends_the_same_content_again_becomes_an_owner_of_the_old_copy() {
    let deployment = Deployment::new().await;
    let before = deployment.file_names();
    let server = deployment.serve().await;
    let media = all_media().last().unwrap();
    let file = deployment.serve_plain(media).await;
    let stored = server.store("/file", 1, &[("name", "mine"), ("price", "7")], &file).await;
    assert_eq!(stored, muid(media));
    server.app.uploads.wait().await;
    assert_eq!(deployment.file_names(), before);
    assert_is_all_there(&server).await;
    let row = server.send(get(&format!("/mymedia/{stored}")).bearer(&server.login(1)).empty()).await.json();
    assert_eq!((&row["name"], &row["price"], &row["public"]), (&json!("mine"), &json!(7), &json!(false)));

    // Where the old copy is not whole, the new one takes its place, for the old owner too.
    let deployment = Deployment::new().await;
    fs::write(deployment.files().join(muid(media)), b"broken").unwrap();
    let server = deployment.serve().await;
    server.store("/file", 1, &[], &file).await;
    server.app.uploads.wait().await;
    assert_is_all_there(&server).await;
    assert_eq!(deployment.file_names().len(), before.len());
    assert!(!deployment.files().join(muid(media)).exists());
}

/// A folder that belongs to another database loses nothing.
#[tokio::test]
async fn a_wrong_database_url_empties_no_folder() {
    let deployment = Deployment::new().await;
    let before = deployment.file_names();
    let long_after = OffsetDateTime::now_utc() + time::Duration::days(1_000);
    let empty = || PostgresConfig::new(Secret::new(postgres::database()));
    let sqlite = || DatabaseConfig::Sqlite { path: deployment.folder.path().join("other.db") };
    for database in [DatabaseConfig::Postgres(empty()), sqlite()] {
        let server = deployment.serve_with(|config| config.database = database).await;
        adopt_all(&server).await;
        for media in all_media() {
            assert_problem(&server.get(&format!("/public/{}", muid(media))).await, 404, "no_such_file");
        }
        assert_eq!(sweep_once(&*server.app.db, &*server.app.store, long_after).await.unwrap(), 0);
        assert_eq!(deployment.file_names(), before);
    }
    assert_is_all_there(&deployment.serve().await).await;
}

/// Two backends on one database and one folder.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_backends_adopt_at_once() {
    let deployment = Deployment::new().await;
    let (one, other) = tokio::join!(deployment.serve(), deployment.serve());
    tokio::join!(adopt_all(&one), adopt_all(&other), assert_is_all_there(&one), assert_is_all_there(&other));
    assert_eq!(left_to_adopt(&other).await, 0);
    assert_is_all_there(&one).await;
}
