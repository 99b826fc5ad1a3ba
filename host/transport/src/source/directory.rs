//! `dir:`, as `skopeo copy` writes it: `manifest.json`, and blobs by their hexadecimal digits.
//!
//! With several images `manifest.json` is their index, and each manifest is `<digits>.manifest.json`.

use super::{BlobSource, Root, open_file, read_file};
use crate::Error;
use crate::error::Context;
use kiln_image::digest::Digest;
use kiln_image::manifest::{Descriptor, Document};
use std::io::Read;
use std::path::{Path, PathBuf};

/// A directory that is read.
pub(crate) struct DirectorySource {
    path: PathBuf,
    root: Document,
}

impl DirectorySource {
    pub fn open(path: &Path) -> Result<Self, Error> {
        let manifest = path.join("manifest.json");
        let what = || format!("cannot use {}", manifest.display());
        let root = Document::parse(read_file(&manifest)?, None).context(what)?;
        Ok(Self { path: path.to_owned(), root })
    }
}

impl BlobSource for DirectorySource {
    fn name(&self) -> String {
        format!("dir:{}", self.path.display())
    }

    fn roots(&self) -> Result<Vec<Root>, Error> {
        Ok(vec![Root { descriptor: self.root.descriptor(), names: Vec::new() }])
    }

    fn document(&self, descriptor: &Descriptor) -> Result<Document, Error> {
        if descriptor.digest == self.root.digest {
            return Ok(self.root.clone());
        }
        let path = self.path.join(format!("{}.manifest.json", descriptor.digest.hex()));
        let bytes = read_file(&path)?;
        super::verify(descriptor, &bytes, || path.display().to_string())?;
        let what = || format!("cannot use {}", path.display());
        Document::parse(bytes, Some(&descriptor.media_type)).context(what)
    }

    fn open(&self, descriptor: &Descriptor) -> Result<Box<dyn Read + Send>, Error> {
        Ok(Box::new(open_file(&self.path.join(descriptor.digest.hex()))?))
    }

    fn referrers(&self, _subject: &Digest) -> Result<Vec<Descriptor>, Error> {
        Ok(Vec::new())
    }
}
