//! What the gateway counts, for Prometheus. One method an event; labels are closed sets and the configured names of
//! services, never a path, a client or a token. The registry is the gateway's own, not the process's.

use std::{fmt::Write, time::Duration};

use prometheus_client::{
    encoding::{EncodeLabelSet, EncodeLabelValue, LabelValueEncoder, text},
    metrics::{counter::Counter, family::Family, gauge::Gauge, histogram::Histogram},
    registry::{Registry, Unit},
};

use crate::{invoice_limits, limits::Limited, paywall::Reason};

/// The content type of [`Metrics::render`].
pub const CONTENT_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// The largest times that a check is counted under, in seconds: from 1 µs, each twice the one before.
const CHECK_SECONDS: [f64; 12] = [1e-6, 2e-6, 4e-6, 8e-6, 16e-6, 32e-6, 64e-6, 128e-6, 256e-6, 512e-6, 1e-3, 10e-3];

/// All counters of a gateway. Counting takes no time and never fails.
pub struct Metrics {
    registry: Registry,
    requests: Family<RequestLabels, Counter>,
    challenges: Family<ChallengeLabels, Counter>,
    payments: Family<ServiceLabels, Counter>,
    paid_sat: Family<ServiceLabels, Counter>,
    sold_bytes: Family<ServiceLabels, Counter>,
    uploads: Family<UploadLabels, Counter>,
    checks: Histogram,
    node_up: Gauge,
    limits: Family<LimitLabels, Counter>,
    dry_run: Family<RehearsedLabels, Counter>,
}

