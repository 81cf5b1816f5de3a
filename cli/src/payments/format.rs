//! Payments as tables, CSV and JSON.

use std::io::{self, Write};

use serde_json::json;
use sluice_common::{clock::rfc3339, network::Network};
use sluice_gateway::ledger::{CSV_HEAD, Payment, Sum, csv_field};

use super::Format;

/// What stands in a table for what is not known.
const NONE: &str = "-";

/// A list of payments that is being written.
pub(crate) struct List<'a> {
    format: Format,
    out: &'a mut dyn Write,
    is_empty: bool,
}

impl<'a> List<'a> {
    /// Writes what stands before the first payment.
    pub fn begin(format: Format, out: &'a mut dyn Write) -> io::Result<Self> {
        match format {
            // The service comes last, for it can be of any length.
            Format::Table => writeln!(
                out,
                "{:<20}  {:<20}  {:>14}  {:>8}  {:>14}  {:<11}  {:<64}  SERVICE",
                "SETTLED AT", "FIRST USED AT", "AMOUNT (SAT)", "USES", "BYTES", "NETWORK", "PAYMENT HASH"
            )?,
            Format::Csv => writeln!(out, "{CSV_HEAD}")?,
            Format::Json => write!(out, "[")?,
        }
        Ok(Self { format, out, is_empty: true })
    }

    /// Writes one payment.
    pub fn write(&mut self, payment: &Payment) -> io::Result<()> {
        let Payment { payment_hash, service, network, token_id, settled, first_used_at, bought } = payment;
        let settled = settled.as_ref();
        let settled_at = settled.map(|settled| time(settled.at));
        let first_used_at = first_used_at.map(time);
        match self.format {
            Format::Table => writeln!(
                self.out,
                "{:<20}  {:<20}  {:>14}  {:>8}  {:>14}  {:<11}  {payment_hash}  {service}",
                settled_at.as_deref().unwrap_or(NONE),
                first_used_at.as_deref().unwrap_or(NONE),
                settled.map_or_else(|| NONE.to_owned(), |settled| sat(settled.amount_msat)),
                bought.uses,
                bought.bytes,
                network.name(),
            ),
            Format::Csv => writeln!(self.out, "{}", payment.csv()),
            Format::Json => {
                let comma = if self.is_empty { "" } else { "," };
                self.is_empty = false;
                let object = json!({
                    "payment_hash": payment_hash,
                    "service": service,
                    "network": network,
                    "token_id": token_id.to_string(),
                    "amount_msat": settled.map(|settled| settled.amount_msat),
                    "settled_at": settled_at,
                    "first_used_at": first_used_at,
                    "node": settled.map(|settled| &settled.node),
                    "uses": bought.uses,
                    "bytes": bought.bytes,
                    "refused": bought.refused,
                    "given_back": bought.given_back,
                });
                write!(self.out, "{comma}\n{object}")
            }
        }
    }

    /// Writes what stands after the last one.
    pub fn end(self) -> io::Result<()> {
        match self.format {
            Format::Table | Format::Csv => Ok(()),
            Format::Json => writeln!(self.out, "\n]"),
        }
    }
}

/// The sums, and on each network that of all services: money of two networks is no sum.
pub(super) fn sums_table(sums: &[Sum], out: &mut dyn Write) -> io::Result<()> {
    writeln!(out, "{:>14}  {:>10}  {:>14}  {:<11}  SERVICE", "AMOUNT (SAT)", "PAYMENTS", "WITHOUT AMOUNT", "NETWORK")?;
    let mut line = |amount_msat, payments: u64, without_amount: u64, network: Network, service: &str| {
        let (amount, network) = (sat(amount_msat), network.name());
        writeln!(out, "{amount:>14}  {payments:>10}  {without_amount:>14}  {network:<11}  {service}")
    };
    for of_network in sums.chunk_by(|one, other| one.network == other.network) {
        for Sum { network, service, payments, without_amount, amount_msat } in of_network {
            line(*amount_msat, *payments, *without_amount, *network, service)?;
        }
        let all = |number: fn(&Sum) -> u64| of_network.iter().map(number).sum();
        let (amount_msat, payments) = (all(|sum| sum.amount_msat), all(|sum| sum.payments));
        line(amount_msat, payments, all(|sum| sum.without_amount), of_network[0].network, "(all)")?;
    }
    Ok(())
}

pub(super) fn sums_csv(sums: &[Sum], out: &mut dyn Write) -> io::Result<()> {
    writeln!(out, "network,service,payments,without_amount,amount_msat")?;
    for Sum { network, service, payments, without_amount, amount_msat } in sums {
        writeln!(out, "{network},{},{payments},{without_amount},{amount_msat}", csv_field(service))?;
    }
    Ok(())
}

pub(super) fn sums_json(sums: &[Sum], out: &mut dyn Write) -> io::Result<()> {
    let object = |Sum { network, service, payments, without_amount, amount_msat }: &Sum| {
        json!({
            "network": network,
            "service": service,
            "payments": payments,
            "without_amount": without_amount,
            "amount_msat": amount_msat,
        })
    };
    writeln!(out, "{}", sums.iter().map(object).collect::<serde_json::Value>())
}

/// Millisatoshi in satoshi, exactly.
fn sat(msat: u64) -> String {
    match msat % 1_000 {
        0 => (msat / 1_000).to_string(),
        rest => format!("{}.{rest:03}", msat / 1_000),
    }
}

fn time(unix_secs: u64) -> String {
    rfc3339(unix_secs).unwrap_or_else(|| unix_secs.to_string())
}
