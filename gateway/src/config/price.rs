//! What a token costs.

use std::time::Duration;

use sluice_common::secret::Secret;

use super::ConfigError;

/// All satoshis that will ever be.
pub const MAX_PRICE_SAT: u64 = 2_100_000_000_000_000;

/// What a token costs. 0 is let through without one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Price {
    /// The same whatever it is for, in satoshi.
    Flat(u64),
    /// By the size of what is sent, in whole MiB.
    PerMib {
        /// For each MiB, the last begun one too.
        per_mib_sat: u64,
        /// And never less.
        minimum_sat: u64,
    },
    /// By the size of what is sent, from a table: the first step that holds it. A token then holds all of its step.
    Steps(Vec<Step>),
    /// From a server that is asked.
    External(PricerConfig),
}

/// A step of a price table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Step {
    /// The most MiB of it; none: as large as the service takes.
    pub up_to_mib: Option<u64>,
    /// What it costs.
    pub price_sat: u64,
}

/// A server that says prices (docs/API.md, The pricer).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PricerConfig {
    /// Where it is asked: http or https. A key may stand in it.
    pub url: Secret<String>,
    /// How long it may take.
    pub timeout: Duration,
    /// Whether it is told the size, which must then be declared and is what the token holds.
    pub by_size: bool,
    /// Whether, while it does not answer, the last price that it said of the same path and size goes on.
    pub last_as_fallback: bool,
}

impl Price {
    /// Whether the declared size decides.
    pub fn is_by_size(&self) -> bool {
        match self {
            Self::Flat(_) => false,
            Self::PerMib { .. } | Self::Steps(_) => true,
            Self::External(pricer) => pricer.by_size,
        }
    }

    /// Whether the path decides.
    pub fn is_by_path(&self) -> bool {
        matches!(self, Self::External(_))
    }

    /// The MiB that a token holds which is bought for `mib`, where a service takes at most `max_mib`.
    pub fn holds_mib(&self, mib: u64, max_mib: u64) -> u64 {
        match self {
            Self::Steps(steps) => step(steps, mib).and_then(|step| step.up_to_mib).unwrap_or(max_mib).min(max_mib),
            _ => mib,
        }
    }

    /// The price of `mib` in satoshi. None: it must be asked for, or there is none.
    pub fn of(&self, mib: u64) -> Option<u64> {
        match self {
            Self::Flat(sat) => Some(*sat),
            Self::PerMib { per_mib_sat, minimum_sat } => Some(per_mib_sat.checked_mul(mib)?.max(*minimum_sat)),
            Self::Steps(steps) => step(steps, mib).map(|step| step.price_sat),
            Self::External(_) => None,
        }
    }

    pub(super) fn check(&self, service: &str, max_mib: u64) -> Result<(), ConfigError> {
        let error = |problem| ConfigError::Price { service: service.to_owned(), problem };
        if let Self::Steps(steps) = self {
            let ends: Vec<u64> = steps.iter().map(|step| step.up_to_mib.unwrap_or(u64::MAX)).collect();
            if ends.contains(&0) || !ends.windows(2).all(|pair| pair[0] < pair[1]) {
                return Err(error(
                    "each step must go further than the one before it, and only the last have no up_to_mib",
                ));
            }
            if ends.last().is_none_or(|last| *last < max_mib) {
                return Err(error("the last step must go up to max_upload_mb, or have no up_to_mib"));
            }
        }
        if let Self::External(pricer) = self {
            let url = pricer.url.expose().parse::<http::Uri>().ok();
            let is_url =
                url.is_some_and(|url| matches!(url.scheme_str(), Some("http" | "https")) && url.host().is_some());
            if !is_url {
                return Err(error("url must be http://HOST… or https://HOST…"));
            }
            if !(Duration::from_millis(1)..=Duration::from_secs(30)).contains(&pricer.timeout) {
                return Err(error("timeout_ms must be from 1 to 30000"));
            }
            return Ok(());
        }
        let highest = match self {
            Self::Steps(steps) => steps.iter().map(|step| step.price_sat).max(),
            _ => self.of(max_mib),
        };
        if highest.is_none_or(|highest| highest > MAX_PRICE_SAT) {
            return Err(error("a token could cost more than there will ever be"));
        }
        Ok(())
    }
}

fn step(steps: &[Step], mib: u64) -> Option<&Step> {
    steps.iter().find(|step| step.up_to_mib.is_none_or(|most| mib <= most))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_have_prices() {
        let per_mib = Price::PerMib { per_mib_sat: 3, minimum_sat: 10 };
        assert_eq!([1, 3, 4, 100].map(|mib| per_mib.of(mib)), [Some(10), Some(10), Some(12), Some(300)]);
        assert_eq!(per_mib.of(u64::MAX), None, "and no price wraps round");
        assert_eq!(per_mib.holds_mib(7, 9), 7);

        let steps = [(Some(1), 0), (Some(10), 50), (None, 400)];
        let steps = Price::Steps(steps.map(|(up_to_mib, price_sat)| Step { up_to_mib, price_sat }).to_vec());
        assert_eq!([1, 2, 10, 11, 500].map(|mib| steps.of(mib)), [0, 50, 50, 400, 400].map(Some));
        assert_eq!([1, 2, 10, 11].map(|mib| steps.holds_mib(mib, 500)), [1, 10, 10, 500]);
        assert_eq!(steps.holds_mib(2, 5), 5, "never more than the service takes");
    }

    #[test]
    fn refuses_tables_with_holes_and_prices_that_nobody_can_pay() {
        let steps = |ends: &[Option<u64>]| {
            Price::Steps(ends.iter().map(|&up_to_mib| Step { up_to_mib, price_sat: 1 }).collect())
        };
        let pricer = |url: &str, millis| {
            let timeout = Duration::from_millis(millis);
            Price::External(PricerConfig {
                url: Secret::new(url.to_owned()),
                timeout,
                by_size: false,
                last_as_fallback: false,
            })
        };
        for good in [
            Price::Flat(0),
            Price::Flat(MAX_PRICE_SAT),
            steps(&[None]),
            steps(&[Some(1), Some(8)]),
            pricer("http://127.0.0.1:1/p", 1),
            pricer("https://prices", 30_000),
        ] {
            assert_eq!(good.check("a", 8), Ok(()), "{good:?}");
        }
        for bad in [
            Price::Flat(MAX_PRICE_SAT + 1),
            Price::PerMib { per_mib_sat: MAX_PRICE_SAT, minimum_sat: 0 },
            Price::PerMib { per_mib_sat: u64::MAX, minimum_sat: 0 },
            steps(&[]),
            steps(&[Some(0), None]),
            steps(&[None, None]),
            steps(&[Some(2), Some(2), None]),
            steps(&[Some(7)]),
            pricer("ftp://h", 1),
            pricer("prices", 1),
            pricer("http://h", 0),
            pricer("http://h", 30_001),
        ] {
            assert!(bad.check("a", 8).unwrap_err().to_string().starts_with("service `a`: price: "), "{bad:?}");
        }
    }
}
