//! What a kernel is told that is entered by PVH
//! ([`start_info.h`](https://xenbits.xen.org/docs/unstable/hypercall/x86_64/include,public,arch-x86,hvm,start_info.h.html)).

use super::initramfs::Initramfs;
use super::memory_map::Range;
use super::{Failure, put as put_bytes};
use crate::layout;
use linux_loader::loader::elf::start_info::{
    XEN_HVM_START_MAGIC_VALUE, hvm_memmap_table_entry, hvm_modlist_entry, hvm_start_info,
};
use vm_memory::{ByteValued, GuestMemoryMmap};

/// The first version with a memory map.
const VERSION: u32 = 1;

/// Writes the structure and what it points to, but for the command line.
pub fn put(memory: &GuestMemoryMmap, map: &[Range], initramfs: Option<Initramfs>) -> Result<(), Failure> {
    let modules: Vec<_> = initramfs.iter().map(module).collect();
    let info = hvm_start_info {
        magic: XEN_HVM_START_MAGIC_VALUE,
        version: VERSION,
        nr_modules: modules.len() as u32,
        modlist_paddr: layout::PVH_MODULES.0,
        cmdline_paddr: layout::COMMAND_LINE.0,
        memmap_paddr: layout::PVH_MEMORY_MAP.0,
        memmap_entries: map.len() as u32,
        ..Default::default()
    };
    put_bytes(memory, "PVH start info", layout::PVH_START_INFO, info.as_slice())?;
    put_bytes(memory, "PVH module list", layout::PVH_MODULES, &concat(&modules))?;
    let map: Vec<_> = map.iter().map(memory_map_entry).collect();
    put_bytes(memory, "PVH memory map", layout::PVH_MEMORY_MAP, &concat(&map))
}

fn module(initramfs: &Initramfs) -> hvm_modlist_entry {
    hvm_modlist_entry { paddr: initramfs.start.0, size: initramfs.bytes, ..Default::default() }
}

fn memory_map_entry(range: &Range) -> hvm_memmap_table_entry {
    hvm_memmap_table_entry { addr: range.start, size: range.bytes, type_: range.kind as u32, reserved: 0 }
}

fn concat<T: ByteValued>(entries: &[T]) -> Vec<u8> {
    entries.iter().flat_map(|entry| entry.as_slice().to_vec()).collect()
}
