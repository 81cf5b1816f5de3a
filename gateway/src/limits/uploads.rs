//! Uploads with a token: how many at once, and how many of their bytes for nothing.

use std::{
    fmt,
    sync::Arc,
    time::{Duration, Instant},
};

use sluice_common::{
    l402::{PaymentHash, ServiceTerms, Token},
    slots::Slot,
};

use super::{Allowance, Limited, Limits};

/// How often what a token bought may be sent without being stored, in [`WINDOW`].
const TIMES: u64 = 10;

/// The fewest bytes that an upload counts for that was broken off, so that their number is bounded, too.
const LEAST: u64 = 65_536;

/// From the first byte that was not stored on.
const WINDOW: Duration = Duration::from_secs(24 * 60 * 60);

/// An upload with a token that is under way. When it is dropped, its bytes count as taken and not stored, unless
/// [`Self::needs_no_count`] said otherwise.
pub(crate) struct TokenUpload {
    limits: Arc<Limits>,
    payment: PaymentHash,
    bytes: u64,
    is_forwarded: bool,
    is_counted: bool,
    slot: Option<Slot<PaymentHash>>,
}

impl TokenUpload {
    /// One more upload with this token, if it has not `max` under way and did not waste too many bytes.
    pub(crate) fn begin(
        limits: &Arc<Limits>,
        token: &Token,
        terms: &ServiceTerms,
        max: u32,
        now: Instant,
    ) -> Result<Self, Limited> {
        let payment = token.payment_hash();
        let slot = limits.uploads.take(payment, max).ok_or(Limited::Uploads)?;
        let wasted = limits.not_stored.check(payment, allowance(token, terms), now);
        wasted.map_err(|wait| Limited::NotStored { wait })?;
        Ok(Self {
            limits: Arc::clone(limits),
            payment,
            bytes: 0,
            is_forwarded: false,
            is_counted: true,
            slot: Some(slot),
        })
    }

    /// Its head went to the server behind.
    pub(crate) fn forwarded(&mut self) {
        self.is_forwarded = true;
    }

    /// Bytes of its body came.
    pub(crate) fn came(&mut self, bytes: u64) {
        self.bytes += bytes;
    }

    /// The server behind took it, or failed itself.
    pub(crate) fn needs_no_count(&mut self) {
        self.is_counted = false;
    }

    /// It is answered: who hears of it may begin the next one.
    pub(crate) fn answered(&mut self) {
        self.slot = None;
    }
}

impl Drop for TokenUpload {
    fn drop(&mut self) {
        let is_broken_off = self.is_forwarded && self.slot.is_some();
        let bytes = self.bytes.max(if is_broken_off { LEAST } else { 0 });
        if self.is_counted && bytes > 0 {
            self.limits.not_stored.add(self.payment, bytes, WINDOW, Instant::now());
        }
    }
}

impl fmt::Debug for TokenUpload {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "TokenUpload({} bytes)", self.bytes)
    }
}

/// What the tokens of a payment may send for nothing: so many times all that it bought, whichever of them is shown. One for
/// any number of uploads bought the largest; a number that was appended buys nothing.
fn allowance(token: &Token, terms: &ServiceTerms) -> Allowance {
    let sold_uses = token.counters().first().map_or(1, |counter| counter.max_uses);
    let uses = sold_uses.min(terms.max_uses.unwrap_or(1)).max(1);
    let bought = token.sold_upload_bytes().saturating_mul(uses);
    Allowance { most: bought.saturating_mul(TIMES), window: WINDOW }
}
