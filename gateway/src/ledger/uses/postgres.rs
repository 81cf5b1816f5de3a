//! Uses in PostgreSQL.

use async_trait::async_trait;
use sqlx::{query, query_as, query_scalar};

use super::{NoUse, UseDb, UseEnd, UseHold, UseOrder, room, sql};
use crate::{
    db::to_i64,
    ledger::{
        LedgerError,
        postgres::{PostgresLedger, bounded},
    },
};

/// The lock of whoever counts the uses of a payment, in the transaction: whatever row of it comes first, they take turns.
const LOCK_PAYMENT: &str = "SELECT pg_advisory_xact_lock(1936487732, hashtext($1))";

#[async_trait]
impl UseDb for PostgresLedger {
    async fn hold_use(&self, order: &UseOrder<'_>) -> Result<UseHold, NoUse> {
        bounded(async {
            let mut transaction = self.pool.begin().await?;
            let (hold, payment) = (order.hold(), &order.payment_hash.as_bytes()[..]);
            query(LOCK_PAYMENT).bind(hex::encode(payment)).execute(&mut *transaction).await?;
            let old = query_scalar(sql::END_OLD).bind(payment).bind(to_i64(order.now));
            let old: Vec<Vec<u8>> = old.fetch_all(&mut *transaction).await?;
            for counter in &old {
                query(sql::NO_ANSWER).bind(payment).bind(counter).execute(&mut *transaction).await?;
            }
            let mut all: Result<(), NoUse> = Ok(());
            for counter in order.counters {
                let state = query_as(sql::STATE).bind(payment).bind(&counter.id[..]);
                let (spent, held): (i64, i64) = state.fetch_optional(&mut *transaction).await?.unwrap_or_default();
                all = all.and(room(counter, spent.cast_unsigned(), held.cast_unsigned()));
            }
            if all.is_ok() {
                let until = to_i64(order.lease_until);
                for counter in &hold.counters {
                    query(sql::MAKE_COUNTER).bind(payment).bind(&counter[..]).execute(&mut *transaction).await?;
                    let held = query(sql::HOLD).bind(&hold.id[..]).bind(payment).bind(&counter[..]).bind(until);
                    held.execute(&mut *transaction).await?;
                }
            }
            // What ended has ended, also where there is no room. Who finds none and ends nothing writes nothing.
            if all.is_ok() || !old.is_empty() {
                transaction.commit().await?;
            }
            Ok(all.map(|()| hold))
        })
        .await?
    }

    async fn renew_use(&self, hold: &UseHold, until: u64) -> Result<(), LedgerError> {
        bounded(async {
            query(sql::RENEW).bind(&hold.id[..]).bind(to_i64(until)).execute(&self.pool).await?;
            Ok(())
        })
        .await
    }

    async fn end_use(&self, hold: &UseHold, end: UseEnd) -> Result<(), LedgerError> {
        bounded(async {
            let mut transaction = self.pool.begin().await?;
            let payment = &hold.payment_hash.as_bytes()[..];
            query(LOCK_PAYMENT).bind(hex::encode(payment)).execute(&mut *transaction).await?;
            let released = query(sql::RELEASE).bind(&hold.id[..]).execute(&mut *transaction).await?;
            let ending = match end {
                UseEnd::Spent => Some(sql::SPEND),
                UseEnd::GivenBack => Some(sql::FORGET_COUNTER),
                UseEnd::Unanswered if released.rows_affected() > 0 => Some(sql::NO_ANSWER),
                UseEnd::Unanswered => None,
            };
            for (counter, ending) in hold.counters.iter().filter_map(|counter| Some((counter, ending?))) {
                query(ending).bind(payment).bind(&counter[..]).execute(&mut *transaction).await?;
            }
            Ok(transaction.commit().await?)
        })
        .await
    }
}
