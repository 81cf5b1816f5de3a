//! What a server in trouble does to a store.

use std::sync::atomic::AtomicUsize;

use super::*;

/// A store on a server on which `ask` says what becomes of a call, and a copy in it that went in well.
async fn troubled(ask: impl Fn(Call, usize) -> Fate + Send + Sync + 'static) -> (S3Peer, S3Store) {
    let peer = S3Peer::with(true, ask).await;
    let store = S3Store::new(&config(peer.endpoint()));
    (peer, store)
}

async fn try_put(store: &S3Store, key: &StoreKey, content: &[u8]) -> Result<(), StoreError> {
    let mut writer = store.create(key, content.len() as u64).await?;
    for piece in content.chunks(300_000) {
        writer.write(Bytes::copy_from_slice(piece)).await?;
    }
    writer.finish().await
}

#[tokio::test]
async fn what_fails_twice_is_tried_a_third_time() {
    for fate in [Fate::Refused(500, "InternalError"), Fate::Refused(503, "SlowDown"), Fate::Cut] {
        let (peer, store) = troubled(move |_, before| if before < 2 { fate } else { Fate::Served }).await;
        for len in [1_000, 20 * MIB] {
            let (key, content) = (StoreKey::random(), bytes(len));
            try_put(&store, &key, &content).await.unwrap();
            assert!(contract::get(&store, &key, 0..len as u64).await.unwrap() == content);
            store.delete(&key).await.unwrap();
        }
        assert_eq!((peer.objects().len(), peer.unfinished()), (0, vec![]), "{fate:?}");
    }
}

#[tokio::test]
async fn an_answer_that_is_lost_is_no_failure() {
    let (peer, store) = troubled(|call, before| match (call, before) {
        (Call::Put | Call::Complete | Call::Part, 0) => Fate::AnswerLost,
        _ => Fate::Served,
    })
    .await;
    for len in [1_000, 20 * MIB] {
        let (key, content) = (StoreKey::random(), bytes(len));
        try_put(&store, &key, &content).await.unwrap();
        assert!(contract::get(&store, &key, 0..len as u64).await.unwrap() == content);
    }
    assert_eq!((peer.count(Call::Put), peer.count(Call::Complete), peer.unfinished()), (2, 2, vec![]));
}

#[tokio::test]
async fn a_read_that_breaks_off_is_taken_up_where_it_broke() {
    for (fate, gets) in [(Fate::CutAfter(100_000), 6), (Fate::CutAfter(600_000), 2)] {
        let (peer, store) = troubled(move |call, _| if call == Call::Get { fate } else { Fate::Served }).await;
        let (key, content) = (StoreKey::random(), bytes(600_000));
        try_put(&store, &key, &content).await.unwrap();
        assert!(contract::get(&store, &key, 10_000..600_000).await.unwrap() == content[10_000..], "{fate:?}");
        assert!(peer.count(Call::Get) <= gets, "{}", peer.count(Call::Get));
    }
}

#[tokio::test]
async fn a_read_that_breaks_off_again_and_again_is_an_error() {
    let (peer, store) = troubled(|call, _| if call == Call::Get { Fate::CutAfter(10_000) } else { Fate::Served }).await;
    let key = StoreKey::random();
    try_put(&store, &key, &bytes(600_000)).await.unwrap();
    let mut stream = store.read(&key, 0..600_000).await.unwrap();
    let mut got = 0;
    let error = loop {
        match stream.try_next().await {
            Ok(piece) => got += piece.expect("the body is short and ends well").len(),
            Err(error) => break error,
        }
    };
    assert!(error.is_away(), "{error}");
    assert_eq!((got, peer.count(Call::Get)), (60_000, 6));
}

#[tokio::test]
async fn a_read_does_not_go_on_with_another_copy() {
    let (_peer, store) = troubled(|call, before| match (call, before) {
        (Call::Get, 0) => Fate::CutAfter(10_000),
        _ => Fate::Served,
    })
    .await;
    let key = StoreKey::random();
    try_put(&store, &key, &bytes(600_000)).await.unwrap();
    let mut stream = store.read(&key, 0..600_000).await.unwrap();
    store.delete(&key).await.unwrap();
    try_put(&store, &key, &vec![7; 600_000]).await.unwrap();
    let error = loop {
        match stream.try_next().await {
            Ok(piece) => assert!(piece.is_some(), "mixed"),
            Err(error) => break error,
        }
    };
    assert!(matches!(error, StoreError::Missing), "{error}");
}

