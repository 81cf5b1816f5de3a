//! What a request says of the size of what it sends. The body is never read for it.

use http::{
    HeaderMap, HeaderName, Method, StatusCode,
    header::{CONTENT_LENGTH, CONTENT_TYPE},
};
use sluice_common::{
    limits::{BYTES_PER_MB, FORM_ALLOWANCE_BYTES, MAX_FORM_OVERHEAD_BYTES},
    problem::Problem,
};

/// A resumable upload's length (tus 1.0, and draft-ietf-httpbis-resumable-upload).
const UPLOAD_LENGTH: HeaderName = HeaderName::from_static("upload-length");

/// Where a size is read from.
pub(super) struct Head<'a> {
    pub(super) method: &'a Method,
    pub(super) query: Option<&'a str>,
    pub(super) headers: &'a HeaderMap,
    /// As [`form_bytes`] says.
    pub(super) form_bytes: u64,
}

/// The size that a request declares.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Declared {
    /// The file's own length: `Upload-Length`, or `?size=`.
    file: Option<u64>,
    /// The body's: `Content-Length`.
    body: Option<u64>,
    /// What of the body may be a form around the file.
    form_bytes: u64,
}

/// Why a declaration is refused: 400.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(super) enum SizeError {
    #[error("`{0}` is not a whole number of bytes")]
    Malformed(&'static str),
    #[error("{0} and {1} declare different sizes")]
    Differ(&'static str, &'static str),
}

impl SizeError {
    pub(super) fn problem(self) -> Problem {
        let code = match self {
            Self::Malformed(_) => "malformed_size",
            Self::Differ(..) => "two_sizes",
        };
        Problem::new(StatusCode::BAD_REQUEST, code).detail(self.to_string())
    }
}

impl Declared {
    /// What a request declares.
    pub(super) fn read(head: &Head<'_>) -> Result<Self, SizeError> {
        let is_question = [Method::GET, Method::HEAD].contains(head.method);
        let body = if is_question { None } else { in_headers(head.headers, &CONTENT_LENGTH, "Content-Length")? };
        let upload = in_headers(head.headers, &UPLOAD_LENGTH, "Upload-Length")?;
        let size = in_query(head.query)?;
        if let (Some(upload), Some(size)) = (upload, size)
            && upload != size
        {
            return Err(SizeError::Differ("Upload-Length", "?size="));
        }
        let declared = Self { file: upload.or(size), body, form_bytes: head.form_bytes };
        let name = if upload.is_some() { "Upload-Length" } else { "?size=" };
        // A resumable upload may send any part of the file, a question sends nothing.
        let may_be_a_part = upload.is_some() || body == Some(0);
        match (declared.file, body) {
            (Some(file), Some(body)) if body < file && !may_be_a_part => Err(SizeError::Differ(name, "Content-Length")),
            (Some(file), Some(_)) if declared.least_of_body() > Some(file) => {
                Err(SizeError::Differ(name, "Content-Length"))
            }
            _ => Ok(declared),
        }
    }

    /// The file's own length, if it is declared.
    pub(super) fn file(&self) -> Option<u64> {
        self.file
    }

    /// The smallest that the file can be.
    fn least(&self) -> Option<u64> {
        self.file.or(self.least_of_body())
    }

    fn least_of_body(&self) -> Option<u64> {
        Some(self.body?.saturating_sub(self.form_bytes))
    }

    /// The declared bytes, if what they declare cannot be within `max_upload_bytes`.
    pub(super) fn beyond(&self, max_upload_bytes: u64) -> Option<u64> {
        self.file.or(self.body).filter(|_| self.least() > Some(max_upload_bytes))
    }

    /// The whole MiB to pay for: at least 1, the last begun one too. Of a form, what a usual one has beside the file is
    /// free. None: nothing is declared.
    pub(super) fn mib(&self) -> Option<u64> {
        let of_body = |body: u64| body.saturating_sub(self.form_bytes.min(FORM_ALLOWANCE_BYTES));
        let bytes = self.file.or(self.body.map(of_body))?;
        Some(bytes.div_ceil(BYTES_PER_MB).max(1))
    }
}

