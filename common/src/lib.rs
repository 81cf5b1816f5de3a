//! What Sluice's gateway, media server and command line must agree on.
//!
//! No server, no proxy and no database in here: formats, tokens and the rules that both sides check with the same code.

pub mod client_network;
pub mod clock;
pub mod dare;
pub mod hmac;
pub mod keys;
pub mod l402;
pub mod lightning_message;
pub mod limits;
pub mod login;
pub mod media_token;
pub mod muid;
pub mod network;
pub mod permit;
pub mod problem;
pub mod request_id;
pub mod revocation;
pub mod secret;
pub mod slots;
