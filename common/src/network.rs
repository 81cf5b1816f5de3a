//! The network that an invoice is paid on.

use std::{fmt, str::FromStr};

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

/// The text is the name of no network.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("expected mainnet, testnet, signet, simnet, regtest or test-wallet")]
pub struct UnknownNetwork;

impl FromStr for Network {
    type Err = UnknownNetwork;

    fn from_str(name: &str) -> Result<Self, UnknownNetwork> {
        let all = [Self::Mainnet, Self::Testnet, Self::Signet, Self::Simnet, Self::Regtest, Self::TestWallet];
        all.into_iter().find(|network| network.name() == name).ok_or(UnknownNetwork)
    }
}

impl fmt::Display for Network {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_network_has_one_name_everywhere() {
        for name in ["mainnet", "testnet", "signet", "simnet", "regtest", "test-wallet"] {
            let network: Network = name.parse().unwrap();
            assert_eq!((network.to_string().as_str(), serde_json::json!(network)), (name, name.into()));
        }
        for junk in ["", "Mainnet", "test_wallet", "bitcoin"] {
            assert_eq!(junk.parse::<Network>(), Err(UnknownNetwork), "{junk}");
        }
    }
}
