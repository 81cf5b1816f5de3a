//! The multipart form of an upload (RFC 7578), of known length and never in memory as a whole.

use futures_util::{Stream, StreamExt, stream};
use rand::RngCore;
use reqwest::Body;
use serde_json::Value;

use crate::client::api::{Media, UploadBody};

/// What the uploader says of the file; what is left out gets the server's defaults.
#[derive(Debug, Clone, Default, clap::Args)]
pub struct Details {
    /// A title
    #[arg(long)]
    pub name: Option<String>,
    /// A text about the file
    #[arg(long)]
    pub description: Option<String>,
    /// Words to find it by, separated by commas
    #[arg(long, value_delimiter = ',')]
    pub tags: Vec<String>,
    /// What a buyer pays you for it, in satoshi
    #[arg(long, value_name = "SAT", value_parser = clap::value_parser!(i64).range(0..))]
    pub price: Option<i64>,
    /// Let anybody download it; --public=false: nobody but you
    #[arg(long, num_args = 0..=1, require_equals = true, default_missing_value = "true", value_name = "BOOL")]
    pub public: Option<bool>,
}

impl Details {
    /// The same as the server understands them: a text of nothing is none, tags stand alone and without blanks around
    /// them. So what is asked for can be told from what is stored.
    #[must_use]
    pub fn normalised(self) -> Self {
        let some_text = |text: Option<String>| text.filter(|text| !text.is_empty());
        let tags = self.tags.iter().flat_map(|tags| tags.split(',')).map(str::trim).filter(|tag| !tag.is_empty());
        Self {
            tags: tags.map(str::to_owned).collect(),
            name: some_text(self.name),
            description: some_text(self.description),
            ..self
        }
    }

    /// These, and what is said of a stored file where they say nothing.
    #[must_use]
    pub fn or_stored(self, stored: &Media) -> Self {
        let text = |member: &str| stored.json[member].as_str().map(str::to_owned);
        let tags = || stored.json["tags"].as_array().into_iter().flatten();
        Self {
            name: self.name.or_else(|| text("name")),
            description: self.description.or_else(|| text("description")),
            tags: if self.tags.is_empty() {
                tags().filter_map(|tag| tag.as_str().map(str::to_owned)).collect()
            } else {
                self.tags
            },
            price: self.price.or_else(|| stored.json["price"].as_i64()),
            public: self.public.or(Some(stored.public)),
        }
    }

    /// Which of these, normalised, a stored file's JSON says otherwise.
    pub fn unlike(&self, stored: &Value) -> Vec<&'static str> {
        let is_text =
            |member: &str, wanted: &Option<String>| wanted.as_ref().is_none_or(|text| stored[member] == *text);
        let is_same = [
            ("name", is_text("name", &self.name)),
            ("description", is_text("description", &self.description)),
            ("tags", self.tags.is_empty() || stored["tags"] == Value::from(self.tags.clone())),
            ("price", self.price.is_none_or(|price| stored["price"] == price)),
            ("public", self.public.is_none_or(|public| stored["public"] == public)),
        ];
        is_same.into_iter().filter(|(_, is_same)| !is_same).map(|(member, _)| member).collect()
    }

    /// The `members` of these as the server takes a change.
    pub fn change(&self, members: &[&'static str]) -> Value {
        let value = |member: &&'static str| {
            let value = match *member {
                "name" => self.name.clone().into(),
                "description" => self.description.clone().into(),
                "tags" => self.tags.clone().into(),
                "price" => self.price.into(),
                _ => self.public.into(),
            };
            ((*member).to_owned(), value)
        };
        members.iter().map(value).collect::<serde_json::Map<_, _>>().into()
    }

    fn fields(&self) -> Vec<(&'static str, String)> {
        let tags = (!self.tags.is_empty()).then(|| self.tags.join(","));
        [
            ("name", self.name.clone()),
            ("description", self.description.clone()),
            ("tags", tags),
            ("price", self.price.map(|price| price.to_string())),
            ("public", self.public.map(|public| public.to_string())),
        ]
        .into_iter()
        .filter_map(|(name, value)| Some((name, value?)))
        .collect()
    }
}

/// The form of `details` and a file of `len` bytes.
pub fn form<S>(details: &Details, filename: &str, len: u64, file: S) -> UploadBody
where
    S: Stream<Item = std::io::Result<bytes::Bytes>> + Send + 'static,
{
    let mut random = [0; 16];
    rand::rng().fill_bytes(&mut random);
    let boundary = format!("sluice-{}", hex::encode(random));
    let (head, tail) = around_file(details, filename, &boundary);
    let total = head.len() as u64 + len + tail.len() as u64;
    let once = |text: String| stream::once(std::future::ready(Ok(bytes::Bytes::from(text))));
    UploadBody {
        content_type: format!("multipart/form-data; boundary={boundary}"),
        len: total,
        body: Body::wrap_stream(once(head).chain(file).chain(once(tail))),
    }
}

/// What stands before and after the file's bytes. The file comes last, so that the server knows all else before it.
fn around_file(details: &Details, filename: &str, boundary: &str) -> (String, String) {
    let mut head = String::new();
    for (name, value) in details.fields() {
        head += &format!("--{boundary}\r\nContent-Disposition: form-data; name=\"{name}\"\r\n\r\n{value}\r\n");
    }
    head += &format!(
        "--{boundary}\r\nContent-Disposition: form-data; name=\"file\"; filename=\"{}\"\r\nContent-Type: {}\r\n\r\n",
        escape(filename),
        content_type(filename),
    );
    (head, format!("\r\n--{boundary}--\r\n"))
}

