//! Prices from a server that is asked.

use std::{
    num::NonZeroUsize,
    sync::{Mutex, PoisonError},
};

use lru::LruCache;
use reqwest::{Client, redirect::Policy};
use serde::{Deserialize, Serialize};

use super::Purchase;
use crate::config::{MAX_PRICE_SAT, PricerConfig};

/// The longest answer.
const MAX_ANSWER_BYTES: usize = 65_536;

/// How many prices are remembered for when the server is away.
const MAX_REMEMBERED: NonZeroUsize = match NonZeroUsize::new(4_096) {
    Some(max) => max,
    None => NonZeroUsize::MIN,
};

/// A server that says prices.
pub(super) struct Pricer {
    service: String,
    config: PricerConfig,
    http: Client,
    last: Mutex<LruCache<Purchase, u64>>,
}

/// Why there is no price. Says nothing of the URL, in which a key may stand.
#[derive(Debug, thiserror::Error)]
pub enum PriceError {
    /// The server cannot be asked.
    #[error("the pricer cannot be asked: {0}")]
    Unavailable(reqwest::Error),
    /// It said something else.
    #[error("the pricer answered with status {0}")]
    Status(u16),
    /// Its answer is no price.
    #[error("the pricer's answer is no price")]
    Malformed,
}

/// What is asked (docs/API.md, The pricer).
#[derive(Serialize)]
struct Question<'a> {
    service: &'a str,
    path: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    size_mib: Option<u64>,
}

#[derive(Deserialize)]
struct Said {
    price_sat: u64,
}

impl Pricer {
    /// A pricer of this service.
    pub(super) fn new(service: &str, config: PricerConfig) -> Result<Self, PriceError> {
        // What it is told must reach nobody else.
        let http = Client::builder()
            .no_proxy()
            .redirect(Policy::none())
            .connect_timeout(config.timeout)
            .timeout(config.timeout)
            .build()
            .map_err(PriceError::Unavailable)?;
        Ok(Self { service: service.to_owned(), config, http, last: Mutex::new(LruCache::new(MAX_REMEMBERED)) })
    }

    /// Whether it is that of this service, asked in this way.
    pub(super) fn is_of(&self, service: &str, config: &PricerConfig) -> bool {
        self.service == service && self.config == *config
    }

    /// The price of a purchase, in satoshi: what the server says, or said last where that goes on.
    pub(super) async fn price(&self, purchase: &Purchase) -> Result<u64, PriceError> {
        let said = self.ask(purchase).await;
        if !self.config.last_as_fallback {
            return said;
        }
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        match said {
            Ok(price_sat) => {
                last.put(purchase.clone(), price_sat);
                Ok(price_sat)
            }
            Err(error) => match last.get(purchase) {
                Some(&price_sat) => {
                    tracing::warn!(%error, service = self.service, "no price: the last one goes on");
                    Ok(price_sat)
                }
                None => Err(error),
            },
        }
    }

    async fn ask(&self, purchase: &Purchase) -> Result<u64, PriceError> {
        let path = purchase.path.as_deref().unwrap_or_default();
        let size_mib = purchase.max_mib.filter(|_| self.config.by_size);
        let question = Question { service: &self.service, path, size_mib };
        let unavailable = |error: reqwest::Error| PriceError::Unavailable(error.without_url());
        let mut answer = self.http.post(self.config.url.expose()).json(&question).send().await.map_err(unavailable)?;
        if answer.status() != reqwest::StatusCode::OK {
            return Err(PriceError::Status(answer.status().as_u16()));
        }
        let mut body = Vec::new();
        while let Some(piece) = answer.chunk().await.map_err(unavailable)? {
            if body.len() + piece.len() > MAX_ANSWER_BYTES {
                return Err(PriceError::Malformed);
            }
            body.extend_from_slice(&piece);
        }
        let said: Said = serde_json::from_slice(&body).map_err(|_| PriceError::Malformed)?;
        if said.price_sat > MAX_PRICE_SAT { Err(PriceError::Malformed) } else { Ok(said.price_sat) }
    }
}

