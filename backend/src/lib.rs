//! The media server: stores, seals and serves files.

pub mod db;
pub mod store;
pub mod sweeper;
pub mod upload;
