//! The environment's part of the configuration: the names that sphinx-meme knows, which work as they do there, and ours.

use std::{ffi::OsString, fmt::Display, net::Ipv4Addr, str::FromStr};

use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use sluice_common::secret::Secret;
use time::{OffsetDateTime, format_description::well_known::Rfc3339};

use super::{ConfigError, DatabaseUrl, Invalid, KeySource, MasterKeySettings, Parts, Settings, StorageMode, set};

/// Writes what `env` has over `settings`.
pub(super) fn apply(
    settings: &mut Settings,
    env: &dyn Fn(&str) -> Option<OsString>,
    parts: Parts,
) -> Result<(), ConfigError> {
    let env = Environment(env);
    set(&mut settings.log.level, env.parse("SLUICE_LOG")?);
    if let Some(keys) = env.read_key("SLUICE_MASTER_KEYS", master_keys)? {
        settings.l402.master_keys = keys;
    }
    if let Some(macaroon) = env.read_key("LND_MACAROON_HEX", |text| Ok::<_, MasterKeysError>(text.into()))? {
        (settings.lightning.macaroon, settings.lightning.macdir) = (Some(macaroon), None);
    }
    set_some(&mut settings.gateway.database_url, env.parse("GATEWAY_DATABASE_URL")?);

    if parts.has_gateway() {
        resolve_headers(settings, &env)?;
    }
    let backend = &mut settings.backend;
    if parts == Parts::Backend {
        // On every address, as sphinx-meme listens.
        let listen = env.one_of("PORT", port, PORT)?.map(|port| (Ipv4Addr::UNSPECIFIED, port).into());
        set(&mut backend.listen, listen);
    }
    set_some(&mut backend.host, env.text("HOST")?);
    // Of these, the text is the key, whatever it begins with.
    let value = |text: &str| Ok::<_, MasterKeysError>(KeySource::Value(Secret::new(text.to_owned())));
    set_some(&mut backend.jwt_key, env.read_key("JWT_KEY", value)?);
    set_some(&mut backend.local_encryption_key, env.read_key("LOCAL_ENCRYPTION_KEY", value)?);
    let database_url = env.parse("DATABASE_URL")?;
    set_some(&mut backend.database_url, if database_url.is_none() { rds(&env)? } else { database_url });
    set(&mut backend.storage_mode, env.one_of("STORAGE_MODE", storage_mode, "\"local\" or \"s3\"")?);
    set_some(&mut backend.local_dir, env.text("LOCAL_DIR")?.map(Into::into));
    let s3 = &mut backend.s3;
    set(&mut s3.bucket, env.text("S3_BUCKET")?);
    // AWS_REGION is not read: machines of AWS have it for themselves, and the bucket may be elsewhere.
    set(&mut s3.region, env.text("S3_REGION")?);
    set_some(&mut s3.endpoint, env.text("S3_ENDPOINT")?);
    // S3_KEY and S3_SECRET are sphinx-meme's, the others AWS's.
    for (id, secret, token) in
        [("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", Some("AWS_SESSION_TOKEN")), ("S3_KEY", "S3_SECRET", None)]
    {
        // Empty, as sphinx-meme took it, they count as not set.
        if let (Some(id), Some(secret)) = (env.secret(id)?, env.secret(secret)?) {
            s3.access_key_id = Some(KeySource::Value(id));
            s3.secret_access_key = Some(KeySource::Value(secret));
            s3.session_token = token.map(|token| env.secret(token)).transpose()?.flatten().map(KeySource::Value);
        }
    }
    set(&mut backend.restrict_upload_size, env.one_of("RESTRICT_UPLOAD_SIZE", boolean, "\"true\" or \"false\"")?);
    set(
        &mut backend.max_free_upload_size_mb,
        env.one_of("MAX_FREE_UPLOAD_SIZE_MB", |text| text.parse().ok(), "a whole number")?,
    );
    set_some(&mut backend.podcast_index_key, env.text("PODCAST_INDEX_KEY")?);
    set_some(&mut backend.podcast_index_secret, env.read_key("PODCAST_INDEX_SECRET", value)?);
    set(&mut backend.podcast_index_url, env.text("PODCAST_INDEX_URL")?);
    Ok(())
}

/// Puts variables in their places in the headers of services.
fn resolve_headers(settings: &mut Settings, env: &Environment<'_>) -> Result<(), ConfigError> {
    let variable = |name: &str| env.0(name).and_then(|text| text.into_string().ok());
    for service in &mut settings.services {
        for (header, source) in &mut service.headers {
            source.resolve(&variable).map_err(|variable| {
                let (service, header) = (service.name.clone(), header.clone());
                Invalid::HeaderVariable { service, header, variable }
            })?;
        }
    }
    Ok(())
}

/// Writes `value` over `setting` if there is one.
fn set_some<T>(setting: &mut Option<T>, value: Option<T>) {
    if value.is_some() {
        *setting = value;
    }
}

/// The variables. One that is set to nothing counts as not set; with keys, where it would go unseen, it is an error.
struct Environment<'a>(&'a dyn Fn(&str) -> Option<OsString>);

