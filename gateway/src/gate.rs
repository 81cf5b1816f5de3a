//! The paywall for any pingora proxy: a [`Gate`] in the proxy, a [`Visit`] in its context, and in each phase a call of the
//! method of the same name. `gateway/examples/plugin.rs` is such a proxy.

mod admit;
mod behind;

use std::{
    net::{IpAddr, Ipv4Addr, SocketAddr},
    sync::Arc,
    time::{Duration, Instant},
};

use bytes::Bytes;
use http::header::HOST;
use pingora::{
    Error,
    ErrorSource::{Downstream, Upstream},
    ErrorType::HTTPStatus,
    Result,
    http::{RequestHeader, ResponseHeader},
    proxy::{FailToProxy, Session},
};
use sluice_common::{
    clock::unix_now,
    l402::{PaymentHash, STORED_BEFORE_HEADER},
    limits::{BYTES_PER_MB, drain_bytes},
    permit::{PERMIT_HEADER, PermittedRequest},
    revocation::RevocationWatch,
};

use self::behind::{broken_off, failure};
use crate::{
    answer::Answer,
    config::{ConfigError, Offer, PaywallConfig, check_offers},
    connections::Watch,
    cors,
    drain::Drains,
    ledger::{BookKeeper, Books, Bought, LedgerChanges, LedgerDb, SettlementCheck, Sold},
    lightning::LightningNode,
    limits::{Client, FreeUpload, Limited, Limits, LimitsConfig, Pace, TokenUpload},
    metrics::{Limit, Metrics, Outcome},
    paywall::{Asked, Demand, Forward, Paywall, PriceError, ServiceId},
    record::Record,
    request::{is_grpc, strip, strip_response},
    uses::HeldUse,
};

/// When a client should come again after what is away.
pub(crate) const RETRY_AFTER: Duration = Duration::from_secs(5);

/// What a gRPC client is told that has to pay (protocols.md §1).
const GRPC_INTERNAL: u8 = 13;

/// What it is told whose token is not taken, and whose token cannot be looked up now.
const GRPC_UNAUTHENTICATED: u8 = 16;
const GRPC_UNAVAILABLE: u8 = 14;

/// The paywall, as a proxy embeds it.
pub struct Gate {
    paywall: Paywall,
    revoked: Arc<RevocationWatch>,
    settlement: SettlementCheck,
    node: Arc<dyn LightningNode>,
    ledger: Arc<dyn LedgerDb>,
    books: Arc<Books>,
    drains: Arc<Drains>,
    limits: LimitsConfig,
    counted: Arc<Limits>,
    metrics: Arc<Metrics>,
}

/// What a gate knows of one request.
#[derive(Debug, Default)]
pub struct Visit {
    client: Option<Client>,
    forward: Option<Forward>,
    /// The most that its body may have; none: any.
    max_body_bytes: Option<u64>,
    body_bytes: u64,
    /// A body to send in the place of the one from behind.
    replacement: Option<Bytes>,
    record: Record,
    upload: Option<TokenUpload>,
    free_upload: Option<FreeUpload>,
    /// What a body ran into while it came.
    limited: Option<Limited>,
    /// Of a body that must come fast enough.
    pace: Option<Pace>,
    watch: Option<Arc<Watch>>,
    /// The use of the token, where the gateway counts.
    held: Option<HeldUse>,
    /// The payment of a genuine token that buys this, whether or not it is let through; and the service.
    shown: Option<(PaymentHash, ServiceId)>,
}

/// Why there is no gate.
#[derive(Debug, thiserror::Error)]
pub enum GateError {
    /// The configuration.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// A server that says prices.
    #[error(transparent)]
    Pricer(#[from] PriceError),
}

impl Visit {
    /// How the request goes to the server behind, once [`Gate::request_filter`] has let it through.
    pub fn forward(&self) -> Option<&Forward> {
        self.forward.as_ref()
    }

    /// How many bytes of the body have come.
    pub fn body_bytes(&self) -> u64 {
        self.body_bytes
    }

    /// Where it comes from; none before [`Gate::request_filter`].
    pub fn client(&self) -> Option<&Client> {
        self.client.as_ref()
    }

