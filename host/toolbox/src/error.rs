//! What can go wrong with the toolbox.

use kiln_image::digest::Digest;
use std::io;
use std::path::{Path, PathBuf};

/// The toolbox could not be assembled.
#[derive(Debug, thiserror::Error)]
#[error(transparent)]
pub struct Error(Box<Kind>);

#[derive(Debug, thiserror::Error)]
pub(crate) enum Kind {
    #[error("line {line} of the toolbox's lock: {why}")]
    Lock { line: usize, why: String },
    #[error("the toolbox's lock {why}")]
    WholeLock { why: &'static str },
    #[error(
        "this system has no apt-get, by which the toolbox's packages are fetched: install Debian's package apt, \
         or give an image that has the tools (--toolbox IMAGE)"
    )]
    NoApt,
    #[error(
        "this system's apt knows no archive of Debian, from which the toolbox's packages come: as root, run apt-get update \
         if one is configured, or name one (set KILN_TOOLBOX_MIRROR), or give an image that has the tools (--toolbox IMAGE)"
    )]
    NoSource,
    #[error(
        "the mirror {0:?} of the toolbox is no address that apt takes: it has a space or a bracket, or no scheme"
    )]
    Mirror(String),
    #[error(
        "Debian no longer offers packages that the toolbox is locked to ({}): renew the lock (scripts/toolbox lock, then set \
         KILN_TOOLBOX_LOCK), or name an archive of snapshots that has them (set KILN_TOOLBOX_MIRROR), or give an image \
         that has the tools (--toolbox IMAGE); apt says: {said}",
        .packages.join(", ")
    )]
    NotOffered { packages: Vec<String>, said: String },
    #[error("digest mismatch: package {package} should be {expected}, but is {got}")]
    DigestMismatch { package: String, expected: Digest, got: Digest },
    #[error("package {package} should have {expected} bytes, but has {got}")]
    SizeMismatch { package: String, expected: u64, got: u64 },
    #[error("cannot {doing}; apt says: {said}")]
    Apt { doing: &'static str, said: String },
    #[error("package {package}: {why}")]
    Deb { package: String, why: String },
    #[error("cannot read package {package}")]
    DebRead { package: String, source: io::Error },
    #[error("cannot take files from package {package}")]
    DebTar { package: String, source: kiln_image::Error },
    #[error("cannot make the toolbox's layer")]
    Layer { source: kiln_image::Error },
    #[error("cannot {doing} the toolbox in the store")]
    Store { doing: &'static str, source: kiln_store::Error },
    #[error("cannot {doing} {}", .path.display())]
    Io { doing: &'static str, path: PathBuf, source: io::Error },
    #[error("interrupted")]
    Interrupted,
}

impl Error {
    pub(crate) fn io(doing: &'static str, path: &Path, source: io::Error) -> Self {
        Kind::Io { doing, path: path.to_owned(), source }.into()
    }

    /// The lock names versions that the archive has no more: renewing it helps.
    pub fn is_not_offered(&self) -> bool {
        matches!(*self.0, Kind::NotOffered { .. })
    }

    /// A package is another than the lock says.
    pub fn is_digest_mismatch(&self) -> bool {
        matches!(*self.0, Kind::DigestMismatch { .. } | Kind::SizeMismatch { .. })
    }

    /// The lock or the mirror, which a person gave, is none.
    pub fn is_usage(&self) -> bool {
        matches!(*self.0, Kind::Lock { .. } | Kind::WholeLock { .. } | Kind::Mirror(_))
    }

    /// The [observer](crate::Observer) wanted no more.
    pub fn is_interrupted(&self) -> bool {
        matches!(*self.0, Kind::Interrupted)
    }
}

impl From<Kind> for Error {
    fn from(kind: Kind) -> Self {
        Self(Box::new(kind))
    }
}
