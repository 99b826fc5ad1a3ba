//! The error of this crate.

use crate::digest::Digest;
use crate::{layer, merge, tar};
use std::io;

/// What went wrong with an image format. Ask it what class of failure it is; show it to a person.
#[derive(Debug, thiserror::Error)]
#[error(transparent)]
pub struct Error(#[from] Kind);

/// The cause of an error where another library found it.
pub(crate) type Cause = Box<dyn std::error::Error + Send + Sync>;

#[derive(Debug, thiserror::Error)]
pub(crate) enum Kind {
    /// A word of the user that does not parse.
    #[error("{text:?} is not {what}: {why}")]
    Syntax { what: &'static str, text: String, why: &'static str },
    /// The user asked for something that is not there, or not without saying more.
    #[error("{0}")]
    Choice(String),
    /// Known, and not supported.
    #[error("{0}")]
    Unsupported(String),
    /// The input ends early.
    #[error("{what} ends early, at byte {offset}")]
    Truncated { what: String, offset: u64 },
    /// The input is not what its format asks for.
    #[error("{what} is corrupt: {why}")]
    Corrupt { what: String, why: String, source: Option<Cause> },
    /// The input is not the one it was said to be.
    #[error("digest mismatch: {what} should be {expected}, but is {got}")]
    DigestMismatch { what: String, expected: Digest, got: Digest },
    /// Reading or writing failed outside of this crate.
    #[error("cannot {doing}")]
    Io { doing: String, source: io::Error },
    /// A tar archive is not one, or not whole.
    #[error(transparent)]
    Tar(Box<tar::ReadError>),
    /// A file does not fit into an archive, or changed while it was written.
    #[error(transparent)]
    TarWrite(Box<tar::WriteError>),
    /// A layer that cannot be laid over those below.
    #[error(transparent)]
    Merge(Box<merge::MergeError>),
    /// Something in a layer, by its index among a tree's sources.
    #[error("layer {layer}")]
    InLayer { layer: u32, source: Box<Error> },
    /// A file that cannot be in a layer.
    #[error(transparent)]
    Layer(Box<layer::LayerError>),
}

impl Error {
    /// Something has another digest than it should.
    pub fn is_digest_mismatch(&self) -> bool {
        match &self.0 {
            Kind::DigestMismatch { .. } => true,
            Kind::InLayer { source, .. } => source.is_digest_mismatch(),
            _ => false,
        }
    }

    /// The input ends early: a download or copy that did not finish.
    pub fn is_truncated(&self) -> bool {
        match &self.0 {
            Kind::Truncated { .. } => true,
            Kind::Tar(error) => error.is_truncated(),
            Kind::InLayer { source, .. } => source.is_truncated(),
            _ => false,
        }
    }

    /// The input breaks the rules of its format.
    pub fn is_corrupt(&self) -> bool {
        match &self.0 {
            Kind::Corrupt { .. } => true,
            Kind::Merge(error) => !error.is_unsupported(),
            Kind::Tar(error) => error.is_corrupt(),
            Kind::InLayer { source, .. } => source.is_corrupt(),
            _ => false,
        }
    }

    /// The input is of a known kind that kiln does not read.
    pub fn is_unsupported(&self) -> bool {
        match &self.0 {
            Kind::Unsupported(_) => true,
            Kind::Tar(error) => error.is_unsupported(),
            Kind::Merge(error) => error.is_unsupported(),
            Kind::InLayer { source, .. } => source.is_unsupported(),
            _ => false,
        }
    }

    /// What was asked for is not in the input, or there is more than one.
    pub fn is_choice(&self) -> bool {
        matches!(self.0, Kind::Choice(_))
    }

    /// The reader or the writer this crate was given failed.
    pub fn is_io(&self) -> bool {
        match &self.0 {
            Kind::Io { .. } => true,
            Kind::InLayer { source, .. } => source.is_io(),
            _ => false,
        }
    }

    /// The error of copying from or to a reader or writer of this crate, which may carry one of this
    /// crate's: then it is that one, else one of being unable to do what `doing` says ("read layer 3").
    pub fn from_io(error: io::Error, doing: impl FnOnce() -> String) -> Self {
        error.downcast::<Self>().unwrap_or_else(|source| Kind::Io { doing: doing(), source }.into())
    }
}

impl Kind {
    pub(crate) fn corrupt(what: impl Into<String>, why: impl Into<String>) -> Self {
        Self::Corrupt { what: what.into(), why: why.into(), source: None }
    }

    pub(crate) fn caused(what: impl Into<String>, why: impl Into<String>, cause: impl Into<Cause>) -> Self {
        Self::Corrupt { what: what.into(), why: why.into(), source: Some(cause.into()) }
    }
}

/// Readers and writers of this crate fail with an [`io::Error`] that carries the [`Error`].
impl From<Error> for io::Error {
    fn from(error: Error) -> Self {
        let kind = match error.0 {
            _ if error.is_truncated() => io::ErrorKind::UnexpectedEof,
            _ if error.is_unsupported() => io::ErrorKind::Unsupported,
            Kind::Io { ref source, .. } => source.kind(),
            _ => io::ErrorKind::InvalidData,
        };
        Self::new(kind, error)
    }
}
