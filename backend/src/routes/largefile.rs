//! `/largefile`: paid uploads. The gateway stands in front and sells; this route trusts no position in the network and
//! checks the credential itself. It makes no challenge: it says whether another payment would help, and the gateway asks
//! for it.

use axum::{
    Json,
    body::Body,
    extract::{Request, State},
    response::{IntoResponse, Response},
};
use http::{HeaderMap, HeaderValue, request::Parts};
use serde::Serialize;
use sluice_common::{
    l402::{Lapsed, STORED_BEFORE_HEADER, Token},
    muid::Muid,
    permit::FreePermit,
};
use time::OffsetDateTime;
use utoipa::ToSchema;

use super::{AppState, MediaJson, UploadForm, content_type, declared_len};
use crate::{
    auth::{self, User},
    db::{Committed, Owner, PaidUse, StoredUpload, TokenUse, UseCounter},
    error::{ApiError, Blocked, check_declared_len},
    openapi::{LoginErrors, Problem, ServerErrors, UploadErrors},
    state::App,
    upload::{UploadError, UploadOrder},
};

/// What is left of a token, and what it stored.
#[derive(Debug, Serialize, ToSchema)]
pub struct TokenStatus {
    can_store: bool,
    /// Why not: `expired`, `not_covered`, `used_up` or `upload_in_progress`.
    reason: Option<&'static str>,
    /// Uploads that are not stored yet, those under way among them; null: any number.
    uses_left: Option<u64>,
    max_upload_bytes: u64,
    #[serde(with = "time::serde::rfc3339::option")]
    valid_until: Option<OffsetDateTime>,
    /// What this very credential stored, newest first.
    stored: Vec<StoredUploadJson>,
}

#[derive(Debug, Serialize, ToSchema)]
struct StoredUploadJson {
    #[schema(value_type = String)]
    muid: Muid,
    size: u64,
    #[serde(with = "time::serde::rfc3339")]
    stored_at: OffsetDateTime,
}

/// What is left of the caller's token, which may have expired.
#[utoipa::path(
    get,
    path = "/largefile",
    responses(
        (status = 200, body = TokenStatus),
        (status = 402, body = Problem, content_type = "application/problem+json", description = "`payment_required`"),
        LoginErrors,
        ServerErrors,
    ),
    security(("l402" = []))
)]
pub async fn get(State(app): AppState, headers: HeaderMap) -> Result<Json<TokenStatus>, ApiError> {
    let token = auth::token(&app, &headers).await?.ok_or(ApiError::PaymentRequired)?;
    let now = OffsetDateTime::now_utc();
    let token_use = app.db.token_use(&paid_use(&token), now).await?;
    Ok(Json(TokenStatus::new(&token, token_use, now)))
}

/// Stores a file for who is logged in, else for the credential itself. What the gateway lets through for nothing needs a
/// login.
#[utoipa::path(
    post,
    path = "/largefile",
    request_body(content = inline(UploadForm), content_type = "multipart/form-data"),
    responses(
        (status = 200, body = MediaJson),
        (status = 402, body = Problem, content_type = "application/problem+json", description = "`payment_required`, `expired`, `not_covered`, `used_up`"),
        (status = 409, body = Problem, content_type = "application/problem+json", description = "`upload_in_progress`"),
        (status = 429, body = Problem, content_type = "application/problem+json", description = "`too_many_retries`"),
        UploadErrors,
        ServerErrors,
    ),
    security(("l402" = []), ("l402" = [], "jwt" = []))
)]
pub async fn post(State(app): AppState, request: Request) -> Result<Response, ApiError> {
    let (parts, body) = request.into_parts();
    // A login that is not good first: no payment would mend it.
    let user = auth::writer(&app, &parts)?;
    let (order, is_over) = match auth::free_permit(&app, &parts) {
        Some(permit) => (free_order(&app, user, &permit)?, false),
        None => paid_order(&app, user, &parts).await?,
    };
    check_declared_len(declared_len(&parts.headers), order.max_upload_bytes)?;
    let content_type = content_type(&parts.headers);
    let Committed { media, stored_before } = match order.paid.clone().filter(|_| is_over) {
        Some(paid) => receive_again(&app, order, paid, content_type, body).await?,
        None => app.uploads.receive(order, content_type, body).await?,
    };
    let sold_nothing = stored_before.then_some([(STORED_BEFORE_HEADER, HeaderValue::from_static("true"))]);
    Ok((sold_nothing, Json(MediaJson::from(media))).into_response())
}

