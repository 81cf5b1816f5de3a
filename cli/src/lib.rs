//! The `sluice` command: everything but `main`.

pub mod client;
pub mod config;
pub mod files;
pub mod keys;
pub mod logging;
