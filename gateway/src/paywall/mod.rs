//! The paywall: from a request's headers to what becomes of it. Everything but [`Paywall::challenge`] and
//! [`Paywall::settled`] is pure.

mod challenge;
mod decision;
mod pricer;
mod size;
#[cfg(test)]
mod tests;

use std::{sync::Arc, time::Duration};

use http::{HeaderMap, HeaderValue, Method, StatusCode, header::CONTENT_LENGTH};
use sluice_common::{
    keys::MasterKeys,
    l402::{self, Credential, Lapsed, PaymentHash, Token},
    limits,
    network::Network,
    permit::{FreePermit, PERMIT_LASTS_SECS, PermittedRequest},
    problem::Problem,
};

pub(crate) use self::decision::TOO_LARGE;
pub use self::{
    challenge::{ChallengeError, Challenged},
    decision::{Decision, Demand, Forward, Purchase, Reason, ServiceId, too_large_problem},
    pricer::PriceError,
};
use self::{
    pricer::Pricer,
    size::{Declared, Head},
};
use crate::{
    answer::Answer,
    config::{Cost, Offer, PaywallConfig, Price},
    invoice_limits::{InvoiceGate, InvoiceLimits},
    lightning::LightningNode,
    path,
};

/// The longest path that a token is sold for.
const MAX_SOLD_PATH_BYTES: usize = 2_048;

/// Decides what costs, checks what was paid, and asks for payment.
pub struct Paywall {
    offers: Vec<Offer>,
    /// Of the offers whose price is asked for, at their places.
    pricers: Vec<Option<Arc<Pricer>>>,
    keys: MasterKeys,
    network: Network,
    node: Arc<dyn LightningNode>,
    invoice_expiry: Duration,
    invoices: Arc<InvoiceGate>,
}

/// What of a request decides what becomes of it.
#[derive(Debug, Clone, Copy)]
pub struct Asked<'a> {
    /// Its method.
    pub method: &'a Method,
    /// Its host, perhaps with a port; may be empty.
    pub host: &'a str,
    /// Its normalised path.
    pub path: &'a str,
    /// Its query.
    pub query: Option<&'a str>,
    /// Its headers.
    pub headers: &'a HeaderMap,
}

impl Paywall {
    /// A paywall before these offers, paid through `node`, whose network is `network`.
    pub fn new(
        offers: Vec<Offer>,
        keys: MasterKeys,
        network: Network,
        node: Arc<dyn LightningNode>,
        invoice_expiry: Duration,
        invoice_limits: InvoiceLimits,
    ) -> Result<Self, PriceError> {
        let pricers = pricers(&offers, &[])?;
        let invoices = Arc::new(InvoiceGate::new(invoice_limits, invoice_expiry));
        Ok(Self { offers, pricers, keys, network, node, invoice_expiry, invoices })
    }

    /// One before other offers, with what this one counts and remembers. Nothing changes if it fails.
    pub fn with_config(&self, config: PaywallConfig) -> Result<Self, PriceError> {
        let PaywallConfig { offers, master_keys, invoice_expiry, invoice_limits, .. } = config;
        let known: Vec<_> = self.pricers.iter().flatten().cloned().collect();
        let pricers = pricers(&offers, &known)?;
        self.invoices.configure(invoice_limits, invoice_expiry);
        let (node, invoices) = (Arc::clone(&self.node), Arc::clone(&self.invoices));
        Ok(Self { offers, pricers, keys: master_keys, network: self.network, node, invoice_expiry, invoices })
    }

    /// The invoices that were asked for.
    pub fn invoices(&self) -> Arc<InvoiceGate> {
        Arc::clone(&self.invoices)
    }

    /// What a service sells.
    pub fn offer(&self, id: ServiceId) -> &Offer {
        &self.offers[id.index()]
    }

    /// Whose a request is.
    pub fn service(&self, asked: &Asked<'_>) -> Option<ServiceId> {
        let covers = |offer: &Offer| offer.scope.covers(asked.method, asked.host, asked.path);
        self.offers.iter().position(covers).map(ServiceId::new)
    }

