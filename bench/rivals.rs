//! What `bench/gateway` sets beside the gateway: `rivals proxy LISTEN UPSTREAM` is a pingora proxy that does nothing else,
//! `rivals server LISTEN` a server behind, which answers at once and discards what it is sent.

use std::error::Error;

use async_trait::async_trait;
use axum::{Router, body::Body, routing::any};
use futures_util::StreamExt;
use pingora::{
    proxy::{ProxyHttp, Session, http_proxy_service},
    server::{Server, configuration::ServerConf},
    upstreams::peer::HttpPeer,
};

struct Bare(String);

#[async_trait]
impl ProxyHttp for Bare {
    type CTX = ();

    fn new_ctx(&self) {}

    async fn upstream_peer(&self, _: &mut Session, (): &mut ()) -> pingora::Result<Box<HttpPeer>> {
        Ok(Box::new(HttpPeer::new(&self.0, false, String::new())))
    }
}

/// Proxies until it is killed.
fn proxy(listen: &str, upstream: String) {
    let threads = std::thread::available_parallelism().map_or(2, usize::from);
    let mut server = Server::new_with_opt_and_conf(None, ServerConf { threads, ..ServerConf::default() });
    server.bootstrap();
    let mut service = http_proxy_service(&server.configuration, Bare(upstream));
    service.add_tcp(listen);
    server.add_service(service);
    server.run_forever();
}

/// Answers until it is killed: how many bytes it was sent.
async fn serve(listen: &str) -> Result<(), Box<dyn Error>> {
    let count = |body: Body| async {
        let pieces = body.into_data_stream();
        pieces.fold(0, |sum, piece| async move { sum + piece.map_or(0, |piece| piece.len()) }).await.to_string()
    };
    let router = Router::new().route("/{*path}", any(count));
    axum::serve(tokio::net::TcpListener::bind(listen).await?, router).await?;
    Ok(())
}

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<_> = std::env::args().skip(1).collect();
    match arguments.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        ["proxy", listen, upstream] => proxy(listen, upstream.to_owned()),
        ["server", listen] => tokio::runtime::Runtime::new()?.block_on(serve(listen))?,
        _ => return Err("rivals proxy LISTEN UPSTREAM, or rivals server LISTEN".into()),
    }
    Ok(())
}
