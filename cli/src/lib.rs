//! The `sluice` command: everything but `main`.

pub mod args;
pub mod check_config;
pub mod client;
pub mod config;
pub mod data_dir;
pub mod files;
pub mod key_use;
pub mod keys;
pub mod logging;
pub mod server;
