//! Uses that the gateway counts.

use futures_util::future::join_all;
use sluice_common::l402::Counter;

use super::hash;
use crate::ledger::{LedgerDb, NoUse, UseEnd, UseHold, UseOrder};

const LEASE_SECS: u64 = 30;

/// A token's limits: the one that was sold, and those that were appended.
fn counters(max_uses: &[u64]) -> Vec<Counter> {
    max_uses.iter().zip(1..).map(|(&max_uses, number)| Counter { id: [number; 32], max_uses }).collect()
}

async fn hold(ledger: &dyn LedgerDb, counters: &[Counter], now: u64) -> Result<UseHold, NoUse> {
    ledger.hold_use(&UseOrder { payment_hash: hash(1), counters, lease_until: now + LEASE_SECS, now }).await
}

/// Holds a use and ends it so; else says why not.
async fn used(ledger: &dyn LedgerDb, counters: &[Counter], now: u64, end: UseEnd) -> Result<(), &'static str> {
    match hold(ledger, counters, now).await {
        Ok(held) => {
            ledger.end_use(&held, end).await.unwrap();
            Ok(())
        }
        Err(NoUse::UsedUp) => Err("used up"),
        Err(NoUse::InUse) => Err("in use"),
        Err(NoUse::Ledger(error)) => panic!("{error}"),
    }
}

pub(crate) async fn a_use_that_is_spent_is_gone_and_one_given_back_is_not(ledger: &dyn LedgerDb) {
    let two = counters(&[2]);
    for (end, outcome) in [
        (UseEnd::GivenBack, Ok(())),
        (UseEnd::Spent, Ok(())),
        (UseEnd::GivenBack, Ok(())),
        (UseEnd::Spent, Ok(())),
        (UseEnd::GivenBack, Err("used up")),
    ] {
        assert_eq!(used(ledger, &two, 1_000, end).await, outcome, "{end:?}");
    }
    let order = UseOrder { payment_hash: hash(2), counters: &two, lease_until: 1_030, now: 1_000 };
    assert!(ledger.hold_use(&order).await.is_ok(), "another payment has its own");
}

pub(crate) async fn a_use_needs_room_in_every_counter_and_counts_in_all(ledger: &dyn LedgerDb) {
    let (sold, narrower) = (counters(&[3]), counters(&[3, 1]));
    assert_eq!(used(ledger, &narrower, 1_000, UseEnd::Spent).await, Ok(()));
    assert_eq!(used(ledger, &narrower, 1_000, UseEnd::Spent).await, Err("used up"));
    for _ in 0..2 {
        assert_eq!(used(ledger, &sold, 1_000, UseEnd::Spent).await, Ok(()));
    }
    assert_eq!(used(ledger, &sold, 1_000, UseEnd::Spent).await, Err("used up"));
}

pub(crate) async fn a_use_that_is_held_is_nobody_elses(ledger: &dyn LedgerDb) {
    let two = counters(&[2]);
    let one = hold(ledger, &two, 1_000).await.unwrap();
    let other = hold(ledger, &two, 1_000).await.unwrap();
    assert_eq!(used(ledger, &two, 1_001, UseEnd::Spent).await, Err("in use"));
    ledger.end_use(&one, UseEnd::Spent).await.unwrap();
    assert_eq!(used(ledger, &two, 1_002, UseEnd::Spent).await, Err("in use"));
    ledger.end_use(&other, UseEnd::GivenBack).await.unwrap();
    assert_eq!(used(ledger, &two, 1_003, UseEnd::Spent).await, Ok(()));
    assert_eq!(used(ledger, &two, 1_004, UseEnd::Spent).await, Err("used up"));
}

pub(crate) async fn without_an_answer_a_use_is_given_back_three_times(ledger: &dyn LedgerDb) {
    let two = counters(&[2]);
    for end in [UseEnd::Unanswered, UseEnd::Unanswered, UseEnd::GivenBack, UseEnd::Unanswered] {
        assert_eq!(used(ledger, &two, 1_000, end).await, Ok(()));
    }
    // The fourth spends; the next use has three of its own.
    for _ in 0..4 {
        assert_eq!(used(ledger, &two, 1_000, UseEnd::Unanswered).await, Ok(()));
    }
    assert_eq!(used(ledger, &two, 1_000, UseEnd::Spent).await, Ok(()), "one is left");
    assert_eq!(used(ledger, &two, 1_000, UseEnd::Spent).await, Err("used up"));
}

pub(crate) async fn what_a_dead_gateway_held_ends_with_its_lease(ledger: &dyn LedgerDb) {
    let one = counters(&[1]);
    let mut now = 1_000;
    for _ in 0..4 {
        drop(hold(ledger, &one, now).await.unwrap());
        assert_eq!(used(ledger, &one, now + LEASE_SECS - 1, UseEnd::Spent).await, Err("in use"));
        now += LEASE_SECS;
    }
    assert_eq!(used(ledger, &one, now, UseEnd::Spent).await, Err("used up"), "the fourth without an answer");
}

pub(crate) async fn a_lease_is_renewed(ledger: &dyn LedgerDb) {
    let one = counters(&[1]);
    let held = hold(ledger, &one, 1_000).await.unwrap();
    ledger.renew_use(&held, 1_100).await.unwrap();
    assert_eq!(used(ledger, &one, 1_099, UseEnd::Spent).await, Err("in use"));
    // Its time is over, so another has it; what it bought meanwhile is spent all the same.
    let other = hold(ledger, &one, 1_100).await.unwrap();
    ledger.end_use(&held, UseEnd::Spent).await.unwrap();
    ledger.end_use(&other, UseEnd::GivenBack).await.unwrap();
    assert_eq!(used(ledger, &one, 1_100, UseEnd::Spent).await, Err("used up"));
}

pub(crate) async fn a_hold_that_others_ended_ends_once(ledger: &dyn LedgerDb) {
    let one = counters(&[1]);
    for _ in 0..3 {
        let held = hold(ledger, &one, 1_000).await.unwrap();
        for _ in 0..3 {
            ledger.end_use(&held, UseEnd::Unanswered).await.unwrap();
        }
    }
    assert_eq!(used(ledger, &one, 1_000, UseEnd::Spent).await, Ok(()), "three without an answer, not nine");
}

pub(crate) async fn of_many_at_once_as_many_get_a_use_as_there_are(ledger: &dyn LedgerDb) {
    let (sold, narrower) = (counters(&[5]), counters(&[5, 4]));
    let held =
        join_all((0..40).map(|number| hold(ledger, if number % 2 == 0 { &sold } else { &narrower }, 1_000))).await;
    let (got, refused): (Vec<_>, Vec<_>) = held.into_iter().partition(Result::is_ok);
    assert_eq!(got.len(), 5);
    assert!(refused.iter().all(|refused| matches!(refused, Err(NoUse::InUse))), "{refused:?}");
    let ended = join_all(got.iter().flatten().map(|held| ledger.end_use(held, UseEnd::Spent))).await;
    assert!(ended.iter().all(Result::is_ok), "{ended:?}");
    assert_eq!(used(ledger, &sold, 1_000, UseEnd::Spent).await, Err("used up"));
}
