//! Dry run: a service is shadowed. What it would do with each request is decided, logged and counted, and the request goes
//! on all the same.

use sluice_common::l402::Lapsed;

use crate::{
    answer::Answer,
    gate::Gate,
    metrics::Rehearsed,
    paywall::{Decision, Demand, Forward, ServiceId},
};

impl Gate {
    /// Lets a request of `service` through, whatever is decided, and notes what would have become of it. One with a good
    /// token goes on with it, others without. Only who asks the media server's price is answered: it costs nothing.
    pub(crate) async fn rehearse(&self, service: ServiceId, decision: Decision, now: u64) -> Result<Forward, Answer> {
        let (would, code, price_sat) = match decision {
            Decision::Forward(forward) if forward.permit.is_none() => return Ok(forward),
            Decision::Forward(forward) if forward.is_only_compared => {
                (Rehearsed::Challenge, Some(Lapsed::Expired.code()), None)
            }
            Decision::Forward(forward) => match self.confirm(&forward, now).await {
                Ok(()) => {
                    self.note(service, Rehearsed::Forward, None, None);
                    return Ok(forward);
                }
                Err(not_taken) => (Rehearsed::Refuse, not_taken.answer().code(), None),
            },
            Decision::Refuse(problem) | Decision::RefuseSize { problem, .. } => {
                (Rehearsed::Refuse, Some(problem.code()), None)
            }
            Decision::CostsNothing(answer) => return Err(answer),
            Decision::Challenge(demand) if demand.is_question => {
                self.note(service, Rehearsed::Challenge, Some(demand.reason.code()), demand.price_sat);
                return Err(self.costs_nothing(&demand));
            }
            Decision::Challenge(Demand { reason, price_sat, .. }) => {
                (Rehearsed::Challenge, Some(reason.code()), price_sat)
            }
        };
        self.note(service, would, code, price_sat);
        Ok(self.without_token(service))
    }

    /// Notes what would have become of a request. A price that must be asked for is not asked: none is said then.
    pub(crate) fn note(
        &self,
        service: ServiceId,
        would: Rehearsed,
        code: Option<&'static str>,
        price_sat: Option<u64>,
    ) {
        let name = &self.offer(service).terms.name;
        self.metrics().rehearsed(name, would);
        tracing::info!(service = %name, would = would.as_str(), code, price_sat, "dry run");
    }

    /// As a request goes on without the token that it would need. The media server is told how large a file may be; others
    /// take what they take.
    pub(crate) fn without_token(&self, service: ServiceId) -> Forward {
        let offer = self.offer(service);
        if offer.forward_credential {
            return Forward::for_nothing(
                service,
                offer.terms.max_upload_bytes().saturating_add(offer.terms.form_allowance_bytes),
            );
        }
        Forward::free(service)
    }
}
