//! From a credential to a [`Permit`]: the check that stands before everything sold.

use std::collections::HashMap;

use http::HeaderName;
use sha2::{Digest, Sha256};

use super::{
    Credential, Identifier, Macaroon, PaymentHash, Preimage, ServiceTerms, TokenId, UnknownCaveats,
    caveat::{self, Caveat, Kind},
    identifier::InvalidIdentifier,
};
use crate::{
    keys::MasterKeys,
    limits::{BYTES_PER_MB, DEFAULT_MAX_UPLOAD_MB},
    network::Network,
};

/// The most counters of a token: each is a row for each use, and anybody may append one.
const MAX_COUNTERS: usize = 32;

/// Why a credential is worth nothing. Paying would not help: 401.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// The macaroon is not one of L402.
    #[error(transparent)]
    Identifier(#[from] InvalidIdentifier),
    /// No master key has the fingerprint that the token names.
    #[error("the token was not minted here: none of the keys in use made it")]
    UnknownKey,
    /// The signature is not that of a token minted here and only attenuated since.
    #[error(
        "the token's signature is wrong: it was forged, changed or cut, or bought with the money of another network"
    )]
    Forged,
    /// The preimage is not that of the token's payment.
    #[error("the preimage is not that of the token's payment")]
    WrongPreimage,
    /// A caveat allows more than one before it.
    #[error("the caveat `{0}` allows more than the same caveat before it")]
    Widened(String),
    /// A caveat that nobody here understands.
    #[error("the caveat `{0}` is not understood")]
    NotUnderstood(String),
    /// More counters than anybody counts.
    #[error("the token has more than {MAX_COUNTERS} caveats `large_upload_max_uses`")]
    TooManyCounters,
    /// A caveat that is understood, but whose value is not.
    #[error("the value of the caveat `{0}` is malformed")]
    BadValue(String),
}

impl Refused {
    /// The stable machine code.
    pub fn code(&self) -> &'static str {
        match self {
            Self::Identifier(_) => "malformed_credential",
            Self::UnknownKey | Self::Forged => "forged_token",
            Self::WrongPreimage => "wrong_preimage",
            Self::Widened(_) => "widened_caveat",
            Self::NotUnderstood(_) => "caveat_not_understood",
            Self::BadValue(_) => "malformed_caveat",
            Self::TooManyCounters => "too_many_counters",
        }
    }
}

/// In which header the media server tells the gateway that a token has lapsed, by [`Lapsed::code`], or that it is
/// [`TOO_SMALL`]: the gateway makes a challenge of it, where another token would help.
pub const LAPSED_HEADER: HeaderName = HeaderName::from_static("sluice-payment-required");

/// In which header the media server tells the gateway that an upload spent nothing of its token, which had stored this
/// before: so nothing was sold.
pub const STORED_BEFORE_HEADER: HeaderName = HeaderName::from_static("sluice-stored-before");

/// The machine code of a token that is for smaller uploads than this.
pub const TOO_SMALL: &str = "too_small";

/// Why a genuine token buys nothing more. Paying for another one helps: 402.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Lapsed {
    /// Its time is over.
    #[error("the token has expired")]
    Expired,
    /// It is for other services or capabilities.
    #[error("the token does not cover this service")]
    NotCovered,
    /// It was used as often as was sold. Who counts them says so; [`Token::permit`] cannot know.
    #[error("the token has been used as often as it allows")]
    UsedUp,
}

impl Lapsed {
    /// The stable machine code.
    pub fn code(self) -> &'static str {
        match self {
            Self::Expired => "expired",
            Self::NotCovered => "not_covered",
            Self::UsedUp => "used_up",
        }
    }

    /// What a code stands for.
    pub fn from_code(code: &str) -> Option<Self> {
        [Self::Expired, Self::NotCovered, Self::UsedUp].into_iter().find(|lapsed| lapsed.code() == code)
    }
}

/// One limit on the number of stored uploads. Whoever appends `large_upload_max_uses` makes a counter of its own, for
/// itself and for whatever is attenuated further.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Counter {
    /// With the payment hash, what it is known by: a hash of identifier and caveats up to and including its own.
    pub id: [u8; 32],
    /// The most uploads.
    pub max_uses: u64,
}

