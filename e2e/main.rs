//! The whole of Sluice as its users meet it: the real binary, started with nothing set up.

#![expect(clippy::unwrap_used, clippy::expect_used, reason = "a test says what is wrong by panicking")]

#[expect(dead_code, reason = "the media server's own tests use the rest")]
#[path = "../backend/tests/it/s3_peer.rs"]
mod s3_peer;
mod support;

mod command_line;
mod counted_uses;
mod crash;
mod databases;
mod downloads;
mod early_answers;
mod flood;
mod for_nothing;
mod http2;
mod junk;
mod kills;
mod leaked_key;
mod login;
mod lost_answer;
mod memory;
mod paid_upload;
mod payments;
mod prices;
mod reload;
mod revocation;
mod s3;
mod searches;
mod single_use;
mod stop;
mod store_failures;
mod tls;
mod two_backends;
mod upgrade;
