//! Room on the disk: no upload takes what the databases need.
//!
//! The stored files are often on the disk of a SQLite database, and a database that cannot write serves nobody. So some
//! room is left free, and an upload that would take of it is refused before it begins. What uploads under way have
//! declared and not written yet is as good as taken, and of one that declared nothing, or too little, a piece at a time.

use std::{
    io, mem,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use tokio::task::spawn_blocking;

/// What is promised at a time to an upload whose length was not declared.
const PIECE_BYTES: u64 = 8 * 1024 * 1024;

/// How often it is logged that uploads are refused.
const LOG_EVERY: Duration = Duration::from_secs(60);

/// How many bytes the disk of a folder has free.
type Probe = dyn Fn(&Path) -> io::Result<u64> + Send + Sync;

/// Keeps some room free on each of some disks.
pub struct DiskGuard {
    places: Vec<Place>,
    min_free_bytes: u64,
    probe: Box<Probe>,
    state: Mutex<State>,
}

/// A folder whose disk is looked at.
#[derive(Debug, PartialEq, Eq)]
struct Place {
    dir: PathBuf,
    /// Whether uploads are stored on this disk.
    takes_uploads: bool,
}

#[derive(Default)]
struct State {
    /// What uploads under way have declared and not written yet.
    promised_bytes: u64,
    logged: Option<Instant>,
}

/// The room of an upload that is under way, until it is dropped.
pub struct Room {
    guard: Arc<DiskGuard>,
    /// What was declared, or is the next piece, and is not written yet.
    promised_bytes: u64,
}

/// An upload would take room that the databases need.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("there is no room for this upload now")]
pub struct NoRoom;

impl DiskGuard {
    /// Keeps `min_free_bytes` free where uploads are stored, if that is a folder, and where a database is, if that is one;
    /// 0: nothing is kept free.
    pub fn new(store_dir: Option<&Path>, database_dir: Option<&Path>, min_free_bytes: u64) -> Self {
        let device = |dir: &Path| std::fs::metadata(dir).map(|metadata| metadata.dev()).ok();
        let same = |one: Option<&Path>| one.and_then(device) == database_dir.and_then(device);
        let files = store_dir.map(|dir| Place { dir: dir.to_owned(), takes_uploads: true });
        let rows = database_dir.filter(|_| store_dir.is_none() || !same(store_dir));
        let rows = rows.map(|dir| Place { dir: dir.to_owned(), takes_uploads: false });
        let places = files.into_iter().chain(rows).filter(|_| min_free_bytes > 0).collect();
        Self { places, min_free_bytes, probe: Box::new(free_bytes), state: Mutex::default() }
    }

    /// Looks at no disk.
    pub fn none() -> Self {
        Self::new(None, None, 0)
    }

    /// The same with other numbers of free bytes.
    #[cfg(test)]
    pub(crate) fn probed(self, probe: impl Fn(&Path) -> io::Result<u64> + Send + Sync + 'static) -> Self {
        Self { probe: Box::new(probe), ..self }
    }

    /// Room for an upload whose body has the `declared` length, if it has one.
    pub async fn room(self: &Arc<Self>, declared: Option<u64>) -> Result<Room, NoRoom> {
        let guard = Arc::clone(self);
        if self.places.is_empty() {
            // Where no disk is looked at, nothing needs to be counted.
            return Ok(Room { guard, promised_bytes: 0 });
        }
        // A disk far away may take its time. If nobody waits any more, the room is dropped as soon as it is made.
        let looking = spawn_blocking(move || guard.promise(declared.unwrap_or(PIECE_BYTES)));
        looking.await.unwrap_or(Err(NoRoom))
    }

    /// Promises `bytes`, if they leave enough.
    fn promise(self: Arc<Self>, bytes: u64) -> Result<Room, NoRoom> {
        // Before anybody has to wait for it.
        let free = self.places.iter().map(|place| (self.probe)(&place.dir));
        let free: Vec<_> = self.places.iter().zip(free.collect::<Vec<_>>()).collect();
        let mut state = self.state();
        let promised_bytes = state.promised_bytes.checked_add(bytes).ok_or(NoRoom)?;
        for (place, free_bytes) in free {
            // What cannot be asked is left to say by itself that it is full.
            let Ok(free_bytes) = free_bytes else { continue };
            let taken = if place.takes_uploads { promised_bytes } else { 0 };
            if free_bytes < self.min_free_bytes.saturating_add(taken) {
                state.log(&place.dir, free_bytes);
                return Err(NoRoom);
            }
        }
        state.promised_bytes = promised_bytes;
        drop(state);
        Ok(Room { guard: self, promised_bytes: bytes })
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn log(&mut self, dir: &Path, free_bytes: u64) {
        if self.logged.is_none_or(|logged| logged.elapsed() >= LOG_EVERY) {
            self.logged = Some(Instant::now());
            let promised_bytes = self.promised_bytes;
            tracing::warn!(dir = %dir.display(), free_bytes, promised_bytes, "uploads are refused: the disk has no room");
        }
    }
}

impl Room {
    /// So many bytes are to be written now. What is not promised yet is, a piece at a time, or refused.
    pub async fn write(&mut self, bytes: u64) -> Result<(), NoRoom> {
        while self.promised_bytes < bytes && !self.guard.places.is_empty() {
            let mut more = self.guard.room(None).await?;
            self.promised_bytes += mem::take(&mut more.promised_bytes);
        }
        let promised = bytes.min(self.promised_bytes);
        self.promised_bytes -= promised;
        self.guard.state().promised_bytes -= promised;
        Ok(())
    }
}

impl Drop for Room {
    fn drop(&mut self) {
        self.guard.state().promised_bytes -= self.promised_bytes;
    }
}

/// How many bytes somebody who is not root may still write on the disk of `dir`.
fn free_bytes(dir: &Path) -> io::Result<u64> {
    let disk = rustix::fs::statvfs(dir)?;
    Ok(disk.f_bavail.saturating_mul(disk.f_frsize))
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU64, Ordering};

    use super::*;

    const MIB: u64 = 1024 * 1024;

    /// 10 MiB are to stay free on the one disk.
    fn disk(free: &Arc<AtomicU64>) -> Arc<DiskGuard> {
        let free = Arc::clone(free);
        let guard = DiskGuard::new(Some(Path::new("/")), Some(Path::new("/")), 10 * MIB);
        assert_eq!(guard.places.len(), 1, "one disk is looked at once");
        Arc::new(guard.probed(move |_| Ok(free.load(Ordering::Relaxed))))
    }

    #[tokio::test]
    async fn what_is_declared_counts_until_it_is_written() {
        let free = Arc::new(AtomicU64::new(30 * MIB));
        let guard = disk(&free);
        assert!(guard.room(Some(20 * MIB + 1)).await.is_err());
        let mut first = guard.room(Some(15 * MIB)).await.unwrap();
        assert!(guard.room(Some(5 * MIB + 1)).await.is_err(), "15 are as good as taken");
        let second = guard.room(Some(5 * MIB)).await.unwrap();
        assert!(guard.room(Some(1)).await.is_err());
        drop(second);
        // Written, they are free no more, and no longer promised.
        first.write(15 * MIB).await.unwrap();
        free.fetch_sub(15 * MIB, Ordering::Relaxed);
        assert!(guard.room(Some(5 * MIB + 1)).await.is_err());
        drop(first);
        assert!(guard.room(Some(5 * MIB)).await.is_ok());
        assert!(guard.room(Some(u64::MAX)).await.is_err());
        free.store(10 * MIB - 1, Ordering::Relaxed);
        assert!(guard.room(Some(0)).await.is_err());
        assert_eq!(guard.state().promised_bytes, 0);
    }

    #[tokio::test]
    async fn what_was_not_declared_is_promised_a_piece_at_a_time() {
        let free = Arc::new(AtomicU64::new(10 * MIB + PIECE_BYTES - 1));
        let guard = disk(&free);
        assert!(guard.room(None).await.is_err(), "not even the first");
        for declared in [None, Some(3)] {
            free.store(10 * MIB + PIECE_BYTES + 3, Ordering::Relaxed);
            let mut room = guard.room(declared).await.unwrap();
            assert_eq!(guard.state().promised_bytes, declared.unwrap_or(PIECE_BYTES));
            for piece in [3, PIECE_BYTES - 3] {
                room.write(piece).await.unwrap();
                free.fetch_sub(piece, Ordering::Relaxed);
            }
            assert_eq!(room.write(4).await, Err(NoRoom), "{declared:?}");
            drop(room);
            assert_eq!(guard.state().promised_bytes, 0);
        }
    }

    #[tokio::test]
    async fn many_of_unknown_length_at_once_leave_the_room_that_is_kept() {
        let free = Arc::new(AtomicU64::new(10 * MIB + 3 * PIECE_BYTES));
        let guard = disk(&free);
        let mut rooms = Vec::new();
        while let Ok(room) = guard.room(None).await {
            rooms.push(room);
        }
        assert_eq!(rooms.len(), 3);
        for room in &mut rooms {
            room.write(PIECE_BYTES).await.unwrap();
            free.fetch_sub(PIECE_BYTES, Ordering::Relaxed);
            assert_eq!(room.write(1).await, Err(NoRoom));
        }
        assert_eq!(free.load(Ordering::Relaxed), 10 * MIB);
    }

    #[tokio::test]
    async fn a_disk_of_the_database_alone_needs_its_room_and_no_other() {
        let guard = DiskGuard::new(None, Some(Path::new("/rows")), 10 * MIB).probed(|_| Ok(10 * MIB));
        assert!(Arc::new(guard).room(Some(1 << 40)).await.is_ok(), "the files go elsewhere");
        let guard = DiskGuard::new(None, Some(Path::new("/rows")), 10 * MIB).probed(|_| Ok(10 * MIB - 1));
        assert!(Arc::new(guard).room(Some(1)).await.is_err());
        let two = DiskGuard::new(Some(Path::new("/proc")), Some(Path::new("/")), 10 * MIB);
        assert_eq!(two.places.iter().map(|place| place.takes_uploads).collect::<Vec<_>>(), [true, false]);
        let full = two.probed(|dir| Ok(if dir == Path::new("/") { 0 } else { 1 << 40 }));
        assert!(Arc::new(full).room(Some(1)).await.is_err());
    }

    #[tokio::test]
    async fn a_disk_that_cannot_be_asked_says_so_itself() {
        let guard = disk(&Arc::default());
        let guard = Arc::into_inner(guard).unwrap().probed(|_| Err(io::ErrorKind::NotFound.into()));
        assert!(Arc::new(guard).room(Some(u64::MAX)).await.is_ok());
        assert!(Arc::new(DiskGuard::none()).room(Some(u64::MAX)).await.is_ok());
        assert!(free_bytes(Path::new("/")).unwrap() > 0);
        assert!(free_bytes(Path::new("/no/such/folder")).is_err());
    }
}
