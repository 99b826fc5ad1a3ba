//! What the boot loader says, in `struct hvm_start_info`
//! ([layout](https://xenbits.xen.org/docs/unstable/misc/pvh.html)): the command line and where memory is.

use crate::physical;
use crate::virtio::Location;
use alloc::string::String;
use alloc::vec::Vec;

/// `HVM_START_MAGIC_VALUE`
const MAGIC: u32 = 0x336e_c578;
/// Offsets of `cmdline_paddr`, the address of a text that ends with a zero, and of `memmap_paddr` and
/// `memmap_entries`.
const COMMAND_LINE: u64 = 24;
const MEMORY_MAP: u64 = 40;
const MEMORY_MAP_ENTRIES: u64 = 48;

/// Longest command line.
const COMMAND_LINE_BYTES_MAX: u64 = 4096;

/// `struct hvm_memmap_table_entry`: address, size, type.
const MEMORY_MAP_ENTRY_BYTES: u64 = 24;
const MEMORY_MAP_RAM: u32 = 1;

unsafe extern "C" {
    /// Kept by `entry.s`.
    static start_info_address: u64;
}

/// A copy of what is of use.
pub struct StartInfo {
    command_line: String,
    /// Where memory below 4 GiB ends.
    pub memory_end: u64,
}

impl StartInfo {
    /// Copies it from where the boot loader left it.
    pub fn of_this_machine() -> Self {
        // SAFETY: written once, before any Rust code.
        let start_info = unsafe { start_info_address };
        assert_eq!(physical::read::<u32>(start_info), MAGIC, "no start info at {start_info:#x}");
        Self { command_line: command_line(start_info), memory_end: memory_end(start_info) }
    }

    /// What follows `key=`, every time a word of the command line starts so.
    pub fn values<'a>(&'a self, key: &'a str) -> impl Iterator<Item = &'a str> {
        let words = self.command_line.split_ascii_whitespace();
        words.filter_map(move |word| word.strip_prefix(key)?.strip_prefix('='))
    }

    /// The virtio-mmio devices.
    pub fn devices(&self) -> Vec<Location> {
        let parse = |word| Location::parse(word).unwrap_or_else(|| panic!("no device: {word}"));
        self.values("virtio_mmio.device").map(parse).collect()
    }
}

fn command_line(start_info: u64) -> String {
    let address: u64 = physical::read(start_info + COMMAND_LINE);
    let bytes = (0..COMMAND_LINE_BYTES_MAX).map(|index| physical::read::<u8>(address + index));
    bytes.take_while(|byte| *byte != 0).map(char::from).collect()
}

fn memory_end(start_info: u64) -> u64 {
    let map: u64 = physical::read(start_info + MEMORY_MAP);
    let count: u32 = physical::read(start_info + MEMORY_MAP_ENTRIES);
    let entries = (0..u64::from(count)).map(|index| map + index * MEMORY_MAP_ENTRY_BYTES);
    let memory = entries.filter(|entry| physical::read::<u32>(entry + 16) == MEMORY_MAP_RAM);
    let ends = memory.map(|entry| physical::read::<u64>(entry) + physical::read::<u64>(entry + 8));
    ends.filter(|end| *end < 1 << 32).max().expect("there is memory below 4 GiB")
}
