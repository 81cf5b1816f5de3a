//! The embedded wallet: real invoices, play money. For trying and testing.

mod keys;

use std::time::{Duration, SystemTime};

use async_trait::async_trait;
use bitcoin_hashes::{Hash, sha256};
use futures_util::stream;
use lightning_invoice::{Bolt11Invoice, Bolt11InvoiceDescriptionRef, Currency, InvoiceBuilder, PaymentSecret};
use sluice_common::{
    l402::{PaymentHash, Preimage},
    network::Network,
    secret::Secret,
};
use sqlx::{FromRow, Row, query, query_as, sqlite::SqliteRow};
use tokio::{sync::watch, time::timeout};

use self::keys::WalletKeys;
use super::{Invoice, InvoiceOrder, LightningError, LightningNode, NodeInfo, Settlement, Settlements};
use crate::db::{GatewayDb, to_i64};

/// What BOLT 11 implementations ask of the last hop. Nothing is routed here; wallets that read the invoice expect it.
const MIN_FINAL_CLTV_EXPIRY_DELTA: u64 = 18;

/// How often a stream looks for payments that it was not woken for: those that another process recorded in the same
/// database, and one whose payer went away before it could wake anybody.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// How many settlements a stream reads at once.
const PAGE: i64 = 256;

/// A Lightning node of play money, which pays its own invoices and no others. They are real ones (BOLT 11, signed,
/// `lnbcrt…`), but [`Network::TestWallet`] is a network of its own.
///
/// Of an unpaid invoice it keeps nothing: its preimage is derived from what stands in the invoice. Only payments are
/// recorded.
pub struct TestWallet {
    keys: WalletKeys,
    db: GatewayDb,
    /// Told of every payment that is recorded.
    paid: watch::Sender<()>,
}

/// Why the wallet did not pay an invoice.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PayError {
    /// The text is no BOLT 11 invoice, or its checksum is wrong.
    #[error("not a Lightning invoice")]
    NotAnInvoice,
    /// It asks for the money of another network.
    #[error("the test wallet pays only regtest invoices, which begin with `lnbcrt`")]
    OtherNetwork,
    /// It does not say how much.
    #[error("the invoice names no amount that can be paid")]
    NoAmount,
    /// Another node made it, or someone changed it.
    #[error("the test wallet pays only its own invoices, and this one is another node's or was changed")]
    NotOurs,
    /// It can no longer be paid.
    #[error("the invoice has expired")]
    Expired,
    /// The payment could not be looked up or recorded.
    #[error("the wallet's database: {0}")]
    Database(#[from] sqlx::Error),
}

impl TestWallet {
    /// The wallet whose keys are derived from `wallet_key`; its payments are in `db`. Another wallet of the same key
    /// pays the same invoices.
    pub fn new(wallet_key: &Secret<[u8; 32]>, db: GatewayDb) -> Self {
        let keys = WalletKeys::derive(wallet_key);
        tracing::warn!(
            node = %keys.node_id(),
            "the embedded test wallet takes payment: this is NO REAL MONEY, anyone who reaches the admin address can pay"
        );
        Self { keys, db, paid: watch::Sender::new(()) }
    }

    /// Pays one of this wallet's own invoices, and gives the preimage. Paying again gives the same and records nothing,
    /// also when the invoice has expired since.
    pub async fn pay(&self, bolt11: &str, now: SystemTime) -> Result<Preimage, PayError> {
        let order = self.check(bolt11)?;
        let now = unix_secs(now);
        let paid: Option<i64> = sqlx::query_scalar("SELECT 1 FROM test_wallet_payments WHERE payment_hash = $1")
            .bind(&order.payment_hash.as_bytes()[..])
            .fetch_optional(self.db.reader())
            .await?;
        if paid.is_some() {
            return Ok(order.preimage);
        }
        if now >= order.expires_at {
            return Err(PayError::Expired);
        }
        self.record(&order, now).await?;
        Ok(order.preimage)
    }

    /// Makes an invoice whose time begins at `now`.
    fn invoice_at(&self, order: &InvoiceOrder, now: SystemTime) -> Result<Invoice, LightningError> {
        let refused = |why: &str| LightningError::Refused(why.to_owned());
        if order.amount_sat == 0 {
            return Err(refused("the amount is 0"));
        }
        if order.expiry.as_secs() == 0 {
            return Err(refused("it expires at once"));
        }
        let amount_msat = order.amount_sat.checked_mul(1000).ok_or_else(|| refused("the amount is too large"))?;
        let now = unix_secs(now);
        let expires_at = now.checked_add(order.expiry.as_secs()).ok_or_else(|| refused("it never expires"))?;

        let payment_secret: [u8; 32] = rand::random();
        let payment_hash = self.keys.preimage(amount_msat, expires_at, &payment_secret).payment_hash();
        let invoice = InvoiceBuilder::new(Currency::Regtest)
            .amount_milli_satoshis(amount_msat)
            .description(order.memo.clone())
            .payment_hash(sha256::Hash::from_byte_array(*payment_hash.as_bytes()))
            .payment_secret(PaymentSecret(payment_secret))
            .duration_since_epoch(Duration::from_secs(now))
            .expiry_time(Duration::from_secs(order.expiry.as_secs()))
            .min_final_cltv_expiry_delta(MIN_FINAL_CLTV_EXPIRY_DELTA)
            .build_signed(|message| self.keys.sign(message))
            .map_err(|error| LightningError::Refused(error.to_string()))?;
        Ok(Invoice { bolt11: invoice.to_string(), payment_hash, expires_at })
    }

