//! What a sphinx-meme left in a database.

use super::*;

const ALL_MEDIA: &str = "SELECT media::TEXT FROM media ORDER BY id";

/// A database as a real sphinx-meme left it.
async fn legacy() -> (Secret<String>, PgPool) {
    let url = Secret::new(postgres::database());
    let pool = PgPool::connect_with(connect_options(&url).unwrap()).await.unwrap();
    run(&pool, include_str!("../../../../testdata/sphinx-meme/media.sql")).await;
    (url, pool)
}

/// What the real sphinx-meme found, and perhaps more; in another order where several fit equally well: the newest first.
#[tokio::test]
async fn finds_what_sphinx_meme_found() {
    let (url, _legacy) = legacy().await;
    let expected: serde_json::Value =
        serde_json::from_str(include_str!("../../../../testdata/sphinx-meme/expected.json")).unwrap();
    let database = open(&url).await;
    for (term, found) in expected["search"].as_object().unwrap() {
        let expected: Vec<_> = found.as_array().unwrap().iter().map(|media| media["muid"].as_str().unwrap()).collect();
        let listing = database.search(term, &Page { limit: Some(12), after: None }, at(0)).await.unwrap();
        let found: Vec<_> = listing.media.iter().map(|media| media.muid.to_string()).collect();
        assert!(expected.iter().all(|muid| found.iter().any(|found| found == muid)), "{term}: {found:?} {expected:?}");
    }
    // More than before: tags are words.
    let one = database.search("two", &Page::default(), at(0)).await.unwrap();
    assert_eq!(one.media.iter().map(|media| media.name.as_str()).collect::<Vec<_>>(), ["Exact"]);
    // Where the operator closes what nobody spoke of, only what is for sale is found.
    let closed = PostgresConfig { legacy_public: false, ..PostgresConfig::new(url.clone()) };
    let closed = PostgresDatabase::open(&closed).await.unwrap();
    let found = closed.search("green or exact or tall", &Page::default(), at(0)).await.unwrap();
    assert!(!found.media.is_empty() && found.media.iter().all(|media| media.price_sat > 0), "{found:?}");
}

#[tokio::test]
async fn takes_the_longest_texts_that_a_sphinx_meme_left() {
    let url = Secret::new(postgres::database());
    let pool = PgPool::connect_with(connect_options(&url).unwrap()).await.unwrap();
    run(&pool, include_str!("../../../../testdata/sphinx-meme/media.sql")).await;
    run(
        &pool,
        "UPDATE media SET name = repeat('n', 3000000), \
            description = (SELECT string_agg(md5(i::TEXT), ' ') FROM generate_series(1, 100000) AS i), \
            tags = ARRAY[repeat('t ', 2000000), NULL, ''], tsv = NULL",
    )
    .await;
    let database = open(&url).await;
    assert_eq!(
        database.search("c4ca4238a0b923820dcc509a6f75849b", &Page::default(), at(0)).await.unwrap().media.len(),
        7
    );
}

