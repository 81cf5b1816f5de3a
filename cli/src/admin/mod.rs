//! `sluice admin`: what a running gateway says and does for whoever runs it, by its admin API.
//!
//! On a terminal tables, else JSON. It ends with 0 when it is done, 1 when the gateway refused, 2 when it was asked in a way
//! that cannot be, 3 when no gateway could be reached or its ledger is away.

mod client;
mod show;
#[cfg(test)]
mod tests;

use std::io::{self, IsTerminal, Write};

use clap::{Args, Subcommand};
use serde_json::Value;
use sluice_common::{l402::PaymentHash, revocation::Revoked};
use sluice_gateway::admin::api::{
    Info, PaymentPage, RevocationJson, RevocationPage, RevokeBody, Services, Stats, TokenInfo,
};

pub use self::client::{AdminError, Gateway, GatewayArgs};
use crate::{
    client::note,
    payments::{Format, List, Selection},
};

/// `sluice admin`
#[derive(Debug, Args)]
pub struct AdminArgs {
    /// Which gateway.
    #[command(flatten)]
    pub gateway: GatewayArgs,
    /// JSON, also on a terminal
    #[arg(long, global = true)]
    json: bool,
    /// What to ask.
    #[command(subcommand)]
    command: AdminCommand,
}

/// What a gateway can be asked.
#[derive(Debug, Subcommand)]
enum AdminCommand {
    /// Version, node, network, and since when it runs
    Info,
    /// What is sold
    Services,
    /// The master keys, by their fingerprints
    Keys,
    /// What was paid; without a gateway that runs, `sluice payments` reads the ledger itself
    Payments(Selection),
    /// What is known of a token: paid, used, revoked
    Token {
        /// The payment hash, 64 hexadecimal digits; `sluice token inspect` shows it
        payment_hash: PaymentHash,
    },
    /// Revoke the tokens of a payment, or all that were minted before a time
    Revoke(RevokeArgs),
    /// Undo a revocation
    Unrevoke {
        /// The payment hash, or the time as 2026-01-31T12:00:00Z
        revoked: Revoked,
    },
    /// What is revoked, and was: the last changed first
    Revocations {
        /// How many
        #[arg(long, default_value_t = 100, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=1000))]
        limit: u32,
    },
    /// What was paid by day and service
    Stats {
        /// From this time on, as 2026-01-31T12:00:00Z [default: 30 days ago]
        #[arg(long, value_name = "TIME")]
        from: Option<String>,
        /// Before this time [default: now]
        #[arg(long, value_name = "TIME")]
        before: Option<String>,
        /// Of this service alone
        #[arg(long, value_name = "NAME")]
        service: Option<String>,
    },
}

/// `sluice admin revoke`
#[derive(Debug, Args)]
struct RevokeArgs {
    /// The payment hash, 64 hexadecimal digits; `sluice token inspect` shows it
    #[arg(required_unless_present = "minted_before", conflicts_with = "minted_before")]
    payment_hash: Option<PaymentHash>,
    /// All tokens that were minted before this time, as 2026-01-31T12:00:00Z
    #[arg(long, value_name = "TIME")]
    minted_before: Option<String>,
    /// Why, for people
    #[arg(long, default_value = "", value_name = "TEXT")]
    reason: String,
}

/// Asks the gateway, and writes what it says to standard output.
pub async fn run(args: AdminArgs, gateway: &Gateway) -> Result<(), AdminError> {
    let as_json = args.json || !io::stdout().is_terminal();
    let mut out = io::stdout();
    match write(args.command, gateway, as_json, &mut out).await {
        // Who reads no further has what was wanted.
        Err(AdminError::Io(error)) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        done => done,
    }
}

