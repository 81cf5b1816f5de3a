use std::net::Ipv6Addr;

use proptest::{collection::vec, prelude::*};

use super::*;

const EXPIRY: Duration = Duration::from_secs(3_600);

/// With a minute's worth at once.
fn gate(per_minute: u32, per_minute_per_client: u32, max_open: u32) -> InvoiceGate {
    let rate = |number| rate(number, number);
    InvoiceGate::new(limits(rate(per_minute), rate(per_minute_per_client), max_open), EXPIRY)
}

fn limits(all: RateLimit, per_client: RateLimit, max_open: u32) -> InvoiceLimits {
    InvoiceLimits { all, per_client, max_open: NonZeroU32::new(max_open).unwrap() }
}

fn rate(per_minute: u32, burst: u32) -> RateLimit {
    let positive = |number| NonZeroU32::new(number).unwrap();
    RateLimit { per_minute: positive(per_minute), burst: positive(burst) }
}

fn client(text: &str) -> ClientNetwork {
    ClientNetwork::of(text.parse().unwrap())
}

fn invoice(number: u8) -> PaymentHash {
    PaymentHash::from_bytes([number; 32])
}

fn open(gate: &InvoiceGate) -> usize {
    let state = gate.state();
    assert!(state.places.len() <= state.open.len() && state.networks.len() <= MAX_NETWORKS.get());
    state.open.len()
}

#[test]
fn a_network_gets_its_burst_at_once_and_then_one_at_a_time() {
    let (gate, start) = (gate(1_000, 60, 1_000), Instant::now());
    for number in 0..60 {
        assert!(gate.admit(client(&format!("192.0.2.{number}")), start).is_ok(), "{number}");
    }
    let refused = Err(TooMany { limit: Limit::Client, wait: Duration::from_secs(1) });
    assert_eq!(gate.admit(client("192.0.2.255"), start), refused);
    assert!(gate.admit(client("192.0.3.0"), start).is_ok(), "the network beside it");
    assert!(gate.admit(client("192.0.2.1"), start + Duration::from_millis(999)).is_err());
    assert!(gate.admit(client("192.0.2.1"), start + Duration::from_secs(1)).is_ok());
    assert!(gate.admit(client("192.0.2.1"), start + Duration::from_secs(1)).is_err());
    let later = start + Duration::from_secs(600);
    assert_eq!((0..100).filter(|_| gate.admit(client("192.0.2.1"), later).is_ok()).count(), 60, "no more for waiting");
}

#[test]
fn all_networks_share_a_rate_and_who_is_refused_takes_none_of_it() {
    let (gate, start) = (gate(4, 2, 1_000), Instant::now());
    for _ in 0..2 {
        assert!(gate.admit(client("192.0.2.1"), start).is_ok());
    }
    for _ in 0..100 {
        assert_eq!(gate.admit(client("192.0.2.1"), start).unwrap_err().limit, Limit::Client);
    }
    for address in ["192.0.3.1", "2001:db8::1"] {
        assert!(gate.admit(client(address), start).is_ok());
    }
    let refused = Err(TooMany { limit: Limit::All, wait: Duration::from_secs(15) });
    assert_eq!(gate.admit(client("192.0.4.1"), start), refused);
    assert!(gate.admit(client("192.0.4.1"), start + Duration::from_secs(15)).is_ok());
}

#[test]
fn open_invoices_make_room_when_they_expire_are_settled_or_were_never_made() {
    let (gate, start) = (gate(1_000, 1_000, 3), Instant::now());
    let here = client("192.0.2.1");
    let ask = |second| gate.admit(here, start + Duration::from_secs(second));
    let places = [0, 10, 20].map(|second| ask(second).unwrap());
    let full = |wait| Err(TooMany { limit: Limit::Open, wait: Duration::from_secs(wait) });
    assert_eq!(ask(30), full(60), "not until the first expires, for one may be settled");

    gate.opened(places[1], invoice(1));
    gate.settled(invoice(9));
    assert_eq!(ask(31), full(60), "another node's");
    gate.settled(invoice(1));
    gate.settled(invoice(1));
    let fourth = ask(32).unwrap();
    assert_eq!(ask(33), full(60));
    gate.failed(fourth, here);
    gate.opened(ask(34).unwrap(), invoice(2));
    assert_eq!(ask(3_599), full(1));
    assert!(ask(3_600).is_ok(), "the first has expired");
    assert_eq!(ask(3_601), full(19));

    let late = 3_620;
    assert!(ask(late).is_ok());
    gate.opened(places[2], invoice(3));
    assert_eq!(open(&gate), 3, "an answer of the node that comes after the expiry changes nothing");
    assert!(!gate.state().places.contains_key(&invoice(3)));
    assert!(ask(late + 14).is_ok());
    assert!(gate.state().places.is_empty(), "nothing is kept of what expired");
}

