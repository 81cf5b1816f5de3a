//! What every ledger behind the trait must do. [`contract_tests!`] makes a test of each function for one implementation.

mod bought;
mod revocations;
mod uses;

use sluice_common::{
    keys::KeyUse,
    l402::{PaymentHash, TokenId},
    network::Network,
};

pub(crate) use self::{bought::*, revocations::*, uses::*};
use super::{Bought, Filter, LedgerDb, PAGE, Payment, Settled, SettledToken, Sum, TokenUse};

/// Makes a test of every part of the contract. `$setup` is an async function without arguments that gives a ledger with
/// nothing in it, and whatever must live as long as it.
macro_rules! contract_tests {
    ($setup:path) => {
        contract_tests!($setup:
            a_settlement_is_booked_once,
            a_use_is_booked_once_and_the_earliest_stays,
            settlement_and_use_are_one_payment_whichever_comes_first,
            what_one_node_said_no_other_changes,
            an_index_is_of_a_node_and_never_falls,
            an_index_that_is_forgotten_begins_anew,
            a_booking_is_whole_or_not_at_all,
            payments_are_filtered_by_time_and_service,
            payments_come_in_pages_without_gaps,
            sums_are_of_each_service,
            no_sum_is_of_two_networks,
            many_book_the_same_at_once,
            the_largest_numbers_have_room,
            keys_are_in_use_until_they_are_forgotten,
            what_is_revoked_is_undone_and_revoked_again,
            revocations_are_listed_the_last_changed_first,
            no_change_is_missed_by_who_follows,
            a_token_is_settled_only_by_its_own_payment,
            sums_are_of_each_day,
            a_use_that_is_spent_is_gone_and_one_given_back_is_not,
            a_use_needs_room_in_every_counter_and_counts_in_all,
            a_use_that_is_held_is_nobody_elses,
            without_an_answer_a_use_is_given_back_three_times,
            what_a_dead_gateway_held_ends_with_its_lease,
            a_lease_is_renewed,
            a_hold_that_others_ended_ends_once,
            of_many_at_once_as_many_get_a_use_as_there_are,
            what_was_bought_is_added_up,
            what_was_bought_is_booked_wholly_or_not_at_all,
            many_add_to_the_same_at_once,
        );
    };
    ($setup:path: $($name:ident),* $(,)?) => {
        $(
            #[tokio::test(flavor = "multi_thread")]
            async fn $name() {
                let (ledger, _alive) = $setup().await;
                $crate::ledger::contract::$name(&ledger).await;
            }
        )*
    };
}
pub(crate) use contract_tests;

const NODE: &str = "02node";

/// The payment whose hash begins with `number`; its token is another for each.
fn hash(number: u16) -> PaymentHash {
    let mut bytes = [7; 32];
    bytes[..2].copy_from_slice(&number.to_be_bytes());
    PaymentHash::from_bytes(bytes)
}

fn token(number: u16) -> TokenId {
    TokenId::from_bytes(*hash(number).as_bytes())
}

fn settled(number: u16, settled_at: u64) -> SettledToken {
    SettledToken {
        payment_hash: hash(number),
        service: "media".to_owned(),
        network: Network::Regtest,
        token_id: token(number),
        amount_msat: 100_000 + u64::from(number),
        settled_at,
    }
}

fn used(number: u16, used_at: u64) -> TokenUse {
    TokenUse {
        payment_hash: hash(number),
        service: "media".to_owned(),
        network: Network::Regtest,
        token_id: token(number),
        used_at,
    }
}

async fn all(ledger: &dyn LedgerDb) -> Vec<Payment> {
    ledger.payments(&Filter::default(), None).await.unwrap()
}

fn payment(number: u16, settled_at: Option<u64>, first_used_at: Option<u64>) -> Payment {
    let SettledToken { payment_hash, service, network, token_id, amount_msat, .. } = settled(number, 0);
    let settled = settled_at.map(|at| Settled { amount_msat, at, node: NODE.to_owned() });
    Payment { payment_hash, service, network, token_id, settled, first_used_at, bought: Bought::default() }
}

