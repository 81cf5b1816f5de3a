//! Whether a request may go on, and what it is answered if not.

use std::time::Instant;

use http::{HeaderMap, StatusCode, header::CONTENT_LENGTH};
use pingora::proxy::Session;
use sluice_common::{
    clock::unix_now,
    l402::{Credential, Identifier, Lapsed, PaymentHash},
    login::find_jwt,
    problem::Problem,
    revocation::{NotKnown, Revocations, revoked_problem},
};

use super::{
    GRPC_INTERNAL, GRPC_UNAUTHENTICATED, GRPC_UNAVAILABLE, Gate, RETRY_AFTER, Visit, asked, has_body, is_upload,
};
use crate::{
    answer::Answer,
    config::Cost,
    cors,
    ledger::{NoUse, Unproven},
    limits::{Asker, Client, ClientNetwork, FreeUpload, GRPC_RESOURCE_EXHAUSTED, Limited, TokenUpload},
    paywall::{Asked, ChallengeError, Challenged, Decision, Demand, Forward, Reason, ServiceId},
    request::{is_grpc, normalise_target},
    uses::{self, HeldUse},
};

/// The machine code of who asks for more invoices than it may.
const TOO_MANY_INVOICES: &str = "too_many_invoices";

/// Why a genuine token is not taken.
#[derive(Debug, thiserror::Error)]
pub(crate) enum NotTaken {
    /// It is revoked.
    #[error("it is revoked")]
    Revoked,
    /// Whether it is revoked is not known.
    #[error(transparent)]
    NotKnown(#[from] NotKnown),
    /// Its payment is not proven.
    #[error(transparent)]
    Unproven(#[from] Unproven),
}

impl Gate {
    /// What becomes of the request: forwarded, or an answer of our own.
    pub(super) async fn admit(
        &self,
        session: &mut Session,
        client: &Client,
        visit: &mut Visit,
    ) -> Result<Forward, Answer> {
        let (is_grpc, has_body) = (is_grpc(&session.req_header().headers), has_body(session));
        self.limits.check(client).map_err(|limited| self.limited(limited, is_grpc))?;
        normalise_target(session.req_header_mut())?;
        let request = session.req_header();
        if cors::is_preflight(&request.method, &request.headers) {
            return Err(Answer::preflight());
        }
        let (now, began) = (unix_now(), Instant::now());
        let asked = asked(request);
        let service = self.paywall.service(&asked);
        visit.record.service = service.map(|service| self.paywall.offer(service).terms.name.clone());
        let is_upload = service.is_some_and(|service| is_upload(self.offer(service), has_body, is_grpc));
        visit.record.is_upload = is_upload;
        let decision = self.paywall.decide(service, &asked, now);
        visit.shown = service.and_then(|service| Some((shown_payment(&decision)?, service)));
        self.check_rate(service, &asked, &decision, client).map_err(|limited| self.limited(limited, is_grpc))?;
        let decision = match decision {
            Decision::Challenge(demand) if self.is_freebie(&demand, &asked, client, has_body) => {
                let is_dry = self.paywall.offer(demand.service).dry_run;
                let without_token = || self.without_token(demand.service);
                Decision::Forward(if is_dry { without_token() } else { self.paywall.for_nothing(&demand) })
            }
            decision => decision,
        };
        if let Some(service) = service.filter(|service| self.paywall.offer(*service).dry_run) {
            let forward = self.rehearse(service, decision, now).await?;
            if is_upload {
                let begun = self.begin_upload(&forward, &asked, client, visit);
                begun.map_err(|limited| self.limited(limited, is_grpc))?;
            }
            return Ok(forward);
        }
        let decision = match decision {
            Decision::Forward(forward) => {
                if forward.permit.is_some() {
                    self.metrics.check(began.elapsed());
                }
                let refused = |answer| if is_grpc { refused_grpc(answer) } else { answer };
                let lapsed = 'taken: {
                    match self.confirm(&forward, now).await {
                        // Its time is over: another one helps.
                        Err(NotTaken::Unproven(Unproven::NotSettled)) if forward.is_only_compared => {
                            break 'taken Lapsed::Expired;
                        }
                        confirmed => confirmed.map_err(|not_taken| refused(not_taken.answer()))?,
                    }
                    self.check_shown(&forward, asked.headers).await?;
                    if is_upload {
                        match self.begin_upload(&forward, &asked, client, visit) {
                            Err(Limited::NotStored { .. }) if forward.is_only_compared => break 'taken Lapsed::Expired,
                            begun => begun.map_err(|limited| self.limited(limited, is_grpc))?,
                        }
                    }
                    let answer = match self.hold(&forward, &asked, has_body, visit).await {
                        Ok(()) => return Ok(forward),
                        Err(NoUse::UsedUp) => break 'taken Lapsed::UsedUp,
                        Err(NoUse::InUse) => uses::in_use(),
                        Err(NoUse::Ledger(error)) => uses::not_counted(&error, RETRY_AFTER),
                    };
                    return Err(refused(answer));
                };
                self.paywall.sell(forward.service, Reason::Lapsed(lapsed), &asked)
            }
            decision => decision,
        };
        match decision {
            // What costs nothing any more.
            Decision::Forward(forward) => Ok(forward),
            Decision::CostsNothing(answer) => Err(answer),
            Decision::Refuse(problem) | Decision::RefuseSize { problem, .. } => Err(problem.into()),
            Decision::Challenge(demand) => match self.challenge(&demand, session, client.network()).await {
                Challenged::Free(forward) => Ok(forward),
                Challenged::Answer(answer) => Err(answer),
            },
        }
    }

    /// Holds a use of the token, where the gateway counts. Only what is sold is counted: a stream that needs the token is a
    /// part of what was bought.
    async fn hold(&self, forward: &Forward, asked: &Asked<'_>, has_body: bool, visit: &mut Visit) -> Result<(), NoUse> {
        let Some(permit) = forward.permit.as_ref().filter(|_| forward.is_sold) else { return Ok(()) };
        let (token, offer) = (permit.token(), self.paywall.offer(forward.service));
        let mut held = HeldUse::begin(&self.ledger, token, offer, asked).await?;
        held.iter_mut().for_each(|held| held.body_came(0, !has_body));
        visit.held = held;
        Ok(())
    }

    /// Whether a client that has no credential gets for nothing what it would have to pay for, and counts that.
    fn is_freebie(&self, demand: &Demand, asked: &Asked<'_>, client: &Client, has_body: bool) -> bool {
        let offer = self.paywall.offer(demand.service);
        let Some(freebies) = offer.freebies.filter(|_| demand.reason == Reason::Missing) else { return false };
        // Who asks for the price is told it.
        if offer.access.cost(asked.method, asked.path) != Cost::Token {
            return false;
        }
        // The media server wants to know whose the file is: who has no login would be refused, and could not pay.
        if offer.forward_credential && find_jwt(asked.headers, asked.query).is_none() {
            return false;
        }
        let declared = if has_body { declared_bytes(asked.headers) } else { Some(0) };
        freebies.take(&self.counted, &offer.terms.name, client.network(), declared, Instant::now())
    }

    /// Counts a request against the rates of its service. What is decided says whose token it has; nothing was done yet.
    fn check_rate(
        &self,
        service: Option<ServiceId>,
        asked: &Asked<'_>,
        decision: &Decision,
        client: &Client,
    ) -> Result<(), Limited> {
        let Some(service) = service else { return Ok(()) };
        let offer = self.paywall.offer(service);
        let payment = match decision {
            Decision::Forward(Forward { permit: Some(permit), .. }) => Some(permit.token().payment_hash()),
            _ => None,
        };
        let asker = Asker { payment, network: client.network() };
        let request = (asked.method, asked.path);
        self.counted.request(&offer.terms.name, &offer.rate_limits, request, asker, Instant::now())
    }

    /// Begins an upload, if there may be one more.
    fn begin_upload(
        &self,
        forward: &Forward,
        asked: &Asked<'_>,
        client: &Client,
        visit: &mut Visit,
    ) -> Result<(), Limited> {
        let now = Instant::now();
        if let Some(permit) = &forward.permit {
            let max = self.limits.max_uploads_per_token.get();
            let terms = &self.paywall.offer(forward.service).terms;
            visit.upload = Some(TokenUpload::begin(&self.counted, permit.token(), terms, max, now)?);
        } else if let Some(bytes_per_day) = self.limits.free_upload_bytes_per_day
            && self.paywall.offer(forward.service).free_uploads.iter().any(|one| one.covers(asked.method, asked.path))
        {
            let declared = declared_bytes(asked.headers);
            let upload = FreeUpload::begin(&self.counted, client.network(), declared, bytes_per_day, now)?;
            visit.free_upload = Some(upload);
        }
        Ok(())
    }

    fn limited(&self, limited: Limited, is_grpc: bool) -> Answer {
        self.metrics.limit(limited.into());
        limited.answer(is_grpc)
    }

    /// Refuses a revoked token on a request that needs none, where the server behind is shown it: it may open files there.
    /// Whether it is genuine, that server looks.
    async fn check_shown(&self, forward: &Forward, headers: &HeaderMap) -> Result<(), Answer> {
        if forward.permit.is_some() || !self.paywall.offer(forward.service).forward_credential {
            return Ok(());
        }
        let Ok(Some(credential)) = Credential::from_headers(headers) else { return Ok(()) };
        let Ok(Identifier { payment_hash, token_id }) = credential.macaroon().identifier() else { return Ok(()) };
        let is_revoked =
            |view: &Revocations| view.has_payment(payment_hash) || view.has_minted_at(token_id.minted_at());
        match self.revoked.look(is_revoked).await {
            Ok(true) => Err(revoked_problem().into()),
            Ok(false) | Err(NotKnown) => Ok(()),
        }
    }

    /// Refuses a token that is revoked, asks for the proof of payment that is configured, and notes the use of the token.
    /// Nothing where nothing costs.
    pub(crate) async fn confirm(&self, forward: &Forward, now: u64) -> Result<(), NotTaken> {
        let Some(permit) = &forward.permit else { return Ok(()) };
        if self.revoked.has(permit.token()).await? {
            return Err(NotTaken::Revoked);
        }
        let service = &self.paywall.offer(forward.service).terms.name;
        self.settlement.confirm(permit, service).await?;
        self.paywall.settled(permit.token().payment_hash());
        if !forward.is_only_compared {
            self.books.used(permit, service, now);
        }
        Ok(())
    }

    pub(super) async fn challenge(&self, demand: &Demand, session: &Session, network: ClientNetwork) -> Challenged {
        let is_grpc = is_grpc(&session.req_header().headers);
        let unavailable = |code, detail| Problem::new(StatusCode::SERVICE_UNAVAILABLE, code).detail(detail);
        let answer = match self.paywall.challenge(demand, network, unix_now()).await {
            Ok(Challenged::Answer(answer)) => {
                if answer.status() == StatusCode::PAYMENT_REQUIRED {
                    self.metrics.challenge(&self.paywall.offer(demand.service).terms.name, demand.reason);
                }
                let answer = if is_grpc { answer.for_grpc(GRPC_INTERNAL, "payment required") } else { answer };
                return Challenged::Answer(answer);
            }
            Ok(free) => return free,
            Err(ChallengeError::TooMany(too_many)) => {
                self.metrics.limit(too_many.limit.into());
                let detail = "Too many invoices were asked for. Come again; a token that is paid goes on working.";
                let problem = unavailable(TOO_MANY_INVOICES, detail).with("limit", too_many.limit.code());
                Answer::from(problem).retry_after(too_many.wait)
            }
            Err(ChallengeError::Price(error)) => {
                tracing::error!(%error, "no price");
                let detail = "The price is not known now. Come again; a token that is paid goes on working.";
                Answer::from(unavailable("no_price", detail)).retry_after(RETRY_AFTER)
            }
            Err(error) => {
                tracing::error!(%error, "no invoice");
                let detail = "No invoice can be made now. Come again; a token that is paid goes on working.";
                Answer::from(unavailable("no_invoice", detail)).retry_after(RETRY_AFTER)
            }
        };
        Challenged::Answer(if is_grpc { refused_grpc(answer) } else { answer })
    }
}

impl NotTaken {
    /// What the token is answered.
    pub(crate) fn answer(self) -> Answer {
        let unavailable = |code, detail| {
            Answer::from(Problem::new(StatusCode::SERVICE_UNAVAILABLE, code).detail(detail)).retry_after(RETRY_AFTER)
        };
        match self {
            Self::Revoked => revoked_problem().into(),
            Self::NotKnown(error) => {
                tracing::error!(%error, "no token is taken");
                let detail =
                    "It is not known yet whether this token is revoked. Come again; a token that is paid stays good.";
                unavailable("revocations_unknown", detail)
            }
            // Another payment would not mend it: no invoice.
            Self::Unproven(Unproven::NotSettled) => Problem::new(StatusCode::UNAUTHORIZED, "not_settled")
                .detail("The node has not received the payment of this token. If it is under way, come again.")
                .into(),
            Self::Unproven(Unproven::Unknown(cause)) => {
                tracing::error!(%cause, "it is not known whether a token is paid");
                let detail = "It cannot be looked up now whether this token is paid. Come again; a token that is paid stays good.";
                unavailable("settlement_unknown", detail)
            }
        }
    }
}

/// What passes, or what another token does not mend, for a gRPC client.
fn refused_grpc(answer: Answer) -> Answer {
    let code = answer.code().unwrap_or("refused");
    let status = match answer.status() {
        StatusCode::UNAUTHORIZED => GRPC_UNAUTHENTICATED,
        _ if code == TOO_MANY_INVOICES => GRPC_RESOURCE_EXHAUSTED,
        _ => GRPC_UNAVAILABLE,
    };
    answer.for_grpc(status, code)
}

/// The payment of a token that buys this, or would if it were less.
fn shown_payment(decision: &Decision) -> Option<PaymentHash> {
    match decision {
        Decision::Forward(forward) => Some(forward.permit.as_ref()?.token().payment_hash()),
        Decision::RefuseSize { payment_hash, .. } => Some(*payment_hash),
        Decision::Refuse(_) | Decision::CostsNothing(_) | Decision::Challenge(_) => None,
    }
}

/// The length of a body, if it is declared.
fn declared_bytes(headers: &HeaderMap) -> Option<u64> {
    headers.get(CONTENT_LENGTH)?.to_str().ok()?.parse().ok()
}
