//! On s3s-fs: what every store must do, and what a server in trouble does to it. On a real server, where the environment
//! names one (`make test-s3`): what every store must do.

#[expect(dead_code, reason = "the tests of the routes use the rest")]
#[path = "../../../tests/it/s3_peer.rs"]
pub(crate) mod peer;
mod trouble;

use futures_util::TryStreamExt;

use self::peer::{Call, Fate, S3Peer};
use super::*;
use crate::store::contract::{self, blob_store_tests, bytes};

const MIB: usize = 1 << 20;

/// Waits as short as a test can.
pub(crate) fn config(endpoint: String) -> S3Config {
    S3Config {
        bucket: peer::BUCKET.to_owned(),
        region: "us-east-1".to_owned(),
        endpoint: Some(endpoint),
        path_style: true,
        credentials: S3Credentials {
            access_key_id: Secret::new(peer::ACCESS_KEY_ID.to_owned()),
            secret_access_key: Secret::new(peer::SECRET_ACCESS_KEY.to_owned()),
            session_token: None,
        },
        timeouts: S3Timeouts {
            connect: Duration::from_secs(5),
            read: Duration::from_secs(20),
            slowest_bytes_per_sec: 1 << 20,
            complete: Duration::from_secs(60),
            backoff: Duration::from_millis(1),
        },
        attempts: 3,
    }
}

async fn open() -> (S3Peer, S3Store) {
    let peer = S3Peer::start().await;
    let store = S3Store::new(&config(peer.endpoint()));
    (peer, store)
}

mod in_process {
    use super::*;

    blob_store_tests!(open().await);
}

/// A server that cannot list unfinished uploads.
mod without_lists {
    use super::*;

    async fn open() -> (S3Peer, S3Store) {
        let peer = S3Peer::with(false, |_, _| Fate::Served).await;
        let store = S3Store::new(&config(peer.endpoint()));
        (peer, store)
    }

    blob_store_tests!(open().await);
}

/// A real server, which `e2e/s3/run` starts. Run with `--ignored`.
mod real {
    use super::*;

    fn open() -> ((), S3Store) {
        let var = |name: &str| std::env::var(name).unwrap_or_else(|_| panic!("{name} is not set: run make test-s3"));
        let config = S3Config {
            bucket: var("SLUICE_TEST_S3_BUCKET"),
            credentials: S3Credentials {
                access_key_id: Secret::new(var("SLUICE_TEST_S3_KEY")),
                secret_access_key: Secret::new(var("SLUICE_TEST_S3_SECRET")),
                session_token: None,
            },
            ..config(var("SLUICE_TEST_S3_ENDPOINT"))
        };
        ((), S3Store::new(&config))
    }

