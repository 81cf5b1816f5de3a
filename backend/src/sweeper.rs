//! Removes the copies that no upload needs any more.
//!
//! Only what a row names is removed: a discarded copy, or one of a pending upload whose lease is over. A file that no
//! row names is somebody's mistake to look at, not ours to delete.

use std::{sync::Arc, time::Duration};

use time::OffsetDateTime;
use tokio::time::{MissedTickBehavior, interval};
use tokio_util::sync::CancellationToken;

use crate::{
    db::{Database, DbError},
    store::BlobStore,
};

/// Rows that are asked for at a time.
const BATCH: u32 = 100;

/// Sweeps at once and then `every` so often, until `shutdown`. What fails is logged and tried again the next time.
pub async fn run(db: Arc<dyn Database>, store: Arc<dyn BlobStore>, every: Duration, shutdown: CancellationToken) {
    let mut ticks = interval(every);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    while shutdown.run_until_cancelled(ticks.tick()).await.is_some() {
        if let Err(error) = sweep_once(&*db, &*store, OffsetDateTime::now_utc()).await {
            tracing::error!(%error, "cannot sweep");
        }
    }
}

/// Removes every copy in `store` that rows give up at `now`, then its row. Says how many were removed. A copy that
/// cannot be removed is logged and stays, with its row.
pub async fn sweep_once(db: &dyn Database, store: &dyn BlobStore, now: OffsetDateTime) -> Result<usize, DbError> {
    let mut removed = 0;
    let mut last = None;
    loop {
        let copies = db.discarded(store.kind(), last, BATCH, now).await?;
        for copy in &copies {
            match store.delete(&copy.store_key).await {
                Ok(()) => {
                    db.forget(copy.id).await?;
                    removed += 1;
                }
                Err(error) => tracing::error!(%error, content = copy.id.0, "cannot remove a discarded copy"),
            }
        }
        // Those that cannot be removed hide none of the rest.
        last = copies.last().map(|copy| copy.id);
        if copies.len() < BATCH as usize {
            return Ok(removed);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        db::{ContentId, NewUpload, SqliteDatabase},
        store::{LocalStore, StoreKey, contract::put},
    };

    struct Rig {
        folder: tempfile::TempDir,
        db: Arc<SqliteDatabase>,
        store: Arc<LocalStore>,
    }

    async fn rig() -> Rig {
        let folder = tempfile::tempdir().unwrap();
        let db = Arc::new(SqliteDatabase::open(&folder.path().join("rows.db")).await.unwrap());
        let store = Arc::new(LocalStore::open(&folder.path().join("files")).unwrap());
        Rig { folder, db, store }
    }

    impl Rig {
        /// A pending upload with a file, whose lease ends in `lease_secs`.
        async fn pending(&self, now: OffsetDateTime, lease_secs: u64) -> (ContentId, StoreKey) {
            let key = StoreKey::random();
            put(&*self.store, &key, b"some bytes").await;
            let upload = NewUpload {
                store: self.store.kind(),
                store_key: key.clone(),
                sealing: None,
                lease_until: now + Duration::from_secs(lease_secs),
                paid: None,
            };
            (self.db.begin_upload(&upload, now).await.unwrap(), key)
        }

        async fn has(&self, key: &StoreKey) -> bool {
            self.store.len(key).await.unwrap().is_some()
        }
    }

    #[tokio::test]
    async fn removes_what_rows_give_up_and_nothing_else() {
        let rig = rig().await;
        let now = OffsetDateTime::now_utc();
        let (_, alive) = rig.pending(now, 60).await;
        let (_, ended) = rig.pending(now, 10).await;
        let (abandoned, given_up) = rig.pending(now, 60).await;
        rig.db.abandon_upload(abandoned).await.unwrap();
        let stray = StoreKey::random();
        put(&*rig.store, &stray, b"no row names it").await;

        assert_eq!(sweep_once(&*rig.db, &*rig.store, now + Duration::from_secs(20)).await.unwrap(), 2);
        assert!(rig.has(&alive).await && rig.has(&stray).await);
        assert!(!rig.has(&ended).await && !rig.has(&given_up).await);
        assert_eq!(sweep_once(&*rig.db, &*rig.store, now + Duration::from_secs(20)).await.unwrap(), 0);
    }

    #[tokio::test]
    async fn removes_more_than_one_batch() {
        let rig = rig().await;
        let now = OffsetDateTime::now_utc();
        for _ in 0..BATCH + 5 {
            rig.pending(now, 1).await;
        }
        let later = now + Duration::from_secs(2);
        assert_eq!(sweep_once(&*rig.db, &*rig.store, later).await.unwrap(), BATCH as usize + 5);
    }

    #[tokio::test]
    async fn what_cannot_be_removed_keeps_its_row_and_hides_no_other() {
        let rig = rig().await;
        let now = OffsetDateTime::now_utc();
        let mut stuck = vec![];
        for _ in 0..BATCH {
            let (_, key) = rig.pending(now, 1).await;
            let path = rig.folder.path().join("files").join(key.as_str());
            std::fs::remove_file(&path).unwrap();
            std::fs::create_dir(&path).unwrap(); // No file: removing it fails.
            stuck.push(path);
        }
        let (_, key) = rig.pending(now, 1).await;
        let later = now + Duration::from_secs(2);
        assert_eq!(sweep_once(&*rig.db, &*rig.store, later).await.unwrap(), 1);
        assert!(!rig.has(&key).await);
        for path in &stuck {
            std::fs::remove_dir(path).unwrap();
        }
        assert_eq!(sweep_once(&*rig.db, &*rig.store, later).await.unwrap(), stuck.len());
    }

    #[tokio::test]
    async fn runs_until_it_is_told_to_end() {
        let rig = rig().await;
        let shutdown = CancellationToken::new();
        let (db, store) = (Arc::clone(&rig.db), Arc::clone(&rig.store));
        let running = tokio::spawn(run(db, store, Duration::from_millis(10), shutdown.clone()));
        for _ in 0..2 {
            let (_, key) = rig.pending(OffsetDateTime::now_utc(), 0).await;
            let gone = async {
                while rig.has(&key).await {
                    tokio::task::yield_now().await;
                }
            };
            tokio::time::timeout(Duration::from_secs(30), gone).await.unwrap();
        }
        shutdown.cancel();
        tokio::time::timeout(Duration::from_secs(30), running).await.unwrap().unwrap();
    }
}
