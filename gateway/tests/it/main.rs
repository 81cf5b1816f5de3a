//! The gateway as its clients see it: the real proxy on a free port, the embedded wallet, and a server behind that says
//! what it was asked.

#![expect(clippy::unwrap_used, clippy::expect_used, reason = "a test says what is wrong by panicking")]

mod behind;
mod client;
mod clients;
mod dry_run;
mod early;
mod floods;
mod grpc;
mod ledger;
mod metrics;
mod paid;
mod plugin;
mod prices;
mod reload;
mod revoked;
mod slow;
mod streams;
mod tls;
mod traces;
mod upstreams;
mod uses;

use std::{sync::Arc, time::Duration};

use sluice_common::{
    keys::{MasterKey, MasterKeys},
    l402::{Challenge, Credential, ServiceTerms},
    network::Network,
    secret::Secret,
};
use sluice_gateway::{
    config::{Access, GatewayConfig, Offer, Price, Scope, ServiceConfig, UpstreamConfig},
    db::GatewayDb,
    invoice_limits::InvoiceLimits,
    ledger::{LedgerDb, SettlementProof},
    lightning::TestWallet,
    limits::LimitsConfig,
    metrics::Metrics,
    server::{Beside, Gateway},
};
use sluice_testing::free_address;
use tempfile::TempDir;

use self::{
    behind::Behind,
    client::{Reply, Request, send},
};

const MIB: usize = 1 << 20;

/// A gateway that sells uploads of 2 MB for 100 sat.
struct World {
    gateway: Gateway,
    config: GatewayConfig,
    metrics: Arc<Metrics>,
    wallet: Arc<TestWallet>,
    ledger: Arc<dyn LedgerDb>,
    behind: Behind,
    folder: TempDir,
}

impl World {
    async fn new() -> Self {
        Self::with(|_| ()).await
    }

    async fn with(change: impl FnOnce(&mut ServiceConfig)) -> Self {
        Self::configured(|config| change(&mut config.services[0]), None).await
    }

    async fn limited(change: impl FnOnce(&mut ServiceConfig), invoice_limits: InvoiceLimits) -> Self {
        let change = |config: &mut GatewayConfig| {
            config.invoice_limits = invoice_limits;
            change(&mut config.services[0]);
        };
        Self::configured(change, None).await
    }

    /// The ledger is in the wallet's file, if no other is given.
    async fn configured(change: impl FnOnce(&mut GatewayConfig), ledger: Option<Arc<dyn LedgerDb>>) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let db = GatewayDb::open(&folder.path().join("gateway.db")).await.unwrap();
        let wallet = Arc::new(TestWallet::new(&Secret::new([1; 32]), db.clone()));
        let ledger = ledger.unwrap_or_else(|| Arc::new(db));
        let behind = Behind::start().await;
        let service = media(&behind.address.to_string());
        let mut config = GatewayConfig {
            listen: free_address(),
            tls: None,
            https_port: None,
            admin_listen: free_address(),
            services: vec![service],
            master_keys: MasterKeys::new(vec![MasterKey::new(&Secret::new([2; 32]), 0)]).unwrap(),
            network: Network::TestWallet,
            invoice_expiry: Duration::from_secs(600),
            invoice_limits: InvoiceLimits::default(),
            limits: LimitsConfig::default(),
            settlement: SettlementProof::Preimage,
            shutdown_timeout: Duration::from_secs(5),
        };
        change(&mut config);
        let metrics = Arc::<Metrics>::default();
        let gateway =
            Gateway::start(config.clone(), wallet.clone(), ledger.clone(), metrics.clone(), Beside::default())
                .await
                .unwrap();
        Self { gateway, config, metrics, wallet, ledger, behind, folder }
    }

    async fn send(&self, request: Request) -> Reply {
        send(self.gateway.address(), request).await
    }

    /// Asks, pays, and gives the credential.
    async fn buy(&self) -> Credential {
        let reply = self.send(Request::post("/largefile", b"")).await;
        assert_eq!(reply.status, 402, "{}", reply.text());
        self.pay(&reply).await
    }

    async fn pay(&self, reply: &Reply) -> Credential {
        let challenge = reply.challenge();
        let preimage = self.wallet.pay(&challenge.invoice, std::time::SystemTime::now()).await.unwrap();
        Credential::new(challenge.macaroon, preimage)
    }
}

/// Sells uploads of 2 MB for 100 sat, to a server at `upstream`.
fn media(upstream: &str) -> ServiceConfig {
    let terms = ServiceTerms {
        capabilities: vec!["large_upload".into()],
        max_upload_mb: 2,
        valid_for_secs: Some(3_600),
        ..ServiceTerms::named("media")
    };
    let offer = Offer {
        terms,
        scope: Scope::default(),
        access: Access::protect(vec!["POST /largefile".parse().unwrap()]),
        price: Price::Flat(100),
        forward_credential: true,
        dry_run: false,
        rate_limits: Vec::new(),
        free_uploads: Vec::new(),
        freebies: None,
    };
    ServiceConfig { offer, upstream: UpstreamConfig::new(&[upstream]).unwrap() }
}

fn with(request: Request, credential: &Credential) -> Request {
    request.header("authorization", credential.authorization().expose())
}

impl Reply {
    fn challenge(&self) -> Challenge {
        Challenge::parse(self.all("www-authenticate")).expect("a challenge")
    }
}
