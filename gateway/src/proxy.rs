//! The gateway's proxy: the gate, and behind it the servers of each service.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use arc_swap::ArcSwap;
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
use sluice_common::{problem::Problem, request_id::REQUEST_ID_HEADER};
use tokio::sync::watch;

use crate::{
    answer::Answer,
    gate::{Gate, RETRY_AFTER, Visit},
    limits::Client,
    metrics::Outcome,
    record::REQUEST_LINES,
    redirect::to_https,
    request::loggable,
    trace::Trace,
    upstream::{Candidate, Upstream},
};

/// How many times as long as no byte of a body may come, a client may need for a piece of an answer. It may be 64 KiB, and
/// pingora sees no progress within one: who takes as little as may come needs about four minutes.
const WRITE_TIMEOUTS: u32 = 10;

/// What serves the requests that begin while it is the current one.
pub struct Serving {
    /// The paywall.
    pub gate: Gate,
    /// Of the services, at their places.
    pub upstreams: Vec<Upstream>,
    /// Where clients that come without TLS are sent.
    pub https_port: Option<u16>,
}

/// The proxy.
pub struct Proxy {
    serving: Arc<ArcSwap<Serving>>,
    /// How many requests are under way.
    running: watch::Sender<usize>,
    stopping: Arc<AtomicBool>,
}

/// What is known of one request.
pub struct Context {
    began: Instant,
    /// As it was when the request began.
    serving: Arc<Serving>,
    visit: Visit,
    /// None until its head was read.
    trace: Option<Trace>,
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
    /// A proxy in which each request is served by what is `serving` when it begins. Once `stopping` is set, new requests
    /// are sent away.
    pub fn new(serving: Arc<ArcSwap<Serving>>, stopping: Arc<AtomicBool>) -> Self {
        Self { serving, running: watch::Sender::new(0), stopping }
    }

    /// What is serving.
    pub fn serving(&self) -> Arc<ArcSwap<Serving>> {
        Arc::clone(&self.serving)
    }

    /// How many requests are under way.
    pub fn running(&self) -> watch::Receiver<usize> {
        self.running.subscribe()
    }

    async fn peer(&self, session: &Session, context: &mut Context) -> Result<Box<HttpPeer>> {
        if context.candidates.is_empty() {
            context.candidates = context.upstream()?.candidates().await?;
        }
        Ok(Box::new(context.upstream()?.peer(context.candidates[0], session.is_upgrade_req())))
    }
}

impl Context {
    fn upstream(&self) -> Result<&Upstream> {
        let forward = self.visit.forward();
        let upstream = forward.and_then(|forward| self.serving.upstreams.get(forward.service.index()));
        upstream.ok_or_else(|| Error::explain(HTTPStatus(500), "a request without a service"))
    }

    /// What a client that came without TLS is answered, if that is not served.
    fn redirect(&self, session: &Session, client: &Client) -> Option<Answer> {
        let request = session.req_header();
        let port = self.serving.https_port?;
        if client.is_over_tls(&request.headers) { None } else { to_https(request, port) }
    }
}

#[async_trait]
impl ProxyHttp for Proxy {
    type CTX = Context;

    fn new_ctx(&self) -> Context {
        let running = Running::count(&self.running);
        Context {
            began: Instant::now(),
            serving: self.serving.load_full(),
            visit: Visit::default(),
            trace: None,
            candidates: Vec::new(),
            _running: running,
        }
    }

    async fn request_filter(&self, session: &mut Session, context: &mut Context) -> Result<bool> {
        // What came whole is forwarded whole, also where the client has hung up since; but for an upgraded connection,
        // which ends with it.
        let is_upgrade = session.is_upgrade_req();
        session.set_abort_on_close(is_upgrade);
        let body_timeout = context.serving.gate.limits().slow.body_timeout;
        session.set_read_timeout(Some(body_timeout));
        session.set_write_timeout(Some(body_timeout * WRITE_TIMEOUTS));
        let client = context.serving.gate.client(session);
        context.trace = Some(Trace::begin(session.req_header_mut(), client.is_trusted())?);
        let elsewhere = if context.serving.gate.limits().check(&client).is_err() {
            // Who is not let in is told so, and nothing else.
            None
        } else if self.stopping.load(Ordering::Relaxed) {
            let problem = Problem::new(StatusCode::SERVICE_UNAVAILABLE, "stopping").detail("The server is stopping.");
            Some(Answer::from(problem).retry_after(RETRY_AFTER))
        } else {
            context.redirect(session, &client)
        };
        if let Some(answer) = elsewhere {
            return context.serving.gate.refuse(&answer, session, &mut context.visit).await;
        }
        context.serving.gate.request_filter(session, &mut context.visit).await
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
        let gate = &context.serving.gate;
        gate.strip(request, &context.visit)?;
        if let Some(candidate) = context.candidates.first() {
            let rewrite = context.visit.forward().and_then(|to| gate.offer(to.service).scope.rewrite.as_ref());
            context.upstream()?.adapt(request, *candidate, rewrite)?;
        }
        gate.permit(request, &mut context.visit)
    }

    async fn request_body_filter(
        &self,
        session: &mut Session,
        body: &mut Option<Bytes>,
        end_of_stream: bool,
        context: &mut Context,
    ) -> Result<()> {
        context.serving.gate.request_body_filter(session, body, end_of_stream, &mut context.visit)
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
        context.serving.gate.response_filter(session, response, &mut context.visit).await?;
        match &context.trace {
            Some(trace) => response.insert_header(REQUEST_ID_HEADER, trace.request_id.header_value()),
            None => Ok(()),
        }
    }

    fn response_body_filter(
        &self,
        _session: &mut Session,
        body: &mut Option<Bytes>,
        _end_of_stream: bool,
        context: &mut Context,
    ) -> Result<Option<Duration>> {
        context.serving.gate.response_body_filter(body, &mut context.visit);
        Ok(None)
    }

    async fn fail_to_proxy(&self, session: &mut Session, error: &Error, context: &mut Context) -> FailToProxy {
        context.serving.gate.fail_to_proxy(session, error, &mut context.visit).await
    }

    fn suppress_error_log(&self, _session: &Session, _context: &Context, error: &Error) -> bool {
        // Clients that leave, and uploads that are cut for their size or slowness, are no failures of ours.
        *error.esource() == Downstream || matches!(error.etype(), HTTPStatus(408 | 413 | 429))
    }

    async fn logging(&self, session: &mut Session, error: Option<&Error>, context: &mut Context) {
        context.serving.gate.logging(session, &context.visit);
        let status = session.response_written().map_or(0, |response| response.status.as_u16());
        let (request, record, trace) = (session.req_header(), context.visit.record(), context.trace.as_ref());
        tracing::info!(
            target: REQUEST_LINES,
            method = %request.method,
            path = loggable(request.uri.path()),
            http = ?request.version,
            client = context.visit.client().map(|client| tracing::field::display(client.network())),
            service = record.service,
            outcome = record.outcome.map(Outcome::as_str),
            code = record.code,
            status,
            request_bytes = context.visit.body_bytes(),
            response_bytes = session.body_bytes_sent(),
            ms = context.began.elapsed().as_micros() as f64 / 1_000.0,
            request_id = trace.map(|trace| tracing::field::display(&trace.request_id)),
            trace_id = trace.map(Trace::trace_id),
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
