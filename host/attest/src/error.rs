//! The error of this crate.

use std::fmt;
use std::io;

/// Why something of an image cannot be described. Ask it what class of failure it is; show it to a
/// person.
#[derive(Debug, thiserror::Error)]
#[error(transparent)]
pub struct Error(#[from] Kind);

#[derive(Debug, thiserror::Error)]
pub(crate) enum Kind {
    /// The caller's [`Files`](crate::Files) failed.
    #[error("cannot read {path}")]
    Io { path: Path, source: io::Error },
    /// More bytes than kiln reads of such a file.
    #[error("{path} is larger than the {limit} bytes that are read of it")]
    TooLarge { path: Path, limit: u64 },
    /// The package databases together are too large.
    #[error("{path} is not read: the package databases have more than {limit} bytes together")]
    Budget { path: Path, limit: u64 },
    /// More packages than any system has.
    #[error("{path}: more than {limit} packages")]
    TooMany { path: Path, limit: usize },
    /// The file is not what its format asks for.
    #[error("{path}, {place}: {why}")]
    Corrupt { path: Path, place: Place, why: &'static str },
    /// A known format that is not read.
    #[error("{path} is not read: {why}")]
    Unsupported { path: Path, why: &'static str },
}

impl Error {
    /// The caller's [`Files`](crate::Files) failed.
    pub fn is_io(&self) -> bool {
        matches!(self.0, Kind::Io { .. })
    }

    /// A file is damaged.
    pub fn is_corrupt(&self) -> bool {
        matches!(self.0, Kind::Corrupt { .. })
    }
}

/// What is wrong in a file, and where, before it is known which file it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Problem {
    pub place: Place,
    pub why: &'static str,
}

impl Problem {
    pub(crate) fn line(line: usize, why: &'static str) -> Self {
        Self { place: Place::Line(line), why }
    }

    pub(crate) fn byte(offset: usize, why: &'static str) -> Self {
        Self { place: Place::Byte(offset), why }
    }

    pub(crate) fn row(row: i64, why: &'static str) -> Self {
        Self { place: Place::Row(row), why }
    }

    pub(crate) fn of(self, path: &[u8]) -> Error {
        Kind::Corrupt { path: Path::new(path), place: self.place, why: self.why }.into()
    }
}

/// Where in a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Place {
    /// Counted from one.
    Line(usize),
    /// Counted from zero.
    Byte(usize),
    /// A row of a table, by its key.
    Row(i64),
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Line(line) => write!(f, "line {line}"),
            Self::Byte(offset) => write!(f, "byte {offset}"),
            Self::Row(row) => write!(f, "row {row}"),
        }
    }
}

/// A path as messages show it: what is not printable UTF-8 is escaped.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Path(String);

impl Path {
    pub(crate) fn new(path: &[u8]) -> Self {
        let mut text = String::from("/");
        for chunk in path.utf8_chunks() {
            text.extend(chunk.valid().escape_debug());
            text.extend(chunk.invalid().iter().map(|byte| format!("\\x{byte:02x}")));
        }
        Self(text)
    }
}

impl fmt::Display for Path {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}
