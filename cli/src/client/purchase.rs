//! Buying a token: what is offered is saved before anybody can pay for it, and the preimage as soon as it is known, so
//! that whatever breaks in between, nobody pays twice.

use clap::Args;
use sluice_common::{
    clock::unix_now,
    l402::{InvalidIdentifier, Preimage},
};

use super::{
    ClientError,
    api::{Api, ApiError},
    console,
    invoice::{Invoice, InvoiceError},
    pay::{self, AdminArgs},
    state::{SavedToken, State},
    token::TokenTerms,
};

/// An invoice that is about to expire is not offered again.
const MIN_TIME_TO_PAY_SECS: u64 = 60;

/// How to pay.
#[derive(Debug, Clone, Args)]
pub struct PaymentArgs {
    /// Pay with the embedded wallet; else the invoice is shown
    #[arg(long)]
    pay: bool,
    /// Pay no more than this for an upload
    #[arg(long, value_name = "SAT")]
    max_price_sat: Option<u64>,
    #[command(flatten)]
    admin: AdminArgs,
}

/// Why no token was bought.
#[derive(Debug, thiserror::Error)]
pub enum PurchaseError {
    /// The server's invoice.
    #[error("the server's invoice: {0}")]
    Invoice(#[from] InvoiceError),
    /// The server's token.
    #[error("the server's token: {0}")]
    Token(#[from] InvalidIdentifier),
    /// The invoice pays for something else.
    #[error("the server's invoice does not pay for its token: not paid")]
    OtherPayment,
    /// More than the user wants to pay.
    #[error("the price of {price_sat} sat is over --max-price-sat {max_price_sat}: not paid")]
    TooExpensive {
        /// In satoshi.
        price_sat: u64,
        /// In satoshi.
        max_price_sat: u64,
    },
    /// The file is larger than what is sold.
    #[error("the tokens of this server are for files of at most {max_mb} MiB: not paid")]
    TooLarge {
        /// In MB of 1,048,576 bytes.
        max_mb: u64,
    },
    /// There is no preimage.
    #[error("not paid; the token is saved: run the same again within {} to pay, or when you have the preimage", .0)]
    NotPaid(String),
    /// The wallet, or the way to it.
    #[error("the admin address, where the embedded wallet pays (--admin, SLUICE_ADMIN): {0}")]
    Wallet(ApiError),
    /// The wallet's answer is no preimage of the invoice.
    #[error("the wallet's answer does not prove that the invoice is paid")]
    WrongPreimage,
    /// What was bought in this very run does not buy.
    #[error("the server does not take the token that was just bought; it is saved, and no other was bought")]
    BoughtInVain,
    /// An upload with the same token is under way.
    #[error("an upload of this file with the same token is still under way")]
    InUse,
}

/// Who buys, and where.
pub(super) struct Purchase<'a> {
    pub(super) api: &'a Api,
    pub(super) state: &'a State,
    pub(super) args: &'a PaymentArgs,
    /// The file that it is for, in bytes.
    pub(super) size: u64,
}

impl Purchase<'_> {
    /// A token that is paid: one that was offered before, else a new one. None: it costs nothing.
    pub(super) async fn make(&self) -> Result<Option<SavedToken>, ClientError> {
        let saved = self.state.tokens()?;
        for token in saved.into_iter().filter(|token| self.is_open(token, unix_now())) {
            console::note(format_args!("token {} was offered before and is not paid yet", token.short_name()));
            if let Some(paid) = self.settle(token).await? {
                return Ok(Some(paid));
            }
        }
        let Some(token) = self.ask_for_token().await? else {
            console::note("the server takes it for nothing");
            return Ok(None);
        };
        let invoice: Invoice = token.invoice.parse().map_err(PurchaseError::from)?;
        self.settle(token).await?.ok_or_else(|| PurchaseError::NotPaid(time_left(&invoice)).into()).map(Some)
    }

    /// Whether an offer of before can still be taken, or may have been paid although nothing came back.
    fn is_open(&self, token: &SavedToken, now: u64) -> bool {
        let may_be_paid = self.args.pay && token.payment_begun;
        token.server == self.api.server()
            && token.preimage.is_none()
            && token.ended.is_none()
            && (may_be_paid || now.saturating_add(MIN_TIME_TO_PAY_SECS) < token.expires_at)
            && TokenTerms::of(&token.macaroon).max_upload_bytes() >= self.size
    }

