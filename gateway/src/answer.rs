//! Answers that the gateway gives itself.

use std::time::Duration;

use bytes::Bytes;
use http::{
    HeaderName, HeaderValue, Method, StatusCode,
    header::{CACHE_CONTROL, CONTENT_LENGTH, CONTENT_TYPE, RETRY_AFTER, WWW_AUTHENTICATE},
};
use pingora::{Result, http::ResponseHeader, proxy::Session};
use sluice_common::{
    l402::Challenge,
    problem::{self, Problem},
    request_id::REQUEST_ID_HEADER,
};

use crate::{connections::Watch, cors, drain::Drains, limits::ClientNetwork};

/// An answer of the gateway's own: it never comes with what the request asked for.
#[derive(Debug, Clone)]
pub struct Answer {
    status: StatusCode,
    /// The machine code of a problem.
    code: Option<&'static str>,
    headers: Vec<(HeaderName, HeaderValue)>,
    body: Bytes,
    closes: bool,
}

impl From<Problem> for Answer {
    fn from(problem: Problem) -> Self {
        let headers = vec![
            (CONTENT_TYPE, HeaderValue::from_static(problem::CONTENT_TYPE)),
            (CACHE_CONTROL, HeaderValue::from_static("no-store")),
        ];
        let (status, code) = (problem.status(), Some(problem.code()));
        Self { status, code, headers, body: problem.to_json().into(), closes: false }
    }
}

impl Answer {
    /// An answer to a preflight: only headers, and those are everyone's.
    pub fn preflight() -> Self {
        let headers = cors::preflight_headers();
        Self { status: StatusCode::NO_CONTENT, code: None, headers, body: Bytes::new(), closes: false }
    }

    /// 200 with this JSON, which is for now.
    pub fn json(value: &serde_json::Value) -> Self {
        let headers = vec![
            (CONTENT_TYPE, HeaderValue::from_static("application/json")),
            (CACHE_CONTROL, HeaderValue::from_static("no-store")),
        ];
        Self { status: StatusCode::OK, code: None, headers, body: value.to_string().into(), closes: false }
    }

    /// An answer without a body that sends clients on.
    pub fn elsewhere(status: StatusCode, location: (HeaderName, HeaderValue)) -> Self {
        Self { status, code: None, headers: vec![location], body: Bytes::new(), closes: false }
    }

    /// Adds the two `WWW-Authenticate` lines.
    #[must_use]
    pub fn with_challenge(mut self, challenge: &Challenge) -> Self {
        // Base64 and bech32 have no character that a header cannot have.
        let values = challenge.header_values().into_iter().filter_map(|value| HeaderValue::try_from(value).ok());
        self.headers.extend(values.map(|value| (WWW_AUTHENTICATE, value)));
        self
    }

    /// The same for a gRPC client, which reads its outcome from `grpc-status` alone: status 200 and no body.
    #[must_use]
    pub fn for_grpc(mut self, status: u8, message: &'static str) -> Self {
        self.headers.retain(|(name, _)| name != CONTENT_TYPE);
        self.headers.extend([
            (CONTENT_TYPE, HeaderValue::from_static("application/grpc")),
            (HeaderName::from_static("grpc-status"), HeaderValue::from(u16::from(status))),
            (HeaderName::from_static("grpc-message"), HeaderValue::from_static(message)),
        ]);
        Self { status: StatusCode::OK, body: Bytes::new(), ..self }
    }

    /// Nothing is read after it: the connection is closed.
    #[must_use]
    pub fn and_close(self) -> Self {
        Self { closes: true, ..self }
    }

    /// Says when to come again, in whole seconds, none too early.
    #[must_use]
    pub fn retry_after(mut self, wait: Duration) -> Self {
        let secs = wait.as_secs() + u64::from(wait.subsec_nanos() > 0);
        self.headers.push((RETRY_AFTER, HeaderValue::from(secs)));
        self
    }

    /// The status.
    pub fn status(&self) -> StatusCode {
        self.status
    }

    /// The machine code of the problem that it is of; none where all is well.
    pub fn code(&self) -> Option<&'static str> {
        self.code
    }

    /// The body.
    pub fn body(&self) -> &Bytes {
        &self.body
    }

    /// The headers as pingora writes them.
    pub fn header(&self) -> Result<ResponseHeader> {
        let mut header = ResponseHeader::build(self.status, Some(self.headers.len() + 4))?;
        for (name, value) in &self.headers {
            header.append_header(name.clone(), value.clone())?;
        }
        if self.status != StatusCode::NO_CONTENT {
            header.insert_header(CONTENT_LENGTH, self.body.len())?;
        }
        cors::add_headers(&mut header)?;
        Ok(header)
    }

    /// Writes the answer to a client in `network`, then reads and discards what it still sends, within bounds: a client
    /// that is cut off while it sends sees a broken connection instead of the answer (protocols.md §2).
    pub async fn write(&self, session: &mut Session, drains: &Drains, network: ClientNetwork) -> Result<()> {
        let has_body = !session.as_downstream_mut().is_body_empty();
        if has_body || self.closes {
            // Keep-alive with an unread body would drain it without bound.
            session.set_keepalive(None);
        }
        let is_bodiless = session.req_header().method == Method::HEAD || self.body.is_empty();
        if has_body && !is_bodiless {
            Watch::write_together().await;
        }
        let mut header = self.header()?;
        if let Some(request_id) = session.req_header().headers.get(REQUEST_ID_HEADER) {
            header.insert_header(REQUEST_ID_HEADER, request_id.clone())?;
        }
        session.write_response_header(Box::new(header), is_bodiless).await?;
        if !is_bodiless {
            session.write_response_body(Some(self.body.clone()), true).await?;
        }
        if has_body && !self.closes {
            drains.drain(session, network).await;
        }
        Ok(())
    }
}