#[test]
fn what_the_node_did_not_make_is_taken_off_no_rate_and_only_once() {
    let (gate, start) = (gate(2, 1, 1_000), Instant::now());
    let (here, there) = (client("192.0.2.1"), client("192.0.3.1"));
    for _ in 0..10 {
        let place = gate.admit(here, start).unwrap();
        gate.failed(place, here);
        gate.failed(place, here);
    }
    assert!(gate.admit(here, start).is_ok());
    assert_eq!(gate.admit(here, start).unwrap_err().limit, Limit::Client);
    assert!(gate.admit(there, start).is_ok());
    assert_eq!(gate.admit(client("192.0.4.1"), start).unwrap_err().limit, Limit::All);
}

#[test]
fn remembers_only_so_many_networks() {
    let (gate, start) = (gate(1_000_000, 1, 1_000_000), Instant::now());
    let network = |number: u128| ClientNetwork::of(Ipv6Addr::from_bits(number << 64).into());
    for number in 0..20_000 {
        assert!(gate.admit(network(number), start).is_ok());
    }
    assert_eq!(gate.state().networks.len(), MAX_NETWORKS.get());
    assert_eq!(gate.admit(network(19_999), start).unwrap_err().limit, Limit::Client);
    assert_eq!(gate.admit(network(10_000), start).unwrap_err().limit, Limit::Client, "the oldest that it remembers");
    assert!(gate.admit(network(0), start).is_ok(), "forgotten");
}

#[test]
fn by_default_no_network_alone_keeps_others_from_buying() {
    let (gate, start) = (InvoiceGate::new(InvoiceLimits::default(), EXPIRY), Instant::now());
    for second in 0..2 * EXPIRY.as_secs() {
        let now = start + Duration::from_secs(second);
        while gate.admit(client("192.0.2.1"), now).is_ok() {}
        assert_eq!(gate.admit(client("192.0.2.2"), now).unwrap_err().limit, Limit::Client);
    }
    assert!(open(&gate) < 2_000);
    assert!(gate.admit(client("192.0.3.1"), start + 2 * EXPIRY).is_ok());
}

#[test]
fn a_rate_of_any_size_is_one() {
    let sizes = [1, 7, 59, 61, 999_999_999, u32::MAX];
    for (per_minute, burst) in sizes.iter().flat_map(|&one| sizes.map(|other| (one, other))) {
        let rate = rate(per_minute, burst);
        let (gate, start) = (InvoiceGate::new(limits(rate, rate, u32::MAX), EXPIRY), Instant::now());
        let tries = burst.min(200);
        assert!((0..tries).all(|_| gate.admit(client("192.0.2.1"), start).is_ok()), "{per_minute} {burst}");
        if tries == burst {
            let wait = gate.admit(client("192.0.2.1"), start).unwrap_err().wait;
            assert!(wait <= MINUTE, "{per_minute} {burst}: {wait:?}");
        }
    }
}

/// What may come in: time goes on, a client of one of a few networks asks, an invoice is settled or was not made.
#[derive(Debug, Clone)]
enum Event {
    Wait(u64),
    Ask(u8),
    Settle(usize),
    Fail(usize),
}

fn event() -> impl Strategy<Value = Event> {
    prop_oneof![
        2 => (0u64..40_000).prop_map(Event::Wait),
        12 => (0u8..4).prop_map(Event::Ask),
        1 => any::<usize>().prop_map(Event::Settle),
        1 => any::<usize>().prop_map(Event::Fail),
    ]
}

/// A bucket that counts what it was told, in invoices and not in time.
struct Model {
    rate: RateLimit,
    given: Vec<Instant>,
}