/// As browsers write names in forms, but without other control characters, which no header may hold.
fn escape(name: &str) -> String {
    let name = name.replace('"', "%22").replace('\r', "%0D").replace('\n', "%0A");
    name.chars().filter(|c| !c.is_control()).collect()
}

/// The content type by the end of the name, for the kinds that people share most.
fn content_type(filename: &str) -> &'static str {
    let extension = filename.rsplit_once('.').map(|(_, extension)| extension.to_ascii_lowercase());
    match extension.as_deref() {
        Some("txt" | "log") => "text/plain",
        Some("md") => "text/markdown",
        Some("html" | "htm") => "text/html",
        Some("csv") => "text/csv",
        Some("json") => "application/json",
        Some("pdf") => "application/pdf",
        Some("zip") => "application/zip",
        Some("gz" | "tgz") => "application/gzip",
        Some("tar") => "application/x-tar",
        Some("png") => "image/png",
        Some("jpg" | "jpeg") => "image/jpeg",
        Some("gif") => "image/gif",
        Some("webp") => "image/webp",
        Some("svg") => "image/svg+xml",
        Some("mp3") => "audio/mpeg",
        Some("ogg" | "oga") => "audio/ogg",
        Some("flac") => "audio/flac",
        Some("wav") => "audio/wav",
        Some("mp4" | "m4v") => "video/mp4",
        Some("webm") => "video/webm",
        Some("mkv") => "video/x-matroska",
        Some("mov") => "video/quicktime",
        _ => "application/octet-stream",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn details() -> Details {
        Details { name: Some("a b".into()), tags: vec!["x".into(), "y".into()], price: Some(3), ..Details::default() }
    }

    #[test]
    fn fields_stand_before_the_file() {
        let (head, tail) = around_file(&Details { public: Some(true), ..details() }, "a\"\r\nb\u{1b}.PNG", "BOUNDARY");
        insta::assert_snapshot!(format!("{head}FILE{tail}").replace("\r\n", "\n"), @r#"
        --BOUNDARY
        Content-Disposition: form-data; name="name"

        a b
        --BOUNDARY
        Content-Disposition: form-data; name="tags"

        x,y
        --BOUNDARY
        Content-Disposition: form-data; name="price"

        3
        --BOUNDARY
        Content-Disposition: form-data; name="public"

        true
        --BOUNDARY
        Content-Disposition: form-data; name="file"; filename="a%22%0D%0Ab.PNG"
        Content-Type: image/png

        FILE
        --BOUNDARY--
        "#);
    }

    #[test]
    fn the_length_is_that_of_head_file_and_tail() {
        let form = form(&Details::default(), "a", 1_000, stream::empty());
        let boundary = form.content_type.strip_prefix("multipart/form-data; boundary=").unwrap();
        let (head, tail) = around_file(&Details::default(), "a", boundary);
        assert_eq!(form.len, (head.len() + tail.len() + 1_000) as u64);
    }

    #[test]
    fn a_stored_file_will_do_when_it_says_all_that_is_wanted() {
        let stored =
            serde_json::json!({"name": "a b", "description": "d", "tags": ["x", "y"], "price": 3, "public": false});
        assert!(Details::default().unlike(&stored).is_empty());
        assert!(details().unlike(&stored).is_empty());
        for (other, unlike) in [
            (Details { name: Some("a".into()), ..details() }, &["name"][..]),
            (Details { description: Some("e".into()), ..details() }, &["description"]),
            (Details { tags: vec!["x".into()], ..details() }, &["tags"]),
            (Details { price: Some(4), public: Some(true), ..details() }, &["price", "public"]),
        ] {
            assert_eq!(other.unlike(&stored), unlike, "{other:?}");
        }
        let other = Details { price: Some(4), public: Some(true), ..details() };
        assert_eq!(
            other.change(&other.unlike(&stored)),
            serde_json::json!({"price": 4, "public": true}),
            "and nothing else is said of it"
        );
        // What was public need not stay so.
        let (private, public) =
            (Details { public: Some(false), ..Details::default() }, serde_json::json!({"public": true}));
        assert!(private.unlike(&stored).is_empty() && Details::default().unlike(&public).is_empty());
        assert_eq!(private.change(&private.unlike(&public)), serde_json::json!({"public": false}));
        assert_eq!(details().change(&["name", "tags"]), serde_json::json!({"name": "a b", "tags": ["x", "y"]}));
    }

    #[test]
    fn what_is_not_said_stays_as_it_is_stored() {
        let json = serde_json::json!({"muid": "AQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQE=", "name": "n", "description": "d", "tags": ["t"], "price": 9, "public": true});
        let stored: Media = serde_json::from_value(json.clone()).unwrap();
        assert!(Details::default().or_stored(&stored).unlike(&json).is_empty());
        let said = Details { name: Some("a".into()), tags: vec!["b".into()], ..Details::default() }.or_stored(&stored);
        assert_eq!((said.name.as_deref(), said.tags[0].as_str(), said.price), (Some("a"), "b", Some(9)));
    }

    #[test]
    fn details_are_compared_as_the_server_understands_them() {
        let tags = vec![" x".into(), String::new(), "y ,,z".into()];
        let said = Details { name: Some(String::new()), description: Some(String::new()), tags, ..Details::default() };
        let stored = serde_json::json!({"name": "name", "description": "description", "tags": ["x", "y", "z"]});
        assert!(said.normalised().unlike(&stored).is_empty());
        let blank = Details { name: Some(" ".into()), ..Details::default() };
        assert_eq!(blank.normalised().unlike(&stored), ["name"], "blanks are a name to the server, too");
    }
}
