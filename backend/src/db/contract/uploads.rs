//! From an upload's begin to its end.

use futures_util::future::join_all;
use sluice_common::dare::sealed_len;

use super::fixture::{LEASE_SECS, SIZE, Server, at, finished, muid, owner, upload};
use crate::{
    db::{CommitError, Database, FinishedUpload, NewUpload, Sealing, Variant},
    store::StoreKind,
};

pub(crate) async fn leaves_no_trace_of_a_failed_upload(db: &dyn Database) {
    let server = Server::new(db);
    let (content, key) = server.begin(None, 0).await.unwrap();
    assert!(server.sweep(0).await.is_empty());
    db.abandon_upload(content).await.unwrap();
    assert!(!db.renew_lease(content, at(100)).await.unwrap());
    let late = server.commit(&finished(content, muid(1), owner(1)), 0).await;
    assert!(matches!(late, Err(CommitError::LeaseLost)), "{late:?}");
    assert_eq!(server.sweep(0).await, [key]);
}

pub(crate) async fn stores_equal_content_once(db: &dyn Database) {
    let server = Server::new(db);
    let winner = server.upload(1, 1, None, 0).await;
    let loser = server.upload(1, 2, None, 10).await;
    assert_eq!(server.stored_key(1).await.as_ref(), Some(&winner));
    assert_eq!(server.sweep(10).await, [loser]);
    assert_eq!(server.sweep(10).await, []);
    assert_eq!(server.stored_key(1).await, Some(winner));
    for who in [1, 2] {
        assert!(server.owned(1, who).await.is_some(), "{who}");
    }
}

pub(crate) async fn replaces_a_copy_that_is_not_whole(db: &dyn Database) {
    let server = Server::new(db);
    let mut older = server.upload(1, 1, None, 0).await;
    for len in [None, Some(0), Some(sealed_len(SIZE) - 1), Some(SIZE), Some(sealed_len(SIZE) + 1)] {
        server.store.put(&older, len.unwrap_or_default());
        if len.is_none() {
            crate::store::BlobStore::delete(&server.store, &older).await.unwrap();
        }
        let newer = server.upload(1, 2, None, 10).await;
        assert_eq!(server.stored_key(1).await.as_ref(), Some(&newer), "{len:?}");
        assert_eq!(server.sweep(10).await, [older], "{len:?}");
        older = newer;
    }
    // What an owner said of it before stays.
    assert_eq!(server.owned(1, 1).await.unwrap().created, at(0));
}

pub(crate) async fn replaces_a_copy_that_is_sealed_otherwise(db: &dyn Database) {
    let server = Server::new(db);
    let mut older = None;
    // Each twice: the second time there is a copy like it.
    for key in [None, Some("old"), Some("new"), None] {
        let mut keep = None;
        for secs in [0, 10] {
            let sealing = key.map(|key| Sealing { nonce: rand::random(), key_fingerprint: key.to_owned() });
            let new = NewUpload { sealing: sealing.clone(), ..upload(at(secs), None) };
            let content = db.begin_upload(&new, at(secs)).await.unwrap();
            server.store.put(&new.store_key, if key.is_some() { sealed_len(SIZE) } else { SIZE });
            server.commit(&finished(content, muid(1), owner(1)), secs).await.unwrap();
            let stored = keep.get_or_insert((new.store_key.clone(), sealing)).clone();
            let content = db.content(muid(1), Variant::File).await.unwrap().unwrap();
            assert_eq!((content.store_key, content.sealing), stored, "{key:?}");
            let given_up = if secs == 0 { older.take() } else { Some(new.store_key) };
            assert_eq!(server.sweep(secs).await, Vec::from_iter(given_up), "{key:?}");
            older = Some(stored.0);
        }
    }
}

pub(crate) async fn a_store_that_fails_changes_nothing(db: &dyn Database) {
    let server = Server::new(db);
    let older = server.upload(1, 1, None, 0).await;
    let (content, newer) = server.begin(None, 10).await.unwrap();
    let end = finished(content, muid(1), owner(2));
    server.store.set_failing(true);
    let failed = server.commit(&end, 10).await;
    assert!(matches!(failed, Err(CommitError::Store(_))), "{failed:?}");
    server.store.set_failing(false);
    assert_eq!(server.owned(1, 2).await, None);
    assert_eq!(server.stored_key(1).await.as_ref(), Some(&older));
    assert_eq!(server.sweep(10).await, []);
    server.commit(&end, 10).await.unwrap();
    assert_eq!(server.stored_key(1).await, Some(older));
    assert_eq!(server.sweep(10).await, [newer]);
}

