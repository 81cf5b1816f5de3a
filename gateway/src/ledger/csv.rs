//! Payments as lines of CSV (RFC 4180).

use std::borrow::Cow;

use sluice_common::clock::rfc3339;

use super::Payment;

/// The names of what [`Payment::csv`] writes.
pub const CSV_HEAD: &str = "payment_hash,service,network,token_id,amount_msat,settled_at,first_used_at,node,\
    uses,bytes,refused,given_back";

impl Payment {
    /// A line for spreadsheets, without its end. What is not known is empty.
    pub fn csv(&self) -> String {
        let settled = self.settled.as_ref();
        let time = |unix_secs: u64| rfc3339(unix_secs).unwrap_or_else(|| unix_secs.to_string());
        format!(
            "{},{},{},{},{},{},{},{},{},{},{},{}",
            self.payment_hash,
            csv_field(&self.service),
            self.network,
            self.token_id,
            settled.map(|settled| settled.amount_msat.to_string()).unwrap_or_default(),
            settled.map(|settled| time(settled.at)).unwrap_or_default(),
            self.first_used_at.map(time).unwrap_or_default(),
            csv_field(settled.map_or("", |settled| &settled.node)),
            self.bought.uses,
            self.bought.bytes,
            self.bought.refused,
            self.bought.given_back,
        )
    }
}

/// A field of CSV: in quotes where it must be (RFC 4180 §2).
pub fn csv_field(text: &str) -> Cow<'_, str> {
    if text.contains([',', '"', '\r', '\n']) {
        Cow::Owned(format!("\"{}\"", text.replace('"', "\"\"")))
    } else {
        Cow::Borrowed(text)
    }
}