    blob_store_tests!(@ [#[ignore = "needs a real S3 server: make test-s3"]] open());

    #[tokio::test]
    #[ignore = "needs a real S3 server: make test-s3"]
    async fn parts_come_back_as_one() {
        parts_make_one_object(&open().1).await;
    }

    #[tokio::test]
    #[ignore = "needs a real S3 server: make test-s3"]
    async fn an_upload_of_a_process_that_died_is_found() {
        finds_uploads_of_others(&open().1).await;
    }

    #[tokio::test]
    #[ignore = "needs a real S3 server: make test-s3"]
    async fn a_bucket_that_is_missing_is_said() {
        // s3s-fs makes one.
        let store = S3Store { bucket: "sluice-has-no-such-bucket".into(), ..open().1 };
        let error = store.check().await.unwrap_err();
        assert!(!error.is_away(), "{error}");
    }

    #[tokio::test]
    #[ignore = "needs a real S3 server: make test-s3"]
    async fn two_writers_of_one_key_do_not_mix() {
        let store = open().1;
        let key = StoreKey::random();
        let (mut first, mut second) = (store.create(&key, 7).await.unwrap(), store.create(&key, 7).await.unwrap());
        first.write(Bytes::from_static(b"first")).await.unwrap();
        second.write(Bytes::from_static(b"second!")).await.unwrap();
        first.finish().await.unwrap();
        // Garage takes the second, for it does not know `If-None-Match`; others say that the key is taken.
        let second = second.finish().await;
        let len = store.len(&key).await.unwrap();
        assert_eq!(len, Some(if second.is_ok() { 7 } else { 5 }), "{second:?}");
    }
}

/// Puts and gets back files around the sizes where the number of parts changes.
async fn parts_make_one_object(store: &S3Store) {
    for len in [8 * MIB, 8 * MIB + 1, 16 * MIB, 43 * MIB + 7] {
        let (key, content) = (StoreKey::random(), bytes(len));
        contract::put(store, &key, &content).await;
        assert_eq!(store.len(&key).await.unwrap(), Some(len as u64));
        let pieces: Vec<Bytes> = store.read(&key, 0..len as u64).await.unwrap().try_collect().await.unwrap();
        assert!(pieces.concat() == content, "{len}");
        let across = 8 * MIB - 3..len.min(8 * MIB + 100_000);
        let got = contract::get(store, &key, across.start as u64..across.end as u64).await.unwrap();
        assert!(got == content[across], "{len}");
        store.delete(&key).await.unwrap();
        assert_eq!(store.len(&key).await.unwrap(), None);
    }
}

/// An upload of which this process knows nothing is ended with its key, and no other is.
async fn finds_uploads_of_others(store: &S3Store) {
    let (key, stays) = (StoreKey::random(), StoreKey::random());
    let begin = async |key: &StoreKey| {
        let begun = store.client.create_multipart_upload().bucket(&*store.bucket).key(key.as_str()).send().await;
        let upload = begun.unwrap().upload_id.unwrap();
        let part = store.client.upload_part().bucket(&*store.bucket).key(key.as_str()).upload_id(upload);
        part.part_number(1).body(Bytes::from_static(b"part").into()).send().await.unwrap();
    };
    begin(&key).await;
    begin(&key).await;
    begin(&stays).await;
    assert_eq!(store.unfinished(&key).await.unwrap().len(), 2);
    store.delete(&key).await.unwrap();
    assert_eq!(store.unfinished(&key).await.unwrap(), [""; 0]);
    assert_eq!(store.unfinished(&stays).await.unwrap().len(), 1);
    store.delete(&stays).await.unwrap();
}

#[tokio::test]
async fn parts_come_back_as_one() {
    let (peer, store) = open().await;
    parts_make_one_object(&store).await;
    // What fits into one part is one PUT.
    assert_eq!((peer.count(Call::Put), peer.count(Call::Begin)), (1, 3));
    assert_eq!((peer.objects().len(), peer.unfinished()), (0, vec![]));
}

#[tokio::test]
async fn an_upload_of_a_process_that_died_is_found() {
    let (peer, store) = open().await;
    finds_uploads_of_others(&store).await;
    assert_eq!(peer.unfinished(), [""; 0]);
}

#[tokio::test]
async fn a_writer_that_is_dropped_takes_its_parts_along() {
    let (peer, store) = open().await;
    let key = StoreKey::random();
    let mut writer = store.create(&key, 20 * MIB as u64).await.unwrap();
    for _ in 0..20 {
        writer.write(bytes(MIB).into()).await.unwrap();
    }
    assert!(!peer.unfinished().is_empty());
    drop(writer);
    let gone = async {
        while !peer.unfinished().is_empty() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(30), gone).await.unwrap();
}

#[tokio::test]
async fn a_key_that_is_taken_meanwhile_stays_the_first_writers() {
    for len in [5, 9 * MIB] {
        let (_peer, store) = open().await;
        let key = StoreKey::random();
        let mut second = store.create(&key, len as u64).await.unwrap();
        contract::put(&store, &key, b"first").await;
        // The same length is no proof that it is the same copy.
        second.write(bytes(len).into()).await.unwrap();
        assert!(matches!(second.finish().await, Err(StoreError::Taken)), "{len}");
        assert_eq!(contract::get(&store, &key, 0..5).await.unwrap(), b"first");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_upload_has_three_parts_under_way_and_a_store_sixteen() {
    let (peer, store) = open().await;
    contract::put(&store, &StoreKey::random(), &bytes(64 * MIB)).await;
    assert!((2..=3).contains(&peer.parts_at_once()), "{}", peer.parts_at_once());
    let content = bytes(24 * MIB);
    let puts = (0..8).map(|_| async { contract::put(&store, &StoreKey::random(), &content).await });
    futures_util::future::join_all(puts).await;
    assert!(peer.parts_at_once() <= 16, "{}", peer.parts_at_once());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_that_may_be_very_long_has_long_parts_and_fewer_of_them_under_way() {
    let (peer, store) = open().await;
    let content = bytes(64 * MIB);
    for (longest, parts, at_once) in [(160 << 30, 4, 1), (64 << 30, 8, 3)] {
        let (key, before) = (StoreKey::random(), peer.count(Call::Part));
        let mut writer = store.create(&key, longest).await.unwrap();
        for piece in content.chunks(100_000) {
            writer.write(Bytes::copy_from_slice(piece)).await.unwrap();
        }
        writer.finish().await.unwrap();
        assert_eq!(peer.count(Call::Part) - before, parts, "{longest}");
        assert!(peer.parts_at_once() <= at_once, "{longest}: {}", peer.parts_at_once());
        assert!(contract::get(&store, &key, 0..content.len() as u64).await.unwrap() == content);
    }
}

#[tokio::test]
async fn is_checked_with_a_copy_that_goes_again() {
    let (peer, store) = open().await;
    store.check().await.unwrap();
    assert_eq!(peer.objects().len(), 0);
    type Change = fn(&mut S3Config);
    let wrong: [Change; 2] = [
        |config| config.credentials.secret_access_key = Secret::new("wrong".to_owned()),
        |config| config.credentials.access_key_id = Secret::new("who".to_owned()),
    ];
    for change in wrong {
        let mut config = config(peer.endpoint());
        change(&mut config);
        let error = S3Store::new(&config).check().await.unwrap_err();
        assert!(!error.is_away() && error.to_string().contains("status 403"), "{error}");
        assert!(!error.to_string().contains(peer::SECRET_ACCESS_KEY));
    }
}
