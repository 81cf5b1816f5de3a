//! `GET /v1/stats`: what was paid, by day and service.

use std::sync::Arc;

use axum::{Json, extract::State};
use serde::{Deserialize, Serialize};
use sluice_common::clock::unix_now;
use utoipa::{IntoParams, ToSchema};

use super::{
    Api, ApiError,
    error::{BadQuery, Common},
    params::{Params, written},
};
use crate::ledger::{DaySum, Sum};

const DAY_SECS: u64 = 86_400;

/// How many days there are, if it is not said, and at most.
const DAYS: u64 = 30;
const MAX_DAYS: u64 = 366;

/// What was paid in a period.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
pub struct Stats {
    /// Where it begins.
    pub from: String,
    /// Where it ends: the first moment that is not in it.
    pub before: String,
    /// By day (UTC), network and service; days without payments are left out.
    pub days: Vec<DayJson>,
    /// All days together. No sum is of two networks.
    pub sums: Vec<SumJson>,
}

/// What a service was paid on a network on one day.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
pub struct DayJson {
    /// As 2026-01-31.
    pub day: String,
    /// What was paid on it.
    #[serde(flatten)]
    pub sum: SumJson,
}

/// What a service was paid on a network.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
pub struct SumJson {
    /// The network.
    pub network: String,
    /// The service.
    pub service: String,
    /// How many payments.
    pub payments: u64,
    /// How many of them have no amount, for no node has said it.
    pub without_amount: u64,
    /// The amounts of all others, in millisatoshi.
    pub amount_msat: u64,
}

#[derive(IntoParams)]
#[into_params(parameter_in = Query)]
#[expect(dead_code, reason = "its fields are only described")]
struct StatsParams {
    /// Of this service alone.
    service: Option<String>,
    /// On this network alone.
    network: Option<String>,
    /// From this time on, RFC 3339; 30 days before the end, if it is not said. At most 366 days.
    from: Option<String>,
    /// Before this time, RFC 3339; now, if it is not said.
    before: Option<String>,
}

/// What was paid, by day and service.
#[utoipa::path(
    get,
    path = "/v1/stats",
    params(StatsParams),
    responses((status = 200, body = Stats), BadQuery, Common),
    security(("token" = []))
)]
pub(super) async fn get(State(api): State<Arc<Api>>, params: Params) -> Result<Json<Stats>, ApiError> {
    params.only(&["service", "network", "from", "before"])?;
    let mut filter = params.filter()?;
    let before = filter.before.unwrap_or(unix_now() + 1);
    let from = filter.from.unwrap_or((before.saturating_sub(DAYS * DAY_SECS)).div_ceil(DAY_SECS) * DAY_SECS);
    if from >= before || before - from > MAX_DAYS * DAY_SECS {
        return Err(ApiError::InvalidQuery(format!("`from` must be before `before`, by at most {MAX_DAYS} days")));
    }
    (filter.from, filter.before) = (Some(from), Some(before));
    let (days, sums) = (api.ledger.days(&filter).await?, api.ledger.sums(&filter).await?);
    Ok(Json(Stats {
        from: written(from),
        before: written(before),
        days: days.iter().map(DayJson::from).collect(),
        sums: sums.iter().map(SumJson::from).collect(),
    }))
}

impl From<&DaySum> for DayJson {
    fn from(DaySum { day, sum }: &DaySum) -> Self {
        let day = written(day * DAY_SECS).split('T').next().unwrap_or_default().to_owned();
        Self { day, sum: sum.into() }
    }
}

impl From<&Sum> for SumJson {
    fn from(sum: &Sum) -> Self {
        Self {
            network: sum.network.to_string(),
            service: sum.service.clone(),
            payments: sum.payments,
            without_amount: sum.without_amount,
            amount_msat: sum.amount_msat,
        }
    }
}
