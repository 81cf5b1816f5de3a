//! The proxy around the paywall.

use std::{
    net::{IpAddr, Ipv4Addr, SocketAddr},
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
    ErrorSource::{Downstream, Upstream},
    ErrorType::{ConnectError, ConnectionClosed, HTTPStatus, ReadError, ReadTimedout, WriteError, WriteTimedout},
    Result,
    http::{RequestHeader, ResponseHeader},
    protocols::l4::ext::TcpKeepalive,
    proxy::{FailToProxy, ProxyHttp, Session},
    upstreams::peer::HttpPeer,
};
use sluice_common::{
    clock::unix_now,
    l402::{LAPSED_HEADER, Lapsed},
    problem::Problem,
};
use tokio::{net::lookup_host, sync::watch, time::timeout};

use crate::{
    answer::Answer,
    cors,
    drain::Drains,
    ledger::{Books, SettlementCheck, Unproven},
    paywall::{ChallengeError, Decision, Forward, Paywall, Reason, ServiceId, too_large_problem},
    request::{is_grpc, loggable, normalise_target, strip, strip_response},
};

/// How long a client may take to send, or to take, the next bytes.
const CLIENT_TIMEOUT: Duration = Duration::from_secs(60);

/// How long the server behind may take to accept a connection.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// How long the server behind may take to accept the next bytes.
const UPSTREAM_WRITE_TIMEOUT: Duration = Duration::from_secs(60);

/// How long an idle connection to the server behind is kept: less than the media server keeps it, so that no request is
/// sent into one that is being closed.
const UPSTREAM_IDLE_TIMEOUT: Duration = Duration::from_secs(30);

/// When a client should come again after what is away.
const RETRY_AFTER: Duration = Duration::from_secs(5);

/// The proxy.
pub struct Proxy {
    paywall: Arc<Paywall>,
    settlement: SettlementCheck,
    books: Arc<Books>,
    drains: Drains,
    /// How many requests are under way.
    running: watch::Sender<usize>,
    stopping: Arc<AtomicBool>,
}

/// What is known of one request.
pub struct Context {
    began: Instant,
    forward: Option<Forward>,
    /// Of the server behind, those not tried in vain.
    addresses: Vec<SocketAddr>,
    body_bytes: u64,
    /// A body to send in the place of the one from behind.
    replacement: Option<Bytes>,
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
    /// A proxy with this paywall, which lets through what `settlement` confirms and notes it in `books`. Answers that come
    /// before the body's end read on for at most `max_drain_bytes`. Once `stopping` is set, new requests are sent away.
    pub fn new(
        paywall: Arc<Paywall>,
        settlement: SettlementCheck,
        books: Arc<Books>,
        max_drain_bytes: u64,
        stopping: Arc<AtomicBool>,
    ) -> Self {
        let drains = Drains::new(max_drain_bytes);
        Self { paywall, settlement, books, drains, running: watch::Sender::new(0), stopping }
    }

    /// How many requests are under way.
    pub fn running(&self) -> watch::Receiver<usize> {
        self.running.subscribe()
    }

    /// What becomes of the request: forwarded, or an answer of our own.
    async fn admit(&self, session: &mut Session) -> Result<Forward, Answer> {
        if self.stopping.load(Ordering::Relaxed) {
            let problem = Problem::new(StatusCode::SERVICE_UNAVAILABLE, "stopping").detail("The server is stopping.");
            return Err(Answer::from(problem).retry_after(RETRY_AFTER));
        }
        normalise_target(session.req_header_mut())?;
        let request = session.req_header();
        if cors::is_preflight(&request.method, &request.headers) {
            return Err(Answer::preflight());
        }
        let now = unix_now();
        match self.paywall.decide(&request.method, request.uri.path(), &request.headers, now) {
            Decision::Forward(forward) => {
                self.confirm(&forward, now).await?;
                Ok(forward)
            }
            Decision::Refuse(problem) => Err(problem.into()),
            Decision::Challenge(service, reason) => {
                let answer = self.challenge(service, reason, client(session)).await;
                let is_asked = answer.status() == StatusCode::PAYMENT_REQUIRED;
                Err(if is_asked && is_grpc(&session.req_header().headers) { answer.for_grpc() } else { answer })
            }
        }
    }

