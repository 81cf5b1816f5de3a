//! L402 (formerly LSAT): pay an invoice, and the macaroon that came with it becomes a credential.

mod caveat;
mod challenge;
mod credential;
mod identifier;
mod macaroon;
mod payment;
mod terms;
mod verify;

#[cfg(test)]
mod tests;

pub use self::{
    caveat::Caveat,
    challenge::Challenge,
    credential::{Credential, CredentialError, MACAROON_HEADERS},
    identifier::{Identifier, InvalidIdentifier, TokenId},
    macaroon::{MAX_MACAROON_LEN, Macaroon, MacaroonError},
    payment::{NotHex32, PaymentHash, Preimage},
    terms::{ServiceTerms, UnknownCaveats},
    verify::{
        Counter, LAPSED_HEADER, Lapsed, Permit, Refused, STORED_BEFORE_HEADER, TOO_SMALL, Token, covered_services,
        verify, verify_with_root_key,
    },
};
use crate::{keys::MasterKeys, network::Network};

/// Why no token is minted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum MintError {
    /// The token id is of no master key.
    #[error("the token id was not made by any of the master keys")]
    UnknownKey,
    /// The macaroon cannot be written, for instance because its caveats are too long.
    #[error(transparent)]
    Macaroon(#[from] MacaroonError),
}

/// Mints the token that a payment buys. Writes nothing anywhere: its root key is derived again whenever it is needed.
pub fn mint(
    keys: &MasterKeys,
    network: Network,
    terms: &ServiceTerms,
    token_id: TokenId,
    payment_hash: PaymentHash,
) -> Result<Macaroon, MintError> {
    let identifier = Identifier { payment_hash, token_id };
    let key = keys.of(&token_id).ok_or(MintError::UnknownKey)?;
    Ok(Macaroon::mint(&key.root_key(network, &identifier), &identifier, &terms.caveats(token_id.minted_at()))?)
}
