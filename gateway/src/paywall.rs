//! The paywall: from a request's headers to what becomes of it. Everything but [`Paywall::challenge`]
//! and [`Paywall::settled`] is pure.

use std::{
    collections::BTreeMap,
    net::IpAddr,
    sync::Arc,
    time::{Duration, Instant},
};

use http::{HeaderMap, Method, StatusCode, header::CONTENT_LENGTH};
use sluice_common::{
    clock::rfc3339,
    keys::MasterKeys,
    l402::{self, Challenge, Credential, Lapsed, MintError, PaymentHash, Permit},
    limits::{self, MAX_FORM_OVERHEAD_BYTES},
    network::Network,
    problem::Problem,
};

use crate::{
    answer::Answer,
    config::ServiceConfig,
    invoice_limits::{InvoiceGate, InvoiceLimits, TooMany},
    lightning::{Invoice, InvoiceOrder, LightningError, LightningNode},
};

/// How long the node may take to make an invoice. Less than a call to the node may take, so that a late invoice is told
/// from one that was not made.
const INVOICE_TIMEOUT: Duration = Duration::from_secs(8);

/// Decides what costs, checks what was paid, and asks for payment.
pub struct Paywall {
    services: Vec<ServiceConfig>,
    keys: MasterKeys,
    network: Network,
    node: Arc<dyn LightningNode>,
    invoice_expiry: Duration,
    invoices: InvoiceGate,
}

/// A service, by its place in the configuration.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ServiceId(usize);

/// What becomes of a request.
#[derive(Debug)]
pub enum Decision {
    /// It goes to the server behind.
    Forward(Forward),
    /// It is asked for payment.
    Challenge(ServiceId, Reason),
    /// It is refused: paying would not help.
    Refuse(Problem),
}

/// How a request goes to the server behind.
#[derive(Debug)]
pub struct Forward {
    /// Whose it is.
    pub service: ServiceId,
    /// What was paid for; none where nothing costs, and where somebody only asks what became of a token.
    pub permit: Option<Permit>,
}

/// Why a request is asked for payment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reason {
    /// It has no credential.
    Missing,
    /// Its token buys nothing more.
    Lapsed(Lapsed),
}

/// Why there is no challenge.
#[derive(Debug, thiserror::Error)]
pub enum ChallengeError {
    /// The node is asked for no more invoices now.
    #[error(transparent)]
    TooMany(#[from] TooMany),
    /// No master key mints yet.
    #[error("no master key mints yet: each has a later `mints_from`")]
    NoKey,
    /// The token cannot be written.
    #[error(transparent)]
    Mint(#[from] MintError),
    /// The node failed.
    #[error(transparent)]
    Node(#[from] LightningError),
    /// The node did not answer in time.
    #[error("the Lightning node did not answer within {} s", INVOICE_TIMEOUT.as_secs())]
    Timeout,
}

impl Reason {
    /// The stable machine code.
    pub fn code(self) -> &'static str {
        match self {
            Self::Missing => "no_credential",
            Self::Lapsed(lapsed) => lapsed.code(),
        }
    }

    fn detail(self) -> &'static str {
        match self {
            Self::Missing => "This costs.",
            Self::Lapsed(Lapsed::Expired) => "The token has expired; another one costs.",
            Self::Lapsed(Lapsed::NotCovered) => "The token is for something else; one for this costs.",
            Self::Lapsed(Lapsed::UsedUp) => "The token has stored as many uploads as it allows; another one costs.",
        }
    }
}

impl Forward {
    /// The most bytes of a body that can hold what was paid for; none where nothing was.
    pub fn max_body_bytes(&self) -> Option<u64> {
        let permit = self.permit.as_ref()?;
        Some(permit.token().max_upload_bytes().saturating_add(MAX_FORM_OVERHEAD_BYTES))
    }
}

impl Paywall {
    /// A paywall before these services, paid through `node`, whose network is `network`.
    pub fn new(
        services: Vec<ServiceConfig>,
        keys: MasterKeys,
        network: Network,
        node: Arc<dyn LightningNode>,
        invoice_expiry: Duration,
        invoice_limits: InvoiceLimits,
    ) -> Self {
        let invoices = InvoiceGate::new(invoice_limits, invoice_expiry);
        Self { services, keys, network, node, invoice_expiry, invoices }
    }

    /// The service.
    pub fn service(&self, id: ServiceId) -> &ServiceConfig {
        &self.services[id.0]
    }