    /// What is answered where the server behind says that a token has lapsed.
    async fn sell(&self, service: ServiceId, lapsed: Lapsed, session: &Session) -> Answer {
        match self.paywall.sell(service, Reason::Lapsed(lapsed), &session.req_header().headers) {
            Decision::Refuse(problem) => problem.into(),
            Decision::Forward(_) | Decision::Challenge(..) => {
                self.challenge(service, Reason::Lapsed(lapsed), client(session)).await
            }
        }
    }

    /// Asks for the proof of payment that is configured, and notes the use of the token. Nothing where nothing costs.
    async fn confirm(&self, forward: &Forward, now: u64) -> Result<(), Answer> {
        let Some(permit) = &forward.permit else { return Ok(()) };
        let service = &self.paywall.service(forward.service).terms.name;
        self.settlement.confirm(permit, service).await.map_err(unproven)?;
        self.paywall.settled(permit.token().payment_hash());
        self.books.used(permit, service, now);
        Ok(())
    }

    async fn challenge(&self, service: ServiceId, reason: Reason, client: IpAddr) -> Answer {
        match self.paywall.challenge(service, reason, client, unix_now()).await {
            Ok(answer) => answer,
            Err(ChallengeError::TooMany(too_many)) => {
                let problem = Problem::new(StatusCode::SERVICE_UNAVAILABLE, "too_many_invoices")
                    .detail("Too many invoices were asked for. Come again; a token that is paid goes on working.")
                    .with("limit", too_many.limit.code());
                Answer::from(problem).retry_after(too_many.wait)
            }
            Err(error) => {
                tracing::error!(%error, "no invoice");
                let problem = Problem::new(StatusCode::SERVICE_UNAVAILABLE, "no_invoice")
                    .detail("No invoice can be made now. Come again; a token that is paid goes on working.");
                Answer::from(problem).retry_after(RETRY_AFTER)
            }
        }
    }

    async fn peer(&self, context: &mut Context) -> Result<Box<HttpPeer>> {
        let Some(forward) = &context.forward else {
            return Err(Error::explain(HTTPStatus(500), "a request without a service"));
        };
        if context.addresses.is_empty() {
            context.addresses = resolve(&self.paywall.service(forward.service).upstream).await?;
        }
        let mut peer = HttpPeer::new(context.addresses[0], false, String::new());
        peer.options.connection_timeout = Some(CONNECT_TIMEOUT);
        peer.options.total_connection_timeout = Some(CONNECT_TIMEOUT);
        peer.options.write_timeout = Some(UPSTREAM_WRITE_TIMEOUT);
        peer.options.idle_timeout = Some(UPSTREAM_IDLE_TIMEOUT);
        // No read timeout: the answer to an upload of hours comes after hours. A dead peer is found by keep-alive.
        peer.options.tcp_keepalive = Some(TcpKeepalive {
            idle: Duration::from_secs(30),
            interval: Duration::from_secs(10),
            count: 3,
            #[cfg(target_os = "linux")]
            user_timeout: Duration::ZERO,
        });
        Ok(Box::new(peer))
    }

