//! A node and a ledger that go away when a test says so.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::{Duration, SystemTime},
};

use sluice_common::{
    keys::{MasterKey, MasterKeys},
    l402::{self, Credential, Permit, Preimage, ServiceTerms},
    network::Network,
    revocation::{Change, Revoked},
    secret::Secret,
};
use tokio::time::{Instant, sleep};

use super::*;

/// A gateway's wallet and ledger, which can be away, and a count of what is asked of them.
pub(super) struct World {
    pub(super) keys: MasterKeys,
    pub(super) terms: ServiceTerms,
    pub(super) wallet: Arc<TestWallet>,
    pub(super) db: GatewayDb,
    pub(super) node: Arc<Node>,
    pub(super) ledger: Arc<Ledger>,
    pub(super) folder: tempfile::TempDir,
}

pub(super) struct Node {
    pub(super) wallet: Arc<TestWallet>,
    pub(super) away: AtomicBool,
    /// Whether it is on mainnet in the place of the wallet's network.
    pub(super) elsewhere: AtomicBool,
    /// How many times it was asked who it is.
    pub(super) looked: AtomicUsize,
    /// How many times it says yet that nothing is settled.
    pub(super) late: AtomicUsize,
    pub(super) asked: AtomicUsize,
}

pub(super) struct Ledger {
    pub(super) db: GatewayDb,
    pub(super) away: AtomicBool,
    pub(super) written: AtomicUsize,
    pub(super) failed: AtomicUsize,
}

impl World {
    pub(super) async fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let db = GatewayDb::open(&folder.path().join("gateway.db")).await.unwrap();
        let wallet = Arc::new(TestWallet::new(&Secret::new([1; 32]), db.clone()));
        let node = Node {
            wallet: Arc::clone(&wallet),
            away: false.into(),
            elsewhere: false.into(),
            looked: 0.into(),
            late: 0.into(),
            asked: 0.into(),
        };
        let ledger = Ledger { db: db.clone(), away: false.into(), written: 0.into(), failed: 0.into() };
        Self {
            keys: MasterKeys::new(vec![MasterKey::new(&Secret::new([2; 32]), 0)]).unwrap(),
            terms: ServiceTerms::named("media"),
            wallet,
            db,
            node: Arc::new(node),
            ledger: Arc::new(ledger),
            folder,
        }
    }

    pub(super) fn sold(&self) -> Sold {
        Sold { keys: self.keys.clone(), services: vec!["media".to_owned()], network: Network::TestWallet }
    }

    pub(super) fn keeper(&self) -> (BookKeeper, Arc<Books>) {
        BookKeeper::start(self.ledger.clone(), self.node.clone(), self.sold(), Arc::default(), |_| ())
    }

    pub(super) fn check(&self, proof: SettlementProof, books: &Arc<Books>) -> SettlementCheck {
        SettlementCheck::new(proof, self.keys.clone(), self.ledger.clone(), self.node.clone(), Arc::clone(books))
    }

    pub(super) async fn invoice(&self, memo: String) -> Invoice {
        let order = InvoiceOrder { amount_sat: 100, memo, expiry: Duration::from_secs(600) };
        self.wallet.create_invoice(&order).await.unwrap()
    }

    pub(super) fn token_id(&self) -> TokenId {
        self.keys.minting(NOW).unwrap().new_token_id(NOW)
    }

    /// Sells a token; the payer has the preimage, and if `paid` the node knows of it.
    pub(super) async fn sell(&self, paid: bool) -> Permit {
        let token_id = self.token_id();
        let invoice = self.invoice(self.terms.memo(&token_id)).await;
        let (preimage, payment_hash) = match paid {
            true => (self.pay(&invoice).await, invoice.payment_hash),
            false => (Preimage::from_bytes([9; 32]), Preimage::from_bytes([9; 32]).payment_hash()),
        };
        let macaroon = l402::mint(&self.keys, Network::TestWallet, &self.terms, token_id, payment_hash).unwrap();
        let credential = Credential::new(macaroon, preimage);
        l402::verify(&credential, &self.keys, Network::TestWallet, &self.terms).unwrap().permit(NOW).unwrap()
    }

    pub(super) async fn pay(&self, invoice: &Invoice) -> Preimage {
        self.wallet.pay(&invoice.bolt11, SystemTime::now()).await.unwrap()
    }

    pub(super) async fn payments(&self) -> Vec<Payment> {
        self.db.payments(&Filter::default(), None).await.unwrap()
    }

    /// The payments, once they are so many.
    pub(super) async fn until(&self, count: usize) -> Vec<Payment> {
        eventually(async || Some(self.payments().await).filter(|payments| payments.len() == count)).await
    }
}

pub(super) async fn eventually<T>(mut ask: impl AsyncFnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + Duration::from_secs(30);
    loop {
        if let Some(answer) = ask().await {
            return answer;
        }
        assert!(Instant::now() < deadline, "not within 30 s");
        sleep(Duration::from_millis(10)).await;
    }
}

impl Node {
    fn is_there(&self) -> Result<(), LightningError> {
        if self.away.load(Ordering::SeqCst) { Err(LightningError::Unavailable("away".to_owned())) } else { Ok(()) }
    }
}

#[async_trait]
impl LightningNode for Node {
    async fn create_invoice(&self, order: &InvoiceOrder) -> Result<Invoice, LightningError> {
        self.is_there()?;
        self.wallet.create_invoice(order).await
    }

