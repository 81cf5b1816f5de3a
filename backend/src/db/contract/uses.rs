//! What was paid for, and how often it was used.

use futures_util::future::join_all;

use super::fixture::{LEASE_SECS, SIZE, Server, at, finished, muid, owner, token, upload};
use crate::db::{BeginError, Database, PaidUse, StoredUpload};

impl Server<'_> {
    async fn is_used_up(&self, paid: &PaidUse, secs: i64) -> bool {
        matches!(self.begin(Some(paid), secs).await, Err(BeginError::UsedUp))
    }

    async fn is_in_progress(&self, paid: &PaidUse, secs: i64) -> bool {
        matches!(self.begin(Some(paid), secs).await, Err(BeginError::InProgress))
    }
}

pub(crate) async fn a_use_is_held_and_then_spent(db: &dyn Database) {
    let server = Server::new(db);
    let token = token(1, &[2]);
    assert_eq!(server.uses(&token, 0).await, [(0, 0)]);
    let (first, _) = server.begin(Some(&token), 0).await.unwrap();
    let (second, _) = server.begin(Some(&token), 0).await.unwrap();
    assert_eq!(server.uses(&token, 0).await, [(0, 2)]);
    assert!(server.is_in_progress(&token, 0).await);

    server.commit(&finished(first, muid(1), owner(1)), 5).await.unwrap();
    assert_eq!(server.uses(&token, 5).await, [(1, 1)]);
    assert!(server.is_in_progress(&token, 5).await);

    server.commit(&finished(second, muid(2), owner(1)), 6).await.unwrap();
    assert_eq!(server.uses(&token, 6).await, [(2, 0)]);
    assert!(server.is_used_up(&token, 6).await);
    let stored = |n, secs| StoredUpload { muid: muid(n), size: SIZE, stored_at: at(secs) };
    let token_use = db.token_use(&token, at(6)).await.unwrap();
    assert_eq!(token_use.stored, [stored(2, 6), stored(1, 5)]);
    assert!(!token_use.is_storing);
    assert_eq!(token_use.counters[0].max_uses, 2);
    assert!(token_use.counters[0].is_used_up() && !token_use.counters[0].has_room());
    // Refused begins left nothing behind.
    assert_eq!(server.sweep(1_000).await, []);
}

pub(crate) async fn a_failed_upload_gives_its_use_back(db: &dyn Database) {
    let server = Server::new(db);
    let token = token(1, &[1]);
    for _ in 0..3 {
        let (content, _) = server.begin(Some(&token), 0).await.unwrap();
        db.abandon_upload(content).await.unwrap();
        assert_eq!(server.uses(&token, 0).await, [(0, 0)]);
    }
    let (content, _) = server.begin(Some(&token), 0).await.unwrap();
    server.commit(&finished(content, muid(1), owner(1)), 0).await.unwrap();
    // Too late: what is stored is paid.
    db.abandon_upload(content).await.unwrap();
    assert!(server.is_used_up(&token, 0).await);
    let same_key = upload(at(0), None);
    db.begin_upload(&same_key, at(0)).await.unwrap();
    let failed = db.begin_upload(&same_key, at(0)).await;
    assert!(matches!(failed, Err(BeginError::Db(_))), "{failed:?}");
}

pub(crate) async fn an_ended_lease_gives_its_use_back(db: &dyn Database) {
    let server = Server::new(db);
    let token = token(1, &[1]);
    let (lost, first) = server.begin(Some(&token), 0).await.unwrap();
    assert!(server.is_in_progress(&token, LEASE_SECS - 1).await);
    assert_eq!(server.uses(&token, LEASE_SECS - 1).await, [(0, 1)]);
    // Free for whoever comes first: it is not said to be held any more, but it still is, until then.
    assert_eq!(server.uses(&token, LEASE_SECS).await, [(0, 0)]);
    let (_, second) = server.begin(Some(&token), LEASE_SECS).await.unwrap();
    assert!(server.is_in_progress(&token, LEASE_SECS).await);
    assert!(server.commit(&finished(lost, muid(1), owner(1)), LEASE_SECS).await.is_err());
    assert_eq!(server.sweep(LEASE_SECS).await, [first]);

    // The sweeper gives it back too.
    assert_eq!(server.sweep(2 * LEASE_SECS).await, [second]);
    server.upload(1, 1, Some(&token), 0).await;
    assert_eq!(server.uses(&token, 0).await, [(1, 0)]);
    assert!(server.is_used_up(&token, 10 * LEASE_SECS).await);
}

