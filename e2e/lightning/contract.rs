//! The contract that every Lightning node behind the gateway's trait keeps, on a real one.

use sluice_gateway::{
    contract_parts,
    lightning::{LndNode, contract},
};

use crate::{network::Network, shop::lnd_config};

macro_rules! keep {
    ($node:ident, $payer:ident: $($part:ident),*) => {
        $(
            contract::$part(&$node, async |bolt11: &str| $payer.pay(bolt11).await.unwrap()).await;
            say!("{}", stringify!($part).replace('_', " "));
        )*
    };
}

pub async fn lnd_does_what_every_node_behind_the_gateway_does(network: &mut Network) {
    let node = LndNode::new(&lnd_config(&network.seller)).unwrap();
    let payer = &network.payer;
    contract_parts!(keep!(node, payer));
}
