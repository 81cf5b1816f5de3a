//! Paths in one spelling, so that what is matched is what is forwarded.

use std::borrow::Cow;

/// Why a path has no normal form. All are the client's mistake: 400.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum PathError {
    /// It does not begin with `/`.
    #[error("the path must begin with `/`")]
    NotAbsolute,
    /// A `%` that two hexadecimal digits do not follow.
    #[error("the path holds a `%` that begins no escape")]
    MalformedEscape,
    /// A NUL, raw or as `%00`.
    #[error("the path holds a NUL")]
    Nul,
    /// A backslash, raw or as `%5C`: some servers take it for a slash.
    #[error("the path holds a backslash")]
    Backslash,
    /// `.` or `..` with a parameter (`..;x`): some servers take the parameter off, and then go up.
    #[error("the path holds a `.` or `..` with a `;` behind it")]
    DotWithParameter,
    /// A raw control character.
    #[error("the path holds a control character")]
    Control,
}

/// The one spelling of a path (without its query) that is matched and forwarded.
///
/// - Escapes of unreserved characters (RFC 3986, 2.3) and of `/` are decoded. Every other escape stays, with its digits
///   in upper case; `%25` too, so that nothing is ever decoded twice.
/// - Then `//` becomes `/`, and `.` and `..` are resolved; `..` stops at the root. A path that names a folder (`/a/`,
///   `/a/.`, `/a/b/..`) ends with `/`.
/// - What may not stand raw in a path (RFC 3986, 3.3: space, `?`, `#`, quotes, braces, all that is not ASCII) becomes
///   escapes of its UTF-8.
///
/// Twice gives the same as once.
pub fn normalise(path: &str) -> Result<Cow<'_, str>, PathError> {
    if !path.starts_with('/') {
        return Err(PathError::NotAbsolute);
    }
    if is_plain(path) {
        return Ok(Cow::Borrowed(path));
    }
    let decoded = decode(path)?;
    if decoded.split('/').any(|segment| matches!(before_parameter(segment), Some("." | ".."))) {
        return Err(PathError::DotWithParameter);
    }
    let normal = resolve(&decoded);
    Ok(if normal == path { Cow::Borrowed(path) } else { Cow::Owned(normal) })
}

/// The normalised path as servers read it that take parameters (`;…`, RFC 3986, 3.3) off its segments; none: it has none.
pub fn without_parameters(path: &str) -> Option<String> {
    before_parameter(path)?;
    let segments: Vec<_> = path.split('/').collect();
    let bare: Vec<_> = segments.iter().map(|segment| before_parameter(segment).unwrap_or(segment)).collect();
    Some(resolve(&bare.join("/")))
}

/// What of a segment is before its first parameter; none: it has none.
fn before_parameter(segment: &str) -> Option<&str> {
    let at = [";", "%3B"].iter().filter_map(|sign| segment.find(sign)).min()?;
    segment.get(..at)
}

/// Whether nothing in the path needs a look; says no to some normal paths too.
fn is_plain(path: &str) -> bool {
    let bytes = path.as_bytes();
    bytes.iter().all(|&byte| byte == b'/' || is_raw(byte))
        && !bytes.windows(2).any(|pair| pair == b"//" || pair == b"/.")
}

fn decode(path: &str) -> Result<String, PathError> {
    let mut decoded = String::with_capacity(path.len());
    let mut rest = path.as_bytes();
    while let Some((&byte, after)) = rest.split_first() {
        rest = after;
        let (byte, escaped) = match (byte, after) {
            (b'%', [high, low, after @ ..]) => {
                rest = after;
                (hex_digit(*high)? << 4 | hex_digit(*low)?, true)
            }
            (b'%', _) => return Err(PathError::MalformedEscape),
            _ => (byte, false),
        };
        match byte {
            0 => return Err(PathError::Nul),
            b'\\' => return Err(PathError::Backslash),
            b'/' => decoded.push('/'),
            _ if is_unreserved(byte) || (!escaped && is_raw(byte)) => decoded.push(byte.into()),
            _ if !escaped && byte.is_ascii_control() => return Err(PathError::Control),
            _ => decoded.push_str(&format!("%{byte:02X}")),
        }
    }
    Ok(decoded)
}

