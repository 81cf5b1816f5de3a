//! `[[service]]`: what is sold, and who serves it.

use std::{
    collections::BTreeMap,
    fmt,
    num::{NonZeroU32, NonZeroU64},
    path::PathBuf,
};

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};
use sluice_common::secret::Secret;

use super::{
    FreebieSettings, RateLimitSettings,
    settings::{YEAR_SECS, positive},
};

/// A `[[service]]`: what is sold.
#[derive(Debug, Clone, PartialEq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct ServiceSettings {
    /// Its name, in tokens and invoices.
    pub name: String,
    /// The hosts that are its own; any, if there is none.
    #[serde(default)]
    pub hosts: Vec<String>,
    /// The paths that are its own, each `/path` or `/begin*`; any, if there is none.
    #[serde(default)]
    pub paths: Vec<String>,
    /// The methods that are its own; any, if there is none.
    #[serde(default)]
    pub methods: Vec<String>,
    /// Which requests must be paid, each `METHOD /path` or `/path`, perhaps with `*` at its end.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub protect: Option<Vec<String>>,
    /// Or else: which need not be.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub free: Option<Vec<String>>,
    /// Which need a token that they are not sold.
    #[serde(default)]
    pub auth_only: Vec<String>,
    /// Where requests go.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub upstream: Option<Addresses>,
    /// The certificates of the authorities that are trusted for them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub upstream_ca: Option<PathBuf>,
    /// The name in their certificates.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub upstream_sni: Option<String>,
    /// The host that they see: the client's, their own, or this one.
    #[serde(default = "client")]
    pub upstream_host: String,
    /// How it is found out which of them serve: `tcp`, a `/path`, or `off`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub health_check: Option<String>,
    /// How often, in seconds.
    #[serde(default = "five")]
    pub health_check_secs: NonZeroU32,
    /// What a token costs, in satoshi.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub price_sat: Option<u64>,
    /// How long a token is good for.
    #[serde(default = "year")]
    pub valid_for_secs: NonZeroU64,
    /// What a token is able to.
    #[serde(default)]
    pub capabilities: Vec<String>,
    /// The largest file that a token stores.
    #[serde(default = "default_max_upload_mb")]
    pub max_upload_mb: NonZeroU64,
    /// How often a token can be used.
    #[serde(default, alias = "max_uses", skip_serializing_if = "Option::is_none")]
    pub reuse: Option<Reuse>,
    /// Whether the upstream gets to see the token.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub forward_credential: Option<bool>,
    /// What a token costs, where that depends.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub price: Option<PriceSettings>,
    /// What is put in the place of the begin of a path.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rewrite: Option<RewriteSettings>,
    /// Headers that the upstream sees.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub headers: BTreeMap<String, HeaderSource>,
    /// Whether it only says what it would do.
    #[serde(default)]
    pub dry_run: bool,
    /// How fast its requests may come.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub rate_limits: Vec<RateLimitSettings>,
    /// What one network of clients gets of it without paying.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub freebies: Option<FreebieSettings>,
    /// Further conditions of its tokens, with their values.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub constraints: BTreeMap<String, String>,
}

/// `reuse = …`: how often a token can be used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reuse {
    /// `"until_expiry"`: as often as its owner likes.
    UntilExpiry,
    /// So often.
    Times(NonZeroU64),
}

/// What [`Reuse::UntilExpiry`] is written as.
const UNTIL_EXPIRY: &str = "until_expiry";

/// `price = { … }`: by size, from a table, or from a server that is asked.
#[derive(Debug, Clone, Default, PartialEq, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct PriceSettings {
    /// For each MiB.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub per_mib_sat: Option<u64>,
    /// And never less.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub minimum_sat: Option<u64>,
    /// A table.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub steps: Option<Vec<StepSettings>>,
    /// The server that is asked. A key may stand in it.
    #[serde(skip_serializing_if = "Option::is_none", serialize_with = "redacted")]
    pub url: Option<Secret<String>>,
    /// How long it may take.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub timeout_ms: Option<u64>,
    /// Whether it is told the size.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub by_size: Option<bool>,
    /// What goes on while it does not answer.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub fallback: Option<Fallback>,
}

/// What goes on while nobody says the price.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Fallback {
    /// The last price of the same path and size.
    Last,
    /// Nothing.
    None,
}

/// A step of `price = { steps = [ … ] }`.
#[derive(Debug, Clone, PartialEq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct StepSettings {
    /// The most MiB of it; as many as the service takes, if it is not said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub up_to_mib: Option<u64>,
    /// What it costs.
    pub price_sat: u64,
}

/// `rewrite = { from = …, to = … }`
#[derive(Debug, Clone, PartialEq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct RewriteSettings {
    /// The begin of a path as clients send it.
    pub from: String,
    /// What stands there instead.
    pub to: String,
}

/// One address, or several in a list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Addresses(pub Vec<String>);

/// Where a header's value is: `file:PATH`, or a text in which `${NAME}` is a variable of the environment.
#[derive(Debug, Clone, PartialEq)]
pub enum HeaderSource {
    /// A file that holds the value.
    File(PathBuf),
    /// The text, with its variables resolved once the environment is known.
    Text(Secret<String>),
}

