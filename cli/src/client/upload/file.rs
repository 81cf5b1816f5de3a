//! The file that is to be uploaded.

use std::{
    fs::{self, File, Metadata},
    io::{self, Read},
    path::{Path, PathBuf},
    time::SystemTime,
};

use futures_util::{Stream, StreamExt};
use sluice_common::muid::{Hasher, Muid};
use tokio::io::AsyncReadExt;
use tokio_util::io::ReaderStream;

use crate::client::progress::Progress;

const PIECE_LEN: usize = 256 * 1024;

/// A file as it was when it was hashed.
#[derive(Debug, Clone)]
pub struct LocalFile {
    path: PathBuf,
    len: u64,
    modified: Option<SystemTime>,
    muid: Muid,
}

/// Why a file cannot be uploaded. Names it.
#[derive(Debug, thiserror::Error)]
pub enum FileError {
    /// It cannot be read.
    #[error("{path}: {cause}", path = path.display())]
    Io {
        /// Which.
        path: PathBuf,
        /// What the system says.
        cause: io::Error,
    },
    /// A folder, a device or the like.
    #[error("{path}: not a regular file", path = path.display())]
    NotRegular {
        /// Which.
        path: PathBuf,
    },
    /// It has no bytes.
    #[error("{path}: the file is empty", path = path.display())]
    Empty {
        /// Which.
        path: PathBuf,
    },
    /// The server stored something else.
    #[error("the server stored something else than was sent: {stored} instead of {sent}")]
    StoredOther {
        /// What the file hashes to.
        sent: Muid,
        /// What the server says.
        stored: Muid,
    },
    /// It is not what was hashed.
    #[error("{path}: the file changed meanwhile", path = path.display())]
    Changed {
        /// Which.
        path: PathBuf,
    },
}

impl LocalFile {
    /// Hashes the file at `path`, which takes about a second a gigabyte.
    pub async fn open(path: &Path) -> Result<Self, FileError> {
        let path = path.to_owned();
        let hashed = tokio::task::spawn_blocking(move || Self::hash(path));
        hashed.await.map_err(|cause| FileError::Io { path: PathBuf::new(), cause: io::Error::other(cause) })?
    }

    fn hash(path: PathBuf) -> Result<Self, FileError> {
        let io = |cause| FileError::Io { path: path.clone(), cause };
        // Looked at first: to open a pipe would wait until somebody writes into it.
        if !fs::metadata(&path).map_err(io)?.is_file() {
            return Err(FileError::NotRegular { path });
        }
        let mut file = File::open(&path).map_err(io)?;
        let before = file.metadata().map_err(io)?;
        if before.len() == 0 {
            return Err(FileError::Empty { path });
        }
        let progress = Progress::new("hashing", 0, before.len());
        let mut hasher = Hasher::new();
        let mut piece = vec![0; PIECE_LEN];
        let mut len = 0;
        loop {
            let n = file.read(&mut piece).map_err(io)?;
            if n == 0 {
                break;
            }
            hasher.update(&piece[..n]);
            len += n as u64;
            progress.advance(n);
        }
        progress.clear();
        let local = Self { len, modified: before.modified().ok(), muid: hasher.finish(), path };
        local.check(&before)?;
        Ok(local)
    }

    /// Its length in bytes.
    pub fn len(&self) -> u64 {
        self.len
    }

    /// The hash of its content.
    pub fn muid(&self) -> Muid {
        self.muid
    }

    /// The last part of its path.
    pub fn name(&self) -> String {
        self.path.file_name().map_or_else(|| "file".to_owned(), |name| name.to_string_lossy().into_owned())
    }

    /// Its bytes, [`Self::len`] of them or an error.
    ///
    /// Errors: [`FileError::Changed`] when it is no longer what was hashed.
    pub async fn stream(
        &self,
        progress: Progress,
    ) -> Result<impl Stream<Item = io::Result<bytes::Bytes>> + Send + 'static, FileError> {
        let io = |cause| FileError::Io { path: self.path.clone(), cause };
        let file = tokio::fs::File::open(&self.path).await.map_err(io)?;
        self.check(&file.metadata().await.map_err(io)?)?;
        let pieces = ReaderStream::with_capacity(file.take(self.len), PIECE_LEN);
        Ok(pieces.inspect(move |piece| progress.advance(piece.as_ref().map_or(0, |bytes| bytes.len()))))
    }

    fn check(&self, now: &Metadata) -> Result<(), FileError> {
        if now.len() == self.len && now.modified().ok() == self.modified {
            Ok(())
        } else {
            Err(FileError::Changed { path: self.path.clone() })
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn is_hashed_and_streamed_whole() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a");
        let bytes: Vec<u8> = (0..700_001_u32).map(|i| i as u8).collect();
        fs::write(&path, &bytes).unwrap();
        let file = LocalFile::open(&path).await.unwrap();
        assert_eq!((file.len(), file.name().as_str()), (700_001, "a"));
        assert_eq!(file.muid(), Muid::of(&bytes));

        let stream = file.stream(Progress::new("test", 0, file.len())).await.unwrap();
        let pieces: Vec<_> = stream.map(Result::unwrap).collect().await;
        assert!(pieces.concat() == bytes);
    }

    #[tokio::test]
    async fn refuses_what_cannot_be_uploaded() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a");
        assert!(matches!(LocalFile::open(&path).await, Err(FileError::Io { .. })));
        assert!(matches!(LocalFile::open(dir.path()).await, Err(FileError::NotRegular { .. })));
        let pipe = dir.path().join("pipe");
        rustix::fs::mkfifoat(rustix::fs::CWD, &pipe, rustix::fs::Mode::RUSR).unwrap();
        assert!(matches!(LocalFile::open(&pipe).await, Err(FileError::NotRegular { .. })));
        fs::write(&path, "").unwrap();
        assert!(matches!(LocalFile::open(&path).await, Err(FileError::Empty { .. })));
        fs::write(&path, "abc").unwrap();
        let file = LocalFile::open(&path).await.unwrap();
        fs::write(&path, "abcd").unwrap();
        assert!(matches!(file.stream(Progress::new("test", 0, 3)).await, Err(FileError::Changed { .. })));
    }
}
