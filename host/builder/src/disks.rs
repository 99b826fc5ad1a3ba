//! Disks of the VM: images and contents as the guest sees them.

use crate::{Error, error::Kind};
use kiln_devices::{ComposedStorage, Segment, Storage};
use kiln_engine::Disk;
use kiln_image::{tar::Reader, tree::Tree};
use kiln_store::{Store, StoredImage};
use std::{
    fs::File,
    io::{self, BufReader},
    path::Path,
    sync::Arc,
};

/// Serials by which the agent finds its disks.
pub(crate) const BASE: &str = "base";
pub(crate) const TOOLS: &str = "tools";
pub(crate) const CONTENTS: &str = "contents";

/// An image of the store as a read-only disk.
pub(crate) fn of_image(serial: &str, image: &StoredImage, store: &Store) -> Result<Disk, Error> {
    let base = store
        .base(image)
        .map_err(|source| Kind::Store { what: "cannot prepare the base image".to_owned(), source })?;
    read_only(serial, base.segments()).map_err(|source| temporary(store.path(), source))
}

/// Packed contents as a read-only disk. Their index is made anew each time: contents change.
pub(crate) fn of_contents(packed: &File, store: &Store) -> Result<Disk, Error> {
    let failed = |source| temporary(store.path(), source);
    let source = kiln_store::Segment::whole(packed.try_clone().map_err(failed)?).map_err(failed)?;
    let reader = Reader::seekable(BufReader::new(source.reader()));
    let tree = reader
        .and_then(|mut reader| Tree::from_archive(0, reader.entries()))
        .map_err(|source| Kind::Layer { directory: store.path().to_owned(), source })?;
    let segments = store
        .compose(&tree, &[source])
        .map_err(|source| Kind::Store { what: "cannot prepare the contents".to_owned(), source })?;
    read_only(CONTENTS, segments).map_err(failed)
}

fn read_only(serial: &str, parts: impl IntoIterator<Item = kiln_store::Segment>) -> io::Result<Disk> {
    let segments = parts.into_iter().flat_map(|part| {
        let padding = part.padded_length() - part.length;
        let kiln_store::Segment { file, offset, length } = part;
        [Segment::File { file, offset, length }, Segment::Zeroes(padding)]
    });
    let storage: Arc<dyn Storage> = Arc::new(ComposedStorage::new(segments)?);
    Ok(Disk { serial: serial.to_owned(), storage, read_only: true })
}

fn temporary(directory: &Path, source: io::Error) -> Error {
    Kind::Temporary { directory: directory.to_owned(), source }.into()
}
