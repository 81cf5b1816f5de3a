//! What every blob store must do. `blob_store_tests!(open())` makes a test of each function here; `open()` gives a
//! guard that is kept for the test's length, and a fresh store.

use bytes::Bytes;
use futures_util::TryStreamExt;

use super::{BlobStore, StoreError, StoreKey};

macro_rules! blob_store_tests {
    ($open:expr) => {
        $crate::store::contract::blob_store_tests!(@ [] $open);
    };
    // With attributes for each of the tests.
    (@ $attributes:tt $open:expr) => {
        $crate::store::contract::blob_store_tests!(
            @ $attributes $open;
            gives_back_what_was_written, gives_any_range, a_taken_key_is_an_error, what_is_not_there_is_missing,
            a_short_copy_is_missing, deletes_one_copy, deletes_a_half_written_copy, can_be_checked,
        );
    };
    (@ $attributes:tt $open:expr; $($test:ident,)*) => {
        $($crate::store::contract::blob_store_tests!(@ $attributes $open => $test);)*
    };
    (@ [$($attribute:tt)*] $open:expr => $test:ident) => {
        #[tokio::test]
        $($attribute)*
        async fn $test() {
            let (_guard, store) = $open;
            $crate::store::contract::$test(&store).await;
        }
    };
}
pub(crate) use blob_store_tests;

/// Bytes that differ wherever one looks.
pub(crate) fn bytes(len: usize) -> Vec<u8> {
    (0..len as u32).map(|i| (i.wrapping_mul(2_654_435_761) >> 13) as u8).collect()
}

/// Stores `content` under `key`, in pieces.
pub(crate) async fn put(store: &dyn BlobStore, key: &StoreKey, content: &[u8]) {
    let mut writer = store.create(key, content.len() as u64).await.unwrap();
    for piece in content.chunks(100_000) {
        writer.write(Bytes::copy_from_slice(piece)).await.unwrap();
    }
    writer.finish().await.unwrap();
}

/// The bytes `range` of a copy.
pub(crate) async fn get(
    store: &dyn BlobStore,
    key: &StoreKey,
    range: std::ops::Range<u64>,
) -> Result<Vec<u8>, StoreError> {
    let pieces: Vec<Bytes> = store.read(key, range).await?.try_collect().await?;
    Ok(pieces.concat())
}

pub(crate) async fn gives_back_what_was_written(store: &dyn BlobStore) {
    for len in [0, 1, 131_072, 131_073, 1_000_000] {
        let (key, content) = (StoreKey::random(), bytes(len));
        put(store, &key, &content).await;
        assert_eq!(store.len(&key).await.unwrap(), Some(len as u64));
        assert!(get(store, &key, 0..len as u64).await.unwrap() == content, "{len}");
    }
}

pub(crate) async fn gives_any_range(store: &dyn BlobStore) {
    let (key, content) = (StoreKey::random(), bytes(400_000));
    put(store, &key, &content).await;
    for range in
        [0..1, 0..131_072, 1..131_073, 131_071..131_073, 399_999..400_000, 100..100, 400_000..400_000, 5..399_998]
    {
        let got = get(store, &key, range.start as u64..range.end as u64).await.unwrap();
        assert!(got == content[range.clone()], "{range:?}");
    }
}

pub(crate) async fn a_taken_key_is_an_error(store: &dyn BlobStore) {
    let key = StoreKey::random();
    put(store, &key, b"first").await;
    let second = match store.create(&key, 6).await {
        Ok(mut writer) => {
            let written = writer.write(Bytes::from_static(b"second")).await;
            written.and(writer.finish().await)
        }
        Err(error) => Err(error),
    };
    assert!(matches!(second, Err(StoreError::Taken)), "{second:?}");
    assert_eq!(get(store, &key, 0..5).await.unwrap(), b"first");
}

pub(crate) async fn what_is_not_there_is_missing(store: &dyn BlobStore) {
    let key = StoreKey::random();
    assert_eq!(store.len(&key).await.unwrap(), None);
    assert!(matches!(get(store, &key, 0..1).await, Err(StoreError::Missing)));
    store.delete(&key).await.unwrap();
}

pub(crate) async fn a_short_copy_is_missing(store: &dyn BlobStore) {
    let key = StoreKey::random();
    put(store, &key, &bytes(200_000)).await;
    for range in [0..200_001, 199_999..200_001, 200_000..200_001, 300_000..300_001] {
        assert!(matches!(get(store, &key, range.clone()).await, Err(StoreError::Missing)), "{range:?}");
    }
}

pub(crate) async fn deletes_one_copy(store: &dyn BlobStore) {
    let (gone, stays) = (StoreKey::random(), StoreKey::random());
    put(store, &gone, b"gone").await;
    put(store, &stays, b"stays").await;
    store.delete(&gone).await.unwrap();
    store.delete(&gone).await.unwrap();
    assert_eq!((store.len(&gone).await.unwrap(), store.len(&stays).await.unwrap()), (None, Some(5)));
    // The name is free again.
    put(store, &gone, b"again").await;
}

pub(crate) async fn deletes_a_half_written_copy(store: &dyn BlobStore) {
    let key = StoreKey::random();
    let mut writer = store.create(&key, 1_000_000).await.unwrap();
    for _ in 0..3 {
        writer.write(bytes(300_000).into()).await.unwrap();
    }
    drop(writer);
    store.delete(&key).await.unwrap();
    assert_eq!(store.len(&key).await.unwrap(), None);
}

pub(crate) async fn can_be_checked(store: &dyn BlobStore) {
    store.check().await.unwrap();
}
