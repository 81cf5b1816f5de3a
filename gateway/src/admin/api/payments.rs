//! `GET /v1/payments`: what was paid, in pages or as CSV.

use std::{str::FromStr, sync::Arc};

use axum::{
    Json,
    body::Body,
    extract::State,
    response::{IntoResponse, Response},
};
use bytes::Bytes;
use futures_util::stream;
use http::header::CONTENT_TYPE;
use serde::{Deserialize, Serialize};
use sluice_common::{
    l402::{PaymentHash, TokenId},
    network::Network,
};
use utoipa::{IntoParams, ToSchema};

use super::{
    Api, ApiError,
    error::{BadQuery, Common},
    params::{Params, Time, written},
};
use crate::ledger::{Bought, CSV_HEAD, Filter, LedgerDb, LedgerError, PAGE, Payment, Settled};

/// How many a page has, if it is not said.
const LIMIT: u32 = 100;

/// A payment.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct PaymentJson {
    /// What it is known by, in hex.
    pub payment_hash: String,
    /// The service that was paid.
    pub service: String,
    /// The network that it was paid on.
    pub network: String,
    /// The token that was bought, in hex.
    pub token_id: String,
    /// What was received, in millisatoshi; null while no node has said it.
    pub amount_msat: Option<u64>,
    /// When, by that node.
    pub settled_at: Option<String>,
    /// When the token was first used; null if it never was.
    pub first_used_at: Option<String>,
    /// The public key of the node that was paid, in hex.
    pub node: Option<String>,
    /// What it bought so far.
    #[serde(flatten)]
    pub bought: BoughtJson,
}

/// What was bought.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct BoughtJson {
    /// Requests that were answered with success.
    pub uses: u64,
    /// The bytes of their bodies.
    pub bytes: u64,
    /// Requests that were refused: they cost nothing.
    pub refused: u64,
    /// Requests that failed, or were cut off: they cost nothing, either.
    pub given_back: u64,
}

/// A part of the payments, the oldest first.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
pub struct PaymentPage {
    /// The payments.
    pub payments: Vec<PaymentJson>,
    /// The `after` of the next part; null: this is the last one.
    pub next: Option<String>,
}

/// Which payments.
#[derive(IntoParams)]
#[into_params(parameter_in = Query)]
#[expect(dead_code, reason = "its fields are only described")]
struct PaymentParams {
    /// Of this service alone.
    service: Option<String>,
    /// On this network alone: `mainnet`, `testnet`, `signet`, `simnet`, `regtest` or `test-wallet`.
    network: Option<String>,
    /// From this time on, RFC 3339.
    from: Option<String>,
    /// Before this time, RFC 3339.
    before: Option<String>,
    /// How many.
    #[param(minimum = 1, maximum = 1000, default = 100)]
    limit: Option<u32>,
    /// Where to go on: the `next` of the part before.
    after: Option<String>,
    /// `csv`: all of them at once, as RFC 4180 says, with a line of names first.
    format: Option<String>,
}

/// What was paid, by time. A payment counts when the node says that it was settled, else when its token was first used.
#[utoipa::path(
    get,
    path = "/v1/payments",
    params(PaymentParams),
    responses((status = 200, body = PaymentPage), BadQuery, Common),
    security(("token" = []))
)]
pub(super) async fn list(State(api): State<Arc<Api>>, params: Params) -> Result<Response, ApiError> {
    params.only(&["service", "network", "from", "before", "limit", "after", "format"])?;
    let (filter, limit) = (params.filter()?, params.limit(PAGE as u32, LIMIT)?);
    let after = params.parse::<Cursor>("after", "the `next` of the part before")?.map(|Cursor(payment)| payment);
    match params.text("format") {
        None | Some("json") => {}
        Some("csv") => return Ok(csv(&api, filter, after).await?),
        Some(_) => return Err(ApiError::InvalidQuery("`format` must be json or csv".to_owned())),
    }
    let mut payments = api.ledger.payments(&filter, after.as_ref()).await?;
    let is_last = payments.len() <= limit as usize && payments.len() < PAGE;
    payments.truncate(limit as usize);
    let next = payments.last().filter(|_| !is_last).map(cursor);
    Ok(Json(PaymentPage { payments: payments.iter().map(PaymentJson::from).collect(), next }).into_response())
}

