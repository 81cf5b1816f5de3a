//! What runs beside the gateway: the media server and the admin address.

use std::{io, net::SocketAddr, sync::Arc, time::Duration};

use sluice_backend::{
    config::BackendConfig,
    server::{Reloader, Server},
};
use sluice_gateway::{
    admin::{self, Admin, api::Api},
    lightning::{NodeWatch, TestWallet},
    metrics::Metrics,
};
use tokio::{net::TcpListener, sync::watch, task::JoinHandle, time::timeout};
use tokio_util::sync::CancellationToken;

use super::{RunError, SHUTDOWN_TIMEOUT};

/// How long a media server that was told to stop, and waited for requests under way, has to clean up.
const CLEAN_UP: Duration = Duration::from_secs(10);

/// A media server that runs.
pub(super) struct BackendServer {
    pub(super) address: SocketAddr,
    pub(super) reloader: Reloader,
    shutdown: CancellationToken,
    pub(super) task: JoinHandle<()>,
}

impl BackendServer {
    pub(super) async fn start(config: BackendConfig) -> Result<Self, RunError> {
        let shutdown = CancellationToken::new();
        let running = Server::start(config, shutdown.clone()).await?;
        let (address, reloader) = (running.local_addr(), running.reloader());
        let task = tokio::spawn(async move {
            if let Err(error) = running.wait().await {
                tracing::error!(%error, "the media server failed");
            }
        });
        Ok(Self { address, reloader, shutdown, task })
    }

    pub(super) async fn stop(self) {
        self.shutdown.cancel();
        if timeout(SHUTDOWN_TIMEOUT + CLEAN_UP, self.task).await.is_err() {
            tracing::warn!("the media server does not stop; leaving it");
        }
    }
}

/// The admin address, served.
pub(super) struct AdminServer {
    pub(super) address: SocketAddr,
    pub(super) ready: watch::Sender<bool>,
    _watch: NodeWatch,
    shutdown: CancellationToken,
    pub(super) task: JoinHandle<io::Result<()>>,
}

impl AdminServer {
    pub(super) async fn start(
        listen: SocketAddr,
        wallet: Option<Arc<TestWallet>>,
        watch: NodeWatch,
        metrics: Arc<Metrics>,
        api: Option<Arc<Api>>,
    ) -> Result<Self, RunError> {
        let failed = |source| RunError::Admin { address: listen, source };
        let listener = TcpListener::bind(listen).await.map_err(failed)?;
        let address = listener.local_addr().map_err(failed)?;
        let (ready, is_ready) = watch::channel(false);
        let shutdown = CancellationToken::new();
        let router = admin::router(Admin { ready: is_ready, node: watch.health(), wallet, metrics, api });
        let serving = axum::serve(listener, router).with_graceful_shutdown(shutdown.clone().cancelled_owned());
        Ok(Self { address, ready, _watch: watch, shutdown, task: tokio::spawn(serving.into_future()) })
    }

    pub(super) async fn stop(self) {
        self.shutdown.cancel();
        // What is asked here is answered at once; who only keeps a connection open is not waited for.
        let _ = timeout(Duration::from_secs(1), self.task).await;
    }
}
