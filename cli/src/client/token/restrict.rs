//! Narrower tokens: caveats that the server finds equal to or stricter than those before.

use std::time::Duration;

use rand::RngCore;

use super::TokenTerms;
use crate::client::units;

/// How a token is to be narrowed.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Restriction {
    pub(super) max_upload_mb: Option<u64>,
    pub(super) valid_for: Option<Duration>,
    pub(super) max_uses: Option<u64>,
    pub(super) service: Option<String>,
}

/// The token would not get narrower, so the server would refuse it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum WouldWiden {
    /// Larger files than the token.
    #[error("the token is for files of at most {0} MiB")]
    MaxMb(u64),
    /// More uploads than the token.
    #[error("the token is for at most {0} uploads")]
    MaxUses(u64),
    /// Longer than the token.
    #[error("the token itself ends before, at {0}")]
    ValidUntil(String),
    /// Another service.
    #[error("the token is not for that service")]
    Service,
    /// There is no service whose time could be limited.
    #[error("the token names no service, so its time cannot be limited")]
    NoService,
}

impl Restriction {
    /// The caveats to append to a token with `terms` at `now` (unix seconds), `delegate` first: it tells this delegation
    /// from every other.
    pub(super) fn caveats(&self, terms: &TokenTerms, now: u64, delegate: [u8; 16]) -> Result<Vec<String>, WouldWiden> {
        let mut caveats = vec![format!("delegate={}", hex::encode(delegate))];
        if let Some(wanted) = &self.service {
            let is_wanted = |(service, name): &(&str, &str)| name == wanted || service == wanted;
            let found = terms.services().zip(terms.service_names()).find(is_wanted);
            caveats.push(format!("services={}", found.ok_or(WouldWiden::Service)?.0));
        }
        if let Some(mb) = self.max_upload_mb {
            if mb > terms.max_upload_mb() {
                return Err(WouldWiden::MaxMb(terms.max_upload_mb()));
            }
            caveats.push(format!("large_upload_max_mb={mb}"));
        }
        if let Some(uses) = self.max_uses {
            if let Some(max) = terms.max_uses().filter(|max| uses > *max) {
                return Err(WouldWiden::MaxUses(max));
            }
            caveats.push(format!("large_upload_max_uses={uses}"));
        }
        if let Some(valid_for) = self.valid_for {
            caveats.extend(self.valid_until(terms, now.saturating_add(valid_for.as_secs()))?);
        }
        Ok(caveats)
    }

    fn valid_until(&self, terms: &TokenTerms, until: u64) -> Result<Vec<String>, WouldWiden> {
        let mut caveats = Vec::new();
        for (service, name) in terms.services().zip(terms.service_names()) {
            if self.service.as_ref().is_some_and(|wanted| name != wanted && service != wanted) {
                continue;
            }
            if let Some(end) = terms.valid_until(name).filter(|end| until > *end) {
                return Err(WouldWiden::ValidUntil(units::time(end)));
            }
            caveats.push(format!("{name}_valid_until={until}"));
        }
        if caveats.is_empty() { Err(WouldWiden::NoService) } else { Ok(caveats) }
    }
}

/// A fresh `delegate`.
pub(super) fn delegate() -> [u8; 16] {
    let mut bytes = [0; 16];
    rand::rng().fill_bytes(&mut bytes);
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    const DELEGATE: &str = "delegate=07070707070707070707070707070707";

    fn terms() -> TokenTerms {
        TokenTerms::from_caveats(&[
            "services=media:0,other:1",
            "large_upload_max_mb=10",
            "large_upload_max_uses=2",
            "media_valid_until=2000",
        ])
    }

    fn narrowed(restriction: Restriction) -> Result<Vec<String>, WouldWiden> {
        restriction.caveats(&terms(), 1_000, [7; 16])
    }

    #[test]
    fn appends_what_is_wanted_and_always_a_delegate() {
        assert_eq!(narrowed(Restriction::default()).unwrap(), [DELEGATE]);
        let all = Restriction {
            max_upload_mb: Some(3),
            valid_for: Some(Duration::from_secs(60)),
            max_uses: Some(1),
            service: Some("media".into()),
        };
        assert_eq!(
            narrowed(all).unwrap(),
            [
                DELEGATE,
                "services=media:0",
                "large_upload_max_mb=3",
                "large_upload_max_uses=1",
                "media_valid_until=1060"
            ]
        );
        let time = Restriction { valid_for: Some(Duration::from_secs(1_000)), ..Restriction::default() };
        assert_eq!(narrowed(time).unwrap(), [DELEGATE, "media_valid_until=2000", "other_valid_until=2000"]);
        assert_ne!(delegate(), delegate());
    }

    #[test]
    fn equal_is_narrow_enough_and_more_is_not() {
        let none = Restriction::default;
        let secs = Duration::from_secs;
        assert!(narrowed(Restriction { max_upload_mb: Some(10), max_uses: Some(2), ..none() }).is_ok());
        for (restriction, error) in [
            (Restriction { max_upload_mb: Some(11), ..none() }, WouldWiden::MaxMb(10)),
            (Restriction { max_uses: Some(3), ..none() }, WouldWiden::MaxUses(2)),
            (
                Restriction { valid_for: Some(secs(1_001)), ..none() },
                WouldWiden::ValidUntil("1970-01-01T00:33:20Z".into()),
            ),
            (Restriction { service: Some("media:1".into()), ..none() }, WouldWiden::Service),
        ] {
            assert_eq!(narrowed(restriction), Err(error));
        }
        let bare = TokenTerms::from_caveats(&[]);
        let over_the_default = Restriction { max_upload_mb: Some(33), ..none() };
        assert_eq!(over_the_default.caveats(&bare, 0, [7; 16]), Err(WouldWiden::MaxMb(32)));
        let timed = Restriction { valid_for: Some(secs(1)), ..none() };
        assert_eq!(timed.caveats(&bare, 0, [7; 16]), Err(WouldWiden::NoService));
    }
}
