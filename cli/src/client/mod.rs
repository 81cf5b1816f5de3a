//! The commands of a client: upload, download, pay, and look after tokens.
//!
//! Results go to standard output and nothing else does, so that they can be piped on.

mod api;
mod console;
mod download;
mod invoice;
mod pay;
mod progress;
mod purchase;
mod retry;
mod state;
mod token;
mod units;
mod upload;

use std::{io, path::PathBuf};

use clap::{Args, Subcommand};

pub use self::{
    api::ApiError,
    console::{escaped, note},
    download::{DownloadArgs, DownloadError},
    invoice::InvoiceError,
    pay::PayArgs,
    purchase::PurchaseError,
    state::StateError,
    token::{TokenCommand, TokenError},
    units::size,
    upload::{FileError, UploadArgs},
};

/// What a client can do.
#[derive(Debug, Subcommand)]
pub enum ClientCommand {
    /// Upload a file, and pay for it if it is large
    Upload(UploadArgs),
    /// Download a file, whole or what is still missing of it, and check it
    Download(DownloadArgs),
    /// Pay an invoice with the embedded wallet, and print the preimage
    Pay(PayArgs),
    /// Look at tokens, and hand out narrower ones
    #[command(subcommand)]
    Token(TokenCommand),
}

/// Which server, and what the client keeps for it.
#[derive(Debug, Clone, Args)]
pub struct ServerArgs {
    /// The server's URL
    #[arg(long, value_name = "URL", env = "SLUICE_SERVER", default_value = "http://127.0.0.1:8081")]
    server: String,
    #[command(flatten)]
    state: StateArgs,
    /// The secret key to log in with, 64 hexadecimal digits [default: one that is made on first use and kept]
    #[arg(long, value_name = "FILE", env = "SLUICE_KEY")]
    key: Option<PathBuf>,
}

/// Where the client keeps its key and its tokens.
#[derive(Debug, Clone, Args)]
pub struct StateArgs {
    /// Where keys and tokens are kept [default: $XDG_DATA_HOME/sluice or ~/.local/share/sluice]
    #[arg(long = "state", value_name = "DIR", env = "SLUICE_STATE")]
    dir: Option<PathBuf>,
}

/// Why a command failed: one line for the user. Never holds a secret.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// The server, or the way to it.
    #[error(transparent)]
    Api(#[from] ApiError),
    /// Keys and tokens.
    #[error(transparent)]
    State(#[from] StateError),
    /// The file to upload.
    #[error(transparent)]
    File(#[from] FileError),
    /// Buying a token.
    #[error(transparent)]
    Purchase(#[from] PurchaseError),
    /// Downloading.
    #[error(transparent)]
    Download(#[from] DownloadError),
    /// A token, its text or what was asked of it.
    #[error(transparent)]
    Token(#[from] TokenError),
    /// An invoice given by the user.
    #[error(transparent)]
    Invoice(#[from] InvoiceError),
    /// Standard input or output.
    #[error("standard input or output: {0}")]
    Io(#[from] io::Error),
}

/// Runs `command` to its end.
pub async fn run(command: ClientCommand) -> Result<(), ClientError> {
    match command {
        ClientCommand::Upload(args) => upload::run(args).await,
        ClientCommand::Download(args) => download::run(args).await,
        ClientCommand::Pay(args) => pay::run(args).await,
        ClientCommand::Token(command) => token::run(command),
    }
}
