//! Which of several servers serves a request: each in turn, those that fail their check only when no other is left.

use std::{
    collections::{BTreeSet, HashMap},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use async_trait::async_trait;
use pingora::{
    Error,
    ErrorType::{ConnectTimedout, HTTPStatus},
    Result,
    connectors::{TransportConnector, http::Connector},
    http::RequestHeader,
    lb::{
        Backend, Backends, Extensions, LoadBalancer, discovery::ServiceDiscovery, health_check::HealthCheck,
        selection::RoundRobin,
    },
    protocols::l4::socket::SocketAddr,
};
use tokio::{
    task::JoinHandle,
    time::{sleep, timeout},
};

use super::{Candidate, Peers, resolve};
use crate::config::HostPolicy;

/// How long a check may take.
const CHECK_TIMEOUT: Duration = Duration::from_secs(3);

/// How often a server is picked before one is taken that fails its check: other requests take turns meanwhile, so the same
/// may come twice.
const MAX_PICKS: usize = 64;

/// How often names are looked up again.
const RESOLVE_EVERY: Duration = Duration::from_secs(10);

/// Gives each request the addresses to try. Looks at the servers as long as it lives.
pub(super) struct Balancer {
    servers: Arc<LoadBalancer<RoundRobin>>,
    look: JoinHandle<()>,
    /// Whose turn it is when all fail their check.
    turn: AtomicUsize,
}

/// Which of the configured addresses a server is of.
#[derive(Clone, Copy)]
struct Of(usize);

impl Balancer {
    /// Looks up all names, then looks at the servers from time to time.
    pub(super) async fn start(peers: Arc<Peers>) -> Self {
        let mut servers = LoadBalancer::from_backends(Backends::new(Box::new(Names(Arc::clone(&peers)))));
        let every = peers.config.health_check.as_ref().map_or(RESOLVE_EVERY, |check| check.every);
        if let Some(check) = &peers.config.health_check {
            servers.set_health_check(Box::new(Check::new(Arc::clone(&peers), check.path.clone())));
        }
        let servers = Arc::new(servers);
        // A name that has no address yet is looked up again, and at each request until then.
        let _ = servers.update().await;
        let look = tokio::spawn({
            let servers = Arc::clone(&servers);
            async move {
                loop {
                    servers.backends().run_health_check(true).await;
                    sleep(every).await;
                    let _ = servers.update().await;
                }
            }
        });
        Self { servers, look, turn: AtomicUsize::new(0) }
    }

    /// The addresses to try: the next in turn, then the others, then those that fail their check.
    pub(super) fn candidates(&self) -> Vec<Candidate> {
        let all = self.servers.backends().get_backend();
        let first = self.servers.select(b"", MAX_PICKS);
        let is_ready = |server: &&Backend| self.servers.backends().ready(server);
        let (up, mut down): (Vec<_>, Vec<_>) =
            all.iter().filter(|server| Some(*server) != first.as_ref()).partition(is_ready);
        if first.is_none() && !down.is_empty() {
            // All fail: still each in turn.
            let turn = self.turn.fetch_add(1, Ordering::Relaxed) % down.len();
            down.rotate_left(turn);
        }
        first.iter().chain(up).chain(down).filter_map(candidate).collect()
    }
}

impl Drop for Balancer {
    fn drop(&mut self) {
        self.look.abort();
    }
}

fn candidate(server: &Backend) -> Option<Candidate> {
    let of = server.ext.get::<Of>().map_or(0, |of| of.0);
    Some(Candidate { address: *server.addr.as_inet()?, of })
}

/// The addresses of all names.
struct Names(Arc<Peers>);

#[async_trait]
impl ServiceDiscovery for Names {
    async fn discover(&self) -> Result<(BTreeSet<Backend>, HashMap<u64, bool>)> {
        let mut found = BTreeSet::new();
        for (of, address) in self.0.config.addresses.iter().enumerate() {
            for address in resolve(address).await {
                let mut ext = Extensions::new();
                ext.insert(Of(of));
                found.insert(Backend { addr: SocketAddr::Inet(address), weight: 1, ext });
            }
        }
        // While no name can be looked up, what was found before goes on.
        if found.is_empty() { Err(Error::explain(ConnectTimedout, "no address")) } else { Ok((found, HashMap::new())) }
    }
}

/// Asks a server as a request would.
struct Check {
    peers: Arc<Peers>,
    path: Option<String>,
    connector: TransportConnector,
    http: Connector,
}

impl Check {
    fn new(peers: Arc<Peers>, path: Option<String>) -> Self {
        Self { peers, path, connector: TransportConnector::new(None), http: Connector::new(None) }
    }

    async fn ask(&self, server: &Backend) -> Result<()> {
        let candidate = candidate(server).ok_or_else(|| Error::explain(ConnectTimedout, "no address"))?;
        let peer = self.peers.peer(candidate);
        let Some(path) = &self.path else {
            return self.connector.new_stream(&peer).await.map(|_| ());
        };
        let config = &self.peers.config;
        let mut request = RequestHeader::build("GET", path.as_bytes(), None)?;
        match &config.host {
            HostPolicy::Fixed(host) => request.insert_header("host", host.clone())?,
            // No client says one.
            HostPolicy::Client | HostPolicy::Upstream => {
                request.insert_header("host", config.addresses[candidate.of].authority(config.protocol))?;
            }
        }
        for (name, value) in &config.headers {
            request.insert_header(name.clone(), value.clone())?;
        }
        let (mut session, _) = self.http.get_http_session(&peer).await?;
        session.write_request_header(Box::new(request)).await?;
        session.finish_request_body().await?;
        session.read_response_header().await?;
        match session.response_header() {
            Some(response) if response.status.is_success() => Ok(()),
            response => Err(Error::new(HTTPStatus(response.map_or(0, |response| response.status.as_u16())))),
        }
    }
}

#[async_trait]
impl HealthCheck for Check {
    async fn check(&self, server: &Backend) -> Result<()> {
        let late = |_| Err(Error::explain(ConnectTimedout, "the health check took too long"));
        timeout(CHECK_TIMEOUT, self.ask(server)).await.unwrap_or_else(late)
    }

    fn health_threshold(&self, _success: bool) -> usize {
        1
    }
}
