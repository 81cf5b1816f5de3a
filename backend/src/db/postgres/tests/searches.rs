//! Searches for words that are frequent, and searches that take long.

use tokio::time::Instant;

use super::*;
use crate::db::Cursor;

/// Many rows whose tags have the word, and files of the contract's kind older than all of them.
async fn filled(named: u8) -> PostgresDatabase {
    let (_url, database) = empty().await;
    let server = Server::new(&database);
    for n in 1..=named {
        server.upload(n, 1, None, 0).await;
    }
    run(&database.pool, "UPDATE media SET name = 'zebra', tags = '{}', description = '-', public = TRUE").await;
    run(
        &database.pool,
        "INSERT INTO media (muid, owner_pub_key, name, description, price, tags, ttl, filename, mime, size, created,
            updated, public)
        SELECT translate(encode(sha256(i::TEXT::BYTEA), 'base64'), '+/', '-_'), 'me', '-',
            CASE WHEN i <= 20 THEN 'a zebra' ELSE '-' END, 0,
            ARRAY['zebra'], 1, 'f', 'm', 1, to_timestamp(2000000000 + i), to_timestamp(0), TRUE
        FROM generate_series(1, 2500) AS i",
    )
    .await;
    run(
        &database.pool,
        "INSERT INTO content (muid, state, store, store_key, sealed, size, created)
        SELECT muid, 'stored', 'local', muid, FALSE, 1, created FROM media WHERE owner_pub_key = 'me'",
    )
    .await;
    run(&database.pool, "ANALYZE").await;
    database
}

#[tokio::test]
async fn of_frequent_words_the_best_come_first_however_old() {
    let database = filled(30).await;
    // Rows of other owners, worse than the first row of the same content and better.
    run(
        &database.pool,
        "INSERT INTO media (muid, owner_pub_key, name, description, price, tags, ttl, filename, mime, size, created,
            updated, public)
        SELECT muid, 'other', CASE WHEN description = '-' AND name = '-' THEN 'zebra' ELSE '-' END, '-', 0,
            ARRAY['zebra'], 1, 'f', 'm', 1, created, updated, TRUE
        FROM media WHERE owner_pub_key <> 'me' OR created IN (to_timestamp(2000000001), to_timestamp(2000001000))",
    )
    .await;
    for term in ["zebra", "zeb"] {
        let all = database.search(term, &Page::default(), at(0)).await.unwrap().media;
        let classes: Vec<_> = all.iter().map(|media| (media.name.as_str(), media.description.as_str())).collect();
        assert_eq!(classes.len(), 2_530);
        // The newest of those named so is another owner's row of what is tagged so.
        assert!(classes[..31].iter().all(|(name, _)| *name == "zebra"), "{classes:?}");
        assert_eq!(all[0].owner.as_str(), "other");
        assert!(classes[31..51].iter().all(|class| *class == ("-", "a zebra")));
        assert!(classes[51..].iter().all(|class| *class == ("-", "-")));
        let muids: std::collections::HashSet<_> = all.iter().map(|media| media.muid).collect();
        assert_eq!(muids.len(), all.len(), "each is named once");

        // In pages: of a class the newest first, in the same order.
        let (mut found, mut after) = (vec![], None::<Cursor>);
        while found.len() < 100 {
            let page = database.search(term, &Page { limit: Some(12), after }, at(0)).await.unwrap();
            assert_eq!(page.media.len(), 12);
            found.extend(page.media);
            after = page.next;
        }
        assert_eq!(found, all[..found.len()], "{term}");
        let last = Page { limit: Some(1_000), after: after.clone() };
        assert_eq!(database.search(term, &last, at(0)).await.unwrap().media, all[found.len()..][..1_000]);
    }
}

#[tokio::test]
async fn a_search_that_takes_too_long_shows_what_it_has_found() {
    let database = filled(0).await;
    let mut holder = database.pool.begin().await.unwrap();
    holder.execute("LOCK TABLE content").await.unwrap();
    let start = Instant::now();
    let found = database.search("zebra", &Page::default(), at(0)).await.unwrap();
    assert_eq!((found.media, found.next), (vec![], None));
    assert!(start.elapsed() < Duration::from_secs(20), "not as long as other statements may take");
    drop(holder);
    // It says nothing of the database.
    assert_eq!(database.search("zebra", &Page { limit: Some(3), after: None }, at(0)).await.unwrap().media.len(), 3);
}
