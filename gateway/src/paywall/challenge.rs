//! Asking for payment: a price, an invoice, and the token that it pays for.

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use http::StatusCode;
use sluice_common::{
    clock::rfc3339,
    l402::{self, Challenge, MintError, ServiceTerms},
    problem::Problem,
};

use super::{Demand, Forward, Paywall, PriceError, Reason};
use crate::{
    answer::Answer,
    invoice_limits::{Place, TooMany},
    lightning::{Invoice, InvoiceOrder, LightningError},
    limits::ClientNetwork,
};

/// How long the node may take to make an invoice. Less than a call to the node may take, so that a late invoice is told
/// from one that was not made.
const INVOICE_TIMEOUT: Duration = Duration::from_secs(8);

/// What comes of asking for payment.
#[derive(Debug)]
pub enum Challenged {
    /// 402 with a token that can be paid; or 200 for who asked for the price, and it is none.
    Answer(Answer),
    /// It turned out to cost nothing.
    Free(Forward),
}

/// Why there is no challenge.
#[derive(Debug, thiserror::Error)]
pub enum ChallengeError {
    /// The node is asked for no more invoices now.
    #[error(transparent)]
    TooMany(#[from] TooMany),
    /// Nobody says the price.
    #[error(transparent)]
    Price(#[from] PriceError),
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

impl Paywall {
    /// Asks the node for an invoice and answers a client in the network `client` 402 with a token that it pays for. Writes nothing
    /// anywhere.
    pub async fn challenge(
        &self,
        demand: &Demand,
        client: ClientNetwork,
        now: u64,
    ) -> Result<Challenged, ChallengeError> {
        let offer = self.offer(demand.service);
        let key = self.keys.minting(now).ok_or(ChallengeError::NoKey)?;
        // Before the price is asked for: the limits are that server's, too.
        let place = self.invoices.admit(client, Instant::now())?;
        let price_sat = match self.price(demand).await {
            Ok(0) => {
                self.invoices.failed(place, client);
                return Ok(if demand.is_question {
                    Challenged::Answer(self.costs_nothing(demand))
                } else {
                    Challenged::Free(self.for_nothing(demand))
                });
            }
            Ok(price_sat) => price_sat,
            Err(error) => {
                self.invoices.failed(place, client);
                return Err(error.into());
            }
        };
        let terms = ServiceTerms {
            max_upload_mb: demand.purchase.max_mib.unwrap_or(offer.terms.max_upload_mb),
            path: demand.purchase.path.clone(),
            ..offer.terms.clone()
        };
        let token_id = key.new_token_id(now);
        // Its token counts from now, too: who pays at the last moment still has half of its time.
        let half_of_token = terms.valid_for_secs.map(|secs| Duration::from_secs((secs / 2).max(1)));
        let expiry = half_of_token.map_or(self.invoice_expiry, |half| half.min(self.invoice_expiry));
        let order = InvoiceOrder { amount_sat: price_sat, memo: terms.memo(&token_id), expiry };
        let invoice = self.invoice(&order, place, client).await?;
        let macaroon = l402::mint(&self.keys, self.network, &terms, token_id, invoice.payment_hash)?;
        let challenge = Challenge { macaroon, invoice: invoice.bolt11 };
        let problem = payment_required(&terms, price_sat, demand.reason, &challenge, invoice.expires_at, now);
        Ok(Challenged::Answer(Answer::from(problem).with_challenge(&challenge)))
    }

    async fn price(&self, demand: &Demand) -> Result<u64, PriceError> {
        match (demand.price_sat, &self.pricers[demand.service.index()]) {
            (Some(price_sat), _) => Ok(price_sat),
            (None, Some(pricer)) => pricer.price(&demand.purchase).await,
            // Only a price past all numbers, which no checked configuration has.
            (None, None) => Err(PriceError::Malformed),
        }
    }

    async fn invoice(
        &self,
        order: &InvoiceOrder,
        place: Place,
        client: ClientNetwork,
    ) -> Result<Invoice, ChallengeError> {
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
}

fn payment_required(
    terms: &ServiceTerms,
    price_sat: u64,
    reason: Reason,
    challenge: &Challenge,
    expires_at: u64,
    now: u64,
) -> Problem {
    let constraints: BTreeMap<_, _> = terms.constraints.iter().cloned().collect();
    let valid_until = terms.valid_for_secs.map(|secs| rfc3339(now.saturating_add(secs)));
    let mut allows = serde_json::json!({
        "service": terms.name,
        "max_upload_bytes": terms.max_upload_bytes(),
        "max_uses": terms.max_uses,
        "capabilities": terms.capabilities,
        "constraints": constraints,
        "valid_until": valid_until,
    });
    if let Some(path) = &terms.path {
        allows["path"] = path.as_str().into();
    }
    Problem::new(StatusCode::PAYMENT_REQUIRED, "payment_required")
        .detail(format!(
            "{} Pay the invoice, then send the same request again with the header `Authorization: L402 \
             MACAROON:PREIMAGE`, the preimage in hex.",
            reason.detail()
        ))
        .with("reason", reason.code())
        .with("price_sat", price_sat)
        .with("invoice", challenge.invoice.as_str())
        .with("invoice_expires_at", rfc3339(expires_at))
        .with("macaroon", challenge.macaroon.to_base64())
        .with("allows", allows)
}
