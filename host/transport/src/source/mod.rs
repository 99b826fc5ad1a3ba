//! Where images come from.
//!
//! Layouts, directories and registries are all the same: a document to begin with, and blobs by their digests
//! ([`BlobSource`]). Archives of docker and root file systems are not; the store takes those in.

mod detect;
mod directory;
mod layout;
mod registry;
pub(crate) mod rootfs;
mod select;

pub(crate) use detect::{Found, detect, open};
pub(crate) use directory::DirectorySource;
pub(crate) use layout::LayoutSource;
pub(crate) use registry::{Fetched, RegistrySource};
pub(crate) use select::{Selected, is_image, select};

use crate::Error;
use crate::error::{Context, Kind};
use kiln_image::digest::Digest;
use kiln_image::manifest::{Annotations, DOCUMENT_LIMIT, Descriptor, Document};
use kiln_image::reference::{ImageName, RegistryReference};
use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

/// Bytes of a configuration that are read at most: docker's daemon takes no more.
const CONFIG_LIMIT: u64 = 16 << 20;

/// A place with documents and blobs.
pub(crate) trait BlobSource: Send + Sync {
    /// For messages.
    fn name(&self) -> String;

    /// What the reference chooses: usually one, of a layout without tags all.
    fn roots(&self) -> Result<Vec<Root>, Error>;

    /// A manifest or index, verified.
    fn document(&self, descriptor: &Descriptor) -> Result<Document, Error> {
        let bytes = self.read(descriptor, DOCUMENT_LIMIT)?;
        let what = || format!("cannot use manifest {} of {}", descriptor.digest, self.name());
        let announced = Some(descriptor.media_type.as_str()).filter(|media_type| !media_type.is_empty());
        Document::parse(bytes, announced).context(what)
    }

    /// A blob's bytes, not verified.
    fn open(&self, descriptor: &Descriptor) -> Result<Box<dyn Read + Send>, Error>;

    /// What there is about a manifest.
    fn referrers(&self, subject: &Digest) -> Result<Vec<Descriptor>, Error>;

    /// The repository, of a registry.
    fn repository(&self) -> Option<&RegistryReference> {
        None
    }

    /// Annotations of the layout's own index.
    fn index_annotations(&self) -> Annotations {
        Annotations::new()
    }

    /// A small blob, verified.
    fn read(&self, descriptor: &Descriptor, limit: u64) -> Result<Vec<u8>, Error> {
        let what = || format!("blob {} of {}", descriptor.digest, self.name());
        if descriptor.size > limit {
            let why = format!("it has {} bytes, more than the {limit} allowed", descriptor.size);
            return Err(Error::corrupt(what(), why));
        }
        let mut bytes = Vec::new();
        let read = self.open(descriptor)?.take(descriptor.size + 1).read_to_end(&mut bytes);
        read.map_err(|e| Error::io(|| format!("cannot read {}", what()), e))?;
        verify(descriptor, &bytes, what)?;
        Ok(bytes)
    }

    /// A configuration, verified.
    fn config(&self, descriptor: &Descriptor) -> Result<Vec<u8>, Error> {
        self.read(descriptor, CONFIG_LIMIT)
    }
}

/// What a reference leads to.
#[derive(Debug, Clone)]
pub(crate) struct Root {
    /// A manifest or index.
    pub descriptor: Descriptor,
    /// Its names there.
    pub names: Vec<ImageName>,
}

fn verify(descriptor: &Descriptor, bytes: &[u8], what: impl Fn() -> String) -> Result<(), Error> {
    let (got, size) = (bytes.len() as u64, descriptor.size);
    if got < size {
        return Err(Kind::Truncated { what: what(), got, size }.into());
    }
    if got > size {
        let why = format!("it has more than the {size} bytes it was said to have");
        return Err(Error::corrupt(what(), why));
    }
    let digest = Digest::of(bytes);
    if digest != descriptor.digest {
        let expected = descriptor.digest;
        return Err(Kind::DigestMismatch { what: what(), expected, got: digest }.into());
    }
    Ok(())
}

/// Opens a regular file; anything else could wait forever.
fn open_file(path: &Path) -> Result<File, Error> {
    let open = || {
        if !std::fs::metadata(path)?.is_file() {
            return Err(io::Error::other("it is no regular file"));
        }
        File::open(path)
    };
    open().map_err(|e| Error::file("open", path, e))
}

/// A small file.
fn read_file(path: &Path) -> Result<Vec<u8>, Error> {
    let mut bytes = Vec::new();
    let read = open_file(path)?.take(DOCUMENT_LIMIT + 1).read_to_end(&mut bytes);
    read.map_err(|e| Error::file("read", path, e))?;
    if bytes.len() as u64 > DOCUMENT_LIMIT {
        let why = format!("it is larger than {DOCUMENT_LIMIT} bytes");
        return Err(Error::corrupt(path.display().to_string(), why));
    }
    Ok(bytes)
}