#[tokio::test]
async fn silence_is_an_error_in_bounds() {
    for silent in [Call::Head, Call::Put, Call::Begin, Call::Part, Call::Complete, Call::Get, Call::Delete] {
        let peer = S3Peer::with(true, move |call, _| if call == silent { Fate::Silent } else { Fate::Served }).await;
        let mut config = config(peer.endpoint());
        config.timeouts.read = Duration::from_millis(300);
        config.timeouts.complete = Duration::from_millis(300);
        config.attempts = 2;
        config.timeouts.slowest_bytes_per_sec = 1 << 30;
        let store = S3Store::new(&config);
        let key = StoreKey::random();
        let work = async {
            try_put(&store, &key, &bytes(1_000)).await?;
            contract::get(&store, &key, 0..1_000).await?;
            store.delete(&key).await?;
            try_put(&store, &key, &bytes(9 * MIB)).await
        };
        let done = tokio::time::timeout(Duration::from_secs(30), work).await.expect("in bounds");
        assert!(done.as_ref().is_err_and(StoreError::is_away), "{silent:?}: {done:?}");
    }
}

#[tokio::test]
async fn a_server_that_is_not_there_is_away() {
    let store = S3Store::new(&config("http://127.0.0.1:1".to_owned()));
    let key = StoreKey::random();
    assert!(store.check().await.unwrap_err().is_away());
    assert!(store.create(&key, 1).await.err().unwrap().is_away());
    assert!(store.len(&key).await.unwrap_err().is_away());
    assert!(store.read(&key, 0..1).await.err().unwrap().is_away());
    assert!(store.delete(&key).await.unwrap_err().is_away());
}

#[tokio::test]
async fn a_full_bucket_is_full() {
    for (status, code) in [(507, "InsufficientStorage"), (403, "QuotaExceeded"), (507, "XMinioStorageFull")] {
        let full = move |call, _| match call {
            Call::Put | Call::Part => Fate::Refused(status, code),
            _ => Fate::Served,
        };
        let (_peer, store) = troubled(full).await;
        for len in [1_000, 20 * MIB] {
            let error = try_put(&store, &StoreKey::random(), &bytes(len)).await.unwrap_err();
            assert!(error.is_full() && !error.is_away(), "{error}");
        }
    }
}

