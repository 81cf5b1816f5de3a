//! Copies as files of one folder.

use std::{
    fs::{DirBuilder, File, OpenOptions},
    io::{self, Read, Seek, SeekFrom, Write},
    mem,
    ops::Range,
    os::unix::fs::{DirBuilderExt, OpenOptionsExt},
    path::{Path, PathBuf},
    sync::Arc,
};

use async_trait::async_trait;
use bytes::Bytes;
use futures_util::stream;
use rustix::fs::{OFlags, fcntl_getfl, fcntl_setfl};
use tokio::task::{JoinError, JoinHandle, spawn_blocking};

use super::{BlobStore, BlobStream, BlobWriter, StoreError, StoreKey, StoreKind};

/// What is read at a time; one such piece is read ahead.
const PIECE_LEN: u64 = 128 * 1024;

/// What is written at a time. A multiple of every device's block.
const BLOCK_LEN: usize = 256 * 1024;

/// From which length on a file goes past the page cache. That saves a copy of each byte, leaves the cache to files that
/// are read, and nothing is left to be written when the file ends.
const DIRECT_FROM: u64 = 1024 * 1024;

/// Where memory must begin that a device reads from. <https://man7.org/linux/man-pages/man2/open.2.html>, O_DIRECT.
const ALIGNMENT: usize = 4096;

/// Keeps each copy as a file of one folder, named by its key. Files are only the server's own to read (mode 600), and
/// none of them is ever opened to be written a second time. Files of other names stay alone.
#[derive(Debug, Clone)]
pub struct LocalStore {
    dir: Arc<Path>,
}

impl LocalStore {
    /// The store in the folder `dir`, which is made (mode 700) if there is none.
    pub fn open(dir: &Path) -> Result<Self, StoreError> {
        let missing: Vec<_> = dir.ancestors().take_while(|dir| !dir.as_os_str().is_empty() && !dir.exists()).collect();
        DirBuilder::new().recursive(true).mode(0o700).create(dir)?;
        for made in missing {
            match made.parent() {
                Some(parent) if !parent.as_os_str().is_empty() => sync_folder(parent)?,
                _ => sync_folder(Path::new("."))?,
            }
        }
        Ok(Self { dir: dir.into() })
    }

    fn path(&self, key: &StoreKey) -> PathBuf {
        self.dir.join(key.as_str())
    }
}

#[async_trait]
impl BlobStore for LocalStore {
    fn kind(&self) -> StoreKind {
        StoreKind::Local
    }

    async fn create(&self, key: &StoreKey, _longest: u64) -> Result<Box<dyn BlobWriter>, StoreError> {
        let path = self.path(key);
        let file = blocking(move || create_new(&path)).await.map_err(|error| match error {
            StoreError::Io(error) if error.kind() == io::ErrorKind::AlreadyExists => StoreError::Taken,
            error => error,
        })?;
        Ok(Box::new(LocalWriter { dir: Arc::clone(&self.dir), state: Writing::Idle(Output::new(file)) }))
    }

    async fn len(&self, key: &StoreKey) -> Result<Option<u64>, StoreError> {
        let path = self.path(key);
        blocking(move || match std::fs::metadata(&path) {
            Ok(metadata) => Ok(metadata.is_file().then_some(metadata.len())),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        })
        .await
    }

    async fn read(&self, key: &StoreKey, range: Range<u64>) -> Result<BlobStream, StoreError> {
        let path = self.path(key);
        let start = range.start;
        let file = blocking(move || {
            let mut file = File::open(&path)?;
            file.seek(SeekFrom::Start(start))?;
            Ok(file)
        })
        .await
        .map_err(StoreError::missing)?;
        let reading = Reading::next(file, range.end.saturating_sub(start));
        Ok(Box::pin(stream::try_unfold(reading, Reading::step)))
    }

    async fn delete(&self, key: &StoreKey) -> Result<(), StoreError> {
        let (dir, path) = (Arc::clone(&self.dir), self.path(key));
        blocking(move || match std::fs::remove_file(&path) {
            // Its row is forgotten next, so a file that came back after a crash would stay for ever.
            Ok(()) => sync_folder(&dir),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            Err(error) => Err(error),
        })
        .await
    }

    async fn check(&self) -> Result<(), StoreError> {
        let path = self.path(&StoreKey::random()).with_extension("probe");
        blocking(move || {
            let written = create_new(&path)?.write_all(b"probe");
            std::fs::remove_file(&path)?;
            written
        })
        .await
    }
}

/// Writes one piece while the caller makes the next. No thread waits for the caller.
struct LocalWriter {
    dir: Arc<Path>,
    state: Writing,
}

enum Writing {
    Idle(Output),
    Busy(JoinHandle<io::Result<Output>>),
    Failed,
}

