//! Values that need more than their type: where keys are, which database.

use std::{
    fmt,
    path::{Path, PathBuf},
    str::FromStr,
};

use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error};
use sluice_common::secret::Secret;

/// Where a key is: `file:PATH`, or the key itself.
#[derive(Debug, Clone, PartialEq)]
pub enum KeySource {
    /// A file that holds the key as text.
    File(PathBuf),
    /// The key.
    Value(Secret<String>),
}

impl From<&str> for KeySource {
    fn from(text: &str) -> Self {
        match text.strip_prefix("file:") {
            Some(path) => Self::File(path.into()),
            None => Self::Value(Secret::new(text.to_owned())),
        }
    }
}

/// `file:PATH`, or `[redacted]`.
impl fmt::Display for KeySource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File(path) => write!(f, "file:{}", path.display()),
            Self::Value(value) => value.fmt(f),
        }
    }
}

/// Which database: `sqlite:PATH`, or `postgres://…`, which prints as `postgres://[redacted]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum DatabaseUrl {
    /// The SQLite database in this file.
    Sqlite(PathBuf),
    /// The PostgreSQL database at this URL, in which a password may stand.
    Postgres(Secret<String>),
}

/// Why a text names no database that can be used. Says nothing of the text, which may hold a password.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not a database URL; use sqlite:PATH or postgres://USER:PASSWORD@HOST/NAME")]
pub struct DatabaseUrlError;

impl DatabaseUrl {
    /// The SQLite database in the file `path`.
    pub fn sqlite(path: impl Into<PathBuf>) -> Self {
        Self::Sqlite(path.into())
    }

    /// The file of a SQLite database.
    pub fn sqlite_path(&self) -> Option<&Path> {
        match self {
            Self::Sqlite(path) => Some(path),
            Self::Postgres(_) => None,
        }
    }
}

impl FromStr for DatabaseUrl {
    type Err = DatabaseUrlError;

    fn from_str(url: &str) -> Result<Self, DatabaseUrlError> {
        if url.starts_with("postgres://") || url.starts_with("postgresql://") {
            return Ok(Self::Postgres(Secret::new(url.to_owned())));
        }
        let path = url.strip_prefix("sqlite:").ok_or(DatabaseUrlError)?;
        let path = path.strip_prefix("//").unwrap_or(path);
        // A query would be options of a driver, and `:memory:` would forget all at the end.
        if path.is_empty() || path.contains(['?', '\0']) || path == ":memory:" {
            return Err(DatabaseUrlError);
        }
        Ok(Self::Sqlite(path.into()))
    }
}

impl fmt::Display for DatabaseUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Sqlite(path) => write!(f, "sqlite:{}", path.display()),
            Self::Postgres(url) => write!(f, "postgres://{url}"),
        }
    }
}

impl<'de> Deserialize<'de> for KeySource {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Secret::<String>::deserialize(deserializer).map(|text| text.expose().as_str().into())
    }
}

impl Serialize for KeySource {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for DatabaseUrl {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Secret::<String>::deserialize(deserializer)?.expose().parse().map_err(D::Error::custom)
    }
}

impl Serialize for DatabaseUrl {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_in_a_file_or_stands_there_and_is_never_printed() {
        let file = KeySource::from("file:/run/secrets/jwt");
        assert_eq!(file, KeySource::File("/run/secrets/jwt".into()));
        assert_eq!(file.to_string(), "file:/run/secrets/jwt");
        let value = KeySource::from("hunter2");
        assert_eq!(value, KeySource::Value(Secret::new("hunter2".to_owned())));
        assert!(!format!("{value} {value:?}").contains("hunter2"));
    }

    #[test]
    fn databases_are_sqlite_files_or_in_postgres_whose_url_is_never_printed() {
        for (url, path) in [("sqlite:a.db", "a.db"), ("sqlite:///var/a.db", "/var/a.db"), ("sqlite://a.db", "a.db")] {
            assert_eq!(url.parse(), Ok(DatabaseUrl::sqlite(path)), "{url}");
        }
        for url in ["postgres://u:hunter2@h/db", "postgresql:///db"] {
            let parsed: DatabaseUrl = url.parse().unwrap();
            assert_eq!(parsed, DatabaseUrl::Postgres(Secret::new(url.to_owned())));
            assert_eq!(parsed.to_string(), "postgres://[redacted]");
            assert!(!format!("{parsed:?}").contains("hunter2"));
        }
        for url in ["", "a.db", "mysql://h/db", "postgres:db", "sqlite:", "sqlite::memory:", "sqlite:a.db?mode=ro"] {
            assert_eq!(url.parse::<DatabaseUrl>(), Err(DatabaseUrlError), "{url}");
        }
    }
}
