//! From when to when, as people write it.

use std::str::FromStr;

use time::{Date, Duration, OffsetDateTime, Time, format_description::well_known::Rfc3339, macros::format_description};

/// The first second of a period, in unix seconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Start(pub u64);

/// The second after the last one of a period, in unix seconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct End(pub u64);

/// The text is no day and no time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("expected a day as 2026-01-31 or a time as 2026-01-31T12:00:00Z")]
pub(super) struct InvalidDate;

impl FromStr for Start {
    type Err = InvalidDate;

    fn from_str(text: &str) -> Result<Self, InvalidDate> {
        day(text).or_else(|| time(text)).map(unix_secs).map(Self).ok_or(InvalidDate)
    }
}

impl FromStr for End {
    type Err = InvalidDate;

    fn from_str(text: &str) -> Result<Self, InvalidDate> {
        let next_day = || day(text)?.checked_add(Duration::DAY);
        next_day().or_else(|| time(text)).map(unix_secs).map(Self).ok_or(InvalidDate)
    }
}

/// When a day begins, in UTC.
fn day(text: &str) -> Option<OffsetDateTime> {
    let date = Date::parse(text, format_description!("[year]-[month]-[day]")).ok()?;
    Some(date.with_time(Time::MIDNIGHT).assume_utc())
}

fn time(text: &str) -> Option<OffsetDateTime> {
    OffsetDateTime::parse(text, &Rfc3339).ok()
}

fn unix_secs(time: OffsetDateTime) -> u64 {
    // Nothing was paid before 1970.
    u64::try_from(time.unix_timestamp()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_period_has_whole_days_or_ends_at_a_time() {
        assert_eq!(("2023-11-14".parse(), "2023-11-14".parse()), (Ok(Start(1_699_920_000)), Ok(End(1_700_006_400))));
        let time = "2023-11-14T23:13:20+01:00";
        assert_eq!((time.parse(), time.parse()), (Ok(Start(1_700_000_000)), Ok(End(1_700_000_000))));
        assert_eq!("1960-01-01".parse(), Ok(Start(0)));
        for junk in ["", "2023", "2023-02-29", "14.11.2023", "yesterday", "2023-11-14 22:13:20", "2023-11-14T22:13:20"]
        {
            assert_eq!((junk.parse::<Start>(), junk.parse::<End>()), (Err(InvalidDate), Err(InvalidDate)), "{junk}");
        }
    }
}
