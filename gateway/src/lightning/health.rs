//! Looks after the node while the gateway runs.

use std::{sync::Arc, time::Duration};

use sluice_common::network::Network;
use tokio::{sync::watch, task::JoinHandle, time::sleep};

use super::{LightningError, LightningNode};

/// How often the node is looked at.
const LOOK_EVERY: Duration = Duration::from_secs(10);

/// How the node is, as far as it can be seen.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum NodeHealth {
    /// It takes payments.
    Ok,
    /// It does not, or might not. Whoever has paid is served all the same.
    Degraded(String),
}

/// Who looks at the node; when it is dropped, it ends.
pub struct NodeWatch {
    health: watch::Receiver<NodeHealth>,
    task: JoinHandle<()>,
}

impl NodeWatch {
    /// Looks at `node`, which must be on `network`, now and then, and logs what changes.
    pub fn start(node: Arc<dyn LightningNode>, network: Network) -> Self {
        let (changed, health) = watch::channel(NodeHealth::Ok);
        let task = tokio::spawn(async move {
            loop {
                let health = look(&*node, network).await;
                changed.send_if_modified(|last| {
                    let is_new = *last != health;
                    if is_new {
                        report(&health);
                    }
                    *last = health;
                    is_new
                });
                sleep(LOOK_EVERY).await;
            }
        });
        Self { health, task }
    }

    /// How the node was when it was last looked at.
    pub fn health(&self) -> watch::Receiver<NodeHealth> {
        self.health.clone()
    }
}

impl Drop for NodeWatch {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn look(node: &dyn LightningNode, network: Network) -> NodeHealth {
    let info = match node.info().await {
        Ok(info) => info,
        Err(error) => return NodeHealth::Degraded(error.to_string()),
    };
    if info.network != network {
        let error = LightningError::OtherNetwork { configured: network, found: info.network };
        return NodeHealth::Degraded(error.to_string());
    }
    if info.synced == Some(false) {
        return NodeHealth::Degraded("the node is not synced to the chain".to_owned());
    }
    NodeHealth::Ok
}

fn report(health: &NodeHealth) {
    match health {
        NodeHealth::Ok => tracing::info!("the Lightning node is well again"),
        NodeHealth::Degraded(reason) => tracing::error!(%reason, "the Lightning node is not well"),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use async_trait::async_trait;
    use sluice_common::l402::PaymentHash;

    use super::*;
    use crate::lightning::{Invoice, InvoiceOrder, NodeInfo, Settlement, Settlements};

    /// A node that is as the test says.
    struct Patient(Mutex<Result<(Network, Option<bool>), String>>);

    #[async_trait]
    impl LightningNode for Patient {
        async fn create_invoice(&self, _: &InvoiceOrder) -> Result<Invoice, LightningError> {
            Err(LightningError::Closed)
        }
        async fn settlement(&self, _: PaymentHash) -> Result<Option<Settlement>, LightningError> {
            Err(LightningError::Closed)
        }
        async fn settlements(&self, _: u64) -> Result<Settlements, LightningError> {
            Err(LightningError::Closed)
        }
        async fn reaches(&self, _: u64) -> Result<bool, LightningError> {
            Err(LightningError::Closed)
        }
        async fn info(&self) -> Result<NodeInfo, LightningError> {
            match &*self.0.lock().unwrap() {
                Ok((network, synced)) => {
                    Ok(NodeInfo { network: *network, pubkey: String::new(), synced: *synced, best_header_at: None })
                }
                Err(why) => Err(LightningError::Unavailable(why.clone())),
            }
        }
    }

    #[tokio::test(start_paused = true)]
    async fn says_what_is_wrong_and_when_it_is_well_again() {
        let node = Arc::new(Patient(Mutex::new(Ok((Network::Simnet, Some(true))))));
        let watch = NodeWatch::start(node.clone(), Network::Simnet);
        let mut health = watch.health();
        for (state, expected) in [
            (Err("refused".to_owned()), Some("the node cannot be used now: refused")),
            (Ok((Network::Simnet, Some(true))), None),
            (Ok((Network::Simnet, Some(false))), Some("the node is not synced to the chain")),
            (Ok((Network::Mainnet, Some(true))), Some("the node is on mainnet, but simnet is configured")),
            (Ok((Network::Simnet, None)), None),
        ] {
            *node.0.lock().unwrap() = state;
            health.changed().await.unwrap();
            let expected = expected.map_or(NodeHealth::Ok, |reason| NodeHealth::Degraded(reason.to_owned()));
            assert_eq!(*health.borrow_and_update(), expected);
        }
        drop(watch);
        assert!(health.changed().await.is_err(), "nobody looks any more");
    }
}
