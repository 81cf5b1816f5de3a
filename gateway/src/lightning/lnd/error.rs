//! What LND's errors mean. LND gives most of them the same code (unknown), so its words must do.

use std::error::Error;

use fedimint_tonic_lnd::tonic::{Code, Status};

use super::{Call, channel::ConnectError};
use crate::lightning::LightningError;

/// What LND says while it cannot serve yet, before it looks at a call.
const NOT_YET_SERVING: [&str; 5] =
    ["wallet locked", "wallet not created", "waiting to start", "starting up", "unknown service"];

/// What LND says while it stops, perhaps in the middle of a call.
const STOPPING: [&str; 2] = ["shutting down", "context canceled"];

/// What LND says of a macaroon that it does not take for a call.
const NOT_ALLOWED: [&str; 3] = ["permission denied", "macaroon", "verification failed"];

/// What LND says of a payment hash that it does not know.
const NOT_FOUND: [&str; 2] = ["unable to locate invoice", "there are no existing invoices"];

/// The error of a call.
pub(super) fn error(call: Call, status: &Status) -> LightningError {
    let said = said(status);
    let says = |texts: &[&str]| texts.iter().any(|text| said.contains(text));
    if has_no_connection(status) || says(&NOT_YET_SERVING) {
        return LightningError::Unreached(said);
    }
    match status.code() {
        Code::PermissionDenied | Code::Unauthenticated => LightningError::Permission { right: call.right(), said },
        Code::Unavailable | Code::Cancelled | Code::DeadlineExceeded | Code::ResourceExhausted => {
            LightningError::Unavailable(said)
        }
        _ if says(&STOPPING) => LightningError::Unavailable(said),
        _ if says(&NOT_ALLOWED) => LightningError::Permission { right: call.right(), said },
        _ if call == Call::AddInvoice => LightningError::Refused(said),
        _ => LightningError::Unavailable(said),
    }
}

/// Whether there was no connection to send the call on.
fn has_no_connection(status: &Status) -> bool {
    let mut cause: Option<&dyn Error> = status.source();
    while let Some(error) = cause {
        if error.is::<ConnectError>() {
            return true;
        }
        cause = error.source();
    }
    false
}

/// Whether a look-up ended because there is no such invoice.
pub(super) fn is_not_found(status: &Status) -> bool {
    status.code() == Code::NotFound || NOT_FOUND.iter().any(|text| status.message().contains(text))
}

/// The node's words; where there was no node to say any, the reason for that.
fn said(status: &Status) -> String {
    let mut cause: Option<&dyn Error> = status.source();
    let mut said = None;
    while let Some(error) = cause {
        said = Some(error.to_string());
        cause = error.source();
    }
    said.unwrap_or_else(|| status.message().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lnds_words_have_a_meaning() {
        let of = |call, message: &str| error(call, &Status::unknown(message));
        for text in [
            "wallet locked, unlock it to enable full RPC access",
            "wallet not created, create one to enable full RPC access",
            "waiting to start, RPC services not available",
            "the RPC server is in the process of starting up, but not yet ready to accept calls",
        ] {
            assert!(matches!(of(Call::AddInvoice, text), LightningError::Unreached(_)), "{text}");
        }
        for text in ["server is shutting down", "context canceled"] {
            assert!(matches!(of(Call::AddInvoice, text), LightningError::Unavailable(_)), "{text}");
        }
        for text in [
            "permission denied",
            "verification failed: signature mismatch after caveat verification",
            "cannot get macaroon: root key with id 0 doesn't exist",
            "expected 1 macaroon, got 0",
        ] {
            let error = of(Call::GetInfo, text);
            assert!(
                matches!(&error, LightningError::Permission { right: "info:read", said } if said == text),
                "{error}"
            );
        }
        let refused = of(Call::AddInvoice, "memo too large: 640 bytes (maxsize=639)");
        assert!(matches!(refused, LightningError::Refused(_)), "{refused}");
        assert!(matches!(of(Call::ListInvoices, "disk full"), LightningError::Unavailable(_)));
    }

    #[test]
    fn an_invoice_that_is_not_there_is_no_error() {
        for status in [
            Status::not_found("unable to locate invoice"),
            Status::unknown("unable to locate invoice"),
            Status::unknown("there are no existing invoices"),
        ] {
            assert!(is_not_found(&status));
        }
        assert!(!is_not_found(&Status::unknown("permission denied")));
    }
}
