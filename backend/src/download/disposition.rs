//! `Content-Disposition`: always an attachment, under a name that no client can be misled by (RFC 6266, RFC 8187).

use http::HeaderValue;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};

/// Everything but `attr-char` of RFC 8187.
const EXTENDED: &AsciiSet = &NON_ALPHANUMERIC
    .remove(b'!')
    .remove(b'#')
    .remove(b'$')
    .remove(b'&')
    .remove(b'+')
    .remove(b'-')
    .remove(b'.')
    .remove(b'^')
    .remove(b'_')
    .remove(b'`')
    .remove(b'|')
    .remove(b'~');

/// The header value for a file that its owner calls `filename`. Names that are not plain ASCII are sent twice: once
/// with `_` for whatever old clients may stumble on, once in full.
pub fn attachment(filename: &str) -> HeaderValue {
    let name: String = filename.chars().map(|c| if is_unsafe(c) { '_' } else { c }).collect();
    let name = if name.trim_matches(['.', ' ', '_']).is_empty() { "file" } else { &name };
    let plain: String = name.chars().map(|c| if is_plain(c) { c } else { '_' }).collect();
    let value = if plain == name {
        format!("attachment; filename=\"{plain}\"")
    } else {
        format!("attachment; filename=\"{plain}\"; filename*=UTF-8''{}", utf8_percent_encode(name, EXTENDED))
    };
    HeaderValue::try_from(value).unwrap_or(HeaderValue::from_static("attachment; filename=\"file\""))
}

/// Control characters, what separates folders, and what turns the direction of a text round (`exe.gpj` for `jpg.exe`).
fn is_unsafe(c: char) -> bool {
    c.is_control()
        || matches!(c, '/' | '\\' | '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

/// What may stand in a quoted string and means the same to every client; some decode `%XX` in it.
fn is_plain(c: char) -> bool {
    (c == ' ' || c.is_ascii_graphic()) && !matches!(c, '"' | '%')
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn names_are_quoted_and_encoded() {
        for (filename, value) in [
            ("note.txt", r#"attachment; filename="note.txt""#),
            ("two words;a=b.txt", r#"attachment; filename="two words;a=b.txt""#),
            ("", r#"attachment; filename="file""#),
            ("..", r#"attachment; filename="file""#),
            ("a\"b", r#"attachment; filename="a_b"; filename*=UTF-8''a%22b"#),
            (
                "we%22ird näme.gif",
                r#"attachment; filename="we_22ird n_me.gif"; filename*=UTF-8''we%2522ird%20n%C3%A4me.gif"#,
            ),
            ("../../etc/passwd", r#"attachment; filename=".._.._etc_passwd""#),
            ("a\r\nSet-Cookie: x", r#"attachment; filename="a__Set-Cookie: x""#),
            ("a\u{202e}gpj.exe", r#"attachment; filename="a_gpj.exe""#),
            ("☃", r#"attachment; filename="_"; filename*=UTF-8''%E2%98%83"#),
        ] {
            assert_eq!(attachment(filename), value, "{filename:?}");
        }
    }

    proptest! {
        #[test]
        fn any_name_stays_in_its_quotes(filename in any::<String>()) {
            let value = attachment(&filename);
            let text = value.to_str().unwrap();
            prop_assert_eq!(text.matches('"').count(), 2);
            prop_assert!(!text.contains('\\') && !text.contains('/'));
            prop_assert!(text.starts_with("attachment; filename=\""));
        }
    }
}
