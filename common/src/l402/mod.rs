//! L402 (formerly LSAT): pay an invoice, and the macaroon that came with it becomes a credential.

mod payment;

pub use self::payment::{NotHex32, PaymentHash, Preimage};