pub(crate) async fn a_settlement_is_booked_once(ledger: &dyn LedgerDb) {
    assert!(all(ledger).await.is_empty());
    assert!(!ledger.is_settled(hash(1)).await.unwrap());
    for _ in 0..2 {
        ledger.book_settlements(NODE, &[settled(1, 1_000)], Some(5)).await.unwrap();
    }
    assert!(ledger.is_settled(hash(1)).await.unwrap());
    assert!(!ledger.is_settled(hash(2)).await.unwrap());
    assert_eq!(all(ledger).await, [payment(1, Some(1_000), None)]);
}

pub(crate) async fn a_use_is_booked_once_and_the_earliest_stays(ledger: &dyn LedgerDb) {
    ledger.book_uses(&[used(1, 1_000), used(1, 1_001)]).await.unwrap();
    ledger.book_uses(&[used(1, 1_002)]).await.unwrap();
    assert_eq!(all(ledger).await, [payment(1, None, Some(1_000))]);
    ledger.book_uses(&[used(1, 999)]).await.unwrap();
    assert_eq!(all(ledger).await, [payment(1, None, Some(999))]);
    assert!(!ledger.is_settled(hash(1)).await.unwrap(), "a use is no word of a node");
}

pub(crate) async fn settlement_and_use_are_one_payment_whichever_comes_first(ledger: &dyn LedgerDb) {
    ledger.book_settlements(NODE, &[settled(1, 1_000)], None).await.unwrap();
    ledger.book_uses(&[used(1, 1_001), used(2, 1_003)]).await.unwrap();
    ledger.book_settlements(NODE, &[settled(2, 1_002)], None).await.unwrap();
    assert_eq!(all(ledger).await, [payment(1, Some(1_000), Some(1_001)), payment(2, Some(1_002), Some(1_003))]);
    assert!(ledger.is_settled(hash(2)).await.unwrap());
}

pub(crate) async fn what_one_node_said_no_other_changes(ledger: &dyn LedgerDb) {
    ledger.book_settlements(NODE, &[settled(1, 1_000)], None).await.unwrap();
    let other = SettledToken { amount_msat: 1, service: "other".to_owned(), ..settled(1, 5) };
    ledger.book_settlements("03other", &[other], None).await.unwrap();
    assert_eq!(all(ledger).await, [payment(1, Some(1_000), None)]);
}

pub(crate) async fn an_index_is_of_a_node_and_never_falls(ledger: &dyn LedgerDb) {
    assert_eq!(ledger.last_index(NODE).await.unwrap(), 0);
    for (booked, stands) in [(Some(3), 3), (Some(9), 9), (Some(4), 9), (None, 9)] {
        ledger.book_settlements(NODE, &[], booked).await.unwrap();
        assert_eq!(ledger.last_index(NODE).await.unwrap(), stands);
    }
    assert_eq!(ledger.last_index("03other").await.unwrap(), 0);
    ledger.book_settlements("03other", &[], Some(1)).await.unwrap();
    assert_eq!(ledger.last_index(NODE).await.unwrap(), 9);
}

pub(crate) async fn an_index_that_is_forgotten_begins_anew(ledger: &dyn LedgerDb) {
    ledger.forget_index(NODE).await.unwrap();
    for node in [NODE, "03other"] {
        ledger.book_settlements(node, &[settled(1, 1_000)], Some(9)).await.unwrap();
    }
    ledger.forget_index(NODE).await.unwrap();
    assert_eq!((ledger.last_index(NODE).await.unwrap(), ledger.last_index("03other").await.unwrap()), (0, 9));
    ledger.book_settlements(NODE, &[settled(2, 1_001)], Some(2)).await.unwrap();
    assert_eq!(ledger.last_index(NODE).await.unwrap(), 2);
    assert_eq!(all(ledger).await, [payment(1, Some(1_000), None), payment(2, Some(1_001), None)]);
}

