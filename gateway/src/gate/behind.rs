//! What a client is answered where the server behind does not do what it asked for, or cannot.

use std::time::Duration;

use http::StatusCode;
use pingora::{
    Error,
    ErrorSource::{Downstream, Upstream},
    ErrorType::{ConnectionClosed, HTTPStatus, ReadError, ReadTimedout, WriteError, WriteTimedout},
    http::ResponseHeader,
    proxy::Session,
};
use sluice_common::{
    l402::{LAPSED_HEADER, Lapsed, TOO_SMALL},
    problem::Problem,
};

use super::{Gate, RETRY_AFTER, Visit, asked};
use crate::{
    answer::Answer,
    metrics::Rehearsed,
    paywall::{Challenged, Decision, Reason, too_large_problem},
    uses::BrokenOff,
};

impl Gate {
    /// What a client is answered in the place of what the server behind says.
    pub(super) async fn instead(
        &self,
        session: &Session,
        response: &ResponseHeader,
        visit: &mut Visit,
    ) -> Option<Answer> {
        let forward = visit.forward.as_ref().filter(|forward| forward.permit.is_some())?;
        let asked = asked(session.req_header());
        // Only who is shown the token has something to say of it.
        let knows_token = self.paywall.offer(forward.service).forward_credential;
        let said = response.headers.get(LAPSED_HEADER).filter(|_| knows_token).and_then(|value| value.to_str().ok());
        let lapsed = said.filter(|_| response.status == StatusCode::PAYMENT_REQUIRED).and_then(Lapsed::from_code);
        visit.record.lapsed = lapsed;
        if self.paywall.offer(forward.service).dry_run {
            // What the server behind refuses stays refused, but nobody is asked for money.
            lapsed
                .iter()
                .for_each(|lapsed| self.note(forward.service, Rehearsed::Challenge, Some(lapsed.code()), None));
            return None;
        }
        let decision = match lapsed.map(Reason::Lapsed) {
            Some(reason) if !forward.is_sold => return Some(reason.unsold_problem().into()),
            Some(reason) => self.paywall.sell(forward.service, reason, &asked),
            // It has measured the file by the token.
            None if response.status == StatusCode::PAYLOAD_TOO_LARGE && said == Some(TOO_SMALL) => {
                self.paywall.sell_larger(forward, &asked)?
            }
            None => return None,
        };
        match decision {
            Decision::Refuse(problem) | Decision::RefuseSize { problem, .. } => Some(problem.into()),
            Decision::Forward(_) | Decision::CostsNothing(_) => None,
            Decision::Challenge(demand) => {
                match self.challenge(&demand, session, visit.client.as_ref()?.network()).await {
                    Challenged::Answer(answer) => Some(answer),
                    Challenged::Free(_) => None,
                }
            }
        }
    }
}

/// What a failed request is answered with; none where nobody is left to answer.
pub(super) fn failure(error: &Error, visit: &Visit, read_timeout: Option<Duration>) -> Option<Answer> {
    let problem = match (error.esource(), error.etype()) {
        (_, HTTPStatus(413)) => {
            let limit_bytes = visit.forward.as_ref().and_then(|forward| forward.max_upload_bytes);
            too_large_problem(limit_bytes.unwrap_or_default(), visit.body_bytes)
        }
        (_, HTTPStatus(429)) if let Some(limited) = visit.limited => return Some(limited.answer(false)),
        (_, HTTPStatus(408)) => {
            let problem =
                Problem::new(StatusCode::REQUEST_TIMEOUT, "request_timeout").detail("The body came too slowly.");
            return Some(Answer::from(problem).and_close());
        }
        (Downstream, ReadTimedout) => {
            let secs = read_timeout.unwrap_or_default().as_secs();
            Problem::new(StatusCode::REQUEST_TIMEOUT, "request_timeout")
                .detail(format!("No byte of the body came for {secs} s."))
        }
        (Downstream, WriteError | ReadError | WriteTimedout | ConnectionClosed) => return None,
        (Downstream, _) => Problem::new(StatusCode::BAD_REQUEST, "malformed_request")
            .detail("The request, or its body's framing, is not HTTP."),
        (Upstream, _) => {
            let problem = Problem::new(StatusCode::BAD_GATEWAY, "upstream_unavailable")
                .detail(if visit.held.is_some() {
                    // Three times in a row; who asks in vain for longer should know.
                    "The server behind cannot be reached, or broke off. A token that is paid stays good, but not for asking again and again."
                } else {
                    "The server behind cannot be reached, or broke off. A token that is paid stays good."
                });
            return Some(Answer::from(problem).retry_after(RETRY_AFTER));
        }
        _ => Problem::new(StatusCode::INTERNAL_SERVER_ERROR, "internal").detail("Something went wrong here."),
    };
    Some(problem.into())
}

/// Who ended a request that failed.
pub(super) fn broken_off(error: &Error) -> BrokenOff {
    match (error.esource(), error.etype()) {
        (_, HTTPStatus(413 | 429)) => BrokenOff::Refused,
        (_, HTTPStatus(408)) | (Downstream, _) => BrokenOff::ByClient,
        _ => BrokenOff::ByServer,
    }
}