    /// What became of it so far.
    pub fn record(&self) -> &Record {
        &self.record
    }
}

impl Gate {
    /// A gate that is paid through `node`, and the tasks that book in `ledger` what is paid; all of it is counted in
    /// `metrics`. Must be called in a tokio runtime, which keeps them. The node need not be there yet.
    pub fn start(
        config: PaywallConfig,
        node: Arc<dyn LightningNode>,
        ledger: Arc<dyn LedgerDb>,
        metrics: Arc<Metrics>,
    ) -> Result<(Self, BookKeeper), GateError> {
        check_offers(&config.offers, config.invoice_expiry)?;
        let revoked = Arc::new(RevocationWatch::start(LedgerChanges(Arc::clone(&ledger))));
        let keys = config.master_keys.clone();
        let drains = Arc::new(Drains::new(drained_bytes(&config.offers), Arc::clone(&metrics)));
        let (sold, proof, limits) = (sold(&config), config.settlement, config.limits);
        let paywall = Paywall::new(
            config.offers,
            config.master_keys,
            config.network,
            Arc::clone(&node),
            config.invoice_expiry,
            config.invoice_limits,
        )?;
        let (book_keeper, books) =
            BookKeeper::start(Arc::clone(&ledger), Arc::clone(&node), sold, Arc::clone(&metrics), {
                let invoices = paywall.invoices();
                move |payment_hash| invoices.settled(payment_hash)
            });
        let settlement = SettlementCheck::new(proof, keys, Arc::clone(&ledger), Arc::clone(&node), Arc::clone(&books));
        let counted = Arc::new(Limits::new());
        Ok((Self { paywall, revoked, settlement, node, ledger, books, drains, limits, counted, metrics }, book_keeper))
    }

    /// A gate with another configuration in the place of this one, for the requests that begin from now on: paid through
    /// the same node, on the same network, into the same ledger, with all that this one counts and remembers. Nothing
    /// changes if it fails.
    pub fn with_config(&self, config: PaywallConfig) -> Result<Self, GateError> {
        check_offers(&config.offers, config.invoice_expiry)?;
        let (sold, proof, drained) = (sold(&config), config.settlement, drained_bytes(&config.offers));
        let (limits, keys) = (config.limits.clone(), config.master_keys.clone());
        let paywall = self.paywall.with_config(config)?;
        self.drains.configure(drained);
        self.books.sells(sold);
        let (node, ledger, books) = (Arc::clone(&self.node), Arc::clone(&self.ledger), Arc::clone(&self.books));
        let settlement = SettlementCheck::new(proof, keys, Arc::clone(&ledger), Arc::clone(&node), Arc::clone(&books));
        let revoked = Arc::clone(&self.revoked);
        let (drains, counted, metrics) =
            (Arc::clone(&self.drains), Arc::clone(&self.counted), Arc::clone(&self.metrics));
        Ok(Self { paywall, revoked, settlement, node, ledger, books, drains, limits, counted, metrics })
    }

    /// Lets a request through, or answers it; true: it is answered.
    pub async fn request_filter(&self, session: &mut Session, visit: &mut Visit) -> Result<bool> {
        let client = self.client(session);
        let watch = Watch::of_head();
        let admitted = self.admit(session, &client, visit).await;
        visit.client = Some(client);
        match admitted {
            Ok(forward) => {
                let is_grpc = is_grpc(&session.req_header().headers);
                if is_upload(self.offer(forward.service), has_body(session), is_grpc) {
                    visit.pace = Some(Pace::new(Instant::now()));
                    visit.watch = watch.inspect(|watch| watch.body_came());
                }
                visit.record.outcome = Some(if forward.permit.is_some() { Outcome::Paid } else { Outcome::Free });
                visit.max_body_bytes = self.paywall.max_body_bytes(&forward, &session.req_header().headers);
                visit.forward = Some(forward);
                Ok(false)
            }
            Err(answer) => self.refuse(&answer, session, visit).await,
        }
    }

    /// Answers a request that goes nowhere; true: it is answered.
    pub(crate) async fn refuse(&self, answer: &Answer, session: &mut Session, visit: &mut Visit) -> Result<bool> {
        // Its head is there: what is read on now has bounds of its own.
        Watch::of_head();
        visit.record.answered(answer);
        self.answer(answer, session).await?;
        Ok(true)
    }

    /// Takes from a request what the server behind must not see, and says in it where the client is and what is let
    /// through for nothing. Whatever else changes path, query or login of the request comes before.
    pub fn upstream_request_filter(&self, request: &mut RequestHeader, visit: &mut Visit) -> Result<()> {
        self.strip(request, visit)?;
        self.permit(request, visit)
    }

    /// The first half of [`Self::upstream_request_filter`].
    pub(crate) fn strip(&self, request: &mut RequestHeader, visit: &Visit) -> Result<()> {
        if let Some(client) = &visit.client {
            client.tell(request)?;
        }
        let forwards_credential = |forward: &Forward| self.paywall.offer(forward.service).forward_credential;
        strip(request, visit.forward.as_ref().is_some_and(forwards_credential))
    }

