//! The saved tokens, for people.

use std::fmt::Write;

use super::TokenTerms;
use crate::client::{state::SavedToken, units};

/// One line a token, oldest first.
pub(super) fn table(tokens: &[SavedToken], now: u64) -> String {
    let mut out = String::new();
    for token in tokens {
        let state = match (&token.ended, &token.preimage) {
            (Some(reason), _) => reason.as_str(),
            (None, Some(_)) => "paid",
            (None, None) if token.expires_at <= now => "expired unpaid",
            (None, None) => "unpaid",
        };
        // Writing to a string never fails.
        let _ = writeln!(
            out,
            "{}  {}  {state:14}  {}  {}",
            token.short_name(),
            units::time(token.saved_at),
            token.server,
            TokenTerms::of(&token.macaroon).summary(),
        );
    }
    out
}

#[cfg(test)]
mod tests {
    use sluice_common::l402::{Macaroon, Preimage};

    use super::{super::tests::*, *};

    #[test]
    fn says_what_became_of_each_and_shows_no_secret() {
        let preimage: Preimage = PREIMAGE.parse().unwrap();
        let unpaid = SavedToken {
            server: "http://a".into(),
            payment_hash: preimage.payment_hash(),
            macaroon: Macaroon::from_base64(TOKEN).unwrap(),
            invoice: "lnbc1".into(),
            expires_at: 1_000,
            saved_at: 0,
            preimage: None,
            payment_begun: false,
            uploading: None,
            ended: None,
        };
        let paid = SavedToken { preimage: Some(preimage), saved_at: 60, ..unpaid.clone() };
        let used_up = SavedToken { ended: Some("used_up".into()), ..paid.clone() };
        let table = table(&[unpaid.clone(), SavedToken { expires_at: 1, ..unpaid }, paid, used_up], 500);
        insta::assert_snapshot!(table, @r"
        9c4ca9bf  1970-01-01T00:00:00Z  unpaid          http://a  any number of files of at most 500 MiB each, until 2100-01-01T00:00:00Z
        9c4ca9bf  1970-01-01T00:00:00Z  expired unpaid  http://a  any number of files of at most 500 MiB each, until 2100-01-01T00:00:00Z
        9c4ca9bf  1970-01-01T00:01:00Z  paid            http://a  any number of files of at most 500 MiB each, until 2100-01-01T00:00:00Z
        9c4ca9bf  1970-01-01T00:01:00Z  used_up         http://a  any number of files of at most 500 MiB each, until 2100-01-01T00:00:00Z
        ");
    }
}
