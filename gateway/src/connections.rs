//! Connections of clients: how many there may be, and how slow they may be.
//!
//! pingora bounds each read by itself, so a client that sends a byte of a head from time to time would keep its
//! connection for ever, and in HTTP/2 it bounds no body. So each connection and each request is watched from outside, and
//! what is too slow is dropped. From here, too, an early answer in HTTP/2 is kept together ([`Watch::write_together`]).

use std::{
    future::poll_fn,
    net::IpAddr,
    pin::pin,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use arc_swap::ArcSwap;
use async_trait::async_trait;
use pingora::{
    apps::{HttpServerApp, HttpServerOptions, ReusedHttpStream, ServerApp},
    listeners::tls::Acceptor,
    protocols::{
        Stream,
        http::{ServerSession, v2::server::H2Options},
        l4::stream::Stream as TcpStream,
    },
    server::ShutdownWatch,
};
use sluice_common::slots::Slots;
use tokio::{
    sync::Semaphore,
    task::yield_now,
    time::{Instant, sleep, sleep_until, timeout_at},
};

use crate::{
    limits::{ClientNetwork, LimitsConfig, SlowClients},
    metrics::{Limit, Metrics},
    proxy::Serving,
};

/// For a body of HTTP/2, in how many times the timeout something must come. It is not known whether the client is waited
/// for, or the server behind, which has a timeout of its own.
const H2_BODY_TIMEOUTS: u32 = 2;

/// How a connection of HTTP/2 begins (RFC 9113, 3.4).
const H2_PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// No body is waited for.
const NOT_WAITING: u64 = u64::MAX;

tokio::task_local! {
    /// The request that this task works on.
    static WATCH: Arc<Watch>;
}

/// Takes the connections of one listener for `A`, within the bounds of all.
pub(crate) struct Connections<A> {
    all: Arc<All<A>>,
    /// The handshake is ours: pingora's listener would wait for it before anybody has counted the connection.
    tls: Option<Acceptor>,
}

/// What the listeners share.
struct All<A> {
    app: Arc<A>,
    /// What a connection is bounded by is what is configured when it begins.
    serving: Arc<ArcSwap<Serving>>,
    places: Semaphore,
    of_networks: Slots<ClientNetwork>,
    metrics: Arc<Metrics>,
}

/// One connection.
struct Connection<A> {
    app: Arc<A>,
    options: HttpServerOptions,
    slow: SlowClients,
    has_begun: AtomicBool,
    /// Whoever holds it keeps the connection from being read and written.
    still: Mutex<()>,
    metrics: Arc<Metrics>,
}

/// How far a request has come.
#[derive(Debug)]
pub(crate) struct Watch {
    is_http2: bool,
    /// Whether its connection is kept still when it is worked on next.
    keeps_still: AtomicBool,
    began: Instant,
    has_head: AtomicBool,
    /// When a body was last heard of, in milliseconds after the begin.
    body_at: AtomicU64,
}

impl Watch {
    fn new(is_http2: bool) -> Self {
        Self {
            is_http2,
            keeps_still: AtomicBool::new(false),
            began: Instant::now(),
            has_head: AtomicBool::new(false),
            body_at: AtomicU64::new(NOT_WAITING),
        }
    }

    /// What is written of an answer after this, without waiting between, goes out together in HTTP/2. A client whose upload
    /// is answered before its end may break it off at the answer's head: curl ends it short of the declared length then,
    /// which is an error of the stream (RFC 9113, 8.1.1). h2 reads before it writes, and drops what is not written of a
    /// stream with an error. An answer from behind goes out so as far as it is there.
    pub(crate) async fn write_together() {
        let Ok(watch) = WATCH.try_with(Arc::clone) else { return };
        if watch.is_http2 {
            watch.keeps_still.store(true, Ordering::Relaxed);
            // The connection is not kept still yet; when this is gone on with, it is.
            yield_now().await;
        }
    }

    /// `serving`, with the connection kept still by `still` where that is asked for.
    async fn serve<T>(&self, serving: impl Future<Output = T>, still: &Mutex<()>) -> T {
        let mut serving = pin!(serving);
        poll_fn(|context| {
            // In HTTP/1 a request is worked on where its connection is, which would wait for itself.
            let keeps_still = self.is_http2 && self.keeps_still.swap(false, Ordering::Relaxed);
            let _still = keeps_still.then(|| hold(still));
            serving.as_mut().poll(context)
        })
        .await
    }

    /// The request that this task works on has its head. None where nobody watches.
    pub(crate) fn of_head() -> Option<Arc<Self>> {
        let watch = WATCH.try_with(Arc::clone).ok()?;
        watch.has_head.store(true, Ordering::Relaxed);
        Some(watch)
    }

    /// A body is waited for, and something of it came just now.
    pub(crate) fn body_came(&self) {
        let at = u64::try_from(self.began.elapsed().as_millis()).unwrap_or(NOT_WAITING);
        self.body_at.store(at, Ordering::Relaxed);
    }

    /// Whether more of a body is waited for.
    pub(crate) fn waits_for_body(&self) -> bool {
        self.body_at.load(Ordering::Relaxed) != NOT_WAITING
    }

    /// No more of a body is waited for.
    pub(crate) fn body_ended(&self) {
        self.body_at.store(NOT_WAITING, Ordering::Relaxed);
    }

    /// Ends if the head is not there in time.
    async fn head_is_late(&self, timeout: Duration) {
        sleep(timeout).await;
        if self.has_head.load(Ordering::Relaxed) {
            std::future::pending().await
        }
    }

    /// Ends if a body that is waited for does not go on in time.
    async fn body_is_late(&self, timeout: Duration) {
        let mut look = self.began + timeout;
        loop {
            sleep_until(look).await;
            let due = match self.body_at.load(Ordering::Relaxed) {
                NOT_WAITING => Instant::now() + timeout,
                at => self.began + Duration::from_millis(at) + timeout,
            };
            if due <= Instant::now() {
                return;
            }
            look = due;
        }
    }
}

impl<A> Connections<A> {
    pub(crate) fn new(app: A, serving: Arc<ArcSwap<Serving>>, metrics: Arc<Metrics>) -> Self {
        let max = serving.load().gate.limits().max_connections;
        let places = Semaphore::new(usize::try_from(max.get()).unwrap_or(Semaphore::MAX_PERMITS));
        let all = All { app: Arc::new(app), serving, places, of_networks: Slots::default(), metrics };
        Self { all: Arc::new(all), tls: None }
    }

    /// Another listener, by TLS, for the same.
    pub(crate) fn by_tls(&self, acceptor: Acceptor) -> Self {
        Self { all: Arc::clone(&self.all), tls: Some(acceptor) }
    }

    /// The most connections that come from `peer`'s network. A trusted proxy has those of many clients.
    fn max_of(limits: &LimitsConfig, peer: IpAddr) -> u32 {
        if limits.proxies.contains(peer) { u32::MAX } else { limits.max_connections_per_client.get() }
    }

    /// The connection once it is known what is spoken on it, and whether that is HTTP/2 without TLS. None: it failed.
    async fn begin(&self, mut stream: Stream) -> Option<(Stream, bool)> {
        let Some(acceptor) = &self.tls else {
            let is_h2c = begins_http2(&mut stream).await.ok()?;
            return Some((stream, is_h2c));
        };
        let stream = stream.into_any().downcast::<TcpStream>().ok()?;
        match acceptor.tls_handshake(*stream).await {
            Ok(stream) => Some((Box::new(stream), false)),
            Err(error) => {
                tracing::debug!(%error, "a client and its TLS did not come together");
                None
            }
        }
    }
}

/// Whether a connection begins as HTTP/2 does. Looks at no more bytes than it takes to know: pingora would wait for as many
/// as HTTP/2 begins with, and a short request has fewer.
async fn begins_http2(stream: &mut Stream) -> std::io::Result<bool> {
    let mut begin = [0; H2_PREFACE.len()];
    for len in 1..=begin.len() {
        let seen = &mut begin[..len];
        if !stream.try_peek(seen).await? || seen[..] != H2_PREFACE[..len] {
            return Ok(false);
        }
    }
    Ok(true)
}

#[async_trait]
impl<A: HttpServerApp + Send + Sync + 'static> ServerApp for Connections<A> {
    async fn process_new(self: &Arc<Self>, stream: Stream, shutdown: &ShutdownWatch) -> Option<Stream> {
        let All { app, serving, places, of_networks, metrics } = &*self.all;
        let digest = stream.get_socket_digest();
        let peer = digest.as_ref().and_then(|digest| Some(digest.peer_addr()?.as_inet()?.ip()));
        let serving = serving.load_full();
        let limits = serving.gate.limits();
        let of_network = peer.map(|peer| of_networks.take(ClientNetwork::of(peer), Self::max_of(limits, peer)));
        let (Ok(_place), None | Some(Some(_))) = (places.try_acquire(), &of_network) else {
            metrics.limit(Limit::Connections);
            return None;
        };
        let slow = limits.slow;
        // It may be replaced while the connection lives.
        drop(serving);
        let late = Instant::now() + slow.head_timeout;
        let Ok(begun) = timeout_at(late, self.begin(stream)).await else {
            metrics.limit(Limit::SlowHead);
            return None;
        };
        let (stream, is_h2c) = begun?;
        let mut options = app.server_options().cloned().unwrap_or_default();
        options.h2c &= is_h2c;
        let (app, has_begun, metrics) = (Arc::clone(app), AtomicBool::new(false), Arc::clone(metrics));
        let connection = Arc::new(Connection { app, options, slow, has_begun, still: Mutex::new(()), metrics });
        let mut connected = pin!(connection.process_new(stream, shutdown));
        let mut serving = poll_fn(|context| {
            let _moving = hold(&connection.still);
            connected.as_mut().poll(context)
        });
        tokio::select! {
            biased;
            served = &mut serving => return served,
            () = connection.begin_is_late(late) => {
                connection.metrics.limit(Limit::SlowHead);
                return None;
            }
        }
    }

    async fn cleanup(&self) {
        self.all.app.http_cleanup().await;
    }
}

