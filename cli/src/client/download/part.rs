//! A download that is not whole yet.

use std::{
    fs::{self, TryLockError},
    io::{self, Read},
    path::{Path, PathBuf},
};

use sluice_common::muid::{Hasher, Muid};
use tokio::io::{AsyncSeekExt, AsyncWriteExt};

use super::DownloadError;

const PIECE_LEN: usize = 256 * 1024;

/// The file that a download grows in, and the hash of what it holds. Locked: one run at a time writes it.
pub(super) struct PartFile {
    path: PathBuf,
    file: tokio::fs::File,
    hasher: Hasher,
    len: u64,
    muid: Muid,
}

impl PartFile {
    /// The part at `path` of the content `muid`; what an earlier run left in it is hashed.
    pub(super) async fn open(path: PathBuf, muid: Muid) -> Result<Self, DownloadError> {
        let io = |cause| DownloadError::Io { path: path.clone(), cause };
        let opened = tokio::task::spawn_blocking({
            let path = path.clone();
            move || open_and_hash(path)
        });
        let (file, hasher, len) = opened.await.map_err(|cause| io(io::Error::other(cause)))??;
        Ok(Self { file: tokio::fs::File::from_std(file), path, hasher, len, muid })
    }

    /// Bytes in it.
    pub(super) fn len(&self) -> u64 {
        self.len
    }

    /// Whether it holds all of the content and nothing else.
    pub(super) fn is_whole(&self) -> bool {
        self.got() == self.muid
    }

    /// Appends.
    pub(super) async fn write(&mut self, bytes: &[u8]) -> Result<(), DownloadError> {
        let written = self.file.write_all(bytes).await;
        self.io(written)?;
        self.hasher.update(bytes);
        self.len += bytes.len() as u64;
        Ok(())
    }

    /// Has everything written, so that a failed write is known.
    pub(super) async fn flush(&mut self) -> Result<(), DownloadError> {
        let flushed = self.file.flush().await;
        self.io(flushed)
    }

    /// Begins again.
    pub(super) async fn clear(&mut self) -> Result<(), DownloadError> {
        let cleared = async {
            self.file.set_len(0).await?;
            self.file.rewind().await
        };
        let cleared = cleared.await;
        self.io(cleared)?;
        self.hasher = Hasher::new();
        self.len = 0;
        Ok(())
    }

    /// Checks the content and gives the file its name; replaces what is there only when told to.
    ///
    /// Errors: [`DownloadError::OtherContent`], and the part is removed, for what is in it is of no use.
    pub(super) async fn finish(&mut self, path: &Path, replace: bool) -> Result<(), DownloadError> {
        if !self.is_whole() {
            // Whatever becomes of it, the error is that of the content.
            let _ = fs::remove_file(&self.path);
            return Err(DownloadError::OtherContent { wanted: self.muid, got: self.got() });
        }
        let synced = self.file.sync_all().await;
        self.io(synced)?;
        if !replace {
            // Takes the name, so that a file that came up meanwhile is not replaced.
            match fs::File::create_new(path) {
                Err(cause) if cause.kind() == io::ErrorKind::AlreadyExists => {
                    return Err(DownloadError::Exists { path: path.to_owned() });
                }
                other => other.map_err(|cause| DownloadError::Io { path: path.to_owned(), cause })?,
            };
        }
        fs::rename(&self.path, path).map_err(|cause| DownloadError::Io { path: path.to_owned(), cause })
    }

    /// Leaves nothing behind when nothing came.
    pub(super) fn remove_if_empty(&self) {
        if self.len == 0 {
            // The file may have got its name, and an empty one that stays does no harm.
            let _ = fs::remove_file(&self.path);
        }
    }

    fn got(&self) -> Muid {
        self.hasher.clone().finish()
    }

    fn io<T>(&self, result: io::Result<T>) -> Result<T, DownloadError> {
        result.map_err(|cause| DownloadError::Io { path: self.path.clone(), cause })
    }
}

