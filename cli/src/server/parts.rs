//! What runs beside the gateway: the media server and the admin address.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use axum::Router;

use sluice_backend::{
    config::BackendConfig,
    server::{Reloader, Server},
};
use sluice_gateway::{
    admin::{self, Admin, api::Api},
    lightning::{NodeWatch, TestWallet},
    metrics::Metrics,
};
use tokio::{sync::watch, task::JoinHandle, time::timeout};
use tokio_util::sync::CancellationToken;

use super::RunError;

/// How long a media server that was told to stop, and waited for requests under way, has to clean up.
const CLEAN_UP: Duration = Duration::from_secs(10);

/// A media server that runs.
pub(super) struct BackendServer {
    pub(super) address: SocketAddr,
    pub(super) reloader: Reloader,
    stop_timeout: Duration,
    shutdown: CancellationToken,
    pub(super) task: JoinHandle<()>,
}

impl BackendServer {
    pub(super) async fn start(config: BackendConfig) -> Result<Self, RunError> {
        let (shutdown, stop_timeout) = (CancellationToken::new(), config.timeouts.shutdown);
        let running = Server::start(config, shutdown.clone()).await?;
        let (address, reloader) = (running.local_addr(), running.reloader());
        let task = tokio::spawn(async move {
            if let Err(error) = running.wait().await {
                tracing::error!(%error, "the media server failed");
            }
        });
        Ok(Self { address, reloader, stop_timeout, shutdown, task })
    }

    pub(super) async fn stop(self) {
        self.shutdown.cancel();
        if timeout(self.stop_timeout + CLEAN_UP, self.task).await.is_err() {
            tracing::warn!("the media server does not stop; leaving it");
        }
    }
}

/// What the admin address says; the gateway serves it.
pub(super) struct AdminServer {
    pub(super) address: SocketAddr,
    pub(super) ready: watch::Sender<bool>,
    pub(super) router: Router,
    _watch: NodeWatch,
}

impl AdminServer {
    pub(super) fn new(
        address: SocketAddr,
        wallet: Option<Arc<TestWallet>>,
        watch: NodeWatch,
        metrics: Arc<Metrics>,
        api: Arc<Api>,
    ) -> Self {
        let (ready, is_ready) = watch::channel(false);
        let router = admin::router(Admin { ready: is_ready, node: watch.health(), wallet, metrics, api: Some(api) });
        Self { address, ready, router, _watch: watch }
    }
}
