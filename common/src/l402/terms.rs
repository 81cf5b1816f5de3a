//! What a service sells, and the caveats that say so.

use super::{caveat, identifier::TokenId};
use crate::limits::{BYTES_PER_MB, DEFAULT_MAX_UPLOAD_MB};

/// What to do with a caveat that is not understood.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, serde::Deserialize, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub enum UnknownCaveats {
    /// Refuse the token: whoever appended the caveat meant something by it.
    #[default]
    Refuse,
    /// Go on as if it were not there, as Aperture does.
    Ignore,
}

/// What one service sells: what its tokens are minted with and checked against.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServiceTerms {
    /// The service's name: letters, digits, `_`, `-`.
    pub name: String,
    /// The tier named beside it, 0 where there is only one.
    pub tier: u8,
    /// What the token is able to, in order; may be empty.
    pub capabilities: Vec<String>,
    /// The largest file, in MB of 1,048,576 bytes.
    pub max_upload_mb: u64,
    /// What a file may have beyond its MB, in bytes: where tokens are priced by the length of a form, of which it is not
    /// known how much is the file.
    pub form_allowance_bytes: u64,
    /// How many uploads a token may store; none: any number, until it expires.
    pub max_uses: Option<u64>,
    /// How long a token is good for, in seconds from its minting; none: for ever.
    pub valid_for_secs: Option<u64>,
    /// The only path that a token is for, as the gateway normalises it; none: any.
    pub path: Option<String>,
    /// Further conditions with their values, minted as they stand.
    pub constraints: Vec<(String, String)>,
    /// What to do with a caveat that is not understood.
    pub unknown_caveats: UnknownCaveats,
}

impl ServiceTerms {
    /// A service that sells uploads of [`DEFAULT_MAX_UPLOAD_MB`] and nothing else.
    pub fn named(name: impl Into<String>) -> Self {
        Self {
            name: name.into(),
            tier: 0,
            capabilities: Vec::new(),
            max_upload_mb: DEFAULT_MAX_UPLOAD_MB,
            form_allowance_bytes: 0,
            max_uses: None,
            valid_for_secs: None,
            path: None,
            constraints: Vec::new(),
            unknown_caveats: UnknownCaveats::Refuse,
        }
    }

    /// The caveats of a token minted at `now` (unix seconds), in the order of Aperture. Every condition that limits what
    /// was sold is there, defaults too: anyone can append a first occurrence, but nobody can widen one that stands.
    pub fn caveats(&self, now: u64) -> Vec<String> {
        let name = &self.name;
        let mut caveats = vec![
            format!("{}={name}:{}", caveat::SERVICES, self.tier),
            format!("{name}{}={}", caveat::CAPABILITIES_SUFFIX, self.capabilities.join(",")),
            format!("{}={}", caveat::MAX_MB, self.max_upload_mb),
        ];
        caveats.extend(self.max_uses.map(|uses| format!("{}={uses}", caveat::MAX_USES)));
        caveats.extend(self.constraints.iter().map(|(condition, value)| format!("{condition}={value}")));
        caveats.extend(self.path.iter().map(|path| format!("{name}{}={path}", caveat::PATH_SUFFIX)));
        caveats.extend(
            self.valid_for_secs
                .map(|secs| format!("{name}{}={}", caveat::VALID_UNTIL_SUFFIX, now.saturating_add(secs))),
        );
        caveats
    }

    /// The largest file, in bytes, without the allowance.
    pub fn max_upload_bytes(&self) -> u64 {
        self.max_upload_mb.saturating_mul(BYTES_PER_MB)
    }

    /// What the invoice for a token says to its payer, and by what its settlement is known: `SERVICE TOKENID_HEX`.
    pub fn memo(&self, token_id: &TokenId) -> String {
        format!("{} {token_id}", self.name)
    }

    /// Whether `condition` is one that this service configures or that every service knows: a constraint may not be
    /// named so.
    pub fn is_reserved(&self, condition: &str) -> bool {
        caveat::Kind::of(condition, self).is_some_and(|kind| kind != caveat::Kind::Constraint)
    }
}
