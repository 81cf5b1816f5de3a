//! The data folder, used by one process at a time; but for a gateway that another one takes over from.

use std::{
    fs::{self, File, TryLockError},
    io,
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
    process, thread,
    time::Duration,
};

use rustix::process::{Pid, Signal, kill_process};
use sluice_gateway::server::Upgrade;
use tokio::time::{Instant, sleep};

use crate::{config::Parts, files};

/// How long a gateway that is told to hand over waits for who takes over.
const AWAITED: Duration = Duration::from_secs(10);

/// How often it looks.
const LOOK_EVERY: Duration = Duration::from_millis(50);

const GATEWAY_LOCK: &str = "gateway.lock";
const BACKEND_LOCK: &str = "backend.lock";
/// Locked by who waits for a gateway's listeners.
const UPGRADE_LOCK: &str = "gateway-upgrade.lock";
/// Through which they come.
const UPGRADE_SOCKET: &str = "gateway-upgrade.sock";
/// Who can hand them over.
const GATEWAY_PID: &str = "gateway.pid";

/// The locks of the parts that run here; given back when it is dropped, and by the system when the process ends.
#[derive(Debug)]
pub struct DataDir {
    dir: PathBuf,
    parts: Parts,
    _locks: Vec<File>,
    takes_over: Option<TakeOver>,
}

/// What a process has that takes over from another one.
#[derive(Debug)]
struct TakeOver {
    from: Pid,
    /// The other one's, until that ends.
    lock: File,
    /// Held while it waits.
    _waiting: File,
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
    /// Nothing to take over from.
    #[error("no gateway runs on {}: start without --upgrade", .0.display())]
    NothingRuns(PathBuf),
    /// What runs is no gateway alone.
    #[error("what runs on {} cannot hand over: only `sluice gateway` can", .0.display())]
    CannotHandOver(PathBuf),
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

fn io_error(path: &Path) -> impl FnOnce(io::Error) -> DataDirError {
    let path = path.to_owned();
    move |source| DataDirError::Io { path, source }
}

fn lock_file(path: &Path) -> Result<File, DataDirError> {
    File::options().create(true).append(true).mode(0o600).open(path).map_err(io_error(path))
}

/// Locks a file; none: another one has.
fn lock(path: &Path) -> Result<Option<File>, DataDirError> {
    let file = lock_file(path)?;
    match file.try_lock() {
        Ok(()) => Ok(Some(file)),
        Err(TryLockError::WouldBlock) => Ok(None),
        Err(TryLockError::Error(source)) => Err(io_error(path)(source)),
    }
}

fn remove(path: &Path) -> Result<(), DataDirError> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(io_error(path)(error)),
        _ => Ok(()),
    }
}

impl DataDir {
    /// Makes the folder if it is missing, and takes it for `parts`. A gateway and a backend may share it.
    pub fn take(dir: &Path, parts: Parts) -> Result<Self, DataDirError> {
        if dir.exists() && !dir.is_dir() {
            return Err(DataDirError::NotAFolder(dir.to_owned()));
        }
        files::make_dir(dir).map_err(io_error(dir))?;
        let mut locks = Vec::new();
        for (name, wanted) in [(GATEWAY_LOCK, parts.has_gateway()), (BACKEND_LOCK, parts.has_backend())] {
            if wanted {
                let path = dir.join(name);
                let in_use = DataDirError::InUse { dir: dir.to_owned(), lock: path.clone() };
                locks.push(lock(&path)?.ok_or(in_use)?);
            }
        }
        if parts.has_gateway() {
            // Whoever it named is gone.
            remove(&dir.join(GATEWAY_PID))?;
        }
        Ok(Self { dir: dir.to_owned(), parts, _locks: locks, takes_over: None })
    }

    /// Takes the folder for a gateway that takes over from the one that runs on it. One at a time can.
    pub fn take_over(dir: &Path) -> Result<Self, DataDirError> {
        let path = dir.join(GATEWAY_LOCK);
        if !path.exists() || lock(&path)?.is_some() {
            return Err(DataDirError::NothingRuns(dir.to_owned()));
        }
        let waiting = dir.join(UPGRADE_LOCK);
        let in_use = DataDirError::InUse { dir: dir.to_owned(), lock: waiting.clone() };
        let waiting = lock(&waiting)?.ok_or(in_use)?;
        let pid = fs::read_to_string(dir.join(GATEWAY_PID)).ok().and_then(|text| text.trim().parse().ok());
        let from = pid.and_then(Pid::from_raw).ok_or_else(|| DataDirError::CannotHandOver(dir.to_owned()))?;
        remove(&dir.join(UPGRADE_SOCKET))?;
        let takes_over = Some(TakeOver { from, lock: lock_file(&path)?, _waiting: waiting });
        Ok(Self { dir: dir.to_owned(), parts: Parts::Gateway, _locks: Vec::new(), takes_over })
    }

