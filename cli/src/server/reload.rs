//! Another configuration while the servers run.

use std::{net::SocketAddr, sync::Arc};

use sluice_backend::config::BackendConfig;
use sluice_common::{network::Network, secret::Secret};
use sluice_gateway::{
    admin::api::Api,
    ledger::{LedgerDb, key_use},
};

use super::{Reread, RunError, Servers, plan::gateway_config};
use crate::{
    config::{Parts, Settings},
    keys,
};

/// What needs a restart, by table and name; a table, or a name, alone: all of it. Everything else can change while the servers run.
const FIXED: [(&str, &[&str]); 7] = [
    ("data_dir", &[]),
    ("stop_timeout_secs", &[]),
    ("log", &[]),
    ("gateway.limits", &["max_connections"]),
    ("gateway", &["listen", "admin_listen", "tls_listen", "tls_certificate", "tls_key", "database_url"]),
    (
        "lightning",
        &[
            "kind",
            "lndhost",
            "tlspath",
            "tlscert",
            "macdir",
            "macaroon",
            "network",
            "private",
            "wallet_key",
            "allow_test_wallet",
        ],
    ),
    ("backend", &[]),
];

/// What the servers were started with.
pub(super) struct Started {
    parts: Parts,
    network: Network,
    /// As they were read.
    pub(super) settings: Settings,
    /// Where the media server listens.
    pub(super) backend_listen: SocketAddr,
    pub(super) ledger: Option<Arc<dyn LedgerDb>>,
    pub(super) wallet_key: Option<Secret<[u8; 32]>>,
    pub(super) api: Option<Arc<Api>>,
    backend: Option<BackendConfig>,
}

impl Started {
    /// The rest is not known yet.
    pub(super) fn new(parts: Parts, network: Network, backend: Option<BackendConfig>) -> Self {
        let settings = Settings::default();
        let backend_listen = settings.backend.listen;
        Self { parts, network, settings, backend_listen, ledger: None, wallet_key: None, api: None, backend }
    }
}

impl Servers {
    /// Goes on with what `reread` gives, as far as that is possible without a restart. What is wrong with it is logged, and
    /// nothing changes.
    pub(super) async fn reload(&self, reread: Reread<'_>) {
        let Some(started) = &self.started else { return };
        match self.try_reload(started, reread).await {
            Ok(()) => tracing::info!("the configuration was read again"),
            Err(error) => tracing::error!(%error, "the new configuration is refused; the one before stays"),
        }
    }

    async fn try_reload(&self, started: &Started, reread: Reread<'_>) -> Result<(), RunError> {
        let mut settings = reread()?;
        let needs_restart = needing_restart(&started.settings, &settings);
        // Keys are there unless the settings say otherwise, and services go to it.
        settings.data_dir.clone_from(&started.settings.data_dir);
        settings.backend.listen = started.backend_listen;
        let read_keys = if started.parts.has_gateway() { keys::minting_master_keys } else { keys::master_keys };
        let master_keys = read_keys(&settings)?;
        let gateway = match &self.gateway {
            Some(gateway) => {
                let config = gateway_config(&settings, master_keys.clone(), started.network)?;
                config.check().map_err(crate::config::Invalid::from)?;
                Some((gateway, config))
            }
            None => None,
        };
        if let (Some(ledger), Some(_)) = (&started.ledger, &gateway) {
            key_use::check(&**ledger, &key_use::configured(&master_keys, started.wallet_key.as_ref())).await?;
        }
        // The media server first: it must take what the gateway sells.
        if let (Some(backend), Some(config)) = (&self.backend, &started.backend) {
            let config = BackendConfig { terms: settings.media_terms()?, master_keys, ..config.clone() };
            backend.reloader.reload(&config).await?;
        }
        if let Some((gateway, config)) = gateway {
            let told = config.clone();
            gateway.reload(config).await?;
            if let Some(api) = &started.api {
                api.configured(&told);
            }
        }
        for setting in needs_restart {
            tracing::warn!(setting, "changed, but needs a restart: it stays as it was");
        }
        Ok(())
    }
}

