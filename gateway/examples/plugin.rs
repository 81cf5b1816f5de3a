//! A pingora proxy of one's own with Sluice's paywall in it: `cargo run -p sluice-gateway --example plugin -- UPSTREAM`
//! sells `GET /report` of the server at `UPSTREAM` (`HOST:PORT`) for 10 sat of play money, on 127.0.0.1:6188.

use std::{error::Error, net::SocketAddr, path::Path, sync::Arc, time::Duration};

use async_trait::async_trait;
use bytes::Bytes;
use pingora::{
    http::{RequestHeader, ResponseHeader},
    proxy::{FailToProxy, ProxyHttp, Session, http_proxy_service},
    server::{RunArgs, Server},
    upstreams::peer::HttpPeer,
};
use sluice_common::{
    keys::{MasterKey, MasterKeys},
    l402::ServiceTerms,
    network::Network,
    secret::Secret,
};
use sluice_gateway::{
    config::{Access, Offer, PaywallConfig, Price, Scope},
    db::GatewayDb,
    gate::{Gate, Visit},
    invoice_limits::InvoiceLimits,
    ledger::{BookKeeper, SettlementProof},
    lightning::TestWallet,
    limits::LimitsConfig,
};

/// A proxy as anyone writes it, with a gate in it.
pub struct Plugged {
    gate: Gate,
    upstream: SocketAddr,
}

#[async_trait]
impl ProxyHttp for Plugged {
    /// What the gate knows of a request; it may as well be a part of one's own context.
    type CTX = Visit;

    fn new_ctx(&self) -> Visit {
        Visit::default()
    }

    async fn request_filter(&self, session: &mut Session, visit: &mut Visit) -> pingora::Result<bool> {
        self.gate.request_filter(session, visit).await
    }

    async fn upstream_peer(&self, _: &mut Session, _: &mut Visit) -> pingora::Result<Box<HttpPeer>> {
        Ok(Box::new(HttpPeer::new(self.upstream, false, String::new())))
    }

    async fn upstream_request_filter(
        &self,
        _: &mut Session,
        request: &mut RequestHeader,
        visit: &mut Visit,
    ) -> pingora::Result<()> {
        self.gate.upstream_request_filter(request, visit)
    }

    async fn request_body_filter(
        &self,
        session: &mut Session,
        body: &mut Option<Bytes>,
        end: bool,
        visit: &mut Visit,
    ) -> pingora::Result<()> {
        self.gate.request_body_filter(session, body, end, visit)
    }

    async fn response_filter(
        &self,
        session: &mut Session,
        response: &mut ResponseHeader,
        visit: &mut Visit,
    ) -> pingora::Result<()> {
        self.gate.response_filter(session, response, visit).await
    }

    fn response_body_filter(
        &self,
        _: &mut Session,
        body: &mut Option<Bytes>,
        _: bool,
        visit: &mut Visit,
    ) -> pingora::Result<Option<Duration>> {
        self.gate.response_body_filter(body, visit);
        Ok(None)
    }

    async fn fail_to_proxy(&self, session: &mut Session, error: &pingora::Error, visit: &mut Visit) -> FailToProxy {
        self.gate.fail_to_proxy(session, error, visit).await
    }

    async fn logging(&self, session: &mut Session, _: Option<&pingora::Error>, visit: &mut Visit) {
        self.gate.logging(session, visit);
    }
}

/// The proxy, the wallet that is paid, and the tasks that keep the ledger in `folder`. A real program has LND in the place
/// of the wallet (`LndNode`), and keys that it keeps secret.
pub async fn plugged(
    folder: &Path,
    upstream: SocketAddr,
) -> Result<(Plugged, Arc<TestWallet>, BookKeeper), Box<dyn Error>> {
    let db = GatewayDb::open(&folder.join("gateway.db")).await?;
    let wallet = Arc::new(TestWallet::new(&Secret::new([1; 32]), db.clone()));
    let offer = Offer {
        terms: ServiceTerms { valid_for_secs: Some(3_600), ..ServiceTerms::named("report") },
        scope: Scope::default(),
        access: Access::protect(vec!["GET /report".parse()?]),
        price: Price::Flat(10),
        forward_credential: false,
        dry_run: false,
        rate_limits: Vec::new(),
        free_uploads: Vec::new(),
        freebies: None,
    };
    let config = PaywallConfig {
        offers: vec![offer],
        master_keys: MasterKeys::new(vec![MasterKey::new(&Secret::new([2; 32]), 0)])?,
        network: Network::TestWallet,
        invoice_expiry: Duration::from_secs(3_600),
        invoice_limits: InvoiceLimits::default(),
        limits: LimitsConfig::default(),
        settlement: SettlementProof::Preimage,
    };
    let (gate, book_keeper) = Gate::start(config, wallet.clone(), Arc::new(db), Arc::default())?;
    Ok((Plugged { gate, upstream }, wallet, book_keeper))
}

/// Serves on `listen` until the process is told to stop.
pub fn serve(proxy: Plugged, listen: SocketAddr, stop: RunArgs) -> Result<(), Box<dyn Error>> {
    let mut server = Server::new(None)?;
    server.bootstrap();
    let mut service = http_proxy_service(&server.configuration, proxy);
    service.add_tcp(&listen.to_string());
    server.add_service(service);
    server.run(stop);
    Ok(())
}

/// Runs it.
#[cfg_attr(test, expect(dead_code, reason = "the test of this example runs it in its own way"))]
fn main() -> Result<(), Box<dyn Error>> {
    let upstream = std::env::args().nth(1).ok_or("which UPSTREAM, as HOST:PORT?")?.parse()?;
    let runtime = tokio::runtime::Runtime::new()?;
    let (proxy, _wallet, book_keeper) = runtime.block_on(plugged(&std::env::temp_dir(), upstream))?;
    serve(proxy, SocketAddr::from(([127, 0, 0, 1], 6188)), RunArgs::default())?;
    runtime.block_on(book_keeper.stop());
    Ok(())
}
