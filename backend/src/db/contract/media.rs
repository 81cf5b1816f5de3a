//! What is stored and whose it is.

use super::fixture::{SIZE, Server, at, finished, muid, owner, upload};
use crate::db::{Content, Database, KeyUse, Media, NewMedia, Owner, Page, Variant};

fn names(media: &[Media]) -> Vec<&str> {
    media.iter().map(|media| media.name.as_str()).collect()
}

pub(crate) async fn tells_what_was_stored(db: &dyn Database) {
    let server = Server::new(db);
    for (n, sealed) in [(1, true), (2, false)] {
        let mut new = upload(at(0), None);
        if !sealed {
            new.sealing = None;
        }
        let id = db.begin_upload(&new, at(0)).await.unwrap();
        assert_eq!(db.content(muid(n), Variant::File).await.unwrap(), None);
        assert_eq!(db.media(muid(n), &[owner(1)], at(0)).await.unwrap(), None);

        let mut end = finished(id, muid(n), owner(1));
        end.media.public = sealed;
        end.media.expiry = sealed.then(|| at(1_000));
        let media = server.commit(&end, 5).await.unwrap();
        let NewMedia { owner, name, description, price_sat, tags, ttl_secs, filename, mime, expiry, public, .. } =
            end.media;
        let expected = Media {
            muid: muid(n),
            owner,
            name,
            description,
            price_sat,
            tags,
            ttl_secs,
            filename,
            mime,
            size: SIZE,
            created: at(5),
            updated: at(5),
            expiry,
            total_sats: 0,
            total_buys: 0,
            width: None,
            height: None,
            template: false,
            public,
        };
        assert_eq!(media, expected);
        assert_eq!(db.media(muid(n), &[], at(0)).await.unwrap().as_ref(), Some(&expected));
        assert_eq!(server.owned(n, 1).await.as_ref(), Some(&expected));
        let content =
            Content { id, muid: muid(n), store: new.store, store_key: new.store_key, sealing: new.sealing, size: SIZE };
        assert_eq!(db.content(muid(n), Variant::File).await.unwrap(), Some(content));
    }
    assert_eq!(server.owned(1, 2).await, None);
    assert_eq!(db.media(muid(3), &[owner(1)], at(0)).await.unwrap(), None);
    assert_eq!(db.content(muid(3), Variant::File).await.unwrap(), None);
}

pub(crate) async fn nobody_changes_the_row_of_another(db: &dyn Database) {
    let server = Server::new(db);
    server.upload(1, 1, None, 0).await;
    let first = server.owned(1, 1).await.unwrap();

    let (content, _) = server.begin(None, 10).await.unwrap();
    let mut end = finished(content, muid(1), owner(2));
    end.media = NewMedia {
        name: "changed".to_owned(),
        description: "changed".to_owned(),
        price_sat: 5,
        tags: vec![],
        ttl_secs: 6,
        filename: "changed".to_owned(),
        mime: "text/plain".to_owned(),
        expiry: Some(at(7)),
        public: true,
        ..end.media
    };
    let second = server.commit(&end, 10).await.unwrap();
    assert_eq!(server.owned(1, 1).await.as_ref(), Some(&first));
    assert_eq!(server.owned(1, 2).await.as_ref(), Some(&second));

    // Its owner does: all that an owner says, and nothing else.
    (end.content, _) = server.begin(None, 20).await.unwrap();
    end.media.owner = owner(1);
    let changed = server.commit(&end, 20).await.unwrap();
    assert_eq!(changed, Media { owner: owner(1), created: first.created, updated: at(20), ..second });
    assert_eq!(server.owned(1, 1).await, Some(changed));
}

