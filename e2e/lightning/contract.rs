//! The contract that every Lightning node behind the gateway's trait keeps, on a real one.

use sluice_common::secret::Secret;
use sluice_gateway::{
    contract_parts,
    lightning::{LndConfig, LndNode, contract},
};

use crate::network::{Lnd, Macaroon, Network};

macro_rules! keep {
    ($node:ident, $payer:ident: $($part:ident),*) => {
        $(
            contract::$part(&$node, async |bolt11: &str| $payer.pay(bolt11).await.unwrap()).await;
            say!("{}", stringify!($part).replace('_', " "));
        )*
    };
}

pub async fn lnd_does_what_every_node_behind_the_gateway_does(network: &mut Network) {
    let node = LndNode::new(&config(&network.seller)).unwrap();
    let payer = &network.payer;
    contract_parts!(keep!(node, payer));
}

fn config(node: &Lnd) -> LndConfig {
    LndConfig {
        address: node.address(),
        tls_cert: std::fs::read(node.tls_cert()).unwrap(),
        macaroon: Secret::new(std::fs::read(node.macaroon(Macaroon::Admin)).unwrap()),
        network: None,
        private: false,
    }
}