impl Environment<'_> {
    fn raw(&self, name: &'static str) -> Result<Option<String>, ConfigError> {
        self.0(name).map(|text| text.into_string().map_err(|_| invalid(name, &"is not UTF-8"))).transpose()
    }

    fn text(&self, name: &'static str) -> Result<Option<String>, ConfigError> {
        Ok(self.raw(name)?.filter(|text| !text.is_empty()))
    }

    fn secret(&self, name: &'static str) -> Result<Option<Secret<String>>, ConfigError> {
        Ok(self.text(name)?.map(Secret::new))
    }

    fn parse<T: FromStr<Err: Display>>(&self, name: &'static str) -> Result<Option<T>, ConfigError> {
        self.text(name)?.map(|text| text.trim().parse().map_err(|error| invalid(name, &error))).transpose()
    }

    fn one_of<T>(
        &self,
        name: &'static str,
        read: impl FnOnce(&str) -> Option<T>,
        expected: &str,
    ) -> Result<Option<T>, ConfigError> {
        let read = |text: String| read(text.trim()).ok_or_else(|| invalid(name, &format!("expected {expected}")));
        self.text(name)?.map(read).transpose()
    }

    /// A variable that holds keys; errors never repeat it.
    fn read_key<T, E: Display>(
        &self,
        name: &'static str,
        read: impl FnOnce(&str) -> Result<T, E>,
    ) -> Result<Option<T>, ConfigError> {
        match self.raw(name)?.map(Secret::new) {
            None => Ok(None),
            Some(text) if text.expose().is_empty() => Err(invalid(name, &"is empty; give it a key or unset it")),
            Some(text) => read(text.expose()).map(Some).map_err(|error| invalid(name, &error)),
        }
    }
}

fn invalid(name: &'static str, message: &dyn Display) -> ConfigError {
    ConfigError::Environment { name, message: message.to_string() }
}

/// The database that Amazon's RDS names in five variables, as sphinx-meme takes them where there is no `DATABASE_URL`: over
/// TLS, unless libpq's own `PGSSLMODE` says otherwise.
fn rds(env: &Environment<'_>) -> Result<Option<DatabaseUrl>, ConfigError> {
    let Some(host) = env.text("RDS_HOSTNAME")? else { return Ok(None) };
    let needed = |name| match env.text(name) {
        Ok(None) => Err(invalid(name, &"is not set, but RDS_HOSTNAME is")),
        value => value,
    };
    let port = env.one_of("RDS_PORT", port, PORT)?.unwrap_or(5432);
    let (name, user) = (needed("RDS_DB_NAME")?, needed("RDS_USERNAME")?);
    let password = Secret::new(env.text("RDS_PASSWORD")?.unwrap_or_default());
    let sslmode = env.text("PGSSLMODE")?.unwrap_or_else(|| "require".to_owned());
    let encoded = |text: &str| utf8_percent_encode(text, NON_ALPHANUMERIC).to_string();
    let url = Secret::new(format!(
        "postgres://{}:{}@{host}:{port}/{}?sslmode={}",
        encoded(&user.unwrap_or_default()),
        encoded(password.expose()),
        encoded(&name.unwrap_or_default()),
        encoded(&sslmode),
    ));
    Ok(Some(DatabaseUrl::Postgres(url)))
}

const PORT: &str = "a number from 1 to 65535";

fn port(text: &str) -> Option<u16> {
    text.parse().ok().filter(|port| *port > 0)
}

fn storage_mode(text: &str) -> Option<StorageMode> {
    match text {
        "local" => Some(StorageMode::Local),
        "s3" | "S3" => Some(StorageMode::S3),
        _ => None,
    }
}

/// The spellings that Go's `strconv.ParseBool` takes.
fn boolean(text: &str) -> Option<bool> {
    match text {
        "1" | "t" | "T" | "true" | "TRUE" | "True" => Some(true),
        "0" | "f" | "F" | "false" | "FALSE" | "False" => Some(false),
        _ => None,
    }
}

/// Why a list of master keys cannot be read.
#[derive(Debug, thiserror::Error)]
enum MasterKeysError {
    /// No key between two commas.
    #[error("expected KEY[@TIME],…: a key is missing")]
    NoKey,
    /// What follows `@` is neither a time nor `retired`.
    #[error("expected KEY[@TIME],… or KEY@retired with times as 2026-01-01T00:00:00Z")]
    NoTime,
}

/// Reads `KEY[@TIME],…`: each key as in the file, and from when on it makes tokens (RFC 3339; always, if not said), or
/// `KEY@retired`.
fn master_keys(text: &str) -> Result<Vec<MasterKeySettings>, MasterKeysError> {
    let key = |item: &str| {
        let (key, mints_from, retired) = match item.trim().rsplit_once('@') {
            None => (item.trim(), OffsetDateTime::UNIX_EPOCH, false),
            Some((key, "retired")) => (key, OffsetDateTime::UNIX_EPOCH, true),
            Some((key, time)) => {
                (key, OffsetDateTime::parse(time, &Rfc3339).map_err(|_| MasterKeysError::NoTime)?, false)
            }
        };
        if key.is_empty() {
            return Err(MasterKeysError::NoKey);
        }
        Ok(MasterKeySettings { key: key.into(), mints_from, retired })
    };
    text.split(',').map(key).collect()
}