    /// The second half: once the request is as it is forwarded.
    pub(crate) fn permit(&self, request: &mut RequestHeader, visit: &mut Visit) -> Result<()> {
        visit.held.iter_mut().for_each(HeldUse::forwarded);
        visit.upload.iter_mut().for_each(TokenUpload::forwarded);
        let target = request.uri.path_and_query().map_or("", |target| target.as_str());
        let permitted = PermittedRequest { method: &request.method, target, headers: &request.headers };
        let permit =
            visit.forward.as_ref().and_then(|forward| self.paywall.free_permit(forward, &permitted, unix_now()));
        permit.map_or(Ok(()), |permit| request.insert_header(PERMIT_HEADER, permit))
    }

    /// Counts what comes against what was paid for.
    pub fn request_body_filter(
        &self,
        session: &Session,
        body: &mut Option<Bytes>,
        end_of_stream: bool,
        visit: &mut Visit,
    ) -> Result<()> {
        // HTTP/2 may say the end with an empty frame. pingora would write it as a last chunk and then another one, which
        // the server behind reads as a request of its own: its answer could become that of another client.
        if end_of_stream && body.as_ref().is_some_and(Bytes::is_empty) {
            *body = None;
        }
        let bytes = body.as_ref().map_or(0, |bytes| bytes.len() as u64);
        visit.body_bytes += bytes;
        visit.held.iter_mut().for_each(|held| held.body_came(bytes, end_of_stream));
        if let Some(upload) = &mut visit.upload {
            upload.came(bytes);
        }
        let free = visit.free_upload.as_mut().map_or(Ok(()), |upload| upload.came(bytes, Instant::now()));
        if let Err(limited) = free
            && !is_answered(session)
        {
            self.metrics.limit(limited.into());
            visit.limited = Some(limited);
            return Err(Error::explain(HTTPStatus(429), "more than a day has for nothing"));
        }
        visit.watch.iter().for_each(|watch| if end_of_stream { watch.body_ended() } else { watch.body_came() });
        let is_kept = |pace: &mut Pace| pace.is_kept(bytes, Instant::now(), &self.limits.slow);
        if !end_of_stream && !is_answered(session) && !visit.pace.as_mut().is_none_or(is_kept) {
            self.metrics.limit(Limit::SlowBody);
            return Err(Error::explain(HTTPStatus(408), "the body came too slowly"));
        }
        // What an upgraded connection carries is no upload.
        match visit.max_body_bytes.filter(|_| !session.was_upgraded()) {
            // An answer that is on its way is not to be cut off: who gave it reads on, within bounds.
            Some(max) if visit.body_bytes > max && !is_answered(session) => {
                Err(Error::explain(HTTPStatus(413), "more than was paid for"))
            }
            _ => Ok(()),
        }
    }

    /// Asks for payment where the server behind says that a token buys nothing more, and lets pages read the answer.
    pub async fn response_filter(
        &self,
        session: &Session,
        response: &mut ResponseHeader,
        visit: &mut Visit,
    ) -> Result<()> {
        visit.record.status_behind = response.status.as_u16();
        if let Some(held) = &mut visit.held {
            held.answered(response).await;
        }
        let watch = visit.watch.as_ref().filter(|_| !response.status.is_informational());
        let is_early = watch.is_some_and(|watch| watch.waits_for_body());
        // Who has answered bounds what it still reads.
        watch.into_iter().for_each(|watch| watch.body_ended());
        // Only who is shown the token has something to say of it.
        let knows_token = |forward: &Forward| self.offer(forward.service).forward_credential;
        visit.record.stored_before =
            response.headers.contains_key(STORED_BEFORE_HEADER) && visit.forward.as_ref().is_some_and(knows_token);
        if let Some(upload) = visit.upload.as_mut().filter(|_| !response.status.is_informational()) {
            upload.answered();
            // What fails behind is not the client's, and who is sent on was heard. What was stored before is taken for nothing.
            let status = response.status;
            if (status.is_success() && !visit.record.stored_before)
                || status.is_redirection()
                || status.is_server_error()
            {
                upload.needs_no_count();
            }
        }
        if let Some(answer) = self.instead(session, response, visit).await {
            visit.record.answered(&answer);
            *response = answer.header()?;
            visit.replacement = Some(answer.body().clone());
        }
        strip_response(response);
        cors::add_headers(response)?;
        if is_early {
            Watch::write_together().await;
        }
        Ok(())
    }

    /// Puts the body of an answer of our own in the place of the one from behind.
    pub fn response_body_filter(&self, body: &mut Option<Bytes>, visit: &mut Visit) {
        if let Some(replacement) = &mut visit.replacement {
            // All of ours with the first piece, nothing of theirs.
            *body = Some(std::mem::take(replacement)).filter(|bytes| !bytes.is_empty());
        }
    }