    /// What a failed request is answered with; none where nobody is left to answer.
    fn failure(&self, error: &Error, context: &Context) -> Option<Answer> {
        let problem = match (error.esource(), error.etype()) {
            (_, HTTPStatus(413)) => {
                let limit = context.forward.as_ref().and_then(|forward| forward.permit.as_ref());
                let limit_bytes = limit.map_or(0, |permit| permit.token().max_upload_bytes());
                too_large_problem(limit_bytes, context.body_bytes)
            }
            (Downstream, ReadTimedout) => Problem::new(StatusCode::REQUEST_TIMEOUT, "request_timeout")
                .detail(format!("No byte of the body came for {} s.", CLIENT_TIMEOUT.as_secs())),
            (Downstream, WriteError | ReadError | WriteTimedout | ConnectionClosed) => return None,
            (Downstream, _) => Problem::new(StatusCode::BAD_REQUEST, "malformed_request")
                .detail("The request, or its body's framing, is not HTTP."),
            (Upstream, _) => {
                let problem = Problem::new(StatusCode::BAD_GATEWAY, "upstream_unavailable")
                    .detail("The server behind cannot be reached, or broke off. A token that is paid stays good.");
                return Some(Answer::from(problem).retry_after(RETRY_AFTER));
            }
            _ => Problem::new(StatusCode::INTERNAL_SERVER_ERROR, "internal").detail("Something went wrong here."),
        };
        Some(problem.into())
    }
}

#[async_trait]
impl ProxyHttp for Proxy {
    type CTX = Context;

    fn new_ctx(&self) -> Context {
        Context {
            began: Instant::now(),
            forward: None,
            addresses: Vec::new(),
            body_bytes: 0,
            replacement: None,
            _running: Running::count(&self.running),
        }
    }

    async fn request_filter(&self, session: &mut Session, context: &mut Context) -> Result<bool> {
        // What came whole is forwarded whole, also where the client has hung up since.
        session.set_abort_on_close(false);
        session.set_read_timeout(Some(CLIENT_TIMEOUT));
        session.set_write_timeout(Some(CLIENT_TIMEOUT));
        match self.admit(session).await {
            Ok(forward) => {
                context.forward = Some(forward);
                Ok(false)
            }
            Err(answer) => {
                answer.write(session, &self.drains).await?;
                Ok(true)
            }
        }
    }

    async fn upstream_peer(&self, _session: &mut Session, context: &mut Context) -> Result<Box<HttpPeer>> {
        self.peer(context).await
    }

    fn fail_to_connect(
        &self,
        _session: &mut Session,
        _peer: &HttpPeer,
        context: &mut Context,
        mut error: Box<Error>,
    ) -> Box<Error> {
        // Nothing was sent yet, so another address may be tried, whatever the request is.
        context.addresses.remove(0);
        error.set_retry(!context.addresses.is_empty());
        error
    }

    async fn upstream_request_filter(
        &self,
        _session: &mut Session,
        request: &mut RequestHeader,
        context: &mut Context,
    ) -> Result<()> {
        let forwards_credential = |forward: &Forward| self.paywall.service(forward.service).forward_credential;
        strip(request, context.forward.as_ref().is_some_and(forwards_credential))
    }

    async fn request_body_filter(
        &self,
        session: &mut Session,
        body: &mut Option<Bytes>,
        end_of_stream: bool,
        context: &mut Context,
    ) -> Result<()> {
        // HTTP/2 may say the end with an empty frame. pingora would write it as a last chunk and then another one, which
        // the server behind reads as a request of its own: its answer could become that of another client.
        if end_of_stream && body.as_ref().is_some_and(Bytes::is_empty) {
            *body = None;
        }
        context.body_bytes += body.as_ref().map_or(0, |bytes| bytes.len() as u64);
        match context.forward.as_ref().and_then(Forward::max_body_bytes) {
            // An answer that is on its way is not to be cut off: who gave it reads on, within bounds.
            Some(max) if context.body_bytes > max && !is_answered(session) => {
                Err(Error::explain(HTTPStatus(413), "more than was paid for"))
            }
            _ => Ok(()),
        }
    }

