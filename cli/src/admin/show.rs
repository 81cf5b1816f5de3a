//! Answers as tables for people.

use std::io::{self, Write};

use sluice_gateway::admin::api::{BoughtJson, Info, KeyInfo, RevocationJson, ServiceInfo, Stats, SumJson, TokenInfo};

use crate::client::{escaped, size};

/// What stands in a table for what is not known.
const NONE: &str = "-";

pub(super) fn info(info: &Info, out: &mut dyn Write) -> io::Result<()> {
    let node = match &info.node.reason {
        Some(reason) => format!("{}, {}: {reason}", info.node.kind, info.node.status),
        None => format!("{}, {}", info.node.kind, info.node.status),
    };
    pairs(
        &[
            ("version", info.version.clone()),
            ("running since", format!("{} ({} s)", info.started_at, info.uptime_secs)),
            ("network", info.network.clone()),
            ("node", node),
            ("revoked", info.revoked_before.as_ref().map_or(NONE.to_owned(), |at| format!("all minted before {at}"))),
        ],
        out,
    )?;
    writeln!(out)?;
    keys(&info.keys, out)
}

pub(super) fn keys(keys: &[KeyInfo], out: &mut dyn Write) -> io::Result<()> {
    let row = |key: &KeyInfo| {
        let state = match (key.is_retired, key.is_minting) {
            (true, _) => "retired",
            (_, true) => "makes tokens",
            _ => "checks tokens",
        };
        vec![key.fingerprint.clone(), key.mints_from.clone().unwrap_or_else(|| "always".to_owned()), state.to_owned()]
    };
    table(&["MASTER KEY", "MINTS FROM", "NOW"], &keys.iter().map(row).collect::<Vec<_>>(), out)
}

pub(super) fn services(services: &[ServiceInfo], out: &mut dyn Write) -> io::Result<()> {
    let row = |service: &ServiceInfo| {
        let costs = match (&service.protect, &service.free) {
            (Some(protect), _) => protect.join(", "),
            (None, Some(free)) => format!("all but {}", free.join(", ")),
            (None, None) => NONE.to_owned(),
        };
        let uses = service.max_uses.map_or_else(|| "any".to_owned(), |uses| uses.to_string());
        let upstream = service.upstream.join(", ");
        vec![service.name.clone(), service.price.clone(), size(service.max_upload_bytes), uses, upstream, costs]
    };
    let names = ["SERVICE", "PRICE", "LARGEST", "USES", "BEHIND", "COSTS"];
    table(&names, &services.iter().map(row).collect::<Vec<_>>(), out)
}

pub(super) fn token(token: &TokenInfo, out: &mut dyn Write) -> io::Result<()> {
    let none = || NONE.to_owned();
    let payment = token.payment.as_ref();
    let amount = payment.and_then(|payment| payment.amount_msat);
    let bought =
        |number: fn(&BoughtJson) -> u64| payment.map_or_else(none, |payment| number(&payment.bought).to_string());
    let revoked = match (&token.revocation, token.is_revoked) {
        (Some(revocation), true) if revocation.undone_at.is_none() => {
            format!("yes, since {} {}", revocation.revoked_at, revocation.reason)
        }
        (_, true) => format!("yes, as all minted before {}", token.revoked_before.as_deref().unwrap_or(NONE)),
        _ => "no".to_owned(),
    };
    let key = token.key.as_ref().map(|key| match token.key_is_retired {
        Some(true) => format!("{key} (retired)"),
        Some(false) => key.clone(),
        None => format!("{key} (not configured)"),
    });
    pairs(
        &[
            ("payment hash", token.payment_hash.clone()),
            ("service", payment.map_or_else(none, |payment| payment.service.clone())),
            ("network", payment.map_or_else(none, |payment| payment.network.clone())),
            ("minted", token.minted_at.clone().unwrap_or_else(none)),
            ("under the key", key.unwrap_or_else(none)),
            ("paid", payment.and_then(|payment| payment.settled_at.clone()).unwrap_or_else(none)),
            ("amount (sat)", amount.map_or_else(none, sat)),
            ("first used", payment.and_then(|payment| payment.first_used_at.clone()).unwrap_or_else(none)),
            ("uses", bought(|bought| bought.uses)),
            ("bytes", bought(|bought| bought.bytes)),
            ("refused", bought(|bought| bought.refused)),
            ("given back", bought(|bought| bought.given_back)),
            ("revoked", revoked),
        ],
        out,
    )
}

pub(super) fn revocations(revocations: &[RevocationJson], out: &mut dyn Write) -> io::Result<()> {
    let row = |revocation: &RevocationJson| {
        let date = revocation.minted_before.as_ref().map(|time| format!("minted before {time}"));
        let what = revocation.payment_hash.clone().or(date).unwrap_or_default();
        let undone = revocation.undone_at.clone().unwrap_or_else(|| NONE.to_owned());
        vec![revocation.revoked_at.clone(), undone, what, revocation.reason.clone()]
    };
    table(&["REVOKED AT", "UNDONE AT", "TOKENS", "REASON"], &revocations.iter().map(row).collect::<Vec<_>>(), out)
}

pub(super) fn stats(stats: &Stats, out: &mut dyn Write) -> io::Result<()> {
    let row = |day: &str, sum: &SumJson| {
        let (payments, without) = (sum.payments.to_string(), sum.without_amount.to_string());
        let bought = &sum.bought;
        let bought = [bought.uses, bought.bytes, bought.refused, bought.given_back].map(|number| number.to_string());
        let whose = [sum.network.clone(), sum.service.clone()];
        [day.to_owned(), sat(sum.amount_msat), payments, without].into_iter().chain(bought).chain(whose).collect()
    };
    let days = stats.days.iter().map(|day| row(&day.day, &day.sum));
    let sums = stats.sums.iter().map(|sum| row("(all)", sum));
    let names = [
        "DAY",
        "AMOUNT (SAT)",
        "PAYMENTS",
        "WITHOUT AMOUNT",
        "USES",
        "BYTES",
        "REFUSED",
        "GIVEN BACK",
        "NETWORK",
        "SERVICE",
    ];
    table(&names, &days.chain(sums).collect::<Vec<_>>(), out)
}

/// Millisatoshi in satoshi, exactly.
fn sat(msat: u64) -> String {
    match msat % 1_000 {
        0 => (msat / 1_000).to_string(),
        rest => format!("{}.{rest:03}", msat / 1_000),
    }
}

fn pairs(pairs: &[(&str, String)], out: &mut dyn Write) -> io::Result<()> {
    pairs.iter().try_for_each(|(name, value)| writeln!(out, "{name:<14}  {}", escaped(value)))
}

/// Columns as wide as what is in them; the last one is as long as it is.
fn table(names: &[&str], rows: &[Vec<String>], out: &mut dyn Write) -> io::Result<()> {
    let rows: Vec<Vec<String>> = rows.iter().map(|row| row.iter().map(|cell| escaped(cell)).collect()).collect();
    let width = |at: usize| {
        let cells = rows.iter().map(|row| row[at].chars().count());
        cells.chain([names[at].chars().count()]).max().unwrap_or_default()
    };
    let widths: Vec<usize> = (0..names.len()).map(width).collect();
    let mut line = |cells: &[&str]| {
        let padded = cells.iter().zip(&widths).map(|(cell, width)| format!("{cell:<width$}"));
        writeln!(out, "{}", padded.collect::<Vec<_>>().join("  ").trim_end())
    };
    line(names)?;
    rows.iter().try_for_each(|row| line(&row.iter().map(String::as_str).collect::<Vec<_>>()))
}