pub(crate) async fn every_counter_needs_room(db: &dyn Database) {
    let server = Server::new(db);
    let (whole, narrow) = (token(1, &[3]), token(1, &[3, 1]));
    let (content, _) = server.begin(Some(&narrow), 0).await.unwrap();
    assert_eq!(server.uses(&narrow, 0).await, [(0, 1), (0, 1)]);
    assert_eq!(server.uses(&whole, 0).await, [(0, 1)]);
    assert!(server.is_in_progress(&narrow, 0).await);
    server.commit(&finished(content, muid(1), owner(1)), 0).await.unwrap();
    assert!(server.is_used_up(&narrow, 0).await);

    server.upload(2, 2, Some(&whole), 0).await;
    let (content, _) = server.begin(Some(&whole), 0).await.unwrap();
    // Used up wins over in progress: waiting would not help the narrow one, but the whole one.
    assert!(server.is_used_up(&narrow, 0).await);
    assert!(server.is_in_progress(&whole, 0).await);
    server.commit(&finished(content, muid(3), owner(2)), 0).await.unwrap();
    assert_eq!(server.uses(&narrow, 0).await, [(3, 0), (1, 0)]);
    assert!(server.is_used_up(&whole, 0).await);

    // Each credential sees what was stored with it.
    for (token, files) in [(&whole, vec![muid(3), muid(2)]), (&narrow, vec![muid(1)])] {
        let stored = db.token_use(token, at(0)).await.unwrap().stored;
        assert_eq!(stored.iter().map(|upload| upload.muid).collect::<Vec<_>>(), files);
    }
}

pub(crate) async fn payments_count_apart(db: &dyn Database) {
    let server = Server::new(db);
    let (one, other, never) = (token(1, &[1]), token(2, &[1]), token(3, &[0]));
    server.upload(1, 1, Some(&one), 0).await;
    server.upload(1, 1, Some(&other), 0).await;
    for token in [&one, &other] {
        assert_eq!(server.uses(token, 0).await, [(1, 0)]);
        assert_eq!(db.token_use(token, at(0)).await.unwrap().stored.len(), 1);
    }
    assert!(server.is_used_up(&never, 0).await);
}

pub(crate) async fn a_token_without_counters_is_not_limited(db: &dyn Database) {
    let server = Server::new(db);
    let token = PaidUse { counters: vec![], ..token(1, &[1]) };
    for n in 0..120 {
        server.upload(n, 1, Some(&token), n.into()).await;
    }
    let token_use = db.token_use(&token, at(0)).await.unwrap();
    assert_eq!(token_use.counters, []);
    let newest: Vec<_> = token_use.stored.iter().map(|upload| upload.muid).collect();
    assert_eq!(newest, (20..120).rev().map(muid).collect::<Vec<_>>());
    // What is under way shows all the same, as long as it holds its lease.
    let is_storing = async |paid: &PaidUse, secs| db.token_use(paid, at(secs)).await.unwrap().is_storing;
    assert!(!is_storing(&token, 200).await);
    server.begin(Some(&token), 200).await.unwrap();
    let another = PaidUse { credential_hash: [9; 32], ..token.clone() };
    assert!(is_storing(&token, 200).await && !is_storing(&another, 200).await);
    assert!(!is_storing(&token, 201 + LEASE_SECS).await);
}

pub(crate) async fn nobody_is_charged_twice_for_one_content(db: &dyn Database) {
    let server = Server::new(db);
    let (token, narrower) = (token(1, &[5]), token(1, &[5, 5]));
    server.upload(1, 1, Some(&token), 0).await;
    // The answer to the first was lost: sent again.
    server.upload(1, 1, Some(&token), 1).await;
    assert_eq!(server.uses(&token, 2).await, [(1, 0)]);
    assert_eq!(db.token_use(&token, at(2)).await.unwrap().stored.len(), 1);
    // Both at once, and another credential of the same payment.
    let (one, _) = server.begin(Some(&token), 3).await.unwrap();
    let (two, _) = server.begin(Some(&token), 3).await.unwrap();
    for content in [one, two] {
        server.commit(&finished(content, muid(2), owner(1)), 3).await.unwrap();
    }
    assert_eq!(server.uses(&token, 3).await, [(2, 0)]);
    server.upload(1, 1, Some(&narrower), 4).await;
    assert_eq!(server.uses(&narrower, 4).await, [(3, 0), (1, 0)]);
}

pub(crate) async fn each_owner_of_a_content_costs_a_use(db: &dyn Database) {
    let server = Server::new(db);
    let token = token(1, &[3]);
    for (who, spent) in [(1, 1), (2, 2), (2, 2), (1, 2), (3, 3)] {
        server.upload(1, who, Some(&token), who.into()).await;
        assert_eq!(server.uses(&token, 3).await, [(spent, 0)], "{who}");
    }
    assert!(server.is_used_up(&token, 3).await);
    assert_eq!(db.token_use(&token, at(3)).await.unwrap().stored.len(), 3);
}