    /// What becomes of a request to the normalised `path` at `now` (unix seconds), from its headers alone.
    pub fn decide(&self, method: &Method, path: &str, headers: &HeaderMap, now: u64) -> Decision {
        // The first service takes all: which one matches by host and path comes with several services.
        let id = ServiceId(0);
        let service = self.service(id);
        let is_path_protected = service.protect.iter().any(|protected| protected.path == path);
        let costs = service.protect.iter().any(|protected| protected.path == path && protected.method == *method);
        let asks_price = is_path_protected && !costs && (method == Method::GET || method == Method::HEAD);
        if !costs && !asks_price {
            return Decision::Forward(Forward { service: id, permit: None });
        }
        let credential = match Credential::from_headers(headers) {
            Ok(Some(credential)) => credential,
            Ok(None) if asks_price => return Decision::Challenge(id, Reason::Missing),
            Ok(None) => return self.sell(id, Reason::Missing, headers),
            Err(error) => {
                return Decision::Refuse(Problem::new(error.status(), error.code()).detail(error.to_string()));
            }
        };
        let token = match l402::verify(&credential, &self.keys, self.network, &service.terms) {
            Ok(token) => token,
            Err(refused) => {
                let problem = Problem::new(StatusCode::UNAUTHORIZED, refused.code()).detail(refused.to_string());
                return Decision::Refuse(problem);
            }
        };
        if asks_price {
            return Decision::Forward(Forward { service: id, permit: None });
        }
        match token.permit(now) {
            Ok(permit) => match too_large(headers, token.max_upload_bytes()) {
                Some(problem) => Decision::Refuse(problem),
                None => Decision::Forward(Forward { service: id, permit: Some(permit) }),
            },
            Err(lapsed) => self.sell(id, Reason::Lapsed(lapsed), headers),
        }
    }

    /// Asks for payment, if what would be bought could hold the request: else no payment would help.
    pub fn sell(&self, id: ServiceId, reason: Reason, headers: &HeaderMap) -> Decision {
        match too_large(headers, self.service(id).terms.max_upload_bytes()) {
            Some(problem) => Decision::Refuse(problem),
            None => Decision::Challenge(id, reason),
        }
    }

    /// Asks the node for an invoice and answers a client at `client` 402 with a token that it pays for. Writes nothing
    /// anywhere.
    pub async fn challenge(
        &self,
        id: ServiceId,
        reason: Reason,
        client: IpAddr,
        now: u64,
    ) -> Result<Answer, ChallengeError> {
        let service = self.service(id);
        let key = self.keys.minting(now).ok_or(ChallengeError::NoKey)?;
        let token_id = key.new_token_id(now);
        let order = InvoiceOrder {
            amount_sat: service.price_sat.get(),
            memo: service.terms.memo(&token_id),
            expiry: self.invoice_expiry,
        };
        let invoice = self.invoice(&order, client).await?;
        let macaroon = l402::mint(&self.keys, self.network, &service.terms, token_id, invoice.payment_hash)?;
        let challenge = Challenge { macaroon, invoice: invoice.bolt11 };
        let problem = payment_required(service, reason, &challenge, invoice.expires_at, now);
        Ok(Answer::from(problem).with_challenge(&challenge))
    }

    async fn invoice(&self, order: &InvoiceOrder, client: IpAddr) -> Result<Invoice, ChallengeError> {
        let place = self.invoices.admit(client, Instant::now())?;
        // A node that is late may have made one: its place stays taken.
        let made = tokio::time::timeout(INVOICE_TIMEOUT, self.node.create_invoice(order))
            .await
            .map_err(|_| ChallengeError::Timeout)?;
        match &made {
            Ok(invoice) => self.invoices.opened(place, invoice.payment_hash),
            Err(error) if error.made_no_invoice() => self.invoices.failed(place, client),
            // Nobody will pay it, but the node may have it until it expires.
            Err(_) => {}
        }
        Ok(made?)
    }

