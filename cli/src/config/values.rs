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

/// Which database: `sqlite:PATH`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DatabaseUrl(PathBuf);

/// Why a text names no database that can be used. Says nothing of the text, which may hold a password.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum DatabaseUrlError {
    /// PostgreSQL, which a later version can.
    #[error("PostgreSQL is not supported yet; use sqlite:PATH")]
    Postgres,
    /// Something else.
    #[error("not a database URL; use sqlite:PATH")]
    Unknown,
}

impl DatabaseUrl {
    /// The SQLite database in the file `path`.
    pub fn sqlite(path: impl Into<PathBuf>) -> Self {
        Self(path.into())
    }

    /// The file of the SQLite database.
    pub fn path(&self) -> &Path {
        &self.0
    }
}

impl FromStr for DatabaseUrl {
    type Err = DatabaseUrlError;

    fn from_str(url: &str) -> Result<Self, DatabaseUrlError> {
        if url.starts_with("postgres:") || url.starts_with("postgresql:") {
            return Err(DatabaseUrlError::Postgres);
        }
        let path = url.strip_prefix("sqlite:").ok_or(DatabaseUrlError::Unknown)?;
        let path = path.strip_prefix("//").unwrap_or(path);
        // A query would be options of a driver, and `:memory:` would forget all at the end.
        if path.is_empty() || path.contains(['?', '\0']) || path == ":memory:" {
            return Err(DatabaseUrlError::Unknown);
        }
        Ok(Self(path.into()))
    }
}

impl fmt::Display for DatabaseUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "sqlite:{}", self.0.display())
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
    fn only_sqlite_files_are_databases() {
        for (url, path) in [("sqlite:a.db", "a.db"), ("sqlite:///var/a.db", "/var/a.db"), ("sqlite://a.db", "a.db")] {
            assert_eq!(url.parse(), Ok(DatabaseUrl::sqlite(path)), "{url}");
        }
        for url in ["postgres://u:hunter2@h/db", "postgresql:///db"] {
            let error = url.parse::<DatabaseUrl>().unwrap_err();
            assert_eq!(error, DatabaseUrlError::Postgres);
            assert!(!error.to_string().contains("hunter2"));
        }
        for url in ["", "a.db", "mysql://h/db", "sqlite:", "sqlite::memory:", "sqlite:a.db?mode=ro"] {
            assert_eq!(url.parse::<DatabaseUrl>(), Err(DatabaseUrlError::Unknown), "{url}");
        }
    }
}