/// A genuine token: its signature holds, it is paid, it was only narrowed, and all its caveats are understood. It may
/// have expired: see [`Self::permit`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Token {
    identifier: Identifier,
    credential_hash: [u8; 32],
    counters: Vec<Counter>,
    max_upload_mb: u64,
    sold_upload_mb: u64,
    form_allowance_bytes: u64,
    path: Option<String>,
    expires_at_ms: Option<u64>,
    covered: bool,
}

/// What a checked credential allows: who paid, how many bytes, until when. Only the check makes one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Permit(Token);

/// Checks `credential` against the keys, for a service. Counting uses is for whoever has the counters.
pub fn verify(
    credential: &Credential,
    keys: &MasterKeys,
    network: Network,
    terms: &ServiceTerms,
) -> Result<Token, Refused> {
    let identifier = credential.macaroon().identifier()?;
    let key = keys.of(&identifier.token_id).ok_or(Refused::UnknownKey)?;
    verify_with_root_key(credential.macaroon(), credential.preimage(), &key.root_key(network, &identifier), terms)
}

/// The same check with a root key that is known.
pub fn verify_with_root_key(
    macaroon: &Macaroon,
    preimage: &Preimage,
    root_key: &[u8; 32],
    terms: &ServiceTerms,
) -> Result<Token, Refused> {
    let identifier = macaroon.identifier()?;
    if !macaroon.is_signed_under(root_key) {
        return Err(Refused::Forged);
    }
    if preimage.payment_hash() != identifier.payment_hash {
        return Err(Refused::WrongPreimage);
    }
    let mut reading = Reading::new(macaroon, terms);
    for text in macaroon.caveats() {
        reading.read(text, &identifier)?;
    }
    Ok(reading.finish(identifier))
}

/// The services that a token covers now, by name, whoever made it: those of its last `services`.
pub fn covered_services(macaroon: &Macaroon) -> impl Iterator<Item = &str> {
    let services = macaroon.caveats().filter_map(Caveat::parse).filter(|caveat| caveat.condition == caveat::SERVICES);
    let last = services.last().and_then(|caveat| service_list(caveat.value));
    last.unwrap_or_default().into_iter().map(|(name, _)| name)
}

impl Token {
    /// The payment.
    pub fn payment_hash(&self) -> PaymentHash {
        self.identifier.payment_hash
    }

    /// The token's name.
    pub fn token_id(&self) -> TokenId {
        self.identifier.token_id
    }

    /// A length-prefixed hash of identifier and caveats without `preimage`: who owns what this very credential stores.
    pub fn credential_hash(&self) -> [u8; 32] {
        self.credential_hash
    }

    /// The limits on the number of uploads; each needs room. Empty: no limit.
    pub fn counters(&self) -> &[Counter] {
        &self.counters
    }

    /// The largest file in bytes.
    pub fn max_upload_bytes(&self) -> u64 {
        self.max_upload_mb.saturating_mul(BYTES_PER_MB).saturating_add(self.form_allowance_bytes)
    }

    /// The largest file that it was sold for, in bytes: before anybody made it narrower.
    pub fn sold_upload_bytes(&self) -> u64 {
        self.sold_upload_mb.saturating_mul(BYTES_PER_MB).saturating_add(self.form_allowance_bytes)
    }

    /// The only path that it is for, as the gateway normalises it; none: any.
    pub fn path(&self) -> Option<&str> {
        self.path.as_deref()
    }

    /// Unix seconds from which on it has expired; none: never.
    pub fn valid_until(&self) -> Option<u64> {
        self.expires_at_ms.map(|at| at / 1_000)
    }

    /// What it allows at `now` (unix seconds).
    pub fn permit(&self, now: u64) -> Result<Permit, Lapsed> {
        if !self.covered {
            return Err(Lapsed::NotCovered);
        }
        if self.expires_at_ms.is_some_and(|at| at <= now.saturating_mul(1_000)) {
            return Err(Lapsed::Expired);
        }
        Ok(Permit(self.clone()))
    }

