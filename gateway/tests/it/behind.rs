//! A server behind the gateway that notes what it is asked, and answers as its query says.

use std::{
    net::SocketAddr,
    sync::{Arc, Mutex},
};

use axum::{
    Router,
    body::Body,
    extract::{Request, State},
    http::{HeaderMap, Method, StatusCode},
    response::{IntoResponse, Response},
};
use http_body_util::BodyExt;

/// More than all socket buffers on the way to a client hold.
pub const LARGE: usize = 24 << 20;

/// What a request was.
#[derive(Clone)]
pub struct Seen {
    pub method: Method,
    pub target: String,
    pub headers: HeaderMap,
    pub body_bytes: usize,
}

pub struct Behind {
    pub address: SocketAddr,
    seen: Arc<Mutex<Vec<Seen>>>,
}

impl Behind {
    pub async fn start() -> Self {
        let seen = Arc::<Mutex<Vec<Seen>>>::default();
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let router = Router::new().fallback(answer).with_state(seen.clone());
        tokio::spawn(async move { axum::serve(listener, router).await });
        Self { address, seen }
    }

    /// All requests whose body came whole.
    pub fn seen(&self) -> Vec<Seen> {
        self.seen.lock().unwrap().clone()
    }
}

async fn answer(State(seen): State<Arc<Mutex<Vec<Seen>>>>, request: Request) -> Response {
    let (parts, body) = request.into_parts();
    let code = parts.uri.query().and_then(|query| query.strip_prefix("answer=")).map(str::to_owned);
    if let Some(code) = code {
        // As the media server does: the answer first, then the body is read on.
        tokio::spawn(read(body));
        let body = "{\"code\":\"from behind\"}";
        if code == "large" {
            return vec![7; LARGE].into_response();
        }
        if code == "stored_before" {
            return ([("sluice-stored-before", "true")], body).into_response();
        }
        if let Ok(status) = code.parse::<u16>() {
            return (StatusCode::from_u16(status).unwrap(), body).into_response();
        }
        let status = if code == "too_small" { StatusCode::PAYLOAD_TOO_LARGE } else { StatusCode::PAYMENT_REQUIRED };
        return (status, [("sluice-payment-required", code)], body).into_response();
    }
    match read(body).await {
        Some(body_bytes) => {
            let target = parts.uri.to_string();
            seen.lock().unwrap().push(Seen { method: parts.method, target, headers: parts.headers, body_bytes });
            "stored".into_response()
        }
        None => StatusCode::BAD_REQUEST.into_response(),
    }
}

async fn read(mut body: Body) -> Option<usize> {
    let mut bytes = 0;
    while let Some(frame) = body.frame().await {
        bytes += frame.ok()?.data_ref().map_or(0, bytes::Bytes::len);
    }
    Some(bytes)
}
