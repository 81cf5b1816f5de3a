//! `sluice pay`: the embedded wallet, asked over the admin address.

use clap::Args;
use serde::Deserialize;
use serde_json::json;
use sluice_common::{l402::Preimage, secret::Secret};

use super::{
    ClientError, StateArgs,
    api::Api,
    console,
    invoice::Invoice,
    purchase::PurchaseError,
    retry::{self, Backoff},
    state::State,
};

/// Where the embedded wallet is asked.
#[derive(Debug, Clone, Args)]
pub struct AdminArgs {
    /// The gateway's admin address, where the embedded wallet pays
    #[arg(long, value_name = "URL", env = "SLUICE_ADMIN", default_value = "http://127.0.0.1:8082")]
    pub(super) admin: String,
}

/// Arguments of `sluice pay`.
#[derive(Debug, Args)]
pub struct PayArgs {
    /// The invoice, BOLT 11
    invoice: String,
    #[command(flatten)]
    admin: AdminArgs,
    #[command(flatten)]
    state: StateArgs,
}

/// Pays, and keeps the preimage with the saved token that it pays for, if there is one.
pub(super) async fn run(args: PayArgs) -> Result<(), ClientError> {
    let invoice: Invoice = args.invoice.parse()?;
    let state = State::open(args.state.dir)?;
    console::note(format_args!("paying {}", invoice.price()));
    let preimage = with_wallet(&args.admin, &invoice).await?;
    let token = state.record_preimage(&preimage);
    console::result(preimage.expose_hex())?;
    if let Some(token) = token? {
        console::note(format_args!(
            "token {} for {} is paid: the next upload uses it",
            token.short_name(),
            token.server
        ));
    }
    Ok(())
}

/// Pays `invoice` with the embedded wallet. The wallet answers the same preimage however often it is asked.
pub(super) async fn with_wallet(admin: &AdminArgs, invoice: &Invoice) -> Result<Preimage, ClientError> {
    #[derive(Deserialize)]
    struct Paid {
        preimage: Secret<String>,
    }
    let admin = Api::admin(&admin.admin)?;
    let mut backoff = Backoff::default();
    let paid: Paid = loop {
        match admin.post_json(&["wallet", "pay"], &json!({ "invoice": invoice.to_string() })).await {
            Ok(paid) => break paid,
            Err(error) => {
                let (max_retries, asked_for) = (retry::max_retries(&error), retry::asked_for(&error));
                let may_pass = retry::is_passing(&error);
                let error = PurchaseError::Wallet(error);
                if !may_pass || !backoff.wait(&error, max_retries, asked_for).await {
                    return Err(error.into());
                }
            }
        }
    };
    let preimage: Preimage = paid.preimage.expose().parse().map_err(|_| PurchaseError::WrongPreimage)?;
    if preimage.payment_hash() != invoice.payment_hash() {
        return Err(PurchaseError::WrongPreimage.into());
    }
    Ok(preimage)
}
