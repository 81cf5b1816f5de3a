//! The Lightning node, and what its macaroon is good for.

use std::io;

use sluice_gateway::lightning::{BAKE_MACAROON, LightningError, LndNode, NodeInfo};

use super::{Finding, Report};
use crate::{config::Settings, lightning};

const NODE: &str = "node";
const MACAROON: &str = "macaroon";

/// Without this right, a gateway works all the same.
const OPTIONAL_RIGHT: &str = "info:read";

/// Says how the node and its macaroon are. Gives what the node says of itself, if it does.
pub(super) async fn look(settings: &Settings, report: &mut Report<'_>) -> io::Result<Option<NodeInfo>> {
    if settings.lightning.is_wallet() {
        report.add(&Finding::warning(NODE, "the embedded wallet takes payment: no real money"))?;
        return Ok(None);
    }
    let config = match lightning::lnd_config(settings) {
        Ok(config) => config,
        Err(error) => {
            report.add(&Finding::error(NODE, error.to_string()))?;
            return Ok(None);
        }
    };
    let node = match LndNode::new(&config) {
        Ok(node) => node,
        Err(error) => {
            report.add(&Finding::error(NODE, error.to_string()))?;
            return Ok(None);
        }
    };
    let failed = node.check_rights().await;
    if let Some(away) = failed.iter().find(|error| !matches!(error, LightningError::Permission { .. })) {
        report.add(&Finding::error(NODE, format!("LND at {}: {away}", config.address)))?;
        report.add(&Finding::warning(MACAROON, "cannot be tried while the node does not answer"))?;
        return Ok(None);
    }
    let answers = format!("LND at {} answers", config.address);
    let info = match node.shown_info().await {
        Ok(Some(info)) => {
            report.add(&of_info(&config.address, &info, settings))?;
            Some(info)
        }
        Ok(None) => {
            report
                .add(&Finding::warning(NODE, format!("{answers}; its network is not known: it has no invoice yet")))?;
            None
        }
        // Where rights are lacking, who the node is may not be known; but it is there.
        Err(_) => {
            report.add(&Finding::ok(NODE, answers))?;
            None
        }
    };
    report.add(&of_rights(&failed))?;
    Ok(info)
}

fn of_info(address: &str, info: &NodeInfo, settings: &Settings) -> Finding {
    let who = format!("LND at {address}: {} on {}", info.pubkey, info.network);
    if let Err(error) = lightning::check_network(info, settings.lightning.network) {
        return Finding::error(NODE, error.to_string());
    }
    match info.synced {
        Some(true) => Finding::ok(NODE, format!("{who}, synced")),
        Some(false) => Finding::warning(NODE, format!("{who}, not synced to the chain: it may not be paid yet")),
        None => Finding::ok(NODE, format!("{who}; the macaroon does not let us see whether it is synced")),
    }
}

fn of_rights(failed: &[LightningError]) -> Finding {
    let refusals = failed.iter().filter_map(|error| match error {
        LightningError::Permission { right, said } => Some((*right, said.as_str())),
        _ => None,
    });
    let refusals: Vec<_> = refusals.collect();
    let missing: Vec<_> = refusals.iter().map(|(right, _)| *right).collect();
    let mend = format!("one with all rights that Sluice uses: {BAKE_MACAROON}");
    match refusals[..] {
        [] => Finding::ok(MACAROON, "gives info:read, invoices:read and invoices:write"),
        // What is none of this node's fails before any right is looked at.
        [(_, said), ..] if !said.contains("permission denied") => {
            Finding::error(MACAROON, format!("the node does not take it ({said}); {mend}"))
        }
        [(OPTIONAL_RIGHT, _)] => {
            Finding::warning(MACAROON, format!("lacks info:read, so nobody sees whether the node is synced; {mend}"))
        }
        _ => Finding::error(MACAROON, format!("lacks {}; {mend}", missing.join(", "))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(rights: &[&'static str], said: &str) -> Vec<LightningError> {
        rights.iter().map(|right| LightningError::Permission { right, said: said.to_owned() }).collect()
    }

    #[test]
    fn says_which_rights_are_missing_and_how_to_get_them() {
        let lines = [
            of_rights(&[]),
            of_rights(&refused(&["info:read"], "permission denied")),
            of_rights(&refused(&["info:read", "invoices:write"], "permission denied")),
            of_rights(&refused(&["info:read", "invoices:read", "invoices:write"], "verification failed")),
        ];
        insta::assert_snapshot!(lines.map(|line| line.to_string()).join("\n"), @r"
        ok       macaroon  gives info:read, invoices:read and invoices:write
        warning  macaroon  lacks info:read, so nobody sees whether the node is synced; one with all rights that Sluice uses: lncli bakemacaroon --save_to sluice.macaroon info:read invoices:read invoices:write
        error    macaroon  lacks info:read, invoices:write; one with all rights that Sluice uses: lncli bakemacaroon --save_to sluice.macaroon info:read invoices:read invoices:write
        error    macaroon  the node does not take it (verification failed); one with all rights that Sluice uses: lncli bakemacaroon --save_to sluice.macaroon info:read invoices:read invoices:write
        ");
    }
}
