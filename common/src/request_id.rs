//! The id of a request: by it the lines that the logs of all servers have of it are found.

use std::fmt;

use http::{HeaderMap, HeaderName, HeaderValue};
use rand::RngCore;

/// The header that carries it, to the server behind and to the client.
pub const REQUEST_ID_HEADER: HeaderName = HeaderName::from_static("x-request-id");

/// The longest that is taken from a request: shorter than a preimage or a key in hex, which nobody should send here and
/// no log must hold.
const MAX_LEN: usize = 48;

/// The id of a request: at most 48 letters, digits, `-`, `_` and `.`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RequestId(HeaderValue);

impl RequestId {
    /// One that no other request has: 32 hexadecimal digits.
    pub fn random() -> Self {
        let mut bytes = [0; 16];
        rand::rng().fill_bytes(&mut bytes);
        // Hexadecimal digits are a header's.
        Self(HeaderValue::try_from(hex::encode(bytes)).unwrap_or_else(|_| HeaderValue::from_static("none")))
    }

    /// The one that a request brings along, if it has one of this form, and no other.
    pub fn from_headers(headers: &HeaderMap) -> Option<Self> {
        let mut lines = headers.get_all(REQUEST_ID_HEADER).iter();
        let value = lines.next().filter(|_| lines.next().is_none())?;
        let is_part = |b: &u8| b.is_ascii_alphanumeric() || b"-_.".contains(b);
        let is_id = (1..=MAX_LEN).contains(&value.len()) && value.as_bytes().iter().all(is_part);
        is_id.then(|| Self(value.clone()))
    }

    /// As a header has it.
    pub fn header_value(&self) -> HeaderValue {
        self.0.clone()
    }
}

impl fmt::Display for RequestId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0.to_str().unwrap_or_default())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(values: &[&str]) -> Option<String> {
        let value = |value: &&str| (REQUEST_ID_HEADER, HeaderValue::try_from(*value).unwrap());
        RequestId::from_headers(&values.iter().map(value).collect()).map(|id| id.to_string())
    }

    #[test]
    fn takes_what_is_an_id_and_nothing_that_could_be_a_secret() {
        for id in ["0191c3f0-7b1e-7d4a-9c55-0f3a5f0f7a11", "a", "A_b.c-1", &"a".repeat(48)] {
            assert_eq!(read(&[id]).as_deref(), Some(id));
        }
        for other in ["", "a b", "a:b", "x=", "é", &"a".repeat(49), &"0".repeat(64)] {
            assert_eq!(read(&[other]), None, "{other}");
        }
        assert_eq!((read(&[]), read(&["a", "b"])), (None, None));
    }

    #[test]
    fn a_random_one_is_one_that_is_taken() {
        let (one, two) = (RequestId::random().to_string(), RequestId::random().to_string());
        assert_eq!((read(&[&one]), one.len()), (Some(one.clone()), 32));
        assert_ne!(one, two);
    }
}
