//! A token as the client keeps it: from the challenge on, before anybody pays.

use serde::{Deserialize, Serialize};
use sluice_common::{
    l402::{Credential, Macaroon, MacaroonError, NotHex32, PaymentHash, Preimage},
    muid::Muid,
};

/// A token that was offered, and once its invoice is paid, bought. Prints nothing of itself: it is money.
#[derive(Clone, PartialEq)]
pub struct SavedToken {
    /// The server that sells it, as [`super::super::api::Api::server`] names it.
    pub server: String,
    /// What the payment is known by.
    pub payment_hash: PaymentHash,
    /// The token.
    pub macaroon: Macaroon,
    /// The invoice, BOLT 11.
    pub invoice: String,
    /// Unix seconds at which the invoice can no longer be paid.
    pub expires_at: u64,
    /// Unix seconds at which the challenge was saved.
    pub saved_at: u64,
    /// Proof of payment; none: not known to be paid.
    pub preimage: Option<Preimage>,
    /// The wallet was told to pay it, so it may be paid although no preimage came back.
    pub payment_begun: bool,
    /// The file that was last sent with it and not seen stored.
    pub uploading: Option<Muid>,
    /// Why it buys nothing more, as the server says: for instance `used_up`.
    pub ended: Option<String>,
}

/// Why a file holds no token.
#[derive(Debug, thiserror::Error)]
pub enum SavedTokenError {
    /// Not JSON, or not of this form. (The parser's message is left out: it may quote the file.)
    #[error("not a saved token")]
    Form,
    /// A hash or preimage.
    #[error("a hash or preimage: {0}")]
    Hex(#[from] NotHex32),
    /// The macaroon.
    #[error(transparent)]
    Macaroon(#[from] MacaroonError),
    /// The preimage does not hash to the payment hash.
    #[error("the preimage is of another payment")]
    OtherPayment,
}

/// The file, field by field.
#[derive(Serialize, Deserialize)]
struct Record {
    server: String,
    payment_hash: String,
    macaroon: String,
    invoice: String,
    expires_at: u64,
    saved_at: u64,
    preimage: Option<String>,
    #[serde(default)]
    payment_begun: bool,
    uploading: Option<Muid>,
    ended: Option<String>,
}

impl SavedToken {
    /// The credential that it is; none before it is paid.
    pub fn credential(&self) -> Option<Credential> {
        Some(Credential::new(self.macaroon.clone(), self.preimage.clone()?))
    }

    /// Whether it is bought and nothing says that it buys no more.
    pub fn may_buy(&self) -> bool {
        self.preimage.is_some() && self.ended.is_none()
    }

    /// The first digits of the payment hash: enough to tell tokens apart.
    pub fn short_name(&self) -> String {
        hex::encode(&self.payment_hash.as_bytes()[..4])
    }

    pub(super) fn to_json(&self) -> String {
        let record = Record {
            server: self.server.clone(),
            payment_hash: self.payment_hash.to_string(),
            macaroon: self.macaroon.to_base64(),
            invoice: self.invoice.clone(),
            expires_at: self.expires_at,
            saved_at: self.saved_at,
            preimage: self.preimage.as_ref().map(Preimage::expose_hex),
            payment_begun: self.payment_begun,
            uploading: self.uploading,
            ended: self.ended.clone(),
        };
        // Strings and numbers always serialise.
        serde_json::to_string_pretty(&record).unwrap_or_default()
    }

    pub(super) fn from_json(text: &str) -> Result<Self, SavedTokenError> {
        let record: Record = serde_json::from_str(text).map_err(|_| SavedTokenError::Form)?;
        let token = Self {
            server: record.server,
            payment_hash: record.payment_hash.parse()?,
            macaroon: Macaroon::from_base64(&record.macaroon)?,
            invoice: record.invoice,
            expires_at: record.expires_at,
            saved_at: record.saved_at,
            preimage: record.preimage.map(|preimage| preimage.parse()).transpose()?,
            payment_begun: record.payment_begun,
            uploading: record.uploading,
            ended: record.ended,
        };
        match &token.preimage {
            Some(preimage) if preimage.payment_hash() != token.payment_hash => Err(SavedTokenError::OtherPayment),
            _ => Ok(token),
        }
    }
}
