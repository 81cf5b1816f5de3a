//! Starting the media server, serving, and stopping it.

use std::{
    convert::Infallible,
    io,
    net::SocketAddr,
    pin::pin,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use axum::Router;
use hyper::{body::Incoming, service::service_fn};
use hyper_util::{
    rt::{TokioExecutor, TokioIo, TokioTimer},
    server::conn::auto,
};
use tokio::{
    net::{TcpListener, TcpStream},
    task::{JoinError, JoinHandle},
    time::{Instant, sleep, timeout, timeout_at},
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tower::ServiceExt;

use crate::{
    config::{BackendConfig, DatabaseConfig, StoreConfig, Timeouts},
    db::{DbError, SqliteDatabase},
    keys::{self, KeysError},
    router::router,
    state::App,
    store::{BlobStore, LocalStore, S3Store, StoreError},
    sweeper,
};

/// What a client may send of one HTTP/2 stream before it must wait: the default of 64 KiB would make uploads over long
/// ways slow.
const STREAM_WINDOW_BYTES: u32 = 1 << 20;

/// The same for all streams of a connection.
const CONNECTION_WINDOW_BYTES: u32 = 4 << 20;

/// How often a silent HTTP/2 peer is asked whether it is there, and how long it may take to say so.
const HTTP2_PING: Duration = Duration::from_secs(20);

/// How long to wait when no connection can be taken, for instance for want of file descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// How long a start waits for its store.
const STORE_CHECK: Duration = Duration::from_secs(15);

/// How long uploads that were cut off at the end may take to clean up.
const CLEAN_UP: Duration = Duration::from_secs(5);

/// The media server.
#[derive(Debug)]
pub struct Server;

/// A media server that is serving.
#[derive(Debug)]
pub struct Running {
    local_addr: SocketAddr,
    task: JoinHandle<()>,
}

/// Why the server does not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The database cannot be opened.
    #[error("cannot open the database: {0}")]
    Db(#[from] DbError),
    /// The store cannot be opened or written.
    #[error("cannot open the store: {0}")]
    Store(#[from] StoreError),
    /// A key is missing that rows depend on.
    #[error(transparent)]
    Keys(#[from] KeysError),
    /// The address cannot be listened on.
    #[error("cannot listen on {listen}: {cause}")]
    Listen {
        /// The address.
        listen: SocketAddr,
        /// Why.
        cause: io::Error,
    },
}

impl Server {
    /// Opens database and store, checks the keys, and serves until `shutdown`. When it returns, it answers requests.
    pub async fn start(config: BackendConfig, shutdown: CancellationToken) -> Result<Running, StartError> {
        let DatabaseConfig::Sqlite { path } = &config.database;
        let database = Arc::new(SqliteDatabase::open(path).await?);
        let started = Self::start_with(Arc::clone(&database), config, shutdown).await;
        if started.is_err() {
            database.close().await;
        }
        started
    }

    async fn start_with(
        database: Arc<SqliteDatabase>,
        config: BackendConfig,
        shutdown: CancellationToken,
    ) -> Result<Running, StartError> {
        keys::check(&*database, &config).await?;
        let store = open_store(&config.store).await?;
        let listen = |cause| StartError::Listen { listen: config.listen, cause };
        let listener = TcpListener::bind(config.listen).await.map_err(listen)?;
        let local_addr = listener.local_addr().map_err(listen)?;

        let app = Arc::new(App::new(&config, Arc::clone(&database) as _, Arc::clone(&store)));
        let sweeping = sweeper::run(Arc::clone(&app.db), store, config.timeouts.sweep, shutdown.clone());
        let sweeper = tokio::spawn(sweeping);
        let task = tokio::spawn(async move {
            let end = serve(listener, router(Arc::clone(&app)), config.timeouts, shutdown).await;
            // Those whose client is gone, too: stored, or cut off and cleaned up.
            if timeout_at(end.max(Instant::now() + CLEAN_UP), app.uploads.wait()).await.is_err() {
                tracing::warn!("uploads were still under way at the end; the next start cleans up after them");
            }
            // Ended by the same shutdown.
            let _ = sweeper.await;
            database.close().await;
        });
        Ok(Running { local_addr, task })
    }
}

/// Opens the store and tries it. An S3 server that is away is no reason not to start: it may come back, and until then
/// its files are answered with 503.
async fn open_store(config: &StoreConfig) -> Result<Arc<dyn BlobStore>, StoreError> {
    let store: Arc<dyn BlobStore> = match config {
        StoreConfig::Local { dir, .. } => Arc::new(LocalStore::open(dir)?),
        StoreConfig::S3 { s3, .. } => Arc::new(S3Store::new(s3)),
    };
    match timeout(STORE_CHECK, store.check()).await {
        Ok(Err(error)) if error.is_away() => tracing::warn!(%error, "the store is away; starting all the same"),
        Err(_) => tracing::warn!("the store does not answer; starting all the same"),
        Ok(checked) => checked?,
    }
    Ok(store)
}

impl Running {
    /// Where it listens.
    pub fn local_addr(&self) -> SocketAddr {
        self.local_addr
    }

    /// Waits until it has stopped: told to by its `shutdown`, and done with the uploads under way or out of patience.
    pub async fn wait(self) -> Result<(), JoinError> {
        self.task.await
    }
}

/// Takes connections until `shutdown`, then waits for what is under way on them. Says until when it would have waited.
async fn serve(listener: TcpListener, router: Router, timeouts: Timeouts, shutdown: CancellationToken) -> Instant {
    let connections = TaskTracker::new();
    let abort = CancellationToken::new();
    while let Some(accepted) = shutdown.run_until_cancelled(listener.accept()).await {
        match accepted {
            Ok((stream, _)) => {
                let connection = Connection {
                    router: router.clone(),
                    header_read: timeouts.header_read,
                    shutdown: shutdown.clone(),
                    abort: abort.clone(),
                };
                connections.spawn(connection.serve(stream));
            }
            Err(error) => {
                tracing::warn!(%error, "cannot take a connection");
                sleep(ACCEPT_PAUSE).await;
            }
        }
    }
    drop(listener);
    connections.close();
    let end = Instant::now() + timeouts.shutdown;
    if timeout_at(end, connections.wait()).await.is_err() {
        tracing::warn!(connections = connections.len(), "cutting off connections that are still under way");
        abort.cancel();
        connections.wait().await;
    }
    end
}

struct Connection {
    router: Router,
    header_read: Duration,
    /// No more requests; those under way go on.
    shutdown: CancellationToken,
    /// Not even those.
    abort: CancellationToken,
}

impl Connection {
    async fn serve(self, stream: TcpStream) {
        // Small answers should not wait for more. Failing to say so harms nothing.
        let _ = stream.set_nodelay(true);
        let asked = Arc::new(AtomicBool::new(false));
        let service = service_fn({
            let (router, asked) = (self.router, Arc::clone(&asked));
            move |request: http::Request<Incoming>| {
                asked.store(true, Ordering::Relaxed);
                let router = router.clone();
                async move { Ok::<_, Infallible>(router.oneshot(request).await.unwrap_or_else(|never| match never {})) }
            }
        });
        let builder = http_builder(self.header_read);
        let mut connection = pin!(builder.serve_connection(TokioIo::new(stream), service));
        // hyper's own timeout begins when it knows whether this is HTTP/1 or HTTP/2.
        let mut first_request = pin!(sleep(self.header_read));
        let mut waiting_for_first = true;
        let mut stopping = false;
        loop {
            tokio::select! {
                result = connection.as_mut() => {
                    if let Err(error) = result {
                        tracing::debug!(error = &*error, "a connection ended");
                    }
                    return;
                }
                () = self.shutdown.cancelled(), if !stopping => {
                    stopping = true;
                    connection.as_mut().graceful_shutdown();
                }
                () = first_request.as_mut(), if waiting_for_first => {
                    if !asked.load(Ordering::Relaxed) {
                        return;
                    }
                    waiting_for_first = false;
                }
                () = self.abort.cancelled() => return,
            }
        }
    }
}

/// HTTP/1 and HTTP/2, told apart by how a connection begins.
fn http_builder(header_read: Duration) -> auto::Builder<TokioExecutor> {
    let mut builder = auto::Builder::new(TokioExecutor::new());
    // Who has sent all and closes its half of the connection still wants the answer.
    builder.http1().timer(TokioTimer::new()).header_read_timeout(header_read).half_close(true);
    builder
        .http2()
        .timer(TokioTimer::new())
        .initial_stream_window_size(STREAM_WINDOW_BYTES)
        .initial_connection_window_size(CONNECTION_WINDOW_BYTES)
        .keep_alive_interval(HTTP2_PING)
        .keep_alive_timeout(HTTP2_PING);
    builder
}
