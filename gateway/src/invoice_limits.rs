//! How many invoices the node is asked for: each unpaid challenge is a row in the node, and strangers ask for them.
//!
//! Three limits, each on the invoices that this gateway asks for: how fast in all, how fast for one network of clients,
//! and how many may be open (neither settled nor expired) at once. They are counted in memory, so a restart forgets them,
//! and several gateways on one node have as many times the limits.

#[cfg(test)]
mod tests;

use std::{
    collections::{BTreeMap, HashMap},
    fmt,
    num::{NonZeroU32, NonZeroUsize},
    sync::{Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use lru::LruCache;
use sluice_common::l402::PaymentHash;

pub use crate::limits::RateLimit;
use crate::limits::{Bucket, ClientNetwork, Rate};

/// The longest wait that is told, and how often a flood is logged.
const MINUTE: Duration = Duration::from_secs(60);

/// How many networks of clients are remembered: those that were last given an invoice. What forgotten ones get is bounded
/// by the rate for all.
const MAX_NETWORKS: NonZeroUsize = match NonZeroUsize::new(10_000) {
    Some(max) => max,
    None => NonZeroUsize::MIN,
};

/// How many invoices the node is asked for at most.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct InvoiceLimits {
    /// For all clients.
    pub all: RateLimit,
    /// For one network of clients: a /24 of IPv4, a /64 of IPv6.
    pub per_client: RateLimit,
    /// How many may be open at once.
    pub max_open: NonZeroU32,
}

impl Default for InvoiceLimits {
    /// What a small node bears; and while an invoice lasts an hour, one network alone leaves most of the room for open
    /// invoices to others.
    fn default() -> Self {
        let positive = |number| NonZeroU32::new(number).unwrap_or(NonZeroU32::MIN);
        Self {
            all: RateLimit { per_minute: positive(3_000), burst: positive(500) },
            per_client: RateLimit { per_minute: positive(20), burst: positive(200) },
            max_open: positive(20_000),
        }
    }
}

/// Which limit is reached.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Limit {
    /// The rate for all clients.
    All,
    /// The rate for the client's network.
    Client,
    /// The number of open invoices.
    Open,
}

impl Limit {
    /// The stable machine code.
    pub fn code(self) -> &'static str {
        match self {
            Self::All => "all_clients",
            Self::Client => "client_network",
            Self::Open => "open_invoices",
        }
    }
}

/// Why there is no invoice now.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("too many invoices: {limit}")]
pub struct TooMany {
    /// Which limit is reached.
    pub limit: Limit,
    /// When this limit has room again if nobody else asks; never 0, and at most a minute, for an invoice that is settled
    /// makes room early.
    pub wait: Duration,
}

impl fmt::Display for Limit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::All => "too many clients ask at once",
            Self::Client => "too many were made for clients of this network",
            Self::Open => "too many are open",
        })
    }
}

/// An open invoice, or one that the node is being asked for: known by when it expires, and a number of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Place(Instant, u64);

/// Lets requests for invoices through within the limits. Every method takes one lock and no time.
pub struct InvoiceGate {
    state: Mutex<State>,
}

/// What is configured.
#[derive(Debug, Clone, Copy)]
struct Configured {
    all: Rate,
    client: Rate,
    max_open: usize,
    invoice_expiry: Duration,
}

struct State {
    configured: Configured,
    all: Bucket,
    networks: LruCache<ClientNetwork, Bucket>,
    /// All places that are taken, the first to expire first; with the invoice, once it is known.
    open: BTreeMap<Place, Option<PaymentHash>>,
    places: HashMap<PaymentHash, Place>,
    next_number: u64,
    refused: u64,
    /// No refusal is logged before.
    silent_until: Option<Instant>,
}

impl InvoiceGate {
    /// A gate with these limits, to invoices that last for `invoice_expiry`.
    pub fn new(limits: InvoiceLimits, invoice_expiry: Duration) -> Self {
        let state = State {
            configured: Configured::new(limits, invoice_expiry),
            all: Bucket::FULL,
            networks: LruCache::new(MAX_NETWORKS),
            open: BTreeMap::new(),
            places: HashMap::new(),
            next_number: 0,
            refused: 0,
            silent_until: None,
        };
        Self { state: Mutex::new(state) }
    }

