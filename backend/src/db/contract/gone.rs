//! What goes, when, and what goes with it.

use std::{
    sync::atomic::{AtomicU32, Ordering},
    time::Duration,
};

use futures_util::future::{join, join_all, join3};
use sluice_common::dare::sealed_len;
use tokio::time::timeout;

use super::fixture::{SIZE, Server, at, finished, muid, owner};
use crate::{
    db::{CommitError, Content, ContentId, Database, FinishedVariant, OverQuota, Owner, Page, Quota, Usage, Variant},
    store::{BlobStore, StoreKey},
};

impl Server<'_> {
    async fn upload_until(&self, n: u8, who: u8, expiry: i64, secs: i64) -> StoreKey {
        let (content, key) = self.begin(None, secs).await.unwrap();
        let mut end = finished(content, muid(n), owner(who));
        (end.media.expiry, end.media.public) = (Some(at(expiry)), true);
        self.commit(&end, secs).await.unwrap();
        key
    }

    /// Makes a picture of file `n`.
    async fn draw(&self, n: u8, variant: Variant) -> Result<(Content, StoreKey), CommitError> {
        let (content, key) = self.begin(None, 0).await.unwrap();
        let drawn = self.db.commit_variant(&picture(content, n, variant), &self.store).await?;
        Ok((drawn, key))
    }

    async fn delete(&self, n: u8, who: u8) -> bool {
        self.db.delete_media(muid(n), &owner(who)).await.unwrap()
    }
}

fn picture(content: ContentId, n: u8, variant: Variant) -> FinishedVariant {
    FinishedVariant { content, muid: muid(n), variant, size: SIZE }
}

fn sorted(mut keys: Vec<StoreKey>) -> Vec<StoreKey> {
    keys.sort_by(|a, b| a.as_str().cmp(b.as_str()));
    keys
}

pub(crate) async fn a_content_goes_with_its_last_owner(db: &dyn Database) {
    let server = Server::new(db);
    let key = server.upload(1, 1, None, 0).await;
    let other = server.upload(2, 1, None, 0).await;
    let equal = server.upload(1, 2, None, 0).await;
    assert_eq!(server.sweep(0).await, [equal]);
    assert!(!server.delete(1, 3).await && !server.delete(3, 1).await);
    assert!(server.delete(1, 1).await && !server.delete(1, 1).await);
    assert_eq!(server.owned(1, 1).await, None);
    assert_eq!((server.sweep(0).await, server.stored_key(1).await), (vec![], Some(key.clone())));
    assert!(server.delete(1, 2).await);
    assert_eq!((server.stored_key(1).await, db.media(muid(1), &[owner(1)], at(0)).await.unwrap()), (None, None));
    assert_eq!(server.sweep(0).await, [key]);
    assert_eq!((server.sweep(0).await, server.stored_key(2).await), (vec![], Some(other)));
    // And comes again.
    let again = server.upload(1, 1, None, 10).await;
    assert_eq!(server.stored_key(1).await, Some(again));
    assert_eq!(server.owned(1, 1).await.unwrap().created, at(10));
}

