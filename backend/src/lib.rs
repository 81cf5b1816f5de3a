//! The media server: stores, seals and serves files.

pub mod auth;
pub mod cache;
pub mod config;
pub mod db;
pub mod disk;
pub mod download;
pub mod error;
pub mod keys;
pub mod ledger;
pub mod legacy;
pub mod login;
pub mod openapi;
pub mod pictures;
pub mod podcast;
pub mod router;
pub mod routes;
pub mod server;
pub mod state;
pub mod store;
pub mod sweeper;
pub mod upload;