    /// What becomes of a request of the service `id`, at `now` (unix seconds), from its headers alone; none: it is
    /// nobody's.
    pub fn decide(&self, id: Option<ServiceId>, asked: &Asked<'_>, now: u64) -> Decision {
        let Some(id) = id else {
            let problem = Problem::new(StatusCode::NOT_FOUND, "no_such_service");
            return Decision::Refuse(problem.detail("Nothing is served at this host and path."));
        };
        let cost = self.offer(id).access.cost(asked.method, asked.path);
        if self.reads_two_ways(id, cost, asked) {
            let problem = Problem::new(StatusCode::BAD_REQUEST, "malformed_path");
            return Decision::Refuse(problem.detail("Some servers take `;` and what follows for no part of the path."));
        }
        if cost == Cost::Free {
            return Decision::Forward(Forward::free(id));
        }
        let credential = match Credential::from_headers(asked.headers) {
            Ok(Some(credential)) => credential,
            Ok(None) => return self.without_token(id, cost, Reason::Missing, asked),
            Err(error) => {
                return Decision::Refuse(Problem::new(error.status(), error.code()).detail(error.to_string()));
            }
        };
        let token = match l402::verify(&credential, &self.keys, self.network, &self.offer(id).terms) {
            Ok(token) => token,
            Err(refused) => {
                let problem = Problem::new(StatusCode::UNAUTHORIZED, refused.code()).detail(refused.to_string());
                return Decision::Refuse(problem);
            }
        };
        if cost == Cost::Question {
            return Decision::Forward(Forward::free(id));
        }
        let permit = match token.permit(now) {
            _ if token.path().is_some_and(|path| path != asked.path) => Err(Lapsed::NotCovered),
            permit => permit,
        };
        let permit = match permit {
            Ok(permit) => permit,
            Err(lapsed) => {
                let sold = self.without_token(id, cost, Reason::Lapsed(lapsed), asked);
                let is_sold = matches!(sold, Decision::Challenge(_));
                let may_be_stored = is_sold && lapsed == Lapsed::Expired && self.may_be_stored(id, cost, &token, asked);
                let permit = token.expired_permit(now).filter(|_| may_be_stored);
                return permit.map_or(sold, |permit| Decision::Forward(Forward::compared(id, permit)));
            }
        };
        match self.too_small(id, cost, &token, asked) {
            Some(decision) => decision,
            None => Decision::Forward(Forward::paid(id, permit, cost == Cost::Token)),
        }
    }

    /// Whether a request may send again what its token stored: only the media server can tell.
    fn may_be_stored(&self, id: ServiceId, cost: Cost, token: &Token, asked: &Asked<'_>) -> bool {
        let is_upload = self.offer(id).forward_credential && *asked.method == Method::POST;
        is_upload && self.too_small(id, cost, token, asked).is_none()
    }

    /// Whether a request is of another service, or costs something else, for a server that takes parameters off the path.
    fn reads_two_ways(&self, id: ServiceId, cost: Cost, asked: &Asked<'_>) -> bool {
        path::without_parameters(asked.path).is_some_and(|path| {
            let bare = Asked { path: &path, ..*asked };
            self.service(&bare) != Some(id) || self.offer(id).access.cost(bare.method, bare.path) != cost
        })
    }

    /// What becomes of a request that needs another token than it has.
    fn without_token(&self, id: ServiceId, cost: Cost, reason: Reason, asked: &Asked<'_>) -> Decision {
        match cost {
            Cost::TokenUnsold => Decision::Refuse(reason.unsold_problem()),
            _ => self.sell(id, reason, asked),
        }
    }