fn open_and_hash(path: PathBuf) -> Result<(fs::File, Hasher, u64), DownloadError> {
    let io = |cause| DownloadError::Io { path: path.clone(), cause };
    let mut file = fs::File::options().read(true).write(true).create(true).truncate(false).open(&path).map_err(io)?;
    match file.try_lock() {
        Ok(()) => {}
        Err(TryLockError::WouldBlock) => return Err(DownloadError::Locked { path }),
        Err(TryLockError::Error(cause)) => return Err(io(cause)),
    }
    let mut hasher = Hasher::new();
    let mut piece = vec![0; PIECE_LEN];
    let mut len = 0;
    loop {
        let n = file.read(&mut piece).map_err(io)?;
        if n == 0 {
            return Ok((file, hasher, len));
        }
        hasher.update(&piece[..n]);
        len += n as u64;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn muid(bytes: &[u8]) -> Muid {
        Muid::of(bytes)
    }

    #[tokio::test]
    async fn goes_on_where_it_stopped_and_is_named_only_when_whole() {
        let dir = tempfile::tempdir().unwrap();
        let (part, whole) = (dir.path().join("a.part"), dir.path().join("a"));
        let mut file = PartFile::open(part.clone(), muid(b"abcdef")).await.unwrap();
        file.write(b"abc").await.unwrap();
        file.flush().await.unwrap();
        assert!(matches!(PartFile::open(part.clone(), muid(b"")).await, Err(DownloadError::Locked { .. })));
        drop(file);

        let mut file = PartFile::open(part.clone(), muid(b"abcdef")).await.unwrap();
        assert_eq!((file.len(), file.is_whole()), (3, false));
        file.write(b"def").await.unwrap();
        assert!(file.is_whole());
        file.finish(&whole, false).await.unwrap();
        assert_eq!(fs::read(&whole).unwrap(), b"abcdef");
        assert!(!part.exists());
    }

    #[tokio::test]
    async fn never_replaces_a_file_unless_told_to() {
        let dir = tempfile::tempdir().unwrap();
        let (part, whole) = (dir.path().join("a.part"), dir.path().join("a"));
        fs::write(&whole, "mine").unwrap();
        let mut file = PartFile::open(part.clone(), muid(b"new")).await.unwrap();
        file.write(b"new").await.unwrap();
        assert!(matches!(file.finish(&whole, false).await, Err(DownloadError::Exists { .. })));
        assert_eq!(fs::read(&whole).unwrap(), b"mine");
        file.finish(&whole, true).await.unwrap();
        assert_eq!(fs::read(&whole).unwrap(), b"new");
    }

    #[tokio::test]
    async fn is_left_behind_only_when_something_came() {
        let dir = tempfile::tempdir().unwrap();
        let part = dir.path().join("a.part");
        let mut file = PartFile::open(part.clone(), muid(b"abc")).await.unwrap();
        file.remove_if_empty();
        assert!(!part.exists());
        drop(file);

        file = PartFile::open(part.clone(), muid(b"abc")).await.unwrap();
        file.write(b"a").await.unwrap();
        file.remove_if_empty();
        assert!(part.exists());
    }

    #[tokio::test]
    async fn other_content_is_an_error_and_is_not_kept() {
        let dir = tempfile::tempdir().unwrap();
        let (part, whole) = (dir.path().join("a.part"), dir.path().join("a"));
        fs::write(&part, "left over and longer").unwrap();
        let mut file = PartFile::open(part.clone(), muid(b"abc")).await.unwrap();
        file.clear().await.unwrap();
        file.write(b"abd").await.unwrap();
        let error = file.finish(&whole, true).await.unwrap_err();
        assert!(matches!(error, DownloadError::OtherContent { got, .. } if got == muid(b"abd")));
        assert!(!part.exists() && !whole.exists());
    }
}