/// Resolves `//`, `.` and `..` in a path that begins with `/`.
fn resolve(path: &str) -> String {
    let mut segments = Vec::new();
    let mut is_folder = false;
    for segment in path.split('/') {
        is_folder = matches!(segment, "" | "." | "..");
        if segment == ".." {
            segments.pop();
        } else if !is_folder {
            segments.push(segment);
        }
    }
    let mut resolved = String::with_capacity(path.len());
    for segment in &segments {
        resolved.push('/');
        resolved.push_str(segment);
    }
    if is_folder {
        resolved.push('/');
    }
    resolved
}

fn hex_digit(byte: u8) -> Result<u8, PathError> {
    let digit = char::from(byte).to_digit(16).ok_or(PathError::MalformedEscape)?;
    Ok(digit as u8)
}

fn is_unreserved(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"-._~".contains(&byte)
}

/// Whether the byte may stand unescaped within a segment (RFC 3986, `pchar`).
fn is_raw(byte: u8) -> bool {
    is_unreserved(byte) || b"!$&'()*+,;=:@".contains(&byte)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn every_trick_ends_at_the_same_path() {
        for (path, normal) in [
            ("/", "/"),
            ("//", "/"),
            ("/.", "/"),
            ("/..", "/"),
            ("/../../..", "/"),
            ("/%2e%2E/", "/"),
            ("/largefile", "/largefile"),
            ("/largefile/", "/largefile/"),
            ("/largefile%2f", "/largefile/"),
            ("/largefile%2F%2f", "/largefile/"),
            ("/largefile/.", "/largefile/"),
            ("/largefile/%2e", "/largefile/"),
            ("//largefile", "/largefile"),
            ("/%2flargefile", "/largefile"),
            ("/./largefile", "/largefile"),
            ("/x/../largefile", "/largefile"),
            ("/x//../largefile", "/largefile"),
            ("/x/%2e%2e/largefile", "/largefile"),
            ("/x%2f..%2flargefile", "/largefile"),
            ("/x/.%2e%2flargefile", "/largefile"),
            ("/../largefile", "/largefile"),
            ("/largefile/../largefile", "/largefile"),
            ("/%6cargefile", "/largefile"),
            ("/%6C%61rgefile", "/largefile"),
            ("/l%61rgefil%65", "/largefile"),
            ("/a/b/..", "/a/"),
            ("/a/b/../", "/a/"),
            ("/a/..", "/"),
            ("/a/...", "/a/..."),
            ("/a/..b/.c", "/a/..b/.c"),
            ("/%7Euser/%2D%5f", "/~user/-_"),
        ] {
            assert_eq!(normalise(path).as_deref(), Ok(normal), "{path}");
        }
    }

    #[test]
    fn what_is_another_path_stays_another() {
        for (path, normal) in [
            ("/largefil%25%36%35", "/largefil%2565"),
            ("/largefile%252f", "/largefile%252f"),
            ("/%256cargefile", "/%256cargefile"),
            ("/largefile;x", "/largefile;x"),
            ("/largefile%3b", "/largefile%3B"),
            ("/largefile%3fa=b", "/largefile%3Fa=b"),
            ("/largefile?a=b", "/largefile%3Fa=b"),
            ("/largefile%20", "/largefile%20"),
            ("/largefile ", "/largefile%20"),
            ("/largefile%0d%0a", "/largefile%0D%0A"),
            ("/largefile%c0%af", "/largefile%C0%AF"),
            ("/LARGEFILE", "/LARGEFILE"),
            ("/largefil\u{e9}", "/largefil%C3%A9"),
            ("/largefil%c3%a9", "/largefil%C3%A9"),
            ("/\u{ff0f}largefile", "/%EF%BC%8Flargefile"),
            ("/\"<>^`{|}#[]", "/%22%3C%3E%5E%60%7B%7C%7D%23%5B%5D"),
        ] {
            assert_eq!(normalise(path).as_deref(), Ok(normal), "{path}");
        }
    }

    #[test]
    fn parameters_are_no_part_of_a_path_to_some() {
        for (path, bare) in [
            ("/a/b", None),
            ("/a;x/b", Some("/a/b")),
            ("/a/b;x;y=z", Some("/a/b")),
            ("/a/b%3Bx", Some("/a/b")),
            ("/a/;x/b", Some("/a/b")),
            ("/a/...;x", Some("/a/...")),
            ("/a/;", Some("/a/")),
        ] {
            let normal = normalise(path).unwrap();
            assert_eq!(without_parameters(&normal).as_deref(), bare, "{path}");
        }
    }

    #[test]
    fn muids_and_media_tokens_pass_in_both_spellings() {
        let muid = "-V9rMHRbp8urB8zFn9yDvkVknEyWSQm3Z1_wtXsV9YU";
        for path in [format!("/file/{muid}="), format!("/file/{muid}%3D"), format!("/file/bG9j.{muid}=..Zg==.c2ln")] {
            assert!(matches!(normalise(&path), Ok(Cow::Borrowed(same)) if same == path), "{path}");
        }
        assert_eq!(normalise(&format!("/file/{muid}%3d")).as_deref(), Ok(&*format!("/file/{muid}%3D")));
    }

    #[test]
    fn refuses_what_servers_read_differently() {
        for (path, error) in [
            ("", PathError::NotAbsolute),
            ("*", PathError::NotAbsolute),
            ("largefile", PathError::NotAbsolute),
            ("%2flargefile", PathError::NotAbsolute),
            ("http://host/largefile", PathError::NotAbsolute),
            ("/%", PathError::MalformedEscape),
            ("/%4", PathError::MalformedEscape),
            ("/%zz", PathError::MalformedEscape),
            ("/%4g", PathError::MalformedEscape),
            ("/%+1", PathError::MalformedEscape),
            ("/%%32f", PathError::MalformedEscape),
            ("/%u002f", PathError::MalformedEscape),
            ("/%\u{e9}", PathError::MalformedEscape),
            ("/largefile\0", PathError::Nul),
            ("/largefile%00", PathError::Nul),
            ("/x\\..\\largefile", PathError::Backslash),
            ("/x%5c..%5Clargefile", PathError::Backslash),
            ("/static/..;/admin", PathError::DotWithParameter),
            ("/static/..;x=y", PathError::DotWithParameter),
            ("/static/.;/admin", PathError::DotWithParameter),
            ("/static/%2e.%3b/admin", PathError::DotWithParameter),
            ("/static%2f..;%2fadmin", PathError::DotWithParameter),
            ("/largefile\n", PathError::Control),
            ("/large\tfile", PathError::Control),
            ("/largefile\x7f", PathError::Control),
        ] {
            assert_eq!(normalise(path), Err(error), "{path:?}");
        }
    }

    proptest! {
        #[test]
        fn twice_is_as_once_and_nothing_is_left_to_resolve(
            path in prop_oneof!["/\\PC*", "(/|//|\\.|\\.\\.|%2[eEfF5]|%6c|%3D|%[0-9a-fA-F]{2}|[a-z%]){0,24}"],
        ) {
            let path = format!("/{path}");
            if let Ok(normal) = normalise(&path) {
                prop_assert_eq!(normalise(&normal), Ok(Cow::Borrowed(&*normal)));
                prop_assert!(normal.starts_with('/') && !normal.contains("//"));
                let folder = format!("{normal}/");
                prop_assert!(!folder.contains("/../") && !folder.contains("/./"), "{}", normal);
                prop_assert!(normal.bytes().all(|byte| byte.is_ascii_graphic() && !b"\\?#".contains(&byte)));
            }
        }

        #[test]
        fn the_escaped_spelling_is_the_same_path(path in "(/[a-z.~_-]{0,4}){1,5}", escaped: [bool; 25]) {
            let spelled: String = path
                .bytes()
                .zip(escaped)
                .enumerate()
                .map(|(at, (byte, escape))| {
                    if escape && at > 0 { format!("%{byte:02x}") } else { char::from(byte).into() }
                })
                .collect();
            prop_assert_eq!(normalise(&spelled)?, normalise(&path)?);
        }
    }
}
