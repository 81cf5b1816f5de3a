//! The name that a server gives a file, made safe to use.

use percent_encoding::percent_decode_str;

/// No common file system takes longer names, in bytes.
const MAX_NAME_LEN: usize = 255;

/// The file name in a `Content-Disposition` (RFC 6266, with RFC 8187), as [`safe`] leaves it.
pub(super) fn of_disposition(value: &[u8]) -> Option<String> {
    let value = String::from_utf8_lossy(value);
    let parameters = parameters(&value);
    let of = |name: &str| parameters.iter().find(|(found, _)| found.eq_ignore_ascii_case(name)).map(|(_, value)| value);
    let extended = of("filename*").and_then(|value| {
        let (charset, rest) = value.split_once('\'')?;
        let (_language, encoded) = rest.split_once('\'')?;
        charset.eq_ignore_ascii_case("UTF-8").then(|| percent_decode_str(encoded).decode_utf8_lossy().into_owned())
    });
    safe(&extended.or_else(|| of("filename").cloned())?)
}

/// The parameters, without quotes and backslashes around and in them.
fn parameters(value: &str) -> Vec<(String, String)> {
    let mut parameters = Vec::new();
    let mut rest = value.split_once(';').map_or("", |(_, rest)| rest);
    while let Some((name, after)) = rest.split_once('=') {
        let (value, after) = read_value(after.trim_start());
        parameters.push((name.trim_matches([' ', '\t', ';']).to_owned(), value));
        rest = after;
    }
    parameters
}

fn read_value(text: &str) -> (String, &str) {
    let Some(quoted) = text.strip_prefix('"') else {
        let end = text.find(';').unwrap_or(text.len());
        return (text[..end].trim().to_owned(), &text[end..]);
    };
    let mut value = String::new();
    let mut chars = quoted.char_indices();
    while let Some((at, c)) = chars.next() {
        match c {
            '"' => return (value, &quoted[at + 1..]),
            '\\' => value.extend(chars.next().map(|(_, escaped)| escaped)),
            _ => value.push(c),
        }
    }
    (value, "")
}

/// The last part of `name`, without what hides files, steers terminals or turns text around; none when nothing is left.
fn safe(name: &str) -> Option<String> {
    let base = name.rsplit(['/', '\\']).next().unwrap_or_default();
    let is_fine = |c: &char| {
        !c.is_control() && !matches!(c, '\u{200e}'..='\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
    };
    let shown: String = base.chars().filter(is_fine).collect();
    let mut safe = shown.trim().trim_start_matches(['.', '-']).to_owned();
    while safe.len() > MAX_NAME_LEN {
        safe.pop();
    }
    (!safe.is_empty()).then_some(safe)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_every_form_of_name() {
        for (value, name) in [
            ("attachment; filename=note.txt", "note.txt"),
            (r#"attachment; filename="a b.txt""#, "a b.txt"),
            (r#"attachment; filename="a\"b;c=d.txt"; x=y"#, "a\"b;c=d.txt"),
            ("attachment; filename=\"x.txt\"; filename*=UTF-8''na%C3%AFve%20%22.txt", "naïve \".txt"),
            ("attachment; FileName*=utf-8'en'a.txt", "a.txt"),
            ("attachment; filename*=latin1''x; filename=y", "y"),
        ] {
            assert_eq!(of_disposition(value.as_bytes()).as_deref(), Some(name), "{value}");
        }
        for value in
            ["", "attachment", "attachment;", "inline; name=x", "attachment; filename", "attachment; filename=\"\""]
        {
            assert_eq!(of_disposition(value.as_bytes()), None, "{value}");
        }
    }

    #[test]
    fn a_server_cannot_choose_the_folder() {
        for (name, expected) in [
            ("../../etc/passwd", Some("passwd")),
            ("C:\\x\\y.txt", Some("y.txt")),
            (".bashrc", Some("bashrc")),
            ("..", None),
            ("a/..", None),
            ("a/", None),
            ("-rf", Some("rf")),
            ("a\u{0}\u{1b}[2Jb\n", Some("a[2Jb")),
            ("exe.\u{202e}txt", Some("exe.txt")),
        ] {
            assert_eq!(safe(name).as_deref(), expected, "{name:?}");
        }
        assert_eq!(safe(&"é".repeat(200)).unwrap().len(), 254);
    }
}
