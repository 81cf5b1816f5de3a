//! How long it takes to check a credential with five caveats, and to mint one.
//!
//! `cargo bench --package sluice-common --bench tokens` runs it. It reads the header's text, as the gateway does.

#![expect(clippy::unwrap_used, reason = "a measurement that goes wrong says so by panicking")]
#![expect(clippy::print_stdout, reason = "what was measured")]

use std::{
    hint::black_box,
    time::{Duration, Instant},
};

use http::{HeaderMap, header::AUTHORIZATION};
use sluice_common::{
    clock::unix_now,
    keys::{MasterKey, MasterKeys},
    l402::{self, Credential, Preimage, ServiceTerms},
    network::Network,
    secret::Secret,
};

/// How often each is done in one turn.
const TIMES: u32 = 20_000;

/// The machine's speed changes: each is measured so often, in turns, and the best counts.
const TURNS: usize = 10;

fn main() {
    let keys = MasterKeys::new(vec![MasterKey::new(&Secret::new([1; 32]), 0)]).unwrap();
    let terms = ServiceTerms {
        capabilities: vec!["large_upload".to_owned()],
        max_uses: Some(1),
        valid_for_secs: Some(3_600),
        ..ServiceTerms::named("media")
    };
    let (network, preimage, now) = (Network::TestWallet, Preimage::from_bytes([2; 32]), unix_now());
    let mint = || {
        let token_id = keys.minting(now).unwrap().new_token_id(now);
        l402::mint(&keys, network, &terms, token_id, preimage.payment_hash()).unwrap()
    };
    let credential = Credential::new(mint(), preimage.clone());
    assert_eq!(credential.macaroon().caveats().count(), 5);
    let headers = HeaderMap::from_iter([(AUTHORIZATION, credential.authorization().expose().parse().unwrap())]);
    let read = || Credential::from_headers(&headers).unwrap().unwrap();
    let check =
        |credential: &Credential| l402::verify(credential, &keys, network, &terms).unwrap().permit(now).unwrap();

    let mut best = [Duration::MAX; 3];
    for _ in 0..TURNS {
        let turn = [
            time(|| drop(black_box(check(black_box(&credential))))),
            time(|| drop(black_box(check(&read())))),
            time(|| drop(black_box(mint()))),
        ];
        for (best, took) in best.iter_mut().zip(turn) {
            *best = took.min(*best);
        }
    }
    for (what, took) in
        ["check a credential of 5 caveats", "  and read it from its header", "mint a token"].iter().zip(best)
    {
        println!("{what:<34} {:6.2} µs", took.as_nanos() as f64 / 1_000.0);
    }
}

fn time(mut work: impl FnMut()) -> Duration {
    let start = Instant::now();
    for _ in 0..TIMES {
        work();
    }
    start.elapsed() / TIMES
}
