//! What to do, apart from doing it: which route, which token, and what after an error.

use std::time::Duration;

use reqwest::StatusCode;
use sluice_common::limits::{BYTES_PER_MB, DEFAULT_MAX_UPLOAD_MB};

use crate::client::{
    ClientError,
    api::{ApiError, TokenStatus},
    purchase::PurchaseError,
    retry,
};

/// Where an upload goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Route {
    Free,
    Paid,
}

impl Route {
    /// Where to try first. What the free route takes is the server's to say, and at most 32 MB unless it was configured
    /// otherwise; so a file that could pass is tried there, and a refusal for its size leads to the paid route.
    pub(super) fn first_for(size: u64, paid: bool) -> Self {
        if paid || size > DEFAULT_MAX_UPLOAD_MB * BYTES_PER_MB { Self::Paid } else { Self::Free }
    }
}

/// What to do after an error.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Next {
    Fail,
    LogInAgain,
    TakePaidRoute,
    TryLater { max_retries: u32, asked_for: Option<Duration> },
}

/// What to do after `error` on `route`.
pub(super) fn next(error: &ClientError, route: Route, has_logged_in_again: bool) -> Next {
    let later = Next::TryLater { max_retries: retry::MAX_RETRIES, asked_for: None };
    match error {
        ClientError::Purchase(PurchaseError::InUse) => later,
        ClientError::Api(error) if retry::is_passing(error) => {
            Next::TryLater { max_retries: retry::max_retries(error), asked_for: retry::asked_for(error) }
        }
        ClientError::Api(ApiError::Refused(refusal)) => match (refusal.status, route) {
            // Most likely the login ended during a long upload.
            (StatusCode::UNAUTHORIZED, _) if !has_logged_in_again => Next::LogInAgain,
            (StatusCode::PAYLOAD_TOO_LARGE, Route::Free) => Next::TakePaidRoute,
            // Somebody else used the token up since it was asked after: choose again.
            (StatusCode::PAYMENT_REQUIRED, Route::Paid) => later,
            _ => Next::Fail,
        },
        _ => Next::Fail,
    }
}

/// What a saved token is good for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Verdict<'a> {
    Buys,
    /// It buys nothing any more: for good.
    Ended(&'a str),
    /// An upload under way holds its last use.
    InUse,
    TooSmall,
    NotCovered,
}

impl<'a> Verdict<'a> {
    /// What a token with `status` is good for, for a file of `size` bytes.
    pub(super) fn of(status: &'a TokenStatus, size: u64) -> Self {
        match status.reason.as_deref() {
            Some(reason @ ("used_up" | "expired")) if !status.can_store => Self::Ended(reason),
            _ if status.max_upload_bytes < size => Self::TooSmall,
            _ if status.can_store => Self::Buys,
            Some("upload_in_progress") => Self::InUse,
            _ => Self::NotCovered,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::client::retry::tests::refused;

    #[test]
    fn small_files_try_the_free_route_first() {
        assert_eq!(Route::first_for(1, false), Route::Free);
        assert_eq!(Route::first_for(32 * 1_048_576, false), Route::Free);
        assert_eq!(Route::first_for(32 * 1_048_576 + 1, false), Route::Paid);
        assert_eq!(Route::first_for(1, true), Route::Paid);
    }

    #[test]
    fn after_an_error() {
        let later = Next::TryLater { max_retries: 6, asked_for: None };
        for (status, route, has_logged_in_again, expected) in [
            (401, Route::Free, false, Next::LogInAgain),
            (401, Route::Paid, true, Next::Fail),
            (413, Route::Free, false, Next::TakePaidRoute),
            (413, Route::Paid, false, Next::Fail),
            (402, Route::Free, false, Next::Fail),
            (402, Route::Paid, false, later),
            (409, Route::Paid, false, later),
            (503, Route::Free, true, later),
            (507, Route::Free, false, Next::Fail),
            (422, Route::Paid, false, Next::Fail),
        ] {
            assert_eq!(next(&refused(status).into(), route, has_logged_in_again), expected, "{status} {route:?}");
        }
        assert_eq!(next(&PurchaseError::InUse.into(), Route::Paid, false), later);
        let nothing_sold = ApiError::NothingSold { server: "http://a".into() };
        assert_eq!(next(&nothing_sold.into(), Route::Paid, false), Next::Fail);
        // Nothing that has to do with money is tried again by itself.
        for error in [PurchaseError::BoughtInVain, PurchaseError::WrongPreimage, PurchaseError::OtherPayment] {
            assert_eq!(next(&error.into(), Route::Paid, false), Next::Fail);
        }
    }

    #[test]
    fn what_a_token_is_good_for() {
        let status = |can_store, reason: Option<&str>| TokenStatus {
            can_store,
            reason: reason.map(str::to_owned),
            max_upload_bytes: 10,
        };
        for (status, size, expected) in [
            (status(true, None), 10, Verdict::Buys),
            (status(true, None), 11, Verdict::TooSmall),
            (status(false, Some("used_up")), 11, Verdict::Ended("used_up")),
            (status(false, Some("expired")), 1, Verdict::Ended("expired")),
            (status(false, Some("upload_in_progress")), 10, Verdict::InUse),
            (status(false, Some("upload_in_progress")), 11, Verdict::TooSmall),
            (status(false, Some("not_covered")), 1, Verdict::NotCovered),
            (status(false, None), 1, Verdict::NotCovered),
        ] {
            assert_eq!(Verdict::of(&status, size), expected, "{status:?} {size}");
        }
    }
}
