//! `POST /verify`: a signed challenge for a login.

use axum::{
    Form, Json,
    extract::{Query, State, rejection::FormRejection},
};
use serde::Serialize;
use time::OffsetDateTime;

use super::AppState;
use crate::{auth::User, error::ApiError, login::Answer};

type Fields = Vec<(String, String)>;

/// A login.
#[derive(Debug, Serialize)]
pub struct Login {
    token: String,
}

/// Takes `id`, `sig`, `pubkey` and perhaps `readonly` (anything but empty) from the form or, as the old server did, from
/// the query.
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
