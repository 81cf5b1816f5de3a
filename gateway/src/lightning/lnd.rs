//! An LND node, over gRPC.

mod channel;
mod error;
mod settlements;

use std::{
    fmt,
    future::Future,
    sync::{
        Mutex, OnceLock, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use async_trait::async_trait;
use fedimint_tonic_lnd::{
    lnrpc::{
        AddInvoiceResponse, GetInfoRequest, GetInfoResponse, Invoice as LndInvoice, ListInvoiceRequest,
        PaymentHash as LndPaymentHash, invoice::InvoiceState,
    },
    tonic::{Response, Status},
};
use lightning_invoice::{Bolt11Invoice, Currency, SignedRawBolt11Invoice};
use sluice_common::{l402::PaymentHash, network::Network, secret::Secret};
use tokio::time::{Instant, timeout};

use self::channel::Client;
use super::{Invoice, InvoiceOrder, LightningError, LightningNode, NodeInfo, Settlement, Settlements};

/// How long a call may take, connecting included.
const CALL_TIMEOUT: Duration = Duration::from_secs(10);

/// For how long a node that refused to say who it is is not asked again.
const REFUSED_FOR: Duration = Duration::from_secs(3_600);

/// All satoshis that will ever be.
const MAX_AMOUNT_SAT: u64 = 2_100_000_000_000_000;

/// The macaroon that can all that [`LndNode`] asks for. LND's own `invoice.macaroon` lacks `info:read`, which only
/// health and the check of the network at start are better for.
pub const BAKE_MACAROON: &str = "lncli bakemacaroon --save_to sluice.macaroon info:read invoices:read invoices:write";

/// How an LND node is reached.
#[derive(Debug, Clone)]
pub struct LndConfig {
    /// `HOST:PORT` of its gRPC interface.
    pub address: String,
    /// Its certificate, `tls.cert`, as PEM. A server with any other is not talked to.
    pub tls_cert: Vec<u8>,
    /// The macaroon's bytes.
    pub macaroon: Secret<Vec<u8>>,
    /// The network it must be on; not known if it is not said.
    pub network: Option<Network>,
    /// Whether invoices hint at private channels.
    pub private: bool,
}

/// Why a node cannot even be tried.
#[derive(Debug, thiserror::Error)]
pub enum LndConfigError {
    /// Not `HOST:PORT`.
    #[error("`{0}` is not HOST:PORT")]
    Address(String),
    /// Not PEM with a certificate.
    #[error("LND's TLS certificate is not a certificate in PEM")]
    Certificate,
    /// Nothing in it.
    #[error("the macaroon is empty")]
    Macaroon,
    /// No TLS with these settings.
    #[error("TLS: {0}")]
    Tls(#[from] rustls::Error),
}

impl LndConfig {
    /// Whether a node can be tried with it.
    pub fn check(&self) -> Result<(), LndConfigError> {
        channel::check(self)
    }
}

/// A call to LND.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Call {
    AddInvoice,
    LookupInvoice,
    ListInvoices,
    SubscribeInvoices,
    GetInfo,
}

impl Call {
    /// What a macaroon must allow for it.
    fn right(self) -> &'static str {
        match self {
            Self::AddInvoice => "invoices:write",
            Self::LookupInvoice | Self::ListInvoices | Self::SubscribeInvoices => "invoices:read",
            Self::GetInfo => "info:read",
        }
    }
}

/// An LND node. It connects when it is first used, and again after each failure.
pub struct LndNode {
    client: Client,
    private: bool,
    /// The network that invoices must be for: what is configured, or else what the node was on first.
    network: OnceLock<Network>,
    /// Whether it was on another one when last seen.
    is_elsewhere: AtomicBool,
    /// Who the node is, where only an invoice told that was made to find out.
    by_own_invoice: OnceLock<(Network, String)>,
    info_refused: Refusal,
}

/// When the node last refused a call for the macaroon. LND logs each refusal as an error, so it is asked no more for a
/// time.
#[derive(Default)]
struct Refusal(Mutex<Option<Instant>>);

impl Refusal {
    fn is_fresh(&self) -> bool {
        let refused_at = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        refused_at.is_some_and(|at| at.elapsed() < REFUSED_FOR)
    }

    fn note(&self) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(Instant::now());
    }
}

