//! What the machine was asked to do, out of `struct hvm_start_info`
//! ([layout](https://xenbits.xen.org/docs/unstable/misc/pvh.html)).

use crate::physical;
use crate::virtio::Location;
use alloc::string::String;
use alloc::vec::Vec;

/// `HVM_START_MAGIC_VALUE`.
const MAGIC: u32 = 0x336e_c578;
/// Offset of `cmdline_paddr`, the address of a text that ends with a zero.
const COMMAND_LINE_OFFSET: u64 = 24;
/// Longest command line.
const BYTES_MAX: u64 = 4096;

unsafe extern "C" {
    /// Kept by `entry.s`.
    static start_info_address: u64;
}

/// The words of the command line, in their order.
pub struct CommandLine(String);

impl CommandLine {
    /// Copies it from where the boot loader left it.
    pub fn of_this_machine() -> Self {
        // SAFETY: written once, before any Rust code.
        let start_info = unsafe { start_info_address };
        assert_eq!(physical::read::<u32>(start_info), MAGIC, "no start info at {start_info:#x}");
        let address: u64 = physical::read(start_info + COMMAND_LINE_OFFSET);
        let bytes = (0..BYTES_MAX).map(|index| physical::read::<u8>(address + index));
        Self(bytes.take_while(|byte| *byte != 0).map(char::from).collect())
    }

    /// What follows `key=`, every time it is there.
    pub fn values<'a>(&'a self, key: &'a str) -> impl Iterator<Item = &'a str> {
        let words = self.0.split_ascii_whitespace();
        words.filter_map(move |word| word.strip_prefix(key)?.strip_prefix('='))
    }

    /// The virtio-mmio devices.
    pub fn devices(&self) -> Vec<Location> {
        let parse = |word| Location::parse(word).unwrap_or_else(|| panic!("no device: {word}"));
        self.values("virtio_mmio.device").map(parse).collect()
    }
}
