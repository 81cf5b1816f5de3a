//! The body of `PUT /mymedia/{muid}`: what an owner says of a file, as JSON or as a form.

use std::error::Error;

use axum::body::{Body, to_bytes};
use http::HeaderMap;
use http_body_util::LengthLimitError;
use serde::Deserialize;
use utoipa::ToSchema;

use super::content_type;
use crate::{
    db::MediaChange,
    error::ApiError,
    upload::{UploadError, read_change},
};

/// The longest body: every field at its longest, escaped.
const MAX_BYTES: usize = 128 * 1_024;

/// What is to change. What is not named, or null, stays; a text may be empty.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ChangeJson {
    #[schema(max_length = 1024)]
    name: Option<String>,
    #[schema(max_length = 16384)]
    description: Option<String>,
    /// In satoshi.
    #[schema(minimum = 0)]
    price: Option<i64>,
    /// Tags with commas in them are several; in a form, all of them stand in one field. At most 4096 bytes, commas between
    /// them too.
    #[schema(max_items = 64)]
    tags: Option<Vec<String>>,
    /// How long a media token sold for it should last, in seconds; 0: a year.
    #[schema(minimum = 0)]
    ttl: Option<i64>,
    /// Whether anybody may download it.
    public: Option<bool>,
}

impl ChangeJson {
    /// As a form says it.
    fn into_fields(self) -> Vec<(String, String)> {
        [
            ("name", self.name),
            ("description", self.description),
            ("price", self.price.map(|price| price.to_string())),
            ("tags", self.tags.map(|tags| tags.join(","))),
            ("ttl", self.ttl.map(|ttl| ttl.to_string())),
            ("public", self.public.map(|public| public.to_string())),
        ]
        .into_iter()
        .filter_map(|(name, value)| Some((name.to_owned(), value?)))
        .collect()
    }
}

/// Reads a body of either kind.
pub(super) async fn read(headers: &HeaderMap, body: Body) -> Result<MediaChange, ApiError> {
    let mime = content_type(headers).and_then(|text| text.parse::<mime::Mime>().ok());
    let is_json = match mime.as_ref().map(mime::Mime::essence_str) {
        Some("application/json") => true,
        Some("application/x-www-form-urlencoded") => false,
        _ => return Err(ApiError::UnsupportedMediaType),
    };
    let body = to_bytes(body, MAX_BYTES).await.map_err(|error| {
        match error.source().is_some_and(|cause| cause.is::<LengthLimitError>()) {
            true => ApiError::ChangeTooLarge { limit_bytes: MAX_BYTES as u64 },
            false => UploadError::IncompleteBody.into(),
        }
    })?;
    let fields = if is_json {
        serde_json::from_slice::<ChangeJson>(&body).map_err(|_| ApiError::MalformedChange)?.into_fields()
    } else {
        form_urlencoded::parse(&body).into_owned().collect()
    };
    Ok(read_change(fields)?)
}