/// A closed set of values that a label has, by how they are written.
macro_rules! label {
    ($(#[$doc:meta])* $name:ident { $($(#[$value_doc:meta])* $value:ident = $text:literal),+ $(,)? }) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        pub enum $name {
            $($(#[$value_doc])* $value),+
        }

        impl $name {
            /// As it stands in metrics and logs.
            pub fn as_str(self) -> &'static str {
                match self {
                    $(Self::$value => $text),+
                }
            }
        }

        impl EncodeLabelValue for $name {
            fn encode(&self, encoder: &mut LabelValueEncoder) -> Result<(), std::fmt::Error> {
                encoder.write_str(self.as_str())
            }
        }
    };
}

label! {
    /// What became of a request.
    Outcome {
        /// Forwarded, and it costs nothing.
        Free = "free",
        /// Forwarded, with a token.
        Paid = "paid",
        /// Asked for payment.
        Challenged = "challenged",
        /// Answered by the gateway in another way, before it went anywhere.
        Refused = "refused",
        /// Forwarded, and it failed there, or on the way, or its client left.
        Failed = "failed",
    }
}

label! {
    /// What became of a body that was sent with a token, or refused without one.
    UploadEnd {
        /// The server behind took it (2xx).
        Committed = "committed",
        /// The server behind had stored it with the same token before (2xx): nothing was sold with it.
        Again = "again",
        /// The server behind failed (5xx), or gave no answer: nothing was stored.
        GivenBack = "given_back",
        /// Refused, here or by the server behind (4xx).
        Refused = "refused",
        /// Its client left.
        CutOff = "cut_off",
    }
}

label! {
    /// What a service in dry run would have done with a request.
    Rehearsed {
        /// Forward it with its token.
        Forward = "forward",
        /// Ask for payment.
        Challenge = "challenge",
        /// Refuse it: paying would not help.
        Refuse = "refuse",
    }
}

label! {
    /// A limit that a request ran into.
    Limit {
        /// Invoices, for all clients.
        Invoices = "invoices",
        /// Invoices, for one network of clients.
        InvoicesOfClient = "invoices_of_client",
        /// Open invoices.
        OpenInvoices = "open_invoices",
        /// The blocklist.
        Blocked = "blocked",
        /// The rate of requests.
        Rate = "rate",
        /// Uploads at once with one token.
        Uploads = "uploads",
        /// Bytes that came with a token and were not stored.
        NotStored = "not_stored",
        /// Bytes of uploads that cost nothing.
        FreeUploads = "free_uploads",
        /// Connections at once.
        Connections = "connections",
        /// Bodies at once that are read on after an early answer: this one was not.
        Drains = "drains",
        /// A head that came too slowly.
        SlowHead = "slow_head",
        /// A body that came too slowly.
        SlowBody = "slow_body",
    }
}

label! {
    /// A status by its first digit.
    StatusClass {
        /// No answer.
        None = "none",
        /// 1xx: an upgraded connection.
        Informational = "1xx",
        /// 2xx
        Success = "2xx",
        /// 3xx
        Redirect = "3xx",
        /// 4xx
        ClientError = "4xx",
        /// 5xx
        ServerError = "5xx",
    }
}

/// Of requests.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct RequestLabels {
    /// As configured; empty where no service takes the request.
    service: String,
    outcome: Outcome,
    status: StatusClass,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ChallengeLabels {
    service: String,
    reason: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ServiceLabels {
    service: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct UploadLabels {
    service: String,
    outcome: UploadEnd,
    /// Of a refusal; else empty.
    reason: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct RehearsedLabels {
    service: String,
    would: Rehearsed,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct LimitLabels {
    limit: Limit,
}

impl StatusClass {
    fn of(status: u16) -> Self {
        match status / 100 {
            1 => Self::Informational,
            2 => Self::Success,
            3 => Self::Redirect,
            4 => Self::ClientError,
            5.. => Self::ServerError,
            0 => Self::None,
        }
    }
}

impl From<invoice_limits::Limit> for Limit {
    fn from(limit: invoice_limits::Limit) -> Self {
        match limit {
            invoice_limits::Limit::All => Self::Invoices,
            invoice_limits::Limit::Client => Self::InvoicesOfClient,
            invoice_limits::Limit::Open => Self::OpenInvoices,
        }
    }
}

impl From<Limited> for Limit {
    fn from(limited: Limited) -> Self {
        match limited {
            Limited::Blocked => Self::Blocked,
            Limited::Rate { .. } => Self::Rate,
            Limited::Uploads => Self::Uploads,
            Limited::NotStored { .. } => Self::NotStored,
            Limited::FreeUploads { .. } => Self::FreeUploads,
        }
    }
}

impl Default for Metrics {
    fn default() -> Self {
        let mut metrics = Self {
            registry: Registry::with_prefix("sluice_gateway"),
            requests: Family::default(),
            challenges: Family::default(),
            payments: Family::default(),
            paid_sat: Family::default(),
            sold_bytes: Family::default(),
            uploads: Family::default(),
            checks: Histogram::new(CHECK_SECONDS),
            node_up: Gauge::default(),
            limits: Family::default(),
            dry_run: Family::default(),
        };
        let of = &mut metrics.registry;
        of.register("requests", "Requests, by what became of them", metrics.requests.clone());
        of.register("challenges", "Requests that were asked for payment", metrics.challenges.clone());
        let help = "Requests of services in dry run, by what would have become of them";
        of.register("dry_run", help, metrics.dry_run.clone());
        of.register("payments", "Payments that this gateway saw settled", metrics.payments.clone());
        of.register("paid_sat", "What those payments came to, in satoshi", metrics.paid_sat.clone());
        of.register("sold_bytes", "Bytes of committed bodies that were paid for", metrics.sold_bytes.clone());
        let help = "Bodies that were sent with a token, or refused, by what became of them";
        of.register("uploads", help, metrics.uploads.clone());
        let help = "How long it took to decide on a request with a good token";
        of.register_with_unit("check", help, Unit::Seconds, metrics.checks.clone());
        of.register("node_up", "Whether the Lightning node was well when last looked at", metrics.node_up.clone());
        of.register("limits", "Requests that ran into a limit", metrics.limits.clone());
        metrics
    }
}

impl Metrics {
    /// A request ended, answered with `status`; 0: with no answer. No service: none takes it.
    pub fn request(&self, service: Option<&str>, outcome: Outcome, status: u16) {
        let service = service.unwrap_or_default().to_owned();
        self.requests.get_or_create(&RequestLabels { service, outcome, status: StatusClass::of(status) }).inc();
    }

    /// A request was asked for payment.
    pub fn challenge(&self, service: &str, reason: Reason) {
        let labels = ChallengeLabels { service: service.to_owned(), reason: reason.code() };
        self.challenges.get_or_create(&labels).inc();
    }

    /// A payment was settled. Satoshi are counted rounded down.
    pub fn payment(&self, service: &str, amount_msat: u64) {
        let labels = ServiceLabels { service: service.to_owned() };
        self.payments.get_or_create(&labels).inc();
        self.paid_sat.get_or_create(&labels).inc_by(amount_msat / 1_000);
    }

    /// A body of which `bytes` came ended so; `reason` is one of a closed set.
    pub fn upload(&self, service: &str, outcome: UploadEnd, reason: &'static str, bytes: u64) {
        if outcome == UploadEnd::Committed {
            self.sold_bytes.get_or_create(&ServiceLabels { service: service.to_owned() }).inc_by(bytes);
        }
        self.uploads.get_or_create(&UploadLabels { service: service.to_owned(), outcome, reason }).inc();
    }

    /// It took so long to decide on a request with a good token.
    pub fn check(&self, took: Duration) {
        self.checks.observe(took.as_secs_f64());
    }

    /// The Lightning node is well, or not.
    pub fn node(&self, is_well: bool) {
        self.node_up.set(is_well.into());
    }

    /// A request ran into a limit.
    pub fn limit(&self, limit: Limit) {
        self.limits.get_or_create(&LimitLabels { limit }).inc();
    }

    /// A request of a service in dry run went on.
    pub fn rehearsed(&self, service: &str, would: Rehearsed) {
        self.dry_run.get_or_create(&RehearsedLabels { service: service.to_owned(), would }).inc();
    }

    /// All of it, in the text form of OpenMetrics.
    pub fn render(&self) -> String {
        let mut text = String::new();
        // Writing into a string does not fail.
        let _ = text::encode(&mut text, &self.registry);
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn says_what_was_counted() {
        let metrics = Metrics::default();
        metrics.request(Some("media"), Outcome::Paid, 200);
        metrics.request(Some("media"), Outcome::Paid, 201);
        metrics.request(None, Outcome::Refused, 404);
        metrics.challenge("media", Reason::Missing);
        metrics.payment("media", 100_999);
        metrics.upload("media", UploadEnd::Committed, "", 5);
        metrics.upload("media", UploadEnd::Refused, "used_up", 7);
        metrics.check(Duration::from_micros(3));
        metrics.node(true);
        metrics.limit(invoice_limits::Limit::Client.into());
        let text = metrics.render();
        for line in [
            r#"sluice_gateway_requests_total{service="media",outcome="paid",status="2xx"} 2"#,
            r#"sluice_gateway_requests_total{service="",outcome="refused",status="4xx"} 1"#,
            r#"sluice_gateway_challenges_total{service="media",reason="no_credential"} 1"#,
            r#"sluice_gateway_payments_total{service="media"} 1"#,
            r#"sluice_gateway_paid_sat_total{service="media"} 100"#,
            r#"sluice_gateway_sold_bytes_total{service="media"} 5"#,
            r#"sluice_gateway_uploads_total{service="media",outcome="committed",reason=""} 1"#,
            r#"sluice_gateway_uploads_total{service="media",outcome="refused",reason="used_up"} 1"#,
            r#"sluice_gateway_check_seconds_bucket{le="0.000002"} 0"#,
            r#"sluice_gateway_check_seconds_bucket{le="0.000004"} 1"#,
            "sluice_gateway_node_up 1",
            r#"sluice_gateway_limits_total{limit="invoices_of_client"} 1"#,
            "# EOF",
        ] {
            assert!(text.lines().any(|said| said == line), "{line} is not in:\n{text}");
        }
    }
}
