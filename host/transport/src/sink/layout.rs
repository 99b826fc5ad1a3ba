//! `oci:`, a layout in a directory, new or there already.
//!
//! Blobs are named by their digests, so those that are there stay, and new ones harm nobody; `index.json` comes last and
//! at once.

use super::pending::PendingFile;
use super::{OCI_LAYOUT, copy_blob, replace_entries};
use crate::Error;
use crate::error::Context;
use crate::plan::Plan;
use kiln_image::digest::Digest;
use kiln_image::manifest::{Content, DOCUMENT_LIMIT, Dialect, Document, Index};
use rustix::fs::FlockOperation;
use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};

/// Writes a plan into the layout at `path`.
pub(crate) fn write(plan: &Plan<'_>, path: &Path) -> Result<(), Error> {
    let blobs = path.join("blobs/sha256");
    check(path)?;
    fs::create_dir_all(&blobs).map_err(|e| Error::file("create", &blobs, e))?;
    // Two that change one index at the same time must not undo each other's change. A file system without locks has to do.
    let directory = File::open(path).map_err(|e| Error::file("open", path, e))?;
    let _ = rustix::fs::flock(&directory, FlockOperation::LockExclusive);
    let mut index = read_index(path)?;
    for blob in &plan.blobs {
        let to = blob_path(path, &blob.descriptor.digest);
        if !has(&to, blob.descriptor.size) {
            put(&to, |out| copy_blob(blob, out, &to.display().to_string()))?;
        }
    }
    for document in &plan.documents {
        put_bytes(&blob_path(path, &document.digest), &document.bytes)?;
    }
    replace_entries(&mut index, plan);
    put_bytes(&path.join("oci-layout"), OCI_LAYOUT)?;
    put_bytes(&path.join("index.json"), &index.to_document().bytes)
}

/// A directory of something else is left alone.
fn check(path: &Path) -> Result<(), Error> {
    let entries = match fs::read_dir(path) {
        Ok(mut entries) => entries.next().is_some(),
        Err(e) if e.kind() == io::ErrorKind::NotFound => false,
        Err(e) => return Err(Error::file("list", path, e)),
    };
    // A first write that was cut short left blobs only.
    if entries && !path.join("oci-layout").exists() && !path.join("blobs").exists() {
        let message = format!("{} is a directory with other files, and no OCI layout", path.display());
        return Err(Error::usage(message));
    }
    Ok(())
}

fn blob_path(path: &Path, digest: &Digest) -> PathBuf {
    path.join("blobs/sha256").join(digest.hex())
}

fn has(path: &Path, size: u64) -> bool {
    fs::symlink_metadata(path).is_ok_and(|metadata| metadata.is_file() && metadata.len() == size)
}

fn read_index(path: &Path) -> Result<Index, Error> {
    let path = path.join("index.json");
    let file = match File::open(&path) {
        Ok(file) => file,
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(Index::new(Dialect::Oci, Vec::new())),
        Err(e) => return Err(Error::file("open", &path, e)),
    };
    let mut bytes = Vec::new();
    file.take(DOCUMENT_LIMIT + 1).read_to_end(&mut bytes).map_err(|e| Error::file("read", &path, e))?;
    let document = Document::parse(bytes, None).context(|| format!("cannot use {}", path.display()))?;
    match document.content {
        Content::Index(index) => Ok(*index),
        Content::Manifest(_) => Err(Error::corrupt(path.display().to_string(), "it is no index")),
    }
}

fn put_bytes(path: &Path, bytes: &[u8]) -> Result<(), Error> {
    put(path, |out| out.write_all(bytes).map_err(|e| Error::file("write", path, e)))
}

/// Writes a file aside and gives it its name.
pub(super) fn put(path: &Path, fill: impl FnOnce(&mut dyn Write) -> Result<(), Error>) -> Result<(), Error> {
    let mut pending = PendingFile::create_exactly(path).map_err(|e| Error::file("create", path, e))?;
    fill(&mut pending)?;
    pending.commit().map_err(|e| Error::file("write", path, e))?;
    Ok(())
}