pub(crate) async fn a_booking_is_whole_or_not_at_all(ledger: &dyn LedgerDb) {
    let nameless = SettledToken { service: String::new(), ..settled(2, 1_000) };
    assert!(ledger.book_settlements(NODE, &[settled(1, 1_000), nameless], Some(7)).await.is_err());
    let nameless = TokenUse { service: String::new(), ..used(2, 1_000) };
    assert!(ledger.book_uses(&[used(1, 1_000), nameless]).await.is_err());
    assert_eq!((ledger.last_index(NODE).await.unwrap(), all(ledger).await), (0, vec![]));
}

pub(crate) async fn payments_are_filtered_by_time_and_service(ledger: &dyn LedgerDb) {
    let other = TokenUse { service: "other".to_owned(), ..used(4, 1_003) };
    ledger.book_settlements(NODE, &[settled(3, 1_002), settled(1, 1_000)], None).await.unwrap();
    // Used much later than it was paid.
    ledger.book_uses(&[used(2, 1_001), other, used(1, 9_000)]).await.unwrap();
    for (from, before, service, found) in [
        (None, None, None, &[1, 2, 3, 4][..]),
        (Some(1_001), None, None, &[2, 3, 4]),
        (None, Some(1_001), None, &[1]),
        (Some(1_001), Some(1_003), None, &[2, 3]),
        (Some(1_004), None, None, &[]),
        (None, None, Some("media"), &[1, 2, 3]),
        (Some(1_002), None, Some("other"), &[4]),
        (None, None, Some("med"), &[]),
    ] {
        let filter = Filter { from, before, service: service.map(str::to_owned), network: None };
        let payments = ledger.payments(&filter, None).await.unwrap();
        let hashes: Vec<_> = payments.iter().map(|payment| payment.payment_hash).collect();
        assert_eq!(hashes, found.iter().map(|&number| hash(number)).collect::<Vec<_>>(), "{filter:?}");
        let sums = ledger.sums(&filter).await.unwrap();
        assert_eq!(sums.iter().map(|sum| sum.payments).sum::<u64>(), found.len() as u64, "{filter:?}");
    }
}

pub(crate) async fn payments_come_in_pages_without_gaps(ledger: &dyn LedgerDb) {
    // Ten at each second, so that pages end in the middle of one.
    let count = 2 * PAGE as u16 + 5;
    let many: Vec<_> = (0..count).map(|number| settled(number, 1_000 + u64::from(number / 10))).collect();
    ledger.book_settlements(NODE, &many, None).await.unwrap();
    let mut read: Vec<Payment> = Vec::new();
    loop {
        let page = ledger.payments(&Filter::default(), read.last()).await.unwrap();
        if page.is_empty() {
            break;
        }
        assert!(page.len() <= PAGE);
        read.extend(page);
    }
    let hashes: Vec<_> = read.iter().map(|payment| payment.payment_hash).collect();
    assert_eq!(hashes, (0..count).map(hash).collect::<Vec<_>>());
}

pub(crate) async fn sums_are_of_each_service(ledger: &dyn LedgerDb) {
    assert_eq!(ledger.sums(&Filter::default()).await.unwrap(), []);
    let other = SettledToken { service: "a".to_owned(), ..settled(3, 1_000) };
    ledger.book_settlements(NODE, &[settled(1, 1_000), settled(2, 1_000), other], None).await.unwrap();
    ledger.book_uses(&[used(4, 1_000), used(1, 1_000)]).await.unwrap();
    let sum = |service: &str, payments, without_amount, amount_msat| Sum {
        network: Network::Regtest,
        service: service.to_owned(),
        payments,
        without_amount,
        amount_msat,
    };
    let sums = ledger.sums(&Filter::default()).await.unwrap();
    assert_eq!(sums, [sum("a", 1, 0, 100_003), sum("media", 3, 1, 200_003)]);
}

