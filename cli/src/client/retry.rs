//! When to try again, and after how long.

use std::{fmt::Display, time::Duration};

use reqwest::StatusCode;

use super::{api::ApiError, console};

/// How often a thing is tried again.
pub(super) const MAX_RETRIES: u32 = 6;

/// How often it is where nobody has answered yet: most likely nobody will.
const MAX_FIRST_RETRIES: u32 = 2;

/// The longest pause, whatever the server asks for.
const MAX_PAUSE: Duration = Duration::from_secs(60);

/// Pauses that grow: 1, 2, 4, 8, 16 and 30 seconds, or what the server asks for.
#[derive(Debug, Default)]
pub(super) struct Backoff {
    retries: u32,
}

impl Backoff {
    /// Says that `error` is met and waits before the next try; false when it was tried often enough.
    pub(super) async fn wait(
        &mut self,
        error: &(impl Display + ?Sized),
        max_retries: u32,
        asked_for: Option<Duration>,
    ) -> bool {
        let Some(pause) = self.next_pause(max_retries, asked_for) else { return false };
        let (secs, at) = (pause.as_secs(), self.retries);
        console::note(format_args!("{error}; trying again in {secs} s (try {at} of {max_retries})"));
        tokio::time::sleep(pause).await;
        true
    }

    /// The next pause; none after `max_retries` of them.
    fn next_pause(&mut self, max_retries: u32, asked_for: Option<Duration>) -> Option<Duration> {
        if self.retries >= max_retries {
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
        ApiError::Unreachable { trouble, is_first, .. } => trouble.may_pass() || !is_first,
        ApiError::AnswerCutOff(_) | ApiError::Stalled(_) => true,
        ApiError::Refused(refusal) => {
            matches!(refusal.status, StatusCode::CONFLICT | StatusCode::TOO_MANY_REQUESTS | StatusCode::REQUEST_TIMEOUT)
                // A full disk and what is not there stay so.
                || refusal.status.is_server_error()
                    && !matches!(refusal.status, StatusCode::NOT_IMPLEMENTED | StatusCode::INSUFFICIENT_STORAGE)
        }
        ApiError::InvalidServer(_)
        | ApiError::Client(_)
        | ApiError::NothingSold { .. }
        | ApiError::OtherServer { .. }
        | ApiError::NotUnderstood(_) => false,
    }
}

/// How often a request that failed so is tried again.
pub(super) fn max_retries(error: &ApiError) -> u32 {
    match error {
        ApiError::Unreachable { is_first: true, .. } => MAX_FIRST_RETRIES,
        _ => MAX_RETRIES,
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
    use crate::client::api::{Refusal, Trouble};

    pub(in crate::client) fn refused(status: u16) -> ApiError {
        let status = StatusCode::from_u16(status).unwrap();
        ApiError::Refused(Refusal { status, code: String::new(), detail: String::new(), retry_after: None })
    }

    #[test]
    fn pauses_grow_and_end() {
        let mut backoff = Backoff::default();
        let pauses: Vec<_> =
            std::iter::from_fn(|| backoff.next_pause(MAX_RETRIES, None)).map(|pause| pause.as_secs()).collect();
        assert_eq!(pauses, [1, 2, 4, 8, 16, 30]);

        let mut backoff = Backoff::default();
        assert_eq!(backoff.next_pause(2, Some(Duration::from_secs(7))), Some(Duration::from_secs(7)));
        assert_eq!(backoff.next_pause(2, Some(Duration::from_secs(7_000))), Some(MAX_PAUSE));
        assert_eq!(backoff.next_pause(2, None), None);
    }

    #[test]
    fn a_server_that_never_answered_is_soon_given_up() {
        let unreachable = |trouble, is_first| ApiError::Unreachable { server: String::new(), trouble, is_first };
        let broken = || Trouble::Broken("Connection refused".into());
        for (error, passes, retries) in [
            (unreachable(broken(), true), true, 2),
            (unreachable(broken(), false), true, 6),
            (unreachable(Trouble::NoTls, true), false, 2),
            (unreachable(Trouble::NoHost("it".into()), true), false, 2),
            (unreachable(Trouble::NoHost("it".into()), false), true, 6),
            (refused(503), true, 6),
        ] {
            assert_eq!((is_passing(&error), max_retries(&error)), (passes, retries), "{error:?}");
        }
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
