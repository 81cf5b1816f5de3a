//! Revocations, and what else a ledger is asked about one token.

use sluice_common::revocation::{Change, Revocations, Revoked};

use super::{NODE, hash, payment, settled, token, used};
use crate::ledger::{DaySum, Filter, LedgerDb, Payment, RevokeOrder, Sum, TokenUse, revocation::CHANGES};

fn order(revoked: Revoked, now: u64) -> RevokeOrder {
    RevokeOrder { revoked, reason: "sold twice".to_owned(), now }
}

fn paid(number: u16) -> Revoked {
    Revoked::Payment(hash(number))
}

/// What a view sees that follows the ledger from the change `after`.
async fn changes(ledger: &dyn LedgerDb, after: u64) -> Vec<(u64, Revoked, bool)> {
    let changes = ledger.revocation_changes(after).await.unwrap();
    changes.into_iter().map(|Change { number, revoked, in_effect, .. }| (number, revoked, in_effect)).collect()
}

pub(crate) async fn what_is_revoked_is_undone_and_revoked_again(ledger: &dyn LedgerDb) {
    let date = Revoked::MintedBefore(5_000);
    assert_eq!((ledger.last_revocation_change().await.unwrap(), changes(ledger, 0).await), (0, vec![]));
    ledger.revoke(&order(paid(1), 1_000)).await.unwrap();
    assert_eq!(ledger.revoked_before().await.unwrap(), None);
    ledger.revoke(&order(date, 1_001)).await.unwrap();
    assert_eq!(ledger.revoked_before().await.unwrap(), Some(5_000));
    assert_eq!(changes(ledger, 0).await, [(1, paid(1), true), (2, date, true)]);
    assert_eq!(changes(ledger, 1).await, [(2, date, true)]);

    for revoked in [paid(1), date] {
        assert!(ledger.undo_revocation(revoked, 1_002).await.unwrap());
        assert!(!ledger.undo_revocation(revoked, 1_003).await.unwrap(), "none is in effect");
    }
    assert!(!ledger.undo_revocation(paid(2), 1_003).await.unwrap());
    assert_eq!(ledger.revoked_before().await.unwrap(), None);
    let last = ledger.last_revocation_change().await.unwrap();
    let seen = changes(ledger, 2).await;
    assert_eq!(
        seen.iter().map(|&(_, revoked, in_effect)| (revoked, in_effect)).collect::<Vec<_>>(),
        [(paid(1), false), (date, false)]
    );
    assert!(seen.iter().all(|(number, ..)| *number <= last));

    ledger.revoke(&order(paid(1), 1_004)).await.unwrap();
    let of = ledger.revocation(paid(1)).await.unwrap().unwrap();
    assert_eq!((of.revoked_at, of.undone_at, of.change), (1_004, None, last + 1));
    let again = RevokeOrder { reason: "more".to_owned(), ..order(paid(1), 1_005) };
    ledger.revoke(&again).await.unwrap();
    let of = ledger.revocation(paid(1)).await.unwrap().unwrap();
    assert_eq!((of.revoked_at, of.reason.as_str()), (1_004, "more"));
    assert_eq!(ledger.revocation(date).await.unwrap().unwrap().undone_at, Some(1_002));
    assert_eq!(ledger.revocation(paid(2)).await.unwrap(), None);
}

pub(crate) async fn revocations_are_listed_the_last_changed_first(ledger: &dyn LedgerDb) {
    for number in 1..=5 {
        ledger.revoke(&order(paid(number), 1_000)).await.unwrap();
    }
    assert!(ledger.undo_revocation(paid(2), 1_001).await.unwrap());
    let (mut listed, mut before) = (Vec::new(), None);
    loop {
        let page = ledger.revocations(before, 2).await.unwrap();
        let Some(last) = page.last() else { break };
        before = Some(last.change);
        listed.extend(page.into_iter().map(|revocation| (revocation.revoked, revocation.undone_at)));
    }
    let expected = [2, 5, 4, 3, 1].map(|number| (paid(number), (number == 2).then_some(1_001)));
    assert_eq!(listed, expected);
}

/// Whoever follows the changes while many revoke at once misses none of them, however their transactions end.
pub(crate) async fn no_change_is_missed_by_who_follows(ledger: &dyn LedgerDb) {
    let revoke_all = async || {
        let many = (0..40).map(|number| async move { ledger.revoke(&order(paid(number), 1_000)).await });
        futures_util::future::join_all(many).await.into_iter().collect::<Result<Vec<_>, _>>().map(drop)
    };
    let follow = async || {
        let mut view = Revocations::default();
        while view.last_change() < 40 {
            let last = ledger.last_revocation_change().await.unwrap();
            view.apply(&ledger.revocation_changes(view.last_change()).await.unwrap());
            // As the watch does: it never asks again for what came before.
            view.seen(last);
        }
        view
    };
    let (revoked, view) = tokio::join!(revoke_all(), follow());
    revoked.unwrap();
    let missed: Vec<_> = (0..40).filter(|&number| !view.has_payment(hash(number))).collect();
    assert_eq!(missed, Vec::<u16>::new());
    const { assert!(CHANGES >= 40) };
}

pub(crate) async fn a_token_is_settled_only_by_its_own_payment(ledger: &dyn LedgerDb) {
    ledger.book_settlements(NODE, &[settled(1, 1_000)], None).await.unwrap();
    ledger.book_uses(&[used(2, 1_000)]).await.unwrap();
    assert!(ledger.is_token_settled(&used(1, 0)).await.unwrap());
    for other in [
        used(2, 1_000),
        used(3, 1_000),
        TokenUse { token_id: token(2), ..used(1, 0) },
        TokenUse { service: "other".to_owned(), ..used(1, 0) },
        TokenUse { network: sluice_common::network::Network::Mainnet, ..used(1, 0) },
    ] {
        assert!(!ledger.is_token_settled(&other).await.unwrap(), "{other:?}");
    }
    let known: [Option<Payment>; 3] = [Some(payment(1, Some(1_000), None)), Some(payment(2, None, Some(1_000))), None];
    for (number, known) in (1..).zip(known) {
        assert_eq!(ledger.payment(hash(number)).await.unwrap(), known);
    }
}

pub(crate) async fn sums_are_of_each_day(ledger: &dyn LedgerDb) {
    const DAY: u64 = 86_400;
    let paid = [settled(1, 5 * DAY), settled(2, 6 * DAY - 1), settled(3, 6 * DAY)];
    ledger.book_settlements(NODE, &paid, None).await.unwrap();
    let other = TokenUse { service: "other".to_owned(), ..used(4, 6 * DAY + 7) };
    ledger.book_uses(&[used(1, 9 * DAY), other]).await.unwrap();
    let day = |day, service: &str, payments, without_amount, amount_msat| {
        let network = sluice_common::network::Network::Regtest;
        DaySum { day, sum: Sum { network, service: service.to_owned(), payments, without_amount, amount_msat } }
    };
    let all = [day(5, "media", 2, 0, 200_003), day(6, "media", 1, 0, 100_003), day(6, "other", 1, 1, 0)];
    assert_eq!(ledger.days(&Filter::default()).await.unwrap(), all);
    let filter = Filter { from: Some(6 * DAY), service: Some("media".to_owned()), ..Filter::default() };
    assert_eq!(ledger.days(&filter).await.unwrap(), all[1..2]);
}
