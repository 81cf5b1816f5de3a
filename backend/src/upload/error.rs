//! Why an upload is not stored, and what the client is told.

use http::StatusCode;
use sluice_common::{l402::Lapsed, problem::Problem};

use crate::{
    db::{BeginError, CommitError, DbError, OverQuota, RetryError},
    disk::NoRoom,
    pictures::PictureError,
    store::StoreError,
};

/// Why an upload is not stored. Nothing of it is left then, and its use is given back.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum UploadError {
    /// The content type is not that of a form.
    #[error("an upload is a form: send it as multipart/form-data")]
    NotMultipart,
    /// The form cannot be read.
    #[error("the form cannot be read: {0}")]
    MalformedForm(&'static str),
    /// No part is named `file`.
    #[error("the form has no part named `file`")]
    NoFile,
    /// More than one part is named `file`.
    #[error("the form has more than one part named `file`; send one file at a time")]
    TwoFiles,
    /// The file, or the whole body, has no bytes.
    #[error("the file is empty")]
    EmptyFile,
    /// The file is larger than was allowed.
    #[error("the file is larger than the {limit_bytes} bytes that are allowed")]
    TooLarge {
        /// The most bytes.
        limit_bytes: u64,
    },
    /// The form holds too much that is not the file.
    #[error("all of the form but the file is more than 1 MiB")]
    FormTooLarge,
    /// A field's value cannot be taken.
    #[error("the form field `{field}` {problem}")]
    InvalidField {
        /// The field's name.
        field: &'static str,
        /// What is wrong with it.
        problem: &'static str,
    },
    /// A field's value is too long.
    #[error("the form field `{field}` is longer than the {max_bytes} bytes that are allowed")]
    FieldTooLong {
        /// The field's name.
        field: &'static str,
        /// The most bytes.
        max_bytes: usize,
    },
    /// A field that cannot be changed, or is none.
    #[error("only `name`, `description`, `price`, `tags`, `ttl` and `public` can be changed")]
    UnknownField,
    /// The body ended before its end, or nothing came any more.
    #[error("the request's body did not come to its end")]
    IncompleteBody,
    /// Every use of the token that is left is held by an upload under way.
    #[error("every use of this token that is left is held by an upload under way; ask again when that has ended")]
    UploadInProgress,
    /// The token has stored as many uploads as it allows.
    #[error("this token has stored as many uploads as it allows")]
    UsedUp,
    /// It would be compared with what its token stored, but there were too many of those, or one is under way.
    #[error("this token is used up; whether this is an upload that it stored can be looked at again later")]
    TooManyRetries {
        /// When there is room again.
        wait: time::Duration,
    },
    /// The upload's lease ended before the upload did, or the server ended.
    #[error("the upload was interrupted; send it again")]
    Interrupted,
    /// Its owner would have more than allowed.
    #[error(transparent)]
    OverQuota(#[from] OverQuota),
    /// It had to be a picture, and is none that can be measured.
    #[error(transparent)]
    Picture(#[from] PictureError),
    /// The disk has no room for it.
    #[error(transparent)]
    NoRoom(#[from] NoRoom),
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The database failed.
    #[error(transparent)]
    Db(#[from] DbError),
}

impl UploadError {
    /// What the client is told.
    pub fn to_problem(&self) -> Problem {
        let (status, code) = match self {
            Self::NotMultipart => (StatusCode::UNSUPPORTED_MEDIA_TYPE, "not_multipart"),
            Self::MalformedForm(_) => (StatusCode::BAD_REQUEST, "malformed_form"),
            Self::NoFile => (StatusCode::UNPROCESSABLE_ENTITY, "no_file"),
            Self::TwoFiles => (StatusCode::UNPROCESSABLE_ENTITY, "two_files"),
            Self::EmptyFile => (StatusCode::BAD_REQUEST, "empty_file"),
            Self::TooLarge { .. } => (StatusCode::PAYLOAD_TOO_LARGE, "too_large"),
            Self::FormTooLarge => (StatusCode::PAYLOAD_TOO_LARGE, "form_too_large"),
            Self::UnknownField => (StatusCode::UNPROCESSABLE_ENTITY, "invalid_field"),
            Self::InvalidField { .. } | Self::FieldTooLong { .. } => {
                (StatusCode::UNPROCESSABLE_ENTITY, "invalid_field")
            }
            Self::IncompleteBody => (StatusCode::BAD_REQUEST, "incomplete_body"),
            Self::UploadInProgress => (StatusCode::CONFLICT, "upload_in_progress"),
            Self::UsedUp => (StatusCode::PAYMENT_REQUIRED, Lapsed::UsedUp.code()),
            Self::TooManyRetries { .. } => (StatusCode::TOO_MANY_REQUESTS, "too_many_retries"),
            Self::OverQuota(_) => (StatusCode::PAYLOAD_TOO_LARGE, "over_quota"),
            Self::Picture(error) => (error.status(), error.code()),
            Self::Interrupted => (StatusCode::SERVICE_UNAVAILABLE, "upload_interrupted"),
            Self::NoRoom(_) => (StatusCode::INSUFFICIENT_STORAGE, "storage_unavailable"),
            Self::Store(error) if error.is_full() => (StatusCode::INSUFFICIENT_STORAGE, "storage_unavailable"),
            Self::Store(error) if error.is_away() => (StatusCode::SERVICE_UNAVAILABLE, "store_away"),
            Self::Store(_) => (StatusCode::SERVICE_UNAVAILABLE, "storage_unavailable"),
            Self::Db(_) => (StatusCode::SERVICE_UNAVAILABLE, "database_unavailable"),
        };
        let problem = Problem::new(status, code);
        match self {
            Self::Store(_) => problem.detail("the file cannot be stored now; nothing was stored or used up"),
            Self::Db(_) => problem.detail("the database cannot be asked now"),
            Self::TooLarge { limit_bytes } => problem.detail(self.to_string()).with("limit_bytes", *limit_bytes),
            Self::OverQuota(OverQuota { quota, used, size }) => [
                ("limit_bytes", quota.max_bytes),
                ("limit_files", quota.max_files),
                ("used_bytes", Some(used.bytes)),
                ("used_files", Some(used.files)),
                ("size_bytes", Some(*size)),
            ]
            .into_iter()
            .filter_map(|(name, number)| Some((name, number?)))
            .fold(problem.detail(self.to_string()), |problem, (name, number)| problem.with(name, number)),
            Self::FieldTooLong { field, max_bytes } => {
                problem.detail(self.to_string()).with("field", *field).with("limit_bytes", *max_bytes as u64)
            }
            Self::InvalidField { field, .. } => problem.detail(self.to_string()).with("field", *field),
            _ => problem.detail(self.to_string()),
        }
    }

    /// Whether it is our fault, and so belongs in the log. That the database is away stands there already.
    pub(super) fn is_internal(&self) -> bool {
        matches!(self, Self::Store(_) | Self::Db(_) | Self::Interrupted) && !matches!(self, Self::Db(DbError::Away))
    }
}

impl From<BeginError> for UploadError {
    fn from(error: BeginError) -> Self {
        match error {
            BeginError::UsedUp => Self::UsedUp,
            BeginError::InProgress => Self::UploadInProgress,
            BeginError::Db(error) => Self::Db(error),
        }
    }
}

impl From<RetryError> for UploadError {
    fn from(error: RetryError) -> Self {
        match error {
            RetryError::Unlike => Self::UsedUp,
            RetryError::TooMany { wait } => Self::TooManyRetries { wait },
            RetryError::Db(error) => Self::Db(error),
        }
    }
}

impl From<CommitError> for UploadError {
    fn from(error: CommitError) -> Self {
        match error {
            // Only a picture of a file can lack the file.
            CommitError::LeaseLost | CommitError::NoFile => Self::Interrupted,
            CommitError::OverQuota(over) => Self::OverQuota(over),
            CommitError::Store(error) => Self::Store(error),
            CommitError::Db(error) => Self::Db(error),
        }
    }
}