/// Blocks for no longer than a connection or a request is worked on at a stretch: neither waits for the other meanwhile.
fn hold(still: &Mutex<()>) -> MutexGuard<'_, ()> {
    still.lock().unwrap_or_else(PoisonError::into_inner)
}

impl<A> Connection<A> {
    /// Ends if not even the begin of a request is there in time.
    async fn begin_is_late(&self, late: Instant) {
        sleep_until(late).await;
        if self.has_begun.load(Ordering::Relaxed) {
            std::future::pending().await
        }
    }
}

#[async_trait]
impl<A: HttpServerApp + Send + Sync + 'static> HttpServerApp for Connection<A> {
    async fn process_new_http(
        self: &Arc<Self>,
        mut session: ServerSession,
        shutdown: &ShutdownWatch,
    ) -> Option<ReusedHttpStream> {
        let is_first = !self.has_begun.swap(true, Ordering::Relaxed);
        let is_http2 = session.is_http2();
        // None where the server stops.
        if is_first && session.get_keepalive().is_some() {
            session.set_keepalive(Some(self.slow.keepalive.as_secs()));
        }
        let watch = Arc::new(Watch::new(is_http2));
        let serving = WATCH.scope(Arc::clone(&watch), self.app.process_new_http(session, shutdown));
        let mut serving = pin!(watch.serve(serving, &self.still));
        let slow = &self.slow;
        let late = async {
            if is_http2 {
                watch.body_is_late(slow.body_timeout * H2_BODY_TIMEOUTS).await;
                return Limit::SlowBody;
            }
            let waits = if is_first { Duration::ZERO } else { slow.keepalive };
            watch.head_is_late(waits + slow.head_timeout).await;
            Limit::SlowHead
        };
        tokio::select! {
            biased;
            served = &mut serving => served,
            limit = late => {
                tracing::info!(limit = limit.as_str(), "a client was too slow; its connection is closed");
                self.metrics.limit(limit);
                None
            }
        }
    }

    fn h2_options(&self) -> Option<H2Options> {
        self.app.h2_options()
    }

    fn server_options(&self) -> Option<&HttpServerOptions> {
        Some(&self.options)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_connection_is_kept_still_while_an_answer_is_written_and_no_longer() {
        for is_http2 in [true, false] {
            let (watch, still) = (Arc::new(Watch::new(is_http2)), Mutex::new(()));
            let is_still = || still.try_lock().is_err();
            let answer = WATCH.scope(Arc::clone(&watch), async {
                assert!(!is_still());
                Watch::write_together().await;
                // In HTTP/1 the connection is worked on now, and holds the lock itself.
                assert_eq!(is_still(), is_http2);
                yield_now().await;
                assert!(!is_still(), "what follows need not be together with it");
            });
            watch.serve(answer, &still).await;
        }
    }
}
