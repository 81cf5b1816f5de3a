//! Configuration: flags over environment over file over default, all of it checked before a port is bound.
//!
//! Nothing here reads the process's environment or command line: both come in as values, so tests need neither.

mod check;
mod environment;
mod lightning;
mod s3;
mod service_settings;
mod services;
mod settings;
#[cfg(test)]
mod tests;
mod values;

use std::{
    ffi::OsString,
    fmt, fs, io,
    net::SocketAddr,
    num::NonZeroU64,
    path::{Path, PathBuf},
};

pub use self::{
    check::Invalid,
    lightning::{LightningKind, LightningSettings},
    s3::S3Settings,
    service_settings::{
        Addresses, Fallback, HeaderSource, PriceSettings, RewriteSettings, ServiceSettings, StepSettings,
    },
    settings::{BackendSettings, GatewaySettings, L402Settings, LogSettings, MasterKeySettings, Settings, StorageMode},
    values::{DatabaseUrl, DatabaseUrlError, KeySource},
};
use crate::logging::LogLevel;

/// Which parts this process runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Parts {
    /// Gateway and backend: `sluice up`.
    All,
    /// `sluice gateway`.
    Gateway,
    /// `sluice backend`.
    Backend,
}

impl Parts {
    /// Whether the gateway is one of them.
    pub fn has_gateway(self) -> bool {
        self != Self::Backend
    }

    /// Whether the backend is one of them.
    pub fn has_backend(self) -> bool {
        self != Self::Gateway
    }
}

/// What flags say, over everything else.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Flags {
    /// `--data`
    pub data_dir: Option<PathBuf>,
    /// `--log-level`
    pub log_level: Option<LogLevel>,
    /// `--listen`
    pub listen: Option<SocketAddr>,
    /// `--admin-listen`
    pub admin_listen: Option<SocketAddr>,
    /// `--backend-listen`
    pub backend_listen: Option<SocketAddr>,
    /// `--price-sat`
    pub price_sat: Option<NonZeroU64>,
    /// `--max-mb`
    pub max_mb: Option<NonZeroU64>,
    /// `--lnd`
    pub lnd: Option<String>,
    /// `--lnd-tls-cert`
    pub lnd_tls_cert: Option<PathBuf>,
    /// `--lnd-macaroon`
    pub lnd_macaroon: Option<PathBuf>,
}

/// Why there is no configuration. Never repeats a value that may be secret.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file cannot be read.
    #[error("{}: {source}", path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// The file is not what it should be.
    #[error("{}:{place} {message}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// Where in it.
        place: Place,
        /// What is wrong there.
        message: String,
    },
    /// A variable of the environment is not what it should be.
    #[error("environment variable {name}: {message}")]
    Environment {
        /// The variable.
        name: &'static str,
        /// What is wrong with it.
        message: String,
    },
    /// Settings that are each well formed and yet cannot be used.
    #[error(transparent)]
    Invalid(#[from] Invalid),
}

/// A place in a file: `LINE:COLUMN:`, or nothing where it is not known.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Place(Option<(usize, usize)>);

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.map_or(Ok(()), |(line, column)| write!(f, "{line}:{column}:"))
    }
}

/// Puts together and checks the configuration of `parts`: the defaults, under the file `path` if there is one, under the
/// environment (`env` gives a variable's value), under `flags`.
pub fn load(
    path: Option<&Path>,
    env: &dyn Fn(&str) -> Option<OsString>,
    flags: &Flags,
    parts: Parts,
) -> Result<Settings, ConfigError> {
    let mut settings = match path {
        None => Settings::default(),
        Some(path) => {
            let text =
                fs::read_to_string(path).map_err(|source| ConfigError::Unreadable { path: path.to_owned(), source })?;
            parse(&text).map_err(|(place, message)| ConfigError::File { path: path.to_owned(), place, message })?
        }
    };
    environment::apply(&mut settings, env, parts)?;
    apply(&mut settings, flags)?;
    check::check(&settings, parts)?;
    Ok(settings)
}

/// Reads the text of a file. The errors of the TOML reader would print the line in question, with whatever key stands
/// there, so only the place and the message are taken from them.
fn parse(text: &str) -> Result<Settings, (Place, String)> {
    toml::from_str(text).map_err(|error| {
        let place = error.span().and_then(|span| text.get(..span.start)).map(|before| {
            let line = before.matches('\n').count() + 1;
            let column = before.rsplit('\n').next().unwrap_or_default().chars().count() + 1;
            (line, column)
        });
        (Place(place), without_value(error.message()))
    })
}

/// serde's `invalid type: string "…", expected a sequence` without what was found: it may be a key at the wrong place.
fn without_value(message: &str) -> String {
    let found = message.split_once(": ").filter(|(what, _)| matches!(*what, "invalid type" | "invalid value"));
    match found.and_then(|(what, rest)| Some((what, rest.rsplit_once(", expected ")?.1))) {
        Some((what, expected)) => format!("{what}, expected {expected}"),
        None => message.to_owned(),
    }
}

fn apply(settings: &mut Settings, flags: &Flags) -> Result<(), Invalid> {
    if let Some(data_dir) = &flags.data_dir {
        settings.data_dir.clone_from(data_dir);
    }
    set(&mut settings.log.level, flags.log_level);
    set(&mut settings.gateway.listen, flags.listen);
    set(&mut settings.gateway.admin_listen, flags.admin_listen);
    set(&mut settings.backend.listen, flags.backend_listen);
    let lightning = &mut settings.lightning;
    if let Some(address) = &flags.lnd {
        lightning.kind = LightningKind::Lnd;
        lightning.lndhost = Some(address.clone());
    }
    if let Some(path) = &flags.lnd_tls_cert {
        (lightning.tlspath, lightning.tlscert) = (Some(path.clone()), None);
    }
    if let Some(path) = &flags.lnd_macaroon {
        (lightning.macaroon, lightning.macdir) = (Some(KeySource::File(path.clone())), None);
    }
    if flags.price_sat.is_some() || flags.max_mb.is_some() {
        let [service] = &mut settings.services[..] else {
            return Err(Invalid::WhichService(settings.services.len()));
        };
        if let Some(price_sat) = flags.price_sat {
            (service.price_sat, service.price) = (Some(price_sat.get()), None);
        }
        set(&mut service.max_upload_mb, flags.max_mb);
    }
    Ok(())
}

/// Writes `value` over `setting` if there is one.
fn set<T>(setting: &mut T, value: Option<T>) {
    if let Some(value) = value {
        *setting = value;
    }
}
