//! The gateway: a paywall that sells requests for Lightning payments, and the proxy around it.

pub mod admin;
mod answer;
pub mod config;
mod connections;
mod cors;
pub mod db;
mod drain;
mod dry_run;
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
mod redirect;
mod request;
pub mod server;
pub mod tls;
mod trace;
mod upstream;
mod uses;