pub(crate) async fn a_spent_use_outlives_the_copy_that_lost(db: &dyn Database) {
    let server = Server::new(db);
    let token = token(1, &[1]);
    server.upload(1, 1, None, 0).await;
    let loser = server.upload(1, 2, Some(&token), 10).await;
    assert_eq!(server.sweep(10).await, [loser]);
    assert_eq!(server.uses(&token, 10).await, [(1, 0)]);
    assert!(server.is_used_up(&token, 10 * LEASE_SECS).await);
    assert_eq!(db.token_use(&token, at(10)).await.unwrap().stored.len(), 1);
}

pub(crate) async fn of_a_hundred_at_once_one_begins(db: &dyn Database) {
    let server = Server::new(db);
    let token = token(1, &[1]);
    let begun = join_all((0..100).map(|_| server.begin(Some(&token), 0))).await;
    let (begun, refused): (Vec<_>, Vec<_>) = begun.into_iter().partition(Result::is_ok);
    assert!(refused.iter().all(|refused| matches!(refused, Err(BeginError::InProgress))), "{refused:?}");
    assert_eq!((begun.len(), refused.len()), (1, 99));
    for begun in begun {
        server.commit(&finished(begun.unwrap().0, muid(1), owner(1)), 0).await.unwrap();
    }
    let late = join_all((0..100).map(|_| server.begin(Some(&token), 0))).await;
    assert!(late.iter().all(|late| matches!(late, Err(BeginError::UsedUp))), "{late:?}");
}

pub(crate) async fn many_at_once_never_store_more_than_was_sold(db: &dyn Database) {
    const SOLD: u64 = 7;
    let server = Server::new(db);
    let (token, narrower) = (token(1, &[SOLD]), token(1, &[SOLD, 3]));
    // Each begins, and stores a content of its own, fails, or is swept; two of the credentials of one payment.
    let stored = join_all((0..90_u8).map(|n| {
        let (server, token) = (&server, if n % 2 == 0 { &token } else { &narrower });
        async move {
            loop {
                match server.begin(Some(token), 0).await {
                    Err(BeginError::UsedUp) => return 0,
                    Err(BeginError::InProgress) => tokio::task::yield_now().await,
                    Err(error) => panic!("{error}"),
                    Ok((content, _)) if n % 3 == 0 => {
                        db.abandon_upload(content).await.unwrap();
                        return 0;
                    }
                    Ok((content, _)) => {
                        return u64::from(server.commit(&finished(content, muid(n), owner(n)), 0).await.is_ok());
                    }
                }
            }
        }
    }))
    .await;
    let narrow: u64 = stored.iter().skip(1).step_by(2).sum();
    assert_eq!((stored.iter().sum::<u64>(), narrow <= 3), (SOLD, true), "{stored:?}");
    assert_eq!(server.uses(&narrower, 0).await, [(SOLD, 0), (narrow, 0)]);
}

pub(crate) async fn a_late_upload_never_stores_a_use_that_was_given_on(db: &dyn Database) {
    for n in 0..40 {
        let server = Server::new(db);
        let token = token(n, &[1]);
        let (late, _) = server.begin(Some(&token), 0).await.unwrap();
        // Its lease is over: it comes to its end while another begins on its use, and while it is swept.
        let late = async { server.commit(&finished(late, muid(n), owner(1)), LEASE_SECS).await.is_ok() };
        let other = async {
            match server.begin(Some(&token), LEASE_SECS).await {
                Ok((content, _)) => {
                    server.commit(&finished(content, muid(100 + n), owner(1)), LEASE_SECS).await.is_ok()
                }
                Err(BeginError::Db(error)) => panic!("{error}"),
                Err(_) => false,
            }
        };
        let (late, other, _) = tokio::join!(late, other, server.sweep(LEASE_SECS));
        assert!(!(late && other), "one use was stored twice");
        let spent = u64::from(late) + u64::from(other);
        assert_eq!(server.uses(&token, LEASE_SECS).await, [(spent, 0)], "{n}");
    }
}

pub(crate) async fn one_content_sent_many_times_at_once_costs_one_use(db: &dyn Database) {
    let server = Server::new(db);
    let token = token(1, &[20]);
    let begun = join_all((0..20).map(|_| server.begin(Some(&token), 0))).await;
    let ends: Vec<_> = begun.into_iter().map(|begun| finished(begun.unwrap().0, muid(1), owner(1))).collect();
    for committed in join_all(ends.iter().map(|end| server.commit(end, 0))).await {
        committed.unwrap();
    }
    assert_eq!(server.uses(&token, 0).await, [(1, 0)]);
    assert_eq!(db.token_use(&token, at(0)).await.unwrap().stored.len(), 1);
}