async fn write(
    command: AdminCommand,
    gateway: &Gateway,
    as_json: bool,
    out: &mut (dyn Write + Send),
) -> Result<(), AdminError> {
    let said: Value = match &command {
        AdminCommand::Info | AdminCommand::Keys => gateway.get("info", &[]).await?,
        AdminCommand::Services => gateway.get("services", &[]).await?,
        AdminCommand::Payments(selection) => return payments(gateway, selection, as_json, out).await,
        AdminCommand::Token { payment_hash } => gateway.get(&format!("tokens/{payment_hash}"), &[]).await?,
        AdminCommand::Revoke(revoke) => {
            let body = RevokeBody {
                payment_hash: revoke.payment_hash.map(|hash| hash.to_string()),
                minted_before: revoke.minted_before.clone(),
                reason: revoke.reason.clone(),
            };
            let said = gateway.post("revocations", &body).await?;
            if let Some(hash) = revoke.payment_hash
                && is_unpaid(gateway, hash).await
            {
                let advice = "if it is another's, `sluice admin unrevoke` undoes this";
                note(format_args!("sluice: revoked, but no payment with this hash is known yet: {advice}"));
            }
            said
        }
        AdminCommand::Unrevoke { revoked } => gateway.delete(&format!("revocations/{revoked}")).await?,
        AdminCommand::Revocations { limit } => {
            gateway.get("revocations", &[("limit", Some(limit.to_string()))]).await?
        }
        AdminCommand::Stats { from, before, service } => {
            let query = [("from", from.clone()), ("before", before.clone()), ("service", service.clone())];
            gateway.get("stats", &query).await?
        }
    };
    if as_json {
        let shown = if matches!(command, AdminCommand::Keys) { &said["keys"] } else { &said };
        writeln!(out, "{shown:#}")?;
    } else {
        match command {
            AdminCommand::Info => show::info(&client::read::<Info>(said)?, out)?,
            AdminCommand::Keys => show::keys(&client::read::<Info>(said)?.keys, out)?,
            AdminCommand::Services => show::services(&client::read::<Services>(said)?.services, out)?,
            AdminCommand::Token { .. } => show::token(&client::read::<TokenInfo>(said)?, out)?,
            AdminCommand::Revoke(_) | AdminCommand::Unrevoke { .. } => {
                show::revocations(&[client::read::<RevocationJson>(said)?], out)?;
                writeln!(out, "in effect within 2 s on every gateway and media server of this ledger")?;
            }
            AdminCommand::Revocations { .. } => {
                let page: RevocationPage = client::read(said)?;
                show::revocations(&page.revocations, out)?;
            }
            AdminCommand::Stats { .. } => show::stats(&client::read::<Stats>(said)?, out)?,
            AdminCommand::Payments(_) => {}
        }
    }
    Ok(out.flush()?)
}

/// Whether nobody is known to have paid for a token that is revoked. Where that cannot be asked, nothing is said of it.
async fn is_unpaid(gateway: &Gateway, payment_hash: PaymentHash) -> bool {
    let token = gateway.get(&format!("tokens/{payment_hash}"), &[]).await;
    token.and_then(client::read::<TokenInfo>).is_ok_and(|token| token.payment.is_none())
}

/// As `sluice payments` writes them, page by page.
async fn payments(
    gateway: &Gateway,
    selection: &Selection,
    as_json: bool,
    out: &mut (dyn Write + Send),
) -> Result<(), AdminError> {
    let format = selection.format().unwrap_or(if as_json { Format::Json } else { Format::Table });
    let filter = selection.filter();
    let time = |secs: Option<u64>| secs.and_then(sluice_common::clock::rfc3339);
    let mut query = vec![
        ("limit", Some("1000".to_owned())),
        ("from", time(filter.from)),
        ("before", time(filter.before)),
        ("service", filter.service),
        ("network", filter.network.map(|network| network.to_string())),
    ];
    if selection.is_sum() {
        return Err(AdminError::Sums);
    }
    let mut list = List::begin(format, out)?;
    loop {
        let page: PaymentPage = client::read(gateway.get("payments", &query).await?)?;
        for payment in page.payments {
            list.write(&payment.payment().ok_or(AdminError::NotUnderstood)?)?;
        }
        let Some(next) = page.next else { break };
        query.retain(|(name, _)| *name != "after");
        query.push(("after", Some(next)));
    }
    list.end()?;
    Ok(out.flush()?)
}
