//! GUIDs, which GPT stores with their first three fields little-endian.

use super::error::Problem;
use crate::Error;
use std::fmt;
use std::str::FromStr;

/// A GUID, in the order in which it is printed (RFC 9562); see `to_disk` for how GPT stores it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Default)]
pub struct Guid(pub [u8; 16]);

impl Guid {
    /// As a number of 32 hexadecimal digits.
    pub const fn from_u128(value: u128) -> Self {
        Self(value.to_be_bytes())
    }

    /// With the first three fields (4, 2 and 2 bytes) turned, as UEFI 2.10, appendix A, stores it.
    pub fn to_disk(self) -> [u8; 16] {
        let mut bytes = self.0;
        bytes[..4].reverse();
        bytes[4..6].reverse();
        bytes[6..8].reverse();
        bytes
    }

    /// Marks 16 bytes that were made by hashing as a version 8 UUID (RFC 9562, section 5.8).
    pub(super) fn from_hash(hash: [u8; 16]) -> Self {
        let mut bytes = hash;
        bytes[6] = bytes[6] & 0x0f | 0x80;
        bytes[8] = bytes[8] & 0x3f | 0x80;
        Self(bytes)
    }
}

impl fmt::Display for Guid {
    /// Lower case with hyphens, as Linux names it in `PARTUUID=`.
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, byte) in self.0.iter().enumerate() {
            let hyphen = if matches!(index, 4 | 6 | 8 | 10) { "-" } else { "" };
            write!(out, "{hyphen}{byte:02x}")?;
        }
        Ok(())
    }
}

impl FromStr for Guid {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        let hyphens_are_right = text.len() == 36
            && text.bytes().enumerate().all(|(at, byte)| (byte == b'-') == matches!(at, 8 | 13 | 18 | 23));
        let digits: String = text.chars().filter(|&digit| digit != '-').collect();
        let is_hexadecimal = digits.bytes().all(|digit| digit.is_ascii_hexdigit());
        let value = (hyphens_are_right && is_hexadecimal).then(|| u128::from_str_radix(&digits, 16).ok());
        value.flatten().map(Self::from_u128).ok_or_else(|| Problem::Guid(text.to_owned()).into())
    }
}