/// What a body may have beside the file: nothing but where it is a form. Only the media server measures the file in it; where
/// nobody does, a usual form is all.
pub(super) fn form_bytes(headers: &HeaderMap, is_measured: bool) -> u64 {
    let media_type = headers.get(CONTENT_TYPE).map_or(&b""[..], |value| value.as_bytes());
    let form = b"multipart/form-data";
    match media_type.get(..form.len()).is_some_and(|begin| begin.eq_ignore_ascii_case(form)) {
        true if is_measured => MAX_FORM_OVERHEAD_BYTES,
        true => FORM_ALLOWANCE_BYTES,
        false => 0,
    }
}

/// The one number in all lines of a header.
fn in_headers(headers: &HeaderMap, name: &HeaderName, said: &'static str) -> Result<Option<u64>, SizeError> {
    let mut found = None;
    for line in headers.get_all(name) {
        let number = line.to_str().ok().and_then(number).ok_or(SizeError::Malformed(said))?;
        if found.replace(number).is_some_and(|before| before != number) {
            return Err(SizeError::Differ(said, said));
        }
    }
    Ok(found)
}

fn in_query(query: Option<&str>) -> Result<Option<u64>, SizeError> {
    let mut found = None;
    for value in query.unwrap_or_default().split('&').filter_map(|pair| pair.strip_prefix("size=")) {
        let number = number(value).ok_or(SizeError::Malformed("?size="))?;
        if found.replace(number).is_some_and(|before| before != number) {
            return Err(SizeError::Differ("?size=", "?size="));
        }
    }
    Ok(found)
}