    async fn settlement(&self, payment_hash: PaymentHash) -> Result<Option<Settlement>, LightningError> {
        self.asked.fetch_add(1, Ordering::SeqCst);
        self.is_there()?;
        let late = self.late.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |late| late.checked_sub(1));
        if late.is_ok() { Ok(None) } else { self.wallet.settlement(payment_hash).await }
    }

    async fn settlements(&self, after: u64) -> Result<Settlements, LightningError> {
        self.is_there()?;
        self.wallet.settlements(after).await
    }

    async fn reaches(&self, index: u64) -> Result<bool, LightningError> {
        self.is_there()?;
        self.wallet.reaches(index).await
    }

    async fn info(&self) -> Result<NodeInfo, LightningError> {
        self.is_there()?;
        self.looked.fetch_add(1, Ordering::SeqCst);
        let info = self.wallet.info().await?;
        let network = if self.elsewhere.load(Ordering::SeqCst) { Network::Mainnet } else { info.network };
        Ok(NodeInfo { network, ..info })
    }
}

impl Ledger {
    fn is_there(&self) -> Result<(), LedgerError> {
        if self.away.load(Ordering::SeqCst) {
            self.failed.fetch_add(1, Ordering::SeqCst);
            return Err(LedgerError::Timeout(0));
        }
        Ok(())
    }
}

#[async_trait]
impl LedgerDb for Ledger {
    async fn book_settlements(
        &self,
        node: &str,
        paid: &[SettledToken],
        last_index: Option<u64>,
    ) -> Result<(), LedgerError> {
        self.is_there()?;
        self.db.book_settlements(node, paid, last_index).await?;
        self.written.fetch_add(1, Ordering::SeqCst);
        Ok(())
    }

    async fn book_uses(&self, uses: &[TokenUse]) -> Result<(), LedgerError> {
        self.is_there()?;
        self.db.book_uses(uses).await?;
        self.written.fetch_add(1, Ordering::SeqCst);
        Ok(())
    }

    async fn last_index(&self, node: &str) -> Result<u64, LedgerError> {
        self.is_there()?;
        self.db.last_index(node).await
    }

    async fn forget_index(&self, node: &str) -> Result<(), LedgerError> {
        self.is_there()?;
        self.db.forget_index(node).await
    }

    async fn is_settled(&self, payment_hash: PaymentHash) -> Result<bool, LedgerError> {
        self.is_there()?;
        self.db.is_settled(payment_hash).await
    }

    async fn is_token_settled(&self, token: &TokenUse) -> Result<bool, LedgerError> {
        self.is_there()?;
        self.db.is_token_settled(token).await
    }

    async fn payment(&self, payment_hash: PaymentHash) -> Result<Option<Payment>, LedgerError> {
        self.db.payment(payment_hash).await
    }

    async fn days(&self, filter: &Filter) -> Result<Vec<DaySum>, LedgerError> {
        self.db.days(filter).await
    }

    async fn payments(&self, filter: &Filter, after: Option<&Payment>) -> Result<Vec<Payment>, LedgerError> {
        self.db.payments(filter, after).await
    }

    async fn sums(&self, filter: &Filter) -> Result<Vec<Sum>, LedgerError> {
        self.db.sums(filter).await
    }

    async fn keys_in_use(&self) -> Result<Vec<KeyUse>, LedgerError> {
        self.db.keys_in_use().await
    }

    async fn note_keys(&self, keys: &[KeyUse]) -> Result<(), LedgerError> {
        self.db.note_keys(keys).await
    }

    async fn forget_key(&self, key: &KeyUse) -> Result<bool, LedgerError> {
        self.db.forget_key(key).await
    }

    async fn book_bought(&self, bought: &[(Sale, Bought)]) -> Result<(), LedgerError> {
        self.is_there()?;
        self.db.book_bought(bought).await
    }

    async fn bought(&self, filter: &Filter) -> Result<Vec<BoughtOn>, LedgerError> {
        self.db.bought(filter).await
    }
}

#[async_trait]
impl UseDb for Ledger {
    async fn hold_use(&self, order: &UseOrder<'_>) -> Result<UseHold, NoUse> {
        self.is_there()?;
        self.db.hold_use(order).await
    }

    async fn renew_use(&self, hold: &UseHold, until: u64) -> Result<(), LedgerError> {
        self.is_there()?;
        self.db.renew_use(hold, until).await
    }

    async fn end_use(&self, hold: &UseHold, end: UseEnd) -> Result<(), LedgerError> {
        self.is_there()?;
        self.db.end_use(hold, end).await
    }
}

#[async_trait]
impl RevocationDb for Ledger {
    async fn revoke(&self, order: &RevokeOrder) -> Result<(), LedgerError> {
        self.db.revoke(order).await
    }

    async fn undo_revocation(&self, revoked: Revoked, now: u64) -> Result<bool, LedgerError> {
        self.db.undo_revocation(revoked, now).await
    }

    async fn last_revocation_change(&self) -> Result<u64, LedgerError> {
        self.is_there()?;
        self.db.last_revocation_change().await
    }

    async fn revocation_changes(&self, after: u64) -> Result<Vec<Change>, LedgerError> {
        self.db.revocation_changes(after).await
    }

    async fn revocations(&self, before: Option<u64>, limit: u32) -> Result<Vec<Revocation>, LedgerError> {
        self.db.revocations(before, limit).await
    }

    async fn revoked_before(&self) -> Result<Option<u64>, LedgerError> {
        self.db.revoked_before().await
    }

    async fn revocation(&self, revoked: Revoked) -> Result<Option<Revocation>, LedgerError> {
        self.db.revocation(revoked).await
    }
}
