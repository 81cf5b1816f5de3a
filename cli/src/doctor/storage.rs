//! Databases and stored files.

use std::{io, path::Path};

use sluice_backend::{
    config::DatabaseConfig,
    db::{PostgresDatabase, PostgresState},
    server::StartError,
    store::{BlobStore, S3Store},
};
use sluice_gateway::probe;

use super::{Finding, Report};
use crate::{
    config::{DatabaseUrl, S3Settings, Settings, StorageMode},
    server::{self, RunError},
};

const DATABASE: &str = "database";
const STORE: &str = "store";

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
    let shown = path.display();
    if !path.exists() {
        return match writable_above(path) {
            Ok(()) => Finding::ok(DATABASE, format!("{whose}: {shown} is made when Sluice first starts")),
            Err(error) => Finding::error(DATABASE, format!("{whose}: {shown} cannot be made: {error}")),
        };
    }
    let whole = probe::sqlite(path).await;
    let folder = path.parent().map_or(Ok(()), writable);
    match (whole, folder) {
        (Ok(()), Ok(())) => Finding::ok(DATABASE, format!("{whose}: {shown} is whole")),
        (Err(error), _) => Finding::error(DATABASE, format!("{whose}: {shown}: {error}")),
        (_, Err(error)) => Finding::error(DATABASE, format!("{whose}: the folder of {shown}: {error}")),
    }
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
    let shown = dir.display();
    if !dir.exists() {
        return match writable_above(&dir) {
            Ok(()) => Finding::ok(STORE, format!("{shown} is made when Sluice first starts")),
            Err(error) => Finding::error(STORE, format!("{shown} cannot be made: {error}")),
        };
    }
    match writable(&dir) {
        Ok(()) => Finding::ok(STORE, format!("{shown} can be written")),
        Err(error) => Finding::error(STORE, format!("{shown}: {error}")),
    }
}

/// Whether a file can be made in a folder: one is, and goes again.
fn writable(dir: &Path) -> io::Result<()> {
    let dir = if dir.as_os_str().is_empty() { Path::new(".") } else { dir };
    tempfile::Builder::new().prefix(".sluice-doctor-").tempfile_in(dir)?.close()
}

/// The same for the nearest folder above `path` that is there.
fn writable_above(path: &Path) -> io::Result<()> {
    let above = path.ancestors().skip(1).find(|above| above.as_os_str().is_empty() || above.exists());
    above.map_or(Ok(()), writable)
}
