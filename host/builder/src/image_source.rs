//! Where an image comes from.

use kiln_image::{
    digest::Digest,
    reference::{ArchiveReference, Choice},
};
use std::{
    fmt,
    path::{Path, PathBuf},
};

/// An image in a docker-archive on this host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ImageSource {
    /// The archive.
    pub path: PathBuf,
    /// Which of its images.
    pub choice: Choice,
    /// What the image ID must be, if it was said.
    pub image_id: Option<Digest>,
}

impl ImageSource {
    /// What `reference` means when it was written in `directory`.
    pub fn new(reference: ArchiveReference, directory: &Path) -> Self {
        let ArchiveReference { path, choice, image_id } = reference;
        Self { path: directory.join(path), choice, image_id }
    }
}

impl fmt::Display for ImageSource {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        self.path.display().fmt(f)
    }
}
