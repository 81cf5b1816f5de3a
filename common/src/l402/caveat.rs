//! Caveats: `condition=value`, split at the first `=`.

use super::ServiceTerms;

pub(super) const SERVICES: &str = "services";
pub(super) const MAX_MB: &str = "large_upload_max_mb";
pub(super) const MAX_USES: &str = "large_upload_max_uses";
pub(super) const CAPABILITIES_SUFFIX: &str = "_capabilities";
pub(super) const VALID_UNTIL_SUFFIX: &str = "_valid_until";
pub(super) const PATH_SUFFIX: &str = "_path";
const DELEGATE: &str = "delegate";
const EXPIRATION: &str = "expiration";
const PREIMAGE: &str = "preimage";

/// `condition=value`, without the blanks around either.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Caveat<'a> {
    /// What it is about.
    pub condition: &'a str,
    /// What it says of it.
    pub value: &'a str,
}

impl<'a> Caveat<'a> {
    /// Splits at the first `=`; none without one.
    pub fn parse(text: &'a str) -> Option<Self> {
        let (condition, value) = text.split_once('=')?;
        Some(Self { condition: condition.trim(), value: value.trim() })
    }

    /// The preimage in hex, if this is a `preimage` caveat: some clients append it before they send a token.
    pub fn preimage_hex(&self) -> Option<&'a str> {
        (self.condition == PREIMAGE).then_some(self.value)
    }
}

/// What a condition is about, for one service.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// `services`: NAME:TIER pairs.
    Services,
    /// `NAME_capabilities`.
    Capabilities,
    /// `NAME_valid_until`: unix seconds.
    ValidUntil,
    /// `NAME_path`: the only path.
    Path,
    /// `large_upload_max_mb`.
    MaxMb,
    /// `large_upload_max_uses`: how many stored uploads.
    MaxUses,
    /// `delegate`: 16 random bytes in hex, tells one delegation from another.
    Delegate,
    /// `expiration`: milliseconds, written by lsat-js.
    Expiration,
    /// `preimage`.
    Preimage,
    /// Configured.
    Constraint,
}

impl Kind {
    /// What `condition` is about, for the service of `terms`; none: not understood.
    pub(super) fn of(condition: &str, terms: &ServiceTerms) -> Option<Self> {
        Some(match condition {
            SERVICES => Self::Services,
            MAX_MB => Self::MaxMb,
            MAX_USES => Self::MaxUses,
            DELEGATE => Self::Delegate,
            EXPIRATION => Self::Expiration,
            PREIMAGE => Self::Preimage,
            _ => match condition.strip_prefix(terms.name.as_str()) {
                Some(CAPABILITIES_SUFFIX) => Self::Capabilities,
                Some(VALID_UNTIL_SUFFIX) => Self::ValidUntil,
                Some(PATH_SUFFIX) => Self::Path,
                _ if terms.constraints.iter().any(|(name, _)| name == condition) => Self::Constraint,
                _ => return None,
            },
        })
    }
}

/// A number as caveats write it: decimal digits and nothing else.
pub(super) fn number(text: &str) -> Option<u64> {
    text.bytes().all(|b| b.is_ascii_digit()).then(|| text.parse().ok()).flatten()
}

/// The members of a comma-separated list, without blanks; none for an empty text.
pub(super) fn list(text: &str) -> impl Iterator<Item = &str> {
    text.split(',').map(str::trim).filter(|member| !member.is_empty())
}
