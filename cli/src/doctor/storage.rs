//! Databases and stored files.

use std::{
    io::{self, Write},
    path::Path,
};

use rustix::fs::statvfs;
use sluice_backend::{
    config::DatabaseConfig,
    db::{PostgresDatabase, PostgresState},
    server::StartError,
    store::{BlobStore, S3Store},
};
use sluice_common::limits::BYTES_PER_MB;
use sluice_gateway::probe;

use super::{Finding, Report};
use crate::{
    client::size,
    config::{DatabaseUrl, S3Settings, Settings, StorageMode},
    server::{self, RunError},
};

const DATABASE: &str = "database";
const STORE: &str = "store";

/// What is written to see whether there is room: more than file systems keep beside the inode.
const PROBE_LEN: usize = 1_048_576;

/// With less room than this, somebody should look: half a minute of one upload over a fast line.
const LOW_BYTES: u64 = 1 << 30;

/// Says how the databases are. Gives the time that a server among them tells, in unix seconds.
pub(super) async fn look_at_databases(settings: &Settings, report: &mut Report<'_>) -> io::Result<Option<u64>> {
    let mut time = None;
    for (whose, database) in [("gateway", settings.gateway_database()), ("backend", settings.backend_database())] {
        let finding = match &database {
            DatabaseUrl::Sqlite(path) => look_at_sqlite(whose, path).await,
            DatabaseUrl::Postgres(url) => match probe::postgres(url).await {
                Ok(now) => {
                    time = Some(now);
                    let more = if whose == "backend" { backend_tables(settings).await } else { Ok("") };
                    match more {
                        Ok(more) => Finding::ok(DATABASE, format!("{whose}: {database} answers{more}")),
                        Err(error) => Finding::error(DATABASE, format!("{whose}: {database}: {error}")),
                    }
                }
                Err(error) => Finding::error(DATABASE, format!("{whose}: {database}: {error}")),
            },
        };
        report.add(&finding)?;
    }
    Ok(time)
}

/// What is to be said of the backend's tables in PostgreSQL.
async fn backend_tables(settings: &Settings) -> Result<&'static str, RunError> {
    let DatabaseConfig::Postgres(config) = settings.backend_database_config()? else { return Ok("") };
    Ok(match PostgresDatabase::look(&config).await.map_err(StartError::Db)? {
        PostgresState::Ours => "",
        PostgresState::Legacy => "; the table media of sphinx-meme is adopted when Sluice first starts",
        PostgresState::Empty => "; its tables are made when Sluice first starts",
    })
}

async fn look_at_sqlite(whose: &str, path: &Path) -> Finding {
    let place = format!("{whose}: {}", path.display());
    if !path.exists() {
        return of_room(DATABASE, &place, "is made when Sluice first starts", room_above(path), 0);
    }
    if let Err(error) = probe::sqlite(path).await {
        return Finding::error(DATABASE, format!("{place}: {error}"));
    }
    of_room(DATABASE, &place, "is whole", room_above(path), 0)
}

/// Says how the place of the stored files is.
pub(super) async fn look_at_store(settings: &Settings) -> Finding {
    match settings.backend.storage_mode {
        StorageMode::Local => look_at_folder(settings),
        StorageMode::S3 => look_at_s3(&settings.backend.s3).await,
    }
}

async fn look_at_s3(s3: &S3Settings) -> Finding {
    let bucket = &s3.bucket;
    let config = match server::s3_config(s3) {
        Ok(config) => config,
        Err(error) => return Finding::error(STORE, error.to_string()),
    };
    match S3Store::new(&config).check().await {
        Ok(()) => Finding::ok(STORE, format!("S3 bucket {bucket} can be written, read and cleaned up")),
        Err(error) => Finding::error(STORE, format!("S3 bucket {bucket}: {error}")),
    }
}

fn look_at_folder(settings: &Settings) -> Finding {
    let dir = settings.local_dir();
    let shown = dir.display().to_string();
    let kept = settings.backend.min_free_disk_mb.saturating_mul(BYTES_PER_MB);
    if dir.exists() {
        of_room(STORE, &shown, "can be written", room(&dir), kept)
    } else {
        of_room(STORE, &shown, "is made when Sluice first starts", room_above(&dir), kept)
    }
}

/// What is to be said of `place`, which is `well` where there is room, and where uploads leave `kept` bytes free.
fn of_room(what: &'static str, place: &str, well: &str, room: io::Result<u64>, kept: u64) -> Finding {
    match room {
        Ok(free) if free < kept => {
            let (free, kept) = (size(free), size(kept));
            let problem = "so that no upload is taken: [backend] min_free_disk_mb keeps";
            Finding::error(what, format!("{place} {well}, but only {free} are free there, {problem} {kept}"))
        }
        Ok(free) if free < LOW_BYTES => {
            Finding::warning(what, format!("{place} {well}, but only {} are free there", size(free)))
        }
        Ok(_) => Finding::ok(what, format!("{place} {well}")),
        Err(error) => Finding::error(what, format!("{place}: its folder cannot be written: {error}")),
    }
}

/// Bytes that are free in a folder, where a file of some can really be written: one is, and goes again.
fn room(dir: &Path) -> io::Result<u64> {
    let dir = if dir.as_os_str().is_empty() { Path::new(".") } else { dir };
    let mut probe = tempfile::Builder::new().prefix(".sluice-doctor-").tempfile_in(dir)?;
    // Not of zeros, which a file system may keep without room.
    probe.write_all(&[0x5a; PROBE_LEN])?;
    // Only then is it sure that there is a place for it.
    probe.as_file().sync_all()?;
    probe.close()?;
    let disk = statvfs(dir)?;
    Ok(disk.f_bavail.saturating_mul(disk.f_frsize))
}

/// The same for the nearest folder above `path` that is there.
fn room_above(path: &Path) -> io::Result<u64> {
    let above = path.ancestors().skip(1).find(|above| above.as_os_str().is_empty() || above.exists());
    room(above.unwrap_or(path))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn says_how_much_room_there_is_where_it_is_little() {
        let full = io::Error::from(io::ErrorKind::StorageFull);
        let lines = [Ok(LOW_BYTES), Ok(LOW_BYTES - 1), Ok(0), Err(full)];
        let lines = lines.map(|room| of_room(STORE, "/media", "can be written", room, LOW_BYTES / 2).to_string());
        insta::assert_snapshot!(lines.join("\n"), @r"
        ok       store     /media can be written
        warning  store     /media can be written, but only 1024.0 MiB are free there
        error    store     /media can be written, but only 0 bytes are free there, so that no upload is taken: [backend] min_free_disk_mb keeps 512.0 MiB
        error    store     /media: its folder cannot be written: no storage space
        ");
    }

    #[test]
    fn the_probe_leaves_nothing() {
        let dir = tempfile::tempdir().unwrap();
        assert!(room(dir.path()).unwrap() > 0);
        assert!(room_above(&dir.path().join("a/b/c")).unwrap() > 0);
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0);
        assert_eq!(room(&dir.path().join("a")).unwrap_err().kind(), io::ErrorKind::NotFound);
    }
}