pub(crate) async fn what_is_expired_is_as_good_as_gone(db: &dyn Database) {
    let server = Server::new(db);
    let key = server.upload_until(1, 1, 10, 0).await;
    let owners = [owner(1)];
    let all = Page::default();
    assert_eq!(db.owned(&owners, &all, at(9)).await.unwrap().media.len(), 1);
    assert_eq!(db.owned(&owners, &all, at(10)).await.unwrap().media.len(), 0);
    // Whoever asks for this one can be told that it is gone.
    let media = db.media(muid(1), &owners, at(10)).await.unwrap().unwrap();
    assert!(!media.is_expired(at(9)) && media.is_expired(at(10)));
    assert_eq!(db.purchase(muid(1), &owner(1), at(10)).await.unwrap(), None);
    assert_eq!(db.change_media(muid(1), &owner(1), &Default::default(), at(10)).await.unwrap(), None);

    // Others speak for it first; who is preferred, before others.
    server.upload(1, 2, None, 5).await;
    for (preferred, now, speaks) in [
        (vec![], at(9), 1),
        (vec![], at(10), 2),
        (vec![owner(1)], at(10), 1),
        (vec![owner(1), owner(2)], at(9), 1),
        (vec![owner(1), owner(2)], at(10), 2),
    ] {
        assert_eq!(db.media(muid(1), &preferred, now).await.unwrap().unwrap().owner, owner(speaks), "{preferred:?}");
    }
    assert_eq!(db.expire(at(9), 10).await.unwrap(), 0);
    assert_eq!(db.expire(at(10), 10).await.unwrap(), 1);
    assert_eq!(db.expire(at(10), 10).await.unwrap(), 0);
    assert_eq!((server.owned(1, 1).await, server.stored_key(1).await), (None, Some(key.clone())));
    assert!(server.delete(1, 2).await);
    assert!(server.sweep(10).await.contains(&key));

    // Uploaded once more before it was swept, it is as new.
    server.upload_until(2, 1, 10, 0).await;
    db.purchase(muid(2), &owner(1), at(5)).await.unwrap().unwrap();
    server.upload(2, 1, None, 10).await;
    let media = server.owned(2, 1).await.unwrap();
    assert_eq!((media.created, media.total_buys, media.expiry), (at(10), 0, None));
    assert_eq!(db.expire(at(100), 10).await.unwrap(), 0);
    assert!(server.stored_key(2).await.is_some());
}

pub(crate) async fn expires_no_more_than_asked(db: &dyn Database) {
    let server = Server::new(db);
    let mut keys = vec![];
    for n in 1..=5 {
        keys.push(server.upload_until(n, 1, i64::from(n), 0).await);
    }
    let lasts = server.upload_until(6, 1, 100, 0).await;
    assert_eq!(db.expire(at(50), 2).await.unwrap(), 2);
    // Those whose time came first.
    assert!(server.owned(2, 1).await.is_none() && server.owned(3, 1).await.is_some());
    assert_eq!(db.expire(at(50), 3).await.unwrap(), 3);
    assert_eq!(db.expire(at(50), 3).await.unwrap(), 0);
    assert_eq!(sorted(server.sweep(50).await), sorted(keys));
    assert_eq!(server.stored_key(6).await, Some(lasts));
}

pub(crate) async fn pictures_go_with_their_file(db: &dyn Database) {
    let server = Server::new(db);
    let mut keys = vec![server.upload(1, 1, None, 0).await];
    for variant in [Variant::Thumb, Variant::Medium] {
        assert_eq!(db.content(muid(1), variant).await.unwrap(), None);
        let (drawn, key) = server.draw(1, variant).await.unwrap();
        assert_eq!((drawn.muid, drawn.size, &drawn.store_key), (muid(1), SIZE, &key));
        assert_eq!(db.content(muid(1), variant).await.unwrap(), Some(drawn));
        keys.push(key);
    }
    assert_eq!(server.stored_key(1).await.as_ref(), Some(&keys[0]));
    assert_eq!(server.sweep(0).await, []);
    // A better copy of the file takes nothing from them.
    server.store.delete(&keys[0]).await.unwrap();
    let better = server.upload(1, 2, None, 0).await;
    assert_eq!(server.sweep(0).await, [std::mem::replace(&mut keys[0], better)]);
    server.delete(1, 1).await;
    assert_eq!(server.sweep(0).await, []);
    server.delete(1, 2).await;
    assert_eq!(sorted(server.sweep(0).await), sorted(keys));
    assert_eq!(db.content(muid(1), Variant::Thumb).await.unwrap(), None);

    // What it would be of is gone: no picture, and no trace of it.
    let (content, key) = server.begin(None, 0).await.unwrap();
    for n in [1, 2] {
        let late = db.commit_variant(&picture(content, n, Variant::Thumb), &server.store).await;
        assert!(matches!(late, Err(CommitError::NoFile)), "{late:?}");
    }
    db.abandon_upload(content).await.unwrap();
    let late = db.commit_variant(&picture(content, 1, Variant::Thumb), &server.store).await;
    assert!(matches!(late, Err(CommitError::LeaseLost)), "{late:?}");
    assert_eq!(server.sweep(0).await, [key]);
}

