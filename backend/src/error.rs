//! Whatever goes wrong in a route, and the one place that makes an answer of it.

use axum::response::{IntoResponse, Response};
use http::{
    HeaderName, HeaderValue, StatusCode,
    header::{CONTENT_RANGE, CONTENT_TYPE, RETRY_AFTER},
};
use sluice_common::{
    l402::{CredentialError, LAPSED_HEADER, Lapsed, Refused, TOO_SMALL},
    limits::body_too_large,
    media_token::MediaTokenError,
    problem::{self, Problem},
};

use crate::{
    auth::InvalidLogin, db::DbError, download::DownloadError, ledger::NotTaken, legacy::LegacyError,
    login::AnswerError, pictures::PictureError, podcast::PodcastError, upload::UploadError,
};

/// How long a client should wait for an upload of its token that is under way, in seconds.
const RETRY_AFTER_SECS: u16 = 2;

/// How long a client should wait for a database that is away, in seconds.
const RETRY_AFTER_DATABASE_SECS: u16 = 5;

/// How long a client should wait for a store that is away, in seconds.
const STORE_RETRY_AFTER_SECS: u16 = 10;

/// Why a genuine token stores nothing more.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Blocked {
    /// Another one would have to be bought.
    Lapsed(Lapsed),
    /// Uploads under way hold what is left.
    UploadInProgress,
}

impl Blocked {
    /// The stable machine code.
    pub fn code(self) -> &'static str {
        match self {
            Self::Lapsed(lapsed) => lapsed.code(),
            Self::UploadInProgress => "upload_in_progress",
        }
    }
}

impl From<Lapsed> for Blocked {
    fn from(lapsed: Lapsed) -> Self {
        Self::Lapsed(lapsed)
    }
}