impl Model {
    /// No more in any time than the bucket's size and what flows in meanwhile.
    fn holds(&self) -> bool {
        let per_second = f64::from(self.rate.per_minute.get()) / 60.0;
        self.given.iter().enumerate().all(|(from, start)| {
            self.given[from..].iter().zip(1u32..).all(|(end, number)| {
                let most = f64::from(self.rate.burst.get()) + per_second * end.duration_since(*start).as_secs_f64();
                f64::from(number) <= most + 0.001
            })
        })
    }
}

proptest! {
    #[test]
    fn limits_hold_and_who_waits_as_told_finds_room(
        events in vec(event(), 1..300),
        all in (1u32..40, 1u32..40),
        each in (1u32..20, 1u32..20),
        max_open in 1u32..60,
    ) {
        let (all, each) = (rate(all.0, all.1), rate(each.0, each.1));
        let gate = InvoiceGate::new(limits(all, each, max_open), EXPIRY);
        let mut now = Instant::now();
        let model = |rate| Model { rate, given: Vec::new() };
        let (mut of_all, mut of_each) = (model(all), [each; 4].map(model));
        let mut known: Vec<(Place, PaymentHash, u8)> = Vec::new();
        for event in events {
            match event {
                Event::Wait(milliseconds) => now += Duration::from_millis(milliseconds),
                Event::Settle(at) if !known.is_empty() => gate.settled(known[at % known.len()].1),
                Event::Fail(at) if !known.is_empty() => {
                    let (place, _, network) = known[at % known.len()];
                    gate.failed(place, ClientNetwork::of([10, 0, network, 1].into()));
                    // One more, now or later.
                    of_all.rate.burst = of_all.rate.burst.saturating_add(1);
                    let each = &mut of_each[usize::from(network)].rate.burst;
                    *each = each.saturating_add(1);
                }
                Event::Settle(_) | Event::Fail(_) => {}
                Event::Ask(network) => {
                    let client = ClientNetwork::of([10, 0, network, 1].into());
                    match gate.admit(client, now) {
                        Ok(place) => {
                            of_all.given.push(now);
                            of_each[usize::from(network)].given.push(now);
                            let hash = PaymentHash::from_bytes(std::array::from_fn(|at| (known.len() >> (at % 2 * 8)) as u8));
                            gate.opened(place, hash);
                            known.push((place, hash, network));
                        }
                        Err(TooMany { limit, wait }) => {
                            prop_assert!(!wait.is_zero() && wait <= MINUTE);
                            // A copy cannot be asked: the buckets are looked at.
                            let state = gate.state();
                            let bucket = match limit {
                                Limit::Client => state.networks.peek(&client).copied(),
                                Limit::All => Some(state.all),
                                Limit::Open => None,
                            };
                            let configured = state.configured;
                            let rate = if limit == Limit::Client { configured.client } else { configured.all };
                            if let Some(bucket) = bucket {
                                prop_assert!(rate.take(bucket, now + wait).is_ok());
                                prop_assert!(rate.take(bucket, now + wait - Duration::from_nanos(1)).is_err());
                            } else {
                                prop_assert_eq!(state.open.len(), max_open as usize);
                            }
                        }
                    }
                }
            }
            prop_assert!(open(&gate) <= max_open as usize);
        }
        prop_assert!(of_all.holds());
        prop_assert!(of_each.iter().all(Model::holds));
    }
}

#[test]
fn other_limits_hold_from_then_on_and_what_was_taken_stays_taken() {
    let (gate, start, one) = (gate(60, 60, 2), Instant::now(), client("192.0.2.1"));
    let places: Vec<_> = (0..2).map(|_| gate.admit(one, start).unwrap()).collect();
    assert_eq!(gate.admit(one, start).unwrap_err().limit, Limit::Open);
    gate.configure(limits(rate(60, 60), rate(60, 60), 3), EXPIRY);
    gate.admit(one, start).unwrap();
    assert_eq!(gate.admit(one, start).unwrap_err().limit, Limit::Open);
    gate.failed(places[0], one);
    gate.configure(limits(rate(60, 60), rate(1, 1), 9), EXPIRY);
    assert_eq!(gate.admit(one, start).unwrap_err().limit, Limit::Client, "the bucket is smaller now");
}
