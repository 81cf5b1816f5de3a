//! The uses of tokens that the gateway counts itself: of services whose server does not see the token, for the media server
//! counts what it stores.
//!
//! A request holds one use of its token. An answer with success spends it, before the answer goes out; any other gives it
//! back. Without an answer nobody knows what the server behind did: it is given back three times in a row and then spent.
//! Always given back is what that server was never asked, what was refused here, and an upload of a declared length that its
//! client broke off, for it holds less than it said. How often the last two may happen, the bytes bound that were not stored.

use std::{fmt, sync::Arc, time::Duration};

use http::{
    Method, StatusCode,
    header::{CONTENT_LENGTH, TRANSFER_ENCODING},
};
use pingora::http::ResponseHeader;
use sluice_common::{clock::unix_now, l402::Token, problem::Problem};
use tokio::{
    runtime::Handle,
    task::JoinHandle,
    time::{sleep, timeout},
};

use crate::{
    answer::Answer,
    config::Offer,
    ledger::{LedgerDb, LedgerError, NoUse, UseEnd, UseHold, UseOrder},
    paywall::Asked,
    request::is_grpc,
};

/// How long a use stays held after its gateway died.
const LEASE_SECS: u64 = 30;

/// How often the lease is renewed, and how long that may take.
const RENEWAL: Duration = Duration::from_secs(10);

/// How long an answer waits for the end of its use to be noted. It goes on being noted after that.
const NOTE_TIMEOUT: Duration = Duration::from_secs(5);

/// How often it is tried to note the end of a use, and the pause between two.
const NOTE_ATTEMPTS: u32 = 60;
const NOTE_PAUSE: Duration = Duration::from_secs(1);

/// When a client should come again while the last use is under way.
pub(crate) const IN_USE_RETRY_AFTER: Duration = Duration::from_secs(2);

/// Who ended a request before it was answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum BrokenOff {
    /// The client, or it was too slow.
    ByClient,
    /// The server behind, or the way to it.
    ByServer,
    /// The gateway, for more came than may.
    Refused,
}

/// A use that a request holds. Dropped before it was ended, it ends by what is known.
pub(crate) struct HeldUse {
    ledger: Arc<dyn LedgerDb>,
    /// None once it has ended.
    hold: Option<UseHold>,
    renewing: JoinHandle<()>,
    is_forwarded: bool,
    /// Whether the server behind can tell a body that was broken off, and so does not act on it.
    is_length_declared: bool,
    is_grpc: bool,
    is_body_whole: bool,
    body_bytes: u64,
    /// Whether a request without a byte in its body is an upload of nothing, which costs nothing.
    is_empty_for_nothing: bool,
    /// Whether it only asks what it would be answered.
    is_head: bool,
}

impl fmt::Debug for HeldUse {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HeldUse").field("is_held", &self.hold.is_some()).finish_non_exhaustive()
    }
}

impl HeldUse {
    /// Holds a use of `token` for a request; none where the gateway has nothing to count.
    pub async fn begin(
        ledger: &Arc<dyn LedgerDb>,
        token: &Token,
        offer: &Offer,
        asked: &Asked<'_>,
    ) -> Result<Option<Self>, NoUse> {
        if offer.forward_credential || token.counters().is_empty() {
            return Ok(None);
        }
        let now = unix_now();
        let (payment_hash, counters) = (token.payment_hash(), token.counters());
        let hold = ledger.hold_use(&UseOrder { payment_hash, counters, lease_until: now + LEASE_SECS, now }).await?;
        if unix_now().saturating_sub(now) >= LEASE_SECS {
            // It waited for so long that others may take it for a dead gateway's. Nobody was asked anything.
            tokio::spawn(note(Arc::clone(ledger), hold, UseEnd::GivenBack));
            return Err(LedgerError::Timeout(LEASE_SECS).into());
        }
        let renewing = tokio::spawn(renew(Arc::clone(ledger), hold.clone()));
        let sends = [Method::POST, Method::PUT, Method::PATCH].contains(asked.method);
        let declares = asked.headers.contains_key("upload-length")
            || asked.query.is_some_and(|query| query.split('&').any(|pair| pair.starts_with("size=")));
        let is_grpc = is_grpc(asked.headers);
        let declares_length = asked.headers.contains_key(CONTENT_LENGTH);
        Ok(Some(Self {
            ledger: Arc::clone(ledger),
            hold: Some(hold),
            renewing,
            is_forwarded: false,
            is_length_declared: declares_length && !asked.headers.contains_key(TRANSFER_ENCODING) && !is_grpc,
            is_grpc,
            is_body_whole: false,
            body_bytes: 0,
            is_empty_for_nothing: sends && offer.price.is_by_size() && !declares,
            is_head: asked.method == Method::HEAD,
        }))
    }

