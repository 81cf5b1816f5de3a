//! Durations, sizes and times as people write and read them.

use std::time::Duration;

use sluice_common::limits::BYTES_PER_MB;
use time::{OffsetDateTime, format_description::well_known::Rfc3339};

/// The text is no duration.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("expected a number and one of s, m, h, d, w, for instance 90s or 1h")]
pub struct InvalidDuration;

/// Reads `90s`, `30m`, `1h`, `7d`, `2w`. Zero is none.
pub(super) fn parse_duration(text: &str) -> Result<Duration, InvalidDuration> {
    let unit = text.chars().next_back().ok_or(InvalidDuration)?;
    let secs_per_unit = match unit {
        's' => 1,
        'm' => 60,
        'h' => 3_600,
        'd' => 86_400,
        'w' => 604_800,
        _ => return Err(InvalidDuration),
    };
    let digits = &text[..text.len() - 1];
    if !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err(InvalidDuration);
    }
    let count: u64 = digits.parse().map_err(|_| InvalidDuration)?;
    match count.checked_mul(secs_per_unit) {
        None | Some(0) => Err(InvalidDuration),
        Some(secs) => Ok(Duration::from_secs(secs)),
    }
}

/// `n` bytes in MiB (1,048,576 bytes, what settings and flags call MB), or in bytes when they are few.
pub fn size(n: u64) -> String {
    if n < BYTES_PER_MB { format!("{n} bytes") } else { format!("{:.1} MiB", n as f64 / BYTES_PER_MB as f64) }
}

/// Unix seconds as RFC 3339, or as they are when they are past all calendars.
pub(super) fn time(unix_secs: u64) -> String {
    i64::try_from(unix_secs)
        .ok()
        .and_then(|secs| OffsetDateTime::from_unix_timestamp(secs).ok())
        .and_then(|time| time.format(&Rfc3339).ok())
        .unwrap_or_else(|| unix_secs.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_a_number_and_a_unit() {
        for (text, secs) in [("90s", 90), ("30m", 1_800), ("1h", 3_600), ("7d", 604_800), ("2w", 1_209_600)] {
            assert_eq!(parse_duration(text), Ok(Duration::from_secs(secs)), "{text}");
        }
        let too_long = format!("{}w", u64::MAX);
        for junk in ["", "h", "1", "0s", "-1s", "+1s", "1.5h", "1h30m", "1 h", "1é", "½h", &too_long] {
            assert_eq!(parse_duration(junk), Err(InvalidDuration), "{junk}");
        }
    }

    #[test]
    fn sizes_and_times_are_readable() {
        assert_eq!([size(0), size(1_048_575), size(1_048_576 * 3 / 2)], ["0 bytes", "1048575 bytes", "1.5 MiB"]);
        assert_eq!(time(1_700_000_000), "2023-11-14T22:13:20Z");
        assert_eq!(time(u64::MAX), u64::MAX.to_string());
    }
}
