//! The admin token: a file in the gateway's data folder, which the first start makes.

use std::path::{Path, PathBuf};

use sluice_common::secret::Secret;
use sluice_gateway::admin::api::AdminToken;

use super::{KeyError, exists, make, read};
use crate::{config::KeySource, files};

const NAME: &str = "the admin token";

/// Where it is.
pub fn path(data_dir: &Path) -> PathBuf {
    data_dir.join("admin.token")
}

/// Its text, from the file at `path`.
pub fn read_text(path: &Path) -> Result<Secret<String>, KeyError> {
    read(NAME, &KeySource::File(path.to_owned()))
}

/// The token of the gateway whose data is in `data_dir`. One that is missing is made, readable by its owner only: nothing
/// depends on it but who uses it.
pub fn read_or_make(data_dir: &Path) -> Result<AdminToken, KeyError> {
    let path = path(data_dir);
    if !exists(NAME, &path)? {
        let unwritable = |source| KeyError::Unwritable { path: path.clone(), source };
        files::make_dir(data_dir).map_err(unwritable)?;
        make(&path).map_err(unwritable)?;
        tracing::info!(path = %path.display(), "made a new admin token");
    }
    let text = read_text(&path)?;
    AdminToken::new(&text).map_err(|_| KeyError::TooShort { name: NAME, place: path.display().to_string() })
}

#[cfg(test)]
mod tests {
    use std::{fs, os::unix::fs::PermissionsExt};

    use super::*;

    #[test]
    fn is_made_once_for_its_owner_only_and_may_be_anyones_own() {
        let dir = tempfile::tempdir().unwrap();
        let data = dir.path().join("data");
        let made = read_or_make(&data).unwrap();
        let text = fs::read_to_string(path(&data)).unwrap();
        assert_eq!(fs::metadata(path(&data)).unwrap().permissions().mode() & 0o777, 0o600);
        assert!(made.is(text.trim()) && read_or_make(&data).unwrap().is(text.trim()));

        fs::write(path(&data), "a token of my own, which is long enough\n").unwrap();
        assert!(read_or_make(&data).unwrap().is("a token of my own, which is long enough"));
        fs::write(path(&data), "short").unwrap();
        let error = read_or_make(&data).unwrap_err().to_string();
        assert!(error.starts_with("the admin token: ") && error.contains("less than 32 characters"), "{error}");
    }
}