    /// A new offer, checked and saved. None: it costs nothing.
    async fn ask_for_token(&self) -> Result<Option<SavedToken>, ClientError> {
        let Some((challenge, said)) = self.api.challenge(self.size).await? else { return Ok(None) };
        let invoice: Invoice = challenge.invoice.parse().map_err(PurchaseError::from)?;
        let identifier = challenge.macaroon.identifier().map_err(PurchaseError::from)?;
        if identifier.payment_hash != invoice.payment_hash() {
            return Err(PurchaseError::OtherPayment.into());
        }
        let terms = TokenTerms::of(&challenge.macaroon);
        if terms.max_upload_bytes() < self.size {
            return Err(PurchaseError::TooLarge { max_mb: terms.max_upload_mb() }.into());
        }
        if said.price_sat.is_some_and(|said| said != invoice.amount_sat()) {
            console::note("warning: the server says another price than its invoice, which counts");
        }
        let token = SavedToken {
            server: self.api.server().to_owned(),
            payment_hash: invoice.payment_hash(),
            macaroon: challenge.macaroon,
            invoice: invoice.to_string(),
            expires_at: invoice.expires_at(),
            saved_at: unix_now(),
            preimage: None,
            payment_begun: false,
            uploading: None,
            ended: None,
        };
        self.state.save(&token)?;
        Ok(Some(token))
    }

    /// Has the invoice of `token` paid. None: it was offered before, and turns out to be expired and unpaid.
    async fn settle(&self, mut token: SavedToken) -> Result<Option<SavedToken>, ClientError> {
        let invoice: Invoice = token.invoice.parse().map_err(PurchaseError::from)?;
        let terms = TokenTerms::of(&token.macaroon);
        console::note(format_args!("price: {} for {}", invoice.price(), terms.summary()));
        if let Some(max_price_sat) = self.args.max_price_sat.filter(|max| *max < invoice.amount_sat()) {
            return Err(PurchaseError::TooExpensive { price_sat: invoice.amount_sat(), max_price_sat }.into());
        }
        let paid = if self.args.pay {
            token.payment_begun = true;
            self.state.save(&token)?;
            match pay::with_wallet(&self.args.admin, &invoice).await {
                Ok(preimage) => {
                    token.preimage = Some(preimage);
                    self.state.save(&token)?;
                    Some(token)
                }
                Err(ClientError::Purchase(PurchaseError::Wallet(ApiError::Refused(refusal))))
                    if refusal.status.is_client_error() && token.expires_at <= unix_now() =>
                {
                    token.payment_begun = false;
                    self.state.save(&token)?;
                    return Ok(None);
                }
                Err(error) => return Err(error),
            }
        } else {
            self.ask_for_preimage(&invoice).await?
        };
        if paid.is_some() {
            console::note("paid");
        }
        Ok(paid)
    }

    /// Shows the invoice and waits for a preimage: of this invoice, or of another one that was offered for this server
    /// before.
    async fn ask_for_preimage(&self, invoice: &Invoice) -> Result<Option<SavedToken>, ClientError> {
        console::note(format_args!("\n{}\n{invoice}\n", invoice.qr_code().unwrap_or_default()));
        loop {
            let Some(answer) =
                console::ask("Pay this invoice and enter the preimage (64 hexadecimal digits): ").await?
            else {
                console::note("");
                return Err(PurchaseError::NotPaid(time_left(invoice)).into());
            };
            let Ok(preimage) = answer.parse::<Preimage>() else {
                console::note("That is not 64 hexadecimal digits.");
                continue;
            };
            match self.state.record_preimage(&preimage)? {
                Some(token) if token.server == self.api.server() && token.ended.is_none() => return Ok(Some(token)),
                _ => console::note("That preimage is of another payment."),
            }
        }
    }
}

fn time_left(invoice: &Invoice) -> String {
    format!("{} minutes", invoice.expires_at().saturating_sub(unix_now()) / 60)
}

#[cfg(test)]
mod tests;
