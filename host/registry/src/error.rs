//! The error of this crate.

use kiln_image::digest::Digest;
use std::io;
use std::path::PathBuf;

/// What went wrong between here and a registry. Ask it what class of failure it is; show it to a person.
#[derive(Debug, thiserror::Error)]
#[error(transparent)]
pub struct Error(Box<Kind>);

#[derive(Debug, thiserror::Error)]
pub(crate) enum Kind {
    #[error("{method} {url}: {attempts}{status}{message}")]
    Status { method: String, url: String, status: u16, message: String, attempts: Attempts },
    #[error("{method} {url}: {attempts}{problem}")]
    Connection { method: String, url: String, problem: String, attempts: Attempts },
    #[error("{what}: {why}")]
    Answer { what: String, why: String },
    #[error("digest mismatch: {what} should be {expected}, but is {got}")]
    DigestMismatch { what: String, expected: Digest, got: Digest },
    #[error("{what} should have {expected} bytes, but has {got}")]
    Size { what: String, expected: u64, got: u64 },
    #[error("cannot read {what}")]
    Source { what: String, source: io::Error },
    #[error("the credentials in {} cannot be used: {why}", path.display())]
    Credentials { path: PathBuf, why: String },
    #[error("the credential helper {helper} failed: {why}")]
    Helper { helper: String, why: String },
    #[error("the certificate {} cannot be used: {why}", path.display())]
    Certificate { path: PathBuf, why: String },
}

/// How often something was tried, for messages: nothing when once.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Attempts(pub u32);

impl std::fmt::Display for Attempts {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.0 {
            0 | 1 => Ok(()),
            count => write!(f, "tried {count} times, last: "),
        }
    }
}

impl Error {
    /// The registry does not have it.
    pub fn is_not_found(&self) -> bool {
        matches!(*self.0, Kind::Status { status: 404, .. })
    }

    /// The registry wants other credentials, or any.
    pub fn is_unauthorized(&self) -> bool {
        matches!(*self.0, Kind::Status { status: 401 | 403, .. })
    }

    /// Something has another digest than it should.
    pub fn is_digest_mismatch(&self) -> bool {
        matches!(*self.0, Kind::DigestMismatch { .. })
    }

    /// Something is shorter or longer than it should be, or no answer of a registry's.
    pub fn is_corrupt(&self) -> bool {
        matches!(*self.0, Kind::Size { .. } | Kind::Answer { .. })
    }

    /// Something is shorter or longer than it should be.
    pub(crate) fn is_wrong_size(&self) -> bool {
        matches!(*self.0, Kind::Size { .. })
    }

    /// The same, said to be the last of several tries.
    pub(crate) fn tried(mut self, times: u32) -> Self {
        if let Kind::Status { attempts, .. } | Kind::Connection { attempts, .. } = &mut *self.0 {
            *attempts = Attempts(times);
        }
        self
    }

    pub(crate) fn status(&self) -> Option<u16> {
        match *self.0 {
            Kind::Status { status, .. } => Some(status),
            _ => None,
        }
    }

    /// Whether another mirror, or the registry itself, may do better.
    pub(crate) fn may_be_elsewhere(&self) -> bool {
        !matches!(*self.0, Kind::Source { .. } | Kind::Credentials { .. } | Kind::Helper { .. })
    }
}

impl From<Kind> for Error {
    fn from(kind: Kind) -> Self {
        Self(Box::new(kind))
    }
}

/// Readers of this crate fail with an [`io::Error`] that carries the [`Error`].
impl From<Error> for io::Error {
    fn from(error: Error) -> Self {
        let kind = match *error.0 {
            Kind::Size { .. } => io::ErrorKind::UnexpectedEof,
            Kind::DigestMismatch { .. } | Kind::Answer { .. } => io::ErrorKind::InvalidData,
            Kind::Status { status: 404, .. } => io::ErrorKind::NotFound,
            Kind::Status { status: 401 | 403, .. } => io::ErrorKind::PermissionDenied,
            _ => io::ErrorKind::Other,
        };
        Self::new(kind, error)
    }
}
