//! Macaroons in the V2 binary form.
//!
//! This module alone uses the `macaroon` crate: it mints, serialises and attenuates. Parsing and verifying are our own,
//! since the crate accepts trailing bytes and its verifier cannot know the request.
//!
//! V2: `0x02`, `[1 location] 2 identifier 0`, per caveat `2 id 0`, then `0 6 signature`; each field is `type
//! varint(length) data`. Third-party caveats are refused: nobody here could discharge them.

use std::{fmt, ops::Range, sync::LazyLock};

use base64::{
    Engine,
    alphabet::STANDARD as STANDARD_ALPHABET,
    engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig, general_purpose::STANDARD},
};
use macaroon::{ByteString, Format, MacaroonKey};
use subtle::ConstantTimeEq;

use super::identifier::{Identifier, InvalidIdentifier};
use crate::hmac::hmac_sha256;

/// The longest macaroon that is read, in bytes: hundreds of caveats, and little enough that the longest costs nothing.
pub const MAX_MACAROON_LEN: usize = 16_384;

/// The location that L402 macaroons name.
const LOCATION: &str = "lsat";

const STANDARD_ANY_PADDING: GeneralPurpose = GeneralPurpose::new(
    &STANDARD_ALPHABET,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

/// A macaroon whose form is right; whether it is genuine is for [`super::verify`] to say. With its preimage it is money,
/// so `Debug` shows nothing of it.
#[derive(Clone, PartialEq, Eq)]
pub struct Macaroon {
    bytes: Vec<u8>,
    identifier: Range<usize>,
    caveats: Vec<Range<usize>>,
    signature: [u8; 32],
}

/// Why bytes are no macaroon, or cannot become one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum MacaroonError {
    /// Neither alphabet of base64.
    #[error("the macaroon is not base64")]
    NotBase64,
    /// Not hexadecimal digits.
    #[error("the macaroon is not hex")]
    NotHex,
    /// Longer than [`MAX_MACAROON_LEN`].
    #[error("the macaroon has more than {MAX_MACAROON_LEN} bytes")]
    TooLong,
    /// Not the V2 binary form, cut off, or followed by more.
    #[error("the macaroon is not in the V2 binary form, or is cut off, or more follows it")]
    Malformed,
    /// A caveat for a third party.
    #[error("the macaroon has a third-party caveat")]
    ThirdParty,
    /// A caveat that is no text.
    #[error("a caveat of the macaroon is not text")]
    NotText,
    /// The crate failed to write one.
    #[error("the macaroon cannot be written")]
    Unwritable,
}

impl Macaroon {
    /// Mints: `caveats` in this order under `root_key`.
    pub(super) fn mint(
        root_key: &[u8; 32],
        identifier: &Identifier,
        caveats: &[String],
    ) -> Result<Self, MacaroonError> {
        initialise();
        let id = ByteString(identifier.to_bytes().to_vec());
        let minted = macaroon::Macaroon::create(Some(LOCATION.to_owned()), &MacaroonKey::generate(root_key), id);
        with_caveats(minted.map_err(|_| MacaroonError::Unwritable)?, caveats)
    }

    /// The same macaroon with more caveats: narrower, if its reader finds them so.
    pub fn attenuate(&self, caveats: &[String]) -> Result<Self, MacaroonError> {
        initialise();
        let same = macaroon::Macaroon::deserialize_binary(&self.bytes).map_err(|_| MacaroonError::Unwritable)?;
        with_caveats(same, caveats)
    }

    /// Reads base64 of either alphabet, padded or not.
    pub fn from_base64(text: &str) -> Result<Self, MacaroonError> {
        if text.len() > MAX_MACAROON_LEN * 4 / 3 + 4 {
            return Err(MacaroonError::TooLong);
        }
        let mut standard = text.as_bytes().to_vec();
        for byte in &mut standard {
            match byte {
                b'-' => *byte = b'+',
                b'_' => *byte = b'/',
                _ => {}
            }
        }
        Self::from_bytes(STANDARD_ANY_PADDING.decode(standard).map_err(|_| MacaroonError::NotBase64)?)
    }

    /// Reads hexadecimal digits, as in the headers of gRPC clients.
    pub fn from_hex(text: &str) -> Result<Self, MacaroonError> {
        if text.len() > MAX_MACAROON_LEN * 2 {
            return Err(MacaroonError::TooLong);
        }
        Self::from_bytes(hex::decode(text).map_err(|_| MacaroonError::NotHex)?)
    }

