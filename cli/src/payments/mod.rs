//! `sluice payments`: what is in the ledger.

mod format;
mod period;
#[cfg(test)]
mod tests;

use std::io::{self, Write};

use clap::{Args, ValueEnum};
use sluice_common::network::Network;
use sluice_gateway::ledger::{Filter, LedgerDb, LedgerError};

pub(crate) use self::format::List;
use self::period::{End, Start};
use crate::{
    config::Settings,
    databases::{DatabaseError, Databases},
};

/// Which payments, and how they are written.
#[derive(Debug, Args)]
pub struct Selection {
    /// From this day or time on, as 2026-01-31 or 2026-01-31T12:00:00Z; days are those of UTC
    #[arg(long, value_name = "DATE")]
    from: Option<Start>,
    /// Up to this day, all of it included, or before this time
    #[arg(long, value_name = "DATE")]
    to: Option<End>,
    /// Of this service alone
    #[arg(long, value_name = "NAME")]
    service: Option<String>,
    /// On this network alone: mainnet, testnet, signet, simnet, regtest or test-wallet
    #[arg(long, value_name = "NETWORK")]
    network: Option<Network>,
    /// How they are written [default: table; in `sluice admin payments` json where no terminal is]
    #[arg(long, value_enum, value_name = "FORMAT")]
    format: Option<Format>,
    /// The sum of each service on each network in the place of its payments
    #[arg(long)]
    sum: bool,
}

impl Selection {
    /// Which payments.
    pub(crate) fn filter(&self) -> Filter {
        Filter {
            from: self.from.map(|from| from.0),
            before: self.to.map(|to| to.0),
            service: self.service.clone(),
            network: self.network,
        }
    }

    /// How they are written, if it is said.
    pub(crate) fn format(&self) -> Option<Format> {
        self.format
    }

    /// Whether their sums are wanted in their place.
    pub(crate) fn is_sum(&self) -> bool {
        self.sum
    }
}

/// How payments are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Format {
    /// Columns for people
    Table,
    /// For spreadsheets: RFC 4180, with a line of names first
    Csv,
    /// For programs: an array of objects
    Json,
}

/// Why payments are not listed.
#[derive(Debug, thiserror::Error)]
pub enum PaymentsError {
    /// The ledger cannot be opened.
    #[error(transparent)]
    Database(#[from] DatabaseError),
    /// The ledger cannot be read.
    #[error(transparent)]
    Ledger(#[from] LedgerError),
    /// Standard output.
    #[error("standard output: {0}")]
    Io(#[from] io::Error),
}

/// Writes the payments in the ledger of `settings` to `out`, the oldest first. Memory is constant in their number.
pub async fn run(settings: &Settings, selection: &Selection, out: &mut dyn Write) -> Result<(), PaymentsError> {
    let ledger = Databases::existing_ledger(settings).await?;
    match write(&*ledger, selection, out).await {
        // Who reads no further has what was wanted.
        Err(PaymentsError::Io(error)) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        done => done,
    }
}

async fn write(ledger: &dyn LedgerDb, selection: &Selection, out: &mut dyn Write) -> Result<(), PaymentsError> {
    let (filter, format) = (selection.filter(), selection.format().unwrap_or(Format::Table));
    if selection.sum {
        let sums = ledger.sums(&filter).await?;
        match format {
            Format::Table => format::sums_table(&sums, out)?,
            Format::Csv => format::sums_csv(&sums, out)?,
            Format::Json => format::sums_json(&sums, out)?,
        }
        return Ok(out.flush()?);
    }
    let mut list = List::begin(format, out)?;
    let mut page = ledger.payments(&filter, None).await?;
    while let Some(last) = page.last() {
        for payment in &page {
            list.write(payment)?;
        }
        page = ledger.payments(&filter, Some(last)).await?;
    }
    list.end()?;
    Ok(out.flush()?)
}