    async fn response_filter(
        &self,
        session: &mut Session,
        response: &mut ResponseHeader,
        context: &mut Context,
    ) -> Result<()> {
        let lapsed = response.headers.get(LAPSED_HEADER).and_then(|value| Lapsed::from_code(value.to_str().ok()?));
        if let (Some(lapsed), Some(forward)) = (lapsed, &context.forward)
            && forward.permit.is_some()
        {
            let answer = self.sell(forward.service, lapsed, session).await;
            *response = answer.header()?;
            context.replacement = Some(answer.body().clone());
        }
        strip_response(response);
        cors::add_headers(response)
    }

    fn response_body_filter(
        &self,
        _session: &mut Session,
        body: &mut Option<Bytes>,
        _end_of_stream: bool,
        context: &mut Context,
    ) -> Result<Option<Duration>> {
        if let Some(replacement) = &mut context.replacement {
            // All of ours with the first piece, nothing of theirs.
            *body = Some(std::mem::take(replacement)).filter(|bytes| !bytes.is_empty());
        }
        Ok(None)
    }

    async fn fail_to_proxy(&self, session: &mut Session, error: &Error, context: &mut Context) -> FailToProxy {
        let answer = self.failure(error, context).filter(|_| !is_answered(session));
        let error_code = answer.as_ref().map_or(0, |answer| answer.status().as_u16());
        if let Some(answer) = answer
            && let Err(error) = answer.write(session, &self.drains).await
        {
            tracing::debug!(%error, "the client left before its answer");
        }
        FailToProxy { error_code, can_reuse_downstream: false }
    }

    fn suppress_error_log(&self, _session: &Session, _context: &Context, error: &Error) -> bool {
        // Clients that leave, and uploads that are cut for their size, are no failures of ours.
        *error.esource() == Downstream || matches!(error.etype(), HTTPStatus(413))
    }

    async fn logging(&self, session: &mut Session, error: Option<&Error>, context: &mut Context) {
        let status = session.response_written().map_or(0, |response| response.status.as_u16());
        tracing::info!(
            method = %session.req_header().method,
            path = loggable(session.req_header().uri.path()),
            status,
            request_bytes = context.body_bytes,
            response_bytes = session.body_bytes_sent(),
            ms = context.began.elapsed().as_secs_f64() * 1_000.0,
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

/// Whether the client has been given an answer: after `100 Continue` it still waits for one.
fn is_answered(session: &Session) -> bool {
    session.response_written().is_some_and(|response| !response.status.is_informational())
}

/// The addresses of the server behind, of which the first that takes the connection serves.
async fn resolve(upstream: &str) -> Result<Vec<SocketAddr>> {
    if let Ok(address) = upstream.parse() {
        return Ok(vec![address]);
    }
    let found = timeout(CONNECT_TIMEOUT, lookup_host(upstream)).await;
    let addresses: Vec<SocketAddr> = found.ok().and_then(Result::ok).into_iter().flatten().collect();
    if addresses.is_empty() {
        return Err(Error::explain(ConnectError, "the upstream's name has no address").into_up());
    }
    Ok(addresses)
}

/// What a genuine token is answered whose payment is not proven.
fn unproven(unproven: Unproven) -> Answer {
    match unproven {
        // Another payment would not mend it: no invoice.
        Unproven::NotSettled => Problem::new(StatusCode::UNAUTHORIZED, "not_settled")
            .detail("The node has not received the payment of this token. If it is under way, come again.")
            .into(),
        Unproven::Unknown(cause) => {
            tracing::error!(%cause, "it is not known whether a token is paid");
            let problem = Problem::new(StatusCode::SERVICE_UNAVAILABLE, "settlement_unknown").detail(
                "It cannot be looked up now whether this token is paid. Come again; a token that is paid stays good.",
            );
            Answer::from(problem).retry_after(RETRY_AFTER)
        }
    }
}

/// Where the client's connection comes from. Those of which it is not known are one client.
fn client(session: &Session) -> IpAddr {
    let address = session.client_addr().and_then(|address| address.as_inet());
    address.map_or(Ipv4Addr::UNSPECIFIED.into(), SocketAddr::ip)
}
