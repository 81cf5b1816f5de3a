//! What becomes of a request's body when the answer comes first.
//!
//! hyper closes a connection whose body nobody reads any more, and most clients then never see the answer: they are
//! still sending (protocols.md §2). So whatever a route leaves unread is read on here and thrown away, within bounds.

use std::{
    net::IpAddr,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    task::{Context, Poll},
    time::Duration,
};

use axum::{
    body::{Body, Bytes, HttpBody},
    extract::{Request, State},
    middleware::Next,
    response::Response,
};
use http::{HeaderMap, HeaderName, header::EXPECT};
use http_body_util::BodyExt;
use hyper::body::{Frame, SizeHint};
use sluice_common::{
    client_network::ClientNetwork,
    limits::{
        MAX_DRAIN_IDLE, MAX_DRAIN_IDLE_AFTER_EXPECT, MAX_DRAIN_TIME, MAX_DRAINS, MAX_DRAINS_PER_CLIENT, drain_bytes,
    },
    slots::{Slot, Slots},
};
use tokio::{
    runtime::Handle,
    sync::{OwnedSemaphorePermit, Semaphore},
    time::timeout,
};
use tokio_util::sync::CancellationToken;

/// Where the gateway says in front of what clients it is: the first address is its client's.
const X_FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");

/// How long, how much and how many bodies are drained.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DrainLimits {
    /// The most bytes of one body.
    pub max_bytes: u64,
    /// The longest time for one body.
    pub max_time: Duration,
    /// The longest time without a byte.
    pub max_idle: Duration,
    /// The same for a request with `Expect`: who waits for a 100 closes, who does not wait is sending.
    pub max_idle_after_expect: Duration,
    /// How many bodies at once; past it they are dropped.
    pub at_once: usize,
    /// How many of them from one network of clients, so that nobody has all.
    pub at_once_per_client: u32,
}

impl DrainLimits {
    /// The limits for a server whose largest upload has `max_upload_bytes`.
    pub fn for_uploads_of(max_upload_bytes: u64) -> Self {
        Self {
            max_bytes: drain_bytes(max_upload_bytes),
            max_time: MAX_DRAIN_TIME,
            max_idle: MAX_DRAIN_IDLE,
            max_idle_after_expect: MAX_DRAIN_IDLE_AFTER_EXPECT,
            at_once: MAX_DRAINS,
            at_once_per_client: MAX_DRAINS_PER_CLIENT,
        }
    }
}

/// The drains of one server.
#[derive(Debug, Clone)]
pub struct Drains {
    limits: DrainLimits,
    /// Of one body; it can change.
    max_bytes: Arc<AtomicU64>,
    free: Arc<Semaphore>,
    of_networks: Arc<Slots<ClientNetwork>>,
}

/// One of those that are drained.
struct Turn {
    _of_all: OwnedSemaphorePermit,
    _of_network: Option<Slot<ClientNetwork>>,
}

impl Drains {
    /// The drains of one server; clones share `limits.at_once`.
    pub fn new(limits: DrainLimits) -> Self {
        let free = Arc::new(Semaphore::new(limits.at_once));
        Self { limits, max_bytes: Arc::new(limits.max_bytes.into()), free, of_networks: Arc::default() }
    }

    /// A place among those that are drained; none: there are enough, in all or from this network.
    fn turn(&self, network: Option<ClientNetwork>) -> Option<Turn> {
        let of_network = match network {
            Some(network) => Some(self.of_networks.take(network, self.limits.at_once_per_client)?),
            None => None,
        };
        Some(Turn { _of_all: Arc::clone(&self.free).try_acquire_owned().ok()?, _of_network: of_network })
    }

    fn limits(&self) -> DrainLimits {
        DrainLimits { max_bytes: self.max_bytes.load(Ordering::Relaxed), ..self.limits }
    }

    /// For bodies that are read on from now on, the bounds of a server whose largest upload has `max_upload_bytes`.
    pub fn configure(&self, max_upload_bytes: u64) {
        self.max_bytes.store(drain_bytes(max_upload_bytes), Ordering::Relaxed);
    }
}

/// Middleware for `axum::middleware::from_fn_with_state`: from here on nobody needs to care for a body that is not
/// read to its end. Dropped early by whatever stands behind this, it is drained in the background as soon as the answer
/// is on its way, and not before: reading makes hyper send the 100 that an `Expect` waits for.
pub async fn drain_unread(State(drains): State<Drains>, request: Request, next: Next) -> Response {
    let (parts, body) = request.into_parts();
    // Cancelled when this future is done, which is in the same poll in which hyper takes the answer.
    let answered = CancellationToken::new();
    let _on_return = answered.clone().drop_guard();
    let max_idle = match parts.headers.contains_key(EXPECT) {
        true => drains.limits.max_idle_after_expect,
        false => drains.limits.max_idle,
    };
    let network = network(&parts.headers);
    let body = Body::new(Drained { unread: Some(body), drains, network, max_idle, answered });
    next.run(Request::from_parts(parts, body)).await
}

/// The network of the gateway's client. None for who comes without a gateway.
fn network(headers: &HeaderMap) -> Option<ClientNetwork> {
    let first = headers.get(X_FORWARDED_FOR)?.to_str().ok()?.split(',').next()?;
    first.trim().parse::<IpAddr>().ok().map(ClientNetwork::of)
}

/// A body that is drained when it is dropped before its end.
struct Drained {
    /// None after its end.
    unread: Option<Body>,
    drains: Drains,
    network: Option<ClientNetwork>,
    max_idle: Duration,
    answered: CancellationToken,
}

impl HttpBody for Drained {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        let Some(body) = &mut self.unread else { return Poll::Ready(None) };
        let frame = std::task::ready!(Pin::new(body).poll_frame(cx));
        if !matches!(frame, Some(Ok(_))) {
            self.unread = None;
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.unread.as_ref().is_none_or(HttpBody::is_end_stream)
    }

    fn size_hint(&self) -> SizeHint {
        self.unread.as_ref().map_or(SizeHint::with_exact(0), HttpBody::size_hint)
    }
}

impl Drop for Drained {
    fn drop(&mut self) {
        let Some(body) = self.unread.take().filter(|body| !body.is_end_stream()) else { return };
        let (Ok(runtime), Some(turn)) = (Handle::try_current(), self.drains.turn(self.network)) else { return };
        let limits = self.drains.limits();
        runtime.spawn(drain(body, limits, self.max_idle, self.answered.clone(), turn));
    }
}

async fn drain(mut body: Body, limits: DrainLimits, max_idle: Duration, answered: CancellationToken, _turn: Turn) {
    answered.cancelled().await;
    let mut left = limits.max_bytes;
    // Ends by itself at the body's end, at its failure, or past a bound; hyper then closes the connection.
    let _ = timeout(limits.max_time, async {
        while let Ok(Some(Ok(frame))) = timeout(max_idle, body.frame()).await {
            let len = frame.data_ref().map_or(0, Bytes::len) as u64;
            match left.checked_sub(len) {
                Some(rest) => left = rest,
                None => break,
            }
        }
    })
    .await;
}

#[cfg(test)]
mod tests;
