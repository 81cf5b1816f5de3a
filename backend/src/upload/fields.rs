//! The fields of an upload's form that are not the file, and what a file is called.

use http::HeaderValue;
use mime::Mime;
use sluice_common::limits::{MAX_DESCRIPTION_BYTES, MAX_NAME_BYTES, MAX_TAGS, MAX_TAGS_BYTES};
use time::OffsetDateTime;

use super::UploadError;
use crate::db::MediaChange;

/// The time to live where the form says none, or 0: one year, in seconds.
const DEFAULT_TTL_SECS: i64 = 365 * 24 * 60 * 60;

/// The longest file name, and the longest content type, that is kept.
const MAX_LABEL_BYTES: usize = 255;

/// A number, a time or a truth value is no longer.
const MAX_SCALAR_BYTES: usize = 64;

const DEFAULT_FILENAME: &str = "file";

/// What the owner says of a file. Absent and empty fields are none, for which there are defaults.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub(super) struct Fields {
    name: Option<String>,
    description: Option<String>,
    price_sat: Option<i64>,
    ttl_secs: Option<i64>,
    expiry: Option<OffsetDateTime>,
    public: Option<bool>,
    tags: Vec<String>,
    /// Fields that came, also when they were empty: the first value of each counts.
    seen: Vec<FieldName>,
}

/// A field that is read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum FieldName {
    Name,
    Description,
    Price,
    Ttl,
    Tags,
    Expiry,
    Public,
}

impl FieldName {
    const ALL: [Self; 7] =
        [Self::Name, Self::Description, Self::Price, Self::Ttl, Self::Tags, Self::Expiry, Self::Public];

    fn as_str(self) -> &'static str {
        match self {
            Self::Name => "name",
            Self::Description => "description",
            Self::Price => "price",
            Self::Ttl => "ttl",
            Self::Tags => "tags",
            Self::Expiry => "expiry",
            Self::Public => "public",
        }
    }

    /// The longest value, in bytes.
    pub(super) fn max_len(self) -> usize {
        match self {
            Self::Name => MAX_NAME_BYTES,
            Self::Description => MAX_DESCRIPTION_BYTES,
            Self::Tags => MAX_TAGS_BYTES,
            Self::Price | Self::Ttl | Self::Expiry | Self::Public => MAX_SCALAR_BYTES,
        }
    }

    fn too_long(self) -> UploadError {
        UploadError::FieldTooLong { field: self.as_str(), max_bytes: self.max_len() }
    }

    fn invalid(self, problem: &'static str) -> UploadError {
        UploadError::InvalidField { field: self.as_str(), problem }
    }
}

impl Fields {
    /// Which field a part named `name` is, if its value is wanted: only the first one counts, but for tags.
    pub(super) fn wanted(&self, name: &str) -> Option<FieldName> {
        let field = FieldName::ALL.into_iter().find(|field| field.as_str() == name)?;
        (field == FieldName::Tags || !self.seen.contains(&field)).then_some(field)
    }

    /// Takes the value of a field.
    pub(super) fn set(&mut self, field: FieldName, value: Vec<u8>) -> Result<(), UploadError> {
        if value.len() > field.max_len() {
            return Err(field.too_long());
        }
        let text = String::from_utf8(value).map_err(|_| field.invalid("is not UTF-8"))?;
        if text.contains('\0') {
            return Err(field.invalid("holds a NUL"));
        }
        match field {
            FieldName::Name => self.name = some_text(text),
            FieldName::Description => self.description = some_text(text),
            FieldName::Price => self.price_sat = amount(field, &text)?,
            FieldName::Ttl => self.ttl_secs = amount(field, &text)?,
            FieldName::Expiry => self.expiry = time(field, &text)?,
            FieldName::Public => self.public = truth(field, &text)?,
            FieldName::Tags => {
                self.tags.extend(text.split(',').map(str::trim).filter(|tag| !tag.is_empty()).map(str::to_owned));
                if self.tags.len() > MAX_TAGS {
                    return Err(field.invalid("has more than 64 tags"));
                }
                if self.tags.iter().map(String::len).sum::<usize>() > field.max_len() {
                    return Err(field.too_long());
                }
            }
        }
        self.seen.push(field);
        Ok(())
    }

    pub(super) fn name(&self) -> String {
        self.name.clone().unwrap_or_else(|| "name".to_owned())
    }

    pub(super) fn description(&self) -> String {
        self.description.clone().unwrap_or_else(|| "description".to_owned())
    }

    pub(super) fn price_sat(&self) -> i64 {
        self.price_sat.unwrap_or(0)
    }

