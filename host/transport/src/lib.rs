//! From where images come and where they go: skopeo's transports, each a source and a sink.
//!
//! [`Transport::import`] brings an image of any source into the store, verified and ready to mount. [`Transport::write`]
//! writes images of the store to any sink. [`Transport::copy`] goes from source to sink without unpacking where the bytes
//! can stay as they are.

mod copy;
mod error;
mod import;
mod plan;
mod progress;
mod sink;
mod source;
mod write;

pub use error::Error;
pub use sink::PendingFile;

use kiln_image::compress::Compression;
use kiln_image::digest::Digest;
use kiln_image::manifest::{Annotations, Dialect, Platform};
use kiln_image::reference::{ImageName, ImageReference};
use kiln_registry::Client;
use kiln_store::{Store, StoredImage};
use std::num::NonZeroUsize;

/// What happens meanwhile.
#[derive(Debug, Clone, Copy)]
pub enum Event<'a> {
    /// Something begins that may take a while: "fetching docker.io/library/debian:12".
    Phase(&'a str),
    /// Something unexpected that does not stop it, such as a retry.
    Notice(&'a str),
    /// How far a blob is.
    Blob {
        /// Which.
        digest: &'a Digest,
        /// Bytes done.
        done: u64,
        /// Bytes in all.
        size: u64,
    },
}

/// Who is told. Called from several threads.
pub trait Observer: Send + Sync {
    /// Must not block for long.
    fn event(&self, event: Event<'_>);
}

/// What images are moved with.
#[derive(Clone, Copy)]
pub struct Transport<'a> {
    /// Where they are kept.
    pub store: &'a Store,
    /// For `docker://`.
    pub registry: &'a Client,
    /// Threads that compress, and layers fetched at once.
    pub threads: NonZeroUsize,
    /// Who is told.
    pub observer: &'a dyn Observer,
}

/// An image on its way out.
#[derive(Debug, Clone)]
pub struct OutputImage {
    /// Configuration and layers.
    pub image: StoredImage,
    /// Its names, in archives and layouts; a registry's name is that of the destination.
    pub names: Vec<ImageName>,
    /// Annotations.
    pub annotations: ImageAnnotations,
    /// What is said about it: SBOM, provenance.
    pub attachments: Vec<Attachment>,
}

/// Where annotations go.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct ImageAnnotations {
    /// Into the manifest.
    pub manifest: Annotations,
    /// Into the image's descriptor in the index.
    pub descriptor: Annotations,
    /// Into the index. Images written together share one.
    pub index: Annotations,
}

/// A document about an image, an OCI referrer of its manifest.
#[derive(Debug, Clone, PartialEq)]
pub struct Attachment {
    /// What it is: `application/spdx+json`, `application/vnd.in-toto+json`.
    pub artifact_type: String,
    /// The document.
    pub bytes: Vec<u8>,
    /// Of the referrer's manifest.
    pub annotations: Annotations,
    /// A digest that stands in the document for that of the manifest, which is not known before it is made: wherever its 64 digits
    /// are, the manifest's come in their place.
    pub placeholder: Option<Digest>,
}

impl Attachment {
    /// The document about a manifest.
    pub(crate) fn about(&self, manifest: &Digest) -> Vec<u8> {
        let Some(placeholder) = self.placeholder else { return self.bytes.clone() };
        let (old, new) = (placeholder.hex().into_bytes(), manifest.hex().into_bytes());
        let mut bytes = self.bytes.clone();
        let mut from = 0;
        while let Some(at) = bytes[from..].windows(old.len()).position(|window| window == old) {
            bytes[from + at..from + at + old.len()].copy_from_slice(&new);
            from += at + old.len();
        }
        bytes
    }
}

/// How images are written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OutputSpec {
    /// Where to and in which format. `-` as path of an archive is standard output.
    pub dest: ImageReference,
    /// Of layers (of a docker-archive and a root file system: of the file as a whole). Not given: layers that came compressed stay
    /// as they are, new ones are gzipped; files by their ending.
    pub compression: Option<Compression>,
    /// Compress also layers that came compressed in another way.
    pub force_compression: bool,
    /// Media types; not given: the source's where it has some, else OCI's (docker's for `dir`).
    pub dialect: Option<Dialect>,
}

/// What was written.
#[derive(Debug, Clone, PartialEq)]
pub struct Written {
    /// For people.
    pub dest: String,
    /// Bytes of the file, or of all blobs.
    pub size: u64,
    /// Of the manifest, or of the index of several; none of a docker-archive or a root file system.
    pub digest: Option<Digest>,
    /// For each image.
    pub images: Vec<WrittenImage>,
}

/// One of the images written.
#[derive(Debug, Clone, PartialEq)]
pub struct WrittenImage {
    /// Digest of the configuration.
    pub image_id: Digest,
    /// Digest of the manifest, where there is one.
    pub manifest: Option<Digest>,
    /// Its names.
    pub names: Vec<ImageName>,
    /// Its platform.
    pub platform: Platform,
}

/// How images are copied.
#[derive(Debug, Clone, Default)]
pub struct CopyOptions {
    /// Which image of an index; this machine's if not given.
    pub platform: Option<Platform>,
    /// All images of an index, and the index.
    pub all: bool,
    /// As [`OutputSpec::compression`].
    pub compression: Option<Compression>,
    /// As [`OutputSpec::force_compression`].
    pub force_compression: bool,
    /// As [`OutputSpec::dialect`].
    pub dialect: Option<Dialect>,
    /// Names instead of the source's.
    pub names: Vec<ImageName>,
    /// Referrers too.
    pub referrers: bool,
    /// Fail rather than change a manifest (`--preserve-digests`).
    pub preserve_digests: bool,
}

/// An image in the store, and what it was called.
#[derive(Debug, Clone)]
pub struct Imported {
    /// Configuration and layers.
    pub image: StoredImage,
    /// Its names where it came from.
    pub names: Vec<ImageName>,
    /// The annotations it came with.
    pub annotations: ImageAnnotations,
}

impl Transport<'_> {
    /// Brings an image into the store. What is there already is not fetched.
    ///
    /// # Errors
    /// When it cannot be read or is not what its digests say. The store then has no part of it that was not verified.
    pub fn import(&self, reference: &ImageReference, platform: &Platform) -> Result<Imported, Error> {
        self.import_one(reference, platform)
    }

    /// All images of an index or archive.
    ///
    /// # Errors
    /// As [`import`](Self::import).
    pub fn import_all(&self, reference: &ImageReference) -> Result<Vec<Imported>, Error> {
        self.import_every(reference)
    }

    /// Writes images to a sink. What was there stays as it is until all is written.
    ///
    /// # Errors
    /// When that fails, or the sink cannot hold such images.
    pub fn write(&self, images: &[OutputImage], spec: &OutputSpec) -> Result<Written, Error> {
        self.write_images(images, spec)
    }

    /// Copies images from sources to one destination; several sources make an archive or layout of several images.
    ///
    /// # Errors
    /// As [`import`](Self::import) and [`write`](Self::write).
    pub fn copy(
        &self,
        sources: &[ImageReference],
        dest: &ImageReference,
        options: &CopyOptions,
    ) -> Result<Written, Error> {
        self.copy_images(sources, dest, options)
    }
}