/// All of them, read page by page as they are sent. The first page before anything else, so that a ledger that is away is
/// an error; what breaks off later breaks off the answer.
async fn csv(api: &Api, filter: Filter, after: Option<Payment>) -> Result<Response, LedgerError> {
    let first = api.ledger.payments(&filter, after.as_ref()).await?;
    let state = (Arc::clone(&api.ledger), filter, first, format!("{CSV_HEAD}\n"));
    let pages = stream::try_unfold(state, |(ledger, filter, page, mut text)| async move {
        let Some(last) = page.last().cloned() else {
            // The line of names, where there is nothing else.
            return Ok((!text.is_empty()).then(|| (Bytes::from(text), (ledger, filter, Vec::new(), String::new()))));
        };
        page.iter().for_each(|payment| text.push_str(&(payment.csv() + "\n")));
        let next: Vec<Payment> = next_page(&*ledger, &filter, &last).await?;
        Ok::<_, LedgerError>(Some((Bytes::from(text), (ledger, filter, next, String::new()))))
    });
    Ok(([(CONTENT_TYPE, "text/csv; charset=utf-8")], Body::from_stream(pages)).into_response())
}

async fn next_page(ledger: &dyn LedgerDb, filter: &Filter, last: &Payment) -> Result<Vec<Payment>, LedgerError> {
    ledger.payments(filter, Some(last)).await
}

impl From<&Payment> for PaymentJson {
    fn from(payment: &Payment) -> Self {
        let settled = payment.settled.as_ref();
        Self {
            payment_hash: payment.payment_hash.to_string(),
            service: payment.service.clone(),
            network: payment.network.to_string(),
            token_id: payment.token_id.to_string(),
            amount_msat: settled.map(|settled| settled.amount_msat),
            settled_at: settled.map(|settled| written(settled.at)),
            first_used_at: payment.first_used_at.map(written),
            node: settled.map(|settled| settled.node.clone()),
            bought: payment.bought.into(),
        }
    }
}

impl From<Bought> for BoughtJson {
    fn from(Bought { uses, bytes, refused, given_back }: Bought) -> Self {
        Self { uses, bytes, refused, given_back }
    }
}

impl PaymentJson {
    /// The payment, as the ledger has it; none if it cannot be read.
    pub fn payment(self) -> Option<Payment> {
        let time = |text: Option<String>| text.map(|text| text.parse().map(|Time(secs)| secs)).transpose().ok();
        let settled = match (self.amount_msat, time(self.settled_at)?, self.node) {
            (Some(amount_msat), Some(at), Some(node)) => Some(Settled { amount_msat, at, node }),
            _ => None,
        };
        let BoughtJson { uses, bytes, refused, given_back } = self.bought;
        Some(Payment {
            payment_hash: self.payment_hash.parse().ok()?,
            service: self.service,
            network: self.network.parse().ok()?,
            token_id: self.token_id.parse().ok()?,
            settled,
            first_used_at: time(self.first_used_at)?,
            bought: Bought { uses, bytes, refused, given_back },
        })
    }
}

/// A place in the list: `UNIX_SECONDS-PAYMENT_HASH` of the payment before it.
struct Cursor(Payment);

fn cursor(payment: &Payment) -> String {
    format!("{}-{}", payment.time(), payment.payment_hash)
}

impl FromStr for Cursor {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        let (time, payment_hash) = text.split_once('-').ok_or(())?;
        let payment_hash: PaymentHash = payment_hash.parse().map_err(drop)?;
        // Of a payment in the list only time and hash say its place.
        Ok(Self(Payment {
            payment_hash,
            service: String::new(),
            network: Network::TestWallet,
            token_id: TokenId::from_bytes([0; 32]),
            settled: None,
            first_used_at: Some(time.parse().map_err(drop)?),
            bought: Bought::default(),
        }))
    }
}
