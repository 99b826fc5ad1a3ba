//! What can go wrong with the store.

use kiln_image::digest::Digest;
use std::io;
use std::path::{Path, PathBuf};

/// The store could not do what it was asked.
#[derive(Debug, thiserror::Error)]
#[error(transparent)]
pub struct Error(Box<Kind>);

#[derive(Debug, thiserror::Error)]
pub(crate) enum Kind {
    #[error(
        "no space left for {}: free some (kiln cache prune), or keep the cache elsewhere \
         (set KILN_CACHE to another directory)",
        .path.display()
    )]
    Full { path: PathBuf, source: io::Error },
    #[error("cannot {doing} {}", .path.display())]
    Io { doing: &'static str, path: PathBuf, source: io::Error },
    #[error(
        "the cache directory {} {why}: remove it, or set KILN_CACHE to another directory",
        .path.display()
    )]
    NotOurs { path: PathBuf, why: &'static str },
    /// Who asked for an archive says which.
    #[error(transparent)]
    Archive(kiln_image::Error),
    #[error("cannot use the image in {}", .path.display())]
    Image { path: PathBuf, source: kiln_image::Error },
    #[error("cannot read layer {diff_id}")]
    LayerTar { diff_id: Digest, source: kiln_image::Error },
    #[error("cannot lay layer {diff_id} over those below")]
    Layer { diff_id: Digest, source: kiln_image::Error },
    #[error("cannot unpack blob {digest}")]
    Blob { digest: Digest, source: kiln_image::Error },
    #[error("cannot read blob {digest}")]
    BlobRead { digest: Digest, source: io::Error },
    #[error("digest mismatch: a blob should be {0}, but is {1}")]
    BlobDigest(Digest, Digest),
    #[error("digest mismatch: an unpacked layer should be {0}, but is {1}")]
    LayerDigest(Digest, Digest),
    #[error("blob {digest} is corrupt: it has more than the {size} bytes it was said to have")]
    BlobTooLong { digest: Digest, size: u64 },
    #[error("blob {digest} ends early: after {got} of {size} bytes")]
    BlobTruncated { digest: Digest, size: u64, got: u64 },
    #[error("cannot lay out a disk over the layers")]
    Layout { source: kiln_disk::Error },
}

impl Error {
    /// The disk with the store's directory has no space left.
    pub fn is_full(&self) -> bool {
        matches!(*self.0, Kind::Full { .. })
    }

    /// What is wrong with the image, when it is the image.
    pub fn image_error(&self) -> Option<&kiln_image::Error> {
        match &*self.0 {
            Kind::Archive(source)
            | Kind::Image { source, .. }
            | Kind::LayerTar { source, .. }
            | Kind::Blob { source, .. }
            | Kind::Layer { source, .. } => Some(source),
            _ => None,
        }
    }

    /// Something has another digest than it should.
    pub fn is_digest_mismatch(&self) -> bool {
        matches!(*self.0, Kind::BlobDigest(..) | Kind::LayerDigest(..))
            || self.image_error().is_some_and(kiln_image::Error::is_digest_mismatch)
    }

    /// An input ends early.
    pub fn is_truncated(&self) -> bool {
        matches!(*self.0, Kind::BlobTruncated { .. })
            || self.image_error().is_some_and(kiln_image::Error::is_truncated)
    }

    /// An input breaks the rules of its format, or is of one that kiln does not read.
    pub fn is_corrupt(&self) -> bool {
        matches!(*self.0, Kind::BlobTooLong { .. })
            || self.image_error().is_some_and(|error| error.is_corrupt() || error.is_unsupported())
    }

    /// What the reader of a blob failed with.
    pub fn blob_read_error(&self) -> Option<&io::Error> {
        match &*self.0 {
            Kind::BlobRead { source, .. } => Some(source),
            _ => None,
        }
    }

    /// An error of a file operation.
    pub(crate) fn io(doing: &'static str, path: &Path, source: io::Error) -> Self {
        let path = path.to_path_buf();
        if is_full(&source) {
            Kind::Full { path, source }.into()
        } else {
            Kind::Io { doing, path, source }.into()
        }
    }

    /// An error of a library that was writing into `path`.
    pub(crate) fn writing<E: std::error::Error + 'static>(
        path: &Path,
        error: E,
        or: impl FnOnce(E) -> Kind,
    ) -> Self {
        match full_cause(&error) {
            Some(errno) => Kind::Full { path: path.to_path_buf(), source: errno }.into(),
            None => or(error).into(),
        }
    }
}

impl From<Kind> for Error {
    fn from(kind: Kind) -> Self {
        Self(Box::new(kind))
    }
}

fn is_full(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded)
}

/// A full disk somewhere among the causes of an error, as a new error.
fn full_cause(error: &(dyn std::error::Error + 'static)) -> Option<io::Error> {
    let mut cause = Some(error);
    while let Some(error) = cause {
        match error.downcast_ref::<io::Error>() {
            Some(io) if is_full(io) => return Some(io.kind().into()),
            Some(io) if io.get_ref().is_some() => cause = io.get_ref().map(|e| e as _),
            _ => cause = error.source(),
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_disk_is_told_however_deep_it_is() {
        let full = || io::Error::from(io::ErrorKind::StorageFull);
        let wrapped = io::Error::other(io::Error::other(full()));
        for source in [full(), wrapped, io::ErrorKind::QuotaExceeded.into()] {
            let or = |source| Kind::Io { doing: "write", path: "/c/x".into(), source };
            let error = Error::writing(Path::new("/c/x"), source, or);
            assert!(error.is_full());
            assert_eq!(
                error.to_string(),
                "no space left for /c/x: free some (kiln cache prune), or keep the cache elsewhere \
                 (set KILN_CACHE to another directory)"
            );
        }
        let other = Error::io("open", Path::new("/c/x"), io::ErrorKind::NotFound.into());
        assert!(!other.is_full());
        assert_eq!(other.to_string(), "cannot open /c/x");
    }
}