    /// Notes that an invoice is paid, so that it is no longer one of the open ones. One that is not known changes nothing.
    pub fn settled(&self, payment_hash: PaymentHash) {
        self.invoices.settled(payment_hash);
    }
}

/// 413 if the declared length cannot hold a file within `max_upload_bytes`.
fn too_large(headers: &HeaderMap, max_upload_bytes: u64) -> Option<Problem> {
    let declared: u64 = headers.get(CONTENT_LENGTH)?.to_str().ok()?.parse().ok()?;
    limits::body_too_large(declared, max_upload_bytes).then(|| too_large_problem(max_upload_bytes, declared))
}

/// 413: paying would not make room.
pub fn too_large_problem(limit_bytes: u64, size_bytes: u64) -> Problem {
    Problem::new(StatusCode::PAYLOAD_TOO_LARGE, "too_large")
        .detail("The upload is larger than this token, or this service, takes.")
        .with("limit_bytes", limit_bytes)
        .with("size_bytes", size_bytes)
}

fn payment_required(
    service: &ServiceConfig,
    reason: Reason,
    challenge: &Challenge,
    expires_at: u64,
    now: u64,
) -> Problem {
    let terms = &service.terms;
    let constraints: BTreeMap<_, _> = terms.constraints.iter().cloned().collect();
    let valid_until = terms.valid_for_secs.map(|secs| rfc3339(now.saturating_add(secs)));
    Problem::new(StatusCode::PAYMENT_REQUIRED, "payment_required")
        .detail(format!(
            "{} Pay the invoice, then send the same request again with the header `Authorization: L402 \
             MACAROON:PREIMAGE`, the preimage in hex.",
            reason.detail()
        ))
        .with("reason", reason.code())
        .with("price_sat", service.price_sat.get())
        .with("invoice", challenge.invoice.as_str())
        .with("invoice_expires_at", rfc3339(expires_at))
        .with("macaroon", challenge.macaroon.to_base64())
        .with(
            "allows",
            serde_json::json!({
                "service": terms.name,
                "max_upload_bytes": terms.max_upload_bytes(),
                "max_uses": terms.max_uses,
                "capabilities": terms.capabilities,
                "constraints": constraints,
                "valid_until": valid_until,
            }),
        )
}

#[cfg(test)]
mod tests {
    use std::num::NonZeroU64;

    use http::HeaderValue;
    use sluice_common::{
        keys::MasterKey,
        l402::{PaymentHash, Preimage, ServiceTerms},
        secret::Secret,
    };

    use super::*;
    use crate::invoice_limits::RateLimit;
    use crate::{
        db::GatewayDb,
        lightning::{NodeInfo, Settlement, Settlements, TestWallet},
    };

    const NOW: u64 = 1_700_000_000;
    const MIB: u64 = 1 << 20;

    fn keys() -> MasterKeys {
        MasterKeys::new(vec![MasterKey::new(&Secret::new([1; 32]), 0)]).unwrap()
    }

    fn terms() -> ServiceTerms {
        ServiceTerms { max_upload_mb: 4, valid_for_secs: Some(10), ..ServiceTerms::named("media") }
    }

    fn service() -> ServiceConfig {
        ServiceConfig {
            terms: terms(),
            protect: vec!["POST /largefile".parse().unwrap()],
            upstream: "127.0.0.1:1".into(),
            price_sat: NonZeroU64::MIN,
            forward_credential: true,
        }
    }

    /// A credential minted under these keys for these terms.
    fn bought(keys: &MasterKeys, terms: &ServiceTerms) -> Credential {
        let preimage = Preimage::from_bytes([5; 32]);
        let token_id = keys.minting(NOW).unwrap().new_token_id(NOW);
        let payment_hash: PaymentHash = preimage.payment_hash();
        Credential::new(l402::mint(keys, Network::TestWallet, terms, token_id, payment_hash).unwrap(), preimage)
    }

    async fn decided(method: &str, path: &str, credential: Option<Credential>, declared: u64, now: u64) -> String {
        let folder = tempfile::tempdir().unwrap();
        let db = GatewayDb::open(&folder.path().join("gateway.db")).await.unwrap();
        let wallet = Arc::new(TestWallet::new(&Secret::new([2; 32]), db));
        let (limits, expiry) = (InvoiceLimits::default(), Duration::from_secs(60));
        let paywall = Paywall::new(vec![service()], keys(), Network::TestWallet, wallet, expiry, limits);
        let mut headers = HeaderMap::from_iter([(CONTENT_LENGTH, HeaderValue::from(declared))]);
        if let Some(credential) = credential {
            headers.insert("authorization", credential.authorization().expose().parse().unwrap());
        }
        match paywall.decide(&method.parse().unwrap(), path, &headers, now) {
            Decision::Forward(forward) => format!("forward {:?}", forward.max_body_bytes().map(|max| max / MIB)),
            Decision::Challenge(_, reason) => format!("challenge {}", reason.code()),
            Decision::Refuse(problem) => format!("{} {}", problem.status().as_u16(), problem.code()),
        }
    }

    /// A node that makes no invoice, and says why.
    struct Broken(fn() -> LightningError);

