//! Digests of content, and writers that compute them in passing.

use crate::error::{Error, Kind};
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};
use std::fmt;
use std::io::{self, Write};
use std::str::FromStr;

/// Bytes of a SHA-256 digest.
const SHA256_BYTES: usize = 32;

/// The digest of some content: `sha256:` and 64 lower-case hexadecimal digits.
///
/// SHA-256 is the only algorithm: every tool that writes images uses it.
/// <https://github.com/opencontainers/image-spec/blob/v1.1.1/descriptor.md#digests>
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub struct Digest([u8; SHA256_BYTES]);

impl Digest {
    /// How a SHA-256 digest begins.
    pub const PREFIX: &str = "sha256:";

    /// The digest of these bytes.
    pub fn of(bytes: &[u8]) -> Self {
        Self(Sha256::digest(bytes).into())
    }

    /// The 64 digits, without the algorithm.
    pub fn hex(&self) -> String {
        self.0.iter().map(|byte| format!("{byte:02x}")).collect()
    }

    /// The digest of exactly 64 lower-case digits, without the algorithm.
    pub fn from_hex(hex: &str) -> Option<Self> {
        let digits = hex.as_bytes();
        if digits.len() != 2 * SHA256_BYTES {
            return None;
        }
        let mut digest = [0; SHA256_BYTES];
        for (byte, pair) in digest.iter_mut().zip(digits.chunks_exact(2)) {
            *byte = nibble(pair[0])? << 4 | nibble(pair[1])?;
        }
        Some(Self(digest))
    }
}

/// Upper case is not allowed: a digest has one spelling, as it names files.
fn nibble(digit: u8) -> Option<u8> {
    match digit {
        b'0'..=b'9' => Some(digit - b'0'),
        b'a'..=b'f' => Some(digit - b'a' + 10),
        _ => None,
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}{}", Self::PREFIX, self.hex())
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for Digest {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        let syntax = |why| Kind::Syntax { what: "a digest", text: text.to_owned(), why };
        let hex = text.strip_prefix(Self::PREFIX).ok_or_else(|| syntax("it must begin with `sha256:`"))?;
        Self::from_hex(hex)
            .ok_or_else(|| syntax("64 lower-case hexadecimal digits must follow `sha256:`").into())
    }
}

impl TryFrom<String> for Digest {
    type Error = Error;

    fn try_from(text: String) -> Result<Self, Error> {
        text.parse()
    }
}

impl From<Digest> for String {
    fn from(digest: Digest) -> Self {
        digest.to_string()
    }
}

/// Computes a [`Digest`] piece by piece.
#[derive(Debug, Clone, Default)]
pub struct Hasher {
    state: Sha256,
    size: u64,
}

impl Hasher {
    /// A hasher that has seen nothing.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds the next bytes.
    pub fn update(&mut self, bytes: &[u8]) {
        self.state.update(bytes);
        self.size += bytes.len() as u64;
    }

    /// Digest and number of all bytes added.
    pub fn finish(self) -> Hashed {
        Hashed { digest: Digest(self.state.finalize().into()), size: self.size }
    }
}

/// What passed through a [`Hasher`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Hashed {
    /// Of all bytes.
    pub digest: Digest,
    /// Bytes.
    pub size: u64,
}

/// A writer that hashes what is written through it.
#[derive(Debug)]
pub struct HashingWriter<W> {
    inner: W,
    hasher: Hasher,
}

impl<W: Write> HashingWriter<W> {
    /// Hashes what is written to `inner` from here on.
    pub fn new(inner: W) -> Self {
        Self { inner, hasher: Hasher::new() }
    }

    /// The writer, and what was written so far.
    pub fn finish(self) -> (W, Hashed) {
        (self.inner, self.hasher.finish())
    }
}

impl<W: Write> Write for HashingWriter<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let count = self.inner.write(bytes)?;
        self.hasher.update(&bytes[..count]);
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.inner.flush()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// FIPS 180-4 example "abc".
    const ABC: &str = "sha256:ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";

    #[test]
    fn one_spelling_only() {
        let upper = ABC.replace("ba78", "BA78");
        let cases = [
            ("", "it must begin with `sha256:`"),
            (&ABC[7..], "it must begin with `sha256:`"),
            ("sha512:00", "it must begin with `sha256:`"),
            ("sha256:", "64 lower-case hexadecimal digits must follow `sha256:`"),
            (&ABC[..70], "64 lower-case hexadecimal digits must follow `sha256:`"),
            (&upper, "64 lower-case hexadecimal digits must follow `sha256:`"),
        ];
        for (text, why) in cases {
            let error = text.parse::<Digest>().unwrap_err();
            assert_eq!(error.to_string(), format!("{text:?} is not a digest: {why}"));
        }
        assert_eq!(ABC.parse::<Digest>().unwrap().to_string(), ABC);
    }

    #[test]
    fn json_is_the_text() {
        let digest = Digest::of(b"abc");
        assert_eq!(serde_json::to_string(&digest).unwrap(), format!("{ABC:?}"));
        assert_eq!(serde_json::from_str::<Digest>(&format!("{ABC:?}")).unwrap(), digest);
        assert!(serde_json::from_str::<Digest>("\"sha256:00\"").is_err());
    }

    #[test]
    fn writers_hash_what_passes() {
        let expected = Hashed { digest: ABC.parse().unwrap(), size: 3 };
        let mut writer = HashingWriter::new(Vec::new());
        io::copy(&mut &b"abc"[..], &mut writer).unwrap();
        assert_eq!(writer.finish(), (b"abc".to_vec(), expected));
    }
}
