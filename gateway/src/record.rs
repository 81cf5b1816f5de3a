//! What became of a request: for the log and the counters.

use crate::{
    answer::Answer,
    ledger::Bought,
    metrics::{Metrics, Outcome, UploadEnd},
};

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
    is_cut_off: bool,
}

impl Record {
    /// It was answered by the gateway.
    pub(crate) fn answered(&mut self, answer: &Answer) {
        self.code = answer.code();
        let is_challenge = self.code == Some("payment_required");
        self.outcome = Some(if is_challenge { Outcome::Challenged } else { Outcome::Refused });
    }

    /// It failed after it was forwarded, perhaps because its client left.
    pub(crate) fn failed(&mut self, is_cut_off: bool) {
        self.outcome = Some(Outcome::Failed);
        self.is_cut_off = is_cut_off;
    }

    /// Counts it, once it has ended with `status` and `body_bytes` of a body.
    pub(crate) fn count(&self, metrics: &Metrics, status: u16, body_bytes: u64, is_paid: bool) {
        // Pingora answers what is no HTTP itself.
        let outcome = self.outcome.unwrap_or(Outcome::Failed);
        metrics.request(self.service.as_deref(), outcome, status);
        if let Some(service) = self.service.as_deref().filter(|_| is_paid && body_bytes > 0) {
            metrics.upload(service, self.upload_end(), body_bytes);
        }
    }

    /// What its payment bought with it, whose body had so many bytes.
    pub(crate) fn bought(&self, body_bytes: u64) -> Bought {
        match self.upload_end() {
            UploadEnd::Committed => Bought { uses: 1, bytes: body_bytes, ..Bought::default() },
            UploadEnd::UsedUp | UploadEnd::TooLarge | UploadEnd::Refused => Bought { refused: 1, ..Bought::default() },
            UploadEnd::CutOff | UploadEnd::GivenBack => Bought { given_back: 1, ..Bought::default() },
        }
    }

    fn upload_end(&self) -> UploadEnd {
        match (self.status_behind, self.code) {
            (101 | 200..=299, _) => UploadEnd::Committed,
            (402, _) => UploadEnd::UsedUp,
            (413, _) | (_, Some("too_large")) => UploadEnd::TooLarge,
            (400..=499, _) => UploadEnd::Refused,
            _ if self.is_cut_off => UploadEnd::CutOff,
            _ => UploadEnd::GivenBack,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_upload_ends_as_the_server_behind_says_and_else_as_the_connection_does() {
        let end = |status_behind, code, is_cut_off| {
            Record { status_behind, code, is_cut_off, ..Record::default() }.upload_end()
        };
        for (said, meant) in [
            (end(200, None, true), UploadEnd::Committed),
            (end(402, Some("payment_required"), false), UploadEnd::UsedUp),
            (end(413, Some("payment_required"), false), UploadEnd::TooLarge),
            (end(0, Some("too_large"), false), UploadEnd::TooLarge),
            (end(400, None, false), UploadEnd::Refused),
            (end(503, None, false), UploadEnd::GivenBack),
            (end(0, Some("upstream_unavailable"), false), UploadEnd::GivenBack),
            (end(0, Some("request_timeout"), true), UploadEnd::CutOff),
            (end(0, None, true), UploadEnd::CutOff),
        ] {
            assert_eq!(said, meant);
        }
    }
}
