//! How long an upload is nobody else's to clean up after.

use http::StatusCode;
use tokio::{sync::Semaphore, time::timeout};

use super::{
    super::*,
    rig::{self, PATIENCE, Rig, eventually, file_form, paid_order},
    trouble::{Troubled, gate},
};
use crate::store::{LocalStore, contract::bytes};

async fn renews_the_lease_of_a_slow_upload(rig: &Rig) {
    let (sender, body) = rig::slow_body();
    let upload = rig.begin(body);
    rig.is_under_way().await;
    rig.has_its_lease_renewed().await;
    sender.send(Ok(file_form(b"x").into())).await.unwrap();
    drop(sender);
    upload.await.unwrap().unwrap();
}

#[tokio::test]
async fn a_lease_is_renewed_while_the_upload_lives() {
    let rig = Rig::build(|db, store| {
        let mut uploads = Uploads::new(db, store, None);
        uploads.lease = Duration::from_secs(3);
        uploads
    })
    .await;
    renews_the_lease_of_a_slow_upload(&rig).await;
}

#[tokio::test]
async fn a_renewal_that_gets_no_answer_is_tried_again() {
    let rig = Rig::build(|db, store| {
        let db = Troubled { lost_renewals: 1.into(), ..Troubled::new(db) };
        let mut uploads = Uploads::new(Arc::new(db), store, None);
        uploads.lease = Duration::from_secs(1);
        uploads
    })
    .await;
    renews_the_lease_of_a_slow_upload(&rig).await;
}

#[tokio::test]
async fn a_lease_is_renewed_while_the_commit_waits() {
    let commits = Arc::new(Semaphore::new(0));
    let rig = Rig::build(|db, store| {
        let db = Troubled { commits: Arc::clone(&commits), ..Troubled::new(db) };
        let mut uploads = Uploads::new(Arc::new(db), store, None);
        uploads.lease = Duration::from_secs(1);
        uploads
    })
    .await;
    let upload = rig.begin(Body::from(file_form(b"x")));
    eventually("a file", async || rig::some_file(&rig.store_dir())).await;
    // More than one, for the first could have been before the commit.
    for _ in 0..3 {
        rig.has_its_lease_renewed().await;
    }
    commits.add_permits(1);
    upload.await.unwrap().unwrap();
    rig.has_only(1).await;
}

#[tokio::test]
async fn an_upload_without_its_lease_ends() {
    let rig = Rig::build(|db, store| {
        let mut uploads = Uploads::new(db, store, None);
        uploads.lease = Duration::from_millis(300);
        uploads
    })
    .await;
    let (sender, body) = rig::slow_body();
    let upload = rig.begin(body);
    let mut begin = file_form(&bytes(600_000));
    begin.truncate(500_000);
    sender.send(Ok(begin.into())).await.unwrap();
    eventually("bytes in the store", async || rig::some_file(&rig.store_dir())).await;
    // Another server believes it dead.
    let later = OffsetDateTime::now_utc() + Duration::from_secs(3_600);
    assert_eq!(sweeper::sweep_once(&*rig.db, &LocalStore::open(&rig.store_dir()).unwrap(), later).await.unwrap(), 1);
    // The client only waits, and is told.
    let error = timeout(PATIENCE, upload).await.unwrap().unwrap().unwrap_err();
    assert_eq!(
        (error.to_problem().status(), error.to_problem().code()),
        (StatusCode::SERVICE_UNAVAILABLE, "upload_interrupted")
    );
    assert!(sender.is_closed());
    rig.has_only(0).await;
    rig.upload(paid_order(), file_form(b"x")).await.unwrap();
}

#[tokio::test]
async fn a_lease_lost_at_the_very_end_stores_nothing() {
    let open = Arc::new(Semaphore::new(0));
    let rig = Rig::build(|db, store| Uploads::new(db, gate(store, &open), None)).await;
    let upload = rig.begin(Body::from(file_form(b"x")));
    eventually("a file", async || rig::some_file(&rig.store_dir())).await;
    let later = OffsetDateTime::now_utc() + Duration::from_secs(3_600);
    sweeper::sweep_once(&*rig.db, &LocalStore::open(&rig.store_dir()).unwrap(), later).await.unwrap();
    open.add_permits(1);
    assert!(matches!(upload.await.unwrap(), Err(UploadError::Interrupted)));
    rig.has_only(0).await;
}
