//! The initramfs, as far up as it may be: there it is in nobody's way.

use super::kernel::Kernel;
use super::source_file::SourceFile;
use super::{Failure, mebibytes, memory_map};
use vm_memory::{GuestAddress, GuestMemoryMmap};

const PAGE_BYTES: u64 = 0x1000;

/// Where an initramfs is in memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Initramfs {
    pub start: GuestAddress,
    pub bytes: u64,
}

/// Puts the initramfs into `memory`; `None` if its file is empty.
pub fn load(
    memory: &GuestMemoryMmap,
    mut file: SourceFile<'_>,
    kernel: &Kernel,
) -> Result<Option<Initramfs>, Failure> {
    let bytes = file.length();
    if bytes == 0 {
        return Ok(None);
    }
    let limit = kernel.initramfs_end_max;
    let start = highest_place(bytes, kernel.end, limit.min(memory_map::low_memory_end(memory)))
        .ok_or_else(|| does_not_fit(bytes, kernel.end, limit, memory_map::size_mib(memory)))?;
    file.copy("content", (0, bytes), memory, start)?;
    Ok(Some(Initramfs { start, bytes }))
}

/// The highest page from which on `bytes` fit between `floor` and `ceiling`.
fn highest_place(bytes: u64, floor: u64, ceiling: u64) -> Option<GuestAddress> {
    let start = ceiling.checked_sub(bytes)? & !(PAGE_BYTES - 1);
    (start >= floor).then_some(GuestAddress(start))
}

/// More memory helps, or it does not.
fn does_not_fit(bytes: u64, kernel_end: u64, limit: u64, memory_mib: u64) -> Failure {
    match page_end(kernel_end).checked_add(bytes).map(page_end) {
        Some(end) if mebibytes(end) << 20 <= limit => {
            Failure::MemoryTooSmall { bytes, needed_mib: mebibytes(end), memory_mib }
        }
        _ => Failure::InitramfsTooLarge { bytes, kernel_end, limit },
    }
}

fn page_end(address: u64) -> u64 {
    address.checked_next_multiple_of(PAGE_BYTES).unwrap_or(u64::MAX)
}
