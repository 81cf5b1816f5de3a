//! The gateway's proxy: the gate, and behind it the servers of each service.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use async_trait::async_trait;
use bytes::Bytes;
use http::StatusCode;
use pingora::{
    Error,
    ErrorSource::Downstream,
    ErrorType::HTTPStatus,
    Result,
    http::{RequestHeader, ResponseHeader},
    proxy::{FailToProxy, ProxyHttp, Session},
    upstreams::peer::HttpPeer,
};
use sluice_common::problem::Problem;
use tokio::sync::watch;

use crate::{
    answer::Answer,
    gate::{Gate, RETRY_AFTER, Visit},
    request::loggable,
    upstream::{Candidate, Upstream},
};

/// How long a client may take to send, or to take, the next bytes.
const CLIENT_TIMEOUT: Duration = Duration::from_secs(60);

/// The proxy.
pub struct Proxy {
    gate: Gate,
    /// Of the services, at their places.
    upstreams: Vec<Upstream>,
    /// How many requests are under way.
    running: watch::Sender<usize>,
    stopping: Arc<AtomicBool>,
}

/// What is known of one request.
pub struct Context {
    began: Instant,
    visit: Visit,
    /// Of the servers behind, those not tried in vain.
    candidates: Vec<Candidate>,
    _running: Running,
}

/// Counts a request while it lives.
struct Running(watch::Sender<usize>);

impl Running {
    fn count(running: &watch::Sender<usize>) -> Self {
        running.send_modify(|running| *running += 1);
        Self(running.clone())
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.0.send_modify(|running| *running -= 1);
    }
}

impl Proxy {
    /// A proxy that lets through what `gate` does, each service to its own servers. Once `stopping` is set, new requests
    /// are sent away.
    pub fn new(gate: Gate, upstreams: Vec<Upstream>, stopping: Arc<AtomicBool>) -> Self {
        Self { gate, upstreams, running: watch::Sender::new(0), stopping }
    }

    /// How many requests are under way.
    pub fn running(&self) -> watch::Receiver<usize> {
        self.running.subscribe()
    }

    fn upstream(&self, context: &Context) -> Result<&Upstream> {
        let forward = context.visit.forward();
        let upstream = forward.and_then(|forward| self.upstreams.get(forward.service.index()));
        upstream.ok_or_else(|| Error::explain(HTTPStatus(500), "a request without a service"))
    }

    async fn peer(&self, session: &Session, context: &mut Context) -> Result<Box<HttpPeer>> {
        let upstream = self.upstream(context)?;
        if context.candidates.is_empty() {
            context.candidates = upstream.candidates().await?;
        }
        Ok(Box::new(upstream.peer(context.candidates[0], session.is_upgrade_req())))
    }
}

#[async_trait]
impl ProxyHttp for Proxy {
    type CTX = Context;

    fn new_ctx(&self) -> Context {
        let running = Running::count(&self.running);
        Context { began: Instant::now(), visit: Visit::default(), candidates: Vec::new(), _running: running }
    }

    async fn request_filter(&self, session: &mut Session, context: &mut Context) -> Result<bool> {
        // What came whole is forwarded whole, also where the client has hung up since; but for an upgraded connection,
        // which ends with it.
        let is_upgrade = session.is_upgrade_req();
        session.set_abort_on_close(is_upgrade);
        session.set_read_timeout(Some(CLIENT_TIMEOUT));
        session.set_write_timeout(Some(CLIENT_TIMEOUT));
        if self.stopping.load(Ordering::Relaxed) {
            let problem = Problem::new(StatusCode::SERVICE_UNAVAILABLE, "stopping").detail("The server is stopping.");
            self.gate.answer(&Answer::from(problem).retry_after(RETRY_AFTER), session).await?;
            return Ok(true);
        }
        self.gate.request_filter(session, &mut context.visit).await
    }

    async fn upstream_peer(&self, session: &mut Session, context: &mut Context) -> Result<Box<HttpPeer>> {
        self.peer(session, context).await
    }

    fn fail_to_connect(
        &self,
        _session: &mut Session,
        _peer: &HttpPeer,
        context: &mut Context,
        mut error: Box<Error>,
    ) -> Box<Error> {
        // Nothing was sent yet, so another address may be tried, whatever the request is.
        context.candidates.remove(0);
        error.set_retry(!context.candidates.is_empty());
        error
    }

    async fn upstream_request_filter(
        &self,
        _session: &mut Session,
        request: &mut RequestHeader,
        context: &mut Context,
    ) -> Result<()> {
        self.gate.strip(request, &context.visit)?;
        if let Some(candidate) = context.candidates.first() {
            self.upstream(context)?.adapt(request, *candidate)?;
        }
        self.gate.permit(request, &context.visit)
    }

    async fn request_body_filter(
        &self,
        session: &mut Session,
        body: &mut Option<Bytes>,
        end_of_stream: bool,
        context: &mut Context,
    ) -> Result<()> {
        self.gate.request_body_filter(session, body, end_of_stream, &mut context.visit)
    }

    async fn response_filter(
        &self,
        session: &mut Session,
        response: &mut ResponseHeader,
        context: &mut Context,
    ) -> Result<()> {
        if response.status == StatusCode::SWITCHING_PROTOCOLS {
            // Either side may be silent for as long as it likes.
            session.set_read_timeout(None);
        }
        self.gate.response_filter(session, response, &mut context.visit).await
    }

    fn response_body_filter(
        &self,
        _session: &mut Session,
        body: &mut Option<Bytes>,
        _end_of_stream: bool,
        context: &mut Context,
    ) -> Result<Option<Duration>> {
        self.gate.response_body_filter(body, &mut context.visit);
        Ok(None)
    }

    async fn fail_to_proxy(&self, session: &mut Session, error: &Error, context: &mut Context) -> FailToProxy {
        self.gate.fail_to_proxy(session, error, &mut context.visit).await
    }

    fn suppress_error_log(&self, _session: &Session, _context: &Context, error: &Error) -> bool {
        // Clients that leave, and uploads that are cut for their size, are no failures of ours.
        *error.esource() == Downstream || matches!(error.etype(), HTTPStatus(413))
    }

    async fn logging(&self, session: &mut Session, error: Option<&Error>, context: &mut Context) {
        self.gate.logging(session, &context.visit);
        let status = session.response_written().map_or(0, |response| response.status.as_u16());
        tracing::info!(
            method = %session.req_header().method,
            path = loggable(session.req_header().uri.path()),
            status,
            request_bytes = context.visit.body_bytes(),
            response_bytes = session.body_bytes_sent(),
            ms = context.began.elapsed().as_micros() as f64 / 1_000.0,
            error = error.map(|error| error.etype().as_str()),
            "request"
        );
    }

    /// What pingora's own log lines say of a request: nothing of its path and query, which can hold tokens.
    fn request_summary(&self, session: &Session, _context: &Context) -> String {
        let request = session.req_header();
        format!("{} {}", request.method, loggable(request.uri.path()))
    }
}