    /// Says what went wrong to who is still there to hear it.
    pub async fn fail_to_proxy(&self, session: &mut Session, error: &Error, visit: &mut Visit) -> FailToProxy {
        // Too slow is as good as gone.
        visit.record.failed(*error.esource() == Downstream || *error.etype() == HTTPStatus(408));
        if let Some(held) = &mut visit.held {
            held.failed(broken_off(error)).await;
        }
        visit.watch.iter().for_each(|watch| watch.body_ended());
        if let Some(upload) = &mut visit.upload
            && *error.esource() == Upstream
        {
            upload.needs_no_count();
        }
        let answer = failure(error, visit, session.get_read_timeout()).filter(|_| !is_answered(session));
        let error_code = answer.as_ref().map_or(0, |answer| answer.status().as_u16());
        if let Some(answer) = &answer {
            visit.record.code = answer.code();
        }
        if let Some(answer) = answer
            && let Err(error) = self.answer(&answer, session).await
        {
            tracing::debug!(%error, "the client left before its answer");
        }
        FailToProxy { error_code, can_reuse_downstream: false }
    }

    /// Counts what became of a request that has ended.
    pub fn logging(&self, session: &Session, visit: &Visit) {
        let status = session.response_written().map_or(0, |response| response.status.as_u16());
        let is_paid = visit.forward.as_ref().is_some_and(|forward| forward.permit.is_some());
        visit.record.count(&self.metrics, status, visit.body_bytes, is_paid);
        let bought = match &visit.forward {
            // What goes on without its token is bought with nothing.
            Some(_) if !is_paid => return,
            Some(_) => visit.record.bought(visit.body_bytes),
            None => Bought { refused: 1, ..Bought::default() },
        };
        if let Some((payment_hash, service)) = visit.shown
            && bought != Bought::default()
        {
            self.books.bought(payment_hash, &self.offer(service).terms.name, bought, unix_now());
        }
    }

    /// What bounds clients, as configured.
    pub(crate) fn limits(&self) -> &LimitsConfig {
        &self.limits
    }

    /// What a service sells.
    pub(crate) fn offer(&self, service: ServiceId) -> &Offer {
        self.paywall.offer(service)
    }

    /// What who asks for the price is told where nothing is to be paid.
    pub(crate) fn costs_nothing(&self, demand: &Demand) -> Answer {
        self.paywall.costs_nothing(demand)
    }

    /// What is counted.
    pub(crate) fn metrics(&self) -> &Metrics {
        &self.metrics
    }

    /// Answers a request, and reads on within bounds.
    pub(crate) async fn answer(&self, answer: &Answer, session: &mut Session) -> Result<()> {
        answer.write(session, &self.drains, self.client(session).network()).await
    }

    /// Where a request comes from. Those of which it is not known are one client.
    pub(crate) fn client(&self, session: &Session) -> Client {
        let address = session.client_addr().and_then(|address| address.as_inet());
        let peer: IpAddr = address.map_or(Ipv4Addr::UNSPECIFIED.into(), SocketAddr::ip);
        let over_tls = session.digest().is_some_and(|digest| digest.ssl_digest.is_some());
        self.limits.proxies.client(peer, &session.req_header().headers, over_tls)
    }
}

/// What is sold, as far as a settlement shows it.
fn sold(config: &PaywallConfig) -> Sold {
    Sold {
        keys: config.master_keys.clone(),
        services: config.offers.iter().map(|offer| offer.terms.name.clone()).collect(),
        network: config.network,
    }
}

/// How many bytes are read on after an early answer.
fn drained_bytes(offers: &[Offer]) -> u64 {
    let largest_mb = offers.iter().map(|offer| offer.terms.max_upload_mb).max().unwrap_or_default();
    drain_bytes(largest_mb.saturating_mul(BYTES_PER_MB))
}

/// Whether the client has been given an answer: after `100 Continue` it still waits for one.
fn is_answered(session: &Session) -> bool {
    session.response_written().is_some_and(|response| !response.status.is_informational())
}

/// Whether a body that comes is an upload. The messages of gRPC may come as slowly as they like, and be as many as they
/// like, but not where uploads are taken: anybody can say that a body is gRPC.
fn is_upload(offer: &Offer, has_body: bool, is_grpc: bool) -> bool {
    has_body && (!is_grpc || offer.forward_credential || !offer.free_uploads.is_empty())
}

/// Whether a body comes. None does before a connection is upgraded, whatever the request says of that.
fn has_body(session: &mut Session) -> bool {
    !session.as_downstream_mut().is_body_empty()
}

/// What of a request decides.
fn asked(request: &RequestHeader) -> Asked<'_> {
    let host = request.headers.get(HOST).and_then(|host| host.to_str().ok());
    Asked {
        method: &request.method,
        host: host.unwrap_or_default(),
        path: request.uri.path(),
        query: request.uri.query(),
        headers: &request.headers,
    }
}
