//! Errors as clients see them: `application/problem+json` (RFC 9457) with a stable machine code.

use http::StatusCode;
use serde::Serialize;
use serde_json::{Map, Value};

/// The content type of a [`Problem`].
pub const CONTENT_TYPE: &str = "application/problem+json";

/// An error as clients see it (RFC 9457). `code` is stable, `detail` is for people, and members that only some problems
/// have stand beside them.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Problem {
    #[serde(skip)]
    status_code: StatusCode,
    #[serde(rename = "type")]
    kind: &'static str,
    title: &'static str,
    status: u16,
    code: &'static str,
    #[serde(skip_serializing_if = "String::is_empty")]
    detail: String,
    #[serde(flatten)]
    members: Map<String, Value>,
}

impl Problem {
    /// A problem that answers `status`, with its stable machine code in snake case.
    pub fn new(status: StatusCode, code: &'static str) -> Self {
        Self {
            status_code: status,
            kind: "about:blank",
            title: status.canonical_reason().unwrap_or("Error"),
            status: status.as_u16(),
            code,
            detail: String::new(),
            members: Map::new(),
        }
    }

    /// Says what is wrong and what would mend it. Never holds a secret or an internal cause.
    #[must_use]
    pub fn detail(mut self, detail: impl Into<String>) -> Self {
        self.detail = detail.into();
        self
    }

    /// Adds a member of this problem's own.
    #[must_use]
    pub fn with(mut self, name: &str, value: impl Into<Value>) -> Self {
        self.members.insert(name.to_owned(), value.into());
        self
    }

    /// The status that it answers.
    pub fn status(&self) -> StatusCode {
        self.status_code
    }

    /// The stable machine code.
    pub fn code(&self) -> &'static str {
        self.code
    }

    /// The body: one JSON object.
    pub fn to_json(&self) -> String {
        // A map of strings to JSON values always serialises.
        serde_json::to_string(self).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn is_one_flat_object() {
        let problem =
            Problem::new(StatusCode::PAYLOAD_TOO_LARGE, "too_large").detail("too much").with("limit_bytes", 3);
        insta::assert_snapshot!(problem.to_json(), @r#"{"type":"about:blank","title":"Payload Too Large","status":413,"code":"too_large","detail":"too much","limit_bytes":3}"#);
    }
}
