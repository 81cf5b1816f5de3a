//! The bucket that files are kept in.

use std::num::{NonZeroU32, NonZeroU64};

use serde::{Deserialize, Serialize};

use super::{KeySource, settings::positive};

/// `[backend.s3]`
#[derive(Debug, Clone, PartialEq, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct S3Settings {
    /// The bucket.
    pub bucket: String,
    /// The server's region.
    pub region: String,
    /// Where the server is, if it is not AWS's own.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub endpoint: Option<String>,
    /// Whether the bucket stands in the path, and not in the host's name.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub path_style: Option<bool>,
    /// The name of the key.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub access_key_id: Option<KeySource>,
    /// The key.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub secret_access_key: Option<KeySource>,
    /// What goes with a key that was made for a time.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub session_token: Option<KeySource>,
    /// Whether new files are sealed, as local ones are.
    pub seal: bool,
    /// How long a connection may take.
    pub connect_timeout_secs: NonZeroU64,
    /// How long an answer may take, and each next piece of it.
    pub read_timeout_secs: NonZeroU64,
    /// How often a call is tried in all.
    pub attempts: NonZeroU32,
}

impl Default for S3Settings {
    /// As sphinx-meme had it.
    fn default() -> Self {
        Self {
            bucket: "sphinx-memes".to_owned(),
            region: "us-east-1".to_owned(),
            endpoint: None,
            path_style: None,
            access_key_id: None,
            secret_access_key: None,
            session_token: None,
            seal: false,
            connect_timeout_secs: positive(5),
            read_timeout_secs: positive(30),
            attempts: NonZeroU32::MIN.saturating_add(2),
        }
    }
}

impl S3Settings {
    /// Whether the bucket stands in the path: where a server is named, unless it is said.
    pub fn path_style(&self) -> bool {
        self.path_style.unwrap_or(self.endpoint.is_some())
    }
}