pub(crate) async fn a_picture_is_kept_once(db: &dyn Database) {
    let server = Server::new(db);
    server.upload(1, 1, None, 0).await;
    let race = join_all((0..10).map(|_| server.draw(1, Variant::Thumb))).await;
    let mut keys = vec![];
    let mut drawn = vec![];
    for drew in race {
        let (content, key) = drew.unwrap();
        drawn.push(content);
        keys.push(key);
    }
    assert!(drawn.iter().all(|content| *content == drawn[0]), "{drawn:?}");
    keys.retain(|key| *key != drawn[0].store_key);
    assert_eq!(sorted(server.sweep(0).await), sorted(keys));
    // One that is not whole makes room.
    server.store.put(&drawn[0].store_key, sealed_len(SIZE) - 1);
    let (better, key) = server.draw(1, Variant::Thumb).await.unwrap();
    assert_eq!(better.store_key, key);
    assert_eq!(server.sweep(0).await, [drawn[0].store_key.clone()]);
}

pub(crate) async fn a_quota_is_kept(db: &dyn Database) {
    let server = Server::new(db);
    let quota = Quota { max_bytes: Some(2 * SIZE + 1), max_files: Some(3) };
    let put = async |n: u8, who: u8, quota: Quota| {
        let (content, _) = server.begin(None, 0).await.unwrap();
        let end = finished(content, muid(n), owner(who));
        let done = server.commit(&crate::db::FinishedUpload { quota, ..end }, 0).await;
        if done.is_err() {
            db.abandon_upload(content).await.unwrap();
        }
        done
    };
    for n in [1, 2] {
        put(n, 1, quota).await.unwrap();
    }
    let used = Usage { files: 2, bytes: 2 * SIZE };
    match put(3, 1, quota).await {
        Err(CommitError::OverQuota(over)) => assert_eq!(over, OverQuota { quota, used, size: SIZE }),
        other => panic!("{other:?}"),
    }
    assert_eq!(server.owned(3, 1).await, None);
    assert_eq!(server.stored_key(3).await, None);
    // What it has already counts once; nobody counts for another.
    put(2, 1, quota).await.unwrap();
    put(3, 2, quota).await.unwrap();
    assert_eq!(db.usage(&owner(1)).await.unwrap(), used);
    let files = Quota { max_files: Some(3), max_bytes: None };
    put(3, 1, files).await.unwrap();
    assert!(matches!(put(4, 1, files).await, Err(CommitError::OverQuota(_))));
    server.delete(1, 1).await;
    put(4, 1, files).await.unwrap();
    put(5, 1, Quota::default()).await.unwrap();

    // Nor by many at once.
    let quota = Quota { max_files: Some(5), max_bytes: None };
    let race = join_all((1..=20).map(|n| put(n, 9, quota))).await;
    assert_eq!(race.iter().filter(|done| done.is_ok()).count(), 5);
    assert_eq!(db.usage(&owner(9)).await.unwrap(), Usage { files: 5, bytes: 5 * SIZE });
}

