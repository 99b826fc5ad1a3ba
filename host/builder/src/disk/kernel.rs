//! Kernel and initial RAM disk beside a disk, for machines that are started without a loader.

use super::{MadeDisk, survey};
use crate::{
    Error,
    contents::{self, Sources},
    error::Kind,
    guest::Surroundings,
};
use kiln_transport::PendingFile;
use std::{io::Write, path::Path};

/// Largest kernel or initial RAM disk, in bytes.
const FILE_MAX: u64 = 1 << 30;

/// Writes `vmlinuz`, `initrd` and `cmdline` of the newest kernel into a directory.
pub(crate) fn write(disk: &MadeDisk, directory: &Path, surroundings: Surroundings) -> Result<u64, Error> {
    let kernel =
        disk.kernels.first().ok_or_else(|| Kind::Plan("there is no kernel in the image".to_owned()))?;
    let store = surroundings.store;
    let tree = store.base(&disk.image).and_then(|base| base.tree());
    let tree =
        tree.map_err(|source| Kind::Store { what: "cannot read the image's files".to_owned(), source })?;
    let sources = Sources::new(store, &disk.image.layers);
    let read = |path: &str| -> Result<Vec<u8>, Error> {
        let found = survey::find(&tree, path).ok_or_else(|| Kind::NotInImage { path: path.to_owned() })?;
        contents::read_file(&tree, &sources, found.1, path, FILE_MAX)
    };
    let mut files =
        vec![("vmlinuz", read(&kernel.path)?), ("cmdline", format!("{}\n", disk.command_line).into_bytes())];
    if let Some(initrd) = &kernel.initrd {
        files.push(("initrd", read(initrd)?));
    }
    let failed = |dest: &Path| {
        let dest = dest.to_owned();
        move |source| Kind::Destination { dest, source }
    };
    std::fs::create_dir_all(directory).map_err(failed(directory))?;
    let mut size = 0;
    for (name, bytes) in files {
        let dest = directory.join(name);
        let mut pending = PendingFile::create(&dest).map_err(failed(&dest))?;
        pending.write_all(&bytes).map_err(failed(&dest))?;
        size += pending.commit().map_err(failed(&dest))?;
    }
    Ok(size)
}