    #[async_trait::async_trait]
    impl LightningNode for Broken {
        async fn create_invoice(&self, _: &InvoiceOrder) -> Result<Invoice, LightningError> {
            Err((self.0)())
        }
        async fn settlement(&self, _: PaymentHash) -> Result<Option<Settlement>, LightningError> {
            Err((self.0)())
        }
        async fn settlements(&self, _: u64) -> Result<Settlements, LightningError> {
            Err((self.0)())
        }
        async fn reaches(&self, _: u64) -> Result<bool, LightningError> {
            Err((self.0)())
        }
        async fn info(&self) -> Result<NodeInfo, LightningError> {
            Err((self.0)())
        }
    }

    #[tokio::test]
    async fn a_place_is_given_back_only_where_the_node_certainly_made_no_invoice() {
        fn elsewhere() -> LightningError {
            LightningError::OtherNetwork { configured: Network::Mainnet, found: Network::Regtest }
        }
        let refusals: [(fn() -> LightningError, bool); 9] = [
            (|| LightningError::Refused(String::new()), true),
            (|| LightningError::Permission { right: "invoices:write", said: String::new() }, true),
            (|| LightningError::Unreached(String::new()), true),
            (elsewhere, true),
            (|| LightningError::Unsold(Box::new(elsewhere())), false),
            (|| LightningError::Unavailable(String::new()), false),
            (|| LightningError::Malformed("an invoice"), false),
            (|| LightningError::Closed, false),
            (|| LightningError::Database(sqlx::Error::PoolClosed), false),
        ];
        for (error, is_given_back) in refusals {
            // One at once: one place, and one of the rate for clients.
            let one = std::num::NonZeroU32::MIN;
            let rate = RateLimit { per_minute: one, burst: one };
            let limits = InvoiceLimits { per_client: rate, max_open: one, ..InvoiceLimits::default() };
            let node = Arc::new(Broken(error));
            let paywall =
                Paywall::new(vec![service()], keys(), Network::Mainnet, node, Duration::from_secs(60), limits);
            let ask = |client: [u8; 4]| paywall.challenge(ServiceId(0), Reason::Missing, client.into(), NOW);
            assert!(matches!(ask([192, 0, 2, 1]).await, Err(ChallengeError::Node(_))));
            for client in [[192, 0, 2, 1], [192, 0, 3, 1]] {
                let again = ask(client).await.map(|_| ()).unwrap_err();
                assert_eq!(matches!(again, ChallengeError::Node(_)), is_given_back, "{}: {again}", error());
                assert_eq!(matches!(again, ChallengeError::TooMany(_)), !is_given_back, "{}: {again}", error());
            }
        }
    }

    #[tokio::test]
    async fn decides_from_the_headers_alone() {
        let good = || Some(bought(&keys(), &terms()));
        let other = || Some(bought(&keys(), &ServiceTerms::named("other")));
        let larger = || Some(bought(&keys(), &ServiceTerms { max_upload_mb: 8, valid_for_secs: Some(10), ..terms() }));
        let foreign =
            || Some(bought(&MasterKeys::new(vec![MasterKey::new(&Secret::new([9; 32]), 0)]).unwrap(), &terms()));
        let (later, fits, too_large) = (NOW + 10, 5 * MIB, 5 * MIB + 1);
        for (method, path, credential, declared, now, decision) in [
            ("POST", "/file", None, too_large, NOW, "forward None"),
            ("PUT", "/largefile", None, fits, NOW, "forward None"),
            ("POST", "/largefile", None, fits, NOW, "challenge no_credential"),
            ("POST", "/largefile", None, too_large, NOW, "413 too_large"),
            ("GET", "/largefile", None, too_large, NOW, "challenge no_credential"),
            ("HEAD", "/largefile", None, 0, NOW, "challenge no_credential"),
            ("POST", "/largefile", good(), fits, NOW, "forward Some(5)"),
            ("POST", "/largefile", good(), too_large, NOW, "413 too_large"),
            ("POST", "/largefile", good(), fits, later, "challenge expired"),
            ("POST", "/largefile", good(), too_large, later, "413 too_large"),
            ("GET", "/largefile", good(), 0, later, "forward None"),
            ("POST", "/largefile", other(), fits, NOW, "challenge not_covered"),
            ("POST", "/largefile", other(), too_large, NOW, "413 too_large"),
            ("POST", "/largefile", larger(), too_large, NOW, "forward Some(9)"),
            ("POST", "/largefile", larger(), too_large, later, "413 too_large"),
            ("POST", "/largefile", foreign(), fits, NOW, "401 forged_token"),
            ("GET", "/largefile", foreign(), fits, NOW, "401 forged_token"),
        ] {
            let has = credential.is_some();
            let got = decided(method, path, credential, declared, now).await;
            assert_eq!(got, decision, "{method} {path}, credential: {has}, {declared} bytes, at {now}");
        }
    }
}
