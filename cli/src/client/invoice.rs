//! Invoices as the payer sees them.

use std::{fmt, str::FromStr};

use lightning_invoice::{Bolt11Invoice, Currency};
use qrcode::{EcLevel, QrCode, render::unicode::Dense1x2};
use sluice_common::l402::PaymentHash;

/// A BOLT 11 invoice that names its amount.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Invoice {
    text: String,
    payment_hash: PaymentHash,
    amount_msat: u64,
    expires_at: u64,
    currency: Currency,
}

/// Why a text is no invoice that can be paid.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum InvoiceError {
    /// Not BOLT 11, or not signed.
    #[error("not a Lightning invoice")]
    NotAnInvoice,
    /// It leaves the amount to the payer.
    #[error("the invoice names no amount")]
    NoAmount,
}

impl Invoice {
    /// What the payment is known by.
    pub fn payment_hash(&self) -> PaymentHash {
        self.payment_hash
    }

    /// The amount in satoshi, rounded up.
    pub fn amount_sat(&self) -> u64 {
        self.amount_msat.div_ceil(1_000)
    }

    /// Unix seconds at which it can no longer be paid.
    pub fn expires_at(&self) -> u64 {
        self.expires_at
    }

    /// The amount for people, with the network unless that is bitcoin's own.
    pub fn price(&self) -> String {
        let network = match self.currency {
            Currency::Bitcoin => "",
            Currency::BitcoinTestnet => " (testnet)",
            Currency::Regtest => " (regtest)",
            Currency::Simnet => " (simnet)",
            Currency::Signet => " (signet)",
        };
        format!("{} sat{network}", self.amount_sat())
    }

    /// A QR code for wallets, light on dark as terminals are; none when the invoice is too long for one.
    pub fn qr_code(&self) -> Option<String> {
        // Upper case makes a smaller code.
        let link = format!("LIGHTNING:{}", self.text.to_uppercase());
        let code = QrCode::with_error_correction_level(link, EcLevel::L).ok()?;
        Some(code.render().dark_color(Dense1x2::Light).light_color(Dense1x2::Dark).build())
    }
}

impl fmt::Display for Invoice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl FromStr for Invoice {
    type Err = InvoiceError;

    /// Reads BOLT 11, also as a `lightning:` link.
    fn from_str(text: &str) -> Result<Self, InvoiceError> {
        let text = text.trim();
        let bare = match text.get(..10) {
            Some(scheme) if scheme.eq_ignore_ascii_case("lightning:") => &text[10..],
            _ => text,
        };
        let invoice: Bolt11Invoice = bare.parse().map_err(|_| InvoiceError::NotAnInvoice)?;
        let payment_hash: &[u8] = invoice.payment_hash().as_ref();
        Ok(Self {
            text: bare.to_lowercase(),
            payment_hash: PaymentHash::from_bytes(payment_hash.try_into().map_err(|_| InvoiceError::NotAnInvoice)?),
            amount_msat: invoice.amount_milli_satoshis().ok_or(InvoiceError::NoAmount)?,
            expires_at: invoice.expires_at().map_or(u64::MAX, |at| at.as_secs()),
            currency: invoice.currency(),
        })
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// From the BOLT 11 specification: 2500 micro-bitcoin, one minute, 2017-06-01T10:57:38Z.
    pub(in crate::client) const COFFEE: &str = "lnbc2500u1pvjluezsp5zyg3zyg3zyg3zyg3zyg3zyg3zyg3zyg3zyg3zyg3zyg3zyg3zygspp5qqqsyqcyq5rqwzqfqqqsyqcyq5rqwzqfqqqsyqcyq5rqwzqfqypqdq5xysxxatsyp3k7enxv4jsxqzpu9qrsgquk0rl77nj30yxdy8j9vdx85fkpmdla2087ne0xh8nhedh8w27kyke0lp53ut353s06fv3qfegext0eh0ymjpf39tuven09sam30g4vgpfna3rh";

    /// From there too: a donation of any amount.
    const DONATION: &str = "lnbc1pvjluezsp5zyg3zyg3zyg3zyg3zyg3zyg3zyg3zyg3zyg3zyg3zyg3zyg3zygspp5qqqsyqcyq5rqwzqfqqqsyqcyq5rqwzqfqqqsyqcyq5rqwzqfqypqdpl2pkx2ctnv5sxxmmwwd5kgetjypeh2ursdae8g6twvus8g6rfwvs8qun0dfjkxaq9qrsgq357wnc5r2ueh7ck6q93dj32dlqnls087fxdwk8qakdyafkq3yap9us6v52vjjsrvywa6rt52cm9r9zqt8r2t7mlcwspyetp5h2tztugp9lfyql";

    #[test]
    fn reads_the_invoice_as_text_and_as_a_link() {
        let invoice: Invoice = COFFEE.parse().unwrap();
        assert_eq!(invoice.price(), "250000 sat");
        assert_eq!(invoice.expires_at(), 1_496_314_658 + 60);
        assert_eq!(
            invoice.payment_hash().to_string(),
            "0001020304050607080900010203040506070809000102030405060708090102"
        );
        for spelling in [format!("lightning:{COFFEE}"), format!(" LIGHTNING:{}\n", COFFEE.to_uppercase())] {
            assert_eq!(spelling.parse(), Ok(invoice.clone()), "{spelling}");
        }
        assert_eq!(invoice.to_string(), COFFEE);
    }

    #[test]
    fn refuses_what_cannot_be_paid() {
        let tampered = COFFEE.replace("2500u", "2400u");
        for junk in ["", "lightning:", "lnbc1", "é".repeat(9).as_str(), &COFFEE[..100], &tampered] {
            assert_eq!(junk.parse::<Invoice>(), Err(InvoiceError::NotAnInvoice), "{junk}");
        }
        assert_eq!(DONATION.parse::<Invoice>(), Err(InvoiceError::NoAmount));
    }

    #[test]
    fn the_qr_code_is_a_square() {
        let code = COFFEE.parse::<Invoice>().unwrap().qr_code().unwrap();
        let (lines, width) = (code.lines().count(), code.lines().next().unwrap().chars().count());
        // Two rows of the code in each line.
        assert_eq!(lines, width.div_ceil(2));
        assert!(width > 60, "{width}");
    }
}
