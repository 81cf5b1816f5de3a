//! `sluice check-config`: whether a start would work, and what all settings come to.

use std::io::{self, Write};

use sluice_common::limits::DEFAULT_MAX_UPLOAD_MB;
use sluice_gateway::tls::CertificateError;

use crate::{
    config::{Invalid, Settings},
    keys::{self, KeyError},
    lightning::{self, NodeError},
};

/// Why the configuration is not printed.
#[derive(Debug, thiserror::Error)]
pub enum CheckError {
    /// A file of a service.
    #[error(transparent)]
    Service(#[from] Invalid),
    /// A key is not what it should be.
    #[error(transparent)]
    Key(#[from] KeyError),
    /// The TLS certificate.
    #[error("[gateway] tls_certificate, tls_key: {0}")]
    Certificate(#[from] CertificateError),
    /// The Lightning node's settings or files.
    #[error(transparent)]
    Node(#[from] NodeError),
    /// The settings cannot be written as TOML.
    #[error("the settings cannot be shown: {0}")]
    Toml(#[from] toml::ser::Error),
    /// Standard output.
    #[error("standard output: {0}")]
    Io(#[from] io::Error),
}

/// Checks the keys of `settings`, which are checked themselves, and writes the effective configuration to `out`: TOML that
/// would mean the same, but for keys that stand in it, which show as `[redacted]`.
pub fn run(settings: &Settings, out: &mut dyn Write) -> Result<(), CheckError> {
    settings.services()?;
    settings.gateway.tls()?;
    if !settings.lightning.is_wallet() {
        lightning::lnd_config(settings)?;
    }
    for path in keys::check(settings)? {
        writeln!(out, "# {}: missing; `sluice up` makes it when it first starts", path.display())?;
    }
    if let Ok(Some(warning)) = keys::weak_jwt_key(settings) {
        tracing::warn!("{warning}");
    }
    if let Some(warning) = keys::lone_podcast_secret(settings) {
        tracing::warn!("{warning}");
    }
    out.write_all(with_remarks(toml::to_string(&settings.effective())?, settings).as_bytes())?;
    Ok(out.flush()?)
}

/// Says of a setting that is not in force that it is not.
fn with_remarks(toml: String, settings: &Settings) -> String {
    let backend = &settings.backend;
    if backend.restrict_upload_size {
        return toml;
    }
    let line = format!("\nmax_free_upload_size_mb = {}", backend.max_free_upload_size_mb);
    toml.replacen(
        &format!("{line}\n"),
        &format!("{line} # not in force while restrict_upload_size = false: {DEFAULT_MAX_UPLOAD_MB} MB are\n"),
        1,
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::KeySource;

    fn printed(settings: &Settings) -> String {
        let mut out = Vec::new();
        run(settings, &mut out).unwrap();
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn prints_what_means_the_same() {
        let dir = tempfile::tempdir().unwrap();
        let settings = Settings { data_dir: dir.path().to_owned(), ..Settings::default() };
        assert_eq!(printed(&settings).matches("missing;").count(), 4);
        assert_eq!(toml::from_str::<Settings>(&printed(&settings)).unwrap(), settings.effective());
    }

    #[test]
    fn says_what_is_not_in_force() {
        let dir = tempfile::tempdir().unwrap();
        let mut settings = Settings { data_dir: dir.path().to_owned(), ..Settings::default() };
        let remark = "max_free_upload_size_mb = 1 # not in force while restrict_upload_size = false: 32 MB are\n";
        assert!(printed(&settings).contains(remark));
        settings.backend.restrict_upload_size = true;
        assert!(printed(&settings).contains("\nmax_free_upload_size_mb = 1\n"));
    }

    #[test]
    fn shows_no_key_and_finds_one_that_is_wrong() {
        let dir = tempfile::tempdir().unwrap();
        let mut settings = Settings { data_dir: dir.path().to_owned(), ..Settings::default() };
        settings.backend.jwt_key = Some(KeySource::from("hunter2"));
        let text = printed(&settings);
        assert!(text.contains("jwt_key = \"[redacted]\"") && !text.contains("hunter2"), "{text}");

        settings.lightning.wallet_key = Some(KeySource::from("hunter2"));
        let error = run(&settings, &mut Vec::new()).unwrap_err();
        assert!(matches!(error, CheckError::Key(KeyError::NotHex { .. })), "{error}");
    }
}
