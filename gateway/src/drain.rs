//! Reading on after an answer that came before the body's end.

use std::time::Duration;

use http::header::EXPECT;
use pingora::proxy::Session;
use tokio::{
    sync::Semaphore,
    time::{Instant, timeout},
};

/// The longest that an answered request is read on.
const MAX_TIME: Duration = Duration::from_secs(120);

/// How long to wait for the next bytes of a client that is sending.
const IDLE: Duration = Duration::from_secs(10);

/// How long to wait for the first bytes of a client that asked whether to send: who waits closes, who does not is
/// sending.
const IDLE_AFTER_EXPECT: Duration = Duration::from_secs(1);

/// The most requests read on at once.
const MAX_AT_ONCE: usize = 256;

/// Bounds reading on: in bytes, in time, and in requests at once. Past a bound the connection is closed.
pub struct Drains {
    max_bytes: u64,
    at_once: Semaphore,
}

impl Drains {
    /// Reads on for at most `max_bytes`: about the largest upload that is allowed.
    pub fn new(max_bytes: u64) -> Self {
        Self { max_bytes, at_once: Semaphore::new(MAX_AT_ONCE) }
    }

    /// Reads and discards the rest of the request's body.
    pub async fn drain(&self, session: &mut Session) {
        let Ok(_permit) = self.at_once.try_acquire() else { return };
        let idle = if session.req_header().headers.contains_key(EXPECT) { IDLE_AFTER_EXPECT } else { IDLE };
        let deadline = Instant::now() + MAX_TIME;
        let mut left = self.max_bytes;
        while left > 0 && Instant::now() < deadline {
            match timeout(idle, session.as_downstream_mut().read_request_body()).await {
                Ok(Ok(Some(bytes))) => left = left.saturating_sub(bytes.len() as u64),
                Ok(Ok(None) | Err(_)) | Err(_) => return,
            }
        }
    }
}
