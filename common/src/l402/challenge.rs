//! Challenges: the token that an invoice would pay for, in the headers of a 402.

use super::Macaroon;

/// A token that is not paid yet, and the invoice that pays for it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Challenge {
    /// The token.
    pub macaroon: Macaroon,
    /// BOLT 11.
    pub invoice: String,
}

impl Challenge {
    /// The values of the two `WWW-Authenticate` lines, in their order. This very form is the one that every known client
    /// parses (protocols.md §1).
    pub fn header_values(&self) -> [String; 2] {
        let (token, invoice) = (self.macaroon.to_base64(), &self.invoice);
        [
            format!(r#"LSAT macaroon="{token}", invoice="{invoice}""#),
            format!(r#"L402 macaroon="{token}", invoice="{invoice}", version="0", token="{token}""#),
        ]
    }

    /// The first challenge among the values of `WWW-Authenticate` lines, in the form above or in that of the
    /// specification (`token` and no `macaroon`).
    pub fn parse<'a>(values: impl IntoIterator<Item = &'a str>) -> Option<Self> {
        values.into_iter().find_map(|value| {
            let (scheme, parameters) = value.trim().split_once(' ')?;
            if !scheme.eq_ignore_ascii_case("L402") && !scheme.eq_ignore_ascii_case("LSAT") {
                return None;
            }
            let parameter = |name: &str| {
                parameters.split(',').find_map(|part| {
                    let (key, value) = part.trim().split_once('=')?;
                    key.eq_ignore_ascii_case(name).then(|| value.trim_matches('"'))
                })
            };
            let macaroon = Macaroon::from_base64(parameter("macaroon").or_else(|| parameter("token"))?).ok()?;
            Some(Self { macaroon, invoice: parameter("invoice")?.to_owned() })
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::l402::{Identifier, PaymentHash, TokenId};

    #[test]
    fn is_written_in_the_one_form_that_all_parse_and_read_in_others() {
        let identifier = Identifier { payment_hash: PaymentHash::from_bytes([1; 32]), token_id: TokenId([2; 32]) };
        let macaroon = Macaroon::mint(&[3; 32], &identifier, &["services=media:0".to_owned()]).unwrap();
        let challenge = Challenge { macaroon, invoice: "lnbcrt1example".to_owned() };
        let token = challenge.macaroon.to_base64();
        let values = challenge.header_values();
        assert_eq!(values[0], format!("LSAT macaroon=\"{token}\", invoice=\"lnbcrt1example\""));
        assert_eq!(
            values[1],
            format!("L402 macaroon=\"{token}\", invoice=\"lnbcrt1example\", version=\"0\", token=\"{token}\"")
        );
        for value in [
            values[0].clone(),
            values[1].clone(),
            format!("L402 version=\"0\", token=\"{token}\", invoice=\"lnbcrt1example\""),
            format!("l402 token={token},invoice=lnbcrt1example"),
        ] {
            assert_eq!(Challenge::parse(["Basic realm=\"x\"", &value]), Some(challenge.clone()), "{value}");
        }
        assert_eq!(Challenge::parse(["L402", "L402 invoice=\"x\"", "Bearer macaroon=\"AA\", invoice=\"x\""]), None);
    }
}
