//! The whole of Sluice as its users meet it: the real binary, started with nothing set up.

#![expect(clippy::unwrap_used, clippy::expect_used, reason = "a test says what is wrong by panicking")]

#[path = "../gateway/tests/it/postgres.rs"]
mod postgres;
mod support;

mod command_line;
mod crash;
mod downloads;
mod early_answers;
mod http2;
mod junk;
mod login;
mod memory;
mod paid_upload;
mod payments;
mod prices;
mod single_use;
