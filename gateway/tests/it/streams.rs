//! WebSocket and server-sent events through the gateway.

use std::{convert::Infallible, net::SocketAddr, time::Duration};

use axum::{Router, body::Body, response::IntoResponse, routing::get};
use bytes::Bytes;
use futures_util::{SinkExt, StreamExt, stream};
use sluice_gateway::config::{Access, UpstreamConfig};
use tokio::{
    net::{TcpListener, TcpStream},
    sync::mpsc,
    time::timeout,
};
use tokio_tungstenite::{
    accept_async, client_async,
    tungstenite::{Error, Message, client::IntoClientRequest},
};

use crate::{World, client::Request};

const WAIT: Duration = Duration::from_secs(20);

async fn world(upstream: SocketAddr) -> World {
    let upstream = UpstreamConfig::new(&[upstream.to_string()]).unwrap();
    World::with(|service| {
        service.upstream = upstream;
        service.offer.access = Access::protect(vec!["GET /live".parse().unwrap()]);
        service.offer.forward_credential = false;
    })
    .await
}

/// Says back what it hears, and says when it heard the end.
async fn echo() -> (SocketAddr, mpsc::Receiver<()>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let (ended, has_ended) = mpsc::channel(8);
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let ended = ended.clone();
            tokio::spawn(async move {
                let Ok(mut socket) = accept_async(stream).await else { return };
                while let Some(Ok(message)) = socket.next().await {
                    if !message.is_close() && socket.send(message).await.is_err() {
                        break;
                    }
                }
                let _ = ended.send(()).await;
            });
        }
    });
    (address, has_ended)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_websocket_is_paid_for_and_then_carries_more_than_an_upload_may() {
    let (upstream, mut has_ended) = echo().await;
    let world = world(upstream).await;
    let connect = async |authorization: Option<String>| {
        let mut request = format!("ws://{}/live", world.gateway.address()).into_client_request().unwrap();
        if let Some(authorization) = authorization {
            request.headers_mut().insert("authorization", authorization.parse().unwrap());
        }
        client_async(request, TcpStream::connect(world.gateway.address()).await.unwrap()).await
    };
    let Err(Error::Http(refused)) = connect(None).await else { panic!("not refused") };
    assert_eq!(refused.status(), 402);
    let reply = world.send(Request::new("GET", "/live")).await;
    let credential = world.pay(&reply).await;
    let authorization = credential.authorization().expose().clone();
    let (mut socket, _) = connect(Some(authorization.clone())).await.unwrap();
    let large = Message::Binary(Bytes::from(vec![7; 500_000]));
    for _ in 0..10 {
        socket.send(large.clone()).await.unwrap();
        assert_eq!(timeout(WAIT, socket.next()).await.expect("held back").unwrap().unwrap(), large);
    }
    socket.close(None).await.unwrap();
    timeout(WAIT, has_ended.recv()).await.expect("the server was not told").unwrap();

    let (socket, _) = connect(Some(authorization)).await.unwrap();
    drop(socket);
    timeout(WAIT, has_ended.recv()).await.expect("who hangs up is not waited for").unwrap();
    world.gateway.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn events_come_as_they_happen() {
    let (happen, happens) = mpsc::channel::<String>(1);
    let happens = std::sync::Arc::new(tokio::sync::Mutex::new(happens));
    let live = get(move || async move {
        let events = stream::unfold(happens, async |happens| {
            let event = happens.lock().await.recv().await?;
            Some((Ok::<_, Infallible>(event), happens))
        });
        ([("content-type", "text/event-stream")], Body::from_stream(events)).into_response()
    });
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let world = world(listener.local_addr().unwrap()).await;
    tokio::spawn(async move { axum::serve(listener, Router::new().route("/live", live)).await });
    let credential = world.pay(&world.send(Request::new("GET", "/live")).await).await;
    let client = reqwest::Client::builder().no_proxy().build().unwrap();
    let url = format!("http://{}/live", world.gateway.address());
    let request = client.get(url).header("authorization", credential.authorization().expose());
    let mut answer = timeout(WAIT, request.send()).await.expect("held back").unwrap();
    for number in 0..5 {
        let event = format!("data: {number}\n\n");
        happen.send(event.clone()).await.unwrap();
        assert_eq!(timeout(WAIT, answer.chunk()).await.expect("held back").unwrap().unwrap(), event);
    }
    drop(happen);
    assert_eq!(timeout(WAIT, answer.chunk()).await.expect("no end").unwrap(), None);
    world.gateway.stop().await;
}
