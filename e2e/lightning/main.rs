//! Sluice and real Lightning nodes: btcd and two LNDs on a chain of their own, and the real binary between them.
//!
//! `make test-lnd` builds the nodes and runs this; words after `--` choose scenarios by parts of their names. One
//! network serves all scenarios, one after the other, so this is a program and no set of `#[test]`s. It prints what
//! it does, and ends with the first thing that is not as it should be.

#![expect(clippy::unwrap_used, clippy::expect_used, reason = "a test says what is wrong by panicking")]
#![expect(clippy::print_stdout, reason = "the transcript")]

/// Prints a line of the transcript.
macro_rules! say {
    ($($arguments:tt)*) => { println!("    {}", format_args!($($arguments)*)) };
}

mod network;
mod shop;
#[expect(dead_code, reason = "what the tests without a node use of it")]
#[path = "../support/mod.rs"]
mod support;

mod contract;
mod login;
mod outages;
mod payments;
mod setup;
mod unpaid;

use std::{env, time::Instant};

use tokio::signal::{
    ctrl_c,
    unix::{SignalKind, signal},
};

use crate::network::Network;

/// Runs those of the scenarios whose names have one of `$chosen` in them; all, if nothing is chosen.
macro_rules! run {
    ($chosen:ident, $network:ident: $($module:ident::$name:ident,)*) => {
        $(if $chosen.is_empty() || $chosen.iter().any(|word| stringify!($module::$name).contains(word)) {
            println!("\n{}: {}", stringify!($module), stringify!($name).replace('_', " "));
            let start = Instant::now();
            $module::$name(&mut $network).await;
            println!("    ok, {:.1} s", start.elapsed().as_secs_f64());
        })*
    };
}

fn main() {
    rustls::crypto::ring::default_provider().install_default().unwrap();
    // What begins with a dash is meant for the test harness that this is not.
    let chosen: Vec<String> = env::args().skip(1).filter(|word| !word.starts_with('-')).collect();
    tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap().block_on(async {
        // Told to stop, it ends here as well, and with it every process that it started.
        let mut told_to_stop = signal(SignalKind::terminate()).unwrap();
        tokio::select! {
            () = run(&chosen) => {}
            _ = told_to_stop.recv() => panic!("told to stop"),
            _ = ctrl_c() => panic!("told to stop"),
        }
    });
}

async fn run(chosen: &[String]) {
    let start = Instant::now();
    let mut network = Network::start().await;
    run!(chosen, network: setup::a_node_that_is_not_synced_is_a_warning,);
    network.open_channel().await;
    run!(chosen, network:
        contract::lnd_does_what_every_node_behind_the_gateway_does,
        payments::a_paid_upload_is_stored_and_booked,
        payments::other_invoices_of_the_node_are_never_booked,
        payments::a_payer_without_the_money_gets_nothing_and_owes_nothing,
        payments::whoever_has_the_preimage_has_paid_unless_the_node_must_say_so,
        setup::the_invoice_macaroon_alone_suffices,
        setup::certificate_and_macaroon_can_be_said_in_place_of_their_files,
        setup::another_network_is_an_error_at_start,
        setup::the_doctor_says_what_is_wrong_and_how_to_mend_it,
        login::the_nodes_signature_logs_in_and_sells,
        unpaid::a_flood_is_bounded_writes_nothing_and_is_forgotten_when_it_expires,
        outages::a_gateway_that_was_down_books_what_was_paid_meanwhile,
        outages::what_is_booked_is_paid_under_another_node_too,
        outages::without_the_node_paid_tokens_go_on_and_challenges_say_when_to_come_again,
        outages::a_node_that_falls_silent_holds_nobody_up,
        payments::private_channels_are_hinted_at_only_where_that_is_said,
    );
    println!("\nall is well, {:.0} s in all", start.elapsed().as_secs_f64());
}