/// Decimal digits and nothing else, as a `Content-Length` is.
fn number(text: &str) -> Option<u64> {
    (!text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit())).then(|| text.parse().ok()).flatten()
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    const MIB: u64 = BYTES_PER_MB;

    fn declared(method: &str, query: &str, headers: &[(&'static str, String)]) -> Result<Declared, SizeError> {
        let headers: HeaderMap = headers
            .iter()
            .map(|(name, value)| (HeaderName::from_static(name), HeaderValue::try_from(value.as_str()).unwrap()))
            .collect();
        let method = method.parse().unwrap();
        let form_bytes = form_bytes(&headers, true);
        Declared::read(&Head { method: &method, query: Some(query), headers: &headers, form_bytes })
    }

    fn form(len: u64) -> [(&'static str, String); 2] {
        [("content-length", len.to_string()), ("content-type", "multipart/Form-Data; boundary=x".into())]
    }

    fn mib(found: Result<Declared, SizeError>) -> Option<u64> {
        found.unwrap().mib()
    }

    #[test]
    fn sizes_are_whole_mib_and_never_none() {
        for (bytes, whole) in [(0, 1), (1, 1), (MIB, 1), (MIB + 1, 2), (10 * MIB, 10), (u64::MAX, u64::MAX / MIB + 1)] {
            assert_eq!(mib(declared("GET", &format!("a=b&size={bytes}"), &[])), Some(whole), "{bytes}");
            assert_eq!(mib(declared("PUT", "", &[("content-length", bytes.to_string())])), Some(whole), "{bytes}");
            assert_eq!(mib(declared("POST", "", &[("upload-length", bytes.to_string())])), Some(whole), "{bytes}");
        }
        assert_eq!(mib(declared("POST", "xsize=1", &[])), None);
        assert_eq!(mib(declared("GET", "", &[("content-length", "7".into())])), None, "that sends nothing");
    }

    #[test]
    fn a_form_costs_nothing_and_its_file_fits_into_what_was_paid_for() {
        for file in [1, MIB - 1, MIB, MIB + 1, 10 * MIB, 10 * MIB + 1, 10 * MIB + FORM_ALLOWANCE_BYTES] {
            for overhead in [100, 300, 20_000, FORM_ALLOWANCE_BYTES, 2 * FORM_ALLOWANCE_BYTES, MIB] {
                let whole = mib(declared("POST", "", &form(file + overhead))).unwrap();
                assert!(file <= whole * MIB + FORM_ALLOWANCE_BYTES, "{file} in a form of {overhead} more");
                if overhead <= FORM_ALLOWANCE_BYTES {
                    assert!(whole <= file.div_ceil(MIB), "{file} in a form of {overhead} more costs {whole}");
                }
                let both = declared("POST", &format!("size={file}"), &form(file + overhead));
                assert_eq!(mib(both), Some(file.div_ceil(MIB)), "said, the file's length counts");
                // What is bought for the file alone takes it in any form.
                assert_eq!(both.unwrap().beyond(file), None);
                assert_eq!(declared("POST", "", &form(file + overhead)).unwrap().beyond(file), None);
            }
        }
    }

    #[test]
    fn what_cannot_fit_is_known() {
        let max = 4 * MIB;
        assert_eq!(declared("POST", "", &form(5 * MIB)).unwrap().beyond(max), None);
        assert_eq!(declared("POST", "", &form(5 * MIB + 1)).unwrap().beyond(max), Some(5 * MIB + 1));
        assert_eq!(declared("GET", &format!("size={max}"), &[]).unwrap().beyond(max), None);
        assert_eq!(declared("GET", &format!("size={}", max + 1), &[]).unwrap().beyond(max), Some(max + 1));
        assert_eq!(
            declared("PUT", "", &[("content-length", (max + 1).to_string())]).unwrap().beyond(max),
            Some(max + 1)
        );
        assert_eq!(declared("POST", "", &[]).unwrap().beyond(0), None);
    }

    #[test]
    fn two_sizes_that_differ_are_refused() {
        let length = |name, bytes: u64| (name, bytes.to_string());
        for (query, headers, error) in [
            ("size=2", vec![length("upload-length", 1)], Some(SizeError::Differ("Upload-Length", "?size="))),
            ("size=1&size=2", vec![], Some(SizeError::Differ("?size=", "?size="))),
            ("size=5", vec![length("content-length", 6)], Some(SizeError::Differ("?size=", "Content-Length"))),
            ("size=5", vec![length("content-length", 4)], Some(SizeError::Differ("?size=", "Content-Length"))),
            ("size=5", form(4).to_vec(), Some(SizeError::Differ("?size=", "Content-Length"))),
            ("size=5", form(MIB + 6).to_vec(), Some(SizeError::Differ("?size=", "Content-Length"))),
            (
                "",
                vec![length("upload-length", 5), length("content-length", 6)],
                Some(SizeError::Differ("Upload-Length", "Content-Length")),
            ),
            (
                "",
                vec![length("upload-length", 5), length("upload-length", 6)],
                Some(SizeError::Differ("Upload-Length", "Upload-Length")),
            ),
            ("size=", vec![], Some(SizeError::Malformed("?size="))),
            ("size=-1", vec![], Some(SizeError::Malformed("?size="))),
            ("size=1MB", vec![], Some(SizeError::Malformed("?size="))),
            ("size=99999999999999999999", vec![], Some(SizeError::Malformed("?size="))),
            ("", vec![("upload-length", "+5".into())], Some(SizeError::Malformed("Upload-Length"))),
            ("size=5", vec![length("content-length", 0)], None),
            ("size=5", vec![length("content-length", 5)], None),
            ("size=5&size=5", vec![length("upload-length", 5)], None),
            ("size=5", form(MIB + 5).to_vec(), None),
            ("", vec![length("upload-length", 5), length("content-length", 3)], None),
        ] {
            assert_eq!(declared("POST", query, &headers).err(), error, "{query} {headers:?}");
        }
    }
}