/// Whatever goes wrong in a route.
#[derive(Debug, thiserror::Error)]
pub enum ApiError {
    /// Nobody is logged in.
    #[error("log in first: GET /ask, sign the challenge, POST /verify, then send the token as `Authorization: Bearer`")]
    LoginRequired,
    /// Nobody is logged in, and there is no token that could own the file.
    #[error(
        "this upload costs nothing, so there is no token to own the file: log in (GET /ask, POST /verify), then send it \
         again with `Authorization: Bearer`"
    )]
    OwnerRequired,
    /// The login is none, or over.
    #[error(transparent)]
    InvalidLogin(#[from] InvalidLogin),
    /// The login may only read.
    #[error("this login may only read")]
    ReadonlyLogin,
    /// The answer to a challenge proves nothing.
    #[error(transparent)]
    Answer(#[from] AnswerError),
    /// The credential cannot be read, or there are two.
    #[error(transparent)]
    Credential(#[from] CredentialError),
    /// The credential is not genuine.
    #[error(transparent)]
    Refused(#[from] Refused),
    /// The credential is genuine, and yet not taken.
    #[error(transparent)]
    NotTaken(#[from] NotTaken),
    /// There is no credential where one is needed.
    #[error("this costs: pay at the gateway, and send the token with its preimage as `Authorization: L402`")]
    PaymentRequired,
    /// The credential is genuine, but stores nothing more, or not now.
    #[error("this token stores nothing {}", match .0 {
        Blocked::Lapsed(Lapsed::Expired) => "any more: it has expired",
        Blocked::Lapsed(Lapsed::NotCovered) => "here: it is for something else",
        Blocked::Lapsed(Lapsed::UsedUp) => "any more: it has stored as many uploads as it allows",
        Blocked::UploadInProgress => "now: what is left of it is held by an upload under way",
    })]
    Blocked(Blocked),
    /// The declared length is past what can be taken.
    #[error("a body of {size_bytes} bytes cannot hold a file of at most {limit_bytes}")]
    TooLarge {
        /// The largest file.
        limit_bytes: u64,
        /// The declared length of the body.
        size_bytes: u64,
    },
    /// The upload was not stored. Logged where it happened.
    #[error(transparent)]
    Upload(#[from] UploadError),
    /// The media token cannot be read.
    #[error(transparent)]
    MediaToken(#[from] MediaTokenError),
    /// The media token is for another server.
    #[error("the media token is for another server")]
    WrongHost,
    /// The media token is over.
    #[error("the media token has expired")]
    MediaTokenExpired,
    /// The media token is somebody else's.
    #[error("the media token is for another buyer")]
    WrongBuyer,
    /// The media token was not signed by an owner.
    #[error("the media token is not signed by an owner of the file")]
    NotSignedByOwner,
    /// No such file, or none that the caller may know of.
    #[error("no such file")]
    NoSuchFile,
    /// The file is to be deleted by now, and will be.
    #[error("the file has expired")]
    FileExpired,
    /// The path cannot be read.
    #[error("the path is not UTF-8, percent-encoded")]
    InvalidPath,
    /// The query cannot be read.
    #[error("the query: {0}")]
    InvalidQuery(&'static str),
    /// What is to change is neither JSON nor a form.
    #[error("send what is to change as application/json or application/x-www-form-urlencoded")]
    UnsupportedMediaType,
    /// What is to change is too long to be read.
    #[error("the body is longer than the {limit_bytes} bytes that what is to change may have")]
    ChangeTooLarge {
        /// The most bytes of the body.
        limit_bytes: u64,
    },
    /// What is to change cannot be read.
    #[error(
        "what is to change must be an object of `name`, `description`, `price`, `tags`, `ttl` and `public`, each of its type"
    )]
    MalformedChange,
    /// The caller may not add templates.
    #[error("this node may add no templates here")]
    TemplatesNotAllowed,
    /// No thumbnail can be made.
    #[error(transparent)]
    Picture(#[from] PictureError),
    /// No such route.
    #[error("no such route")]
    NoSuchRoute,
    /// The route does not know the method.
    #[error("the route does not know this method")]
    MethodNotAllowed,
    /// `If-Match` or `If-Unmodified-Since` names another file.
    #[error("the file is not the one that the request has in mind")]
    PreconditionFailed,
    /// The file has none of the bytes asked for.
    #[error("the file has {size} bytes, none of them in the range")]
    RangeNotSatisfiable {
        /// The file's length in bytes.
        size: u64,
    },
    /// The file cannot be read.
    #[error(transparent)]
    Download(#[from] DownloadError),
    /// There is no episode of the podcast.
    #[error(transparent)]
    Podcast(#[from] PodcastError),
    /// The database failed.
    #[error(transparent)]
    Db(#[from] DbError),
    /// The server has started, and its database is not there yet.
    #[error("the server is starting: its database is not there yet")]
    Waiting,
    /// A login could not be signed.
    #[error("a login could not be signed: {0}")]
    SignLogin(#[from] jsonwebtoken::errors::Error),
}

/// Refuses a body that is declared longer than a file of `limit_bytes` and its form can be.
pub fn check_declared_len(declared: Option<u64>, limit_bytes: u64) -> Result<(), ApiError> {
    match declared {
        Some(size_bytes) if body_too_large(size_bytes, limit_bytes) => {
            Err(ApiError::TooLarge { limit_bytes, size_bytes })
        }
        _ => Ok(()),
    }
}

impl ApiError {
    /// What the client is told: never an internal cause.
    fn to_problem(&self) -> Problem {
        let (status, code) = match self {
            Self::Upload(error) => return error.to_problem(),
            Self::NotTaken(error) => return error.to_problem(),
            Self::Download(DownloadError::Store(error)) if error.is_away() => {
                return Problem::new(StatusCode::SERVICE_UNAVAILABLE, "store_away")
                    .detail("the file cannot be read now; ask again later");
            }
            Self::Download(_) => {
                return Problem::new(StatusCode::INTERNAL_SERVER_ERROR, "file_unavailable")
                    .detail("the file cannot be read now");
            }
            Self::Db(_) => {
                return Problem::new(StatusCode::SERVICE_UNAVAILABLE, "database_unavailable")
                    .detail("the database cannot be asked now");
            }
            Self::Podcast(error) => match error {
                PodcastError::NotConfigured => (StatusCode::NOT_FOUND, "podcasts_not_configured"),
                PodcastError::InvalidUrl => (StatusCode::BAD_REQUEST, "invalid_query"),
                PodcastError::NoEpisode => (StatusCode::NOT_FOUND, "no_such_episode"),
                PodcastError::Busy => (StatusCode::SERVICE_UNAVAILABLE, "podcasts_busy"),
                _ => {
                    return Problem::new(StatusCode::BAD_GATEWAY, "podcast_index_unavailable")
                        .detail("the Podcast Index cannot be asked now");
                }
            },
            Self::Waiting => (StatusCode::SERVICE_UNAVAILABLE, "database_unavailable"),
            Self::SignLogin(_) => return Problem::new(StatusCode::INTERNAL_SERVER_ERROR, "internal"),
            Self::LoginRequired | Self::OwnerRequired => (StatusCode::UNAUTHORIZED, "login_required"),
            Self::InvalidLogin(_) => (StatusCode::UNAUTHORIZED, "invalid_login"),
            Self::ReadonlyLogin => (StatusCode::UNAUTHORIZED, "readonly_login"),
            Self::Answer(_) => (StatusCode::NOT_ACCEPTABLE, "login_refused"),
            Self::Credential(error) => (error.status(), error.code()),
            Self::Refused(refused) => (StatusCode::UNAUTHORIZED, refused.code()),
            Self::PaymentRequired => (StatusCode::PAYMENT_REQUIRED, "payment_required"),
            Self::Blocked(Blocked::UploadInProgress) => (StatusCode::CONFLICT, Blocked::UploadInProgress.code()),
            Self::Blocked(blocked) => (StatusCode::PAYMENT_REQUIRED, blocked.code()),
            Self::TooLarge { .. } => (StatusCode::PAYLOAD_TOO_LARGE, "too_large"),
            Self::MediaToken(_) => (StatusCode::UNAUTHORIZED, "malformed_media_token"),
            Self::WrongHost => (StatusCode::UNAUTHORIZED, "wrong_host"),
            Self::MediaTokenExpired => (StatusCode::GONE, "media_token_expired"),
            Self::WrongBuyer => (StatusCode::UNAUTHORIZED, "wrong_buyer"),
            Self::NotSignedByOwner => (StatusCode::UNAUTHORIZED, "not_signed_by_owner"),
            Self::NoSuchFile => (StatusCode::NOT_FOUND, "no_such_file"),
            Self::FileExpired => (StatusCode::GONE, "file_expired"),
            Self::InvalidPath => (StatusCode::BAD_REQUEST, "invalid_path"),
            Self::InvalidQuery(_) => (StatusCode::BAD_REQUEST, "invalid_query"),
            Self::UnsupportedMediaType => (StatusCode::UNSUPPORTED_MEDIA_TYPE, "unsupported_media_type"),
            Self::ChangeTooLarge { .. } => (StatusCode::PAYLOAD_TOO_LARGE, "body_too_large"),
            Self::MalformedChange => (StatusCode::UNPROCESSABLE_ENTITY, "malformed_change"),
            Self::TemplatesNotAllowed => (StatusCode::FORBIDDEN, "templates_not_allowed"),
            Self::Picture(error) => (error.status(), error.code()),
            Self::NoSuchRoute => (StatusCode::NOT_FOUND, "no_such_route"),
            Self::MethodNotAllowed => (StatusCode::METHOD_NOT_ALLOWED, "method_not_allowed"),
            Self::PreconditionFailed => (StatusCode::PRECONDITION_FAILED, "precondition_failed"),
            Self::RangeNotSatisfiable { .. } => (StatusCode::RANGE_NOT_SATISFIABLE, "range_not_satisfiable"),
        };
        let problem = Problem::new(status, code).detail(self.to_string());
        match self {
            Self::TooLarge { limit_bytes, size_bytes } => {
                problem.with("limit_bytes", *limit_bytes).with("size_bytes", *size_bytes)
            }
            Self::ChangeTooLarge { limit_bytes } => problem.with("limit_bytes", *limit_bytes),
            _ => problem,
        }
    }

    /// Whether it is our fault, and nobody logged it yet.
    fn is_internal(&self) -> bool {
        use PodcastError::{Answer, AnswerTooLong, Refused, Unreachable};
        // What every request would say while a database is away was said when it went.
        !matches!(self, Self::Db(DbError::Away))
            && matches!(
                self,
                Self::Download(_)
                    | Self::Db(_)
                    | Self::SignLogin(_)
                    | Self::NotTaken(NotTaken::SettlementUnknown(_))
                    | Self::Podcast(Unreachable(_) | Refused(_) | Answer(_) | AnswerTooLong)
            )
    }

    /// A header that goes with it.
    fn header(&self) -> Option<(HeaderName, HeaderValue)> {
        match self {
            Self::Blocked(Blocked::UploadInProgress) => Some((RETRY_AFTER, RETRY_AFTER_SECS.into())),
            Self::Download(DownloadError::Store(error)) | Self::Upload(UploadError::Store(error))
                if error.is_away() =>
            {
                Some((RETRY_AFTER, STORE_RETRY_AFTER_SECS.into()))
            }
            // In whole seconds, none too early.
            Self::Upload(UploadError::TooManyRetries { wait }) => {
                Some((RETRY_AFTER, HeaderValue::from(wait.whole_seconds().max(1) + 1)))
            }
            // The others that are 413 no payment would mend.
            Self::Upload(UploadError::TooLarge { .. }) => Some((LAPSED_HEADER, HeaderValue::from_static(TOO_SMALL))),
            Self::Blocked(blocked) => Some((LAPSED_HEADER, HeaderValue::from_static(blocked.code()))),
            Self::Picture(PictureError::Busy) | Self::Podcast(PodcastError::Busy) => {
                Some((RETRY_AFTER, RETRY_AFTER_SECS.into()))
            }
            Self::Waiting => Some((RETRY_AFTER, RETRY_AFTER_DATABASE_SECS.into())),
            Self::NotTaken(error) if error.is_away() => Some((RETRY_AFTER, RETRY_AFTER_DATABASE_SECS.into())),
            Self::Db(error) | Self::Upload(UploadError::Db(error)) if error.is_away() => {
                Some((RETRY_AFTER, RETRY_AFTER_DATABASE_SECS.into()))
            }
            Self::RangeNotSatisfiable { size } => {
                Some((CONTENT_RANGE, HeaderValue::try_from(format!("bytes */{size}")).ok()?))
            }
            _ => None,
        }
    }
}

impl From<LegacyError> for ApiError {
    fn from(error: LegacyError) -> Self {
        match error {
            // The start has named it in the log.
            LegacyError::Missing => Self::NoSuchFile,
            LegacyError::Db(error) => Self::Db(error),
            LegacyError::Store(error) => Self::Download(error.into()),
            error => Self::Download(DownloadError::Legacy(error)),
        }
    }
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        // The pipeline and this module say the same of a token that stores nothing more.
        let error = match self {
            Self::Upload(UploadError::UsedUp) => Self::Blocked(Lapsed::UsedUp.into()),
            Self::Upload(UploadError::UploadInProgress) => Self::Blocked(Blocked::UploadInProgress),
            error => error,
        };
        if error.is_internal() {
            tracing::error!(error = &error as &dyn std::error::Error, "a request failed");
        }
        let problem = error.to_problem();
        let mut response = (problem.status(), problem.to_json()).into_response();
        response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(problem::CONTENT_TYPE));
        response.headers_mut().extend(error.header());
        response
    }
}