    pub(super) fn ttl_secs(&self) -> i64 {
        self.ttl_secs.filter(|&secs| secs > 0).unwrap_or(DEFAULT_TTL_SECS)
    }

    pub(super) fn expiry(&self) -> Option<OffsetDateTime> {
        self.expiry
    }

    pub(super) fn public(&self) -> Option<bool> {
        self.public
    }

    pub(super) fn tags(&self) -> Vec<String> {
        self.tags.clone()
    }
}

/// What these fields of a form change. Unlike an upload's they are all known, and an empty one says something: a text
/// may be empty, 0 is a price, and a time to live of 0 is the one that an upload gets without.
pub fn read_change(fields: Vec<(String, String)>) -> Result<MediaChange, UploadError> {
    let mut read = Fields::default();
    for (name, value) in fields {
        match FieldName::ALL.into_iter().find(|field| field.as_str() == name) {
            None => return Err(UploadError::UnknownField),
            Some(field @ FieldName::Expiry) => return Err(field.invalid("cannot be changed")),
            Some(field) if read.wanted(&name).is_some() => read.set(field, value.into_bytes())?,
            // Only the first one counts.
            Some(_) => {}
        }
    }
    let said = |field| read.seen.contains(&field);
    Ok(MediaChange {
        name: said(FieldName::Name).then(|| read.name.clone().unwrap_or_default()),
        description: said(FieldName::Description).then(|| read.description.clone().unwrap_or_default()),
        price_sat: said(FieldName::Price).then(|| read.price_sat()),
        tags: said(FieldName::Tags).then(|| read.tags()),
        ttl_secs: said(FieldName::Ttl).then(|| read.ttl_secs()),
        public: read.public(),
    })
}

fn some_text(text: String) -> Option<String> {
    Some(text).filter(|text| !text.is_empty())
}

fn amount(field: FieldName, text: &str) -> Result<Option<i64>, UploadError> {
    match text.trim() {
        "" => Ok(None),
        text => match text.parse() {
            Ok(amount @ 0..) => Ok(Some(amount)),
            _ => Err(field.invalid("is not a whole number of at least 0")),
        },
    }
}

/// Unix seconds; 0 is none.
fn time(field: FieldName, text: &str) -> Result<Option<OffsetDateTime>, UploadError> {
    match amount(field, text)? {
        None | Some(0) => Ok(None),
        Some(secs) => match OffsetDateTime::from_unix_timestamp(secs) {
            Ok(time) => Ok(Some(time)),
            Err(_) => Err(field.invalid("is not a time in unix seconds")),
        },
    }
}

fn truth(field: FieldName, text: &str) -> Result<Option<bool>, UploadError> {
    match text.trim().to_ascii_lowercase().as_str() {
        "" => Ok(None),
        "true" | "1" | "yes" | "on" => Ok(Some(true)),
        "false" | "0" | "no" | "off" => Ok(Some(false)),
        _ => Err(field.invalid("is neither true nor false")),
    }
}

/// The name of a file as it is kept: without its path, which Internet Explorer sends and attackers use, and without
/// control characters. Browsers write a quote as `%22` (<https://html.spec.whatwg.org/#multipart-form-data>).
pub(super) fn filename(sent: Option<&str>) -> String {
    let sent = sent.unwrap_or_default();
    let base = sent.rsplit(['/', '\\']).next().unwrap_or_default().replace("%22", "\"");
    let mut name: String = base.chars().filter(|c| !c.is_control()).collect();
    name.truncate(name.floor_char_boundary(MAX_LABEL_BYTES));
    match name.as_str() {
        "" | "." | ".." => DEFAULT_FILENAME.to_owned(),
        _ => name,
    }
}