    /// Reads the binary form, all of it and nothing more.
    pub fn from_bytes(bytes: Vec<u8>) -> Result<Self, MacaroonError> {
        if bytes.len() > MAX_MACAROON_LEN {
            return Err(MacaroonError::TooLong);
        }
        let mut reader = Reader { bytes: &bytes, at: 0 };
        reader.expect(VERSION_2)?;
        if reader.peek() == Some(FIELD_LOCATION) {
            let location = reader.field(FIELD_LOCATION)?;
            std::str::from_utf8(&bytes[location]).map_err(|_| MacaroonError::NotText)?;
        }
        let identifier = reader.field(FIELD_IDENTIFIER)?;
        reader.expect(END_OF_SECTION)?;
        let mut caveats = Vec::new();
        while reader.peek() != Some(END_OF_SECTION) {
            if reader.peek() == Some(FIELD_LOCATION) {
                return Err(MacaroonError::ThirdParty);
            }
            let caveat = reader.field(FIELD_IDENTIFIER)?;
            if reader.peek() == Some(FIELD_VERIFIER_ID) {
                return Err(MacaroonError::ThirdParty);
            }
            reader.expect(END_OF_SECTION)?;
            std::str::from_utf8(&bytes[caveat.clone()]).map_err(|_| MacaroonError::NotText)?;
            caveats.push(caveat);
        }
        reader.expect(END_OF_SECTION)?;
        let signature = reader.field(FIELD_SIGNATURE)?;
        let signature = bytes[signature].try_into().map_err(|_| MacaroonError::Malformed)?;
        if reader.at != bytes.len() {
            return Err(MacaroonError::Malformed);
        }
        Ok(Self { identifier, caveats, signature, bytes })
    }

    /// The binary form.
    pub fn as_bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// Standard padded base64, as in challenges and credentials.
    pub fn to_base64(&self) -> String {
        STANDARD.encode(&self.bytes)
    }

    /// What it is known by.
    pub fn identifier(&self) -> Result<Identifier, InvalidIdentifier> {
        Identifier::parse(self.identifier_bytes())
    }

    /// What it is known by, as it stands there.
    pub(super) fn identifier_bytes(&self) -> &[u8] {
        &self.bytes[self.identifier.clone()]
    }

    /// The caveats as text, in order.
    pub fn caveats(&self) -> impl Iterator<Item = &str> {
        // Each was found to be UTF-8 when it was read.
        self.caveats.iter().map(|range| std::str::from_utf8(&self.bytes[range.clone()]).unwrap_or_default())
    }

    /// Whether it was minted under `root_key` and attenuated since: one HMAC for each caveat, compared in constant time.
    pub(super) fn is_signed_under(&self, root_key: &[u8; 32]) -> bool {
        let mut key = hmac_sha256(b"macaroons-key-generator", root_key);
        for text in std::iter::once(&self.identifier).chain(&self.caveats) {
            key = hmac_sha256(&key, &self.bytes[text.clone()]);
        }
        key[..].ct_eq(&self.signature).into()
    }
}

impl fmt::Debug for Macaroon {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Macaroon([redacted], {} caveats)", self.caveats.len())
    }
}

/// libsodium wants this once, before any use by several threads.
fn initialise() {
    static ONCE: LazyLock<bool> = LazyLock::new(|| macaroon::initialize().is_ok());
    LazyLock::force(&ONCE);
}

fn with_caveats(mut macaroon: macaroon::Macaroon, caveats: &[String]) -> Result<Macaroon, MacaroonError> {
    for caveat in caveats {
        macaroon.add_first_party_caveat(caveat.as_str().into());
    }
    // The crate writes URL-safe base64; we keep the bytes and write the standard alphabet.
    Macaroon::from_base64(&macaroon.serialize(Format::V2).map_err(|_| MacaroonError::Unwritable)?)
}

const VERSION_2: u8 = 2;
const END_OF_SECTION: u8 = 0;
const FIELD_LOCATION: u8 = 1;
const FIELD_IDENTIFIER: u8 = 2;
const FIELD_VERIFIER_ID: u8 = 4;
const FIELD_SIGNATURE: u8 = 6;

struct Reader<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl Reader<'_> {
    fn peek(&self) -> Option<u8> {
        self.bytes.get(self.at).copied()
    }

    fn next(&mut self) -> Result<u8, MacaroonError> {
        let byte = self.peek().ok_or(MacaroonError::Malformed)?;
        self.at += 1;
        Ok(byte)
    }

    fn expect(&mut self, wanted: u8) -> Result<(), MacaroonError> {
        if self.next()? == wanted { Ok(()) } else { Err(MacaroonError::Malformed) }
    }

    /// The place of the data of a field of this type.
    fn field(&mut self, field_type: u8) -> Result<Range<usize>, MacaroonError> {
        self.expect(field_type)?;
        let start_of_length = self.at;
        let mut len = 0_usize;
        loop {
            let byte = self.next()?;
            // Three groups of seven bits hold more than the longest macaroon.
            let shift = 7 * (self.at - start_of_length - 1);
            if shift > 14 {
                return Err(MacaroonError::Malformed);
            }
            len |= usize::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                break;
            }
        }
        let start = self.at;
        let end = start + len;
        if end > self.bytes.len() {
            return Err(MacaroonError::Malformed);
        }
        self.at = end;
        Ok(start..end)
    }
}
