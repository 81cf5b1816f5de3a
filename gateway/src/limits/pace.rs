//! How slowly a body may come.

use std::time::{Duration, Instant};

/// What comes in pieces of this size does not come slowly: who was not listened to for a while has as much ready.
const LARGE_PIECE_BYTES: u64 = 16 * 1_024;

/// How slow a client may be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SlowClients {
    /// How long a request's head may take.
    pub head_timeout: Duration,
    /// How long a connection is kept that waits for its next request; in whole seconds.
    pub keepalive: Duration,
    /// How long no byte of a body may come.
    pub body_timeout: Duration,
    /// The fewest bytes of a body in a second, on the average over `body_timeout`; 0: any.
    pub min_body_rate: u64,
}

impl Default for SlowClients {
    /// As slow as the worst of mobile networks.
    fn default() -> Self {
        let secs = Duration::from_secs;
        Self { head_timeout: secs(30), keepalive: secs(60), body_timeout: secs(60), min_body_rate: 256 }
    }
}

/// How fast a body comes. Counted is the time between pieces, but for those that are large: then it was not the client
/// that was waited for.
#[derive(Debug)]
pub(crate) struct Pace {
    last: Instant,
    waited: Duration,
    bytes: u64,
}

impl Pace {
    pub(crate) fn new(now: Instant) -> Self {
        Self { last: now, waited: Duration::ZERO, bytes: 0 }
    }

    /// Whether a body of which `bytes` more came is still fast enough.
    pub(crate) fn is_kept(&mut self, bytes: u64, now: Instant, slow: &SlowClients) -> bool {
        let gap = now.saturating_duration_since(self.last);
        self.last = now;
        self.bytes += bytes;
        if bytes < LARGE_PIECE_BYTES {
            self.waited += gap;
        }
        if self.waited < slow.body_timeout {
            return true;
        }
        let least = self.waited.as_secs_f64() * slow.min_body_rate as f64;
        let is_kept = self.bytes as f64 >= least;
        *self = Self::new(now);
        is_kept
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// After how many pieces of `bytes` each, with `gap` between them, a body is too slow; none: it is not in a day.
    fn refused_after(bytes: u64, gap: Duration) -> Option<u32> {
        let (start, slow) = (Instant::now(), SlowClients::default());
        let mut pace = Pace::new(start);
        let mut pieces = 1..=u32::try_from(86_400_000 / gap.as_millis()).unwrap();
        pieces.find(|number| !pace.is_kept(bytes, start + gap * *number, &slow))
    }

    #[test]
    fn a_drip_is_refused_and_a_slow_upload_of_hours_is_not() {
        let secs = Duration::from_secs;
        assert_eq!(refused_after(1, secs(30)), Some(2));
        assert_eq!(refused_after(1, Duration::from_millis(100)), Some(600), "however many pieces there are");
        assert_eq!(refused_after(255, secs(1)), Some(60));
        assert_eq!(refused_after(256, secs(1)), None);
        assert_eq!(refused_after(15_000, secs(50)), None, "on the average");
        assert_eq!(refused_after(15_000, secs(59)), Some(2));
    }

    #[test]
    fn who_was_not_listened_to_is_not_slow() {
        let (start, slow) = (Instant::now(), SlowClients::default());
        let mut pace = Pace::new(start);
        let hour = start + Duration::from_secs(3_600);
        assert!(pace.is_kept(LARGE_PIECE_BYTES, hour, &slow));
        assert!(pace.is_kept(1, hour + Duration::from_secs(59), &slow));
        let any = SlowClients { min_body_rate: 0, ..slow };
        assert!(pace.is_kept(1, hour + Duration::from_secs(3_600), &any));
    }
}
