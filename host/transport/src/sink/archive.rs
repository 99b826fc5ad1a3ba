//! `oci-archive:`, a layout as a tar: the documents first, then the blobs, each in the order of its first use.

use super::{OCI_LAYOUT, copy_blob, file, replace_entries};
use crate::Error;
use crate::error::Context;
use crate::plan::Plan;
use kiln_image::digest::Digest;
use kiln_image::entry::{Entry, Kind, Metadata};
use kiln_image::manifest::{Dialect, Index};
use kiln_image::tar::Writer;
use std::io::{self, Write};

/// Nobody should change them.
const FILE_MODE: u16 = 0o444;
const DIRECTORY_MODE: u16 = 0o755;

/// Writes a plan into an archive. Returns its bytes.
pub(crate) fn write(plan: &Plan<'_>, path: &str) -> Result<u64, Error> {
    let mut index = Index::new(Dialect::Oci, Vec::new());
    replace_entries(&mut index, plan);
    file::write(path, |out| {
        let what = || format!("cannot write {path}");
        let mut tar = Writer::new(out);
        tar.append(&file_entry("oci-layout", OCI_LAYOUT.len() as u64), &mut &*OCI_LAYOUT).context(what)?;
        let bytes = index.to_document().bytes;
        tar.append(&file_entry("index.json", bytes.len() as u64), &mut &bytes[..]).context(what)?;
        for name in ["blobs/", "blobs/sha256/"] {
            tar.begin(&entry(name, DIRECTORY_MODE, Kind::Directory)).context(what)?;
        }
        for document in &plan.documents {
            let entry = file_entry(&blob_name(&document.digest), document.bytes.len() as u64);
            tar.append(&entry, &mut &document.bytes[..]).context(what)?;
        }
        for blob in &plan.blobs {
            let descriptor = &blob.descriptor;
            tar.begin(&file_entry(&blob_name(&descriptor.digest), descriptor.size)).context(what)?;
            copy_blob(blob, &mut Data(&mut tar), path)?;
        }
        tar.finish().context(what)?;
        Ok(())
    })
}

fn blob_name(digest: &Digest) -> String {
    format!("blobs/sha256/{}", digest.hex())
}

fn file_entry(name: &str, size: u64) -> Entry {
    entry(name, FILE_MODE, Kind::File { size })
}

fn entry(name: &str, mode: u16, kind: Kind) -> Entry {
    let path = name.trim_end_matches('/').into();
    Entry { path, metadata: Metadata { mode, ..Metadata::default() }, kind }
}

/// The data of the entry begun last.
struct Data<'a, W>(&'a mut Writer<W>);

impl<W: Write> Write for Data<'_, W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.data(bytes).map_err(io::Error::from)?;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