/// Whether the server hears of an abort within a moment.
async fn is_aborted_soon(peer: &S3Peer) -> bool {
    let aborted = async {
        while peer.count(Call::Abort) == 0 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(Duration::from_millis(500), aborted).await.is_ok()
}

#[tokio::test]
async fn nothing_is_aborted_under_a_part_that_would_come_after() {
    // What the writer's end removes, and what a delete does that does not wait for that.
    for deletes in [false, true] {
        let (peer, store) = troubled(|call, before| match (call, before) {
            (Call::Part, 0) => Fate::Held,
            _ => Fate::Served,
        })
        .await;
        let key = StoreKey::random();
        let mut writer = store.create(&key, 9 * MIB as u64).await.unwrap();
        writer.write(bytes(9 * MIB).into()).await.unwrap();
        // Its head is with the server.
        let begun = async {
            while peer.count(Call::Part) == 0 {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        tokio::time::timeout(Duration::from_secs(30), begun).await.unwrap();
        let deleting = async {
            match deletes {
                true => {
                    std::mem::forget(writer);
                    store.delete(&key).await
                }
                false => {
                    drop(writer);
                    Ok(())
                }
            }
        };
        let (deleted, ()) = tokio::join!(deleting, async {
            assert!(!is_aborted_soon(&peer).await, "{deletes}");
            peer.release();
        });
        deleted.unwrap();
        let gone = async {
            while !peer.unfinished().is_empty() {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        let gone = tokio::time::timeout(Duration::from_secs(30), gone).await;
        assert!(gone.is_ok(), "{deletes}: {:?}", peer.unfinished());
    }
}

#[tokio::test]
async fn a_part_whose_end_nobody_heard_keeps_its_copy_to_be_removed_later() {
    let peer = S3Peer::with(true, |call, _| if call == Call::Part { Fate::Cut } else { Fate::Served }).await;
    let mut config = config(peer.endpoint());
    config.attempts = 1;
    let store = S3Store::new(&config);
    let key = StoreKey::random();
    let mut writer = store.create(&key, 9 * MIB as u64).await.unwrap();
    writer.write(bytes(9 * MIB).into()).await.unwrap();
    assert!(writer.finish().await.is_err());
    // The server may still be at it, so that what is aborted now might come back.
    tokio::time::pause();
    assert!(store.delete(&key).await.unwrap_err().is_away());
    tokio::time::advance(config.timeouts.read).await;
    tokio::time::resume();
    store.delete(&key).await.unwrap();
    assert_eq!(peer.unfinished(), [""; 0]);
}

#[tokio::test]
async fn what_cannot_be_aborted_now_can_be_later() {
    let aborts = Arc::new(AtomicUsize::new(0));
    let failing = Arc::clone(&aborts);
    let (peer, store) = troubled(move |call, _| match call {
        Call::Abort if failing.fetch_add(1, Ordering::SeqCst) < 6 => Fate::Refused(500, "InternalError"),
        _ => Fate::Served,
    })
    .await;
    let key = StoreKey::random();
    let mut writer = store.create(&key, 9 * MIB as u64).await.unwrap();
    writer.write(bytes(9 * MIB).into()).await.unwrap();
    std::mem::forget(writer);
    // A part that is still on its way would come after the abort.
    let landed = async {
        while peer.count(Call::Part) == 0 || !peer.is_idle() {
            tokio::time::sleep(std::time::Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(std::time::Duration::from_secs(30), landed).await.expect("the part lands");
    while let Err(error) = store.delete(&key).await {
        assert!(error.is_away() && aborts.load(Ordering::SeqCst) < 10, "{error}");
        assert!(!peer.unfinished().is_empty());
    }
    assert_eq!(peer.unfinished(), [""; 0]);
}

/// Begins an upload of which no store knows but by the server's list.
async fn begin_unknown(store: &S3Store, key: &StoreKey) {
    let begin = store.client.create_multipart_upload().bucket(&*store.bucket).key(key.as_str());
    begin.send().await.unwrap();
}

#[tokio::test]
async fn an_upload_that_another_aborted_meanwhile_is_gone_and_no_error() {
    // The first try works, and its answer is lost: the second meets what a sweeper meets that comes after another. For
    // that s3s-fs says 403 AccessDenied, Garage and AWS 404 NoSuchUpload.
    let (peer, store) = troubled(|call, before| match (call, before) {
        (Call::Abort, 0) => Fate::AnswerLost,
        (Call::Abort, 1) => Fate::Served,
        (Call::Abort, 2) => Fate::AnswerLost,
        (Call::Abort, 3) => Fate::Refused(404, "NoSuchUpload"),
        _ => Fate::Served,
    })
    .await;
    for aborts in [2, 4] {
        let key = StoreKey::random();
        begin_unknown(&store, &key).await;
        store.delete(&key).await.unwrap();
        assert_eq!((peer.count(Call::Abort), peer.unfinished()), (aborts, vec![]));
    }
}

#[tokio::test]
async fn an_upload_that_nobody_may_abort_is_an_error_as_long_as_it_is_there() {
    let (peer, store) = troubled(|call, _| match call {
        Call::Abort => Fate::Refused(403, "AccessDenied"),
        _ => Fate::Served,
    })
    .await;
    let key = StoreKey::random();
    begin_unknown(&store, &key).await;
    let error = store.delete(&key).await.unwrap_err();
    assert!(!error.is_away() && error.to_string().contains("AccessDenied"), "{error}");
    assert!(!peer.unfinished().is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn two_sweepers_remove_one_upload_and_neither_fails() {
    let (peer, store) = open().await;
    let other = S3Store::new(&config(peer.endpoint()));
    for _ in 0..50 {
        let key = StoreKey::random();
        begin_unknown(&store, &key).await;
        let (one, two) = tokio::join!(store.delete(&key), other.delete(&key));
        assert!(one.is_ok() && two.is_ok(), "{one:?} {two:?}");
        assert_eq!(peer.unfinished(), [""; 0]);
    }
}
