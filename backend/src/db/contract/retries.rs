//! Uploads whose answers were lost, sent again with a token that is used up.

use futures_util::future::join_all;

use super::fixture::{LEASE_SECS, SIZE, Server, at, muid, owner, token};
use crate::db::{Database, PaidUse, RetryError, RetryId};

/// The length of the body of every upload.
const BODY: u64 = SIZE + 500;
const HOUR: i64 = 3_600;

async fn begin(db: &dyn Database, paid: &PaidUse, declared: Option<u64>, secs: i64) -> Result<RetryId, RetryError> {
    db.begin_retry(paid, declared, at(secs + LEASE_SECS), at(secs)).await
}

/// Begins and ends a retry; else says how many seconds to wait.
async fn retried(db: &dyn Database, paid: &PaidUse, declared: Option<u64>, secs: i64) -> Result<(), Option<i64>> {
    match begin(db, paid, declared, secs).await {
        Ok(retry) => {
            db.end_retry(retry).await.unwrap();
            // A renewal that comes late does not begin it again.
            db.renew_retry(retry, at(secs + LEASE_SECS)).await.unwrap();
            Ok(())
        }
        Err(RetryError::Unlike) => Err(None),
        Err(RetryError::TooMany { wait }) => Err(Some(wait.whole_seconds())),
        Err(RetryError::Db(error)) => panic!("{error}"),
    }
}

pub(crate) async fn only_what_is_like_what_was_stored_is_let_through(db: &dyn Database) {
    let server = Server::new(db);
    let (token, narrower, other) = (token(1, &[2]), token(1, &[2, 1]), token(2, &[2]));
    assert_eq!(retried(db, &token, None, 0).await, Err(None));
    server.upload(1, 1, Some(&token), 0).await;
    for (declared, outcome) in [
        (Some(BODY), Ok(())),
        (Some(BODY + 4_096), Ok(())),
        (Some(BODY - 4_096), Ok(())),
        (Some(BODY + 4_097), Err(None)),
        (Some(BODY - 4_097), Err(None)),
        (Some(0), Err(None)),
        (Some(u64::MAX), Err(None)),
        (None, Ok(())),
    ] {
        assert_eq!(retried(db, &token, declared, 0).await, outcome, "{declared:?}");
    }
    assert_eq!(retried(db, &narrower, Some(BODY), 0).await, Err(None), "another credential stored it");
    assert_eq!(retried(db, &other, Some(BODY), 0).await, Err(None));

    assert!(db.has_stored(&token, muid(1), &owner(1)).await.unwrap());
    assert!(!db.has_stored(&token, muid(2), &owner(1)).await.unwrap());
    assert!(!db.has_stored(&token, muid(1), &owner(2)).await.unwrap());
    assert!(!db.has_stored(&narrower, muid(1), &owner(1)).await.unwrap());
}

pub(crate) async fn one_at_a_time_and_five_an_hour_of_each_use(db: &dyn Database) {
    let server = Server::new(db);
    let token = token(1, &[2]);
    server.upload(1, 1, Some(&token), 0).await;
    let first = begin(db, &token, None, 0).await.unwrap();
    assert_eq!(retried(db, &token, None, LEASE_SECS - 1).await, Err(Some(2)));
    db.renew_retry(first, at(HOUR + 60)).await.unwrap();
    assert_eq!(retried(db, &token, None, HOUR + 59).await, Err(Some(2)), "also one that takes more than an hour");
    db.end_retry(first).await.unwrap();

    for secs in 0..4 {
        assert_eq!(retried(db, &token, None, 100 + secs).await, Ok(()), "{secs}");
    }
    assert_eq!(retried(db, &token, None, 200).await, Err(Some(HOUR - 200)));
    assert_eq!(retried(db, &token, None, HOUR + 1).await, Ok(()), "the first is an hour ago");
    assert_eq!(retried(db, &token, None, HOUR + 2).await, Err(Some(98)));
    // Another use stored, five more.
    server.upload(2, 1, Some(&token), HOUR + 3).await;
    for _ in 0..5 {
        assert_eq!(retried(db, &token, None, HOUR + 3).await, Ok(()));
    }
    assert!(retried(db, &token, None, HOUR + 3).await.is_err());
}

pub(crate) async fn of_many_retries_at_once_one_begins(db: &dyn Database) {
    let server = Server::new(db);
    let token = token(1, &[1]);
    server.upload(1, 1, Some(&token), 0).await;
    for secs in [0, LEASE_SECS] {
        // Whoever began the one before has died.
        let begun = join_all((0..50).map(|_| begin(db, &token, Some(BODY), secs))).await;
        assert_eq!(begun.iter().filter(|begun| begun.is_ok()).count(), 1, "{begun:?}");
        let waits = |begun: &Result<_, RetryError>| matches!(begun, Ok(_) | Err(RetryError::TooMany { .. }));
        assert!(begun.iter().all(waits), "{begun:?}");
    }
}
