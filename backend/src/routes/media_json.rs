//! A file as JSON, with the names that sphinx-meme's clients know.

use serde::Serialize;
use sluice_common::muid::Muid;
use time::OffsetDateTime;
use utoipa::ToSchema;

use crate::db::{Media, Owner};

/// All that an owner may know of a file. Times are RFC 3339.
#[derive(Debug, Clone, PartialEq, Serialize, ToSchema)]
pub struct MediaJson {
    #[schema(value_type = String)]
    muid: Muid,
    #[schema(value_type = String)]
    owner_pub_key: Owner,
    name: String,
    description: String,
    price: i64,
    tags: Vec<String>,
    filename: String,
    ttl: i64,
    size: u64,
    mime: String,
    #[serde(with = "time::serde::rfc3339")]
    created: OffsetDateTime,
    #[serde(with = "time::serde::rfc3339")]
    updated: OffsetDateTime,
    #[serde(with = "time::serde::rfc3339::option")]
    expiry: Option<OffsetDateTime>,
    #[serde(skip_serializing_if = "is_zero")]
    total_sats: i64,
    #[serde(skip_serializing_if = "is_zero")]
    total_buys: i64,
    /// 0 where it was never measured.
    width: i64,
    height: i64,
    template: bool,
    public: bool,
}

/// What the caller may know of a file.
#[derive(Debug, Clone, PartialEq, Serialize, ToSchema)]
#[serde(untagged)]
pub enum KnownMediaJson {
    /// Of one's own, and of a public one.
    All(MediaJson),
    /// Of somebody else's private one.
    Strangers(StrangersMediaJson),
}

/// What anybody who is logged in may know of somebody else's private file.
#[derive(Debug, Clone, PartialEq, Serialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct StrangersMediaJson {
    #[schema(value_type = String)]
    muid: Muid,
    filename: String,
    size: u64,
    mime: String,
    width: i64,
    height: i64,
}

impl MediaJson {
    /// The same without what it earned.
    #[must_use]
    pub fn without_stats(self) -> Self {
        Self { total_sats: 0, total_buys: 0, ..self }
    }
}

impl From<Media> for MediaJson {
    fn from(media: Media) -> Self {
        Self {
            muid: media.muid,
            owner_pub_key: media.owner,
            name: media.name,
            description: media.description,
            price: media.price_sat,
            tags: media.tags,
            filename: media.filename,
            ttl: media.ttl_secs,
            size: media.size,
            mime: media.mime,
            created: media.created,
            updated: media.updated,
            expiry: media.expiry,
            total_sats: media.total_sats,
            total_buys: media.total_buys,
            width: media.width.unwrap_or(0),
            height: media.height.unwrap_or(0),
            template: media.template,
            public: media.public,
        }
    }
}

impl From<Media> for StrangersMediaJson {
    fn from(media: Media) -> Self {
        Self {
            muid: media.muid,
            filename: media.filename,
            size: media.size,
            mime: media.mime,
            width: media.width.unwrap_or(0),
            height: media.height.unwrap_or(0),
        }
    }
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde calls it with a reference")]
fn is_zero(number: &i64) -> bool {
    *number == 0
}

#[cfg(test)]
pub(super) mod tests {
    use sluice_common::lightning_message::NodeKey;
    use time::macros::datetime;

    use super::*;

    pub fn media() -> Media {
        Media {
            muid: Muid::from_bytes([7; 32]),
            owner: Owner::node(
                &NodeKey::from_hex("03ce90e4efa658177e45ed1ca48e5c2d1986d76a83043c6dae5bcbe99e08638d97").unwrap(),
            ),
            name: "Über".to_owned(),
            description: "description".to_owned(),
            price_sat: 50,
            tags: vec!["one".to_owned()],
            ttl_secs: 3_600,
            filename: "note.txt".to_owned(),
            mime: "text/plain".to_owned(),
            size: 1,
            created: datetime!(2026-11-23 08:09:50.052239 UTC),
            updated: datetime!(2026-11-23 08:09:50 UTC),
            expiry: None,
            total_sats: 0,
            total_buys: 0,
            width: None,
            height: Some(240),
            template: false,
            public: false,
        }
    }

    #[test]
    fn has_sphinx_memes_members() {
        insta::assert_snapshot!(serde_json::to_string(&MediaJson::from(media())).unwrap(), @r#"{"muid":"BwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwc=","owner_pub_key":"A86Q5O-mWBd-Re0cpI5cLRmG12qDBDxtrlvL6Z4IY42X","name":"Über","description":"description","price":50,"tags":["one"],"filename":"note.txt","ttl":3600,"size":1,"mime":"text/plain","created":"2026-11-23T08:09:50.052239Z","updated":"2026-11-23T08:09:50Z","expiry":null,"width":0,"height":240,"template":false,"public":false}"#);
    }

    #[test]
    fn stats_are_there_when_there_are_any_and_the_caller_may_know() {
        let sold = Media { total_sats: 100, total_buys: 2, expiry: Some(datetime!(2027-01-01 00:00 UTC)), ..media() };
        let json = serde_json::to_value(MediaJson::from(sold.clone())).unwrap();
        assert_eq!((&json["total_sats"], &json["total_buys"]), (&100.into(), &2.into()));
        assert_eq!(json["expiry"], "2027-01-01T00:00:00Z");
        let json = serde_json::to_value(MediaJson::from(sold).without_stats()).unwrap();
        assert!(json.get("total_sats").is_none() && json.get("total_buys").is_none());
    }

    #[test]
    fn a_stranger_learns_what_a_download_needs() {
        insta::assert_snapshot!(serde_json::to_string(&StrangersMediaJson::from(media())).unwrap(), @r#"{"muid":"BwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwc=","filename":"note.txt","size":1,"mime":"text/plain","width":0,"height":240}"#);
    }
}