    /// What becomes of a request that declares more than its token holds.
    fn too_small(&self, id: ServiceId, cost: Cost, token: &Token, asked: &Asked<'_>) -> Option<Decision> {
        let (offer, payment_hash) = (self.offer(id), token.payment_hash());
        if !offer.price.is_by_size() {
            // All tokens of this price hold the same: who has a smaller one made it smaller.
            let too_large = too_large(offer, asked, false, token.max_upload_bytes());
            return too_large.map(|problem| Decision::RefuseSize { payment_hash, problem });
        }
        let declared = match Declared::read(&asked.head(offer)) {
            Ok(declared) => declared,
            Err(error) => return Some(Decision::Refuse(error.problem())),
        };
        let bytes = declared.beyond(token.max_upload_bytes())?;
        let is_sold = cost != Cost::TokenUnsold;
        let most = if is_sold { offer.terms.max_upload_bytes() } else { token.max_upload_bytes() };
        if declared.beyond(most).is_some() {
            return Some(Decision::RefuseSize { payment_hash, problem: too_large_problem(most, bytes) });
        }
        Some(self.sell(id, Reason::TooSmall, asked))
    }

    /// What becomes of a request that was let through with a token, and that the server behind refused for its size: it is
    /// sold a larger token, if there is one. None: there is none.
    pub fn sell_larger(&self, forward: &Forward, asked: &Asked<'_>) -> Option<Decision> {
        let offer = self.offer(forward.service);
        let token = forward.permit.as_ref()?.token();
        if !forward.is_sold || !offer.price.is_by_size() {
            return None;
        }
        let mib = Declared::read(&asked.head(offer)).ok()?.mib()?.min(offer.terms.max_upload_mb);
        let holds = offer.price.holds_mib(mib, offer.terms.max_upload_mb);
        (holds.saturating_mul(limits::BYTES_PER_MB) > token.max_upload_bytes())
            .then(|| self.sell(forward.service, Reason::TooSmall, asked))
    }

    /// Asks for payment, if what would be bought could hold the request: else no payment would help.
    pub fn sell(&self, id: ServiceId, reason: Reason, asked: &Asked<'_>) -> Decision {
        let offer = self.offer(id);
        let purchase = match purchase(offer, asked) {
            Ok(purchase) => purchase,
            Err(problem) => return Decision::Refuse(problem),
        };
        let price_sat = offer.price.of(purchase.max_mib.unwrap_or(offer.terms.max_upload_mb));
        let is_question = offer.forward_credential && offer.access.cost(asked.method, asked.path) == Cost::Question;
        let demand = Demand { service: id, reason, purchase, price_sat, is_question };
        match price_sat {
            Some(0) if is_question => Decision::CostsNothing(self.costs_nothing(&demand)),
            Some(0) => Decision::Forward(self.for_nothing(&demand)),
            _ => Decision::Challenge(demand),
        }
    }

    /// What who asks for the price is told where nothing is to be paid.
    pub fn costs_nothing(&self, demand: &Demand) -> Answer {
        let offer = self.offer(demand.service);
        Answer::json(&serde_json::json!({
            "price_sat": 0,
            "allows": {
                "service": offer.terms.name,
                "max_upload_bytes": demand.purchase.max_upload_bytes(offer),
            },
        }))
    }

    /// How a request goes on that would be asked for payment, and for once is not.
    pub fn for_nothing(&self, demand: &Demand) -> Forward {
        Forward::for_nothing(demand.service, demand.purchase.max_upload_bytes(self.offer(demand.service)))
    }

    /// The `Sluice-Permit` of a request that goes to a media server without the token that it needs, as it is forwarded.
    pub fn free_permit(&self, forward: &Forward, request: &PermittedRequest<'_>, now: u64) -> Option<HeaderValue> {
        let max_upload_bytes = forward.max_upload_bytes.filter(|_| forward.is_for_nothing)?;
        let permit = FreePermit { max_upload_bytes, expires_at: now + PERMIT_LASTS_SECS };
        self.offer(forward.service).forward_credential.then(|| permit.sign(request, &self.keys, now)).flatten()
    }

