//! The same deployment with its files in a bucket, where sphinx-meme sealed nothing and gave objects the muid as key.

use std::fs;

use super::{
    adopt_all, assert_is_all_there, assert_is_the_file,
    deployment::{Deployment, all_media, muid},
    left_to_adopt,
};
use crate::{
    s3::in_s3,
    s3_peer::S3Peer,
    support::{Server, assert_problem, get},
};

/// The deployment served, and the bucket with all its files as they were before they were sealed.
async fn serve() -> (Deployment, S3Peer, Server) {
    let (deployment, peer) = (Deployment::new().await, S3Peer::start().await);
    let sealed = Deployment::new().await;
    let plain = sealed.serve().await;
    for media in all_media() {
        let answer = plain.get(&format!("/public/{}", muid(media))).await;
        fs::write(peer.object(&muid(media)), answer.bytes()).unwrap();
    }
    let server = deployment.serve_with(in_s3(peer.endpoint(), false)).await;
    (deployment, peer, server)
}

#[tokio::test]
async fn everything_is_there_whether_it_was_looked_at_before_or_not() {
    let (_deployment, peer, server) = serve().await;
    let before = peer.objects();
    assert_eq!(left_to_adopt(&server).await, 7);
    assert_is_all_there(&server).await;
    assert_eq!(left_to_adopt(&server).await, 0);
    assert_is_all_there(&server).await;
    assert_eq!(peer.objects(), before, "no object was touched");

    let (_deployment, _peer, server) = serve().await;
    adopt_all(&server).await;
    assert_eq!(left_to_adopt(&server).await, 0);
    assert_is_all_there(&server).await;
}

#[tokio::test]
async fn ranges_and_thumbnails_are_of_what_it_left() {
    let (_deployment, peer, server) = serve().await;
    let mut pictures = 0;
    for media in all_media() {
        let path = format!("/public/{}", muid(media));
        let file = fs::read(peer.object(&muid(media))).unwrap();
        // The first that asks for a file asks for a part of it.
        if file.len() > 5 {
            let part = server.send(get(&path).header("range", "bytes=2-4").empty()).await;
            assert_eq!((part.status.as_u16(), part.bytes()), (206, &file[2..5]), "{media:#}");
            let end = server.send(get(&path).header("range", "bytes=-3").empty()).await;
            assert_eq!((end.status.as_u16(), end.bytes()), (206, &file[file.len() - 3..]), "{media:#}");
        }
        let is_picture = media["headers"]["Content-Type"].as_str().unwrap().starts_with("image/");
        if is_picture && media["stored_whole"] == true {
            for (size, side) in [("thumb", 60), ("medium", 400)] {
                let made = server.get(&format!("{path}?{size}=true")).await;
                assert_eq!(made.status, 200, "{media:#}");
                let picture = image::load_from_memory(made.bytes()).unwrap();
                assert_eq!((picture.width(), picture.height()), (side, side));
                pictures += 1;
            }
        }
        assert_is_the_file(&server.get(&path).await, media);
    }
    assert_eq!(pictures, 6);
}

#[tokio::test]
async fn an_object_that_is_missing_is_404_and_its_row_stays() {
    let (_deployment, peer, server) = serve().await;
    let media = all_media().next().unwrap();
    let object = fs::read(peer.object(&muid(media))).unwrap();
    fs::remove_file(peer.object(&muid(media))).unwrap();
    for _ in 0..2 {
        for query in ["", "?thumb=true"] {
            let answer = server.get(&format!("/public/{}{query}", muid(media))).await;
            assert_problem(&answer, 404, "no_such_file");
        }
        adopt_all(&server).await;
        assert_eq!(left_to_adopt(&server).await, 1);
    }
    // It was elsewhere.
    fs::write(peer.object(&muid(media)), object).unwrap();
    assert_is_all_there(&server).await;
}