impl LndNode {
    /// The node that `config` names; nothing is sent yet. Must be called in a tokio runtime, which keeps the connection.
    pub fn new(config: &LndConfig) -> Result<Self, LndConfigError> {
        let network = config.network.map(OnceLock::from).unwrap_or_default();
        Ok(Self {
            client: channel::client(config)?,
            private: config.private,
            network,
            is_elsewhere: AtomicBool::new(false),
            by_own_invoice: OnceLock::new(),
            info_refused: Refusal::default(),
        })
    }

    /// Tries everything that a gateway asks of the node, in a way that leaves nothing there. Gives what fails: with
    /// [`LightningError::Permission`], the right that the macaroon lacks.
    pub async fn check_rights(&self) -> Vec<LightningError> {
        let mut client = self.client.clone();
        let info = call(Call::GetInfo, client.get_info(GetInfoRequest {})).await.err();
        let mut client = self.client.clone();
        let list = call(Call::ListInvoices, client.list_invoices(newest_invoice())).await.err();
        // LND looks at the macaroon first; then it finds that no invoice has room for this.
        let mut client = self.client.clone();
        let too_long = LndInvoice { memo: "-".repeat(1000), value: 1, ..LndInvoice::default() };
        let add = call(Call::AddInvoice, client.add_invoice(too_long)).await.err();
        let add = add.filter(|error| !matches!(error, LightningError::Refused(_)));
        [info, list, add].into_iter().flatten().collect()
    }

    /// Who the node is, as [`LightningNode::info`] says, for whoever must change nothing: none where only an invoice that
    /// is made could tell.
    pub async fn shown_info(&self) -> Result<Option<NodeInfo>, LightningError> {
        match self.get_info().await? {
            Some(info) => Ok(Some(info)),
            None => Ok(self.listed().await?.map(|(network, pubkey)| NodeInfo {
                network,
                pubkey,
                synced: None,
                best_header_at: None,
            })),
        }
    }

    /// What the node says of itself; none while it is known that the macaroon does not give that right.
    async fn get_info(&self) -> Result<Option<NodeInfo>, LightningError> {
        if self.info_refused.is_fresh() {
            return Ok(None);
        }
        let mut client = self.client.clone();
        match call(Call::GetInfo, client.get_info(GetInfoRequest {})).await {
            Ok(info) => node_info(info).map(Some),
            Err(LightningError::Permission { .. }) => {
                self.info_refused.note();
                Ok(None)
            }
            Err(error) => Err(error),
        }
    }

    /// Network and public key as the newest invoice shows them, if there is one.
    async fn listed(&self) -> Result<Option<(Network, String)>, LightningError> {
        let mut client = self.client.clone();
        let list = call(Call::ListInvoices, client.list_invoices(newest_invoice())).await?;
        // Payments without an invoice (keysend) are listed, too.
        let listed = list.invoices.into_iter().map(|invoice| invoice.payment_request).find(|bolt11| !bolt11.is_empty());
        listed.map(|bolt11| identity(&bolt11)).transpose()
    }

    /// The same; where there is none, as one did before, or one that is made.
    async fn identify(&self) -> Result<(Network, String), LightningError> {
        if let Some(listed) = self.listed().await? {
            return Ok(listed);
        }
        if let Some(known) = self.by_own_invoice.get() {
            return Ok(known.clone());
        }
        let request = LndInvoice {
            memo: "sluice: which network is this?".to_owned(),
            value: 1,
            expiry: 60,
            ..LndInvoice::default()
        };
        let mut client = self.client.clone();
        let made = identity(&call(Call::AddInvoice, client.add_invoice(request)).await?.payment_request)?;
        Ok(self.by_own_invoice.get_or_init(|| made).clone())
    }

