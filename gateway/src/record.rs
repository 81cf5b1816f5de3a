//! What became of a request: for the log and the counters.

use sluice_common::l402::Lapsed;

use crate::{
    answer::Answer,
    ledger::Bought,
    metrics::{Metrics, Outcome, UploadEnd},
    paywall::TOO_LARGE,
};

/// The target of the log's lines of requests, one for each.
pub const REQUEST_LINES: &str = "sluice_gateway::proxy";

/// What became of a request so far.
#[derive(Debug, Default)]
pub struct Record {
    /// The service that takes it, by name.
    pub service: Option<String>,
    /// What became of it.
    pub outcome: Option<Outcome>,
    /// The machine code of what it was answered by the gateway.
    pub code: Option<&'static str>,
    /// What the server behind answered; 0: nothing.
    pub(crate) status_behind: u16,
    /// What it said of the token.
    pub(crate) lapsed: Option<Lapsed>,
    /// Whether it said that the token had stored this before: nothing was sold with it.
    pub(crate) stored_before: bool,
    /// Whether it has a body that some service may store.
    pub(crate) is_upload: bool,
    /// Whether its answer says that the client is to blame.
    is_clients_fault: bool,
    is_cut_off: bool,
}

impl Record {
    /// It was answered by the gateway.
    pub(crate) fn answered(&mut self, answer: &Answer) {
        self.code = answer.code();
        self.is_clients_fault = answer.status().is_client_error();
        let is_challenge = self.code == Some("payment_required");
        self.outcome = Some(if is_challenge { Outcome::Challenged } else { Outcome::Refused });
    }

    /// It failed after it was forwarded, perhaps because its client left. One that was refused by then, while its body still
    /// came, was answered.
    pub(crate) fn failed(&mut self, is_cut_off: bool) {
        if !(400..500).contains(&self.status_behind) {
            self.outcome = Some(Outcome::Failed);
        }
        self.is_cut_off = is_cut_off;
    }

    /// Counts it, once it has ended with `status` and `body_bytes` of a body.
    pub(crate) fn count(&self, metrics: &Metrics, status: u16, body_bytes: u64, is_paid: bool) {
        // Pingora answers what is no HTTP itself.
        let outcome = self.outcome.unwrap_or(Outcome::Failed);
        metrics.request(self.service.as_deref(), outcome, status);
        let is_counted = (is_paid && (self.is_upload || body_bytes > 0)) || self.is_refused_upload();
        if let Some(service) = self.service.as_deref().filter(|_| is_counted) {
            let (end, reason) = self.upload_end();
            metrics.upload(service, end, reason, body_bytes);
        }
    }

    /// What its payment bought with it, whose body had so many bytes.
    pub(crate) fn bought(&self, body_bytes: u64) -> Bought {
        match self.upload_end() {
            (UploadEnd::Again, _) => Bought::default(),
            (UploadEnd::Committed, _) => Bought { uses: 1, bytes: body_bytes, ..Bought::default() },
            (UploadEnd::Refused, _) => Bought { refused: 1, ..Bought::default() },
            (UploadEnd::CutOff | UploadEnd::GivenBack, _) => Bought { given_back: 1, ..Bought::default() },
        }
    }

    /// Whether it was answered before its body went anywhere, and not asked for payment.
    fn is_refused_upload(&self) -> bool {
        self.is_upload && self.is_clients_fault && self.status_behind == 0 && self.outcome == Some(Outcome::Refused)
    }

    /// How it ended as an upload, and why it was refused if it was.
    fn upload_end(&self) -> (UploadEnd, &'static str) {
        match (self.status_behind, self.code) {
            (200..=299, _) if self.stored_before => (UploadEnd::Again, ""),
            (101 | 200..=299, _) => (UploadEnd::Committed, ""),
            (status @ 400..=499, _) => (UploadEnd::Refused, self.lapsed.map_or_else(|| reason(status), Lapsed::code)),
            (_, Some(code)) if code == TOO_LARGE || self.is_refused_upload() => (UploadEnd::Refused, code),
            _ if self.is_cut_off => (UploadEnd::CutOff, ""),
            _ => (UploadEnd::GivenBack, ""),
        }
    }
}

/// Why a server behind refused an upload, by its status.
fn reason(status: u16) -> &'static str {
    match status {
        400 => "bad_request",
        401 => "unauthorized",
        402 => "payment_required",
        403 => "forbidden",
        404 => "not_found",
        409 => "conflict",
        413 => TOO_LARGE,
        415 => "unsupported_media_type",
        422 => "unprocessable_content",
        429 => "too_many_requests",
        _ => "other",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_was_refused_has_not_failed_when_the_rest_of_the_body_does_not_come() {
        for (status_behind, outcome) in
            [(0, Outcome::Failed), (200, Outcome::Failed), (503, Outcome::Failed), (401, Outcome::Paid)]
        {
            let mut record = Record { status_behind, outcome: Some(Outcome::Paid), ..Record::default() };
            record.failed(true);
            assert_eq!(record.outcome, Some(outcome), "{status_behind}");
        }
    }

    #[test]
    fn an_upload_ends_as_the_server_behind_says_and_else_as_the_connection_does() {
        let end = |status_behind, code, is_cut_off| {
            Record { status_behind, code, is_cut_off, ..Record::default() }.upload_end()
        };
        for (said, meant) in [
            (end(200, None, true), (UploadEnd::Committed, "")),
            (end(402, Some("payment_required"), false), (UploadEnd::Refused, "payment_required")),
            (end(413, Some("payment_required"), false), (UploadEnd::Refused, "too_large")),
            (end(0, Some("too_large"), false), (UploadEnd::Refused, "too_large")),
            (end(400, None, false), (UploadEnd::Refused, "bad_request")),
            (end(418, None, false), (UploadEnd::Refused, "other")),
            (end(503, None, false), (UploadEnd::GivenBack, "")),
            (end(0, Some("upstream_unavailable"), false), (UploadEnd::GivenBack, "")),
            (end(0, Some("request_timeout"), true), (UploadEnd::CutOff, "")),
            (end(0, None, true), (UploadEnd::CutOff, "")),
        ] {
            assert_eq!(said, meant);
        }
        let again = Record { status_behind: 200, stored_before: true, ..Record::default() };
        assert_eq!(again.upload_end(), (UploadEnd::Again, ""));
        assert_eq!(again.bought(7), Bought::default(), "it was sold once");
        let lapsed = Record { status_behind: 402, lapsed: Some(Lapsed::Expired), ..Record::default() };
        assert_eq!(lapsed.upload_end(), (UploadEnd::Refused, "expired"));
        let outcome = Some(Outcome::Refused);
        let here =
            Record { outcome, is_upload: true, is_clients_fault: true, code: Some("revoked"), ..Record::default() };
        assert_eq!(here.upload_end(), (UploadEnd::Refused, "revoked"));
    }
}
