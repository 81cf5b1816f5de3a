//! Starting the media server, serving, and stopping it.

mod front;

use std::{
    convert::Infallible,
    io,
    net::SocketAddr,
    pin::pin,
    sync::{
        Arc, OnceLock,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

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

use self::front::Front;
use crate::{
    config::{BackendConfig, DatabaseConfig, StoreConfig, Timeouts},
    db::{self, Database, DbError},
    keys::{self, KeysError},
    legacy,
    router::router,
    state::{Accepted, App},
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
    reloader: Reloader,
}

/// Changes what a server accepts while it serves.
#[derive(Clone)]
pub struct Reloader(Arc<OnceLock<Arc<App>>>);

impl std::fmt::Debug for Reloader {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Reloader")
    }
}

impl Reloader {
    /// Accepts credentials by the terms and master keys of `config` from now on; the rest stays. Every key that rows
    /// depend on must be among those of `config`. Nothing changes if it fails.
    pub async fn reload(&self, config: &BackendConfig) -> Result<(), StartError> {
        let app = self.0.get().ok_or(StartError::NotYet)?;
        keys::check(&*app.db, config).await?;
        app.accept(Accepted::new(config));
        Ok(())
    }
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
    /// It has not reached its database yet.
    #[error("the media server is still waiting for its database")]
    NotYet,
    /// The address cannot be listened on.
    #[error("cannot listen on {listen}: {cause}")]
    Listen {
        /// The address.
        listen: SocketAddr,
        /// Why.
        cause: io::Error,
    },
}

impl StartError {
    /// Whether the database is away, and may be there later.
    fn is_away(&self) -> bool {
        matches!(self, Self::Db(error) | Self::Keys(KeysError::Db(error)) if error.is_away())
    }
}

impl Server {
    /// Opens database and store, checks the keys, and serves until `shutdown`. When it returns, it answers requests.
    ///
    /// A PostgreSQL database may be away: then all requests but `/ping` are answered 503 until it is there. What is wrong
    /// with it then is logged, and ends the server.
    pub async fn start(config: BackendConfig, shutdown: CancellationToken) -> Result<Running, StartError> {
        config.ledger.check()?;
        let database = match open_database(&config).await {
            Err(error) if error.is_away() && matches!(config.database, DatabaseConfig::Postgres(_)) => {
                tracing::warn!(%error, "the database cannot be reached; waiting for it, and answering 503 meanwhile");
                None
            }
            database => Some(database?),
        };
        let started = Self::start_with(database.clone(), config, shutdown).await;
        if let (Some(database), true) = (database, started.is_err()) {
            database.close().await;
        }
        started
    }

    async fn start_with(
        database: Option<Arc<dyn Database>>,
        config: BackendConfig,
        shutdown: CancellationToken,
    ) -> Result<Running, StartError> {
        let store = open_store(&config.store).await?;
        let listen = |cause| StartError::Listen { listen: config.listen, cause };
        let listener = TcpListener::bind(config.listen).await.map_err(listen)?;
        let local_addr = listener.local_addr().map_err(listen)?;

        let front = Arc::new(Front::new(&config));
        let stop = shutdown.child_token();
        let reloader = Reloader(Arc::default());
        let reloaded = reloader.clone();
        let started = move |working: Working| {
            // It is started once.
            let _ = reloaded.0.set(Arc::clone(&working.app));
            working
        };
        let working =
            database.map(|database| Working::start(&config, database, Arc::clone(&store), &front, &stop)).map(&started);
        let task = tokio::spawn(async move {
            let working = async {
                match working {
                    None => Working::start_later(&config, store, &front, &stop).await.map(started),
                    working => working,
                }
            };
            let serving = serve(listener, Arc::clone(&front), config.timeouts, stop.clone());
            if let (end, Some(working)) = tokio::join!(serving, working) {
                working.end(end).await;
            }
        });
        Ok(Running { local_addr, task, reloader })
    }
}

/// Opens the database, and checks that all keys are there that it depends on.
async fn open_database(config: &BackendConfig) -> Result<Arc<dyn Database>, StartError> {
    let database = db::open(&config.database).await?;
    if let Err(error) = keys::check(&*database, config).await {
        database.close().await;
        return Err(error.into());
    }
    Ok(database)
}

/// What works beside and behind the routes, once the database is there.
struct Working {
    app: Arc<App>,
    background: TaskTracker,
}

impl Working {
    /// Lets requests in and starts what works in the background until `stop`.
    fn start(
        config: &BackendConfig,
        database: Arc<dyn Database>,
        store: Arc<dyn BlobStore>,
        front: &Front,
        stop: &CancellationToken,
    ) -> Self {
        let app = Arc::new(App::new(config, database, store));
        front.open(router(Arc::clone(&app)));
        let background = TaskTracker::new();
        let (db, store) = (Arc::clone(&app.db), Arc::clone(&app.store));
        background.spawn(sweeper::run(db, store, config.timeouts.sweep, stop.clone()));
        let (adopting, until) = (Arc::clone(&app), stop.clone());
        background.spawn(async move { legacy::adopt_all(&adopting, &until).await });
        background.close();
        Self { app, background }
    }

    /// The same once the database, which is away, is there. None: there is nothing to wait for any more.
    async fn start_later(
        config: &BackendConfig,
        store: Arc<dyn BlobStore>,
        front: &Front,
        stop: &CancellationToken,
    ) -> Option<Self> {
        match stop.run_until_cancelled(front::wait_for_database(config)).await? {
            Ok(database) => {
                tracing::info!("the database is there; serving");
                Some(Self::start(config, database, store, front, stop))
            }
            Err(error) => {
                tracing::error!(%error, "the database can be reached now, but not used");
                stop.cancel();
                None
            }
        }
    }

    /// Waits for uploads until `end` and a bit, and for the rest.
    async fn end(self, end: Instant) {
        // Those whose client is gone, too: stored, or cut off and cleaned up.
        if timeout_at(end.max(Instant::now() + CLEAN_UP), self.app.uploads.wait()).await.is_err() {
            tracing::warn!("uploads were still under way at the end; the next start cleans up after them");
        }
        self.background.wait().await;
        self.app.db.close().await;
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

    /// Changes what it accepts.
    pub fn reloader(&self) -> Reloader {
        self.reloader.clone()
    }

    /// Waits until it has stopped: told to by its `shutdown`, and done with the uploads under way or out of patience.
    pub async fn wait(self) -> Result<(), JoinError> {
        self.task.await
    }
}

/// Takes connections until `shutdown`, then waits for what is under way on them. Says until when it would have waited.
async fn serve(listener: TcpListener, front: Arc<Front>, timeouts: Timeouts, shutdown: CancellationToken) -> Instant {
    let connections = TaskTracker::new();
    let abort = CancellationToken::new();
    while let Some(accepted) = shutdown.run_until_cancelled(listener.accept()).await {
        match accepted {
            Ok((stream, _)) => {
                let connection = Connection {
                    front: Arc::clone(&front),
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
    front: Arc<Front>,
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
            let (front, asked) = (self.front, Arc::clone(&asked));
            move |request: http::Request<Incoming>| {
                asked.store(true, Ordering::Relaxed);
                let router = front.router();
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
