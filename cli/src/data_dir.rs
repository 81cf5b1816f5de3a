//! The data folder, used by one process at a time.

use std::{
    fs::{File, TryLockError},
    io,
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
};

use crate::{config::Parts, files};

/// The locks of the parts that run here; given back when it is dropped, and by the system when the process ends.
#[derive(Debug)]
pub struct DataDir {
    _locks: Vec<File>,
}

/// Why the data folder cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum DataDirError {
    /// Another process runs the same part on it.
    #[error("another `sluice` uses {} already ({} is locked)", dir.display(), lock.display())]
    InUse {
        /// The folder.
        dir: PathBuf,
        /// The file that the other has locked.
        lock: PathBuf,
    },
    /// It is something else.
    #[error("the data folder (--data, data_dir) {} is not a folder", .0.display())]
    NotAFolder(PathBuf),
    /// It cannot be made, or written.
    #[error("the data folder {}: {source}", path.display())]
    Io {
        /// The folder or a file in it.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
}

impl DataDir {
    /// Makes the folder if it is missing, and takes it for `parts`. A gateway and a backend may share it.
    pub fn take(dir: &Path, parts: Parts) -> Result<Self, DataDirError> {
        let io = |path: &Path| {
            let path = path.to_owned();
            move |source| DataDirError::Io { path, source }
        };
        if dir.exists() && !dir.is_dir() {
            return Err(DataDirError::NotAFolder(dir.to_owned()));
        }
        files::make_dir(dir).map_err(io(dir))?;
        let mut locks = Vec::new();
        for (name, wanted) in [("gateway.lock", parts.has_gateway()), ("backend.lock", parts.has_backend())] {
            if !wanted {
                continue;
            }
            let path = dir.join(name);
            let lock = File::options().create(true).append(true).mode(0o600).open(&path).map_err(io(&path))?;
            match lock.try_lock() {
                Ok(()) => locks.push(lock),
                Err(TryLockError::WouldBlock) => {
                    return Err(DataDirError::InUse { dir: dir.to_owned(), lock: path });
                }
                Err(TryLockError::Error(source)) => return Err(io(&path)(source)),
            }
        }
        Ok(Self { _locks: locks })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn is_used_by_one_process_a_part() {
        let dir = tempfile::tempdir().unwrap();
        let dir = dir.path().join("data");
        let all = DataDir::take(&dir, Parts::All).unwrap();
        for parts in [Parts::All, Parts::Gateway, Parts::Backend] {
            let error = DataDir::take(&dir, parts).unwrap_err();
            assert!(matches!(error, DataDirError::InUse { .. }), "{parts:?}: {error}");
        }
        drop(all);
        let _gateway = DataDir::take(&dir, Parts::Gateway).unwrap();
        let _backend = DataDir::take(&dir, Parts::Backend).unwrap();
        assert!(DataDir::take(&dir, Parts::All).is_err());
    }

    #[test]
    fn says_what_is_in_the_way() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("file");
        std::fs::write(&file, "").unwrap();
        let error = DataDir::take(&file, Parts::All).unwrap_err().to_string();
        assert_eq!(error, format!("the data folder (--data, data_dir) {} is not a folder", file.display()));
        let error = DataDir::take(&file.join("in it"), Parts::All).unwrap_err().to_string();
        assert!(error.starts_with(&format!("the data folder {}: ", file.join("in it").display())), "{error}");
    }
}
