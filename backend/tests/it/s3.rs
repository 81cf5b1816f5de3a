//! What clients meet where the files are in S3.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use image::ImageFormat;
use sluice_backend::{
    config::{BackendConfig, StoreConfig},
    db::Variant,
    server::{Server as Served, StartError},
    store::{S3Config, S3Credentials, S3Timeouts},
};
use sluice_common::secret::Secret;
use tempfile::TempDir;
use tokio_util::sync::CancellationToken;

use crate::{
    s3_peer::{self, Call, Fate, S3Peer},
    server::{start, stop},
    support::{Server, assert_problem, bytes, config, delete, eventually, get, post},
    thumbnails::{picture, upload},
};

pub fn in_s3(endpoint: String, seal: bool) -> impl FnOnce(&mut BackendConfig) {
    let secret = |text: &str| Secret::new(text.to_owned());
    let s3 = S3Config {
        bucket: s3_peer::BUCKET.to_owned(),
        region: "us-east-1".to_owned(),
        endpoint: Some(endpoint),
        path_style: true,
        credentials: S3Credentials {
            access_key_id: secret(s3_peer::ACCESS_KEY_ID),
            secret_access_key: secret(s3_peer::SECRET_ACCESS_KEY),
            session_token: None,
        },
        timeouts: S3Timeouts { backoff: Duration::from_millis(1), ..S3Timeouts::default() },
        attempts: 2,
    };
    move |config| {
        config.store = StoreConfig::S3 { s3: Box::new(s3), seal, encryption_key: Some(Secret::new([5; 32])) };
    }
}

/// Whether the server's bucket holds these very bytes.
fn holds(peer: &S3Peer, file: &[u8]) -> bool {
    let mut files = peer.objects().into_keys().map(|key| std::fs::read(peer.object(&key)).unwrap());
    files.any(|object| object.windows(64).any(|window| window == &file[..64]))
}

#[tokio::test]
async fn files_lie_open_in_the_bucket_unless_they_are_to_be_sealed() {
    let peer = S3Peer::start().await;
    let server = Server::with(in_s3(peer.endpoint(), false)).await;
    let open = bytes(300_000);
    let first = server.store("/public", 1, &[], &open).await;
    assert!(holds(&peer, &open));

    let server = server.reopened_with(in_s3(peer.endpoint(), true)).await;
    let sealed = [b"a text that must not stand in the bucket as it is, for it is to be sealed", &open[..]].concat();
    let second = server.store("/public", 1, &[], &sealed).await;
    assert!(!holds(&peer, &sealed));

    // Each is read as it was stored, whatever is done with new ones.
    let server = server.reopened_with(in_s3(peer.endpoint(), false)).await;
    for (muid, file) in [(&first, &open), (&second, &sealed)] {
        assert!(server.get(&format!("/public/{muid}")).await.bytes() == file);
        let part = server.send(get(&format!("/public/{muid}")).header("range", "bytes=70000-199999").empty()).await;
        assert_eq!(part.status, 206);
        assert!(part.bytes() == &file[70_000..200_000]);
    }
}

#[tokio::test]
async fn thumbnails_are_made_kept_and_removed_beside_their_file() {
    for seal in [false, true] {
        let peer = S3Peer::start().await;
        let server = Server::with(in_s3(peer.endpoint(), seal)).await;
        let file = picture(500, 300, ImageFormat::Png);
        let muid = upload(&server, "/public", "cat.png", "image/png", &file).await;
        let objects = async || {
            server.app.uploads.wait().await;
            peer.objects()
        };
        for (number, (size, variant, side)) in
            [("thumb", Variant::Thumb, 60), ("medium", Variant::Medium, 400)].into_iter().enumerate()
        {
            let path = format!("/public/{muid}?{size}=true");
            let made = server.get(&path).await;
            assert_eq!((made.status.as_u16(), made.header("content-type")), (200, "image/png"), "{seal} {size}");
            let small = image::load_from_memory_with_format(made.bytes(), ImageFormat::Png).unwrap();
            assert_eq!((small.width(), small.height()), (side, side));
            assert_eq!(objects().await.len(), number + 2);
            let kept = server.app.db.content(muid.parse().unwrap(), variant).await.unwrap().unwrap();
            assert_eq!(kept.sealing.is_some(), seal);
            assert_eq!(holds(&peer, made.bytes()), !seal, "{size}");

            // The next comes from the bucket, where nothing new is put.
            let gets = peer.count(Call::Get);
            assert_eq!(server.get(&path).await.bytes(), made.bytes());
            assert_eq!((peer.count(Call::Get), objects().await.len()), (gets + 1, number + 2));
            // One that is lost is made again.
            std::fs::remove_file(peer.object(kept.store_key.as_str())).unwrap();
            assert_eq!(server.get(&path).await.bytes(), made.bytes());
            assert_eq!(objects().await.len(), number + 2);
        }
        assert_eq!(server.get(&format!("/public/{muid}")).await.bytes(), file);
        let answer = server.send(delete(&format!("/mymedia/{muid}")).bearer(&server.login(1)).empty()).await;
        assert_eq!(answer.status, 204);
        eventually(async || objects().await.is_empty()).await;
    }
}