/// The settings that differ and need a restart.
fn needing_restart(before: &Settings, now: &Settings) -> Vec<String> {
    let (old, new) = (before, now);
    let tables = [before, now].map(|settings| toml::Table::try_from(settings).unwrap_or_default());
    let [before, now] = &tables;
    let mut found = Vec::new();
    for (table, names) in FIXED {
        let whole = |settings: &toml::Table| -> Option<toml::Value> {
            let (first, rest) = table.split_once('.').map_or((table, None), |(first, rest)| (first, Some(rest)));
            let value = settings.get(first)?;
            rest.map_or(Some(value), |rest| value.get(rest)).cloned()
        };
        let (before, now) = (whole(before), whole(now));
        if names.is_empty() && before != now {
            found.push(table.to_owned());
        }
        let of = |table: &Option<toml::Value>, name: &str| table.as_ref()?.get(name).cloned();
        let differs = names.iter().filter(|name| of(&before, name) != of(&now, name));
        found.extend(differs.map(|name| format!("{table}.{name}")));
    }
    // Keys that stand in the settings themselves are all the same as text.
    let secrets = [
        ("gateway.database_url", old.gateway.database_url != new.gateway.database_url),
        ("lightning.macaroon", old.lightning.macaroon != new.lightning.macaroon),
        ("lightning.wallet_key", old.lightning.wallet_key != new.lightning.wallet_key),
        ("backend", old.backend != new.backend),
    ];
    for (name, differs) in secrets {
        if differs && !found.iter().any(|found| found == name) {
            found.push(name.to_owned());
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn says_what_needs_a_restart_and_nothing_else() {
        let before = Settings::default();
        let changed = |change: fn(&mut Settings)| {
            let mut now = before.clone();
            change(&mut now);
            needing_restart(&before, &now)
        };
        assert_eq!(changed(|_| ()), [""; 0]);
        assert_eq!(changed(|now| now.services[0].price_sat = Some(7)), [""; 0]);
        assert_eq!(changed(|now| now.gateway.max_open_invoices = 7.try_into().unwrap()), [""; 0]);
        assert_eq!(changed(|now| now.gateway.limits.blocklist = vec!["192.0.2.0/24".parse().unwrap()]), [""; 0]);
        assert_eq!(
            changed(|now| now.gateway.limits.max_connections = 7.try_into().unwrap()),
            ["gateway.limits.max_connections"]
        );
        assert_eq!(changed(|now| now.stop_timeout_secs = 7.try_into().unwrap()), ["stop_timeout_secs"]);
        assert_eq!(changed(|now| now.lightning.invoice_expiry_secs = 70.try_into().unwrap()), [""; 0]);
        assert_eq!(changed(|now| now.data_dir = "elsewhere".into()), ["data_dir"]);
        assert_eq!(changed(|now| now.gateway.listen.set_port(1)), ["gateway.listen"]);
        assert_eq!(changed(|now| now.gateway.tls_key = Some("k".into())), ["gateway.tls_key"]);
        assert_eq!(changed(|now| now.backend.legacy_public = false), ["backend"]);
        assert_eq!(changed(|now| now.lightning.private = true), ["lightning.private"]);
    }

    #[test]
    fn a_secret_that_changed_needs_a_restart_though_it_prints_as_before() {
        let with = |secret: &str| {
            let mut settings = Settings::default();
            settings.backend.jwt_key = Some(secret.into());
            settings.lightning.macaroon = Some(secret.into());
            settings.lightning.wallet_key = Some(secret.into());
            settings
        };
        assert_eq!(needing_restart(&with("one"), &with("one")), [""; 0]);
        let all = ["lightning.macaroon", "lightning.wallet_key", "backend"];
        assert_eq!(needing_restart(&with("one"), &with("two")), all);
        assert_eq!(needing_restart(&with("file:one"), &with("file:two")), all);
    }
}
