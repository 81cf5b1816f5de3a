//! What the program says of itself while it runs, on standard error.

mod lines;

use std::{
    fmt,
    io::{self, IsTerminal, Stderr},
    str::FromStr,
};

use serde::{Deserialize, Serialize};
use tracing::level_filters::LevelFilter;
use tracing_subscriber::{filter::Targets, layer::SubscriberExt, util::SubscriberInitExt};

use self::lines::Lines;

/// The least severe that is logged.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum LogLevel {
    /// What went wrong on our side.
    Error,
    /// And what may become so.
    Warn,
    /// And what an operator wants to know.
    #[default]
    Info,
    /// And every request.
    Debug,
    /// And every step of it.
    Trace,
}

/// The text is none of the levels.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not a log level; use error, warn, info, debug or trace")]
pub struct InvalidLogLevel;

impl FromStr for LogLevel {
    type Err = InvalidLogLevel;

    fn from_str(text: &str) -> Result<Self, InvalidLogLevel> {
        match text {
            "error" => Ok(Self::Error),
            "warn" => Ok(Self::Warn),
            "info" => Ok(Self::Info),
            "debug" => Ok(Self::Debug),
            "trace" => Ok(Self::Trace),
            _ => Err(InvalidLogLevel),
        }
    }
}

impl fmt::Display for LogLevel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.serialize(f)
    }
}

impl From<LogLevel> for LevelFilter {
    fn from(level: LogLevel) -> Self {
        match level {
            LogLevel::Error => Self::ERROR,
            LogLevel::Warn => Self::WARN,
            LogLevel::Info => Self::INFO,
            LogLevel::Debug => Self::DEBUG,
            LogLevel::Trace => Self::TRACE,
        }
    }
}

/// How a line of the log looks.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum LogFormat {
    /// For people.
    #[default]
    Text,
    /// One JSON object a line.
    Json,
}

/// What of whom is logged. Whatever the level, libraries say no more than at `info` and the proxy no more than at
/// `warn`: below that, pingora, hyper and h2 log headers and queries, which hold tokens. What reads the URL of a
/// PostgreSQL database warns of parameters that it does not know, with their values, which may be passwords: it says
/// nothing.
fn filter(level: LogLevel) -> Targets {
    let level = LevelFilter::from(level);
    Targets::new()
        .with_default(level.min(LevelFilter::INFO))
        .with_target("pingora", level.min(LevelFilter::WARN))
        .with_target("sqlx_postgres::options", LevelFilter::OFF)
        .with_target("sluice", level)
}

/// Writes what is kept back of the log when it is dropped.
#[must_use = "the last lines are written when it is dropped"]
pub struct LogGuard(Lines<Stderr>);

impl Drop for LogGuard {
    fn drop(&mut self) {
        self.0.flush();
    }
}

/// Sends all logging of the process to standard error. A line is out before what it speaks of goes on, so that a crash loses
/// none; but those of requests are written together, and those of the last tenth of a second are lost with a process that is
/// killed. To be called once; a second call changes nothing.
pub fn init(level: LogLevel, format: LogFormat) -> io::Result<LogGuard> {
    let to = Lines::start(io::stderr())?;
    let lines = tracing_subscriber::fmt::layer().with_writer(to.clone());
    let registry = tracing_subscriber::registry().with(filter(level));
    // Fails only where a logger is set already, as in tests.
    let _ = match format {
        LogFormat::Text => registry.with(lines.with_ansi(io::stderr().is_terminal())).try_init(),
        LogFormat::Json => registry.with(lines.json().flatten_event(true)).try_init(),
    };
    tracing::trace!(?format, "every step is logged");
    Ok(LogGuard(to))
}

#[cfg(test)]
mod tests {
    use tracing::Level;

    use super::*;

    #[test]
    fn only_our_own_targets_go_below_info() {
        let filter = filter(LogLevel::Trace);
        for own in ["sluice", "sluice_gateway::proxy", "sluice_backend", "sluice::server"] {
            assert!(filter.would_enable(own, &Level::TRACE), "{own}");
        }
        for other in ["hyper::proto", "h2", "sqlx::query", "reqwest", "rustls", "log"] {
            assert!(filter.would_enable(other, &Level::INFO), "{other}");
            assert!(!filter.would_enable(other, &Level::DEBUG), "{other}");
        }
        for proxy in ["pingora_core::protocols", "pingora_proxy", "pingora"] {
            assert!(filter.would_enable(proxy, &Level::WARN), "{proxy}");
            assert!(!filter.would_enable(proxy, &Level::INFO), "{proxy}");
        }
    }

    #[test]
    fn who_reads_the_urls_of_databases_says_nothing() {
        let filter = filter(LogLevel::Trace);
        assert!(!filter.would_enable("sqlx_postgres::options::parse", &Level::ERROR));
        assert!(filter.would_enable("sqlx_postgres::connection", &Level::WARN));
    }

    #[test]
    fn a_lower_level_silences_everyone() {
        let filter = filter(LogLevel::Error);
        for target in ["sluice_gateway", "hyper", "pingora_proxy"] {
            assert!(filter.would_enable(target, &Level::ERROR));
            assert!(!filter.would_enable(target, &Level::WARN));
        }
    }

    #[test]
    fn levels_are_read_as_they_are_written() {
        for level in [LogLevel::Error, LogLevel::Warn, LogLevel::Info, LogLevel::Debug, LogLevel::Trace] {
            assert_eq!(level.to_string().parse(), Ok(level));
        }
        assert_eq!("verbose".parse::<LogLevel>(), Err(InvalidLogLevel));
    }
}