impl LocalWriter {
    /// The file, once what was handed over before is written.
    async fn output(&mut self) -> Result<Output, StoreError> {
        if let Writing::Busy(job) = &mut self.state {
            // Not taken out first: whoever gives up waiting here can come back.
            let done = job.await;
            self.state = Writing::Failed;
            self.state = Writing::Idle(flatten(done)?);
        }
        match mem::replace(&mut self.state, Writing::Failed) {
            Writing::Idle(output) => Ok(output),
            _ => Err(io::Error::from(io::ErrorKind::BrokenPipe).into()),
        }
    }
}

#[async_trait]
impl BlobWriter for LocalWriter {
    async fn write(&mut self, bytes: Bytes) -> Result<(), StoreError> {
        let mut output = self.output().await?;
        self.state = Writing::Busy(spawn_blocking(move || {
            output.write(&bytes)?;
            Ok(output)
        }));
        Ok(())
    }

    async fn finish(mut self: Box<Self>) -> Result<(), StoreError> {
        let output = self.output().await?;
        let dir = Arc::clone(&self.dir);
        blocking(move || {
            output.finish()?;
            sync_folder(&dir)
        })
        .await
    }
}

/// A file that is written in whole blocks, but for its end.
struct Output {
    file: File,
    /// Room for one block; it begins at [`Self::start`].
    memory: Vec<u8>,
    start: usize,
    /// How many bytes of the block are there.
    held: usize,
    written: u64,
    caching: Caching,
}

/// Whether a file goes through the page cache.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Caching {
    /// As long as it is short.
    Yet,
    /// It does not.
    Not,
    /// It does: not all file systems can do without.
    Always,
}

impl Output {
    fn new(file: File) -> Self {
        Self { file, memory: Vec::new(), start: 0, held: 0, written: 0, caching: Caching::Yet }
    }

    fn write(&mut self, mut bytes: &[u8]) -> io::Result<()> {
        if self.memory.is_empty() {
            self.memory = vec![0; BLOCK_LEN + ALIGNMENT];
            self.start = self.memory.as_ptr().align_offset(ALIGNMENT);
        }
        while !bytes.is_empty() {
            let (now, later) = bytes.split_at(bytes.len().min(BLOCK_LEN - self.held));
            let at = self.start + self.held;
            self.memory[at..at + now.len()].copy_from_slice(now);
            self.held += now.len();
            bytes = later;
            if self.held == BLOCK_LEN {
                self.write_held()?;
            }
        }
        Ok(())
    }

    fn write_held(&mut self) -> io::Result<()> {
        if self.caching == Caching::Yet && self.written >= DIRECT_FROM {
            self.caching = if self.set_direct(true).is_ok() { Caching::Not } else { Caching::Always };
        }
        let block = &self.memory[self.start..self.start + self.held];
        match self.file.write_all(block) {
            // Some file systems say only now that they cannot.
            Err(error) if self.caching == Caching::Not && error.kind() == io::ErrorKind::InvalidInput => {
                self.set_direct(false)?;
                self.caching = Caching::Always;
                self.file.seek(SeekFrom::Start(self.written))?;
                self.file.write_all(block)?;
            }
            written => written?,
        }
        self.written += self.held as u64;
        self.held = 0;
        Ok(())
    }

    fn set_direct(&self, direct: bool) -> io::Result<()> {
        let mut flags = fcntl_getfl(&self.file)?;
        flags.set(OFlags::DIRECT, direct);
        Ok(fcntl_setfl(&self.file, flags)?)
    }

    /// Writes the end, which is no whole block, and makes all of it durable.
    fn finish(mut self) -> io::Result<()> {
        if self.caching == Caching::Not {
            self.set_direct(false)?;
        }
        self.caching = Caching::Always;
        self.write_held()?;
        self.file.sync_all()
    }
}

/// What is left of a range, the next piece of it being read.
struct Reading {
    /// Bytes after the piece that is being read.
    after: u64,
    piece: Option<ReadJob>,
}

type ReadJob = JoinHandle<io::Result<(File, Vec<u8>)>>;

impl Reading {
    /// Starts to read the next piece of the `left` bytes that are left.
    fn next(file: File, left: u64) -> Self {
        let len = left.min(PIECE_LEN);
        let piece = (len > 0).then(|| {
            spawn_blocking(move || {
                let mut piece = Vec::with_capacity(len as usize);
                (&file).take(len).read_to_end(&mut piece)?;
                if (piece.len() as u64) < len { Err(io::ErrorKind::UnexpectedEof.into()) } else { Ok((file, piece)) }
            })
        });
        Self { after: left - len, piece }
    }

    async fn step(self) -> Result<Option<(Bytes, Self)>, StoreError> {
        let Some(piece) = self.piece else { return Ok(None) };
        let (file, piece) = flatten(piece.await).map_err(|error| StoreError::missing(error.into()))?;
        Ok(Some((piece.into(), Self::next(file, self.after))))
    }
}

impl StoreError {
    /// What it means to a reader that there is no file, or no more of it.
    fn missing(self) -> Self {
        match self {
            Self::Io(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::UnexpectedEof) => {
                Self::Missing
            }
            other => other,
        }
    }
}

