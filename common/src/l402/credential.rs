//! Credentials: a token and the preimage that proves it paid, in every spelling that clients use.

use std::{borrow::Cow, fmt};

use http::{HeaderMap, HeaderValue, header::AUTHORIZATION};

use super::{Macaroon, MacaroonError, Preimage, caveat::Caveat};
use crate::secret::Secret;

/// The headers in which gRPC clients send a macaroon in hex, its preimage in a caveat.
pub const MACAROON_HEADERS: [&str; 2] = ["grpc-metadata-macaroon", "macaroon"];

/// A token and its preimage, as sent. Whoever has one can use what was bought, so `Debug` shows nothing of it.
#[derive(Clone)]
pub struct Credential {
    macaroon: Macaroon,
    preimage: Preimage,
}

/// Why a request's headers hold no credential that can be checked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum CredentialError {
    /// The macaroon cannot be read.
    #[error(transparent)]
    Macaroon(#[from] MacaroonError),
    /// There is no preimage, or it is not 32 bytes in hex.
    #[error("the credential has no preimage of 32 bytes in hex: expected `MACAROON:PREIMAGE`")]
    Preimage,
    /// A header is not text.
    #[error("a header of the credential is not text")]
    NotText,
    /// Two credentials that are not the same.
    #[error("the request has two credentials that differ: send one")]
    Differ,
}

impl CredentialError {
    /// The stable machine code.
    pub fn code(self) -> &'static str {
        match self {
            Self::Differ => "two_credentials",
            Self::Macaroon(_) | Self::Preimage | Self::NotText => "malformed_credential",
        }
    }

    /// 400 for two that differ: no saying which was meant. Else 401.
    pub fn status(self) -> http::StatusCode {
        match self {
            Self::Differ => http::StatusCode::BAD_REQUEST,
            Self::Macaroon(_) | Self::Preimage | Self::NotText => http::StatusCode::UNAUTHORIZED,
        }
    }
}

impl Credential {
    /// A token with the preimage of its payment.
    pub fn new(macaroon: Macaroon, preimage: Preimage) -> Self {
        Self { macaroon, preimage }
    }

    /// The one credential of a request, in any of the forms of protocols.md §1. None: there is none, for instance only a
    /// `Bearer`. The same credential twice, however spelled, is one.
    pub fn from_headers(headers: &HeaderMap) -> Result<Option<Self>, CredentialError> {
        let mut found: Option<Self> = None;
        let mut add = |credential: Self| match &found {
            Some(other) if !other.is_same_as(&credential) => Err(CredentialError::Differ),
            Some(_) => Ok(()),
            None => {
                found = Some(credential);
                Ok(())
            }
        };
        for value in headers.get_all(AUTHORIZATION) {
            // A header that is no text belongs to another scheme, or names ours and is then malformed.
            let text = lossy(value.as_bytes());
            for credential in credentials(&text) {
                add(Self::parse(credential)?)?;
            }
        }
        for name in MACAROON_HEADERS {
            for value in headers.get_all(name) {
                let text = value.to_str().map_err(|_| CredentialError::NotText)?;
                add(Self::with_preimage_caveat(Macaroon::from_hex(text.trim())?)?)?;
            }
        }
        Ok(found)
    }

    /// What an `Authorization` line holds beside credentials, be they good ones or not; none: nothing.
    pub fn beside(line: &HeaderValue) -> Option<HeaderValue> {
        let mut is_ours = false;
        let is_other = |part: &&[u8]| {
            let text = lossy(part);
            let begins_another = || {
                let is_word = |scheme: &str| scheme.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-');
                text.trim().split_once(' ').is_some_and(|(scheme, _)| is_word(scheme))
            };
            // What follows without a scheme of its own belongs to the one before.
            is_ours = after_scheme(&text).is_some() || (is_ours && !begins_another());
            !is_ours
        };
        let others: Vec<_> = line.as_bytes().split(|byte| *byte == b',').filter(is_other).collect();
        HeaderValue::from_bytes(others.join(&b","[..]).trim_ascii()).ok().filter(|value| !value.is_empty())
    }

