//! What a failed call to an S3 server means.

use aws_sdk_s3::{
    config::http::HttpResponse,
    error::{ProvideErrorMetadata, SdkError},
};

use crate::store::StoreError;

/// A call that failed. Says what the server said, and never a key.
#[derive(Debug, thiserror::Error)]
#[error("{operation}: {detail}")]
pub struct S3Error {
    /// The name of the call in the S3 API.
    operation: &'static str,
    failure: S3Failure,
    detail: String,
}

/// What kind of failure it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum S3Failure {
    /// The server cannot be reached, is too slow, or fails itself. It may do better later.
    Away,
    /// The bucket takes no more.
    Full,
    /// The server refuses: wrong credentials, no such bucket, a call that it does not know.
    Refused,
    /// The server does not know the call.
    Unsupported,
}

impl S3Error {
    /// A failure of our own finding.
    pub(super) fn away(operation: &'static str, detail: impl Into<String>) -> Self {
        Self { operation, failure: S3Failure::Away, detail: detail.into() }
    }

    /// What kind of failure it is.
    pub fn failure(&self) -> S3Failure {
        self.failure
    }
}

/// What the failure of `operation` means to who asked the store.
pub(super) fn store_error<E: ProvideErrorMetadata + std::error::Error + 'static>(
    operation: &'static str,
    error: SdkError<E, HttpResponse>,
) -> StoreError {
    let Some(response) = error.raw_response().filter(|_| matches!(error, SdkError::ServiceError(_))) else {
        // What cannot even be sent (an impossible bucket name) will not become better.
        let failure =
            if matches!(error, SdkError::ConstructionFailure(_)) { S3Failure::Refused } else { S3Failure::Away };
        return S3Error { operation, failure, detail: causes(&error) }.into();
    };
    let status = response.status().as_u16();
    let (code, message) = (error.code().unwrap_or_default(), error.message().unwrap_or_default());
    let failure = match (status, code) {
        (404, "NoSuchBucket") => S3Failure::Refused,
        (404 | 416, _) => return StoreError::Missing,
        // The second is what AWS says when two write at once.
        (412, _) | (409, "ConditionalRequestConflict") => return StoreError::Taken,
        (501 | 405, _) | (_, "NotImplemented") => S3Failure::Unsupported,
        (507, _) | (_, "QuotaExceeded" | "XMinioStorageFull" | "XMinioAdminBucketQuotaExceeded") => S3Failure::Full,
        // Garage has no code of its own for it.
        (403, _) if message.contains("quota") => S3Failure::Full,
        (429 | 500.., _) | (_, "SlowDown" | "RequestTimeout" | "RequestTimeTooSkewed") => S3Failure::Away,
        _ => S3Failure::Refused,
    };
    let detail = match code {
        "" => format!("status {status}"),
        code => format!("{code} (status {status}): {message}"),
    };
    S3Error { operation, failure, detail }.into()
}

/// An error and what it comes from, which the SDK's own text leaves out.
fn causes(error: &dyn std::error::Error) -> String {
    std::iter::successors(Some(error), |error| error.source()).map(ToString::to_string).collect::<Vec<_>>().join(": ")
}
