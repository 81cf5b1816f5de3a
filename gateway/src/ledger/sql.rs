//! What both databases are asked, in the words that both understand.

use sluice_common::{
    keys::KeyUse,
    l402::{PaymentHash, TokenId},
    network::Network,
};
use sqlx::{ColumnIndex, Decode, FromRow, Row, Type};

use super::{Bought, BoughtOn, DaySum, Filter, Payment, Settled, Sum};
use crate::db::to_i64;

pub(super) const BOOK_SETTLEMENT: &str =
    "INSERT INTO payment (payment_hash, service, network, token_id, amount_msat, settled_at, node)
     VALUES ($1, $2, $3, $4, $5, $6, $7)
     ON CONFLICT (payment_hash) DO UPDATE
     SET service = excluded.service, network = excluded.network, token_id = excluded.token_id,
         amount_msat = excluded.amount_msat, settled_at = excluded.settled_at, node = excluded.node
     WHERE payment.settled_at IS NULL";

pub(super) const BOOK_INDEX: &str = "INSERT INTO settle_index (node, last_index) VALUES ($1, $2)
     ON CONFLICT (node) DO UPDATE SET last_index = excluded.last_index
     WHERE settle_index.last_index < excluded.last_index";

pub(super) const BOOK_USE: &str = "INSERT INTO payment (payment_hash, service, network, token_id, first_used_at)
     VALUES ($1, $2, $3, $4, $5)
     ON CONFLICT (payment_hash) DO UPDATE SET first_used_at = excluded.first_used_at
     WHERE payment.first_used_at IS NULL OR payment.first_used_at > excluded.first_used_at";

pub(super) const LAST_INDEX: &str = "SELECT last_index FROM settle_index WHERE node = $1";

pub(super) const FORGET_INDEX: &str = "DELETE FROM settle_index WHERE node = $1";

pub(super) const IS_SETTLED: &str =
    "SELECT EXISTS (SELECT 1 FROM payment WHERE payment_hash = $1 AND settled_at IS NOT NULL)";

pub(super) const IS_TOKEN_SETTLED: &str =
    "SELECT EXISTS (SELECT 1 FROM payment WHERE payment_hash = $1 AND token_id = $2
     AND service = $3 AND network = $4 AND settled_at IS NOT NULL)";

/// The begin of what asks for payments.
macro_rules! payments {
    () => {
        "SELECT payment_hash, service, network, token_id, amount_msat, settled_at, first_used_at, node,
           (SELECT CAST(coalesce(sum(uses), 0) AS BIGINT) FROM bought WHERE bought.payment_hash = payment.payment_hash) AS uses,
           (SELECT CAST(coalesce(sum(bytes), 0) AS BIGINT) FROM bought WHERE bought.payment_hash = payment.payment_hash) AS bytes,
           (SELECT CAST(coalesce(sum(refused), 0) AS BIGINT) FROM bought WHERE bought.payment_hash = payment.payment_hash) AS refused,
           (SELECT CAST(coalesce(sum(given_back), 0) AS BIGINT) FROM bought WHERE bought.payment_hash = payment.payment_hash) AS given_back
         FROM payment "
    };
}

pub(super) const PAYMENT: &str = concat!(payments!(), "WHERE payment_hash = $1");

pub(super) const DAYS: &str =
    "SELECT coalesce(settled_at, first_used_at) / 86400 AS day, network, service, count(*) AS payments,
       count(*) - count(amount_msat) AS without_amount, CAST(coalesce(sum(amount_msat), 0) AS BIGINT) AS amount_msat
     FROM payment
     WHERE coalesce(settled_at, first_used_at) >= $1 AND coalesce(settled_at, first_used_at) < $2
       AND ($3 IS NULL OR service = $3) AND ($4 IS NULL OR network = $4)
     GROUP BY day, network, service ORDER BY day, network, service";

pub(super) const KEYS_IN_USE: &str = "SELECT name, fingerprint FROM gateway_key_use ORDER BY name, fingerprint";

pub(super) const NOTE_KEY: &str =
    "INSERT INTO gateway_key_use (name, fingerprint) VALUES ($1, $2) ON CONFLICT DO NOTHING";

pub(super) const FORGET_KEY: &str = "DELETE FROM gateway_key_use WHERE name = $1 AND fingerprint = $2";

/// A row of [`KEYS_IN_USE`].
pub(super) fn key_use((name, fingerprint): (String, String)) -> KeyUse {
    KeyUse { name, fingerprint }
}

pub(super) const PAYMENTS: &str = concat!(
    payments!(),
    "WHERE coalesce(settled_at, first_used_at) >= $1 AND coalesce(settled_at, first_used_at) < $2
       AND ($3 IS NULL OR service = $3) AND ($4 IS NULL OR network = $4)
       AND (coalesce(settled_at, first_used_at), payment_hash) > ($5, $6)
     ORDER BY coalesce(settled_at, first_used_at), payment_hash LIMIT $7"
);

pub(super) const BOOK_BOUGHT: &str =
    "INSERT INTO bought (payment_hash, service, network, day, uses, bytes, refused, given_back)
     VALUES ($1, $2, $3, $4, $5, $6, $7, $8)
     ON CONFLICT (payment_hash, service, network, day) DO UPDATE
     SET uses = bought.uses + excluded.uses, bytes = bought.bytes + excluded.bytes,
         refused = bought.refused + excluded.refused, given_back = bought.given_back + excluded.given_back";

/// Parameters: the first second, the second after the last, service, network.
pub(super) const BOUGHT: &str = "SELECT day, network, service,
       CAST(sum(uses) AS BIGINT) AS uses, CAST(sum(bytes) AS BIGINT) AS bytes,
       CAST(sum(refused) AS BIGINT) AS refused, CAST(sum(given_back) AS BIGINT) AS given_back
     FROM bought
     WHERE day >= $1 / 86400 AND day <= ($2 - 1) / 86400
       AND ($3 IS NULL OR service = $3) AND ($4 IS NULL OR network = $4)
     GROUP BY day, network, service ORDER BY day, network, service";

