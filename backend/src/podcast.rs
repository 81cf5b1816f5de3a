//! Asks the Podcast Index for the latest episode of a feed (<https://podcastindex-org.github.io/docs-api/>).

use std::time::Duration;

use http::{HeaderValue, StatusCode, header::AUTHORIZATION};
use reqwest::{Client, Response, redirect};
use ring::digest::{SHA1_FOR_LEGACY_USE_ONLY, digest};
use serde::Deserialize;
use serde_json::{Map, Value};
use sluice_common::secret::Secret;
use time::OffsetDateTime;
use tokio::sync::{OnceCell, Semaphore};

use crate::config::PodcastIndexConfig;

/// How long the Podcast Index may take to answer.
const TIMEOUT: Duration = Duration::from_secs(10);

/// The longest answer that is read: one episode with its description.
const MAX_ANSWER_BYTES: usize = 1024 * 1024;

/// The longest feed address that is passed on.
const MAX_FEED_URL_BYTES: usize = 2_048;

/// Of requests at once: anybody may ask.
const MAX_AT_ONCE: usize = 16;

const USER_AGENT: &str = concat!("Sluice/", env!("CARGO_PKG_VERSION"));

/// Why there is no episode.
#[derive(Debug, thiserror::Error)]
pub enum PodcastError {
    /// The server has no key of the Podcast Index.
    #[error("this server looks up no podcasts")]
    NotConfigured,
    /// No address of a feed.
    #[error("`url` must be the http or https address of a feed, of at most {MAX_FEED_URL_BYTES} bytes")]
    InvalidUrl,
    /// The Podcast Index knows no such feed, or no episode of it.
    #[error("the Podcast Index knows no episode of this feed")]
    NoEpisode,
    /// Too many requests are under way.
    #[error("too many podcasts are being looked up; come again")]
    Busy,
    /// The Podcast Index cannot be reached, or is too slow.
    #[error("the Podcast Index cannot be asked: {0}")]
    Unreachable(#[from] reqwest::Error),
    /// It refused.
    #[error("the Podcast Index answered {0}")]
    Refused(StatusCode),
    /// Its answer is none that is known.
    #[error("the answer of the Podcast Index cannot be read: {0}")]
    Answer(#[from] serde_json::Error),
    /// Its answer is too long.
    #[error("the answer of the Podcast Index is longer than {MAX_ANSWER_BYTES} bytes")]
    AnswerTooLong,
}

/// A client of the Podcast Index.
pub struct PodcastIndex {
    config: Option<PodcastIndexConfig>,
    /// Made when it is first needed: it reads the system's certificates.
    client: OnceCell<Client>,
    turns: Semaphore,
}

/// An episode, as the Podcast Index describes it.
pub type Episode = Map<String, Value>;

#[derive(Deserialize)]
struct Episodes {
    #[serde(default)]
    items: Vec<Episode>,
}

impl PodcastIndex {
    /// A client with this key; without one it only says so.
    pub fn new(config: Option<PodcastIndexConfig>) -> Self {
        Self { config, client: OnceCell::new(), turns: Semaphore::new(MAX_AT_ONCE) }
    }

    /// The episode of the feed at `feed_url` that came last. The address is only ever sent to the Podcast Index, never
    /// followed.
    pub async fn latest_episode(&self, feed_url: &str) -> Result<Episode, PodcastError> {
        let config = self.config.as_ref().ok_or(PodcastError::NotConfigured)?;
        let is_web = ["http://", "https://"]
            .iter()
            .any(|scheme| feed_url.get(..scheme.len()).is_some_and(|start| start.eq_ignore_ascii_case(scheme)));
        if !is_web || feed_url.len() > MAX_FEED_URL_BYTES {
            return Err(PodcastError::InvalidUrl);
        }
        let _turn = self.turns.try_acquire().map_err(|_| PodcastError::Busy)?;
        let client = self.client.get_or_try_init(async || client()).await?;
        let now = OffsetDateTime::now_utc().unix_timestamp().to_string();
        let answer = client
            .get(format!("{}/episodes/byfeedurl", config.base_url.trim_end_matches('/')))
            .query(&[("url", feed_url), ("max", "1")])
            .header("X-Auth-Key", &config.key)
            .header("X-Auth-Date", &now)
            .header(AUTHORIZATION, authorization(&config.key, &config.secret, &now))
            .send()
            .await
            .map_err(reqwest::Error::without_url)?;
        match answer.status() {
            StatusCode::OK => {}
            // A feed that it does not know: 400 with `"status": "false"`.
            StatusCode::BAD_REQUEST | StatusCode::NOT_FOUND => return Err(PodcastError::NoEpisode),
            status => return Err(PodcastError::Refused(status)),
        }
        let Episodes { items } = serde_json::from_slice(&read(answer).await?)?;
        let published = |episode: &Episode| episode.get("datePublished").and_then(Value::as_i64);
        items.into_iter().max_by_key(published).ok_or(PodcastError::NoEpisode)
    }
}

fn client() -> Result<Client, reqwest::Error> {
    // No redirect: it could lead anywhere, and take the key along.
    Client::builder().user_agent(USER_AGENT).timeout(TIMEOUT).redirect(redirect::Policy::none()).build()
}

fn authorization(key: &str, secret: &Secret<String>, now: &str) -> HeaderValue {
    let signed = Secret::new([key, secret.expose(), now].concat());
    let hash = hex::encode(digest(&SHA1_FOR_LEGACY_USE_ONLY, signed.expose().as_bytes()));
    // Hexadecimal digits always make a header.
    let mut value = HeaderValue::try_from(hash).unwrap_or(HeaderValue::from_static(""));
    value.set_sensitive(true);
    value
}

async fn read(mut answer: Response) -> Result<Vec<u8>, PodcastError> {
    let mut bytes = Vec::new();
    while let Some(piece) = answer.chunk().await.map_err(reqwest::Error::without_url)? {
        if bytes.len() + piece.len() > MAX_ANSWER_BYTES {
            return Err(PodcastError::AnswerTooLong);
        }
        bytes.extend_from_slice(&piece);
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn signs_as_the_podcast_index_wants_it() {
        // printf 'KEYSECRET1700000000' | sha1sum
        let value = authorization("KEY", &Secret::new("SECRET".to_owned()), "1700000000");
        assert_eq!(value, "5f8983664e541a83aaae7f3a47f1957fbca48aec");
        assert!(!format!("{value:?}").contains("5f8983664e541a83aaae7f3a47f1957fbca48aec"));
    }
}
