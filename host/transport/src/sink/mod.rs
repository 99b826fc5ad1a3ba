//! Where images go. Each sink takes a [`Plan`](crate::plan::Plan), or the images themselves where it has no manifests, and is
//! complete or as it was.

mod archive;
mod directory;
mod docker_archive;
mod file;
mod layout;
mod pending;

pub use pending::PendingFile;
mod registry;
mod rootfs;

pub(crate) use archive::write as write_oci_archive;
pub(crate) use directory::write as write_directory;
pub(crate) use docker_archive::write as write_docker_archive;
pub(crate) use layout::write as write_layout;
pub(crate) use registry::push;
pub(crate) use rootfs::write as write_rootfs;

use crate::Error;
use crate::error::Kind;
use crate::plan::{Plan, PlannedBlob};
use kiln_image::digest::Hasher;
use kiln_image::manifest::{Annotations, Descriptor, Index, REF_NAME};
use std::io::{Read, Write};

/// What `oci-layout` says.
const OCI_LAYOUT: &[u8] = br#"{"imageLayoutVersion":"1.0.0"}"#;
/// Bytes copied at once.
const BUFFER_SIZE: usize = 256 * 1024;

/// Copies a blob, which is an error unless it is what its descriptor says.
fn copy_blob(blob: &PlannedBlob<'_>, out: &mut dyn Write, dest: &str) -> Result<(), Error> {
    let PlannedBlob { descriptor: Descriptor { digest, size, .. }, .. } = blob;
    let what = || format!("blob {digest}");
    let reading = |e| Error::io(|| format!("cannot read {}", what()), e);
    let mut reader = blob.open(0).map_err(reading)?;
    let (mut buffer, mut hasher, mut got) = (vec![0; BUFFER_SIZE], Hasher::new(), 0);
    loop {
        let count = match reader.read(&mut buffer) {
            Ok(0) => break,
            Ok(count) => count,
            Err(e) if e.kind() == std::io::ErrorKind::Interrupted => continue,
            Err(e) => return Err(reading(e)),
        };
        got += count as u64;
        if got > *size {
            let why = format!("it has more than the {size} bytes it was said to have");
            return Err(Error::corrupt(what(), why));
        }
        hasher.update(&buffer[..count]);
        out.write_all(&buffer[..count]).map_err(|e| Error::io(|| format!("cannot write {dest}"), e))?;
    }
    if got < *size {
        return Err(Kind::Truncated { what: what(), got, size: *size }.into());
    }
    let hashed = hasher.finish().digest;
    if hashed != *digest {
        return Err(Kind::DigestMismatch { what: what(), expected: *digest, got: hashed }.into());
    }
    Ok(())
}

/// The entries of a layout's index: each image once for each of its tags, and what is said about them.
fn entries(plan: &Plan<'_>) -> Vec<Descriptor> {
    let mut entries = Vec::new();
    for top in &plan.tops {
        if top.tags.is_empty() {
            entries.push(top.descriptor.clone());
        }
        for tag in &top.tags {
            let mut entry = top.descriptor.clone();
            entry.annotations.insert(REF_NAME.to_owned(), tag.clone());
            entries.push(entry);
        }
    }
    entries.extend(plan.referrers.iter().cloned());
    entries
}

/// Puts the plan's entries into an index: in the place of those with the same tag, or of the same image without one.
fn replace_entries(index: &mut Index, plan: &Plan<'_>) {
    let tag = |entry: &Descriptor| entry.annotations.get(REF_NAME).cloned();
    for entry in entries(plan) {
        let is_replaced = |known: &Descriptor| match tag(&entry) {
            Some(new) => tag(known) == Some(new),
            None => tag(known).is_none() && known.digest == entry.digest,
        };
        index.manifests.retain(|known| !is_replaced(known));
        index.manifests.push(entry);
    }
    let annotations: Annotations = plan.index_annotations.clone();
    index.annotations.extend(annotations);
}
