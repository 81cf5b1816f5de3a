//! The server's answers, as far as the client looks at them.

use serde::Deserialize;
use serde_json::Value;
use sluice_common::muid::Muid;

/// A file as its owner sees it.
#[derive(Debug, Clone, PartialEq)]
pub struct Media {
    /// The file.
    pub muid: Muid,
    /// Whether anybody may download it.
    pub public: bool,
    /// All that the server says of it.
    pub json: Value,
}

/// What is left of a token.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct TokenStatus {
    /// Whether an upload would be taken now.
    pub can_store: bool,
    /// Why not.
    pub reason: Option<String>,
    /// The largest file.
    pub max_upload_bytes: u64,
}

/// The price as the server says it beside the invoice.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct Price {
    /// In satoshi.
    pub price_sat: Option<u64>,
}

impl<'de> Deserialize<'de> for Media {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        struct Members {
            muid: Muid,
            #[serde(default)]
            public: bool,
        }
        let json = Value::deserialize(deserializer)?;
        let members = Members::deserialize(&json).map_err(serde::de::Error::custom)?;
        Ok(Self { muid: members.muid, public: members.public, json })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn media_keep_all_that_the_server_says() {
        let muid = Muid::from_bytes([1; 32]);
        let json = serde_json::json!({"muid": muid, "public": true, "x": [1]});
        let media: Media = serde_json::from_value(json.clone()).unwrap();
        assert_eq!((media.muid, media.public, &media.json), (muid, true, &json));
        assert!(serde_json::from_str::<Media>(r#"{"muid":"x"}"#).is_err());
    }
}