#[tokio::test]
async fn a_server_that_is_away_is_503_and_then_all_is_well() {
    let away = Arc::new(AtomicBool::new(false));
    let is_away = Arc::clone(&away);
    let peer = S3Peer::with(true, move |_, _| {
        if is_away.load(Ordering::SeqCst) { Fate::Refused(503, "ServiceUnavailable") } else { Fate::Served }
    })
    .await;
    let server = Server::with(in_s3(peer.endpoint(), false)).await;
    let file = bytes(100_000);
    let muid = server.store("/public", 1, &[], &file).await;

    away.store(true, Ordering::SeqCst);
    let download = server.get(&format!("/public/{muid}")).await;
    assert_problem(&download, 503, "store_away");
    let upload = server.send(post("/file").bearer(&server.login(1)).form(&[], b"another")).await;
    assert_problem(&upload, 503, "store_away");
    for answer in [download, upload] {
        assert_eq!(answer.header("retry-after"), "10");
    }
    away.store(false, Ordering::SeqCst);
    assert!(server.get(&format!("/public/{muid}")).await.bytes() == file);
    server.store("/public", 1, &[], b"another").await;
}

#[tokio::test]
async fn a_download_that_breaks_for_good_ends_short_and_no_client_takes_it_for_whole() {
    let peer = S3Peer::with(true, |call, _| match call {
        Call::Get => Fate::CutAfter(20_000),
        _ => Fate::Served,
    })
    .await;
    let server = Server::with(in_s3(peer.endpoint(), false)).await;
    let muid = server.store("/public", 1, &[], &bytes(300_000)).await;
    let answer = server.get(&format!("/public/{muid}")).await;
    assert_eq!((answer.status.as_u16(), answer.header("content-length")), (200, "300000"));
    assert_eq!(answer.body, None, "it breaks off");
    // What comes after a few breaks comes whole.
    let short = server.send(get(&format!("/public/{muid}")).header("range", "bytes=0-99999").empty()).await;
    assert_eq!(short.bytes().len(), 100_000);
}

#[tokio::test]
async fn starts_without_its_s3_server_but_not_with_credentials_that_it_refuses() {
    let dir = TempDir::new().unwrap();
    let mut config = config(&dir);
    in_s3("http://127.0.0.1:1".to_owned(), false)(&mut config);
    let (running, shutdown) = start(config.clone()).await;
    stop(running, shutdown).await;

    let peer = S3Peer::start().await;
    in_s3(peer.endpoint(), false)(&mut config);
    let StoreConfig::S3 { s3, .. } = &mut config.store else { panic!("not S3") };
    s3.credentials.secret_access_key = Secret::new("wrong".to_owned());
    let error = Served::start(config, CancellationToken::new()).await.unwrap_err();
    assert!(matches!(error, StartError::Store(_)) && error.to_string().contains("403"), "{error}");
}

#[tokio::test]
async fn a_key_that_seals_nothing_may_go() {
    let dir = TempDir::new().unwrap();
    let peer = S3Peer::start().await;
    for (seal, key, starts) in [(false, true, true), (false, false, true), (true, true, true), (false, false, false)] {
        let mut config = config(&dir);
        in_s3(peer.endpoint(), seal)(&mut config);
        let StoreConfig::S3 { encryption_key, .. } = &mut config.store else { panic!("not S3") };
        *encryption_key = encryption_key.take().filter(|_| key);
        let shutdown = CancellationToken::new();
        match (Served::start(config, shutdown.clone()).await, starts) {
            (Ok(running), true) => stop(running, shutdown).await,
            (Err(StartError::Keys(_)), false) => {}
            (started, _) => panic!("{started:?}"),
        }
    }
}
