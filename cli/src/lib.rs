//! The `sluice` command: everything but `main`.

pub mod admin;
pub mod args;
pub mod check_config;
pub mod client;
pub mod config;
pub mod data_dir;
pub mod databases;
pub mod doctor;
pub mod files;
pub mod key_use;
pub mod keys;
pub mod lightning;
pub mod logging;
pub mod payments;
pub mod server;