/// The answer to an upload before may have been lost when the token's time was nearly over.
async fn receive_again(
    app: &App,
    order: UploadOrder,
    paid: PaidUse,
    content_type: Option<&str>,
    body: Body,
) -> Result<Committed, ApiError> {
    // Perhaps the very one that is sent again: who paid now would pay for nothing. Asked before what is stored, for it may be
    // meanwhile; and none begins any more.
    let is_storing = app.db.token_use(&paid, OffsetDateTime::now_utc()).await?.is_storing;
    match app.uploads.receive_again(order, paid, content_type, body).await {
        Err(UploadError::UsedUp) if is_storing => Err(UploadError::UploadInProgress.into()),
        Err(UploadError::UsedUp) => Err(ApiError::Blocked(Lapsed::Expired.into())),
        answer => Ok(answer?),
    }
}

/// What the gateway lets through without a token is its login's.
fn free_order(app: &App, user: Option<User>, permit: &FreePermit) -> Result<UploadOrder, ApiError> {
    let user = user.ok_or(ApiError::OwnerRequired)?;
    let owner = Owner::node(&user.key);
    let max_upload_bytes = permit.max_upload_bytes.min(app.accepted.load().terms.max_upload_bytes());
    Ok(UploadOrder { owner, max_upload_bytes, paid: None, public: false, template: false })
}

/// And whether the token's time is over: then nothing is stored.
async fn paid_order(app: &App, user: Option<User>, parts: &Parts) -> Result<(UploadOrder, bool), ApiError> {
    let token = auth::token(app, &parts.headers).await?.ok_or(ApiError::PaymentRequired)?;
    let now = unix_seconds(OffsetDateTime::now_utc());
    let over = token.expired_permit(now);
    let is_over = over.is_some();
    let permit = over.map_or_else(|| token.permit(now), Ok).map_err(|lapsed| ApiError::Blocked(lapsed.into()))?;
    let token = permit.token();
    let order = UploadOrder {
        owner: user.map_or_else(|| Owner::credential(&token.credential_hash()), |user| Owner::node(&user.key)),
        max_upload_bytes: token.max_upload_bytes(),
        paid: Some(paid_use(token)),
        public: false,
        template: false,
    };
    Ok((order, is_over))
}

fn paid_use(token: &Token) -> PaidUse {
    let counters = token.counters().iter().map(|counter| UseCounter { id: counter.id, max_uses: counter.max_uses });
    PaidUse {
        payment_hash: token.payment_hash(),
        credential_hash: token.credential_hash(),
        counters: counters.collect(),
    }
}

impl TokenStatus {
    fn new(token: &Token, token_use: TokenUse, now: OffsetDateTime) -> Self {
        let TokenUse { counters, stored, .. } = token_use;
        let blocked = match token.permit(unix_seconds(now)) {
            Err(lapsed) => Some(lapsed.into()),
            Ok(_) if counters.iter().any(|counter| counter.is_used_up()) => Some(Lapsed::UsedUp.into()),
            Ok(_) if !counters.iter().all(|counter| counter.has_room()) => Some(Blocked::UploadInProgress),
            Ok(_) => None,
        };
        let valid_until = token.valid_until().and_then(|at| i64::try_from(at).ok());
        Self {
            can_store: blocked.is_none(),
            reason: blocked.map(Blocked::code),
            uses_left: counters.iter().map(|counter| counter.max_uses.saturating_sub(counter.spent)).min(),
            max_upload_bytes: token.max_upload_bytes(),
            // A time past what a date can say is as good as none.
            valid_until: valid_until.and_then(|at| OffsetDateTime::from_unix_timestamp(at).ok()),
            stored: stored.into_iter().map(StoredUploadJson::from).collect(),
        }
    }
}

impl From<StoredUpload> for StoredUploadJson {
    fn from(stored: StoredUpload) -> Self {
        Self { muid: stored.muid, size: stored.size, stored_at: stored.stored_at }
    }
}

fn unix_seconds(time: OffsetDateTime) -> u64 {
    time.unix_timestamp().try_into().unwrap_or(0)
}