pub(super) const SUMS: &str =
    "SELECT network, service, count(*) AS payments, count(*) - count(amount_msat) AS without_amount,
       CAST(coalesce(sum(amount_msat), 0) AS BIGINT) AS amount_msat
     FROM payment
     WHERE coalesce(settled_at, first_used_at) >= $1 AND coalesce(settled_at, first_used_at) < $2
       AND ($3 IS NULL OR service = $3) AND ($4 IS NULL OR network = $4)
     GROUP BY network, service ORDER BY network, service";

/// A [`Filter`] as the statements take it.
pub(super) struct Bounds<'a> {
    pub from: i64,
    pub before: i64,
    pub service: Option<&'a str>,
    pub network: Option<&'static str>,
}

impl<'a> From<&'a Filter> for Bounds<'a> {
    fn from(filter: &'a Filter) -> Self {
        Self {
            from: to_i64(filter.from.unwrap_or(0)),
            before: to_i64(filter.before.unwrap_or(u64::MAX)),
            service: filter.service.as_deref(),
            network: filter.network.map(Network::name),
        }
    }
}

/// The place of a payment in the list: what comes after it is greater. Everything comes after none.
pub(super) fn place(payment: Option<&Payment>) -> (i64, &[u8]) {
    payment.map_or((-1, &[]), |payment| (to_i64(payment.time()), payment.payment_hash.as_bytes()))
}

impl<'r, R> FromRow<'r, R> for Payment
where
    R: Row,
    &'static str: ColumnIndex<R>,
    Vec<u8>: Decode<'r, R::Database> + Type<R::Database>,
    String: Decode<'r, R::Database> + Type<R::Database>,
    i64: Decode<'r, R::Database> + Type<R::Database>,
{
    fn from_row(row: &'r R) -> Result<Self, sqlx::Error> {
        let bytes32 = |column: &'static str| -> Result<[u8; 32], sqlx::Error> {
            let bytes: Vec<u8> = row.try_get(column)?;
            bytes
                .try_into()
                .map_err(|_| sqlx::Error::ColumnDecode { index: column.to_owned(), source: "not 32 bytes".into() })
        };
        let number = |column: &'static str| -> Result<Option<u64>, sqlx::Error> {
            Ok(row.try_get::<Option<i64>, _>(column)?.map(i64::cast_unsigned))
        };
        let settled = match (number("amount_msat")?, number("settled_at")?, row.try_get("node")?) {
            (Some(amount_msat), Some(at), Some(node)) => Some(Settled { amount_msat, at, node }),
            _ => None,
        };
        Ok(Self {
            payment_hash: PaymentHash::from_bytes(bytes32("payment_hash")?),
            service: row.try_get("service")?,
            network: network(row)?,
            token_id: TokenId::from_bytes(bytes32("token_id")?),
            settled,
            first_used_at: number("first_used_at")?,
            bought: bought(row)?,
        })
    }
}

fn bought<'r, R>(row: &'r R) -> Result<Bought, sqlx::Error>
where
    R: Row,
    &'static str: ColumnIndex<R>,
    i64: Decode<'r, R::Database> + Type<R::Database>,
{
    let number = |column: &'static str| row.try_get(column).map(i64::cast_unsigned);
    Ok(Bought {
        uses: number("uses")?,
        bytes: number("bytes")?,
        refused: number("refused")?,
        given_back: number("given_back")?,
    })
}

impl<'r, R> FromRow<'r, R> for BoughtOn
where
    R: Row,
    &'static str: ColumnIndex<R>,
    String: Decode<'r, R::Database> + Type<R::Database>,
    i64: Decode<'r, R::Database> + Type<R::Database>,
{
    fn from_row(row: &'r R) -> Result<Self, sqlx::Error> {
        Ok(Self {
            day: row.try_get::<i64, _>("day")?.cast_unsigned(),
            network: network(row)?,
            service: row.try_get("service")?,
            bought: bought(row)?,
        })
    }
}

fn network<'r, R>(row: &'r R) -> Result<Network, sqlx::Error>
where
    R: Row,
    &'static str: ColumnIndex<R>,
    String: Decode<'r, R::Database> + Type<R::Database>,
{
    let name: String = row.try_get("network")?;
    name.parse().map_err(|error| sqlx::Error::ColumnDecode { index: "network".to_owned(), source: Box::new(error) })
}

impl<'r, R> FromRow<'r, R> for Sum
where
    R: Row,
    &'static str: ColumnIndex<R>,
    String: Decode<'r, R::Database> + Type<R::Database>,
    i64: Decode<'r, R::Database> + Type<R::Database>,
{
    fn from_row(row: &'r R) -> Result<Self, sqlx::Error> {
        let number = |column: &'static str| row.try_get(column).map(i64::cast_unsigned);
        Ok(Self {
            network: network(row)?,
            service: row.try_get("service")?,
            payments: number("payments")?,
            without_amount: number("without_amount")?,
            amount_msat: number("amount_msat")?,
        })
    }
}

impl<'r, R> FromRow<'r, R> for DaySum
where
    R: Row,
    &'static str: ColumnIndex<R>,
    String: Decode<'r, R::Database> + Type<R::Database>,
    i64: Decode<'r, R::Database> + Type<R::Database>,
{
    fn from_row(row: &'r R) -> Result<Self, sqlx::Error> {
        Ok(Self { day: row.try_get::<i64, _>("day")?.cast_unsigned(), sum: Sum::from_row(row)? })
    }
}