    /// Reads `MACAROON:PREIMAGE_HEX`, or a macaroon alone that has its preimage in a caveat.
    pub fn parse(text: &str) -> Result<Self, CredentialError> {
        match text.trim().split_once(':') {
            Some((macaroon, preimage)) => {
                let preimage = preimage.trim().parse().map_err(|_| CredentialError::Preimage)?;
                Ok(Self::new(Macaroon::from_base64(macaroon.trim())?, preimage))
            }
            None => Self::with_preimage_caveat(Macaroon::from_base64(text.trim())?),
        }
    }

    fn with_preimage_caveat(macaroon: Macaroon) -> Result<Self, CredentialError> {
        let preimage =
            macaroon.caveats().filter_map(Caveat::parse).find_map(|caveat| caveat.preimage_hex()?.parse().ok());
        Ok(Self { preimage: preimage.ok_or(CredentialError::Preimage)?, macaroon })
    }

    /// The token.
    pub fn macaroon(&self) -> &Macaroon {
        &self.macaroon
    }

    /// The preimage.
    pub fn preimage(&self) -> &Preimage {
        &self.preimage
    }

    /// `MACAROON:PREIMAGE_HEX`.
    pub fn expose(&self) -> Secret<String> {
        Secret::new(format!("{}:{}", self.macaroon.to_base64(), self.preimage.expose_hex()))
    }

    /// The value of an `Authorization` header.
    pub fn authorization(&self) -> Secret<String> {
        Secret::new(format!("L402 {}", self.expose().expose()))
    }

    /// Whether both are one token with one preimage, whatever their spelling and whether or not a `preimage` caveat was
    /// appended to one.
    fn is_same_as(&self, other: &Self) -> bool {
        fn without_preimage(macaroon: &Macaroon) -> impl Iterator<Item = &str> {
            macaroon.caveats().filter(|text| Caveat::parse(text).is_none_or(|caveat| caveat.preimage_hex().is_none()))
        }
        self.preimage == other.preimage
            && self.macaroon.identifier_bytes() == other.macaroon.identifier_bytes()
            && without_preimage(&self.macaroon).eq(without_preimage(&other.macaroon))
    }
}

impl fmt::Debug for Credential {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Credential([redacted])")
    }
}

/// As [`String::from_utf8_lossy`], but much faster on what is text, as nearly all is.
fn lossy(bytes: &[u8]) -> Cow<'_, str> {
    str::from_utf8(bytes).map_or_else(|_| String::from_utf8_lossy(bytes), Cow::Borrowed)
}

/// The credentials of an `Authorization` line. Some clients join two header lines into one.
fn credentials(line: &str) -> impl Iterator<Item = &str> {
    line.split(',').filter_map(after_scheme)
}

