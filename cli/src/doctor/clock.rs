//! The clock, beside others: tokens and invoices end by it.

use sluice_common::{clock::unix_now, network::Network};
use sluice_gateway::lightning::NodeInfo;

use super::Finding;

const CLOCK: &str = "clock";

/// A block's time may be that far ahead of the clocks of all: a rule of the network.
const BLOCK_AHEAD_SECS: u64 = 2 * 3600;

/// Hardly ever do public networks go longer without a block.
const BLOCK_BEHIND_SECS: u64 = 3 * 3600;

/// More than this apart, and invoices expire visibly early or late.
const APART_SECS: u64 = 30;

/// Compares the clock with the database's, where that is a server (unix seconds), and with the newest block.
pub(super) fn look(node: Option<&NodeInfo>, database_time: Option<u64>) -> Finding {
    at(unix_now(), node, database_time)
}

fn at(now: u64, node: Option<&NodeInfo>, database_time: Option<u64>) -> Finding {
    if let Some(apart) = database_time.map(|time| time.abs_diff(now)).filter(|apart| *apart > APART_SECS) {
        return Finding::error(CLOCK, format!("{apart} s apart from the database's clock; run an NTP client on both"));
    }
    let block = node.and_then(|info| Some((info, info.best_header_at?)));
    if let Some((info, block_time)) = block {
        if now.saturating_add(BLOCK_AHEAD_SECS) < block_time {
            let hours = (block_time - now) / 3600;
            return Finding::error(CLOCK, format!("{hours} h behind the time of the newest block; run an NTP client"));
        }
        let is_public = matches!(info.network, Network::Mainnet | Network::Testnet | Network::Signet);
        let behind = now.saturating_sub(block_time);
        if is_public && info.synced == Some(true) && behind > BLOCK_BEHIND_SECS {
            let hours = behind / 3600;
            return Finding::warning(
                CLOCK,
                format!("the newest block is {hours} h old: either this clock is ahead, or blocks are slow to come"),
            );
        }
    }
    match (database_time, block) {
        (Some(_), _) => Finding::ok(CLOCK, format!("within {APART_SECS} s of the database's")),
        (None, Some((_, block_time))) => {
            let minutes = now.saturating_sub(block_time) / 60;
            Finding::ok(CLOCK, format!("the newest block is {minutes} min old by it"))
        }
        (None, None) => Finding::ok(CLOCK, "not compared: no node and no database server tell the time here"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: u64 = 1_800_000_000;

    fn block(network: Network, best_header_at: u64) -> NodeInfo {
        NodeInfo { network, pubkey: String::new(), synced: Some(true), best_header_at: Some(best_header_at) }
    }

    #[test]
    fn compares_with_what_there_is() {
        let of = |network, at_| at(NOW, Some(&block(network, at_)), None);
        let lines = [
            of(Network::Mainnet, NOW - 600),
            of(Network::Mainnet, NOW + 3600),
            of(Network::Mainnet, NOW + 4 * 3600),
            of(Network::Mainnet, NOW - 5 * 3600),
            of(Network::Regtest, NOW - 50 * 3600),
            at(NOW, None, Some(NOW + 29)),
            at(NOW, Some(&block(Network::Mainnet, NOW)), Some(NOW - 31)),
            at(NOW, None, None),
        ];
        insta::assert_snapshot!(lines.map(|line| line.to_string()).join("\n"), @r"
        ok       clock     the newest block is 10 min old by it
        ok       clock     the newest block is 0 min old by it
        error    clock     4 h behind the time of the newest block; run an NTP client
        warning  clock     the newest block is 5 h old: either this clock is ahead, or blocks are slow to come
        ok       clock     the newest block is 3000 min old by it
        ok       clock     within 30 s of the database's
        error    clock     31 s apart from the database's clock; run an NTP client on both
        ok       clock     not compared: no node and no database server tell the time here
        ");
    }
}