    /// The invoice that the node has made.
    fn added(&self, added: AddInvoiceResponse, expiry: Duration) -> Result<Invoice, LightningError> {
        // Without its signature, which the node has just made.
        let malformed = |_| LightningError::Malformed("an invoice");
        let invoice: SignedRawBolt11Invoice = added.payment_request.parse().map_err(malformed)?;
        self.found(network_of(invoice.hrp.currency.clone()))?;
        let made_at = invoice.data.timestamp.as_unix_timestamp();
        Ok(Invoice {
            payment_hash: payment_hash(&added.r_hash)?,
            bolt11: added.payment_request,
            expires_at: made_at.saturating_add(expiry.as_secs()),
        })
    }

    /// Notes on which network the node was found: it must be the right one to be asked for invoices.
    fn found(&self, found: Network) -> Result<(), LightningError> {
        let configured = *self.network.get_or_init(|| found);
        self.is_elsewhere.store(found != configured, Ordering::Relaxed);
        if found == configured { Ok(()) } else { Err(LightningError::OtherNetwork { configured, found }) }
    }
}

#[async_trait]
impl LightningNode for LndNode {
    async fn create_invoice(&self, order: &InvoiceOrder) -> Result<Invoice, LightningError> {
        // LND would take 0 for any amount, and 0 seconds for its own default.
        let value = i64::try_from(order.amount_sat).ok().filter(|_| (1..=MAX_AMOUNT_SAT).contains(&order.amount_sat));
        let value = value.ok_or_else(|| LightningError::Refused("no invoice is for such an amount".to_owned()))?;
        let expiry = i64::try_from(order.expiry.as_secs()).ok().filter(|&secs| secs > 0);
        let expiry = expiry.ok_or_else(|| LightningError::Refused("no invoice lasts so long".to_owned()))?;
        if self.is_elsewhere.load(Ordering::Relaxed) {
            // It may have been put right; until then the other node is spared the invoices.
            self.found(self.info().await?.network)?;
        }
        let request =
            LndInvoice { memo: order.memo.clone(), value, expiry, private: self.private, ..LndInvoice::default() };
        let mut client = self.client.clone();
        let added = call(Call::AddInvoice, client.add_invoice(request)).await?;

        self.added(added, order.expiry).map_err(|error| LightningError::Unsold(Box::new(error)))
    }

    async fn settlement(&self, payment_hash: PaymentHash) -> Result<Option<Settlement>, LightningError> {
        let request = LndPaymentHash { r_hash: payment_hash.as_bytes().to_vec(), ..LndPaymentHash::default() };
        let mut client = self.client.clone();
        match within(client.lookup_invoice(request)).await? {
            Ok(invoice) => settlement(invoice.into_inner()),
            Err(status) if error::is_not_found(&status) => Ok(None),
            Err(status) => Err(error::error(Call::LookupInvoice, &status)),
        }
    }

    async fn settlements(&self, after: u64) -> Result<Settlements, LightningError> {
        Ok(settlements::after(self.client.clone(), after))
    }

    async fn reaches(&self, index: u64) -> Result<bool, LightningError> {
        settlements::reach(&mut self.client.clone(), index).await
    }

    async fn info(&self) -> Result<NodeInfo, LightningError> {
        let info = match self.get_info().await? {
            Some(info) => info,
            None => {
                let (network, pubkey) = self.identify().await?;
                NodeInfo { network, pubkey, synced: None, best_header_at: None }
            }
        };
        // Who asks compares for itself.
        let _ = self.found(info.network);
        Ok(info)
    }
}

/// The answer to a call, or why there is none.
async fn call<T>(call: Call, answer: impl Future<Output = Result<Response<T>, Status>>) -> Result<T, LightningError> {
    within(answer).await?.map(Response::into_inner).map_err(|status| error::error(call, &status))
}