/// The content type of a file as it was sent, if it is one.
pub(super) fn mime(sent: Option<&HeaderValue>) -> String {
    sent.and_then(|value| value.to_str().ok())
        .filter(|text| text.len() <= MAX_LABEL_BYTES && text.parse::<Mime>().is_ok())
        .map_or_else(|| mime::APPLICATION_OCTET_STREAM.to_string(), str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fields(values: &[(&str, &str)]) -> Result<Fields, UploadError> {
        let mut fields = Fields::default();
        for (name, value) in values {
            if let Some(field) = fields.wanted(name) {
                fields.set(field, value.as_bytes().to_vec())?;
            }
        }
        Ok(fields)
    }

    #[test]
    fn absent_and_empty_fields_have_defaults() {
        let empty = ["name", "description", "price", "ttl", "tags", "expiry", "public"].map(|name| (name, ""));
        for fields in [fields(&[]).unwrap(), fields(&empty).unwrap(), fields(&[("ttl", "0"), ("expiry", "0")]).unwrap()]
        {
            assert_eq!((fields.name().as_str(), fields.description().as_str()), ("name", "description"));
            assert_eq!((fields.price_sat(), fields.ttl_secs()), (0, 31_536_000));
            assert_eq!((fields.expiry(), fields.public(), fields.tags()), (None, None, vec![]));
        }
    }

    #[test]
    fn the_first_value_counts_and_all_tags() {
        let fields = fields(&[
            ("name", "Über \"Café\""),
            ("tags", "one, two,,"),
            ("price", " 50 "),
            ("price", "junk"),
            ("name", "second"),
            ("tags", " three "),
            ("expiry", "1700000000"),
            ("public", "TRUE"),
            ("unknown", "\0"),
        ])
        .unwrap();
        assert_eq!((fields.name().as_str(), fields.price_sat()), ("Über \"Café\"", 50));
        assert_eq!((fields.tags(), fields.public()), (vec!["one".into(), "two".into(), "three".into()], Some(true)));
        assert_eq!(fields.expiry().map(OffsetDateTime::unix_timestamp), Some(1_700_000_000));
        // An empty first value is one.
        assert_eq!(super::tests::fields(&[("name", ""), ("name", "second")]).unwrap().name(), "name");
    }

    #[test]
    fn says_which_field_is_wrong() {
        let long_name = "n".repeat(1_025);
        let long_description = "d".repeat(16_385);
        let tags = "t,".repeat(65);
        let long_tag = "t".repeat(4_097);
        for (name, value) in [
            ("price", "-1"),
            ("price", "1.5"),
            ("price", "9223372036854775808"),
            ("price", "1e3"),
            ("ttl", "year"),
            ("expiry", "2026-01-01"),
            ("expiry", "9223372036854775807"),
            ("public", "maybe"),
            ("name", "a\0b"),
            ("tags", "a,\0"),
            ("name", long_name.as_str()),
            ("description", long_description.as_str()),
            ("tags", tags.as_str()),
            ("tags", long_tag.as_str()),
            ("price", &"0".repeat(65)),
        ] {
            match fields(&[(name, value)]) {
                Err(UploadError::InvalidField { field, .. } | UploadError::FieldTooLong { field, .. }) => {
                    assert_eq!(field, name);
                }
                other => panic!("{name}={value}: {other:?}"),
            }
        }
        let too_long = fields(&[("name", long_name.as_str())]).unwrap_err().to_string();
        assert_eq!(too_long, "the form field `name` is longer than the 1024 bytes that are allowed");
        // Of several fields all tags count.
        let half = &long_tag[..2_048];
        assert!(fields(&[("tags", half), ("tags", half)]).is_ok());
        let too_long = fields(&[("tags", half), ("tags", half), ("tags", "t")]).unwrap_err().to_string();
        assert_eq!(too_long, "the form field `tags` is longer than the 4096 bytes that are allowed");
        let mut not_utf8 = Fields::default();
        assert!(not_utf8.set(FieldName::Name, vec![0xff]).is_err());
        for (name, value) in [("name", &long_name[1..]), ("description", &long_description[1..]), ("tags", &tags[2..])]
        {
            assert!(fields(&[(name, value)]).is_ok(), "{name}");
        }
    }

    #[test]
    fn keeps_the_last_part_of_a_file_name() {
        for (sent, kept) in [
            (None, "file"),
            (Some(""), "file"),
            (Some(".."), "file"),
            (Some("a/b/.."), "file"),
            (Some("dir/"), "file"),
            (Some("../../etc/passwd"), "passwd"),
            (Some("C:\\fakepath\\cat.jpg"), "cat.jpg"),
            (Some("a %22quoted%22 name.txt"), "a \"quoted\" name.txt"),
            (Some("100%.txt"), "100%.txt"),
            (Some("tab\tand\u{85}more.txt"), "tabandmore.txt"),
            (Some("日本語 🎉.txt"), "日本語 🎉.txt"),
        ] {
            assert_eq!(filename(sent), kept, "{sent:?}");
        }
        assert_eq!(filename(Some(&"é".repeat(200))), "é".repeat(127));
    }

    #[test]
    fn keeps_a_content_type_that_is_one() {
        for (sent, kept) in [
            ("image/png", "image/png"),
            ("text/plain; charset=utf-8", "text/plain; charset=utf-8"),
            ("", "application/octet-stream"),
            ("junk", "application/octet-stream"),
            ("text/html\u{e9}", "application/octet-stream"),
        ] {
            assert_eq!(mime(Some(&HeaderValue::from_bytes(sent.as_bytes()).unwrap())), kept, "{sent}");
        }
        assert_eq!(mime(None), "application/octet-stream");
    }
}
