//! Whether the database is known to be away, so that not every request has to find out for itself.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::SeqCst},
    },
    time::Duration,
};

use sqlx::{ConnectOptions, Connection, postgres::PgConnectOptions};
use tokio::time::{sleep, timeout};
use tokio_util::sync::{CancellationToken, DropGuard};

use crate::db::{BeginError, CommitError, DbError, RetryError};

/// How long to wait before another look.
const PAUSE: Duration = Duration::from_millis(500);

/// What can fail because the database is away.
pub(super) trait Failure {
    /// Whether it did.
    fn is_away(&self) -> bool;
}

impl Failure for DbError {
    fn is_away(&self) -> bool {
        self.is_away()
    }
}

impl Failure for BeginError {
    fn is_away(&self) -> bool {
        matches!(self, Self::Db(error) if error.is_away())
    }
}

impl Failure for RetryError {
    fn is_away(&self) -> bool {
        matches!(self, Self::Db(error) if error.is_away())
    }
}

impl Failure for CommitError {
    fn is_away(&self) -> bool {
        matches!(self, Self::Db(error) if error.is_away())
    }
}

/// What is known of the database's absence.
///
/// A call that fails is a suspicion only: the pool may have been busy, or one connection broken. So a task connects to the
/// server itself, one try at a time, until it is there; as long as that fails the database is known to be away.
#[derive(Debug)]
pub(super) struct Outage {
    looking: Arc<Looking>,
    _stop: DropGuard,
}

#[derive(Debug)]
struct Looking {
    options: PgConnectOptions,
    connect_timeout: Duration,
    is_away: AtomicBool,
    /// Whether the task runs.
    is_running: AtomicBool,
    /// Whether a call went well since the task last began to connect.
    went_well: AtomicBool,
    stop: CancellationToken,
}

impl Outage {
    /// Of the server at `options`, which has so long to take a connection.
    pub(super) fn new(options: PgConnectOptions, connect_timeout: Duration) -> Self {
        let stop = CancellationToken::new();
        let looking = Looking {
            options,
            connect_timeout,
            is_away: AtomicBool::new(false),
            is_running: AtomicBool::new(false),
            went_well: AtomicBool::new(false),
            stop: stop.clone(),
        };
        Self { looking: Arc::new(looking), _stop: stop.drop_guard() }
    }

    /// Whether the database is known to be away.
    pub(super) fn is_known(&self) -> bool {
        self.looking.is_away.load(SeqCst)
    }

    /// A call failed as it would if the database were away.
    pub(super) fn suspect(&self) {
        if self.looking.is_running.swap(true, SeqCst) {
            return;
        }
        let looking = Arc::clone(&self.looking);
        tokio::spawn(async move {
            looking.stop.run_until_cancelled(looking.until_there()).await;
            looking.is_running.store(false, SeqCst);
        });
    }

    /// A call went well.
    pub(super) fn is_over(&self) {
        self.looking.went_well.store(true, SeqCst);
        self.looking.say(false);
    }

    /// Looks no more.
    pub(super) fn stop(&self) {
        self.looking.stop.cancel();
    }
}

impl Looking {
    async fn until_there(&self) {
        loop {
            self.went_well.store(false, SeqCst);
            if self.is_there().await {
                return self.say(false);
            }
            if !self.went_well.load(SeqCst) {
                self.say(true);
            }
            sleep(PAUSE).await;
        }
    }

    /// Whether the server answers: a refusal, too, is an answer, for the calls themselves to report.
    async fn is_there(&self) -> bool {
        match timeout(self.connect_timeout, self.options.connect()).await {
            Ok(Ok(connection)) => {
                // It did what it was for.
                let _ = connection.close().await;
                true
            }
            // No room for one more connection: those that there are may work.
            Ok(Err(sqlx::Error::Database(error))) if error.code().is_some_and(|code| code.starts_with("53")) => true,
            Ok(Err(error)) => !DbError::from(error).is_away(),
            Err(_) => false,
        }
    }

    fn say(&self, is_away: bool) {
        match (self.is_away.swap(is_away, SeqCst), is_away) {
            (false, true) => tracing::error!("the database is away"),
            (true, false) => tracing::info!("the database is back"),
            _ => {}
        }
    }
}