    /// What it allows at `now` (unix seconds) if its only fault is that its time is over: to send again what it stored, for
    /// the answer may have been lost. It stores nothing more.
    pub fn expired_permit(&self, now: u64) -> Option<Permit> {
        (self.permit(now).err() == Some(Lapsed::Expired)).then(|| Permit(self.clone()))
    }
}

impl Permit {
    /// The token that was checked.
    pub fn token(&self) -> &Token {
        &self.0
    }
}

/// What the caveats read so far say.
struct Reading<'a> {
    terms: &'a ServiceTerms,
    /// The names of `services` at its first occurrence, before any narrowing; caveats of the others are not ours to read.
    named: Vec<&'a str>,
    services: Option<Vec<(&'a str, u8)>>,
    sold_capabilities: Option<Vec<&'a str>>,
    capabilities: Option<Vec<&'a str>>,
    path: Option<&'a str>,
    numbers: HashMap<&'static str, u64>,
    sold_upload_mb: Option<u64>,
    constraints: HashMap<&'a str, &'a str>,
    counters: Vec<Counter>,
    hash: Sha256,
}

impl<'a> Reading<'a> {
    fn new(macaroon: &'a Macaroon, terms: &'a ServiceTerms) -> Self {
        let mut services = macaroon.caveats().filter_map(Caveat::parse).filter(|c| c.condition == caveat::SERVICES);
        let named = services.next().map(|first| service_list(first.value)).unwrap_or_default();
        let mut hash = Sha256::new_with_prefix(b"sluice v1 l402 credential");
        add_to(&mut hash, macaroon.identifier_bytes());
        Self {
            terms,
            named: named.unwrap_or_default().into_iter().map(|(name, _)| name).collect(),
            services: None,
            sold_capabilities: None,
            capabilities: None,
            path: None,
            numbers: HashMap::new(),
            sold_upload_mb: None,
            constraints: HashMap::new(),
            counters: Vec::new(),
            hash,
        }
    }

    fn read(&mut self, text: &'a str, identifier: &Identifier) -> Result<(), Refused> {
        let parsed = Caveat::parse(text);
        let kind = parsed.and_then(|caveat| Kind::of(caveat.condition, self.terms));
        if kind != Some(Kind::Preimage) {
            add_to(&mut self.hash, text.as_bytes());
        }
        let (Some(Caveat { condition, value }), Some(kind)) = (parsed, kind) else {
            let condition = parsed.map_or(text, |caveat| caveat.condition);
            return if self.belongs_to_another(condition) || self.terms.unknown_caveats == UnknownCaveats::Ignore {
                Ok(())
            } else {
                Err(Refused::NotUnderstood(shown(condition)))
            };
        };
        let bad_value = || Refused::BadValue(shown(condition));
        let narrower = match kind {
            Kind::Services => {
                let now = service_list(value).ok_or_else(bad_value)?;
                let narrower = is_subset(&now, self.services.as_deref());
                self.services = Some(now);
                narrower
            }
            Kind::Capabilities => {
                let now: Vec<_> = caveat::list(value).collect();
                let narrower = is_subset(&now, self.capabilities.as_deref());
                self.sold_capabilities.get_or_insert_with(|| now.clone());
                self.capabilities = Some(now);
                narrower
            }
            Kind::Path => self.path.replace(value).is_none_or(|before| before == value),
            Kind::ValidUntil => self.lower(caveat::VALID_UNTIL_SUFFIX, value).ok_or_else(bad_value)?,
            Kind::Expiration => self.lower(EXPIRATION_MS, value).ok_or_else(bad_value)?,
            Kind::MaxMb => {
                let narrower = self.lower(caveat::MAX_MB, value).ok_or_else(bad_value)?;
                self.sold_upload_mb = self.sold_upload_mb.or(self.numbers.get(caveat::MAX_MB).copied());
                narrower
            }
            Kind::MaxUses if self.counters.len() == MAX_COUNTERS => return Err(Refused::TooManyCounters),
            Kind::MaxUses => {
                let max_uses = caveat::number(value).ok_or_else(bad_value)?;
                self.counters.push(Counter { id: self.hash.clone().finalize().into(), max_uses });
                self.lower(caveat::MAX_USES, value).ok_or_else(bad_value)?
            }
            Kind::Delegate => {
                hex::decode_to_slice(value, &mut [0; 16]).map_err(|_| bad_value())?;
                true
            }
            Kind::Preimage => {
                let preimage: Preimage = value.parse().map_err(|_| bad_value())?;
                if preimage.payment_hash() != identifier.payment_hash {
                    return Err(Refused::WrongPreimage);
                }
                true
            }
            Kind::Constraint => {
                let before = self.constraints.insert(condition, value);
                before.is_none_or(|before| {
                    before == value
                        || caveat::number(value).zip(caveat::number(before)).is_some_and(|(now, was)| now <= was)
                })
            }
        };
        if narrower { Ok(()) } else { Err(Refused::Widened(shown(condition))) }
    }

