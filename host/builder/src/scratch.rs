//! The scratch disk: everything that changes in the guest, forgotten afterwards.

use crate::{Error, error::Kind, packing::temporary_file};
use kiln_devices::FileStorage;
use kiln_disk::ext4;
use kiln_store::Store;
use std::{io, os::unix::fs::FileExt, sync::Arc};

/// The disk's serial, by which the agent finds it.
pub(crate) const SERIAL: &str = "scratch";

/// Identity of the file system and seed of its directories' hashes: fixed, so that the order of
/// readdir(3) is, on which sloppy scripts depend.
const UUID: [u8; 16] = *b"kiln scratch ext";

/// An empty file system of `size` bytes on a sparse file without a name.
pub(crate) fn make(store: &Store, size: u64) -> Result<Arc<FileStorage>, Error> {
    let writes = ext4::make(&ext4::Options {
        size,
        uuid: UUID,
        hash_seed: UUID,
        volume_name: *b"kiln scratch\0\0\0\0",
    });
    let file = temporary_file(store)?;
    let directory = || store.path().to_owned();
    file.set_len(size).map_err(|source| Kind::ScratchFile { size, directory: directory(), source })?;
    let failed = |source| write_failed(store, source);
    for write in writes.map_err(|source| Kind::Scratch { size, source })? {
        file.write_all_at(&write.bytes, write.offset).map_err(failed)?;
    }
    Ok(Arc::new(FileStorage::writable(file).map_err(failed)?))
}

/// The host could not take what the guest wrote.
pub(crate) fn write_failed(store: &Store, source: io::Error) -> Error {
    Kind::ScratchWrite { directory: store.path().to_owned(), source }.into()
}
