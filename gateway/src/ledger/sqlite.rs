//! The ledger in the gateway's SQLite file.

use async_trait::async_trait;
use sluice_common::{keys::KeyUse, l402::PaymentHash};
use sqlx::{query, query_as, query_scalar};

use super::{
    Bought, BoughtOn, DaySum, Filter, LedgerDb, LedgerError, PAGE, Payment, Sale, SettledToken, Sum, TokenUse,
    sql::{self, Bounds},
};
use crate::db::{GatewayDb, to_i64};

#[async_trait]
impl LedgerDb for GatewayDb {
    async fn book_settlements(
        &self,
        node: &str,
        paid: &[SettledToken],
        last_index: Option<u64>,
    ) -> Result<(), LedgerError> {
        let mut transaction = self.write().await?;
        for token in paid {
            query(sql::BOOK_SETTLEMENT)
                .bind(&token.payment_hash.as_bytes()[..])
                .bind(&token.service)
                .bind(token.network.name())
                .bind(&token.token_id.as_bytes()[..])
                .bind(to_i64(token.amount_msat))
                .bind(to_i64(token.settled_at))
                .bind(node)
                .execute(&mut *transaction)
                .await?;
        }
        if let Some(index) = last_index {
            query(sql::BOOK_INDEX).bind(node).bind(to_i64(index)).execute(&mut *transaction).await?;
        }
        Ok(transaction.commit().await?)
    }

    async fn book_uses(&self, uses: &[TokenUse]) -> Result<(), LedgerError> {
        let mut transaction = self.write().await?;
        for token in uses {
            query(sql::BOOK_USE)
                .bind(&token.payment_hash.as_bytes()[..])
                .bind(&token.service)
                .bind(token.network.name())
                .bind(&token.token_id.as_bytes()[..])
                .bind(to_i64(token.used_at))
                .execute(&mut *transaction)
                .await?;
        }
        Ok(transaction.commit().await?)
    }

    async fn last_index(&self, node: &str) -> Result<u64, LedgerError> {
        let index: Option<i64> = query_scalar(sql::LAST_INDEX).bind(node).fetch_optional(self.reader()).await?;
        Ok(index.map_or(0, i64::cast_unsigned))
    }

    async fn forget_index(&self, node: &str) -> Result<(), LedgerError> {
        let mut transaction = self.write().await?;
        query(sql::FORGET_INDEX).bind(node).execute(&mut *transaction).await?;
        Ok(transaction.commit().await?)
    }

    async fn is_settled(&self, payment_hash: PaymentHash) -> Result<bool, LedgerError> {
        Ok(query_scalar(sql::IS_SETTLED).bind(&payment_hash.as_bytes()[..]).fetch_one(self.reader()).await?)
    }

    async fn is_token_settled(&self, token: &TokenUse) -> Result<bool, LedgerError> {
        let settled = query_scalar(sql::IS_TOKEN_SETTLED)
            .bind(&token.payment_hash.as_bytes()[..])
            .bind(&token.token_id.as_bytes()[..])
            .bind(&token.service)
            .bind(token.network.name());
        Ok(settled.fetch_one(self.reader()).await?)
    }

    async fn payment(&self, payment_hash: PaymentHash) -> Result<Option<Payment>, LedgerError> {
        Ok(query_as(sql::PAYMENT).bind(&payment_hash.as_bytes()[..]).fetch_optional(self.reader()).await?)
    }

    async fn days(&self, filter: &Filter) -> Result<Vec<DaySum>, LedgerError> {
        let bounds = Bounds::from(filter);
        let days = query_as(sql::DAYS)
            .bind(bounds.from)
            .bind(bounds.before)
            .bind(bounds.service)
            .bind(bounds.network)
            .fetch_all(self.reader())
            .await?;
        Ok(days)
    }

    async fn payments(&self, filter: &Filter, after: Option<&Payment>) -> Result<Vec<Payment>, LedgerError> {
        let (bounds, (time, payment_hash)) = (Bounds::from(filter), sql::place(after));
        let payments = query_as(sql::PAYMENTS)
            .bind(bounds.from)
            .bind(bounds.before)
            .bind(bounds.service)
            .bind(bounds.network)
            .bind(time)
            .bind(payment_hash)
            .bind(to_i64(PAGE as u64))
            .fetch_all(self.reader())
            .await?;
        Ok(payments)
    }

    async fn keys_in_use(&self) -> Result<Vec<KeyUse>, LedgerError> {
        let keys: Vec<(String, String)> = query_as(sql::KEYS_IN_USE).fetch_all(self.reader()).await?;
        Ok(keys.into_iter().map(sql::key_use).collect())
    }

    async fn note_keys(&self, keys: &[KeyUse]) -> Result<(), LedgerError> {
        let mut transaction = self.write().await?;
        for key in keys {
            query(sql::NOTE_KEY).bind(&key.name).bind(&key.fingerprint).execute(&mut *transaction).await?;
        }
        Ok(transaction.commit().await?)
    }

    async fn forget_key(&self, key: &KeyUse) -> Result<bool, LedgerError> {
        let mut transaction = self.write().await?;
        let deleted = query(sql::FORGET_KEY).bind(&key.name).bind(&key.fingerprint).execute(&mut *transaction).await?;
        transaction.commit().await?;
        Ok(deleted.rows_affected() > 0)
    }

    async fn sums(&self, filter: &Filter) -> Result<Vec<Sum>, LedgerError> {
        let bounds = Bounds::from(filter);
        let sums = query_as(sql::SUMS)
            .bind(bounds.from)
            .bind(bounds.before)
            .bind(bounds.service)
            .bind(bounds.network)
            .fetch_all(self.reader())
            .await?;
        Ok(sums)
    }

    async fn book_bought(&self, bought: &[(Sale, Bought)]) -> Result<(), LedgerError> {
        let mut transaction = self.write().await?;
        for (sale, bought) in bought {
            query(sql::BOOK_BOUGHT)
                .bind(&sale.payment_hash.as_bytes()[..])
                .bind(&sale.service)
                .bind(sale.network)
                .bind(to_i64(sale.day))
                .bind(to_i64(bought.uses))
                .bind(to_i64(bought.bytes))
                .bind(to_i64(bought.refused))
                .bind(to_i64(bought.given_back))
                .execute(&mut *transaction)
                .await?;
        }
        Ok(transaction.commit().await?)
    }

    async fn bought(&self, filter: &Filter) -> Result<Vec<BoughtOn>, LedgerError> {
        let bounds = Bounds::from(filter);
        let bought =
            query_as(sql::BOUGHT).bind(bounds.from).bind(bounds.before).bind(bounds.service).bind(bounds.network);
        Ok(bought.fetch_all(self.reader()).await?)
    }
}

#[cfg(test)]
mod tests {
    use crate::{db::GatewayDb, ledger::contract::contract_tests};

    async fn ledger() -> (GatewayDb, tempfile::TempDir) {
        let folder = tempfile::tempdir().unwrap();
        (GatewayDb::open(&folder.path().join("gateway.db")).await.unwrap(), folder)
    }

    contract_tests!(ledger);
}
