//! `sluice token`: look at tokens, and hand out narrower ones.

mod inspect;
mod list;
mod read;
mod restrict;
mod terms;

use std::{io, time::Duration};

use clap::{Args, Subcommand};
use sluice_common::{
    clock::unix_now,
    l402::{InvalidIdentifier, MacaroonError, NotHex32},
};

pub(super) use self::terms::TokenTerms;
use self::{
    read::TokenText,
    restrict::{Restriction, WouldWiden},
};
use super::{ClientError, StateArgs, console, state::State, units};

/// What can be done with tokens.
#[derive(Debug, Subcommand)]
pub enum TokenCommand {
    /// Show what a token says, never its preimage
    Inspect(InspectArgs),
    /// Print a narrower token, to be handed on
    Restrict(RestrictArgs),
    /// List the saved tokens
    List(ListArgs),
}

/// Arguments of `sluice token inspect`.
#[derive(Debug, Args)]
pub struct InspectArgs {
    #[command(flatten)]
    token: TokenArg,
}

/// Arguments of `sluice token restrict`.
#[derive(Debug, Args)]
pub struct RestrictArgs {
    #[command(flatten)]
    token: TokenArg,
    /// Files of at most this, in MB of 1,048,576 bytes
    #[arg(long, value_name = "MB", value_parser = clap::value_parser!(u64).range(1..))]
    max_mb: Option<u64>,
    /// How long it is good for: 90s, 30m, 1h, 7d, 2w
    #[arg(long, value_name = "TIME", value_parser = units::parse_duration)]
    valid_for: Option<Duration>,
    /// How many uploads it stores
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    max_uses: Option<u64>,
    /// Only this service of the token's
    #[arg(long, value_name = "NAME")]
    service: Option<String>,
}

/// Arguments of `sluice token list`.
#[derive(Debug, Args)]
pub struct ListArgs {
    #[command(flatten)]
    state: StateArgs,
}

/// A token given by the user. Its text is money: never shown.
#[derive(Args)]
struct TokenArg {
    /// MACAROON or MACAROON:PREIMAGE, alone or within an Authorization or WWW-Authenticate line; `-` reads it from
    /// standard input, where other users of this machine cannot see it
    #[arg(value_name = "TOKEN")]
    text: String,
}

impl std::fmt::Debug for TokenArg {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("TokenArg([redacted])")
    }
}

/// Why a token cannot be read, or not be narrowed so. Never holds the token.
#[derive(Debug, thiserror::Error)]
pub enum TokenError {
    /// There is no token in the text.
    #[error("expected a token: MACAROON or MACAROON:PREIMAGE, alone or in an Authorization or WWW-Authenticate line")]
    NotAToken,
    /// The macaroon.
    #[error(transparent)]
    Macaroon(#[from] MacaroonError),
    /// The macaroon is not one of L402.
    #[error(transparent)]
    Identifier(#[from] InvalidIdentifier),
    /// The preimage.
    #[error("the preimage: {0}")]
    Preimage(#[from] NotHex32),
    /// Nothing to narrow it by.
    #[error("say what to narrow: --max-mb, --max-uses, --valid-for or --service")]
    NoRestriction,
    /// The token would not get narrower.
    #[error(transparent)]
    WouldWiden(#[from] WouldWiden),
}

impl TokenArg {
    fn read(self) -> Result<TokenText, ClientError> {
        let text = if self.text == "-" { io::read_to_string(io::stdin())? } else { self.text };
        Ok(TokenText::parse(&text)?)
    }
}

#[cfg(test)]
pub(super) use self::read::tests;

pub(super) fn run(command: TokenCommand) -> Result<(), ClientError> {
    match command {
        TokenCommand::Inspect(args) => {
            let token = args.token.read()?;
            console::result(inspect::report(&token, unix_now())?.trim_end())?;
        }
        TokenCommand::Restrict(args) => {
            let restriction = Restriction {
                max_upload_mb: args.max_mb,
                valid_for: args.valid_for,
                max_uses: args.max_uses,
                service: args.service,
            };
            if restriction == Restriction::default() {
                return Err(TokenError::NoRestriction.into());
            }
            let token = args.token.read()?;
            let terms = TokenTerms::of(&token.macaroon);
            let caveats = restriction.caveats(&terms, unix_now(), restrict::delegate()).map_err(TokenError::from)?;
            let narrower = token.macaroon.attenuate(&caveats).map_err(TokenError::from)?;
            console::result(TokenText { macaroon: narrower, preimage: token.preimage }.expose())?;
        }
        TokenCommand::List(args) => {
            let tokens = State::open(args.state.dir)?.tokens()?;
            console::result(list::table(&tokens, unix_now()).trim_end())?;
        }
    }
    Ok(())
}
