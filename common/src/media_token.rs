//! Media tokens (LDAT): an owner's signed word that somebody may download a file from a media server.
//!
//! `host.muid.buyer.exp[.meta].sig`, each section padded base64url of its raw bytes:
//!
//! | section | raw bytes |
//! |---|---|
//! | host | the media server's name in ASCII, with its port if it has one |
//! | muid | 32 |
//! | buyer | 33, the only node that may use the token; empty: anyone |
//! | exp | `u32` big endian, unix seconds; empty counts as expired |
//! | meta | `k=v&…`, sorted and URL-encoded; may be empty or left out |
//! | sig | 65, see [`lightning_message`]; left out of tokens not paid for yet, which grant nothing |
//!
//! The signature is over the concatenated raw bytes of all sections before it or, for owners whose node signs text only
//! (Core Lightning), over the padded base64url of those bytes. Nothing in them says where a section ends, so whoever has
//! a token can move the borders. That gains nothing where the host is compared, which fixes the muid, and where exp is
//! signed: a key's first bytes read as exp are long over, and an exp that lies ahead begins no key. But in a token signed
//! with an empty exp, the first four characters of meta can be read as one (`ttl=` is in 2031), so never sign without.

use std::{fmt, str::FromStr};

use base64::{Engine, engine::general_purpose::URL_SAFE};
use secp256k1::SecretKey;

use crate::{
    lightning_message::{self, NodeKey, SIGNATURE_LEN},
    muid::{BASE64URL, Muid},
};

/// The longest token that is read, in characters.
pub const MAX_TOKEN_LEN: usize = 4_096;

/// What a media token says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Terms {
    /// The media server: ASCII, not empty, as in the token. With its port, if it has one.
    pub host: String,
    /// The file.
    pub muid: Muid,
    /// The only node that may use the token; none: anyone.
    pub buyer: Option<NodeKey>,
    /// Unix seconds at which the token ends; none: it has ended.
    pub expires_at: Option<u32>,
    /// `k=v&…`, as in the token.
    pub meta: String,
}

/// What the owner's signature is over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SignedOver {
    /// The concatenated raw bytes of the sections, as LND signs.
    Raw,
    /// The padded base64url of those bytes, as Core Lightning signs.
    Text,
}

/// A media token. Whoever has one can download, so `Debug` shows nothing of it; `Display` gives the token itself,
/// always spelled the same way, however the one that was read was padded.
#[derive(Clone, PartialEq, Eq)]
pub struct MediaToken {
    terms: Terms,
    signature: Option<[u8; SIGNATURE_LEN]>,
}

/// Why a text is no media token, or terms cannot become one. Never holds the text.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum MediaTokenError {
    /// Longer than [`MAX_TOKEN_LEN`].
    #[error("the media token has more than {MAX_TOKEN_LEN} characters")]
    TooLong,
    /// Not five or six sections.
    #[error("the media token has not five or six sections")]
    Sections,
    /// A section is not canonical base64url.
    #[error("a section of the media token is not base64url")]
    NotBase64,
    /// The host is empty or not printable ASCII.
    #[error("the media token's host is not printable ASCII")]
    Host,
    /// The muid has not 32 bytes.
    #[error("the media token's muid has not 32 bytes")]
    Muid,
    /// The buyer is neither a node's public key nor empty.
    #[error("the media token's buyer is not a public key")]
    Buyer,
    /// The expiry is neither 4 bytes nor empty.
    #[error("the media token's expiry has not 4 bytes")]
    Expiry,
    /// The meta is not UTF-8.
    #[error("the media token's meta is not text")]
    Meta,
    /// The signature is neither 65 bytes that begin with 31 to 34 nor empty.
    #[error("the media token's signature is malformed")]
    Signature,
}

impl Terms {
    /// The bytes that the owner's node is asked to sign. For [`SignedOver::Text`] they are ASCII.
    pub fn message(&self, over: SignedOver) -> Vec<u8> {
        let raw = self.sections().concat();
        match over {
            SignedOver::Raw => raw,
            SignedOver::Text => URL_SAFE.encode(raw).into_bytes(),
        }
    }

    /// The raw bytes of every section but the signature.
    fn sections(&self) -> [Vec<u8>; 5] {
        [
            self.host.clone().into_bytes(),
            self.muid.as_bytes().to_vec(),
            self.buyer.map_or_else(Vec::new, |key| key.as_bytes().to_vec()),
            self.expires_at.map_or_else(Vec::new, |at| at.to_be_bytes().to_vec()),
            self.meta.clone().into_bytes(),
        ]
    }
}

impl MediaToken {
    /// The token with `terms` and the signature over [`Terms::message`] that the owner's node made; without one, the
    /// token of a file that is still to be paid.
    ///
    /// Errors: [`MediaTokenError::Host`], [`MediaTokenError::Signature`] and [`MediaTokenError::TooLong`].
    pub fn new(terms: Terms, signature: Option<[u8; SIGNATURE_LEN]>) -> Result<Self, MediaTokenError> {
        if terms.host.is_empty() || !terms.host.bytes().all(|byte| byte.is_ascii_graphic()) {
            return Err(MediaTokenError::Host);
        }
        if signature.is_some_and(|signature| !is_signature(&signature)) {
            return Err(MediaTokenError::Signature);
        }
        let token = Self { terms, signature };
        if token.to_string().len() > MAX_TOKEN_LEN {
            return Err(MediaTokenError::TooLong);
        }
        Ok(token)
    }

