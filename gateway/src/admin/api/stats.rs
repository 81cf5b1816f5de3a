//! `GET /v1/stats`: what was paid and what that bought, by day and service.

use std::{collections::BTreeMap, ops::AddAssign, sync::Arc};

use axum::{Json, extract::State};
use serde::{Deserialize, Serialize};
use sluice_common::{clock::unix_now, network::Network};
use utoipa::{IntoParams, ToSchema};

use super::{
    Api, ApiError, BoughtJson,
    error::{BadQuery, Common},
    params::{Params, written},
};
use crate::ledger::{Bought, BoughtOn, DaySum, Sum};

const DAY_SECS: u64 = 86_400;

/// How many days there are, if it is not said, and at most.
const DAYS: u64 = 30;
const MAX_DAYS: u64 = 366;

/// What was paid, and bought, in a period.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
pub struct Stats {
    /// Where it begins.
    pub from: String,
    /// Where it ends: the first moment that is not in it.
    pub before: String,
    /// By day (UTC), network and service; days without any are left out.
    pub days: Vec<DayJson>,
    /// All days together. No sum is of two networks.
    pub sums: Vec<SumJson>,
}

/// What a service was paid, and gave, on a network on one day.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
pub struct DayJson {
    /// As 2026-01-31.
    pub day: String,
    /// What was paid and bought on it.
    #[serde(flatten)]
    pub sum: SumJson,
}

/// What a service was paid on a network, and what it gave for payments of whenever.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
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
    /// What was bought.
    #[serde(flatten)]
    pub bought: BoughtJson,
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

/// What was paid and what was bought, by day and service.
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
    let (mut days, mut sums) = (BTreeMap::new(), BTreeMap::new());
    for DaySum { day, sum } in api.ledger.days(&filter).await? {
        days.insert((day, place(sum.network, &sum.service)), SumJson::from(&sum));
    }
    for sum in api.ledger.sums(&filter).await? {
        sums.insert(place(sum.network, &sum.service), SumJson::from(&sum));
    }
    for BoughtOn { day, network, service, bought } in api.ledger.bought(&filter).await? {
        let place = place(network, &service);
        let nothing = || SumJson::nothing(network, &service);
        *days.entry((day, place.clone())).or_insert_with(nothing) += bought;
        *sums.entry(place).or_insert_with(nothing) += bought;
    }
    Ok(Json(Stats {
        from: written(from),
        before: written(before),
        days: days.into_iter().map(|((day, _), sum)| DayJson { day: date(day), sum }).collect(),
        sums: sums.into_values().collect(),
    }))
}

/// Where a sum stands among others.
fn place(network: Network, service: &str) -> (&'static str, String) {
    (network.name(), service.to_owned())
}

fn date(day: u64) -> String {
    written(day * DAY_SECS).split('T').next().unwrap_or_default().to_owned()
}

impl SumJson {
    fn nothing(network: Network, service: &str) -> Self {
        Self {
            network: network.to_string(),
            service: service.to_owned(),
            payments: 0,
            without_amount: 0,
            amount_msat: 0,
            bought: BoughtJson::default(),
        }
    }
}

impl AddAssign<Bought> for SumJson {
    fn add_assign(&mut self, more: Bought) {
        let BoughtJson { uses, bytes, refused, given_back } = self.bought;
        let mut all = Bought { uses, bytes, refused, given_back };
        all += more;
        self.bought = all.into();
    }
}

impl From<&Sum> for SumJson {
    fn from(sum: &Sum) -> Self {
        let (payments, without_amount, amount_msat) = (sum.payments, sum.without_amount, sum.amount_msat);
        Self { payments, without_amount, amount_msat, ..Self::nothing(sum.network, &sum.service) }
    }
}