fn create_new(path: &Path) -> io::Result<File> {
    OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)
}

/// Makes the names in `dir` durable: the sync of a file does not sync the folder that names it.
fn sync_folder(dir: &Path) -> io::Result<()> {
    File::open(dir)?.sync_all()
}

async fn blocking<T: Send + 'static>(work: impl FnOnce() -> io::Result<T> + Send + 'static) -> Result<T, StoreError> {
    Ok(flatten(spawn_blocking(work).await)?)
}

fn flatten<T>(done: Result<io::Result<T>, JoinError>) -> io::Result<T> {
    done.map_err(io::Error::other)?
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;
    use crate::store::contract::{self, blob_store_tests};

    fn open() -> (tempfile::TempDir, LocalStore) {
        let folder = tempfile::tempdir().unwrap();
        let store = LocalStore::open(&folder.path().join("a/b")).unwrap();
        (folder, store)
    }

    blob_store_tests!(open());

    fn mode(path: &Path) -> u32 {
        std::fs::metadata(path).unwrap().permissions().mode() & 0o777
    }

    #[tokio::test]
    async fn folder_and_files_are_the_servers_own() {
        let (folder, store) = open();
        let key = StoreKey::random();
        contract::put(&store, &key, b"hello").await;
        assert_eq!(mode(&folder.path().join("a/b")), 0o700);
        let path = folder.path().join("a/b").join(key.as_str());
        assert_eq!((mode(&path), std::fs::read(&path).unwrap()), (0o600, b"hello".to_vec()));
        // Opened again: what is there stays, the folder's mode too.
        LocalStore::open(&folder.path().join("a/b")).unwrap();
        assert!(path.exists());
    }

    #[tokio::test]
    async fn check_leaves_nothing_and_sees_a_lost_folder() {
        let (folder, store) = open();
        store.check().await.unwrap();
        assert_eq!(std::fs::read_dir(folder.path().join("a/b")).unwrap().count(), 0);
        std::fs::remove_dir_all(folder.path().join("a")).unwrap();
        assert!(matches!(store.check().await, Err(StoreError::Io(_))));
        assert!(matches!(store.create(&StoreKey::random(), 1).await, Err(StoreError::Io(_))));
    }

    #[tokio::test]
    async fn files_of_every_length_are_whole_with_and_without_the_page_cache() {
        let (_folder, store) = open();
        let direct = DIRECT_FROM as usize;
        let bytes: Vec<u8> = (0..direct + 3 * BLOCK_LEN).map(|at| (at / 7 + at / BLOCK_LEN) as u8).collect();
        for len in [BLOCK_LEN - 1, BLOCK_LEN, direct, direct + 1, direct + BLOCK_LEN, direct + 2 * BLOCK_LEN + 4_097] {
            for piece in [65_568, BLOCK_LEN + 512] {
                let key = StoreKey::random();
                let mut writer = store.create(&key, len as u64).await.unwrap();
                for piece in bytes[..len].chunks(piece) {
                    writer.write(Bytes::copy_from_slice(piece)).await.unwrap();
                }
                writer.finish().await.unwrap();
                assert!(std::fs::read(store.path(&key)).unwrap() == bytes[..len], "{len} in pieces of {piece}");
            }
        }
    }

    #[test]
    fn a_file_that_cannot_go_past_the_page_cache_goes_through_it() {
        let folder = tempfile::tempdir_in(env!("CARGO_MANIFEST_DIR")).unwrap();
        let path = folder.path().join("a");
        let bytes: Vec<u8> = (0..DIRECT_FROM as usize + 5 * BLOCK_LEN + 7).map(|at| (at / 3) as u8).collect();
        let mut output = Output::new(create_new(&path).unwrap());
        let (first, rest) = bytes.split_at(DIRECT_FROM as usize + 2 * BLOCK_LEN);
        output.write(first).unwrap();
        assert_eq!(output.caching, Caching::Not, "the file system of the tests can");
        // What is not aligned the kernel refuses.
        output.start += 1;
        output.write(rest).unwrap();
        assert_eq!(output.caching, Caching::Always);
        output.finish().unwrap();
        assert!(std::fs::read(&path).unwrap() == bytes);
    }

    #[tokio::test]
    async fn a_failed_write_fails_the_copy() {
        let (_folder, store) = open();
        let file = File::open(&*store.dir).unwrap(); // Not writable: every write fails.
        let mut writer = LocalWriter { dir: Arc::clone(&store.dir), state: Writing::Idle(Output::new(file)) };
        writer.write(Bytes::from(vec![0; BLOCK_LEN])).await.unwrap();
        assert!(matches!(writer.write(Bytes::from_static(b"b")).await, Err(StoreError::Io(_))));
        assert!(matches!(Box::new(writer).finish().await, Err(StoreError::Io(_))));
    }
}