pub(crate) async fn a_late_upload_is_stored_until_it_is_swept(db: &dyn Database) {
    let server = Server::new(db);
    let late = LEASE_SECS + 1;
    let (content, key) = server.begin(None, 0).await.unwrap();
    server.commit(&finished(content, muid(1), owner(1)), late).await.unwrap();
    assert_eq!(server.sweep(late).await, []);
    assert_eq!(server.stored_key(1).await, Some(key));

    let (content, key) = server.begin(None, 0).await.unwrap();
    assert_eq!(server.sweep(LEASE_SECS - 1).await, []);
    let swept = db.discarded(StoreKind::Local, None, 100, at(LEASE_SECS)).await.unwrap();
    assert_eq!(swept.iter().map(|copy| (copy.id, &copy.store_key)).collect::<Vec<_>>(), [(content, &key)]);
    for forgotten in [false, true] {
        if forgotten {
            db.forget(content).await.unwrap();
        }
        let lost = server.commit(&finished(content, muid(2), owner(1)), late).await;
        assert!(matches!(lost, Err(CommitError::LeaseLost)), "{lost:?}");
    }
    assert_eq!(server.stored_key(2).await, None);
    assert_eq!(db.media(muid(2), &[], at(0)).await.unwrap(), None);
}

pub(crate) async fn a_renewed_lease_is_not_swept(db: &dyn Database) {
    let server = Server::new(db);
    let (content, key) = server.begin(None, 0).await.unwrap();
    assert!(db.renew_lease(content, at(2 * LEASE_SECS)).await.unwrap());
    assert_eq!(server.sweep(LEASE_SECS).await, []);
    assert_eq!(server.sweep(2 * LEASE_SECS).await, [key]);
    assert!(!db.renew_lease(content, at(3 * LEASE_SECS)).await.unwrap());

    let (content, _) = server.begin(None, 0).await.unwrap();
    server.commit(&finished(content, muid(1), owner(1)), 0).await.unwrap();
    assert!(!db.renew_lease(content, at(3 * LEASE_SECS)).await.unwrap());
}

pub(crate) async fn sweeps_no_more_than_asked(db: &dyn Database) {
    let server = Server::new(db);
    let mut begun = vec![];
    for secs in [0, 0, 0, 10] {
        begun.push(server.begin(None, secs).await.unwrap().0);
    }
    let mut last = None;
    for some in begun[..3].chunks(2).chain([&[][..]]) {
        let copies = db.discarded(StoreKind::Local, last, 2, at(LEASE_SECS)).await.unwrap();
        assert_eq!(copies.iter().map(|copy| copy.id).collect::<Vec<_>>(), some);
        last = some.last().copied().or(last);
    }
    assert_eq!(server.sweep(LEASE_SECS).await.len(), 3);
    assert_eq!(server.sweep(LEASE_SECS).await.len(), 0);
    assert_eq!(server.sweep(LEASE_SECS + 10).await.len(), 1);
}

pub(crate) async fn removes_no_row_of_a_stored_copy(db: &dyn Database) {
    let server = Server::new(db);
    let (stored, key) = server.begin(None, 0).await.unwrap();
    let (pending, _) = server.begin(None, 0).await.unwrap();
    server.commit(&finished(stored, muid(1), owner(1)), 0).await.unwrap();
    for content in [stored, pending] {
        db.forget(content).await.unwrap();
    }
    db.abandon_upload(stored).await.unwrap();
    assert_eq!(server.sweep(0).await, []);
    assert_eq!(server.stored_key(1).await, Some(key));
    server.commit(&finished(pending, muid(2), owner(1)), 0).await.unwrap();
    // A row that is gone gives its id to no other: a paid upload is known by it.
    let (content, _) = server.begin(None, 0).await.unwrap();
    db.abandon_upload(content).await.unwrap();
    server.sweep(0).await;
    assert_ne!(server.begin(None, 0).await.unwrap().0, content);
}

pub(crate) async fn of_a_race_one_copy_is_stored(db: &dyn Database) {
    const RACERS: u8 = 20;
    let server = Server::new(db);
    let race = (1..=RACERS).map(|who| server.upload(1, who, None, 0));
    let mut keys = join_all(race).await;
    let stored = server.stored_key(1).await.unwrap();
    let mut swept = server.sweep(0).await;
    assert!(!swept.contains(&stored));
    swept.push(stored);
    keys.sort_by(|a, b| a.as_str().cmp(b.as_str()));
    swept.sort_by(|a, b| a.as_str().cmp(b.as_str()));
    assert_eq!(swept, keys);
    for who in 1..=RACERS {
        assert!(server.owned(1, who).await.is_some(), "{who}");
    }
}

pub(crate) async fn a_copy_of_another_length_stands_for_none(db: &dyn Database) {
    let server = Server::new(db);
    // A content has one length; what a row says otherwise, with a copy of just that length, was never whole.
    let (content, short) = server.begin(None, 0).await.unwrap();
    server.store.put(&short, sealed_len(7));
    let end = FinishedUpload { size: 7, ..finished(content, muid(1), owner(1)) };
    server.commit(&end, 0).await.unwrap();
    let whole = server.upload(1, 2, None, 0).await;
    assert_eq!(server.stored_key(1).await, Some(whole));
    assert_eq!(server.sweep(0).await, [short]);
}