    /// Other limits from now on. What was taken stays taken.
    pub fn configure(&self, limits: InvoiceLimits, invoice_expiry: Duration) {
        self.state().configured = Configured::new(limits, invoice_expiry);
    }

    /// Takes a place for an invoice that the node is now asked for, on behalf of a client in the network `client`. The place stays
    /// taken until the invoice has expired, whatever becomes of the request, or until [`Self::failed`] or
    /// [`Self::settled`] says otherwise. Who is refused takes nothing from anyone.
    pub fn admit(&self, client: ClientNetwork, now: Instant) -> Result<Place, TooMany> {
        let mut state = self.state();
        state.expire(now);
        state.take(client, now).inspect_err(|too_many| state.report(*too_many, now))
    }

    /// Says which invoice the node made, so that it can be settled.
    pub fn opened(&self, place: Place, payment_hash: PaymentHash) {
        let mut state = self.state();
        if let Some(invoice) = state.open.get_mut(&place) {
            *invoice = Some(payment_hash);
            state.places.insert(payment_hash, place);
        }
    }

    /// Gives a place back, and what the network `client` has used up of the rates, for an invoice that the node
    /// certainly did not make.
    pub fn failed(&self, place: Place, client: ClientNetwork) {
        let mut state = self.state();
        let Some(invoice) = state.open.remove(&place) else { return };
        if let Some(payment_hash) = invoice {
            state.places.remove(&payment_hash);
        }
        let configured = state.configured;
        state.all = configured.all.give_back(state.all);
        if let Some(bucket) = state.networks.peek_mut(&client) {
            *bucket = configured.client.give_back(*bucket);
        }
    }

    /// Gives the place of a settled invoice back, if it still has one.
    pub fn settled(&self, payment_hash: PaymentHash) {
        let mut state = self.state();
        if let Some(place) = state.places.remove(&payment_hash) {
            state.open.remove(&place);
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // Nothing in here panics halfway through a change.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Configured {
    fn new(limits: InvoiceLimits, invoice_expiry: Duration) -> Self {
        Self {
            all: Rate::new(limits.all),
            client: Rate::new(limits.per_client),
            max_open: usize::try_from(limits.max_open.get()).unwrap_or(usize::MAX),
            invoice_expiry,
        }
    }
}

impl State {
    fn take(&mut self, client: ClientNetwork, now: Instant) -> Result<Place, TooMany> {
        let configured = self.configured;
        let bucket = self.networks.peek(&client).copied().unwrap_or(Bucket::FULL);
        let bucket = configured.client.take(bucket, now).map_err(|wait| TooMany { limit: Limit::Client, wait })?;
        let all = configured.all.take(self.all, now).map_err(|wait| TooMany { limit: Limit::All, wait })?;
        if self.open.len() >= configured.max_open {
            let first = self.open.first_key_value().map_or(now, |(place, _)| place.0);
            let wait = first.saturating_duration_since(now).clamp(Duration::from_secs(1), MINUTE);
            return Err(TooMany { limit: Limit::Open, wait });
        }
        self.networks.put(client, bucket);
        self.all = all;
        let place = Place(now + configured.invoice_expiry, self.next_number);
        self.next_number += 1;
        self.open.insert(place, None);
        Ok(place)
    }

    fn expire(&mut self, now: Instant) {
        while let Some(first) = self.open.first_entry().filter(|first| first.key().0 <= now) {
            if let Some(payment_hash) = first.remove() {
                self.places.remove(&payment_hash);
            }
        }
    }

    /// Logs the first refusal, and then once in a while how many there were: a flood of requests is none of log lines.
    fn report(&mut self, too_many: TooMany, now: Instant) {
        self.refused += 1;
        if self.silent_until.is_none_or(|until| until <= now) {
            let (refused, limit, open) = (self.refused, too_many.limit.code(), self.open.len());
            tracing::warn!(refused, limit, open, "challenges refused: too many invoices");
            self.refused = 0;
            self.silent_until = Some(now + MINUTE);
        }
    }
}