pub(crate) async fn the_first_preferred_owner_speaks_for_a_content(db: &dyn Database) {
    let server = Server::new(db);
    for (who, public, secs) in [(1, false, 30), (2, false, 0), (3, true, 20), (4, true, 10)] {
        let (content, _) = server.begin(None, secs).await.unwrap();
        let mut end = finished(content, muid(1), owner(who));
        end.media.public = public;
        server.commit(&end, secs).await.unwrap();
    }
    server.upload(2, 1, None, 50).await;
    server.upload(2, 2, None, 40).await;
    let hostile = Owner::from_text("' OR 1=1 --\"]".to_owned());
    for (preferred, n, speaks) in [
        (vec![owner(3), owner(1)], 1, 3),
        (vec![owner(1), owner(3)], 1, 1),
        (vec![owner(9), hostile.clone(), owner(2)], 1, 2),
        (vec![hostile], 1, 4),
        (vec![], 1, 4),
        (vec![], 2, 2),
        (vec![owner(3), owner(1)], 2, 1),
    ] {
        let media = db.media(muid(n), &preferred, at(0)).await.unwrap().unwrap();
        assert_eq!((media.muid, media.owner), (muid(n), owner(speaks)), "{n} {preferred:?}");
    }
}

pub(crate) async fn lists_all_of_some_owners_newest_first(db: &dyn Database) {
    let server = Server::new(db);
    for (n, who, secs) in [(1, 1, 0), (2, 2, 10), (3, 1, 20), (4, 3, 30)] {
        let (content, _) = server.begin(None, secs).await.unwrap();
        let mut end = finished(content, muid(n), owner(who));
        end.media.name = n.to_string();
        server.commit(&end, secs).await.unwrap();
    }
    assert_eq!(names(&db.owned(&[owner(1)], &Page::default(), at(0)).await.unwrap().media), ["3", "1"]);
    assert_eq!(
        names(&db.owned(&[owner(2), owner(1), owner(9), owner(2)], &Page::default(), at(0)).await.unwrap().media),
        ["3", "2", "1"]
    );
    assert_eq!(names(&db.owned(&[owner(9)], &Page::default(), at(0)).await.unwrap().media), [""; 0]);
    assert_eq!(names(&db.owned(&[], &Page::default(), at(0)).await.unwrap().media), [""; 0]);
}

pub(crate) async fn notes_and_forgets_keys(db: &dyn Database) {
    let key = |name: &str, fingerprint: &str| KeyUse { name: name.to_owned(), fingerprint: fingerprint.to_owned() };
    assert_eq!(db.keys_in_use().await.unwrap(), []);
    let keys = [key("JWT_KEY", "aa"), key("LOCAL_ENCRYPTION_KEY", "aa"), key("LOCAL_ENCRYPTION_KEY", "bb")];
    for key in keys.iter().rev().chain(&keys) {
        db.note_key(key).await.unwrap();
    }
    assert_eq!(db.keys_in_use().await.unwrap(), keys);
    assert!(db.forget_key(&keys[1]).await.unwrap());
    assert!(!db.forget_key(&keys[1]).await.unwrap());
    assert_eq!(db.keys_in_use().await.unwrap(), [keys[0].clone(), keys[2].clone()]);
}

pub(crate) async fn takes_any_text(db: &dyn Database) {
    let server = Server::new(db);
    let (content, _) = server.begin(None, 0).await.unwrap();
    let mut end = finished(content, muid(1), owner(1));
    // A form may hold NUL, which PostgreSQL's text may not.
    let strange = "\0'\"\\{},\u{1f388}\u{202e}\n\u{7f}";
    end.media.name = strange.to_owned();
    end.media.description = strange.repeat(1_000);
    end.media.tags = vec![String::new(), strange.to_owned(), "NULL".to_owned()];
    end.media.filename = strange.to_owned();
    let stored = server.commit(&end, 0).await.unwrap();
    assert_eq!(stored.name.replace('\0', "\u{fffd}"), strange.replace('\0', "\u{fffd}"));
    assert_eq!((stored.tags.len(), stored.tags[2].as_str()), (3, "NULL"));
    assert_eq!(server.owned(1, 1).await, Some(stored));
    for owner in [Owner::from_text(strange.to_owned()), Owner::from_text(String::new())] {
        let owners = [owner];
        assert_eq!(db.owned(&owners, &Page::default(), at(0)).await.unwrap().media, []);
        assert!(db.media(muid(1), &owners, at(0)).await.unwrap().is_some());
    }
}
