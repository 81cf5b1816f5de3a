//! The settlements of an LND node as one stream, from any point on.
//!
//! LND sends what was settled after an index, and then goes on: nothing is missed and nothing comes twice. But index 0
//! means "from now on" to it. So where everything is wanted, the first settlement is looked for among all invoices, and
//! the stream goes on from there. That needs no more memory than a page, however many settlements there are.

use std::time::Duration;

use fedimint_tonic_lnd::{
    lnrpc::{Invoice as LndInvoice, InvoiceSubscription, ListInvoiceRequest},
    tonic::{Status, Streaming},
};
use futures_util::stream;
use tokio::time::{Instant, timeout_at};

use super::{Call, Client, call, error, settlement};
use crate::lightning::{LightningError, Settlement, Settlements};

/// How many invoices are asked for at once.
const PAGE: u64 = 500;

/// The pauses between looks at all invoices while none is settled, doubled each time. A settlement ends a pause at once,
/// but for one that comes in just as LND is asked to tell of them.
const LOOK_EVERY: (Duration, Duration) = (Duration::from_secs(2), Duration::from_secs(300));

/// All settlements with an index above `after`.
pub(super) fn after(client: Client, after: u64) -> Settlements {
    let at = if after == 0 { Place::Beginning } else { Place::After(after) };
    Box::pin(stream::try_unfold((client, at), |(mut client, at)| async {
        let (settlement, invoices) = match at {
            Place::Beginning => (first(&mut client).await?, None),
            Place::After(index) => {
                let mut invoices = subscribe(&mut client, index).await?;
                (next(&mut invoices, index).await?, Some(invoices))
            }
            Place::In(mut invoices, index) => (next(&mut invoices, index).await?, Some(invoices)),
        };
        let index = settlement.index;
        let at = invoices.map_or(Place::After(index), |invoices| Place::In(invoices, index));
        Ok(Some((settlement, (client, at))))
    }))
}

/// Whether any settlement has this index or a later one. The newest invoices come first: where settlements go on, one of
/// them has it.
pub(super) async fn reach(client: &mut Client, index: u64) -> Result<bool, LightningError> {
    let mut index_offset = 0;
    loop {
        let request = ListInvoiceRequest {
            index_offset,
            num_max_invoices: PAGE,
            reversed: true,
            ..ListInvoiceRequest::default()
        };
        let page = call(Call::ListInvoices, client.list_invoices(request)).await?;
        if page.invoices.iter().any(|invoice| last_index(invoice) >= index) {
            return Ok(true);
        }
        let is_all = page.first_index_offset <= 1 || (index_offset > 0 && page.first_index_offset >= index_offset);
        if is_all {
            return Ok(false);
        }
        index_offset = page.first_index_offset;
    }
}

/// The last index that the invoice was settled with: each payment of several to one invoice (AMP) has one. 0: none.
pub(super) fn last_index(invoice: &LndInvoice) -> u64 {
    let of_payments = invoice.amp_invoice_state.values().map(|payment| payment.settle_index).max();
    invoice.settle_index.max(of_payments.unwrap_or_default())
}

/// Where a stream is.
enum Place {
    /// Before everything.
    Beginning,
    /// Behind an index; LND is still to be asked for more.
    After(u64),
    /// Behind an index, in what LND sends.
    In(Box<Streaming<LndInvoice>>, u64),
}

/// Asks LND to tell of everything settled after `index`, and, if that is 0, from now on. Without a deadline: LND begins
/// to answer with the first invoice that it tells of.
async fn subscribe(client: &mut Client, index: u64) -> Result<Box<Streaming<LndInvoice>>, LightningError> {
    let request = InvoiceSubscription { settle_index: index, ..InvoiceSubscription::default() };
    let answer = client.subscribe_invoices(request).await;
    Ok(Box::new(answer.map_err(failed)?.into_inner()))
}

fn failed(status: Status) -> LightningError {
    error::error(Call::SubscribeInvoices, &status)
}

/// The next settlement that LND sends after `index`. New invoices are told of, too.
async fn next(invoices: &mut Streaming<LndInvoice>, index: u64) -> Result<Settlement, LightningError> {
    loop {
        let ended = || LightningError::Unavailable("LND ended the stream of its invoices".to_owned());
        let invoice = invoices.message().await.map_err(failed)?.ok_or_else(ended)?;
        if let Some(settlement) = settlement(invoice)?.filter(|settlement| settlement.index > index) {
            return Ok(settlement);
        }
    }
}

/// The first settlement of all; waits until there is one.
async fn first(client: &mut Client) -> Result<Settlement, LightningError> {
    let mut pause = LOOK_EVERY.0;
    loop {
        if let Some(settlement) = first_of_the_past(client).await? {
            return Ok(settlement);
        }
        // What this tells of is found in the list again, with what it may have missed.
        let something_settles = async {
            let mut invoices = subscribe(client, 0).await?;
            next(&mut invoices, 0).await
        };
        if let Ok(told) = timeout_at(Instant::now() + pause, something_settles).await {
            told?;
        }
        pause = (pause * 2).min(LOOK_EVERY.1);
    }
}

/// The settlement with the lowest index so far, from the list of all invoices. Indexes begin with 1.
async fn first_of_the_past(client: &mut Client) -> Result<Option<Settlement>, LightningError> {
    let mut first: Option<Settlement> = None;
    let mut index_offset = 0;
    loop {
        let request = ListInvoiceRequest { index_offset, num_max_invoices: PAGE, ..ListInvoiceRequest::default() };
        let page = call(Call::ListInvoices, client.list_invoices(request)).await?;
        for invoice in page.invoices {
            // Payments in several goes to one invoice (AMP) have no index of their own.
            let settlement = settlement(invoice)?.filter(|settlement| settlement.index > 0);
            let is_earlier =
                |settlement: &Settlement| first.as_ref().is_none_or(|first| settlement.index < first.index);
            first = settlement.filter(is_earlier).or(first);
        }
        let is_all = page.last_index_offset <= index_offset;
        if is_all || first.as_ref().is_some_and(|first| first.index == 1) {
            return Ok(first);
        }
        index_offset = page.last_index_offset;
    }
}
