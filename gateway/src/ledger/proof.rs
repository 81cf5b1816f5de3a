//! What proves that a token is paid: its preimage, or the node's word. Of a token whose master key is retired only the
//! ledger's: whoever has the key can make tokens, and put any payment into them.

use std::{
    num::NonZeroUsize,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use lru::LruCache;
use serde::{Deserialize, Serialize};
use sluice_common::{
    keys::MasterKeys,
    l402::{PaymentHash, Permit, TokenId},
};
use tokio::time::{Instant, sleep, timeout_at};

use super::{Books, LedgerDb, LedgerError, SettledToken, TokenUse};
use crate::lightning::{LightningNode, Settlement};

/// How many settled payments are remembered; others are looked up again.
const MAX_PROVEN: NonZeroUsize = match NonZeroUsize::new(65_536) {
    Some(max) => max,
    None => NonZeroUsize::MIN,
};

/// How long the ledger may take to say whether it has a settlement; then the node is asked.
const LEDGER_TIMEOUT: Duration = Duration::from_secs(3);

/// How long the node is asked for a settlement: the payer may know of it a moment earlier.
const NODE_TIMEOUT: Duration = Duration::from_secs(3);

/// The wait before the node is asked a second time; each further one doubles it.
const FIRST_WAIT: Duration = Duration::from_millis(50);

/// What proves that a token is paid.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum SettlementProof {
    /// Its preimage: whoever has it has paid.
    #[default]
    Preimage,
    /// A node must have said that the payment is settled.
    Node,
}

/// Why it is not proven that a token is paid.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Unproven {
    /// The node says that it is not.
    #[error("the node has not received the payment")]
    NotSettled,
    /// Neither the ledger nor the node can say.
    #[error("it cannot be looked up whether the payment is settled: {0}")]
    Unknown(String),
}

/// Asks for the proof.
pub struct SettlementCheck {
    proof: SettlementProof,
    keys: MasterKeys,
    ledger: Arc<dyn LedgerDb>,
    node: Arc<dyn LightningNode>,
    books: Arc<Books>,
    /// What is settled stays settled.
    proven: Mutex<LruCache<(PaymentHash, TokenId), ()>>,
}

impl SettlementCheck {
    /// A check that takes `proof`, and of tokens under a retired one of `keys` only the ledger's word. What the node says
    /// on the way goes into the books.
    pub fn new(
        proof: SettlementProof,
        keys: MasterKeys,
        ledger: Arc<dyn LedgerDb>,
        node: Arc<dyn LightningNode>,
        books: Arc<Books>,
    ) -> Self {
        Self { proof, keys, ledger, node, books, proven: Mutex::new(LruCache::new(MAX_PROVEN)) }
    }

    /// Whether it is proven that the token of `permit`, used for `service`, is paid. A settlement in the ledger is proof
    /// for ever, whichever node said it.
    pub async fn confirm(&self, permit: &Permit, service: &str) -> Result<(), Unproven> {
        let (payment_hash, token_id) = (permit.token().payment_hash(), permit.token().token_id());
        let is_retired = self.keys.is_retired(&token_id);
        let is_enough = self.proof == SettlementProof::Preimage && !is_retired;
        if is_enough || self.is_proven(payment_hash, token_id) {
            return Ok(());
        }
        if is_retired {
            // Not the node's word: it knows the payment alone, and that may be one for something else.
            let token = TokenUse {
                payment_hash,
                service: service.to_owned(),
                network: self.books.network,
                token_id,
                used_at: 0,
            };
            if !in_time(self.ledger.is_token_settled(&token)).await.map_err(Unproven::Unknown)? {
                return Err(Unproven::NotSettled);
            }
        } else {
            self.confirm_payment(payment_hash, token_id, service).await?;
        }
        self.proven.lock().unwrap_or_else(PoisonError::into_inner).put((payment_hash, token_id), ());
        Ok(())
    }

    /// Whether ledger or node say that a payment is settled.
    async fn confirm_payment(
        &self,
        payment_hash: PaymentHash,
        token_id: TokenId,
        service: &str,
    ) -> Result<(), Unproven> {
        let in_ledger = in_time(self.ledger.is_settled(payment_hash)).await;
        if in_ledger == Ok(true) {
            return Ok(());
        }
        let Some(settlement) = self.ask_node(payment_hash).await? else {
            // A ledger that is away might have it from another node.
            return Err(in_ledger.err().map_or(Unproven::NotSettled, Unproven::Unknown));
        };
        self.books.settled(SettledToken {
            payment_hash,
            service: service.to_owned(),
            network: self.books.network,
            token_id,
            amount_msat: settlement.amount_msat,
            settled_at: settlement.settled_at,
        });
        Ok(())
    }

    fn is_proven(&self, payment_hash: PaymentHash, token_id: TokenId) -> bool {
        self.proven.lock().unwrap_or_else(PoisonError::into_inner).get(&(payment_hash, token_id)).is_some()
    }

    /// Asks the node until it says yes, or for as long as a settlement may take to reach it.
    async fn ask_node(&self, payment_hash: PaymentHash) -> Result<Option<Settlement>, Unproven> {
        let deadline = Instant::now() + NODE_TIMEOUT;
        let mut wait = FIRST_WAIT;
        loop {
            let said = timeout_at(deadline, self.node.settlement(payment_hash)).await.map_err(|_| {
                Unproven::Unknown(format!("the node did not answer within {} s", NODE_TIMEOUT.as_secs()))
            })?;
            let settlement = said.map_err(|error| Unproven::Unknown(error.to_string()))?;
            if settlement.is_some() || Instant::now() + wait >= deadline {
                return Ok(settlement);
            }
            sleep(wait).await;
            wait *= 2;
        }
    }
}

/// What the ledger says, if it does in time.
async fn in_time(asked: impl Future<Output = Result<bool, LedgerError>>) -> Result<bool, String> {
    match tokio::time::timeout(LEDGER_TIMEOUT, asked).await {
        Ok(said) => said.map_err(|error| error.to_string()),
        Err(_) => Err(format!("the ledger's database did not answer within {} s", LEDGER_TIMEOUT.as_secs())),
    }
}
