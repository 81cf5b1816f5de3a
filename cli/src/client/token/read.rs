//! Tokens in every form in which a user may have one.

use sluice_common::l402::{Challenge, Macaroon, Preimage};

use super::TokenError;

/// A token, with its preimage if that stood beside it.
pub(super) struct TokenText {
    pub(super) macaroon: Macaroon,
    pub(super) preimage: Option<Preimage>,
}

impl TokenText {
    /// Reads base64 of either alphabet or hex, with `:PREIMAGE` or without, alone or after `L402` or `LSAT`, or within a
    /// challenge; each also after the name of a header.
    pub(super) fn parse(text: &str) -> Result<Self, TokenError> {
        let text = without_header_name(text.trim());
        let bare = without_scheme(text);
        if bare.contains('"') {
            let challenge = Challenge::parse([text]).ok_or(TokenError::NotAToken)?;
            return Ok(Self { macaroon: challenge.macaroon, preimage: None });
        }
        let (macaroon, preimage) = match bare.split_once(':') {
            Some((macaroon, preimage)) => (macaroon, Some(preimage.trim().parse()?)),
            None => (bare, None),
        };
        Ok(Self { macaroon: read_macaroon(macaroon.trim())?, preimage })
    }

    /// `MACAROON` or `MACAROON:PREIMAGE`.
    pub(super) fn expose(&self) -> String {
        match &self.preimage {
            Some(preimage) => format!("{}:{}", self.macaroon.to_base64(), preimage.expose_hex()),
            None => self.macaroon.to_base64(),
        }
    }
}

fn without_header_name(text: &str) -> &str {
    const NAMES: [&str; 4] = ["authorization:", "www-authenticate:", "macaroon:", "grpc-metadata-macaroon:"];
    let name = NAMES.into_iter().find(|name| text.get(..name.len()).is_some_and(|t| t.eq_ignore_ascii_case(name)));
    text[name.map_or(0, str::len)..].trim_start()
}

fn without_scheme(text: &str) -> &str {
    match text.split_once(char::is_whitespace) {
        Some((scheme, rest)) if scheme.eq_ignore_ascii_case("L402") || scheme.eq_ignore_ascii_case("LSAT") => {
            rest.trim_start()
        }
        _ => text,
    }
}

fn read_macaroon(text: &str) -> Result<Macaroon, TokenError> {
    if text.is_empty() || text.contains(char::is_whitespace) {
        return Err(TokenError::NotAToken);
    }
    // In hex every one begins with the version, 02; base64 of that begins with Ag.
    if text.starts_with("02") { Ok(Macaroon::from_hex(text)?) } else { Ok(Macaroon::from_base64(text)?) }
}

#[cfg(test)]
pub(in crate::client) mod tests {
    use super::*;

    /// `l402-2` of the vectors, with its preimage.
    pub(in crate::client) const TOKEN: &str = "AgEEbHNhdAJCAACcTKm/GrxCeiFHCJ5Dk1NQPKVSdfFmW7lu63SgTBGQ9ucmKTzAknc8BnF1/0CmSCY51D6nZbqPwaAyWVN8hSW9AAIWc2VydmljZXM9c3BoaW54X21lbWU6MAACJXNwaGlueF9tZW1lX2NhcGFiaWxpdGllcz1sYXJnZV91cGxvYWQAAhdsYXJnZV91cGxvYWRfbWF4X21iPTUwMAACInNwaGlueF9tZW1lX3ZhbGlkX3VudGlsPTQxMDI0NDQ4MDAAAAYgJUzXRjvtxMRrb6syswhhXNhS1UaXFQa72BViHw+jUHI=";
    pub(in crate::client) const PREIMAGE: &str = "9e143e6abab4716868423d536866f7c6f19d361898fa70e970daba286884f380";

    #[test]
    fn reads_every_form() {
        let macaroon = Macaroon::from_base64(TOKEN).unwrap();
        let url_safe = TOKEN.replace('+', "-").replace('/', "_").trim_end_matches('=').to_owned();
        let hex = hex::encode(base64::Engine::decode(&base64::engine::general_purpose::STANDARD, TOKEN).unwrap());
        for (text, has_preimage) in [
            (TOKEN.to_owned(), false),
            (format!("  {url_safe}\n"), false),
            (hex.clone(), false),
            (format!("{TOKEN}:{PREIMAGE}"), true),
            (format!("{hex}:{PREIMAGE}"), true),
            (format!("L402 {TOKEN}:{PREIMAGE}"), true),
            (format!("lsat {TOKEN}:{PREIMAGE}"), true),
            (format!("Authorization: L402 {TOKEN}:{PREIMAGE}"), true),
            (format!("macaroon: {hex}"), false),
            (format!(r#"L402 macaroon="{TOKEN}", invoice="lnbc1""#), false),
            (format!(r#"www-authenticate: LSAT macaroon="{TOKEN}", invoice="lnbc1""#), false),
        ] {
            let token = TokenText::parse(&text).map_err(|error| format!("{error}: {text}")).unwrap();
            assert!(token.macaroon == macaroon, "{text}");
            assert_eq!(token.preimage.is_some(), has_preimage, "{text}");
        }
        let token = TokenText::parse(&format!("{TOKEN}:{PREIMAGE}")).unwrap();
        assert_eq!(token.expose(), format!("{TOKEN}:{PREIMAGE}"));
    }

    #[test]
    fn an_error_never_shows_the_token() {
        for junk in
            ["", "L402", "L402 ", "x y", "Bearer abc", &TOKEN[4..], &format!("{TOKEN}:{}", &PREIMAGE[1..]), "\"", "02"]
        {
            let error = TokenText::parse(junk).err().map(|error| error.to_string()).unwrap();
            assert!(junk.len() < 20 || !error.contains(&junk[..20]), "{error}");
            assert!(!error.contains(&PREIMAGE[1..9]), "{error}");
        }
    }
}
