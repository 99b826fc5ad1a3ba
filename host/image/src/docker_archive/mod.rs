//! The `docker-archive` format: what `docker save` writes and `docker load` reads.
//!
//! A tar, often compressed as a whole. Its layout has changed over time:
//!
//! - Today `manifest.json` lists images: the member with the configuration, the names, and the
//!   members with the layers, lowest first. `docker save` and skopeo call these members by other
//!   names, compress layers or not, and put symbolic links where a layer comes twice; only the
//!   manifest says what is what. It may be the last member.
//! - Before 1.10, `repositories` maps names and tags to layers' IDs. Each layer is a directory with
//!   `json` (its parent and, in the top one, the configuration) and `layer.tar`. Nothing is known
//!   by its digest.
//!
//! [`read()`] takes either, in one pass over a stream, whatever the order of its members: documents
//! are kept in memory, layers go to a [`LayerSink`] while they are hashed, and at the end everything
//! is verified. [`write()`] writes both layouts at once, as skopeo does, so that any daemon can load it.
//!
//! <https://github.com/moby/docker-image-spec/blob/v1.3.1/spec.md#combined-image-json--filesystem-changeset-format>

mod choose;
mod legacy;
mod manifest;
mod members;
mod read;
mod v1;
mod write;

pub use read::{read, read_all};
pub use write::{ArchiveImage, write, write_all};

use crate::config::ImageConfig;
use crate::digest::Digest;
use crate::reference::ImageName;
use std::io::{self, Read, Write};

/// Where the manifest is.
const MANIFEST: &str = "manifest.json";
/// Where the names are, in the layout before 1.10.
const REPOSITORIES: &str = "repositories";

/// An image that was read and verified.
#[derive(Debug, Clone, PartialEq)]
pub struct Archive {
    /// The configuration.
    pub config: ImageConfig,
    /// The configuration's bytes as the archive has them; their digest is [`image_id`](Self::image_id).
    ///
    /// For the layout before 1.10 they are made from what its documents say, as docker makes them.
    pub config_json: Vec<u8>,
    /// The image ID.
    pub image_id: Digest,
    /// Its names in the archive.
    pub names: Vec<ImageName>,
    /// Its layers, lowest first. Layers may come twice.
    pub layers: Vec<LayerRef>,
}

/// A layer's uncompressed tar.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LayerRef {
    /// Digest of the uncompressed tar.
    pub diff_id: Digest,
    /// Bytes of the uncompressed tar.
    pub size: u64,
}

/// Takes the layers of an archive while it is read.
///
/// More may come than the image chosen has: which are its own is known at the end only, from
/// [`Archive::layers`]. When reading fails, nothing that came is verified against any configuration.
pub trait LayerSink {
    /// Takes one layer's uncompressed tar.
    type Writer: Write;

    /// Begins a layer. `member` is its name in the archive, for messages.
    ///
    /// # Errors
    /// Its own; reading fails then.
    fn begin(&mut self, member: &str) -> io::Result<Self::Writer>;

    /// Ends a layer that was read wholly. The digest is that of what was written.
    ///
    /// # Errors
    /// Its own; reading fails then.
    fn end(&mut self, writer: Self::Writer, layer: LayerRef) -> io::Result<()>;
}

/// Gives the layers of an image that is written.
pub trait LayerSource {
    /// Gives one layer's tar.
    type Reader: Read;

    /// Opens a layer, as the archive has it: compressed in the archive's format (in any pieces), or
    /// the tar itself when the archive is not compressed.
    ///
    /// # Errors
    /// Its own; writing fails then.
    fn open(&mut self, diff_id: &Digest) -> io::Result<StoredLayer<Self::Reader>>;
}

/// A layer ready to be copied into an archive.
#[derive(Debug)]
pub struct StoredLayer<R> {
    /// Bytes of the uncompressed tar.
    pub size: u64,
    /// The tar, in the archive's compression.
    pub bytes: R,
}

#[cfg(test)]
mod tests;
