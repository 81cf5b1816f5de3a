//! The gateway: a paywall that sells requests for Lightning payments, and the proxy around it.

pub mod admin;
mod answer;
pub mod config;
mod cors;
pub mod db;
mod drain;
pub mod gate;
pub mod invoice_limits;
pub mod ledger;
pub mod lightning;
pub mod limits;
pub mod metrics;
pub mod path;
pub mod paywall;
pub mod probe;
mod proxy;
pub mod record;
mod request;
pub mod server;
mod upstream;
