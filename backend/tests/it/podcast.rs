//! `/podcast`, against a server that answers as the Podcast Index does.

use std::sync::{Arc, Mutex};

use axum::{Router, extract::Request, http::Uri, response::IntoResponse, routing::any};
use http::{HeaderMap, StatusCode};
use serde_json::json;
use sluice_backend::config::PodcastIndexConfig;
use sluice_common::{clock::unix_now, secret::Secret};
use tokio::net::TcpListener;

use crate::support::{Server, assert_problem};

const FEED: &str = "https%3A%2F%2Ffeeds.example%2Fa%3Fb%3Dc%26d";

/// What the Podcast Index was asked: address and headers.
type Asked = Arc<Mutex<Vec<(Uri, HeaderMap)>>>;

/// A Podcast Index with this one answer, a server that asks it, and what it was asked.
async fn index(status: StatusCode, answer: impl Into<String>) -> (Server, Asked) {
    let asked = Asked::default();
    let (noted, answer) = (Arc::clone(&asked), answer.into());
    let handler = async move |request: Request| {
        let (parts, _) = request.into_parts();
        noted.lock().unwrap().push((parts.uri, parts.headers));
        let headers = [("content-type", "application/json"), ("location", "/elsewhere")];
        (status, headers, answer).into_response()
    };
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let base_url = format!("http://{}/api/1.0/", listener.local_addr().unwrap());
    let router = Router::new().fallback(any(handler));
    tokio::spawn(async move { axum::serve(listener, router).await });
    (server(base_url).await, asked)
}

async fn server(base_url: String) -> Server {
    let secret = Secret::new("SECRET".to_owned());
    Server::with(|config| {
        config.podcast_index = Some(PodcastIndexConfig { base_url, key: "KEY".to_owned(), secret });
    })
    .await
}

#[tokio::test]
async fn the_latest_episode_as_the_index_has_it() {
    let older = json!({"id": 1, "title": "Older", "datePublished": 1_600_000_000});
    let latest = json!({
        "id": 2, "title": "Über", "datePublished": 1_700_000_000, "enclosureUrl": "https://cdn.example/2.mp3",
        "enclosureType": "audio/mpeg", "enclosureLength": 3, "image": "", "persons": [{"name": "A"}],
    });
    let answer = json!({"status": "true", "items": [older, latest], "count": 2, "query": "", "description": "Found"});
    let (server, asked) = index(StatusCode::OK, answer.to_string()).await;
    let answer = server.get(&format!("/podcast?url={FEED}")).await;
    assert_eq!((answer.status.as_u16(), answer.json()), (200, latest));

    let (uri, headers) = asked.lock().unwrap().remove(0);
    assert_eq!(uri, *format!("/api/1.0/episodes/byfeedurl?url={FEED}&max=1"));
    let header = |name: &str| headers.get(name).unwrap().to_str().unwrap();
    let date: u64 = header("x-auth-date").parse().unwrap();
    assert!(unix_now().abs_diff(date) < 60);
    assert_eq!((header("x-auth-key"), header("authorization").len()), ("KEY", 40));
    assert!(header("user-agent").starts_with("Sluice/"));
}

#[tokio::test]
async fn a_feed_that_the_index_does_not_know() {
    for (status, answer) in [
        (StatusCode::OK, r#"{"status":"true","items":[],"count":0}"#),
        (StatusCode::BAD_REQUEST, r#"{"status":"false","description":"Feed url not found."}"#),
    ] {
        let (server, _) = index(status, answer).await;
        assert_problem(&server.get(&format!("/podcast?url={FEED}")).await, 404, "no_such_episode");
    }
}

#[tokio::test]
async fn an_index_that_fails_is_not_repeated() {
    let long = format!(r#"{{"items":[{{"title":"{}"}}]}}"#, "x".repeat(1_100_000));
    for (status, answer) in [
        (StatusCode::UNAUTHORIZED, "secret words"),
        (StatusCode::FOUND, ""),
        (StatusCode::INTERNAL_SERVER_ERROR, ""),
        (StatusCode::OK, "<html>"),
        (StatusCode::OK, r#"{"items":7}"#),
        (StatusCode::OK, long.as_str()),
    ] {
        let (server, asked) = index(status, answer).await;
        let answer = server.get(&format!("/podcast?url={FEED}")).await;
        assert_problem(&answer, 502, "podcast_index_unavailable");
        assert!(!String::from_utf8_lossy(answer.bytes()).contains("secret"));
        assert_eq!(asked.lock().unwrap().len(), 1, "no redirect is followed");
    }
    // Nobody listens there any more.
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let gone = format!("http://{}", listener.local_addr().unwrap());
    drop(listener);
    assert_problem(&server(gone).await.get(&format!("/podcast?url={FEED}")).await, 502, "podcast_index_unavailable");
}

#[tokio::test]
async fn only_addresses_of_feeds_are_passed_on() {
    let (asking, asked) = index(StatusCode::OK, "{}").await;
    let long = format!("?url=https://a.example/{}", "x".repeat(3_000));
    for query in
        ["", "?url=", "?url=feed", "?url=file:///etc/passwd", "?url=httpé", "?url=http://a&url=http://b", &long]
    {
        assert_problem(&asking.get(&format!("/podcast{query}").replace('é', "%C3%A9")).await, 400, "invalid_query");
    }
    assert!(asked.lock().unwrap().is_empty());
    let silent = Server::new().await;
    assert_problem(&silent.get(&format!("/podcast?url={FEED}")).await, 404, "podcasts_not_configured");
}
