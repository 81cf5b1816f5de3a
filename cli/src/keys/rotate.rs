//! `sluice keys rotate`: a new master key, and what is to be done with it.

use std::{
    io::{self, Write},
    path::{Path, PathBuf},
};

use clap::Args;
use time::{Duration, OffsetDateTime, format_description::well_known::Rfc3339, macros::format_description};

use super::{KeyError, make, master_keys};
use crate::{
    args::FileArgs,
    config::{KeySource, MasterKeySettings, Settings},
};

/// How long there is to bring a new key to all servers.
const AHEAD: Duration = Duration::HOUR;

/// `sluice keys rotate`
#[derive(Debug, Args)]
pub struct RotateArgs {
    /// Where from.
    #[command(flatten)]
    pub files: FileArgs,
    /// From when on the new key makes tokens, as 2026-01-31T12:00:00Z: time enough to bring it to all servers first
    /// [default: in an hour]
    #[arg(long, value_name = "TIME", value_parser = time, conflicts_with = "leaked")]
    mints_from: Option<OffsetDateTime>,
    /// The keys that there are have leaked: retire them, and make tokens with the new one at once
    #[arg(long)]
    leaked: bool,
}

/// Why no new key is made.
#[derive(Debug, thiserror::Error)]
pub enum RotateError {
    /// The keys that there are.
    #[error(transparent)]
    Key(#[from] KeyError),
    /// The time has come already.
    #[error("--mints-from is in the past: servers that do not have the key yet would refuse what it makes")]
    Past,
    /// A key that stands in the configuration itself, which is not to be printed.
    #[error(
        "a master key stands in the configuration or in SLUICE_MASTER_KEYS as text: put it into a file first, for all are printed as they have to stand there"
    )]
    Text,
    /// Standard output.
    #[error("standard output: {0}")]
    Io(#[from] io::Error),
}

/// Makes a master key in a file beside the others, and writes what to do with it. Changes nothing else.
pub fn run(
    settings: &Settings,
    args: &RotateArgs,
    now: OffsetDateTime,
    out: &mut dyn Write,
) -> Result<(), RotateError> {
    let mints_from = match args.mints_from {
        None if args.leaked => OffsetDateTime::UNIX_EPOCH,
        None => whole_minute(now + AHEAD),
        Some(time) if time <= now => return Err(RotateError::Past),
        Some(time) => time,
    };
    // All can be read, and are keys.
    master_keys(settings)?;
    let mut keys = settings.master_keys();
    if keys.iter().any(|key| matches!(key.key, KeySource::Value(_))) {
        return Err(RotateError::Text);
    }
    let path = new_file(settings, now);
    make(&path).map_err(|source| KeyError::Unwritable { path: path.clone(), source })?;
    keys.iter_mut().for_each(|key| key.retired |= args.leaked);
    keys.push(MasterKeySettings { key: KeySource::File(path.clone()), mints_from, retired: false });

    writeln!(out, "made {}\n", path.display())?;
    writeln!(
        out,
        "1. Copy that file to the same place on every other server, gateways and media servers, with mode 600."
    )?;
    writeln!(out, "2. On all of them, put this into the configuration:\n")?;
    writeln!(out, "[l402]\nmaster_keys = [")?;
    for key in &keys {
        writeln!(out, "    {},", toml(key))?;
    }
    writeln!(out, "]\n")?;
    let variable = keys.iter().map(variable).collect::<Vec<_>>().join(",");
    writeln!(out, "   or, where the environment says it: SLUICE_MASTER_KEYS={variable}\n")?;
    if args.leaked {
        writeln!(
            out,
            "3. Have them read it (SIGHUP) or restart them: media servers first, then the gateways, all soon after one another. From then on the"
        )?;
        writeln!(
            out,
            "   retired keys make no tokens, and theirs are taken only where a node said that they were paid: the media"
        )?;
        writeln!(
            out,
            "   servers must be able to read the gateways' ledger (GATEWAY_DATABASE_URL). See docs/OPERATING.md."
        )?;
    } else {
        let from = mints_from.format(&Rfc3339).unwrap_or_default();
        writeln!(
            out,
            "3. Have them read it (SIGHUP), or restart them one after another, before {from}. From then on the new key makes"
        )?;
        writeln!(out, "   tokens; those that were made before stay good.")?;
        writeln!(
            out,
            "4. When the last of those has ended, take the old keys out; `sluice keys forget` says that this is meant."
        )?;
    }
    Ok(out.flush()?)
}

/// The place of a new key: beside the first one, by the time that it was made.
fn new_file(settings: &Settings, now: OffsetDateTime) -> PathBuf {
    let first = settings.master_keys().into_iter().find_map(|key| match key.key {
        KeySource::File(path) => path.parent().map(Path::to_owned),
        KeySource::Value(_) => None,
    });
    let dir = first.unwrap_or_else(|| settings.data_dir.join("keys"));
    let time = now.format(format_description!("[year][month][day]T[hour][minute][second]Z")).unwrap_or_default();
    dir.join(format!("master-{time}.key"))
}

