//! Compression: gzip and zstd, in pieces that may be put together freely.
//!
//! A gzip file is a sequence of members and a zstd file one of frames; a reader gives their
//! contents one after the other. So the concatenation of compressed pieces is the compressed form
//! of the concatenation. Everything here is built on that: [`ParallelCompressor`] cuts its input
//! into blocks of a fixed size and makes each a member (or frame) of its own, on any number of
//! threads with the same result; and an archive is put together from pieces compressed long ago.
//!
//! - gzip: <https://www.rfc-editor.org/rfc/rfc1952>
//! - zstd: <https://www.rfc-editor.org/rfc/rfc8878>

mod block;
mod decompressor;
mod parallel;

pub use decompressor::{Decompressor, Format};
pub use parallel::ParallelCompressor;

use crate::error::{Error, Kind};
use std::fmt;
use std::ops::RangeInclusive;
use std::str::FromStr;

/// What is done to bytes before they are stored. Written `gzip`, `gzip:9`, `zstd`, `zstd:19`, `none`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Compression {
    /// gzip of this level.
    Gzip(Level),
    /// zstd of this level.
    Zstd(Level),
    /// The bytes as they are.
    None,
}

/// How hard to try, within what the format has.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Level(u8);

impl Level {
    /// The number.
    pub fn get(self) -> u8 {
        self.0
    }
}

/// As `gzip -1` to `gzip -9`.
const GZIP_LEVELS: RangeInclusive<u8> = 1..=9;
/// As `zstd -1` to `zstd --ultra -22`.
const ZSTD_LEVELS: RangeInclusive<u8> = 1..=22;

impl Compression {
    /// gzip as the gzip program does it unless told otherwise.
    pub const GZIP: Self = Self::Gzip(Level(6));
    /// zstd as the zstd program does it unless told otherwise.
    pub const ZSTD: Self = Self::Zstd(Level(3));

    /// gzip of a level of 1 to 9.
    ///
    /// # Errors
    /// For any other level.
    pub fn gzip(level: u8) -> Result<Self, Error> {
        checked("gzip", level, GZIP_LEVELS).map(Self::Gzip)
    }

    /// zstd of a level of 1 to 22.
    ///
    /// # Errors
    /// For any other level.
    pub fn zstd(level: u8) -> Result<Self, Error> {
        checked("zstd", level, ZSTD_LEVELS).map(Self::Zstd)
    }

    /// What a file's name asks for: `.tar.gz`, `.tgz`, `.gz`; `.tar.zst`, `.tzst`, `.zst`; `.tar`.
    /// `None` when it says nothing.
    pub fn from_file_name(name: &str) -> Option<Self> {
        let (_, ending) = name.rsplit_once('.')?;
        match ending.to_ascii_lowercase().as_str() {
            "gz" | "tgz" => Some(Self::GZIP),
            "zst" | "tzst" => Some(Self::ZSTD),
            "tar" => Some(Self::None),
            _ => None,
        }
    }

    /// The format, without the level.
    pub fn format(self) -> Format {
        match self {
            Self::Gzip(_) => Format::Gzip,
            Self::Zstd(_) => Format::Zstd,
            Self::None => Format::None,
        }
    }
}

fn checked(format: &str, level: u8, levels: RangeInclusive<u8>) -> Result<Level, Error> {
    if levels.contains(&level) {
        return Ok(Level(level));
    }
    Err(Kind::Unsupported(format!("{format} has levels {} to {}, not {level}", levels.start(), levels.end()))
        .into())
}

impl FromStr for Compression {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        let syntax = |why| Kind::Syntax { what: "a compression", text: text.to_owned(), why };
        let (name, level) = match text.split_once(':') {
            Some((name, level)) => {
                (name, Some(level.parse().map_err(|_| syntax("the level after `:` must be a small number"))?))
            }
            None => (text, None),
        };
        match (name, level) {
            ("gzip", None) => Ok(Self::GZIP),
            ("gzip", Some(level)) => Self::gzip(level),
            ("zstd", None) => Ok(Self::ZSTD),
            ("zstd", Some(level)) => Self::zstd(level),
            ("none", None) => Ok(Self::None),
            ("none", Some(_)) => Err(syntax("`none` has no levels").into()),
            _ => Err(syntax("kiln writes `gzip[:1-9]`, `zstd[:1-22]` and `none`").into()),
        }
    }
}

impl fmt::Display for Compression {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Gzip(level) => write!(f, "gzip:{}", level.0),
            Self::Zstd(level) => write!(f, "zstd:{}", level.0),
            Self::None => f.write_str("none"),
        }
    }
}

/// The compressed form of a few bytes, as one piece.
///
/// Deterministic; to be concatenated with other pieces of the same format.
pub fn piece(compression: Compression, bytes: &[u8]) -> Vec<u8> {
    let mut piece = Vec::new();
    block::Codec::new(compression).compress(bytes, &mut piece);
    piece
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_of_the_user() {
        for (text, shown) in [
            ("gzip", "gzip:6"),
            ("gzip:1", "gzip:1"),
            ("gzip:9", "gzip:9"),
            ("zstd", "zstd:3"),
            ("zstd:22", "zstd:22"),
            ("none", "none"),
        ] {
            assert_eq!(text.parse::<Compression>().unwrap().to_string(), shown);
        }
    }

    #[test]
    fn wrong_words_of_the_user() {
        let formats = "kiln writes `gzip[:1-9]`, `zstd[:1-22]` and `none`";
        let number = "the level after `:` must be a small number";
        for (text, why) in [
            ("", formats),
            ("xz", formats),
            ("bzip2:9", formats),
            ("GZIP", formats),
            ("gzip:", number),
            ("gzip:-1", number),
            ("gzip:256", number),
            ("none:1", "`none` has no levels"),
        ] {
            let error = text.parse::<Compression>().unwrap_err();
            assert_eq!(error.to_string(), format!("{text:?} is not a compression: {why}"));
        }
        for (text, expected) in [
            ("gzip:0", "gzip has levels 1 to 9, not 0"),
            ("gzip:10", "gzip has levels 1 to 9, not 10"),
            ("zstd:0", "zstd has levels 1 to 22, not 0"),
            ("zstd:23", "zstd has levels 1 to 22, not 23"),
        ] {
            assert_eq!(text.parse::<Compression>().unwrap_err().to_string(), expected);
        }
    }

    #[test]
    fn endings_of_files() {
        for (name, expected) in [
            ("a.tar.gz", Some(Compression::GZIP)),
            ("dir.d/a.tgz", Some(Compression::GZIP)),
            ("a.TAR.ZST", Some(Compression::ZSTD)),
            ("a.tzst", Some(Compression::ZSTD)),
            ("a.tar", Some(Compression::None)),
            ("a", None),
            ("a.img", None),
        ] {
            assert_eq!(Compression::from_file_name(name), expected, "{name}");
        }
    }
}