async fn within<T>(answer: impl Future<Output = T>) -> Result<T, LightningError> {
    let late = |_| LightningError::Unavailable(format!("no answer within {} s", CALL_TIMEOUT.as_secs()));
    timeout(CALL_TIMEOUT, answer).await.map_err(late)
}

fn newest_invoice() -> ListInvoiceRequest {
    ListInvoiceRequest { num_max_invoices: 1, reversed: true, ..ListInvoiceRequest::default() }
}

fn node_info(info: GetInfoResponse) -> Result<NodeInfo, LightningError> {
    let network = match info.chains.first().map(|chain| chain.network.as_str()) {
        Some("mainnet") => Network::Mainnet,
        // Its invoices begin as the older one's do.
        Some("testnet" | "testnet4") => Network::Testnet,
        Some("signet") => Network::Signet,
        Some("simnet") => Network::Simnet,
        Some("regtest") => Network::Regtest,
        _ => return Err(LightningError::Malformed("its network")),
    };
    Ok(NodeInfo {
        network,
        pubkey: info.identity_pubkey,
        synced: Some(info.synced_to_chain),
        best_header_at: u64::try_from(info.best_header_timestamp).ok(),
    })
}

fn network_of(currency: Currency) -> Network {
    match currency {
        Currency::Bitcoin => Network::Mainnet,
        Currency::BitcoinTestnet => Network::Testnet,
        Currency::Signet => Network::Signet,
        Currency::Simnet => Network::Simnet,
        Currency::Regtest => Network::Regtest,
    }
}

/// Where an invoice is paid, and by whose key it is signed.
fn identity(bolt11: &str) -> Result<(Network, String), LightningError> {
    let invoice: Bolt11Invoice = bolt11.parse().map_err(|_| LightningError::Malformed("an invoice"))?;
    Ok((network_of(invoice.currency()), invoice.get_payee_pub_key().to_string()))
}

fn payment_hash(bytes: &[u8]) -> Result<PaymentHash, LightningError> {
    bytes.try_into().map(PaymentHash::from_bytes).map_err(|_| LightningError::Malformed("a payment hash"))
}

/// The settlement of an invoice; none if it is open, held or cancelled.
fn settlement(invoice: LndInvoice) -> Result<Option<Settlement>, LightningError> {
    if invoice.state() != InvoiceState::Settled {
        return Ok(None);
    }
    let number = |number: i64| u64::try_from(number).map_err(|_| LightningError::Malformed("a settlement"));
    Ok(Some(Settlement {
        index: invoice.settle_index,
        payment_hash: payment_hash(&invoice.r_hash)?,
        amount_msat: number(invoice.amt_paid_msat)?,
        settled_at: number(invoice.settle_date)?,
        memo: invoice.memo,
    }))
}

impl fmt::Debug for LndNode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LndNode").field("network", &self.network.get()).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use fedimint_tonic_lnd::lnrpc::AmpInvoiceState;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn who_refused_is_asked_again_after_an_hour() {
        let refusal = Refusal::default();
        assert!(!refusal.is_fresh());
        for _ in 0..2 {
            refusal.note();
            tokio::time::advance(REFUSED_FOR - Duration::from_secs(1)).await;
            assert!(refusal.is_fresh());
            tokio::time::advance(Duration::from_secs(1)).await;
            assert!(!refusal.is_fresh());
        }
    }

    #[test]
    fn an_invoice_of_several_payments_reaches_as_far_as_its_last() {
        let of = |settle_index, payments: &[u64]| {
            let payments = payments.iter().map(|&settle_index| {
                (settle_index.to_string(), AmpInvoiceState { settle_index, ..AmpInvoiceState::default() })
            });
            LndInvoice { settle_index, amp_invoice_state: payments.collect(), ..LndInvoice::default() }
        };
        let indexes = [of(0, &[]), of(5, &[]), of(0, &[3, 9, 4])].map(|invoice| settlements::last_index(&invoice));
        assert_eq!(indexes, [0, 5, 9]);
    }
}
