//! The `k=v&…` in a media token: `application/x-www-form-urlencoded`, sorted.

/// Writes pairs as a token's meta: sorted, everything but letters, digits and `-_.~` as `%XX` of its UTF-8. The media
/// server's clients use `amt` (price in sat), `ttl` (seconds) and `dim` (`1500x1300`).
pub fn encode_meta<K: AsRef<str>, V: AsRef<str>>(pairs: impl IntoIterator<Item = (K, V)>) -> String {
    let mut pairs: Vec<_> =
        pairs.into_iter().map(|(key, value)| format!("{}={}", encode(key.as_ref()), encode(value.as_ref()))).collect();
    pairs.sort();
    pairs.join("&")
}

/// Reads a token's meta: its pairs in their order. Never fails: a piece without `=` is a key with an empty value, a `%`
/// that begins no `%XX` stays, and what is no UTF-8 becomes U+FFFD.
pub fn decode_meta(meta: &str) -> impl Iterator<Item = (String, String)> {
    meta.split('&').filter(|pair| !pair.is_empty()).map(|pair| {
        let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
        (decode(key), decode(value))
    })
}

fn encode(text: &str) -> String {
    let mut encoded = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-_.~".contains(&byte) {
            encoded.push(byte.into());
        } else {
            encoded.push_str(&format!("%{byte:02X}"));
        }
    }
    encoded
}

fn decode(text: &str) -> String {
    let mut decoded = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((&byte, after)) = rest.split_first() {
        rest = after;
        decoded.push(match (byte, after) {
            (b'+', _) => b' ',
            (b'%', [high, low, after @ ..]) => match (hex_digit(*high), hex_digit(*low)) {
                (Some(high), Some(low)) => {
                    rest = after;
                    high << 4 | low
                }
                _ => byte,
            },
            _ => byte,
        });
    }
    String::from_utf8_lossy(&decoded).into_owned()
}

fn hex_digit(byte: u8) -> Option<u8> {
    char::from(byte).to_digit(16).map(|digit| digit as u8)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn decoded(meta: &str) -> Vec<(String, String)> {
        decode_meta(meta).collect()
    }

    #[test]
    fn writes_sorted_and_encoded() {
        let pairs = [("ttl", "31536000"), ("dim", "1500x1300"), ("amt", "100")];
        assert_eq!(encode_meta(pairs), "amt=100&dim=1500x1300&ttl=31536000");
        assert_eq!(encode_meta([("a&b", "c=d é+")]), "a%26b=c%3Dd%20%C3%A9%2B");
        assert_eq!(encode_meta::<&str, &str>([]), "");
    }

    #[test]
    fn reads_whatever_there_is() {
        assert_eq!(decoded(""), []);
        let owned = |pairs: &[(&str, &str)]| -> Vec<_> {
            pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
        };
        assert_eq!(decoded("a=1&&b&c=x=y"), owned(&[("a", "1"), ("b", ""), ("c", "x=y")]));
        assert_eq!(decoded("a=x+y%20z%2b"), owned(&[("a", "x y z+")]));
        assert_eq!(decoded("%=%4&%zz=%ff"), owned(&[("%", "%4"), ("%zz", "\u{fffd}")]));
    }

    proptest! {
        #[test]
        fn reads_what_it_writes(key in ".+", value in ".*") {
            prop_assert_eq!(decoded(&encode_meta([(&key, &value)])), [(key, value)]);
        }

        #[test]
        fn never_panics(text in ".*") {
            let _ = decoded(&text);
        }
    }
}