impl HeaderSource {
    /// Puts variables of the environment in their places. The error is the name of one that is missing.
    pub(super) fn resolve(&mut self, env: &dyn Fn(&str) -> Option<String>) -> Result<(), String> {
        let Self::Text(text) = self else { return Ok(()) };
        let mut resolved = String::new();
        let mut rest = text.expose().as_str();
        while let Some((before, after)) = rest.split_once("${") {
            let (name, after) = after.split_once('}').ok_or_else(|| "${".to_owned())?;
            resolved.push_str(before);
            resolved.push_str(&env(name).ok_or_else(|| name.to_owned())?);
            rest = after;
        }
        resolved.push_str(rest);
        *self = Self::Text(Secret::new(resolved));
        Ok(())
    }
}

impl<'de> Deserialize<'de> for HeaderSource {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = Secret::<String>::deserialize(deserializer)?;
        let path = text.expose().strip_prefix("file:").map(PathBuf::from);
        Ok(path.map_or(Self::Text(text), Self::File))
    }
}

impl Serialize for HeaderSource {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::File(path) => serializer.collect_str(&format_args!("file:{}", path.display())),
            Self::Text(text) => serializer.collect_str(text),
        }
    }
}

impl<'de> Deserialize<'de> for Reuse {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct WordOrNumber;
        impl de::Visitor<'_> for WordOrNumber {
            type Value = Reuse;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "\"{UNTIL_EXPIRY}\" or a number from 1 on")
            }

            fn visit_str<E: de::Error>(self, word: &str) -> Result<Reuse, E> {
                let unknown = || E::invalid_value(de::Unexpected::Str(word), &self);
                if word == UNTIL_EXPIRY { Ok(Reuse::UntilExpiry) } else { Err(unknown()) }
            }

            fn visit_i64<E: de::Error>(self, number: i64) -> Result<Reuse, E> {
                let times = u64::try_from(number).ok().and_then(NonZeroU64::new);
                times.map(Reuse::Times).ok_or_else(|| E::invalid_value(de::Unexpected::Signed(number), &self))
            }

            fn visit_u64<E: de::Error>(self, number: u64) -> Result<Reuse, E> {
                let unknown = || E::invalid_value(de::Unexpected::Unsigned(number), &self);
                NonZeroU64::new(number).map(Reuse::Times).ok_or_else(unknown)
            }
        }
        deserializer.deserialize_any(WordOrNumber)
    }
}

impl Serialize for Reuse {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::UntilExpiry => serializer.serialize_str(UNTIL_EXPIRY),
            Self::Times(times) => times.serialize(serializer),
        }
    }
}

impl From<String> for Addresses {
    fn from(address: String) -> Self {
        Self(vec![address])
    }
}

impl<'de> Deserialize<'de> for Addresses {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct OneOrMore;
        impl<'de> de::Visitor<'de> for OneOrMore {
            type Value = Addresses;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an address or a list of addresses")
            }

            fn visit_str<E: de::Error>(self, address: &str) -> Result<Addresses, E> {
                Ok(address.to_owned().into())
            }

            fn visit_seq<A: de::SeqAccess<'de>>(self, mut list: A) -> Result<Addresses, A::Error> {
                let mut addresses = Vec::new();
                while let Some(address) = list.next_element()? {
                    addresses.push(address);
                }
                Ok(Addresses(addresses))
            }
        }
        deserializer.deserialize_any(OneOrMore)
    }
}

impl Serialize for Addresses {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match &self.0[..] {
            [address] => serializer.serialize_str(address),
            addresses => addresses.serialize(serializer),
        }
    }
}

impl ServiceSettings {
    /// What is sold where nothing else is said: large uploads to the media server.
    pub(super) fn media() -> Self {
        Self {
            name: "media".to_owned(),
            hosts: Vec::new(),
            paths: Vec::new(),
            methods: Vec::new(),
            protect: Some(vec!["POST /largefile".to_owned()]),
            free: None,
            auth_only: Vec::new(),
            upstream: None,
            upstream_ca: None,
            upstream_sni: None,
            upstream_host: client(),
            health_check: None,
            health_check_secs: five(),
            price_sat: Some(100),
            valid_for_secs: YEAR_SECS,
            capabilities: vec!["large_upload".to_owned()],
            max_upload_mb: default_max_upload_mb(),
            reuse: None,
            forward_credential: None,
            price: None,
            rewrite: None,
            headers: BTreeMap::new(),
            dry_run: false,
            rate_limits: Vec::new(),
            freebies: None,
            constraints: BTreeMap::new(),
        }
    }
}

fn redacted<S: Serializer>(secret: &Option<Secret<String>>, serializer: S) -> Result<S::Ok, S::Error> {
    match secret {
        Some(secret) => serializer.collect_str(secret),
        None => serializer.serialize_none(),
    }
}

fn client() -> String {
    "client".to_owned()
}

fn five() -> NonZeroU32 {
    NonZeroU32::MIN.saturating_add(4)
}

fn year() -> NonZeroU64 {
    YEAR_SECS
}

fn default_max_upload_mb() -> NonZeroU64 {
    positive(4096)
}