/// A key as it stands in the configuration.
fn toml(key: &MasterKeySettings) -> String {
    let source = toml::Value::String(key.key.to_string());
    let mints_from = match key.mints_from {
        time if time == OffsetDateTime::UNIX_EPOCH => String::new(),
        time => format!(", mints_from = \"{}\"", time.format(&Rfc3339).unwrap_or_default()),
    };
    let retired = if key.retired { ", retired = true" } else { "" };
    format!("{{ key = {source}{mints_from}{retired} }}")
}

/// The same as it stands in SLUICE_MASTER_KEYS.
fn variable(key: &MasterKeySettings) -> String {
    let (source, time) = (&key.key, key.mints_from);
    match key.retired {
        true => format!("{source}@retired"),
        false if time == OffsetDateTime::UNIX_EPOCH => source.to_string(),
        false => format!("{source}@{}", time.format(&Rfc3339).unwrap_or_default()),
    }
}

fn whole_minute(time: OffsetDateTime) -> OffsetDateTime {
    let secs = time.unix_timestamp();
    OffsetDateTime::from_unix_timestamp(secs - secs.rem_euclid(60)).unwrap_or(time)
}

fn time(text: &str) -> Result<OffsetDateTime, &'static str> {
    OffsetDateTime::parse(text, &Rfc3339).map_err(|_| "expected a time as 2026-01-31T12:00:00Z")
}

#[cfg(test)]
mod tests {
    use std::{fs, os::unix::fs::PermissionsExt};

    use super::*;
    use crate::keys::{make_missing, minting_master_keys};

    const NOW: i64 = 1_800_000_030;

    fn args(mints_from: Option<i64>, leaked: bool) -> RotateArgs {
        let mints_from = mints_from.map(|secs| OffsetDateTime::from_unix_timestamp(secs).unwrap());
        RotateArgs { files: FileArgs { config: None, data: None }, mints_from, leaked }
    }

    fn rotate(settings: &Settings, args: &RotateArgs) -> Result<String, RotateError> {
        let mut out = Vec::new();
        run(settings, args, OffsetDateTime::from_unix_timestamp(NOW).unwrap(), &mut out)?;
        Ok(String::from_utf8(out).unwrap())
    }

    /// The settings with what was printed in them.
    fn taken(settings: &Settings, said: &str) -> Settings {
        let (_, rest) = said.split_once("\n[l402]").unwrap();
        let (block, _) = rest.split_once("]\n\n").unwrap();
        let read: Settings = toml::from_str(&format!("[l402]{block}]")).unwrap();
        Settings { l402: read.l402, ..settings.clone() }
    }

    fn first_start() -> (Settings, tempfile::TempDir) {
        let dir = tempfile::tempdir().unwrap();
        let settings = Settings { data_dir: dir.path().to_owned(), ..Settings::default() };
        make_missing(&settings).unwrap();
        (settings, dir)
    }

    #[test]
    fn a_new_key_mints_later_and_the_old_one_stays() {
        let (settings, dir) = first_start();
        let said = rotate(&settings, &args(None, false)).unwrap();
        let path = dir.path().join("keys/master-20270115T080030Z.key");
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        assert!(said.contains("before 2027-01-15T09:00:00Z"), "{said}");
        let variable = format!(
            "SLUICE_MASTER_KEYS=file:{0}/master.key,file:{0}/master-20270115T080030Z.key@2027-",
            dir.path().join("keys").display()
        );
        assert!(said.contains(&variable), "{said}");
        assert!(!said.contains(fs::read_to_string(&path).unwrap().trim()));
        let keys = master_keys(&taken(&settings, &said)).unwrap();
        let at = |time| keys.minting(time).unwrap().fingerprint();
        let old = master_keys(&settings).unwrap().fingerprints().next().unwrap();
        let new = keys.fingerprints().nth(1).unwrap();
        assert_eq!((at(NOW.cast_unsigned()), at(1_800_003_599), at(1_800_003_600)), (old.clone(), old, new));

        assert!(matches!(rotate(&settings, &args(Some(NOW), false)), Err(RotateError::Past)));
        let error = rotate(&settings, &args(Some(NOW + 60), false)).unwrap_err();
        assert!(matches!(error, RotateError::Key(KeyError::Unwritable { .. })), "never over another: {error}");
    }

    #[test]
    fn a_leaked_key_is_retired_and_the_new_one_mints_at_once() {
        let (settings, _dir) = first_start();
        let said = rotate(&settings, &args(None, true)).unwrap();
        assert!(said.contains("master.key@retired,file:"), "{said}");
        let settings_now = taken(&settings, &said);
        let keys = minting_master_keys(&settings_now).unwrap();
        let old = master_keys(&settings).unwrap().minting(5).unwrap().new_token_id(5);
        assert!(keys.is_retired(&old) && keys.made(&old));
        assert!(!keys.is_retired(&keys.minting(5).unwrap().new_token_id(5)));
    }

    #[test]
    fn prints_no_key() {
        let (mut settings, dir) = first_start();
        let text = "5a".repeat(32);
        settings.l402.master_keys = vec![MasterKeySettings {
            key: text.as_str().into(),
            mints_from: OffsetDateTime::UNIX_EPOCH,
            retired: false,
        }];
        let error = rotate(&settings, &args(None, false)).unwrap_err().to_string();
        assert!(error.contains("put it into a file first") && !error.contains(&text), "{error}");
        assert_eq!(fs::read_dir(dir.path().join("keys")).unwrap().count(), 4, "and makes none");
    }
}
