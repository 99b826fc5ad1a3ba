//! What a kernel finds in memory when it starts: itself, its initramfs, and what the machine is like.
//!
//! A kernel that can be entered by PVH is, because that needs the least: 32-bit mode, a small structure,
//! no page tables. Others get what the Linux boot protocol's 64-bit entry wants: page tables, a GDT and the
//! "zero page". Processors and interrupts are in the MP table either way: of what Linux understands, that
//! has the fewest parts.
//!
//! The kernel's and the initramfs's files are the user's, so nothing in them is believed: all that is read
//! from them is checked against the file's length and the machine's memory before it is used.
//! linux-loader gives the protocols' structures. Its loaders are not used: they would put a segment over
//! our tables, do not look whether what a kernel does not bring along (its bss, say) has memory, and their
//! errors do not say what is wrong.

mod bzimage;
mod elf;
mod failure;
mod gdt;
mod initramfs;
mod kernel;
mod memory_map;
mod mp_table;
mod page_tables;
mod registers;
mod source_file;
mod start_info;
mod zero_page;

#[cfg(test)]
mod tests;

pub use failure::Failure;
pub use registers::registers;

use crate::layout;
use source_file::SourceFile;
use std::fs::File;
use vm_memory::{Bytes, GuestAddress, GuestMemoryMmap};

/// How the first processor enters a kernel.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Entry {
    /// In 32-bit protected mode without paging, `ebx` = [`layout::PVH_START_INFO`]
    /// ([PVH](https://xenbits.xen.org/docs/unstable/misc/pvh.html)).
    Pvh(GuestAddress),
    /// In 64-bit mode over [`layout::PAGE_TABLES`], `rsi` = [`layout::ZERO_PAGE`]
    /// ([64-bit boot protocol](https://www.kernel.org/doc/html/latest/arch/x86/boot.html#id1)).
    Linux64(GuestAddress),
}

/// What to boot.
pub struct Payload<'a> {
    /// A vmlinux or bzImage.
    pub kernel: &'a mut File,
    /// Its first file system; none if the file is empty.
    pub initramfs: &'a mut File,
    /// Without the final zero.
    pub command_line: &'a str,
    /// For the MP table, from 1 to [`layout::CPUS_MAX`].
    pub cpus: u8,
}

/// Puts kernel, initramfs, command line and all tables into `memory`, which holds nothing yet.
///
/// # Errors
/// When a file cannot be read or is not what it should be, or the memory is too small.
pub fn load(memory: &GuestMemoryMmap, payload: Payload<'_>) -> Result<Entry, Failure> {
    let map = memory_map::of(memory);
    let kernel = kernel::load(memory, SourceFile::new("kernel", payload.kernel)?)?;
    let initramfs = initramfs::load(memory, SourceFile::new("initramfs", payload.initramfs)?, &kernel)?;
    put_command_line(memory, payload.command_line, kernel.command_line_length_max)?;
    put(memory, "MP table", layout::MP_TABLE, &mp_table::bytes(payload.cpus)?)?;
    put(memory, "GDT", layout::GDT, &gdt::bytes(kernel.entry))?;
    match kernel.entry {
        Entry::Pvh(_) => start_info::put(memory, &map, initramfs)?,
        Entry::Linux64(_) => {
            put(memory, "page tables", layout::PAGE_TABLES, &page_tables::bytes())?;
            zero_page::put(memory, &map, &kernel, initramfs)?;
        }
    }
    Ok(kernel.entry)
}

/// Words for the command line that tell a kernel where virtio-mmio devices are
/// ([`virtio_mmio.device`](https://www.kernel.org/doc/html/latest/admin-guide/kernel-parameters.html)).
/// They must be in front of a `--`. `count` is at most [`layout::VIRTIO_DEVICES_MAX`].
pub fn device_words(count: usize) -> Vec<String> {
    let kibibytes = layout::VIRTIO_MMIO_STRIDE >> 10;
    let addresses = (layout::VIRTIO_MMIO.0..).step_by(layout::VIRTIO_MMIO_STRIDE as usize);
    let places = addresses.zip(layout::VIRTIO_IRQ_FIRST..).take(count);
    places.map(|(address, irq)| format!("virtio_mmio.device={kibibytes}K@{address:#x}:{irq}")).collect()
}

fn put_command_line(memory: &GuestMemoryMmap, line: &str, length_max: usize) -> Result<(), Failure> {
    if line.len() > length_max {
        return Err(Failure::CommandLineTooLong { length: line.len(), length_max });
    }
    if let Some(offset) = line.find('\0') {
        return Err(Failure::CommandLineZero { offset });
    }
    put(memory, "command line", layout::COMMAND_LINE, &[line.as_bytes(), &[0]].concat())
}

fn put(
    memory: &GuestMemoryMmap,
    what: &'static str,
    address: GuestAddress,
    bytes: &[u8],
) -> Result<(), Failure> {
    memory.write_slice(bytes, address).map_err(|source| Failure::Write { what, address: address.0, source })
}

/// `bytes` in whole mebibytes, rounded up.
fn mebibytes(bytes: u64) -> u64 {
    bytes.div_ceil(1 << 20)
}
