//! Removes the copies that no upload needs any more.
//!
//! Only what a row names is removed: a discarded copy, or one of a pending upload whose lease is over. A file that no
//! row names is somebody's mistake to look at, not ours to delete.

use std::{sync::Arc, time::Duration};

use sluice_common::muid::Muid;
use time::OffsetDateTime;
use tokio::time::{Instant, MissedTickBehavior, interval};
use tokio_util::sync::CancellationToken;

use crate::{
    db::{Database, DbError},
    store::{BlobStore, StoreError, StoreKey},
};

/// Rows that are asked for at a time.
const BATCH: u32 = 100;

/// How often media are looked for whose time has come.
const EXPIRY_EVERY: Duration = Duration::from_secs(1);

/// What sphinx-meme appends to the name of a file for the pictures of it.
const LEGACY_PICTURES: [&str; 2] = ["_thumb", "_medium"];

/// Sweeps at once and then `every` so often, until `shutdown`; media that expire, and their contents, within a second or
/// so. What fails is logged and tried again the next time.
///
/// Any number of servers may do so on one database: what one has removed the others do not find.
pub async fn run(db: Arc<dyn Database>, store: Arc<dyn BlobStore>, every: Duration, shutdown: CancellationToken) {
    let mut ticks = interval(EXPIRY_EVERY.min(every));
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut next_sweep = Instant::now();
    let mut is_failing = false;
    while shutdown.run_until_cancelled(ticks.tick()).await.is_some() {
        let now = OffsetDateTime::now_utc();
        let expired = expire_all(&*db, now).await;
        match &expired {
            // It would fill the log while the database is away.
            Err(error) if !is_failing => tracing::error!(%error, "cannot delete what has expired"),
            Err(_) | Ok(0) => {}
            Ok(files) => tracing::info!(files, "deleted what has expired"),
        }
        is_failing = expired.is_err();
        if Instant::now() < next_sweep && !matches!(expired, Ok(1..)) {
            continue;
        }
        next_sweep = Instant::now() + every;
        if let Err(error) = sweep_once(&*db, &*store, now).await {
            tracing::error!(%error, "cannot sweep");
        }
    }
}

/// Deletes all rows of media that are expired at `now`. Says how many.
pub async fn expire_all(db: &dyn Database, now: OffsetDateTime) -> Result<u64, DbError> {
    let mut all = 0;
    loop {
        let expired = db.expire(now, BATCH).await?;
        all += expired;
        if expired < u64::from(BATCH) {
            return Ok(all);
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
            match remove(store, &copy.store_key).await {
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

/// Removes a copy, with the pictures of it that sphinx-meme put beside its own.
async fn remove(store: &dyn BlobStore, key: &StoreKey) -> Result<(), StoreError> {
    if key.as_str().parse::<Muid>().is_ok() {
        for picture in LEGACY_PICTURES {
            if let Ok(key) = format!("{}{picture}", key.as_str()).parse() {
                store.delete(&key).await?;
            }
        }
    }
    store.delete(key).await
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        db::{
            ContentId, FinishedUpload, NewMedia, NewUpload, SqliteDatabase,
            contract::fixture::{finished, owner},
        },
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
    async fn the_old_servers_pictures_go_with_their_file() {
        let rig = rig().await;
        let muid = Muid::of(b"a file");
        let names = [format!("{muid}"), format!("{muid}_thumb"), format!("{muid}_medium")];
        let keys: Vec<StoreKey> = names.iter().map(|name| name.parse().unwrap()).collect();
        let other: StoreKey = format!("{}_thumb", Muid::of(b"another")).parse().unwrap();
        for key in keys.iter().chain([&other]) {
            put(&*rig.store, key, b"some bytes").await;
        }
        let now = OffsetDateTime::now_utc();
        let upload = NewUpload {
            store: rig.store.kind(),
            store_key: keys[0].clone(),
            sealing: None,
            lease_until: now,
            paid: None,
        };
        rig.db.begin_upload(&upload, now).await.unwrap();
        assert_eq!(sweep_once(&*rig.db, &*rig.store, now).await.unwrap(), 1);
        for key in &keys {
            assert!(!rig.has(key).await, "{key:?}");
        }
        assert!(rig.has(&other).await);
    }

    impl Rig {
        /// A file that is to be deleted at `expiry`: the key of its copy.
        async fn stored_until(&self, expiry: OffsetDateTime) -> StoreKey {
            let now = OffsetDateTime::now_utc();
            let (content, key) = self.pending(now, 60).await;
            let end = finished(content, Muid::of(b"some bytes"), owner(1));
            let media = NewMedia { expiry: Some(expiry), ..end.media };
            self.db.commit_upload(&FinishedUpload { size: 10, media, ..end }, &*self.store, now).await.unwrap();
            key
        }

        /// Waits until a copy is gone, without help of a sweep that is not soon.
        async fn is_gone_soon(&self, key: &StoreKey) {
            let end = Instant::now() + Duration::from_secs(30);
            while self.has(key).await {
                assert!(Instant::now() < end, "never: gone");
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        }

        fn start(&self, shutdown: &CancellationToken) -> tokio::task::JoinHandle<()> {
            let (db, store) = (Arc::clone(&self.db), Arc::clone(&self.store));
            tokio::spawn(run(db, store, Duration::from_secs(3_600), shutdown.clone()))
        }
    }

    #[tokio::test]
    async fn what_expires_is_gone_soon_after_its_time() {
        let rig = rig().await;
        let shutdown = CancellationToken::new();
        // Two on one database.
        let running = [rig.start(&shutdown), rig.start(&shutdown)];
        let expiry = OffsetDateTime::now_utc() + Duration::from_secs(1);
        let key = rig.stored_until(expiry).await;
        rig.is_gone_soon(&key).await;
        assert!(OffsetDateTime::now_utc() >= expiry);
        shutdown.cancel();
        for running in running {
            running.await.unwrap();
        }
    }

    #[tokio::test]
    async fn what_expired_while_nobody_swept_is_gone_soon_after_the_start() {
        let rig = rig().await;
        let key = rig.stored_until(OffsetDateTime::now_utc()).await;
        assert!(rig.has(&key).await);
        let shutdown = CancellationToken::new();
        let running = rig.start(&shutdown);
        rig.is_gone_soon(&key).await;
        shutdown.cancel();
        running.await.unwrap();
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
