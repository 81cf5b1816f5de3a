//! What requests say in their paths and queries, read so that whatever cannot be read is a problem like any other.

use axum::extract::{FromRequestParts, Path, Query};
use http::{Uri, request::Parts};
use serde::de::DeserializeOwned;
use sluice_common::muid::Muid;
use utoipa::IntoParams;

use crate::{
    db::{Page, Variant},
    error::ApiError,
};

/// The most rows that a page may have.
const MAX_LIMIT: u32 = 1_000;

/// A text in the path.
#[derive(Debug)]
pub struct PathText(pub String);

impl<S: Send + Sync> FromRequestParts<S> for PathText {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, ApiError> {
        let path = Path::<String>::from_request_parts(parts, state).await;
        Ok(Self(path.map_err(|_| ApiError::InvalidPath)?.0))
    }
}

/// A muid in the path. One that cannot be read names no file.
#[derive(Debug)]
pub struct PathMuid(pub Muid);

impl<S: Send + Sync> FromRequestParts<S> for PathMuid {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, ApiError> {
        let PathText(text) = PathText::from_request_parts(parts, state).await?;
        Ok(Self(text.parse().map_err(|_| ApiError::NoSuchFile)?))
    }
}

/// The parameters of a query in their order; of each the first counts.
struct Parameters(Vec<(String, String)>);

impl Parameters {
    fn of(uri: &Uri) -> Result<Self, ApiError> {
        fn read<T: DeserializeOwned>(uri: &Uri) -> Result<T, ApiError> {
            Query::try_from_uri(uri).map(|Query(query)| query).map_err(|_| ApiError::InvalidQuery("it cannot be read"))
        }
        Ok(Self(read(uri)?))
    }

    fn get(&self, name: &str) -> Option<&str> {
        self.0.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
    }

    fn is_true(&self, name: &str) -> Result<bool, ApiError> {
        match self.get(name) {
            None | Some("false") => Ok(false),
            Some("true") => Ok(true),
            Some(_) => Err(ApiError::InvalidQuery("`thumb` and `medium` are true or false")),
        }
    }
}

/// Which part of a list is asked for, and of which list.
#[derive(Debug)]
pub struct PageQuery {
    /// The part.
    pub page: Page,
    pub(super) path: String,
}

/// What [`PageQuery`] reads, for the OpenAPI document.
#[derive(IntoParams)]
#[into_params(parameter_in = Query)]
#[expect(dead_code, reason = "its fields are only described")]
pub struct PageParams {
    /// The most rows. All, where it is not said (search: 12).
    #[param(minimum = 1, maximum = 1000)]
    limit: Option<u32>,
    /// Where to go on: as the `Link` header of the part before has it.
    #[param(max_length = 4096)]
    after: Option<String>,
}

impl<S: Send + Sync> FromRequestParts<S> for PageQuery {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, ApiError> {
        let query = Parameters::of(&parts.uri)?;
        let limit = query.get("limit").map(|text| match text.parse() {
            Ok(limit @ 1..=MAX_LIMIT) => Ok(limit),
            _ => Err(ApiError::InvalidQuery("`limit` is a number from 1 to 1000")),
        });
        let after = query.get("after").map(str::parse).transpose();
        let after = after.map_err(|_| ApiError::InvalidQuery("`after` is none that this server gave"))?;
        Ok(Self { page: Page { limit: limit.transpose()?, after }, path: parts.uri.path().to_owned() })
    }
}

impl PageQuery {
    /// The same page, of at most `limit` rows where it does not say.
    #[must_use]
    pub fn or_limit(mut self, limit: u32) -> Self {
        self.page.limit.get_or_insert(limit);
        self
    }
}

/// Whether the file itself is asked for, or a picture of it.
#[derive(Debug, Clone, Copy)]
pub struct VariantQuery(pub Variant);

/// What [`VariantQuery`] reads, for the OpenAPI document.
#[derive(IntoParams)]
#[into_params(parameter_in = Query)]
#[expect(dead_code, reason = "its fields are only described")]
pub struct VariantParams {
    /// A picture of 60 × 60 pixels instead.
    thumb: Option<bool>,
    /// A picture of 400 × 400 pixels instead, also where `thumb` is said.
    medium: Option<bool>,
}

impl<S: Send + Sync> FromRequestParts<S> for VariantQuery {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, ApiError> {
        let query = Parameters::of(&parts.uri)?;
        Ok(Self(match (query.is_true("medium")?, query.is_true("thumb")?) {
            (true, _) => Variant::Medium,
            (_, true) => Variant::Thumb,
            _ => Variant::File,
        }))
    }
}