    /// The most bytes of a body that can hold the largest file that it may send; none where any may come.
    pub fn max_body_bytes(&self, forward: &Forward, headers: &HeaderMap) -> Option<u64> {
        let form_bytes = size::form_bytes(headers, self.offer(forward.service).forward_credential);
        Some(forward.max_upload_bytes?.saturating_add(form_bytes))
    }

    /// Notes that an invoice is paid, so that it is no longer one of the open ones. One that is not known changes nothing.
    pub fn settled(&self, payment_hash: PaymentHash) {
        self.invoices.settled(payment_hash);
    }
}

/// The pricers of `offers`, at their places: those of `known` that are the same go on, with the prices they remember.
fn pricers(offers: &[Offer], known: &[Arc<Pricer>]) -> Result<Vec<Option<Arc<Pricer>>>, PriceError> {
    let pricer = |offer: &Offer| {
        let Price::External(config) = &offer.price else { return Ok(None) };
        let same = known.iter().find(|known| known.is_of(&offer.terms.name, config)).cloned();
        let new = || Pricer::new(&offer.terms.name, config.clone()).map(Arc::new);
        same.map_or_else(new, Ok).map(Some)
    };
    offers.iter().map(pricer).collect()
}

impl<'a> Asked<'a> {
    fn head(&self, offer: &Offer) -> Head<'a> {
        let form_bytes = size::form_bytes(self.headers, offer.forward_credential);
        Head { method: self.method, query: self.query, headers: self.headers, form_bytes }
    }
}

/// What a token would be for that is sold to this request; or why none would help.
fn purchase(offer: &Offer, asked: &Asked<'_>) -> Result<Purchase, Problem> {
    let max_mb = offer.terms.max_upload_mb;
    let path = offer.price.is_by_path().then(|| asked.path.to_owned());
    if path.as_ref().is_some_and(|path| path.len() > MAX_SOLD_PATH_BYTES) {
        let problem = Problem::new(StatusCode::URI_TOO_LONG, "path_too_long");
        return Err(problem
            .detail("No token is sold for a path of this length.")
            .with("limit_bytes", MAX_SOLD_PATH_BYTES));
    }
    let is_question = offer.access.cost(asked.method, asked.path) == Cost::Question;
    if !offer.price.is_by_size() {
        let too_large = too_large(offer, asked, is_question, offer.terms.max_upload_bytes());
        return too_large.map_or(Ok(Purchase { max_mib: None, path }), Err);
    }
    let declared = Declared::read(&asked.head(offer)).map_err(size::SizeError::problem)?;
    if let Some(bytes) = declared.beyond(offer.terms.max_upload_bytes()) {
        return Err(too_large_problem(offer.terms.max_upload_bytes(), bytes));
    }
    let mib = declared.mib().ok_or_else(|| {
        Problem::new(StatusCode::LENGTH_REQUIRED, "length_required").detail(
            "The price depends on the size. Declare it: Content-Length, Upload-Length, or ?size=BYTES to ask for the price.",
        )
    })?;
    let max_mib = offer.price.holds_mib(mib.min(max_mb), max_mb);
    Ok(Purchase { max_mib: Some(max_mib), path })
}

/// 413 if what is declared cannot hold a file within `max_upload_bytes`, where the price does not depend on it.
fn too_large(offer: &Offer, asked: &Asked<'_>, is_question: bool, max_upload_bytes: u64) -> Option<Problem> {
    let head = asked.head(offer);
    let most = max_upload_bytes.saturating_add(head.form_bytes);
    // Elsewhere `size` is the server's own parameter, not ours.
    let head = Head { query: asked.query.filter(|_| is_question), ..head };
    let file = Declared::read(&head).ok().and_then(|declared| declared.file()).filter(|file| *file > max_upload_bytes);
    let body = || {
        let declared: u64 = asked.headers.get(CONTENT_LENGTH)?.to_str().ok()?.parse().ok()?;
        (!is_question && declared > most).then_some(declared)
    };
    file.or_else(body).map(|bytes| too_large_problem(max_upload_bytes, bytes))
}
