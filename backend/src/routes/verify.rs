//! `POST /verify`: a signed challenge for a login.

use axum::{
    Form, Json,
    extract::{Query, State, rejection::FormRejection},
};
use serde::Serialize;
use time::OffsetDateTime;
use utoipa::ToSchema;

use super::AppState;
use crate::{
    auth::User,
    error::ApiError,
    login::Answer,
    openapi::{Problem, ServerErrors},
};

type Fields = Vec<(String, String)>;

/// A login.
#[derive(Debug, Serialize, ToSchema)]
pub struct Login {
    /// A JWT.
    token: String,
}

/// What proves who somebody is.
#[derive(ToSchema)]
#[expect(dead_code, reason = "its fields are only described")]
struct VerifyForm {
    /// That of the challenge.
    id: String,
    /// Base64url of 65 bytes.
    sig: String,
    /// 33 bytes in hex.
    pubkey: String,
    /// Anything: the login may only read.
    readonly: Option<String>,
}

/// Takes `id`, `sig`, `pubkey` and perhaps `readonly` (anything but empty) from the form or, as the old server did, from
/// the query.
#[utoipa::path(
    post,
    path = "/verify",
    request_body(content = inline(VerifyForm), content_type = "application/x-www-form-urlencoded"),
    responses(
        (status = 200, body = Login),
        (status = 406, body = Problem, content_type = "application/problem+json", description = "`login_refused`"),
        ServerErrors,
    )
)]
pub async fn post(
    State(app): AppState,
    Query(query): Query<Fields>,
    form: Result<Form<Fields>, FormRejection>,
) -> Result<Json<Login>, ApiError> {
    let form = form.map(|Form(fields)| fields).unwrap_or_default();
    let field = |name: &str| {
        let found = form.iter().chain(&query).find(|(field, _)| field == name);
        found.map_or("", |(_, value)| value.as_str())
    };
    let now = OffsetDateTime::now_utc();
    let answer = Answer { id: field("id"), signature: field("sig"), public_key: field("pubkey") };
    let key = app.challenges.verify(answer, now)?;
    let user = User { key, readonly: !field("readonly").is_empty() };
    Ok(Json(Login { token: app.logins.issue(user, now)? }))
}
