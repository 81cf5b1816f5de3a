//! Revocation: tokens that are worth nothing any more, by their payment or by when they were minted.
//!
//! The gateway's database keeps what is revoked. Whoever checks tokens has a view of it in memory ([`Revocations`]), kept up
//! to date by [`RevocationWatch`] from a [`RevocationSource`].

mod watch;

use std::{
    collections::{BTreeSet, HashSet},
    fmt,
    str::FromStr,
};

use http::StatusCode;
use time::{OffsetDateTime, format_description::well_known::Rfc3339};

pub use self::watch::{NotKnown, RevocationSource, RevocationWatch};
use crate::{
    clock::rfc3339,
    l402::{PaymentHash, Token},
    problem::Problem,
};

/// Which tokens are revoked together.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Revoked {
    /// All of one payment.
    Payment(PaymentHash),
    /// All that were minted before this time, in unix seconds.
    MintedBefore(u64),
}

/// A revocation, or the end of one, as the database has it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Change {
    /// Its number: changes are numbered in the order in which they took effect, from 1.
    pub number: u64,
    /// What it is about.
    pub revoked: Revoked,
    /// Whether it is in effect, and not undone.
    pub in_effect: bool,
}

/// What is revoked, in memory: 32 bytes and a bit for each payment that is, 8 for each date.
#[derive(Debug, Default)]
pub struct Revocations {
    last_change: u64,
    payments: HashSet<PaymentHash>,
    dates: BTreeSet<u64>,
}

/// The text is neither a payment hash nor a time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("expected a payment hash of 64 hexadecimal digits, or a time as 2026-01-31T12:00:00Z")]
pub struct InvalidRevoked;

impl Revocations {
    /// Whether `token` is revoked.
    pub fn has(&self, token: &Token) -> bool {
        self.has_payment(token.payment_hash()) || self.has_minted_at(token.token_id().minted_at())
    }

    /// Whether the tokens of a payment are revoked, all by name.
    pub fn has_payment(&self, payment_hash: PaymentHash) -> bool {
        self.payments.contains(&payment_hash)
    }

    /// Whether all tokens are revoked that were minted at this time, in unix seconds.
    pub fn has_minted_at(&self, minted_at: u64) -> bool {
        self.dates.last().is_some_and(|before| minted_at < *before)
    }

    /// The number of the last change that is in it; 0 if there was none.
    pub fn last_change(&self) -> u64 {
        self.last_change
    }

    /// How many payments and dates are in it.
    pub fn len(&self) -> usize {
        self.payments.len() + self.dates.len()
    }

    /// Whether nothing is revoked.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Takes in changes, in their order.
    pub fn apply(&mut self, changes: &[Change]) {
        for change in changes {
            match change.revoked {
                Revoked::Payment(payment_hash) if change.in_effect => drop(self.payments.insert(payment_hash)),
                Revoked::Payment(payment_hash) => drop(self.payments.remove(&payment_hash)),
                Revoked::MintedBefore(time) if change.in_effect => drop(self.dates.insert(time)),
                Revoked::MintedBefore(time) => drop(self.dates.remove(&time)),
            }
            self.seen(change.number);
        }
    }

    /// Notes that every change up to `number` is in it.
    pub fn seen(&mut self, number: u64) {
        self.last_change = self.last_change.max(number);
    }
}

/// What a revoked token is answered, on every route: 401 `revoked`. No challenge comes with it, for what would be bought
/// would not be this token; a request without it gets one.
pub fn revoked_problem() -> Problem {
    Problem::new(StatusCode::UNAUTHORIZED, "revoked").detail(
        "This token was revoked, and no payment brings it back. Send the request without it to be sold another, or ask \
         whoever runs this server.",
    )
}

impl FromStr for Revoked {
    type Err = InvalidRevoked;

    fn from_str(text: &str) -> Result<Self, InvalidRevoked> {
        if let Ok(payment_hash) = text.parse() {
            return Ok(Self::Payment(payment_hash));
        }
        let time = OffsetDateTime::parse(text, &Rfc3339).map_err(|_| InvalidRevoked)?;
        u64::try_from(time.unix_timestamp()).map(Self::MintedBefore).map_err(|_| InvalidRevoked)
    }
}

/// As [`FromStr`] reads it.
impl fmt::Display for Revoked {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Payment(payment_hash) => payment_hash.fmt(f),
            Self::MintedBefore(time) => f.write_str(&rfc3339(*time).unwrap_or_else(|| time.to_string())),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    pub(super) fn change(number: u64, revoked: Revoked, in_effect: bool) -> Change {
        Change { number, revoked, in_effect }
    }

    #[test]
    fn a_payment_and_a_date_are_revoked_and_undone() {
        let (one, other) = (PaymentHash::from_bytes([1; 32]), PaymentHash::from_bytes([2; 32]));
        let mut view = Revocations::default();
        assert!(view.is_empty() && !view.has_payment(one) && !view.has_minted_at(0));
        view.apply(&[
            change(1, Revoked::Payment(one), true),
            change(2, Revoked::MintedBefore(1_000), true),
            change(3, Revoked::MintedBefore(500), true),
        ]);
        assert_eq!((view.last_change(), view.len()), (3, 3));
        assert!(view.has_payment(one) && !view.has_payment(other));
        assert!(view.has_minted_at(999) && !view.has_minted_at(1_000), "the latest date counts");
        view.apply(&[change(4, Revoked::MintedBefore(1_000), false), change(5, Revoked::Payment(one), false)]);
        assert!(!view.has_payment(one) && view.has_minted_at(499) && !view.has_minted_at(500));
        assert_eq!((view.last_change(), view.len()), (5, 1));
    }

    #[test]
    fn is_written_as_it_is_read() {
        for text in ["01".repeat(32), "2026-11-23T20:00:00Z".to_owned()] {
            assert_eq!(text.parse::<Revoked>().unwrap().to_string(), text);
        }
        assert_eq!("2026-11-23T21:00:00+01:00".parse::<Revoked>().unwrap().to_string(), "2026-11-23T20:00:00Z");
        for junk in ["", "01", "2026-11-23", "1960-01-01T00:00:00Z", "yesterday"] {
            assert_eq!(junk.parse::<Revoked>(), Err(InvalidRevoked), "{junk}");
        }
    }
}
