//! `[lightning]`: who takes the payments.

use std::{num::NonZeroU64, path::PathBuf};

use serde::{Deserialize, Serialize};
use sluice_common::network::Network;
use sluice_gateway::ledger::SettlementProof;

use super::{Invalid, KeySource, Parts, Settings};

/// In `macdir`, the macaroon that LND makes for whoever only makes invoices.
const INVOICE_MACAROON: &str = "invoice.macaroon";

/// `[lightning]`
#[derive(Debug, Clone, PartialEq, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct LightningSettings {
    /// Which node takes the payments.
    pub kind: LightningKind,
    /// How long an invoice can be paid.
    pub invoice_expiry_secs: NonZeroU64,
    /// Where LND's gRPC interface is, `HOST:PORT`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub lndhost: Option<String>,
    /// The file of LND's certificate.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tlspath: Option<PathBuf>,
    /// LND's certificate itself, PEM.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tlscert: Option<String>,
    /// The folder of LND's macaroons; its `invoice.macaroon` is used.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub macdir: Option<PathBuf>,
    /// The macaroon: its file, or its bytes in hex.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub macaroon: Option<KeySource>,
    /// The network that LND must be on.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub network: Option<Network>,
    /// What proves that a token is paid.
    pub settlement: SettlementProof,
    /// Whether LND's invoices hint at private channels.
    pub private: bool,
    /// Lets the embedded wallet run where others can reach it.
    pub allow_test_wallet: bool,
    /// The embedded wallet's key.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub wallet_key: Option<KeySource>,
}

/// The kinds of Lightning nodes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum LightningKind {
    /// The embedded wallet: play money, for trying and testing.
    Wallet,
    /// LND: real money, or that of a test network.
    Lnd,
}

impl Default for LightningSettings {
    fn default() -> Self {
        Self {
            kind: LightningKind::Wallet,
            invoice_expiry_secs: super::settings::positive(3600),
            lndhost: None,
            tlspath: None,
            tlscert: None,
            macdir: None,
            macaroon: None,
            network: None,
            settlement: SettlementProof::Preimage,
            private: false,
            allow_test_wallet: false,
            wallet_key: None,
        }
    }
}

impl LightningSettings {
    /// Where LND's macaroon is.
    pub fn macaroon(&self) -> Option<KeySource> {
        let in_folder = || self.macdir.as_ref().map(|dir| KeySource::File(dir.join(INVOICE_MACAROON)));
        self.macaroon.clone().or_else(in_folder)
    }

    /// Whether the embedded wallet takes the payments.
    pub fn is_wallet(&self) -> bool {
        self.kind == LightningKind::Wallet
    }

    /// Checks what `parts` need of it.
    pub(super) fn check(&self, parts: Parts) -> Result<(), Invalid> {
        let said = [
            ("lndhost", self.lndhost.is_some()),
            ("tlspath", self.tlspath.is_some()),
            ("tlscert", self.tlscert.is_some()),
            ("macdir", self.macdir.is_some()),
            ("macaroon", self.macaroon.is_some()),
            ("network", self.network.is_some()),
        ];
        let has = |key: &str| said.contains(&(key, true));
        if self.is_wallet() {
            let first = said.iter().find(|(_, said)| *said);
            return first.map_or(Ok(()), |(key, _)| Err(Invalid::ForLnd(key)));
        }
        if self.network == Some(Network::TestWallet) {
            return Err(Invalid::WalletNetwork);
        }
        if let Some((one, other)) =
            [("tlspath", "tlscert"), ("macdir", "macaroon")].into_iter().find(|(one, other)| has(one) && has(other))
        {
            return Err(Invalid::SaidTwice(one, other));
        }
        if !parts.has_gateway() {
            // What the tokens that it checks were bought with, it cannot ask anybody.
            return if has("network") { Ok(()) } else { Err(Invalid::BackendNetwork) };
        }
        if !has("lndhost") {
            return Err(Invalid::LndLacks("lndhost (--lnd)"));
        }
        if !has("tlspath") && !has("tlscert") {
            return Err(Invalid::LndLacks("tlspath (--lnd-tls-cert) or tlscert"));
        }
        if !has("macdir") && !has("macaroon") {
            return Err(Invalid::LndLacks("macaroon (--lnd-macaroon, LND_MACAROON_HEX) or macdir"));
        }
        Ok(())
    }
}

impl Settings {
    /// The settings of `[lightning]` with everything said that follows from others.
    pub(super) fn effective_lightning(&self) -> LightningSettings {
        let wallet_key = self.lightning.is_wallet().then(|| self.wallet_key());
        LightningSettings { wallet_key, ..self.lightning.clone() }
    }
}
