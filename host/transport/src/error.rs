//! What can go wrong between here and there.

use kiln_image::digest::Digest;
use std::io;
use std::path::Path;

/// A failed import, write or copy. Ask it what class of failure it is; show it to a person.
#[derive(Debug, thiserror::Error)]
#[error(transparent)]
pub struct Error(Box<Kind>);

#[derive(Debug, thiserror::Error)]
pub(crate) enum Kind {
    /// What was asked for cannot be, or not without saying more.
    #[error("{0}")]
    Usage(String),
    #[error("{0}")]
    Unsupported(String),
    #[error("{what} is corrupt: {why}")]
    Corrupt { what: String, why: String },
    #[error("{what} ends early: after {got} of {size} bytes")]
    Truncated { what: String, got: u64, size: u64 },
    #[error("digest mismatch: {what} should be {expected}, but is {got}")]
    DigestMismatch { what: String, expected: Digest, got: Digest },
    #[error("{what}")]
    Image { what: String, source: kiln_image::Error },
    #[error("{what}")]
    Store { what: String, source: kiln_store::Error },
    #[error("{what}")]
    Registry { what: String, source: kiln_registry::Error },
    #[error("{what}")]
    Io { what: String, source: io::Error },
    /// More about where.
    #[error("{what}")]
    At { what: String, source: Error },
}

/// What class of failure something is, as far as another crate's error tells.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Class {
    Usage,
    Unsupported,
    Corrupt,
    Truncated,
    DigestMismatch,
    Full,
    Other,
}

impl Error {
    /// Something has another digest than it should.
    pub fn is_digest_mismatch(&self) -> bool {
        self.class() == Class::DigestMismatch
    }

    /// An input ends early.
    pub fn is_truncated(&self) -> bool {
        self.class() == Class::Truncated
    }

    /// An input breaks the rules of its format.
    pub fn is_corrupt(&self) -> bool {
        self.class() == Class::Corrupt
    }

    /// An input is of a known kind that kiln does not read.
    pub fn is_unsupported(&self) -> bool {
        self.class() == Class::Unsupported
    }

    /// What was asked for is not there, or cannot be as it was asked for.
    pub fn is_usage(&self) -> bool {
        self.class() == Class::Usage
    }

    /// The disk of the store has no space left.
    pub fn is_full(&self) -> bool {
        self.class() == Class::Full
    }

    /// The error of a registry, when it is one's.
    pub fn registry_error(&self) -> Option<&kiln_registry::Error> {
        match &*self.0 {
            Kind::Registry { source, .. } => Some(source),
            Kind::At { source, .. } => source.registry_error(),
            _ => None,
        }
    }

    fn class(&self) -> Class {
        match &*self.0 {
            Kind::Usage(_) => Class::Usage,
            Kind::Unsupported(_) => Class::Unsupported,
            Kind::Corrupt { .. } => Class::Corrupt,
            Kind::Truncated { .. } => Class::Truncated,
            Kind::DigestMismatch { .. } => Class::DigestMismatch,
            Kind::Image { source, .. } => class_of_image(source),
            Kind::Store { source, .. } => class_of_store(source),
            Kind::Registry { source, .. } => class_of_registry(source),
            Kind::Io { source, .. } => class_of_io(source),
            Kind::At { source, .. } => source.class(),
        }
    }

    /// The same with the place where it happened.
    pub(crate) fn at(self, what: impl Into<String>) -> Self {
        Kind::At { what: what.into(), source: self }.into()
    }

    /// As the error of a reader or writer.
    pub(crate) fn into_io(self) -> io::Error {
        io::Error::other(self)
    }

    pub(crate) fn usage(message: impl Into<String>) -> Self {
        Kind::Usage(message.into()).into()
    }

    pub(crate) fn corrupt(what: impl Into<String>, why: impl Into<String>) -> Self {
        Kind::Corrupt { what: what.into(), why: why.into() }.into()
    }

    /// A file operation that failed: "cannot open a.tar".
    pub(crate) fn file(doing: &str, path: &Path, source: io::Error) -> Self {
        Kind::Io { what: format!("cannot {doing} {}", path.display()), source }.into()
    }

    /// An operation that failed; an error of this crate within keeps its class.
    pub(crate) fn io(what: impl FnOnce() -> String, source: io::Error) -> Self {
        match source.downcast::<Self>() {
            Ok(error) => error.at(what()),
            Err(source) => Kind::Io { what: what(), source }.into(),
        }
    }
}

fn class_of_image(error: &kiln_image::Error) -> Class {
    if error.is_truncated() {
        Class::Truncated
    } else if error.is_digest_mismatch() {
        Class::DigestMismatch
    } else if error.is_corrupt() {
        Class::Corrupt
    } else if error.is_unsupported() {
        Class::Unsupported
    } else if error.is_choice() {
        Class::Usage
    } else {
        Class::Other
    }
}

fn class_of_store(error: &kiln_store::Error) -> Class {
    if error.is_full() {
        Class::Full
    } else if error.is_digest_mismatch() {
        Class::DigestMismatch
    } else if error.is_truncated() {
        Class::Truncated
    } else if let Some(read) = error.blob_read_error() {
        class_of_io(read)
    } else if let Some(image) = error.image_error() {
        class_of_image(image)
    } else if error.is_corrupt() {
        Class::Corrupt
    } else {
        Class::Other
    }
}

fn class_of_registry(error: &kiln_registry::Error) -> Class {
    if error.is_digest_mismatch() {
        Class::DigestMismatch
    } else if error.is_corrupt() {
        Class::Corrupt
    } else {
        Class::Other
    }
}

/// Readers carry what their crates say.
fn class_of_io(error: &io::Error) -> Class {
    let Some(inner) = error.get_ref() else { return Class::Other };
    if let Some(error) = inner.downcast_ref::<Error>() {
        error.class()
    } else if let Some(error) = inner.downcast_ref::<kiln_image::Error>() {
        class_of_image(error)
    } else if let Some(error) = inner.downcast_ref::<kiln_registry::Error>() {
        class_of_registry(error)
    } else {
        Class::Other
    }
}

impl From<Kind> for Error {
    fn from(kind: Kind) -> Self {
        Self(Box::new(kind))
    }
}

/// What went on when a library failed.
pub(crate) trait Context<T> {
    fn context(self, what: impl FnOnce() -> String) -> Result<T, Error>;
}

impl<T> Context<T> for Result<T, kiln_image::Error> {
    fn context(self, what: impl FnOnce() -> String) -> Result<T, Error> {
        self.map_err(|source| Kind::Image { what: what(), source }.into())
    }
}

impl<T> Context<T> for Result<T, kiln_store::Error> {
    fn context(self, what: impl FnOnce() -> String) -> Result<T, Error> {
        self.map_err(|source| Kind::Store { what: what(), source }.into())
    }
}

impl<T> Context<T> for Result<T, kiln_registry::Error> {
    fn context(self, what: impl FnOnce() -> String) -> Result<T, Error> {
        self.map_err(|source| Kind::Registry { what: what(), source }.into())
    }
}