pub(crate) async fn no_sum_is_of_two_networks(ledger: &dyn LedgerDb) {
    let paid_on = |network, number| SettledToken { network, ..settled(number, 1_000) };
    let used_on = |network, number| TokenUse { network, ..used(number, 1_001) };
    let paid = [paid_on(Network::Mainnet, 1), paid_on(Network::TestWallet, 2), paid_on(Network::TestWallet, 3)];
    ledger.book_settlements(NODE, &paid, None).await.unwrap();
    ledger.book_uses(&[used_on(Network::Mainnet, 4), used_on(Network::TestWallet, 3)]).await.unwrap();
    let sum = |network, payments, without_amount, amount_msat| Sum {
        network,
        service: "media".to_owned(),
        payments,
        without_amount,
        amount_msat,
    };
    let sums = [sum(Network::Mainnet, 2, 1, 100_001), sum(Network::TestWallet, 2, 0, 200_005)];
    assert_eq!(ledger.sums(&Filter::default()).await.unwrap(), sums);
    for (network, found) in [(Network::Mainnet, &[1, 4][..]), (Network::TestWallet, &[2, 3]), (Network::Regtest, &[])] {
        let filter = Filter { network: Some(network), ..Filter::default() };
        let payments = ledger.payments(&filter, None).await.unwrap();
        assert!(payments.iter().all(|payment| payment.network == network));
        let hashes: Vec<_> = payments.iter().map(|payment| payment.payment_hash).collect();
        assert_eq!(hashes, found.iter().map(|&number| hash(number)).collect::<Vec<_>>(), "{network}");
        let of_it: Vec<_> = sums.iter().filter(|sum| sum.network == network).cloned().collect();
        assert_eq!(ledger.sums(&filter).await.unwrap(), of_it);
    }
}

pub(crate) async fn many_book_the_same_at_once(ledger: &dyn LedgerDb) {
    let paid: Vec<_> = (0..50).map(|number| settled(number, 1_000)).collect();
    let uses: Vec<_> = (0..50).map(|number| used(number, 1_001)).collect();
    let mut reversed = paid.clone();
    reversed.reverse();
    let booked = tokio::join!(
        ledger.book_settlements(NODE, &paid, Some(50)),
        ledger.book_uses(&uses),
        ledger.book_settlements(NODE, &reversed, Some(50)),
        ledger.book_uses(&uses),
    );
    assert!(matches!(booked, (Ok(()), Ok(()), Ok(()), Ok(()))), "{booked:?}");
    let expected: Vec<_> = (0..50).map(|number| payment(number, Some(1_000), Some(1_001))).collect();
    assert_eq!(all(ledger).await, expected);
}

pub(crate) async fn the_largest_numbers_have_room(ledger: &dyn LedgerDb) {
    // All bitcoin there will ever be.
    let all_msat = 21_000_000 * 100_000_000 * 1_000;
    ledger.book_settlements(NODE, &[SettledToken { amount_msat: all_msat, ..settled(1, 1) }], None).await.unwrap();
    assert_eq!(ledger.sums(&Filter::default()).await.unwrap()[0].amount_msat, all_msat);
    ledger.book_settlements(NODE, &[settled(2, u64::MAX)], Some(u64::MAX)).await.unwrap();
    assert_eq!(ledger.last_index(NODE).await.unwrap(), i64::MAX as u64);
}

pub(crate) async fn keys_are_in_use_until_they_are_forgotten(ledger: &dyn LedgerDb) {
    let key = |name: &str, fingerprint: &str| KeyUse { name: name.to_owned(), fingerprint: fingerprint.to_owned() };
    let keys = [key("SLUICE_MASTER_KEYS", "aa"), key("SLUICE_MASTER_KEYS", "bb"), key("wallet_key", "aa")];
    assert_eq!(ledger.keys_in_use().await.unwrap(), []);
    ledger.note_keys(&keys[1..]).await.unwrap();
    ledger.note_keys(&keys).await.unwrap();
    assert_eq!(ledger.keys_in_use().await.unwrap(), keys);
    assert!(!ledger.forget_key(&key("wallet_key", "bb")).await.unwrap());
    assert!(ledger.forget_key(&keys[1]).await.unwrap());
    assert!(!ledger.forget_key(&keys[1]).await.unwrap());
    assert_eq!(ledger.keys_in_use().await.unwrap(), [keys[0].clone(), keys[2].clone()]);
}
