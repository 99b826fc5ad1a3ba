//! Content-addressed cache: verified layers, and base images ready to mount.
//!
//! # What is where
//! Everything is under one directory, which belongs to one user:
//!
//! ```text
//! layers/<diff ID>.tar                a layer, uncompressed: exactly the bytes of that digest
//! blobs/<diff ID>.<digest>            the same, compressed: exactly the bytes of the second digest
//! blobs/<digest>.origin               the repository such a blob came from
//! compressed/<format>/<diff ID>.<how> which blob kiln's own compression gives: `.gzip-6`, `.zstd-3`
//! images/<image ID>.json              an image's configuration, which names its layers
//! images/<image ID>.manifest          the digest of the manifest it came with last
//! manifests/<digest>.json             a manifest
//! bases/<chain>.erofs                 EROFS index over an image's layers, by their diff IDs
//! archives/<place>.json               which image an archive file holds, while it is unchanged
//! tmp/                                what is being written, where that needs a name
//! ```
//!
//! # Who may be here at the same time
//! Any number of processes, each of which may be killed at any moment. A file is written without a name
//! and gets it when it is whole, verified and on the disk; there are no other changes but removals. Whoever
//! writes or uses a file holds a shared flock(2) on it, which ends with the process, however that
//! ends. Removal needs the exclusive lock: what cannot be locked is in use, and what can be locked in
//! `tmp/` was left behind by the dead. Two who make the same file at once both make it, and the last
//! to give the name wins, to no difference.
//!
//! # When an archive is known
//! Like git's index, `archives/` notes a file's identity: device, inode, size, times. It is only
//! written when the file had already been left alone for a while, because a change within the
//! clock's grain of the last one would not show.
//!
//! # Damage
//! What a disk error or a hand did to a file shows when it is opened, as far as that is cheap: a layer
//! has the length noted of it, an index begins with its superblock and has the length that says, a
//! configuration its digest. What is damaged is as good as not there, and is made again over it.
//!
//! # Last use
//! A file's modification time: contents that are named by digest need none of their own.

mod archive;
mod base;
mod blob;
mod compressed;
mod directory;
mod error;
mod held;
mod image;
mod new_layer;
mod pending;
mod segment;
mod tar_file;
mod usage;

#[cfg(test)]
mod sample;

pub use base::Base;
pub use compressed::CompressedLayer;
pub use directory::Store;
pub use error::Error;
pub use held::{Layer, LayerBlob};
pub use image::StoredImage;
pub use new_layer::NewLayer;
pub use segment::{Segment, SegmentReader};
pub use usage::{Prune, Removed, Usage};
