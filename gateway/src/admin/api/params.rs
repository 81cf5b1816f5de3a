//! Parameters of queries: what is unknown, repeated or unreadable is an error that says so.

use std::str::FromStr;

use axum::{extract::FromRequestParts, extract::Query};
use http::request::Parts;
use sluice_common::clock::rfc3339;
use time::{OffsetDateTime, format_description::well_known::Rfc3339};

use super::ApiError;
use crate::ledger::Filter;

/// The parameters of a query.
pub(super) struct Params(Vec<(String, String)>);

impl<S: Send + Sync> FromRequestParts<S> for Params {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, ApiError> {
        let query = Query::<Vec<(String, String)>>::try_from_uri(&parts.uri);
        query.map(|Query(all)| Self(all)).map_err(|_| ApiError::InvalidQuery("the query cannot be read".to_owned()))
    }
}

impl Params {
    /// Refuses every parameter but these, and one that stands there twice.
    pub fn only(&self, known: &[&str]) -> Result<(), ApiError> {
        for (at, (name, _)) in self.0.iter().enumerate() {
            let wrong = if !known.contains(&name.as_str()) {
                format!("`{}` is no parameter here; there are {}", short(name), known.join(", "))
            } else if self.0[..at].iter().any(|(other, _)| other == name) {
                format!("`{name}` stands there twice")
            } else {
                continue;
            };
            return Err(ApiError::InvalidQuery(wrong));
        }
        Ok(())
    }

    /// A parameter as text; one that is empty is none.
    pub fn text(&self, name: &str) -> Option<&str> {
        self.0.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str()).filter(|value| !value.is_empty())
    }

    /// A parameter that is read; `expected` says how it has to be.
    pub fn parse<T: FromStr>(&self, name: &str, expected: &str) -> Result<Option<T>, ApiError> {
        let wrong = || ApiError::InvalidQuery(format!("`{name}` must be {expected}"));
        self.text(name).map(|text| text.parse().map_err(|_| wrong())).transpose()
    }

    /// A time, in unix seconds.
    pub fn time(&self, name: &str) -> Result<Option<u64>, ApiError> {
        Ok(self.parse::<Time>(name, "a time as 2026-01-31T12:00:00Z")?.map(|Time(secs)| secs))
    }

    /// How many rows, from 1 to `max`.
    pub fn limit(&self, max: u32, unsaid: u32) -> Result<u32, ApiError> {
        let expected = format!("a number from 1 to {max}");
        match self.parse("limit", &expected)? {
            None => Ok(unsaid),
            Some(limit) if (1..=max).contains(&limit) => Ok(limit),
            Some(_) => Err(ApiError::InvalidQuery(format!("`limit` must be {expected}"))),
        }
    }

    /// `service`, `network`, `from` and `before`.
    pub fn filter(&self) -> Result<Filter, ApiError> {
        Ok(Filter {
            from: self.time("from")?,
            before: self.time("before")?,
            service: self.text("service").map(str::to_owned),
            network: self.parse("network", "mainnet, testnet, signet, simnet, regtest or test-wallet")?,
        })
    }
}

/// A time in unix seconds, as RFC 3339 writes it.
pub(super) struct Time(pub u64);

impl FromStr for Time {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        let time = OffsetDateTime::parse(text, &Rfc3339).map_err(drop)?;
        u64::try_from(time.unix_timestamp()).map(Self).map_err(drop)
    }
}

/// A time as answers have it.
pub(super) fn written(unix_secs: u64) -> String {
    rfc3339(unix_secs).unwrap_or_else(|| unix_secs.to_string())
}

/// A name as an error shows it.
fn short(name: &str) -> String {
    name.chars().filter(|c| !c.is_control()).take(32).collect()
}