    /// Notes a number that may only fall. False: it rose. None: no number.
    fn lower(&mut self, key: &'static str, value: &str) -> Option<bool> {
        let now = caveat::number(value)?;
        Some(self.numbers.insert(key, now).is_none_or(|before| now <= before))
    }

    /// Whether a condition is about another service that the token is for: `OTHER_…`.
    fn belongs_to_another(&self, condition: &str) -> bool {
        let is_about = |name: &&str| condition.strip_prefix(*name).is_some_and(|rest| rest.starts_with('_'));
        !is_about(&self.terms.name.as_str()) && self.named.iter().any(is_about)
    }

    fn finish(self, identifier: Identifier) -> Token {
        let is_for_us = self.services.is_some_and(|list| list.iter().any(|(name, _)| *name == self.terms.name));
        // A capability binds only a token that was sold with it: Aperture's have none where none was configured.
        let gave_up = |capability: &String| {
            let has = |list: &Option<Vec<&str>>| list.as_ref().is_some_and(|list| list.contains(&capability.as_str()));
            has(&self.sold_capabilities) && !has(&self.capabilities)
        };
        let valid_until_ms = self.numbers.get(caveat::VALID_UNTIL_SUFFIX).map(|secs| secs.saturating_mul(1_000));
        let max_upload_mb = self.numbers.get(caveat::MAX_MB).copied().unwrap_or(DEFAULT_MAX_UPLOAD_MB);
        Token {
            identifier,
            credential_hash: self.hash.finalize().into(),
            counters: self.counters,
            max_upload_mb,
            sold_upload_mb: self.sold_upload_mb.unwrap_or(max_upload_mb),
            form_allowance_bytes: if max_upload_mb == 0 { 0 } else { self.terms.form_allowance_bytes },
            path: self.path.map(str::to_owned),
            expires_at_ms: valid_until_ms.into_iter().chain(self.numbers.get(EXPIRATION_MS).copied()).min(),
            covered: is_for_us && !self.terms.capabilities.iter().any(gave_up),
        }
    }
}

const EXPIRATION_MS: &str = "expiration";

/// Adds a text with its length before it, so that no two lists of texts hash alike.
fn add_to(hash: &mut Sha256, text: &[u8]) {
    hash.update((text.len() as u64).to_be_bytes());
    hash.update(text);
}

/// `NAME:TIER[,…]`; none if it is not that, or empty.
fn service_list(value: &str) -> Option<Vec<(&str, u8)>> {
    let pair = |text| {
        let (name, tier) = str::trim(text).split_once(':').filter(|(name, _)| !name.is_empty())?;
        Some((name, u8::try_from(caveat::number(tier)?).ok()?))
    };
    value.split(',').map(pair).collect()
}

fn is_subset<T: PartialEq>(now: &[T], before: Option<&[T]>) -> bool {
    before.is_none_or(|before| now.iter().all(|member| before.contains(member)))
}

/// A condition as an error shows it: whoever appended it chose it, so short and without control characters.
fn shown(condition: &str) -> String {
    condition.chars().filter(|c| !c.is_control()).take(64).collect()
}
