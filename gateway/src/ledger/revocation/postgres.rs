//! Revocations in PostgreSQL.

use async_trait::async_trait;
use sluice_common::revocation::{Change, Revoked};
use sqlx::{query, query_as, query_scalar};

use super::{
    CHANGES, Revocation, RevocationDb, RevokeOrder, columns,
    sql::{self, ChangeRow},
};
use crate::{
    db::to_i64,
    ledger::{
        LedgerError,
        postgres::{PostgresLedger, bounded},
    },
};

#[async_trait]
impl RevocationDb for PostgresLedger {
    async fn revoke(&self, order: &RevokeOrder) -> Result<(), LedgerError> {
        bounded(async {
            let mut transaction = self.pool.begin().await?;
            let change: i64 = query_scalar(sql::NEXT_CHANGE).fetch_one(&mut *transaction).await?;
            let revoking = match &order.revoked {
                Revoked::Payment(hash) => query(sql::REVOKE_PAYMENT).bind(change).bind(hash.as_bytes().to_vec()),
                Revoked::MintedBefore(time) => query(sql::REVOKE_DATE).bind(change).bind(to_i64(*time)),
            };
            revoking.bind(to_i64(order.now)).bind(&order.reason).execute(&mut *transaction).await?;
            Ok(transaction.commit().await?)
        })
        .await
    }

    async fn undo_revocation(&self, revoked: Revoked, now: u64) -> Result<bool, LedgerError> {
        let (payment_hash, minted_before) = columns(&revoked);
        bounded(async {
            let mut transaction = self.pool.begin().await?;
            let change: i64 = query_scalar(sql::NEXT_CHANGE).fetch_one(&mut *transaction).await?;
            let undone = query(sql::UNDO)
                .bind(change)
                .bind(to_i64(now))
                .bind(payment_hash)
                .bind(minted_before)
                .execute(&mut *transaction)
                .await?;
            transaction.commit().await?;
            Ok(undone.rows_affected() > 0)
        })
        .await
    }

    async fn last_revocation_change(&self) -> Result<u64, LedgerError> {
        bounded(async {
            let last: i64 = query_scalar(sql::LAST_CHANGE).fetch_one(&self.pool).await?;
            Ok(last.cast_unsigned())
        })
        .await
    }

    async fn revocation_changes(&self, after: u64) -> Result<Vec<Change>, LedgerError> {
        bounded(async {
            let changes: Vec<ChangeRow> =
                query_as(sql::CHANGES).bind(to_i64(after)).bind(to_i64(CHANGES as u64)).fetch_all(&self.pool).await?;
            Ok(changes.into_iter().map(|ChangeRow(change)| change).collect())
        })
        .await
    }

    async fn revocations(&self, before: Option<u64>, limit: u32) -> Result<Vec<Revocation>, LedgerError> {
        let before = to_i64(before.unwrap_or(u64::MAX));
        bounded(async { Ok(query_as(sql::LIST).bind(before).bind(i64::from(limit)).fetch_all(&self.pool).await?) })
            .await
    }

    async fn revoked_before(&self) -> Result<Option<u64>, LedgerError> {
        bounded(async {
            let time: Option<i64> = query_scalar(sql::REVOKED_BEFORE).fetch_one(&self.pool).await?;
            Ok(time.map(i64::cast_unsigned))
        })
        .await
    }

    async fn revocation(&self, revoked: Revoked) -> Result<Option<Revocation>, LedgerError> {
        let (payment_hash, minted_before) = columns(&revoked);
        bounded(async {
            Ok(query_as(sql::ONE).bind(payment_hash).bind(minted_before).fetch_optional(&self.pool).await?)
        })
        .await
    }
}
