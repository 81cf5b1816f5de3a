//! What a token says it is good for, read without the server's keys: a claim, not a proof.

use std::collections::BTreeMap;

use sluice_common::{
    l402::{Caveat, Macaroon},
    limits::{BYTES_PER_MB, DEFAULT_MAX_UPLOAD_MB},
};

use crate::client::units;

/// The last value of each condition: the one that decides.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TokenTerms(BTreeMap<String, String>);

impl TokenTerms {
    /// What `macaroon` says.
    pub fn of(macaroon: &Macaroon) -> Self {
        let caveats = macaroon.caveats().filter_map(Caveat::parse);
        Self(caveats.map(|caveat| (caveat.condition.to_owned(), caveat.value.to_owned())).collect())
    }

    /// `NAME:TIER` of each service.
    pub fn services(&self) -> impl Iterator<Item = &str> {
        let services = self.0.get("services").map_or("", String::as_str);
        services.split(',').map(str::trim).filter(|service| !service.is_empty())
    }

    /// The name of each service.
    pub fn service_names(&self) -> impl Iterator<Item = &str> {
        self.services().map(|service| service.split_once(':').map_or(service, |(name, _)| name))
    }

    /// The largest file, in MB; what the server assumes when the token does not say.
    pub fn max_upload_mb(&self) -> u64 {
        self.number("large_upload_max_mb").unwrap_or(DEFAULT_MAX_UPLOAD_MB)
    }

    /// The largest file, in bytes.
    pub fn max_upload_bytes(&self) -> u64 {
        self.max_upload_mb().saturating_mul(BYTES_PER_MB)
    }

    /// How many uploads it stores; none: any number.
    pub fn max_uses(&self) -> Option<u64> {
        self.number("large_upload_max_uses")
    }

    /// Unix seconds until which it is good for `service`; none: for ever.
    pub fn valid_until(&self, service: &str) -> Option<u64> {
        // lsat-js writes an `expiration` in milliseconds.
        let expiration = self.number("expiration").map(|millis| millis / 1_000);
        self.number(&format!("{service}_valid_until")).into_iter().chain(expiration).min()
    }

    /// What `service` is allowed to do, as the token says it.
    pub fn capabilities(&self, service: &str) -> Option<&str> {
        self.0.get(&format!("{service}_capabilities")).map(String::as_str).filter(|text| !text.is_empty())
    }

    /// What is bought, in one line.
    pub fn summary(&self) -> String {
        let mb = self.max_upload_mb();
        let files = match self.max_uses() {
            Some(1) => format!("one file of at most {mb} MiB"),
            Some(n) => format!("{n} files of at most {mb} MiB each"),
            None => format!("any number of files of at most {mb} MiB each"),
        };
        let until = self.service_names().filter_map(|name| self.valid_until(name)).min();
        let until = until.map(|at| format!(", until {}", units::time(at))).unwrap_or_default();
        format!("{files}{until}")
    }

    fn number(&self, condition: &str) -> Option<u64> {
        self.0.get(condition)?.parse().ok()
    }
}

#[cfg(test)]
impl TokenTerms {
    pub(super) fn from_caveats(caveats: &[&str]) -> Self {
        let split = caveats.iter().filter_map(|text| text.split_once('='));
        Self(split.map(|(condition, value)| (condition.to_owned(), value.to_owned())).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::{super::read::tests::TOKEN, *};

    #[test]
    fn the_last_of_each_condition_decides() {
        let macaroon = Macaroon::from_base64(TOKEN).unwrap();
        let terms = TokenTerms::of(&macaroon);
        assert_eq!(terms.services().collect::<Vec<_>>(), ["sphinx_meme:0"]);
        assert_eq!(terms.capabilities("sphinx_meme"), Some("large_upload"));
        assert_eq!(terms.summary(), "any number of files of at most 500 MiB each, until 2100-01-01T00:00:00Z");

        let narrower = macaroon.attenuate(&["large_upload_max_mb=3".into(), "large_upload_max_uses=1".into()]).unwrap();
        assert_eq!(TokenTerms::of(&narrower).summary(), "one file of at most 3 MiB, until 2100-01-01T00:00:00Z");
    }

    #[test]
    fn a_token_that_says_nothing_is_for_32_mb() {
        let terms = TokenTerms::from_caveats(&["services=a:0,b:1"]);
        assert_eq!(terms.max_upload_bytes(), 32 * 1_048_576);
        assert_eq!(terms.service_names().collect::<Vec<_>>(), ["a", "b"]);
        assert_eq!(terms.summary(), "any number of files of at most 32 MiB each");

        let timed = TokenTerms::from_caveats(&["services=a", "a_valid_until=9", "expiration=5000"]);
        assert_eq!((timed.valid_until("a"), timed.valid_until("b")), (Some(5), Some(5)));
    }
}