/// What follows `L402 ` or `LSAT `, in any case.
fn after_scheme(part: &str) -> Option<&str> {
    let (scheme, rest) = part.trim().split_once(' ').unwrap_or((part.trim(), ""));
    (scheme.eq_ignore_ascii_case("L402") || scheme.eq_ignore_ascii_case("LSAT")).then_some(rest)
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;
    use crate::l402::{Identifier, TokenId};

    fn preimage(byte: u8) -> Preimage {
        Preimage::from_bytes([byte; 32])
    }

    fn macaroon(caveats: &[&str]) -> Macaroon {
        let identifier = Identifier { payment_hash: preimage(1).payment_hash(), token_id: TokenId([2; 32]) };
        let caveats: Vec<String> = caveats.iter().map(|&text| text.to_owned()).collect();
        Macaroon::mint(&[3; 32], &identifier, &caveats).unwrap()
    }

    fn read(lines: &[(&str, String)]) -> Result<Option<Credential>, CredentialError> {
        let mut headers = HeaderMap::new();
        for (name, value) in lines {
            let name: http::HeaderName = name.parse().unwrap();
            headers.append(name, HeaderValue::from_str(value).unwrap());
        }
        Credential::from_headers(&headers)
    }

    #[test]
    fn takes_every_form_that_clients_send() {
        let token = macaroon(&["services=media:0", "note=?>?>~~~"]);
        let (base64, hex) = (token.to_base64(), preimage(1).expose_hex());
        let url_safe = base64.replace('+', "-").replace('/', "_");
        assert_ne!(base64, url_safe, "the test needs both alphabets to differ");
        let with_caveat = token.attenuate(&[format!("preimage={hex}")]).unwrap();
        let macaroon_hex = hex::encode(with_caveat.as_bytes());
        for (name, value) in [
            ("authorization", format!("L402 {base64}:{hex}")),
            ("authorization", format!("LSAT {base64}:{hex}")),
            ("authorization", format!("lsat  {}:{}", url_safe.trim_end_matches('='), hex.to_uppercase())),
            ("authorization", format!("L402 {}:{hex}", with_caveat.to_base64())),
            ("authorization", format!("L402 {}", with_caveat.to_base64())),
            ("authorization", format!("Bearer a.b.c, L402 {base64}:{hex}")),
            ("grpc-metadata-macaroon", macaroon_hex.clone()),
            ("macaroon", macaroon_hex.to_uppercase()),
        ] {
            let credential = read(&[(name, value.clone())]).unwrap().unwrap_or_else(|| panic!("{value}"));
            assert!(credential.is_same_as(&Credential::new(token.clone(), preimage(1))), "{value}");
            assert_eq!(format!("{credential:?}"), "Credential([redacted])");
        }
        assert!(
            read(&[("authorization", "Bearer L402".into()), ("authorization", "Basic YTpi".into())]).unwrap().is_none()
        );
        assert!(read(&[]).unwrap().is_none());
    }

    #[test]
    fn one_credential_twice_is_one_and_two_are_an_error() {
        let (token, hex) = (macaroon(&["services=media:0"]), preimage(1).expose_hex());
        let both_schemes = |other: &Macaroon, other_hex: &str| {
            read(&[
                ("authorization", format!("LSAT {}:{hex}", token.to_base64())),
                ("authorization", "Bearer a.b.c".into()),
                ("authorization", format!("L402 {}:{other_hex}", other.to_base64())),
            ])
        };
        assert!(both_schemes(&token, &hex).unwrap().is_some());
        let with_caveat = token.attenuate(&[format!("preimage={hex}")]).unwrap();
        assert!(both_schemes(&with_caveat, &hex).unwrap().is_some());
        let narrower = token.attenuate(&["large_upload_max_mb=1".into()]).unwrap();
        assert_eq!(both_schemes(&narrower, &hex).unwrap_err(), CredentialError::Differ);
        assert_eq!(both_schemes(&token, &preimage(2).expose_hex()).unwrap_err(), CredentialError::Differ);
    }

    #[test]
    fn says_what_is_malformed() {
        let base64 = macaroon(&[]).to_base64();
        let hex = preimage(1).expose_hex();
        let error = |value: String| read(&[("authorization", value)]).unwrap_err();
        assert_eq!(error("L402".into()), CredentialError::Macaroon(MacaroonError::Malformed));
        assert_eq!(error("L402 ???:00".into()), CredentialError::Preimage);
        assert_eq!(error(format!("L402 ???:{hex}")), CredentialError::Macaroon(MacaroonError::NotBase64));
        assert_eq!(error(format!("L402 {base64}:")), CredentialError::Preimage);
        assert_eq!(error(format!("L402 {base64}")), CredentialError::Preimage);
        assert_eq!(error(format!("L402 {base64}:{hex}00")), CredentialError::Preimage);
        assert_eq!(read(&[("macaroon", "xyz".into())]).unwrap_err(), CredentialError::Macaroon(MacaroonError::NotHex));
    }
}
