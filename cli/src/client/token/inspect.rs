//! What a token says, for people.

use std::fmt::Write;

use sluice_common::l402::{Caveat, TokenId};

use super::{TokenError, TokenTerms, read::TokenText};
use crate::client::{console::harmless, units};

/// Mint times outside 2020 to 2100 are none: other software's token ids are random.
const MINT_TIMES: std::ops::Range<u64> = 1_577_836_800..4_102_444_800;

/// The report on `token`, lines of text. Never holds the preimage or the token itself.
pub(super) fn report(token: &TokenText, now: u64) -> Result<String, TokenError> {
    let identifier = token.macaroon.identifier()?;
    let terms = TokenTerms::of(&token.macaroon);
    let preimage = match &token.preimage {
        None => "not given",
        Some(preimage) if preimage.payment_hash() == identifier.payment_hash => "given, and of this payment",
        Some(_) => "given, but of ANOTHER payment",
    };
    let mut out = Report(String::new());
    out.line("payment hash", &identifier.payment_hash.to_string());
    out.line("preimage", preimage);
    out.line("token id", &identifier.token_id.to_string());
    if let Some(minted) = minted_at(&identifier.token_id) {
        out.line("minted", &units::time(minted));
        out.line("master key", &hex::encode(identifier.token_id.key_fingerprint()));
    }
    out.heading("caveats, in order");
    for (at, caveat) in token.macaroon.caveats().enumerate() {
        let is_preimage = Caveat::parse(caveat).is_some_and(|caveat| caveat.preimage_hex().is_some());
        let shown = if is_preimage { "preimage=[redacted]".to_owned() } else { harmless(caveat) };
        out.line(&format!("{}", at + 1), &shown);
    }
    out.heading("what decides (only the server can tell whether the token is genuine)");
    out.line("largest file", &format!("{} MiB ({} bytes)", terms.max_upload_mb(), terms.max_upload_bytes()));
    out.line("uploads", &terms.max_uses().map_or_else(|| "any number".to_owned(), |uses| uses.to_string()));
    for service in terms.services() {
        let name = service.split(':').next().unwrap_or(service);
        let can = terms.capabilities(name).map(|can| format!(", can {can}")).unwrap_or_default();
        let until = match terms.valid_until(name) {
            None => "for ever".to_owned(),
            Some(at) if at <= now => format!("EXPIRED {}", units::time(at)),
            Some(at) => format!("until {}", units::time(at)),
        };
        out.line("service", &harmless(&format!("{service}{can}, {until}")));
    }
    Ok(out.0)
}

fn minted_at(token_id: &TokenId) -> Option<u64> {
    Some(token_id.minted_at()).filter(|at| MINT_TIMES.contains(at))
}

struct Report(String);

impl Report {
    fn line(&mut self, name: &str, value: &str) {
        // Writing to a string never fails.
        let _ = writeln!(self.0, "{name:14}{value}");
    }

    fn heading(&mut self, text: &str) {
        let _ = writeln!(self.0, "\n{text}");
    }
}

#[cfg(test)]
mod tests {
    use super::{super::read::tests::*, *};

    #[test]
    fn shows_all_but_the_preimage() {
        let token = TokenText::parse(&format!("{TOKEN}:{PREIMAGE}")).unwrap();
        insta::assert_snapshot!(report(&token, 1_800_000_000).unwrap(), @r"
        payment hash  9c4ca9bf1abc427a2147089e439353503ca55275f1665bb96eeb74a04c1190f6
        preimage      given, and of this payment
        token id      e726293cc092773c067175ff40a6482639d43ea765ba8fc1a03259537c8525bd

        caveats, in order
        1             services=sphinx_meme:0
        2             sphinx_meme_capabilities=large_upload
        3             large_upload_max_mb=500
        4             sphinx_meme_valid_until=4102444800

        what decides (only the server can tell whether the token is genuine)
        largest file  500 MiB (524288000 bytes)
        uploads       any number
        service       sphinx_meme:0, can large_upload, until 2100-01-01T00:00:00Z
        ");

        let caveats =
            [format!("preimage={PREIMAGE}"), "large_upload_max_mb=3".into(), "sphinx_meme_valid_until=9".into()];
        let macaroon = token.macaroon.attenuate(&caveats).unwrap();
        let narrower = report(&TokenText { macaroon, preimage: Some("00".repeat(32).parse().unwrap()) }, 10).unwrap();
        assert!(!narrower.contains(&PREIMAGE[..8]), "{narrower}");
        insta::assert_snapshot!(narrower.split_once("caveats").unwrap().1, @r"
        , in order
        1             services=sphinx_meme:0
        2             sphinx_meme_capabilities=large_upload
        3             large_upload_max_mb=500
        4             sphinx_meme_valid_until=4102444800
        5             preimage=[redacted]
        6             large_upload_max_mb=3
        7             sphinx_meme_valid_until=9

        what decides (only the server can tell whether the token is genuine)
        largest file  3 MiB (3145728 bytes)
        uploads       any number
        service       sphinx_meme:0, can large_upload, EXPIRED 1970-01-01T00:00:09Z
        ");
        assert!(narrower.contains("ANOTHER payment"));
    }

    #[test]
    fn knows_when_our_own_tokens_were_minted() {
        let id = |at: u64| format!("{}{at:016x}{}", "ab".repeat(8), "00".repeat(16)).parse::<TokenId>().unwrap();
        assert_eq!(minted_at(&id(1_800_000_000)), Some(1_800_000_000));
        assert_eq!(minted_at(&id(u64::MAX)), None);
    }
}
