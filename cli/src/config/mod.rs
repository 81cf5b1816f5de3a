//! Configuration: flags over environment over file over default, all of it checked before a port is bound.
//!
//! Nothing here reads the process's environment or command line: both come in as values, so tests need neither.

mod check;
mod environment;
mod lightning;
mod limit_settings;
mod s3;
mod service_settings;
mod services;
mod settings;
#[cfg(test)]
mod tests;
mod tls;
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
    limit_settings::{FreebieSettings, LimitSettings, RateLimitSettings},
    s3::S3Settings,
    service_settings::{
        Addresses, Fallback, HeaderSource, PriceSettings, Reuse, RewriteSettings, ServiceSettings, StepSettings,
    },
    settings::{
        BackendSettings, GatewaySettings, L402Settings, LogSettings, MasterKeySettings, Settings, StorageMode,
        reachable,
    },
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
        let message = for_people(&without_value(error.message()));
        let setting = error.span().and_then(|span| setting_at(text, span.start));
        (Place(place), setting.map_or_else(|| message.clone(), |setting| format!("{setting}: {message}")))
    })
}

/// The setting whose value begins at the byte `at` of the text of a file: its table and its name, which are no secrets.
fn setting_at(text: &str, at: usize) -> Option<String> {
    let (before, line) = text.get(..at)?.rsplit_once('\n').unwrap_or(("", text.get(..at)?));
    let (name, _) = line.split_once('=')?;
    let is_name =
        |name: &str| !name.is_empty() && name.bytes().all(|b| b.is_ascii_alphanumeric() || b"_-.".contains(&b));
    let name = Some(name.trim()).filter(|name| is_name(name))?;
    let table = before.lines().rev().map(|line| line.split('#').next().unwrap_or_default().trim());
    let mut table =
        table.filter(|line| is_name(line.trim_start_matches('[').trim_end_matches(']')) && line.starts_with('['));
    Some(table.next().map_or_else(|| name.to_owned(), |table| format!("{table} {name}")))
}

/// What the readers of TOML and of numbers say, in words that are not a programmer's, with an example where one helps.
fn for_people(message: &str) -> String {
    const NUMBER: &str = "a whole number of at least 1, for instance 100";
    const ADDRESS: &str = "an address in quotes, for instance \"127.0.0.1:8081\"";
    let (what, expected) = message.rsplit_once("expected ").unwrap_or((message, ""));
    let expected = match expected {
        "a nonzero u64" | "a nonzero u32" => NUMBER,
        "u64" | "u32" | "i64" => "a whole number",
        "socket address" => ADDRESS,
        "a string" | "path string" => "text in quotes",
        "a boolean" => "true or false",
        _ if what == "invalid socket address syntax" => ADDRESS,
        // What is not quoted is read as whatever its first letter makes of it.
        _ if ["string values must be quoted, ", "invalid boolean, "].contains(&what) => {
            return "text must stand in quotes, and true and false stand alone".to_owned();
        }
        _ => return message.to_owned(),
    };
    format!("expected {expected}")
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
