//! What becomes of a request.

use http::StatusCode;
use sluice_common::{
    l402::{Lapsed, PaymentHash, Permit, TOO_SMALL},
    limits::BYTES_PER_MB,
    problem::Problem,
};

use crate::{answer::Answer, config::Offer};

/// A service, by its place in the configuration.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ServiceId(usize);

/// What becomes of a request.
#[derive(Debug)]
pub enum Decision {
    /// It goes to the server behind.
    Forward(Forward),
    /// It is asked for payment.
    Challenge(Demand),
    /// It asked for a price, and that is none.
    CostsNothing(Answer),
    /// It is refused: paying would not help.
    Refuse(Problem),
    /// The same for its size alone: its token is genuine, and would buy this if it were less.
    RefuseSize {
        /// Of the token.
        payment_hash: PaymentHash,
        /// Why.
        problem: Problem,
    },
}

/// How a request goes to the server behind.
#[derive(Debug)]
pub struct Forward {
    /// Whose it is.
    pub service: ServiceId,
    /// What was paid for; none where nothing costs, and where somebody only asks what became of a token.
    pub permit: Option<Permit>,
    /// The largest file that it may send; none: any.
    pub max_upload_bytes: Option<u64>,
    /// Whether another token is sold for it, if this one turns out to buy nothing more.
    pub is_sold: bool,
    /// Whether its token's time is over, so that the media server stores nothing: it only compares with what the token stored.
    pub is_only_compared: bool,
    /// Whether it needs a token and goes on without one. The media server is then shown a `Sluice-Permit`.
    pub is_for_nothing: bool,
}

/// A request that is asked for payment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Demand {
    /// Whose it is.
    pub service: ServiceId,
    /// Why.
    pub reason: Reason,
    /// What a token would be for.
    pub purchase: Purchase,
    /// What it costs; none: that must be asked for.
    pub price_sat: Option<u64>,
    /// Whether it only asks for the price, of what the media server would store: that server knows none.
    pub is_question: bool,
}

/// What a token is for, beside the terms of its service.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Purchase {
    /// The MiB of the largest file; none: those of the terms.
    pub max_mib: Option<u64>,
    /// The only path; none: any.
    pub path: Option<String>,
}

/// Why a request is asked for payment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reason {
    /// It has no credential.
    Missing,
    /// Its token buys nothing more.
    Lapsed(Lapsed),
    /// Its token holds less than it declares.
    TooSmall,
}

impl ServiceId {
    pub(super) fn new(index: usize) -> Self {
        Self(index)
    }

    /// The place of the service in the configuration.
    pub fn index(self) -> usize {
        self.0
    }
}

impl Forward {
    /// Where nothing costs.
    pub(crate) fn free(service: ServiceId) -> Self {
        Self {
            service,
            permit: None,
            max_upload_bytes: None,
            is_sold: false,
            is_only_compared: false,
            is_for_nothing: false,
        }
    }

    /// What needs a token and is let through without one, whatever is the reason: with files of at most so many bytes.
    pub fn for_nothing(service: ServiceId, max_upload_bytes: u64) -> Self {
        Self { max_upload_bytes: Some(max_upload_bytes), is_sold: true, is_for_nothing: true, ..Self::free(service) }
    }

    /// With a token.
    pub(super) fn paid(service: ServiceId, permit: Permit, is_sold: bool) -> Self {
        let max_upload_bytes = Some(permit.token().max_upload_bytes());
        Self { permit: Some(permit), max_upload_bytes, is_sold, ..Self::free(service) }
    }

    /// With a token whose time is over, and that is sold.
    pub(super) fn compared(service: ServiceId, permit: Permit) -> Self {
        Self { is_only_compared: true, ..Self::paid(service, permit, true) }
    }
}

impl Purchase {
    /// The largest file of a token of `offer`.
    pub(super) fn max_upload_bytes(&self, offer: &Offer) -> u64 {
        let terms = &offer.terms;
        let mib = self.max_mib.unwrap_or(terms.max_upload_mb);
        mib.saturating_mul(BYTES_PER_MB).saturating_add(terms.form_allowance_bytes)
    }
}

impl Reason {
    /// The stable machine code.
    pub fn code(self) -> &'static str {
        match self {
            Self::Missing => "no_credential",
            Self::Lapsed(lapsed) => lapsed.code(),
            Self::TooSmall => TOO_SMALL,
        }
    }

    pub(super) fn detail(self) -> &'static str {
        match self {
            Self::Missing => "This costs.",
            Self::Lapsed(Lapsed::Expired) => "The token has expired; another one costs.",
            Self::Lapsed(Lapsed::NotCovered) => "The token is for something else; one for this costs.",
            Self::Lapsed(Lapsed::UsedUp) => "The token has been used as often as it allows; another one costs.",
            Self::TooSmall => "The token is for smaller uploads; one for this size costs.",
        }
    }

    /// 401 where a token is needed and none is sold.
    pub fn unsold_problem(self) -> Problem {
        let code = match self {
            Self::Missing => "credential_required",
            reason => reason.code(),
        };
        let detail = "This takes a token, which is sold with another request of this service, not with this one.";
        Problem::new(StatusCode::UNAUTHORIZED, code).detail(detail)
    }
}

/// The machine code of what is larger than may come.
pub(crate) const TOO_LARGE: &str = "too_large";

/// 413: paying would not make room.
pub fn too_large_problem(limit_bytes: u64, size_bytes: u64) -> Problem {
    Problem::new(StatusCode::PAYLOAD_TOO_LARGE, TOO_LARGE)
        .detail("The upload is larger than this token, or this service, takes.")
        .with("limit_bytes", limit_bytes)
        .with("size_bytes", size_bytes)
}