    /// The request goes to the server behind.
    pub fn forwarded(&mut self) {
        self.is_forwarded = true;
    }

    /// More of the body came, perhaps the last of it.
    pub fn body_came(&mut self, bytes: u64, is_last: bool) {
        self.body_bytes += bytes;
        self.is_body_whole |= is_last;
    }

    /// Ends it as the server behind answers. What cannot be noted ends with the lease.
    pub async fn answered(&mut self, response: &ResponseHeader) {
        let status = response.status;
        if status.is_informational() && status != StatusCode::SWITCHING_PROTOCOLS {
            return;
        }
        let grpc_failed = response.headers.get("grpc-status").is_some_and(|status| status != "0");
        let is_empty = self.is_empty_for_nothing && self.is_body_whole && self.body_bytes == 0;
        let gave = status.is_success() && !grpc_failed && !is_empty && !self.is_head;
        let bought = gave || status == StatusCode::SWITCHING_PROTOCOLS;
        self.end(if bought { UseEnd::Spent } else { UseEnd::GivenBack }).await;
    }

    /// Ends it without an answer.
    pub async fn failed(&mut self, broken_off: BrokenOff) {
        self.end(self.end_without_answer(broken_off)).await;
    }

    fn end_without_answer(&self, broken_off: BrokenOff) -> UseEnd {
        let is_nothing = match broken_off {
            BrokenOff::ByClient => self.is_length_declared && !self.is_body_whole,
            BrokenOff::ByServer => false,
            // The bytes of gRPC are not counted, and what came of a stream has been acted on.
            BrokenOff::Refused => !self.is_grpc,
        };
        if !self.is_forwarded || is_nothing { UseEnd::GivenBack } else { UseEnd::Unanswered }
    }

    async fn end(&mut self, end: UseEnd) {
        let Some(hold) = self.hold.take() else { return };
        self.renewing.abort();
        // In a task of its own, so that it goes on whatever becomes of the request.
        let noting = tokio::spawn(note(Arc::clone(&self.ledger), hold, end));
        let _ = timeout(NOTE_TIMEOUT, noting).await;
    }
}

impl Drop for HeldUse {
    fn drop(&mut self) {
        self.renewing.abort();
        if let (Some(hold), Ok(runtime)) = (self.hold.take(), Handle::try_current()) {
            let end = self.end_without_answer(BrokenOff::ByClient);
            runtime.spawn(note(Arc::clone(&self.ledger), hold, end));
        }
    }
}

async fn note(ledger: Arc<dyn LedgerDb>, hold: UseHold, end: UseEnd) {
    for _ in 0..NOTE_ATTEMPTS {
        let Err(error) = ledger.end_use(&hold, end).await else { return };
        tracing::warn!(%error, ?end, "the end of a use is not noted for now");
        // Meanwhile it stays held, if anything can be written at all.
        let _ = timeout(RENEWAL, ledger.renew_use(&hold, unix_now() + LEASE_SECS)).await;
        sleep(NOTE_PAUSE).await;
    }
    tracing::error!(?end, "the end of a use is not noted: it counts as one without an answer");
}

/// Renews the lease for ever.
async fn renew(ledger: Arc<dyn LedgerDb>, hold: UseHold) {
    let mut pause = RENEWAL;
    loop {
        sleep(pause).await;
        let renewed = timeout(RENEWAL, ledger.renew_use(&hold, unix_now() + LEASE_SECS)).await;
        pause = if matches!(renewed, Ok(Ok(()))) { RENEWAL } else { NOTE_PAUSE };
        if pause != RENEWAL {
            tracing::warn!("the lease of a use is not renewed for now");
        }
    }
}

/// What a request is answered whose token has uses left, but none that is free.
pub(crate) fn in_use() -> Answer {
    let problem = Problem::new(StatusCode::CONFLICT, "token_in_use")
        .detail("The last uses of this token are under way. Come again when they have ended.");
    Answer::from(problem).retry_after(IN_USE_RETRY_AFTER)
}

/// What a request is answered while uses cannot be counted.
pub(crate) fn not_counted(cause: &dyn fmt::Display, retry_after: Duration) -> Answer {
    tracing::error!(%cause, "uses of tokens cannot be counted");
    let problem = Problem::new(StatusCode::SERVICE_UNAVAILABLE, "uses_unknown")
        .detail("How often this token was used cannot be looked up now. Come again; a token that is paid stays good.");
    Answer::from(problem).retry_after(retry_after)
}
