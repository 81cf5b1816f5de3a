//! Uses in SQLite.

use async_trait::async_trait;
use sqlx::{query, query_as, query_scalar};

use super::{NoUse, UseDb, UseEnd, UseHold, UseOrder, room, sql};
use crate::{
    db::{GatewayDb, to_i64},
    ledger::LedgerError,
};

#[async_trait]
impl UseDb for GatewayDb {
    async fn hold_use(&self, order: &UseOrder<'_>) -> Result<UseHold, NoUse> {
        let mut transaction = self.write().await?;
        let (hold, payment) = (order.hold(), &order.payment_hash.as_bytes()[..]);
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
        all.map(|()| hold)
    }

    async fn renew_use(&self, hold: &UseHold, until: u64) -> Result<(), LedgerError> {
        let mut transaction = self.write().await?;
        query(sql::RENEW).bind(&hold.id[..]).bind(to_i64(until)).execute(&mut *transaction).await?;
        Ok(transaction.commit().await?)
    }

    async fn end_use(&self, hold: &UseHold, end: UseEnd) -> Result<(), LedgerError> {
        let mut transaction = self.write().await?;
        let payment = &hold.payment_hash.as_bytes()[..];
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
    }
}

#[cfg(test)]
mod tests {
    use sluice_common::l402::{Counter, PaymentHash};

    use super::*;

    fn order(counters: &[Counter]) -> UseOrder<'_> {
        UseOrder { payment_hash: PaymentHash::from_bytes([7; 32]), counters, lease_until: 1_030, now: 1_000 }
    }

    #[tokio::test]
    async fn only_what_was_used_leaves_a_row() {
        let folder = tempfile::tempdir().unwrap();
        let db = GatewayDb::open(&folder.path().join("gateway.db")).await.unwrap();
        let rows = async || -> i64 {
            let count = "SELECT (SELECT count(*) FROM use_counter) + (SELECT count(*) FROM use_hold)";
            query_scalar(count).fetch_one(db.reader()).await.unwrap()
        };
        let sold = Counter { id: [1; 32], max_uses: 1 };
        let held = db.hold_use(&order(&[sold, Counter { id: [2; 32], max_uses: 1 }])).await.unwrap();
        assert_eq!(rows().await, 4);
        db.end_use(&held, UseEnd::GivenBack).await.unwrap();
        assert_eq!(rows().await, 0);
        let held = db.hold_use(&order(&[sold])).await.unwrap();
        db.end_use(&held, UseEnd::Spent).await.unwrap();
        // Anybody can make it narrower, as often as they like.
        for appended in 3..20 {
            let counters = [sold, Counter { id: [appended; 32], max_uses: 1 }];
            assert!(matches!(db.hold_use(&order(&counters)).await, Err(NoUse::UsedUp)));
        }
        assert_eq!(rows().await, 1);
    }
}
