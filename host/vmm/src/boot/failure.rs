//! Why a kernel cannot be booted.

use crate::layout;
use std::io;
use vm_memory::GuestMemoryError;

/// Why a kernel cannot be booted.
#[derive(Debug, thiserror::Error)]
pub enum Failure {
    #[error("cannot find out how long the {file} is")]
    Length {
        file: &'static str,
        #[source]
        source: io::Error,
    },
    #[error("cannot read {bytes} bytes at {offset:#x} of the {file}")]
    Read {
        file: &'static str,
        offset: u64,
        bytes: u64,
        #[source]
        source: io::Error,
    },
    #[error("cannot read the {file} at {offset:#x} into memory at {address:#x}")]
    ReadIntoMemory {
        file: &'static str,
        offset: u64,
        address: u64,
        #[source]
        source: GuestMemoryError,
    },
    #[error("the {file} is truncated: its {part} ends at {end:#x}, the file at {length:#x}")]
    Truncated { file: &'static str, part: String, end: u128, length: u64 },
    #[error("the kernel is neither a vmlinux (ELF) nor a bzImage")]
    UnknownFormat,

    #[error("the vmlinux is not for x86-64: its {field} is {found}, not {expected}")]
    ElfForeign { field: &'static str, found: u16, expected: u16 },
    #[error("the vmlinux has program headers of {found} bytes, not {expected}")]
    ElfHeaderSize { found: u16, expected: u16 },
    #[error("the vmlinux has {found} program headers, more than the {max} allowed")]
    ElfHeaderCount { found: u16, max: u16 },
    #[error("the vmlinux has nothing to load")]
    ElfEmpty,
    #[error(
        "segment {index} of the vmlinux has {file_bytes} bytes in the file, more than its {memory_bytes} in memory"
    )]
    ElfSegmentSize { index: usize, file_bytes: u64, memory_bytes: u64 },
    #[error("note segment {index} of the vmlinux has {bytes} bytes, more than the {max} allowed")]
    ElfNoteSize { index: usize, bytes: u64, max: u64 },
    #[error("note segment {index} of the vmlinux is malformed at {offset:#x}")]
    ElfNote { index: usize, offset: usize },
    #[error("the vmlinux's {which} entry {address:#x} is in none of its segments")]
    ElfEntry { which: &'static str, address: u64 },

    #[error("the bzImage has boot protocol {}.{:02}; it takes 2.12 to enter it in 64-bit mode", .version >> 8, .version & 0xff)]
    OldProtocol { version: u16 },
    #[error("the bzImage has no 64-bit entry: XLF_KERNEL_64 is not set in its xloadflags {xloadflags:#x}")]
    No64BitEntry { xloadflags: u16 },
    #[error("the bzImage is a zImage: LOADED_HIGH is not set in its loadflags {loadflags:#x}")]
    NotLoadedHigh { loadflags: u8 },
    #[error("the bzImage has {bytes} bytes of code, too few for its 64-bit entry at 0x200")]
    BzImageEmpty { bytes: u64 },

    #[error(
        "{part}, {start:#x} to {end:#x}, is outside of memory: in a machine of {memory_mib} MiB a kernel can \
         lie from {:#x} to {low_memory_end:#x}",
        layout::HIGH_MEMORY.0
    )]
    OutsideMemory { part: String, start: u64, end: u128, low_memory_end: u64, memory_mib: u64 },
    #[error(
        "the initramfs of {bytes} bytes does not fit into memory behind the kernel: it takes at least \
         {needed_mib} MiB, and the machine has {memory_mib} MiB"
    )]
    MemoryTooSmall { bytes: u64, needed_mib: u64, memory_mib: u64 },
    #[error(
        "the initramfs of {bytes} bytes is too large: the kernel ends at {kernel_end:#x}, and nothing may lie above {limit:#x}"
    )]
    InitramfsTooLarge { bytes: u64, kernel_end: u64, limit: u64 },

    #[error("the command line has {length} bytes, more than the {length_max} that the kernel takes")]
    CommandLineTooLong { length: usize, length_max: usize },
    #[error("the command line has a zero byte at {offset}")]
    CommandLineZero { offset: usize },
    #[error("a machine has 1 to {} processors, not {found}", layout::CPUS_MAX)]
    CpuCount { found: u8 },
    #[error("cannot write the {what} to {address:#x}")]
    Write {
        what: &'static str,
        address: u64,
        #[source]
        source: GuestMemoryError,
    },
}
