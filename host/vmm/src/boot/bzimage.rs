//! A bzImage: a compressed kernel behind a setup header
//! ([Linux boot protocol](https://www.kernel.org/doc/html/latest/arch/x86/boot.html)).
//!
//! The file's first sectors are real-mode code, which nobody runs here, and in it the setup header. The
//! rest goes to the kernel's preferred address, where it unpacks itself in place: the header's `init_size`
//! says how much memory that takes.

use super::kernel::{Kernel, checked_end};
use super::source_file::SourceFile;
use super::{Entry, Failure};
use crate::layout;
use linux_loader::loader::bootparam::setup_header;
use vm_memory::{ByteValued, GuestAddress, GuestMemoryMmap};

/// Protocol 2.12, the first with `xloadflags`.
pub const PROTOCOL_VERSION_MIN: u16 = 0x020c;
/// In `loadflags`: the protected-mode code is loaded to 1 MiB or above.
pub const LOADED_HIGH: u8 = 1;

/// In `xloadflags`: there is a 64-bit entry.
const XLF_KERNEL_64: u16 = 1;
/// Where it is in the code.
const ENTRY_64: u64 = 0x200;

/// Where the setup header is in the file.
const SETUP_HEADER_OFFSET: usize = 0x1f1;
/// The header ends as many bytes behind this as the distance of the jump before it says.
const SETUP_HEADER_JUMP_END: usize = 0x202;
const SECTOR_BYTES: u64 = 512;
/// What `setup_sects` of 0 means.
const SETUP_SECTS_DEFAULT: u8 = 4;
/// Unit of `syssize`.
const PARAGRAPH_BYTES: u64 = 16;

/// Puts a bzImage into `memory`.
pub fn load(memory: &GuestMemoryMmap, mut file: SourceFile<'_>) -> Result<Kernel, Failure> {
    let header = read_setup_header(&mut file)?;
    check(&header)?;
    let (offset, bytes) = code_of(&header)?;
    let start = header.pref_address;
    let end = checked_end(memory, "the bzImage", start, bytes.max(header.init_size.into()))?;
    file.copy("code", (offset, bytes), memory, GuestAddress(start))?;
    Ok(Kernel {
        entry: Entry::Linux64(GuestAddress(start + ENTRY_64)),
        end,
        initramfs_end_max: layout::DEVICE_HOLE.start.min(u64::from(header.initrd_addr_max) + 1),
        command_line_length_max: (layout::COMMAND_LINE_BYTES_MAX - 1).min(header.cmdline_size as usize),
        // In range: it is below the device hole.
        setup_header: setup_header { code32_start: start as u32, ..header },
    })
}

/// The setup header as far as the kernel has one: what is behind its end is no part of it.
fn read_setup_header(file: &mut SourceFile<'_>) -> Result<setup_header, Failure> {
    let bytes = file.read("setup header", SETUP_HEADER_OFFSET as u64, size_of::<setup_header>())?;
    let distance = bytes[SETUP_HEADER_JUMP_END - 1 - SETUP_HEADER_OFFSET];
    let length = SETUP_HEADER_JUMP_END - SETUP_HEADER_OFFSET + usize::from(distance);
    let length = length.min(bytes.len());
    let mut header = setup_header::default();
    header.as_mut_slice()[..length].copy_from_slice(&bytes[..length]);
    Ok(header)
}

fn check(header: &setup_header) -> Result<(), Failure> {
    let (version, loadflags, xloadflags) = (header.version, header.loadflags, header.xloadflags);
    if version < PROTOCOL_VERSION_MIN {
        return Err(Failure::OldProtocol { version });
    }
    if loadflags & LOADED_HIGH == 0 {
        return Err(Failure::NotLoadedHigh { loadflags });
    }
    if xloadflags & XLF_KERNEL_64 == 0 {
        return Err(Failure::No64BitEntry { xloadflags });
    }
    Ok(())
}

/// Where in the file the protected-mode code is: offset and bytes.
fn code_of(header: &setup_header) -> Result<(u64, u64), Failure> {
    let sectors = if header.setup_sects == 0 { SETUP_SECTS_DEFAULT } else { header.setup_sects };
    let offset = (u64::from(sectors) + 1) * SECTOR_BYTES;
    let bytes = u64::from(header.syssize) * PARAGRAPH_BYTES;
    if bytes <= ENTRY_64 {
        return Err(Failure::BzImageEmpty { bytes });
    }
    Ok((offset, bytes))
}