#[tokio::test]
async fn adopts_the_table_of_sphinx_meme_and_gives_it_back() {
    let (url, legacy) = legacy().await;
    let (rows, shape) = (rows_of(&legacy, ALL_MEDIA).await, shape_of_media(&legacy).await);
    assert_eq!(rows.len(), 7);
    let look = async |url: &Secret<String>| PostgresDatabase::look(&PostgresConfig::new(url.clone())).await.unwrap();
    assert_eq!(look(&url).await, PostgresState::Legacy);
    assert_eq!(look(&Secret::new(postgres::database())).await, PostgresState::Empty);
    let database = open(&url).await;
    assert_eq!(look(&url).await, PostgresState::Ours);
    assert_eq!(database.of_unknown_publicity().await.unwrap(), 7);
    let copies = database.legacy_copies(None, 100).await.unwrap();
    assert_eq!(copies.len(), 7);
    assert_eq!(database.legacy_copies(Some(copies[1].id), 3).await.unwrap(), copies[2..5]);
    for copy in &copies {
        assert_eq!(copy.store_key.as_str(), copy.muid.to_string());
        assert_eq!(copy.nonce.as_deref().map(str::len), Some(64));
        assert_eq!(database.legacy_copy(copy.muid).await.unwrap().as_ref(), Some(copy));
        assert_eq!(database.content(copy.muid, Variant::File).await.unwrap(), None);
        assert!(database.media(copy.muid, &[], at(0)).await.unwrap().unwrap().public);
    }
    // No row of it is ever swept.
    assert_eq!(database.discarded(StoreKind::Local, None, 100, at(1_000_000_000)).await.unwrap(), []);

    // In the same shape as a database that begins with us.
    let (_url, fresh) = empty().await;
    assert_eq!(shape_of_media(&database.pool).await, shape_of_media(&fresh.pool).await);

    let sealing = Sealing { nonce: [7; 32], key_fingerprint: "0123abcd".to_owned() };
    database.adopt(copies[0].id, StoreKind::Local, None, 1).await.unwrap();
    database.adopt(copies[1].id, StoreKind::Local, Some(&sealing), 1).await.unwrap();
    migrator().undo(&database.pool, 0).await.unwrap();
    assert_eq!(shape_of_media(&legacy).await, shape);
    let back = rows_of(&legacy, ALL_MEDIA).await;
    let changed = back.iter().zip(&rows).filter(|(back, before)| back != before).count();
    assert_eq!((back.len(), changed), (7, 1), "only the nonce that the test changed\n{back:#?}\n{rows:#?}");
}

#[tokio::test]
async fn gives_no_table_back_in_which_two_owners_have_one_file() {
    let (url, legacy) = legacy().await;
    let database = open(&url).await;
    let server = Server::new(&database);
    for (n, owners) in [(1, 3), (2, 2), (3, 1)] {
        for who in 1..=owners {
            server.upload(n, who, None, 0).await;
        }
    }
    let before = tables(&legacy).await;
    // On a connection of its own, which has the migrator's lock until it is closed.
    let mut connection = database.pool.acquire().await.unwrap().detach();
    let error = migrator().undo(&mut connection, 0).await.unwrap_err();
    connection.close().await.unwrap();
    assert!(error.to_string().contains("2 files have more than one owner"), "{error}");
    // What came after it is undone by then, and comes back at the next start.
    migrator().run(&database.pool).await.unwrap();
    assert_eq!(tables(&legacy).await, before);
    assert_eq!(server.owned(1, 2).await.unwrap().size, SIZE);

    run(&legacy, format!("DELETE FROM media WHERE owner_pub_key IN ('{}', '{}')", owner(2), owner(3))).await;
    migrator().undo(&database.pool, 0).await.unwrap();
    assert_eq!(rows_of(&legacy, ALL_MEDIA).await.len(), 10);
}

#[tokio::test]
async fn takes_rows_with_holes() {
    let (url, legacy) = legacy().await;
    let ids: Vec<String> = (1..=3).map(|n| muid(n).to_string()).collect();
    // The table of an early sphinx-meme.
    run(&legacy, "ALTER TABLE media DROP template, DROP width, DROP height").await;
    for (id, nonce) in ids.iter().zip(["NULL", "''", "'no hex'"]) {
        let row = format!("INSERT INTO media (id, owner_pub_key, nonce, size) VALUES ('{id}', 'me', {nonce}, -1)");
        run(&legacy, row).await;
    }
    run(&legacy, format!("UPDATE media SET size = NULL, tags = '{{NULL,a}}' WHERE id = '{}'", ids[0])).await;
    let database = open(&url).await;
    for n in 1..=3 {
        let media = database.media(muid(n), &[], at(0)).await.unwrap().unwrap();
        assert_eq!((media.name.as_str(), media.price_sat, media.ttl_secs, media.size), ("", 0, 0, 0));
        assert_eq!((media.filename.as_str(), media.mime.as_str(), media.expiry), ("", "", None));
        assert_eq!((media.created.unix_timestamp(), media.width, media.template), (0, None, false));
        assert_eq!(media.tags, if n == 1 { vec!["a"] } else { vec![] });
    }
    for (n, nonce) in [(1, None), (2, Some("")), (3, Some("no hex"))] {
        assert_eq!(database.legacy_copy(muid(n)).await.unwrap().unwrap().nonce.as_deref(), nonce);
    }
    // Only where nobody said a size.
    let copy = database.legacy_copy(muid(1)).await.unwrap().unwrap();
    database.adopt(copy.id, StoreKind::Local, None, 77).await.unwrap();
    database.adopt(copy.id, StoreKind::Local, None, 99).await.unwrap();
    assert_eq!(database.media(muid(1), &[], at(0)).await.unwrap().unwrap().size, 77);
    assert_eq!(database.content(muid(1), Variant::File).await.unwrap().unwrap().size, 77);
    assert_eq!(database.legacy_copy(muid(1)).await.unwrap(), None);
}

