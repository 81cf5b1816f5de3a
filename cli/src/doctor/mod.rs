//! `sluice doctor`: looks at everything that a start needs, one by one, and says how to mend what is wrong. It leaves
//! everything as it was.

mod clock;
mod node;
mod place;
mod storage;

use std::{
    fmt,
    io::{self, Write},
};

use sluice_gateway::lightning::NodeInfo;

use crate::{config::Settings, keys};

/// Why the doctor is not content.
#[derive(Debug, thiserror::Error)]
pub enum DoctorError {
    /// Something would not work.
    #[error("{0} of these must be mended")]
    Errors(usize),
    /// Standard output.
    #[error("standard output: {0}")]
    Io(#[from] io::Error),
}

/// How something is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Level {
    /// As it should be.
    Ok,
    /// It works, but perhaps not as meant; or it cannot be looked at.
    Warning,
    /// It does not work.
    Error,
}

/// What is said of one thing: a line.
#[derive(Debug, PartialEq, Eq)]
struct Finding {
    level: Level,
    what: &'static str,
    text: String,
}

impl Finding {
    fn ok(what: &'static str, text: impl Into<String>) -> Self {
        Self { level: Level::Ok, what, text: text.into() }
    }

    fn warning(what: &'static str, text: impl Into<String>) -> Self {
        Self { level: Level::Warning, what, text: text.into() }
    }

    fn error(what: &'static str, text: impl Into<String>) -> Self {
        Self { level: Level::Error, what, text: text.into() }
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let level = match self.level {
            Level::Ok => "ok",
            Level::Warning => "warning",
            Level::Error => "error",
        };
        write!(f, "{level:<7}  {:<8}  {}", self.what, self.text)
    }
}

/// Where findings go: each is printed at once, for some take seconds.
struct Report<'a> {
    out: &'a mut dyn Write,
    errors: usize,
}

impl Report<'_> {
    fn add(&mut self, finding: &Finding) -> io::Result<()> {
        self.errors += usize::from(finding.level == Level::Error);
        writeln!(self.out, "{finding}")?;
        self.out.flush()
    }
}

/// Looks at what `settings`, which are checked themselves, name, and prints to `out` a line for each thing: its state
/// (`ok`, `warning` or `error`), its name, and what there is to say. An error if a line says one.
pub async fn run(settings: &Settings, out: &mut dyn Write) -> Result<(), DoctorError> {
    let mut report = Report { out, errors: 0 };
    let info: Option<NodeInfo> = node::look(settings, &mut report).await?;
    report.add(&look_at_keys(settings))?;
    if let Err(error) = settings.services() {
        report.add(&Finding::error("services", error.to_string()))?;
    }
    let database_time = storage::look_at_databases(settings, &mut report).await?;
    report.add(&storage::look_at_store(settings).await)?;
    report.add(&clock::look(info.as_ref(), database_time))?;
    report.add(&place::look(settings).await)?;
    if report.errors > 0 { Err(DoctorError::Errors(report.errors)) } else { Ok(()) }
}

fn look_at_keys(settings: &Settings) -> Finding {
    let weak = keys::weak_jwt_key(settings).ok().flatten();
    match keys::check(settings) {
        Ok(_) if weak.is_some() => Finding::warning("keys", weak.unwrap_or_default()),
        Ok(missing) if missing.is_empty() => Finding::ok("keys", "all there"),
        Ok(_) => Finding::ok("keys", "some are missing; `sluice up` makes them when it first starts"),
        Err(error) => Finding::error("keys", error.to_string()),
    }
}

#[cfg(test)]
mod tests;
