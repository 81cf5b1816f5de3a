//! The network that an invoice is paid on.

use std::fmt;

use serde::{Deserialize, Serialize};

/// The network that an invoice is paid on. Part of every root key, so that a token bought with the money of one network
/// is worth nothing on another.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Network {
    /// Real bitcoin.
    Mainnet,
    /// The public test network.
    Testnet,
    /// The signed public test network.
    Signet,
    /// A private chain of btcd.
    Simnet,
    /// A private chain of bitcoind.
    Regtest,
    /// The embedded wallet's play money: its invoices look like regtest's, but no chain is behind them.
    TestWallet,
}

impl Network {
    /// The name in configuration and in root keys. Never changes: tokens depend on it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Mainnet => "mainnet",
            Self::Testnet => "testnet",
            Self::Signet => "signet",
            Self::Simnet => "simnet",
            Self::Regtest => "regtest",
            Self::TestWallet => "test-wallet",
        }
    }
}

impl fmt::Display for Network {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}