#[tokio::test]
async fn refuses_a_table_of_something_else_and_changes_nothing() {
    let (url, legacy) = legacy().await;
    let before = rows_of(&legacy, ALL_MEDIA).await;
    run(&legacy, "INSERT INTO media (id, owner_pub_key) VALUES ('junk', 'me')").await;
    let error = PostgresDatabase::open(&PostgresConfig::new(url)).await.unwrap_err();
    assert!(error.to_string().contains("1 rows whose id is that of no file, for example \"junk\""), "{error}");
    assert!(!error.is_away());
    assert_eq!(tables(&legacy).await, ["_sluice_backend_migrations", "media"]);
    assert_eq!(rows_of(&legacy, ALL_MEDIA).await.len(), before.len() + 1);
}

#[tokio::test]
async fn what_sphinx_meme_did_not_know_is_as_the_setting_says() {
    let (url, legacy) = legacy().await;
    open(&url).await;
    let config = PostgresConfig { legacy_public: false, ..PostgresConfig::new(url) };
    let database = PostgresDatabase::open(&config).await.unwrap();
    let copies = database.legacy_copies(None, 100).await.unwrap();
    run(&legacy, format!("UPDATE media SET public = TRUE WHERE muid = '{}'", copies[0].muid)).await;
    for copy in &copies {
        let media = database.media(copy.muid, &[], at(0)).await.unwrap().unwrap();
        assert_eq!(media.public, copy.muid == copies[0].muid);
        let owned = database.owned(&[media.owner], &Page::default(), at(0)).await.unwrap().media;
        assert!(owned.iter().all(|media| media.public == (media.muid == copies[0].muid)), "{owned:#?}");
    }
    assert_eq!(database.of_unknown_publicity().await.unwrap(), 6);
}

#[tokio::test]
async fn an_upload_takes_the_place_of_a_copy_that_was_not_adopted() {
    let (url, legacy) = legacy().await;
    let database = open(&url).await;
    let copy = database.legacy_copies(None, 1).await.unwrap().remove(0);
    let server = Server::new(&database);
    let (content, key) = server.begin(None, 0).await.unwrap();
    server.commit(&finished(content, copy.muid, owner(1)), 0).await.unwrap();
    assert_eq!(database.content(copy.muid, Variant::File).await.unwrap().unwrap().store_key, key);
    assert_eq!(database.legacy_copy(copy.muid).await.unwrap(), None);
    database.adopt(copy.id, StoreKind::Local, None, 1).await.unwrap();
    assert_eq!(server.sweep(0).await, [copy.store_key]);
    // The old owner's row is as it was, and still open.
    assert_eq!(rows_of(&legacy, "SELECT muid FROM media WHERE public IS NULL").await.len(), 7);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn several_that_start_at_once_all_start() {
    let (url, _legacy) = legacy().await;
    let all = join_all((0..5).map(|_| open(&url))).await;
    for database in all {
        assert_eq!(database.legacy_copies(None, 100).await.unwrap().len(), 7);
    }
}
