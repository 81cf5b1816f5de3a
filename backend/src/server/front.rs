//! What answers: the routes, or, until the database was first reached, that it is away.

use std::{
    sync::{Arc, OnceLock},
    time::Duration,
};

use axum::Router;
use tokio::time::sleep;

use super::{StartError, open_database};
use crate::{config::BackendConfig, db::Database, router};

/// Between the first tries to reach the database.
const FIRST_PAUSE: Duration = Duration::from_millis(250);

/// Between all later ones, at the most.
const MAX_PAUSE: Duration = Duration::from_secs(5);

/// The log says once in so many tries that the database is still away.
const TRIES_A_LINE: u32 = 12;

/// What answers requests.
pub(super) struct Front {
    routes: OnceLock<Router>,
    waiting: Router,
}

impl Front {
    /// Says of everything that the database is away.
    pub(super) fn new(config: &BackendConfig) -> Self {
        Self { routes: OnceLock::new(), waiting: router::waiting(config) }
    }

    /// From now on `routes` answer. Only the first counts.
    pub(super) fn open(&self, routes: Router) {
        let _ = self.routes.set(routes);
    }

    /// What answers now.
    pub(super) fn router(&self) -> Router {
        self.routes.get().unwrap_or(&self.waiting).clone()
    }
}

/// Tries to open the database until it is there, or fails for another reason than that it is away.
pub(super) async fn wait_for_database(config: &BackendConfig) -> Result<Arc<dyn Database>, StartError> {
    let mut pause = FIRST_PAUSE;
    let mut tries = 0;
    loop {
        sleep(pause).await;
        pause = (pause * 2).min(MAX_PAUSE);
        tries += 1;
        match open_database(config).await {
            Err(error) if error.is_away() => {
                if tries % TRIES_A_LINE == 0 {
                    tracing::warn!(%error, tries, "still waiting for the database");
                }
            }
            opened => return opened,
        }
    }
}
