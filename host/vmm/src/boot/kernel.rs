//! A kernel's file, of whichever format.

use super::source_file::SourceFile;
use super::{Entry, Failure, bzimage, elf, memory_map};
use crate::layout;
use linux_loader::loader::bootparam::setup_header;
use vm_memory::GuestMemoryMmap;

/// Where a bzImage's setup header has its magic number, and what that is.
const HEADER_OFFSET: usize = 0x202;
const HEADER_MAGIC: &[u8] = b"HdrS";
const ELF_MAGIC: &[u8] = b"\x7fELF";

/// A kernel in memory.
pub struct Kernel {
    pub entry: Entry,
    /// Where what the kernel needs for its first steps ends.
    pub end: u64,
    /// The initramfs must end here, at most.
    pub initramfs_end_max: u64,
    /// Bytes of the command line without the final zero.
    pub command_line_length_max: usize,
    /// For the zero page.
    pub setup_header: setup_header,
}

/// Puts the kernel into `memory`.
pub fn load(memory: &GuestMemoryMmap, mut file: SourceFile<'_>) -> Result<Kernel, Failure> {
    let start_bytes = file.length().min((HEADER_OFFSET + HEADER_MAGIC.len()) as u64);
    let start = file.read("start", 0, start_bytes as usize)?;
    if start.starts_with(ELF_MAGIC) {
        elf::load(memory, file)
    } else if start.get(HEADER_OFFSET..) == Some(HEADER_MAGIC) {
        bzimage::load(memory, file)
    } else {
        Err(Failure::UnknownFormat)
    }
}

/// The end of `part`, `bytes` from `start` on, if all of it is where a kernel may be: above our tables, below
/// the device hole.
pub fn checked_end(memory: &GuestMemoryMmap, part: &str, start: u64, bytes: u64) -> Result<u64, Failure> {
    let low_memory_end = memory_map::low_memory_end(memory);
    let end = start.checked_add(bytes).filter(|end| *end <= low_memory_end);
    end.filter(|_| start >= layout::HIGH_MEMORY.0).ok_or_else(|| Failure::OutsideMemory {
        part: part.to_owned(),
        start,
        end: u128::from(start) + u128::from(bytes),
        low_memory_end,
        memory_mib: memory_map::size_mib(memory),
    })
}
