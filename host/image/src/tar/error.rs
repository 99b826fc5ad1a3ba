//! What can be wrong with an archive.

use crate::error::Kind;
use crate::path::{BadPath, Quoted};
use std::fmt;

/// An archive that cannot be read further: where, in which entry, and why.
#[derive(Debug)]
pub(crate) struct ReadError {
    /// Of the header, in bytes from the start of the archive.
    pub offset: u64,
    /// As the archive spells it, once known.
    pub path: Option<Vec<u8>>,
    pub problem: Problem,
}

#[derive(Debug, thiserror::Error)]
pub(crate) enum Problem {
    #[error("the archive ends in the middle of {0}")]
    Truncated(&'static str),
    #[error("not a tar archive: {0}")]
    NotTar(&'static str),
    #[error("the header's checksum is {stored}, but its bytes add up to {computed}")]
    Checksum { stored: i64, computed: u32 },
    #[error("a lone block of zeroes between entries")]
    LoneZeroBlock,
    #[error("the {field} field holds no number")]
    NotANumber { field: &'static str },
    #[error("the {field} {value} is out of range")]
    OutOfRange { field: &'static str, value: i128 },
    #[error("entries of type {} are not supported", Quoted(&[*.0]))]
    UnknownType(u8),
    #[error("the path {}", .0)]
    Path(BadPath),
    #[error("the link target {} {why}", Quoted(target))]
    LinkTarget { target: Vec<u8>, why: BadPath },
    #[error("the link target is empty, too long or has a NUL byte")]
    SymlinkTarget,
    #[error("only a directory can be the root")]
    RootKind,
    #[error("an extended header of {size} bytes, more than the {limit} allowed")]
    LongExtension { size: u64, limit: u64 },
    #[error("malformed extended header: {0}")]
    Pax(&'static str),
    #[error("malformed extended header value for {keyword}")]
    PaxValue { keyword: &'static str },
    #[error("malformed extended attribute {}: {why}", Quoted(name))]
    Xattr { name: Vec<u8>, why: &'static str },
    #[error("malformed map of a sparse file: {0}")]
    Sparse(&'static str),
    #[error("more than {0} entries")]
    TooManyEntries(u64),
    #[error("more than {0} extended headers for one entry")]
    TooManyExtensions(u32),
    #[error("a sparse file of {size} bytes, more than the {limit} allowed")]
    HugeSparse { size: u64, limit: u64 },
}

impl ReadError {
    pub(crate) fn is_truncated(&self) -> bool {
        matches!(self.problem, Problem::Truncated(_))
    }

    pub(crate) fn is_unsupported(&self) -> bool {
        matches!(self.problem, Problem::UnknownType(_))
    }

    pub(crate) fn is_corrupt(&self) -> bool {
        !self.is_truncated() && !self.is_unsupported()
    }
}

impl From<ReadError> for crate::Error {
    fn from(error: ReadError) -> Self {
        Kind::Tar(Box::new(error)).into()
    }
}

impl fmt::Display for ReadError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.path {
            None if matches!(self.problem, Problem::NotTar(_)) => self.problem.fmt(f),
            Some(path) => write!(f, "tar entry {} at byte {}: {}", Quoted(path), self.offset, self.problem),
            None => write!(f, "tar archive at byte {}: {}", self.offset, self.problem),
        }
    }
}

impl std::error::Error for ReadError {}

/// An entry that cannot be written, or was not written as announced.
#[derive(Debug, thiserror::Error)]
#[error("tar entry {}: {problem}", Quoted(path))]
pub(crate) struct WriteError {
    pub path: Vec<u8>,
    pub problem: WriteProblem,
}

#[derive(Debug, thiserror::Error)]
pub(crate) enum WriteProblem {
    #[error("the path {0}")]
    Path(BadPath),
    #[error("the link target {} {why}", Quoted(target))]
    LinkTarget { target: Vec<u8>, why: BadPath },
    #[error("the link target is empty, too long or has a NUL byte")]
    SymlinkTarget,
    #[error("only a directory can be the root")]
    RootKind,
    #[error("the mode {0:o} is out of range")]
    Mode(u16),
    #[error("the device number {major}:{minor} is out of range")]
    Device { major: u32, minor: u32 },
    #[error("extended attribute {}: {why}", Quoted(name))]
    Xattr { name: Vec<u8>, why: &'static str },
    #[error("an extended header of {size} bytes, more than the {limit} that readers allow")]
    LongExtension { size: u64, limit: u64 },
    #[error("more than the announced {size} bytes of data")]
    TooMuchData { size: u64 },
    #[error("{missing} of the announced {size} bytes of data are missing")]
    MissingData { size: u64, missing: u64 },
}

impl From<WriteError> for crate::Error {
    fn from(error: WriteError) -> Self {
        Kind::TarWrite(Box::new(error)).into()
    }
}