pub(crate) async fn says_what_an_owner_has(db: &dyn Database) {
    let server = Server::new(db);
    assert_eq!(db.usage(&owner(1)).await.unwrap(), Usage::default());
    server.upload(1, 1, None, 0).await;
    server.upload(2, 1, None, 0).await;
    server.upload(1, 2, None, 0).await;
    assert_eq!(db.usage(&owner(1)).await.unwrap(), Usage { files: 2, bytes: 2 * SIZE });
    let owns = async |who: Owner, sizes| db.owns_of_size(&who, sizes).await.unwrap();
    assert!(owns(owner(1), SIZE..=SIZE).await && owns(owner(2), 0..=u64::MAX).await);
    assert!(!owns(owner(1), 0..=SIZE - 1).await && !owns(owner(1), SIZE + 1..=u64::MAX).await);
    assert!(!owns(owner(3), 0..=u64::MAX).await);
}

pub(crate) async fn a_slow_store_holds_nobody_up_and_cannot_speak_of_what_is_gone(db: &dyn Database) {
    let server = Server::new(db);
    let older = server.upload(1, 1, None, 0).await;
    let (content, newer) = server.begin(None, 10).await.unwrap();
    let end = finished(content, muid(1), owner(2));
    let held = server.store.answers.write().await;
    let meanwhile = async {
        while server.store.looks.load(Ordering::SeqCst) == 0 {
            tokio::task::yield_now().await;
        }
        // Another upload comes to its end, and the copy that the store is about to praise goes.
        server.upload(2, 3, None, 10).await;
        assert!(server.delete(1, 1).await);
        assert_eq!(server.sweep(10).await, [older]);
        drop(held);
    };
    let meanwhile = timeout(Duration::from_secs(4), meanwhile);
    let (committed, meanwhile) = join(server.commit(&end, 10), meanwhile).await;
    meanwhile.expect("nobody waits for the store");
    committed.unwrap();
    assert_eq!(server.stored_key(1).await, Some(newer));
    assert_eq!(server.sweep(10).await, []);
}

/// Uploads of one content race whatever could take it away: the delete of its last row, its expiry, and the sweep.
pub(crate) async fn an_upload_that_races_the_end_of_its_content_keeps_it(db: &dyn Database) {
    let server = Server::new(db);
    let (kept, replaced) = (AtomicU32::new(0), AtomicU32::new(0));
    for round in 0..RACES {
        let secs = i64::from(round) * 10;
        // The last owner, whose row is deleted, or expires.
        let older = if round % 2 == 0 {
            server.upload(1, 1, None, secs).await
        } else {
            server.upload_until(1, 1, secs + 5, secs).await
        };
        let (content, _) = server.begin(None, secs).await.unwrap();
        let end = finished(content, muid(1), owner(2));
        let pause = async |turns: u32| {
            for _ in 0..turns {
                tokio::task::yield_now().await;
            }
        };
        let upload = async {
            pause(round % 7).await;
            server.commit(&end, secs + 5).await.unwrap();
        };
        let end = async {
            pause(round % 5).await;
            if round % 2 == 0 {
                assert!(server.delete(1, 1).await);
            } else {
                db.expire(at(secs + 5), 10).await.unwrap();
            }
        };
        let sweep = async {
            pause(round % 3).await;
            server.sweep(secs + 5).await;
            server.sweep(secs + 5).await;
        };
        join3(upload, end, sweep).await;
        server.sweep(secs + 5).await;
        let stored = db.content(muid(1), Variant::File).await.unwrap().expect("what was answered 200 is stored");
        assert_eq!(server.store.len(&stored.store_key).await.unwrap(), Some(stored.stored_len()), "{round}");
        assert!(server.owned(1, 2).await.is_some());
        let outcome = if stored.store_key == older { &kept } else { &replaced };
        outcome.fetch_add(1, Ordering::Relaxed);
        assert!(server.delete(1, 2).await);
        server.sweep(secs + 5).await;
        assert_eq!(server.stored_key(1).await, None);
    }
    // Both ways of the race were run.
    assert!(kept.into_inner() > 0 && replaced.into_inner() > 0);
}

/// How often an upload races the end of its content.
const RACES: u32 = 1_000;
