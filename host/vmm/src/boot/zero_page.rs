//! What a kernel is told that is entered by the 64-bit boot protocol: `struct boot_params`
//! ([zero page](https://www.kernel.org/doc/html/latest/arch/x86/zero-page.html)).
//!
//! All that is not named here is zero: no screen, no APM, no EFI, no ACPI.

use super::initramfs::Initramfs;
use super::kernel::Kernel;
use super::memory_map::Range;
use super::{Failure, put as put_bytes};
use crate::layout;
use linux_loader::loader::bootparam::{boot_e820_entry, boot_params, setup_header};
use vm_memory::{ByteValued, GuestMemoryMmap};

/// A boot loader without a number of its own.
const LOADER_UNDEFINED: u8 = 0xff;

/// Writes the zero page.
pub fn put(
    memory: &GuestMemoryMmap,
    map: &[Range],
    kernel: &Kernel,
    initramfs: Option<Initramfs>,
) -> Result<(), Failure> {
    let mut params = boot_params { hdr: header(kernel.setup_header, initramfs), ..Default::default() };
    // `memory_map::of` makes four at most.
    params.e820_entries = map.len() as u8;
    for (slot, range) in params.e820_table.iter_mut().zip(map) {
        *slot = boot_e820_entry { addr: range.start, size: range.bytes, r#type: range.kind as u32 };
    }
    put_bytes(memory, "zero page", layout::ZERO_PAGE, params.as_slice())
}

/// The kernel's own setup header with what a boot loader has to fill in. The initramfs is below 4 GiB, so
/// that the fields for the upper halves of its address and size stay zero.
fn header(header: setup_header, initramfs: Option<Initramfs>) -> setup_header {
    setup_header {
        type_of_loader: LOADER_UNDEFINED,
        ext_loader_ver: 0,
        ext_loader_type: 0,
        ramdisk_image: initramfs.map_or(0, |initramfs| initramfs.start.0 as u32),
        ramdisk_size: initramfs.map_or(0, |initramfs| initramfs.bytes as u32),
        cmd_line_ptr: layout::COMMAND_LINE.0 as u32,
        setup_data: 0,
        ..header
    }
}
