//! Guest memory: a memfd without a name, mapped but not committed until the guest touches it.

use crate::layout;
use rustix::fs::{MemfdFlags, SealFlags, fcntl_add_seals, ftruncate, memfd_create};
use std::fs::File;
use std::io;
use std::sync::Arc;
use vm_memory::{FileOffset, GuestAddress, GuestMemoryMmap};

/// Maps `mebibytes` of memory.
///
/// # Errors
/// When the host refuses as much address space.
pub fn create(mebibytes: u32) -> io::Result<GuestMemoryMmap> {
    let bytes = u64::from(mebibytes) << 20;
    let flags = MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING;
    let file = memfd_create("guest", flags)?;
    ftruncate(&file, bytes)?;
    // Nobody, not even we, can make it smaller under the devices' feet.
    fcntl_add_seals(&file, SealFlags::SHRINK | SealFlags::GROW | SealFlags::SEAL)?;
    let file = Arc::new(File::from(file));
    let mut offset = 0;
    let ranges: Vec<(GuestAddress, usize, Option<FileOffset>)> = layout::memory_ranges(bytes)
        .into_iter()
        .map(|(start, length)| {
            let backing = FileOffset::from_arc(file.clone(), offset);
            offset += length;
            (start, usize::try_from(length).unwrap_or(usize::MAX), Some(backing))
        })
        .collect();
    GuestMemoryMmap::from_ranges_with_files(ranges).map_err(io::Error::other)
}