#[cfg(test)]
mod tests {
    use std::{
        sync::{Arc, Mutex},
        time::Duration,
    };

    use axum::{Json, Router, extract::State, routing::post};
    use http::StatusCode;
    use serde_json::{Value, json};
    use sluice_common::secret::Secret;

    use super::*;

    type Answers = Arc<Mutex<Vec<(StatusCode, String)>>>;
    type Asked = Arc<Mutex<Vec<Value>>>;

    /// A server that gives these answers, the last first, then none, and notes what it is asked.
    async fn pricer(answers: &[(u16, &str)], last_as_fallback: bool) -> (Pricer, Asked) {
        let answers: Vec<_> =
            answers.iter().map(|(status, body)| (StatusCode::from_u16(*status).unwrap(), (*body).to_owned())).collect();
        let state: (Answers, Asked) = (Arc::new(Mutex::new(answers)), Asked::default());
        let asked = state.1.clone();
        async fn answer(
            State((answers, asked)): State<(Answers, Asked)>,
            Json(question): Json<Value>,
        ) -> (StatusCode, String) {
            asked.lock().unwrap().push(question);
            let next = answers.lock().unwrap().pop();
            match next {
                Some(answer) => answer,
                None => std::future::pending().await,
            }
        }
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/price?key=hunter2", listener.local_addr().unwrap());
        let router = Router::new().route("/price", post(answer)).with_state(state);
        tokio::spawn(async move { axum::serve(listener, router).await });
        let timeout = Duration::from_millis(500);
        let config = PricerConfig { url: Secret::new(url), timeout, by_size: true, last_as_fallback };
        (Pricer::new("media", config).unwrap(), asked)
    }

    fn purchase(path: &str, max_mib: u64) -> Purchase {
        Purchase { max_mib: Some(max_mib), path: Some(path.to_owned()) }
    }

    #[tokio::test]
    async fn asks_for_a_path_and_a_size() {
        let (pricer, asked) = pricer(&[(200, r#"{"price_sat":21,"more":1}"#)], false).await;
        assert_eq!(pricer.price(&purchase("/a/b", 7)).await.unwrap(), 21);
        assert_eq!(*asked.lock().unwrap(), [json!({"service": "media", "path": "/a/b", "size_mib": 7})]);
        let error = pricer.price(&purchase("/a/b", 7)).await.unwrap_err();
        assert!(matches!(&error, PriceError::Unavailable(cause) if cause.is_timeout()), "{error}");
        assert!(!format!("{error} {error:?}").contains("hunter2"));
    }

    #[tokio::test]
    async fn takes_nothing_else_for_a_price() {
        let long = format!("{{\"price_sat\":1{}}}", " ".repeat(MAX_ANSWER_BYTES));
        let bad = ["", "21", r#"{"price_sat":-1}"#, r#"{"price_sat":1.5}"#, r#"{"price_sat":2100000000000001}"#, &long];
        for body in bad {
            let (pricer, _) = pricer(&[(200, body)], false).await;
            assert!(matches!(pricer.price(&purchase("/", 1)).await, Err(PriceError::Malformed)), "{body:.30}");
        }
        let (pricer, _) = pricer(&[(201, r#"{"price_sat":1}"#)], false).await;
        assert!(matches!(pricer.price(&purchase("/", 1)).await, Err(PriceError::Status(201))));
    }

    #[tokio::test]
    async fn the_last_price_of_the_same_goes_on_where_that_is_configured() {
        let (pricer, _) = pricer(&[(500, ""), (500, ""), (200, r#"{"price_sat":0}"#)], true).await;
        assert_eq!(pricer.price(&purchase("/a", 1)).await.unwrap(), 0);
        assert_eq!(pricer.price(&purchase("/a", 1)).await.unwrap(), 0);
        assert!(pricer.price(&purchase("/a", 2)).await.is_err(), "another size");
        assert_eq!(pricer.price(&purchase("/a", 1)).await.unwrap(), 0, "no answer at all");
        assert!(pricer.price(&purchase("/b", 1)).await.is_err(), "another path");
    }
}
