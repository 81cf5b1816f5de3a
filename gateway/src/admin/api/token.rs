//! The admin token: whoever has it may use the admin API.

use sha2::{Digest, Sha256};
use sluice_common::secret::Secret;
use subtle::ConstantTimeEq;

/// The fewest characters of one: what is shorter was cut off, or can be guessed.
const MIN_CHARS: usize = 32;

/// The admin token, kept as its hash.
#[derive(Debug, Clone)]
pub struct AdminToken(Secret<[u8; 32]>);

/// The text is too short.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("an admin token has at least {MIN_CHARS} characters")]
pub struct TooShort;

impl AdminToken {
    /// The token that is this text.
    pub fn new(text: &Secret<String>) -> Result<Self, TooShort> {
        if text.expose().chars().count() < MIN_CHARS { Err(TooShort) } else { Ok(Self(hash(text.expose()))) }
    }

    /// Whether `text` is it. Takes the same time wherever it differs.
    pub fn is(&self, text: &str) -> bool {
        self.0.expose().ct_eq(hash(text).expose()).into()
    }
}

fn hash(text: &str) -> Secret<[u8; 32]> {
    Secret::new(Sha256::digest(text.as_bytes()).into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn is_only_itself_and_prints_nothing() {
        let text = "5a".repeat(16);
        let token = AdminToken::new(&Secret::new(text.clone())).unwrap();
        assert!(token.is(&text));
        for other in ["", &text[1..], &format!("{text}5"), &text.to_uppercase()] {
            assert!(!token.is(other), "{other}");
        }
        assert_eq!(format!("{token:?}"), "AdminToken([redacted])");
        assert!(AdminToken::new(&Secret::new("short".to_owned())).is_err());
    }
}
