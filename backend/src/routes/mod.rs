//! The handlers, a file each, and the JSON that they answer.

pub mod ask;
pub mod file;
pub mod largefile;
pub mod media;
pub mod mymedia;
pub mod ping;
pub mod podcast;
pub mod public;
pub mod verify;

mod media_json;

use std::sync::Arc;

use axum::extract::State;
use http::{HeaderMap, header::CONTENT_LENGTH, header::CONTENT_TYPE};
use sluice_common::muid::Muid;

pub use self::media_json::{MediaJson, StrangersMediaJson};
use crate::{error::ApiError, state::App};

/// How handlers get at the [`App`].
type AppState = State<Arc<App>>;

/// The muid in a path. One that cannot be read names no file.
fn muid(text: &str) -> Result<Muid, ApiError> {
    text.parse().map_err(|_| ApiError::NoSuchFile)
}

fn content_type(headers: &HeaderMap) -> Option<&str> {
    headers.get(CONTENT_TYPE)?.to_str().ok()
}

/// The length that the headers declare for the body.
fn declared_len(headers: &HeaderMap) -> Option<u64> {
    headers.get(CONTENT_LENGTH)?.to_str().ok()?.parse().ok()
}