    /// The token with `terms`, signed with the owner's secret key.
    ///
    /// Errors: as [`Self::new`].
    pub fn sign(terms: Terms, over: SignedOver, secret_key: &SecretKey) -> Result<Self, MediaTokenError> {
        let signature = lightning_message::sign(&terms.message(over), secret_key);
        Self::new(terms, Some(signature))
    }

    /// Reads a token, padded or not. Nothing of it is proved: see [`Self::signers`].
    ///
    /// Of five sections the last is the signature if it looks like one, else it is the meta of an unsigned token.
    ///
    /// Errors: all of [`MediaTokenError`].
    pub fn parse(text: &str) -> Result<Self, MediaTokenError> {
        if text.len() > MAX_TOKEN_LEN {
            return Err(MediaTokenError::TooLong);
        }
        let sections: Vec<_> = text.split('.').take(7).collect();
        let decode = |section: &str| BASE64URL.decode(section).map_err(|_| MediaTokenError::NotBase64);
        let (head, meta, signature) = match *sections {
            [a, b, c, d, last] => {
                let last = decode(last)?;
                if is_signature(&last) { ([a, b, c, d], vec![], last) } else { ([a, b, c, d], last, vec![]) }
            }
            [a, b, c, d, meta, signature] => ([a, b, c, d], decode(meta)?, decode(signature)?),
            _ => return Err(MediaTokenError::Sections),
        };
        let [host, muid, buyer, expiry] = head.map(decode);
        let terms = Terms {
            host: String::from_utf8(host?).map_err(|_| MediaTokenError::Host)?,
            muid: Muid::from_bytes(muid?.try_into().map_err(|_| MediaTokenError::Muid)?),
            buyer: fixed(buyer?, MediaTokenError::Buyer)?
                .map(NodeKey::from_bytes)
                .transpose()
                .map_err(|_| MediaTokenError::Buyer)?,
            expires_at: fixed(expiry?, MediaTokenError::Expiry)?.map(u32::from_be_bytes),
            meta: String::from_utf8(meta).map_err(|_| MediaTokenError::Meta)?,
        };
        Self::new(terms, fixed(signature, MediaTokenError::Signature)?)
    }

    /// What the token says.
    pub fn terms(&self) -> &Terms {
        &self.terms
    }

    /// The media server that it is for, as in the token.
    pub fn host(&self) -> &str {
        &self.terms.host
    }

    /// The file that it is for.
    pub fn muid(&self) -> Muid {
        self.terms.muid
    }

    /// The only node that may use it; none: anyone.
    pub fn buyer(&self) -> Option<NodeKey> {
        self.terms.buyer
    }

    /// Unix seconds at which it ends; none: it has ended.
    pub fn expires_at(&self) -> Option<u32> {
        self.terms.expires_at
    }

    /// Its `k=v&…`, URL-encoded; empty if it has none.
    pub fn meta(&self) -> &str {
        &self.terms.meta
    }

    /// Its signature.
    pub fn signature(&self) -> Option<&[u8; SIGNATURE_LEN]> {
        self.signature.as_ref()
    }

    /// Whether it has ended at `now`, unix seconds.
    pub fn is_expired_at(&self, now: i64) -> bool {
        self.terms.expires_at.is_none_or(|end| i64::from(end) <= now)
    }

    /// The key that signed it if the signature is over the raw bytes, and the one if it is over their text. Any
    /// signature gives keys, most of them nobody's: compare them with the owners of the file.
    pub fn signers(&self) -> [Option<NodeKey>; 2] {
        [SignedOver::Raw, SignedOver::Text].map(|over| {
            let signature = self.signature.as_ref()?;
            lightning_message::recover(&self.terms.message(over), signature).ok()
        })
    }
}

impl FromStr for MediaToken {
    type Err = MediaTokenError;

    fn from_str(text: &str) -> Result<Self, MediaTokenError> {
        Self::parse(text)
    }
}

impl fmt::Display for MediaToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [host, muid, buyer, expiry, meta] = self.terms.sections().map(|section| URL_SAFE.encode(section));
        write!(f, "{host}.{muid}.{buyer}.{expiry}")?;
        match &self.signature {
            None if is_signature(self.meta().as_bytes()) => write!(f, ".{meta}."),
            None => write!(f, ".{meta}"),
            Some(signature) if meta.is_empty() => write!(f, ".{}", URL_SAFE.encode(signature)),
            Some(signature) => write!(f, ".{meta}.{}", URL_SAFE.encode(signature)),
        }
    }
}

impl fmt::Debug for MediaToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("MediaToken([redacted])")
    }
}

/// Whether the last of five sections is a signature. Meta begins with a letter, not with one of these four, which are
/// a control character, a space, `!` and `"`.
fn is_signature(section: &[u8]) -> bool {
    section.len() == SIGNATURE_LEN && (31..=34).contains(&section[0])
}

/// `bytes` if there are `N`, none if there are none.
fn fixed<const N: usize>(bytes: Vec<u8>, error: MediaTokenError) -> Result<Option<[u8; N]>, MediaTokenError> {
    if bytes.is_empty() { Ok(None) } else { bytes.try_into().map(Some).map_err(|_| error) }
}

#[cfg(test)]
mod tests;