    /// How a gateway's listeners go from one process to the next; none where they do not.
    pub fn upgrade(&self) -> Option<Upgrade> {
        let upgrade = Upgrade { socket: self.dir.join(UPGRADE_SOCKET), takes_over: self.takes_over.is_some() };
        (self.parts == Parts::Gateway).then_some(upgrade)
    }

    /// Asks the gateway that runs to hand over, if this one takes over.
    pub fn ask(&self) {
        let Some(TakeOver { from, .. }) = &self.takes_over else { return };
        let name = |pid: &str| fs::read_to_string(format!("/proc/{pid}/comm")).ok();
        let asked = name(&from.to_string()).is_some_and(|other| Some(other) == name("self"))
            && kill_process(*from, Signal::QUIT).is_ok();
        if asked {
            tracing::info!(pid = %from, "taking over from the gateway that runs");
        } else {
            tracing::warn!(pid = %from, "the gateway that runs cannot be told to hand over: send it SIGQUIT now");
        }
    }

    /// This process serves: it is the one that can hand over. Who took over has the folder when the other one ends.
    pub fn serves(&mut self) -> Result<(), DataDirError> {
        if let Some(TakeOver { lock, .. }) = self.takes_over.take() {
            // The thread holds it until the process ends.
            thread::spawn(move || {
                if let Err(error) = lock.lock() {
                    tracing::error!(%error, "the data folder cannot be locked");
                }
                thread::park();
                drop(lock);
            });
        }
        if self.parts != Parts::Gateway {
            return Ok(());
        }
        let path = self.dir.join(GATEWAY_PID);
        fs::write(&path, process::id().to_string()).map_err(io_error(&path))
    }

    /// Whether a process waits for this one's listeners, or begins to within some seconds.
    pub async fn is_awaited(&self) -> bool {
        let deadline = Instant::now() + AWAITED;
        loop {
            let is_waiting = matches!(lock(&self.dir.join(UPGRADE_LOCK)), Ok(None));
            if is_waiting && self.dir.join(UPGRADE_SOCKET).exists() {
                return true;
            }
            if Instant::now() > deadline {
                return false;
            }
            sleep(LOOK_EVERY).await;
        }
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
    fn is_taken_over_from_a_gateway_that_serves_by_one_at_a_time() {
        let folder = tempfile::tempdir().unwrap();
        let dir = folder.path();
        assert!(matches!(DataDir::take_over(dir), Err(DataDirError::NothingRuns(_))));
        let mut gateway = DataDir::take(dir, Parts::Gateway).unwrap();
        assert!(matches!(DataDir::take_over(dir), Err(DataDirError::CannotHandOver(_))), "it does not serve yet");
        gateway.serves().unwrap();
        assert!(!gateway.upgrade().unwrap().takes_over);
        let mut next = DataDir::take_over(dir).unwrap();
        assert!(next.upgrade().unwrap().takes_over);
        assert!(matches!(DataDir::take_over(dir), Err(DataDirError::InUse { .. })), "one waits already");
        next.serves().unwrap();
        assert!(DataDir::take_over(dir).is_ok(), "the next one may");
        drop(gateway);
        let taken = || matches!(DataDir::take(dir, Parts::Gateway), Err(DataDirError::InUse { .. }));
        let deadline = std::time::Instant::now() + Duration::from_secs(20);
        while !taken() {
            assert!(std::time::Instant::now() < deadline, "who took over has no lock");
        }
    }

    #[tokio::test]
    async fn only_a_gateway_alone_hands_over_and_only_to_who_waits() {
        let folder = tempfile::tempdir().unwrap();
        let dir = folder.path();
        let mut all = DataDir::take(dir, Parts::All).unwrap();
        all.serves().unwrap();
        assert!(all.upgrade().is_none());
        assert!(matches!(DataDir::take_over(dir), Err(DataDirError::CannotHandOver(_))));
        drop(all);
        let mut gateway = DataDir::take(dir, Parts::Gateway).unwrap();
        gateway.serves().unwrap();
        let next = DataDir::take_over(dir).unwrap();
        File::create(next.upgrade().unwrap().socket).unwrap();
        assert!(gateway.is_awaited().await);
        drop(next);
        assert!(!gateway.is_awaited().await, "a socket that was left is nobody");
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
