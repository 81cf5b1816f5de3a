//! The admin address as a service of pingora's, so that its listener goes over to a new process as the proxy's do.

use std::{pin::pin, sync::Arc, time::Duration};

use async_trait::async_trait;
use axum::Router;
use hyper_util::{
    rt::{TokioExecutor, TokioIo, TokioTimer},
    server::conn::auto,
    service::TowerToHyperService,
};
use pingora::{apps::ServerApp, protocols::Stream, server::ShutdownWatch};

/// How long a client may take to send the head of a request.
const HEADER_TIMEOUT: Duration = Duration::from_secs(30);

/// Serves a router on each connection.
pub(super) struct AdminApp(pub(super) Router);

#[async_trait]
impl ServerApp for AdminApp {
    async fn process_new(self: &Arc<Self>, stream: Stream, shutdown: &ShutdownWatch) -> Option<Stream> {
        let mut builder = auto::Builder::new(TokioExecutor::new());
        builder.http1().timer(TokioTimer::new()).header_read_timeout(HEADER_TIMEOUT);
        let service = TowerToHyperService::new(self.0.clone());
        let mut connection = pin!(builder.serve_connection(TokioIo::new(stream), service));
        let mut shutdown = shutdown.clone();
        let told = async { drop(shutdown.wait_for(|shutdown| *shutdown).await) };
        let ended = tokio::select! {
            ended = connection.as_mut() => ended,
            () = told => {
                connection.as_mut().graceful_shutdown();
                connection.await
            }
        };
        if let Err(error) = ended {
            tracing::debug!(error = &*error, "a connection to the admin address ended");
        }
        None
    }
}
