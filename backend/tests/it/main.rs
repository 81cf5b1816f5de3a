//! Drives the real router, and for what a connection does the real server on a port of its own.
#![expect(clippy::unwrap_used, clippy::expect_used, reason = "a test fails where it stands")]

mod changes;
mod document;
mod downloads;
mod expiry;
mod http2;
mod largefile;
mod legacy;
mod lists;
mod login;
mod logs;
mod lost_answer;
mod media;
mod media_tokens;
mod openapi;
mod podcast;
mod races;
mod revoked;
mod s3;
#[expect(dead_code, reason = "the tests of the store use the rest")]
mod s3_peer;
mod server;
mod support;
mod templates;
mod thumbnails;
mod uploads;