    /// Whether this wallet made the invoice; and if so, what it asks for and the preimage that settles it.
    fn check(&self, bolt11: &str) -> Result<OwnInvoice, PayError> {
        let invoice: Bolt11Invoice = bolt11.trim().parse().map_err(|_| PayError::NotAnInvoice)?;
        if invoice.currency() != Currency::Regtest {
            return Err(PayError::OtherNetwork);
        }
        let amount_msat = invoice.amount_milli_satoshis().filter(|&amount| amount > 0).ok_or(PayError::NoAmount)?;
        if invoice.get_payee_pub_key() != self.keys.node_id() {
            return Err(PayError::NotOurs);
        }
        let expires_at = invoice.expires_at().ok_or(PayError::NotOurs)?.as_secs();
        let Bolt11InvoiceDescriptionRef::Direct(memo) = invoice.description() else {
            return Err(PayError::NotOurs);
        };
        let payment_hash = PaymentHash::from_bytes(invoice.payment_hash().to_byte_array());
        let preimage = self.keys.preimage(amount_msat, expires_at, &invoice.payment_secret().0);
        if preimage.payment_hash() != payment_hash {
            return Err(PayError::NotOurs);
        }
        Ok(OwnInvoice { payment_hash, preimage, amount_msat, memo: memo.as_inner().0.clone(), expires_at })
    }

    /// Records a payment, unless it is recorded already.
    async fn record(&self, invoice: &OwnInvoice, now: u64) -> Result<(), sqlx::Error> {
        let mut transaction = self.db.write().await?;
        query(
            "INSERT INTO test_wallet_payments (payment_hash, amount_msat, memo, settled_at) VALUES ($1, $2, $3, $4)
             ON CONFLICT (payment_hash) DO NOTHING",
        )
        .bind(&invoice.payment_hash.as_bytes()[..])
        .bind(to_i64(invoice.amount_msat))
        .bind(&invoice.memo)
        .bind(to_i64(now))
        .execute(&mut *transaction)
        .await?;
        transaction.commit().await?;
        self.paid.send_replace(());
        Ok(())
    }
}

#[async_trait]
impl LightningNode for TestWallet {
    async fn create_invoice(&self, order: &InvoiceOrder) -> Result<Invoice, LightningError> {
        self.invoice_at(order, SystemTime::now())
    }

    async fn settlement(&self, payment_hash: PaymentHash) -> Result<Option<Settlement>, LightningError> {
        let settlement = query_as("SELECT * FROM test_wallet_payments WHERE payment_hash = $1")
            .bind(&payment_hash.as_bytes()[..])
            .fetch_optional(self.db.reader())
            .await?;
        Ok(settlement)
    }

    async fn settlements(&self, after: u64) -> Result<Settlements, LightningError> {
        let cursor = Cursor { db: self.db.clone(), paid: self.paid.subscribe(), after, page: Vec::new().into_iter() };
        Ok(Box::pin(stream::try_unfold(cursor, |mut cursor| async {
            let settlement = cursor.next().await?;
            Ok(Some((settlement, cursor)))
        })))
    }

    async fn reaches(&self, index: u64) -> Result<bool, LightningError> {
        let found = sqlx::query_scalar("SELECT EXISTS (SELECT 1 FROM test_wallet_payments WHERE settle_index >= $1)")
            .bind(to_i64(index))
            .fetch_one(self.db.reader())
            .await?;
        Ok(found)
    }

    async fn info(&self) -> Result<NodeInfo, LightningError> {
        Ok(NodeInfo {
            network: Network::TestWallet,
            pubkey: self.keys.node_id().to_string(),
            synced: Some(true),
            best_header_at: None,
        })
    }
}

/// What stands in an invoice of this wallet, and the preimage that settles it.
struct OwnInvoice {
    payment_hash: PaymentHash,
    preimage: Preimage,
    amount_msat: u64,
    memo: String,
    expires_at: u64,
}

/// Where a stream of settlements is.
struct Cursor {
    db: GatewayDb,
    paid: watch::Receiver<()>,
    after: u64,
    page: std::vec::IntoIter<Settlement>,
}

impl Cursor {
    /// The next settlement, once there is one.
    async fn next(&mut self) -> Result<Settlement, LightningError> {
        loop {
            if let Some(settlement) = self.page.next() {
                self.after = settlement.index;
                return Ok(settlement);
            }
            // Marked before the look, so that what is recorded during it wakes the wait.
            self.paid.mark_unchanged();
            let page: Vec<Settlement> =
                query_as("SELECT * FROM test_wallet_payments WHERE settle_index > $1 ORDER BY settle_index LIMIT $2")
                    .bind(to_i64(self.after))
                    .bind(PAGE)
                    .fetch_all(self.db.reader())
                    .await?;
            if page.is_empty() && matches!(timeout(LOOK_EVERY, self.paid.changed()).await, Ok(Err(_))) {
                return Err(LightningError::Closed);
            }
            self.page = page.into_iter();
        }
    }
}

impl FromRow<'_, SqliteRow> for Settlement {
    fn from_row(row: &SqliteRow) -> Result<Self, sqlx::Error> {
        let payment_hash: &[u8] = row.try_get("payment_hash")?;
        let payment_hash = payment_hash
            .try_into()
            .map_err(|error| sqlx::Error::ColumnDecode { index: "payment_hash".to_owned(), source: Box::new(error) })?;
        let number = |column| row.try_get(column).map(i64::cast_unsigned);
        Ok(Self {
            index: number("settle_index")?,
            payment_hash: PaymentHash::from_bytes(payment_hash),
            amount_msat: number("amount_msat")?,
            memo: row.try_get("memo")?,
            settled_at: number("settled_at")?,
        })
    }
}

fn unix_secs(time: SystemTime) -> u64 {
    time.duration_since(SystemTime::UNIX_EPOCH).map_or(0, |since| since.as_secs())
}

#[cfg(test)]
mod tests;
