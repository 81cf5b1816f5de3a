//! What payments bought.

use sluice_common::network::Network;

use super::{NODE, all, hash, payment, settled};
use crate::ledger::{Bought, BoughtOn, Filter, LedgerDb, Sale};

const DAY_SECS: u64 = 86_400;

fn sale(number: u16, service: &str, network: Network, day: u64) -> Sale {
    Sale { payment_hash: hash(number), service: service.to_owned(), network: network.name(), day }
}

fn bought(uses: u64) -> Bought {
    Bought { uses, bytes: uses * 1_000, refused: 1, given_back: 2 }
}

pub(crate) async fn what_was_bought_is_added_up(ledger: &dyn LedgerDb) {
    let (test, main) = (Network::Regtest, Network::Mainnet);
    assert_eq!(ledger.bought(&Filter::default()).await.unwrap(), []);
    ledger.book_settlements(NODE, &[settled(1, 1_000), settled(2, 1_001)], None).await.unwrap();
    let first = [(sale(1, "media", test, 10), bought(1)), (sale(2, "media", test, 10), bought(2))];
    let more = [
        (sale(1, "media", test, 10), bought(4)),
        (sale(1, "media", test, 11), bought(8)),
        (sale(1, "media", main, 11), bought(16)),
        (sale(1, "api", test, 11), bought(32)),
    ];
    ledger.book_bought(&first).await.unwrap();
    ledger.book_bought(&more).await.unwrap();

    let sum = |parts: &[u64]| {
        let mut sum = Bought::default();
        parts.iter().for_each(|&uses| sum += bought(uses));
        sum
    };
    let paid = |number, time, parts: &[u64]| crate::ledger::Payment {
        bought: sum(parts),
        ..payment(number, Some(time), None)
    };
    assert_eq!(all(ledger).await, [paid(1, 1_000, &[1, 4, 8, 16, 32]), paid(2, 1_001, &[2])]);
    assert_eq!(ledger.payment(hash(2)).await.unwrap().unwrap().bought, bought(2));

    let on = |day, network, service: &str, parts: &[u64]| BoughtOn {
        day,
        network,
        service: service.to_owned(),
        bought: sum(parts),
    };
    let days = [
        on(10, test, "media", &[1, 2, 4]),
        on(11, main, "media", &[16]),
        on(11, test, "api", &[32]),
        on(11, test, "media", &[8]),
    ];
    let at = |day: u64| Some(day * DAY_SECS);
    for (from, before, service, network, found) in [
        (None, None, None, None, &days[..]),
        (at(11), None, None, None, &days[1..]),
        (Some(11 * DAY_SECS - 1), None, None, None, &days[..]),
        (None, at(11), None, None, &days[..1]),
        (None, Some(11 * DAY_SECS + 1), None, None, &days[..]),
        (None, None, Some("api"), None, &days[2..3]),
        (None, None, None, Some(main), &days[1..2]),
        (at(12), None, None, None, &[]),
    ] {
        let filter = Filter { from, before, service: service.map(str::to_owned), network };
        assert_eq!(ledger.bought(&filter).await.unwrap(), found, "{filter:?}");
    }
}

pub(crate) async fn what_was_bought_is_booked_wholly_or_not_at_all(ledger: &dyn LedgerDb) {
    let nameless = sale(2, "", Network::Regtest, 1);
    let both = [(sale(1, "media", Network::Regtest, 1), bought(1)), (nameless, bought(1))];
    assert!(ledger.book_bought(&both).await.is_err());
    assert_eq!(ledger.bought(&Filter::default()).await.unwrap(), []);
}

pub(crate) async fn many_add_to_the_same_at_once(ledger: &dyn LedgerDb) {
    let sums: Vec<_> = (0..50).map(|number| (sale(number, "media", Network::Regtest, 1), bought(1))).collect();
    let mut reversed = sums.clone();
    reversed.reverse();
    let booked = tokio::join!(ledger.book_bought(&sums), ledger.book_bought(&reversed), ledger.book_bought(&sums));
    assert!(matches!(booked, (Ok(()), Ok(()), Ok(()))), "{booked:?}");
    assert_eq!(ledger.bought(&Filter::default()).await.unwrap()[0].bought.uses, 150);
}
