//! When to try again, and after how long.

use std::time::Duration;

use reqwest::StatusCode;

use super::api::ApiError;

/// How often a thing is tried again.
const MAX_RETRIES: u32 = 6;

/// The longest pause, whatever the server asks for.
const MAX_PAUSE: Duration = Duration::from_secs(60);

/// Pauses that grow: 1, 2, 4, 8, 16 and 30 seconds, or what the server asks for.
#[derive(Debug, Default)]
pub(super) struct Backoff {
    retries: u32,
}

impl Backoff {
    /// The next pause; none when it was tried often enough.
    pub(super) fn next_pause(&mut self, asked_for: Option<Duration>) -> Option<Duration> {
        if self.retries == MAX_RETRIES {
            return None;
        }
        let pause = Duration::from_secs(1 << self.retries).min(Duration::from_secs(30));
        self.retries += 1;
        Some(asked_for.unwrap_or(pause).min(MAX_PAUSE))
    }
}

/// Whether the same request may well succeed a little later.
pub(super) fn is_passing(error: &ApiError) -> bool {
    match error {
        ApiError::Unreachable { .. } | ApiError::AnswerCutOff(_) | ApiError::Stalled(_) => true,
        ApiError::Refused(refusal) => {
            matches!(refusal.status, StatusCode::CONFLICT | StatusCode::TOO_MANY_REQUESTS | StatusCode::REQUEST_TIMEOUT)
                // A full disk and what is not there stay so.
                || refusal.status.is_server_error()
                    && !matches!(refusal.status, StatusCode::NOT_IMPLEMENTED | StatusCode::INSUFFICIENT_STORAGE)
        }
        ApiError::InvalidServer(_)
        | ApiError::Client(_)
        | ApiError::NothingSold { .. }
        | ApiError::NotUnderstood(_) => false,
    }
}

/// How long the server asks to wait.
pub(super) fn asked_for(error: &ApiError) -> Option<Duration> {
    match error {
        ApiError::Refused(refusal) => refusal.retry_after,
        _ => None,
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::client::api::Refusal;

    pub(in crate::client) fn refused(status: u16) -> ApiError {
        let status = StatusCode::from_u16(status).unwrap();
        ApiError::Refused(Refusal { status, code: String::new(), detail: String::new(), retry_after: None })
    }

    #[test]
    fn pauses_grow_and_end() {
        let mut backoff = Backoff::default();
        let pauses: Vec<_> = std::iter::from_fn(|| backoff.next_pause(None)).map(|pause| pause.as_secs()).collect();
        assert_eq!(pauses, [1, 2, 4, 8, 16, 30]);

        let mut backoff = Backoff::default();
        assert_eq!(backoff.next_pause(Some(Duration::from_secs(7))), Some(Duration::from_secs(7)));
        assert_eq!(backoff.next_pause(Some(Duration::from_secs(7_000))), Some(MAX_PAUSE));
    }

    #[test]
    fn only_what_may_pass_is_tried_again() {
        for status in [408, 409, 429, 500, 502, 503, 504] {
            assert!(is_passing(&refused(status)), "{status}");
        }
        for status in [301, 400, 401, 402, 403, 404, 406, 413, 415, 422, 501, 507] {
            assert!(!is_passing(&refused(status)), "{status}");
        }
        assert!(!is_passing(&ApiError::NotUnderstood("x")));
    }
}
