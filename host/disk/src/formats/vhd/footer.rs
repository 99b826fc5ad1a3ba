//! The footer, and the header of dynamic disks.

use super::super::{bytes::*, input::Input};
use super::{BLOCK_BYTES, ENTRY_BYTES, Layout, Options};
use crate::Error;

/// Cookie of the footer.
pub(in super::super) const COOKIE: &[u8] = b"conectix";
/// Bytes of the footer.
pub(super) const FOOTER_BYTES: usize = 512;
/// Cookie of the dynamic disk header.
const DYNAMIC_COOKIE: &[u8] = b"cxsparse";
/// Bytes of the dynamic disk header.
pub(super) const DYNAMIC_BYTES: usize = 1024;
/// Where the dynamic disk header is in ours, and the BAT.
pub(super) const DYNAMIC_OFFSET: u64 = FOOTER_BYTES as u64;
pub(super) const BAT_OFFSET: u64 = DYNAMIC_OFFSET + DYNAMIC_BYTES as u64;

/// A bit that is always set.
const FEATURES: u32 = 2;
/// Major version in the upper, minor in the lower half: of both structures.
const VERSION: u32 = 0x0001_0000;
/// Windows, of Windows 7: whose sizes QEMU believes.
const CREATOR_APPLICATION: &[u8] = b"win ";
const CREATOR_VERSION: u32 = 0x0006_0001;
const CREATOR_HOST_OS: &[u8] = b"Wi2k";
/// Disk types.
const TYPE_FIXED: u32 = 2;
const TYPE_DYNAMIC: u32 = 3;
const TYPE_DIFFERENCING: u32 = 4;
/// An offset that is none.
const NOWHERE: u64 = u64::MAX;

/// Offsets of the footer's fields.
mod field {
    pub(super) const FEATURES: usize = 8;
    pub(super) const VERSION: usize = 12;
    pub(super) const DATA_OFFSET: usize = 16;
    pub(super) const TIMESTAMP: usize = 24;
    pub(super) const CREATOR_APPLICATION: usize = 28;
    pub(super) const CREATOR_VERSION: usize = 32;
    pub(super) const CREATOR_HOST_OS: usize = 36;
    pub(super) const ORIGINAL_SIZE: usize = 40;
    pub(super) const CURRENT_SIZE: usize = 48;
    pub(super) const CYLINDERS: usize = 56;
    pub(super) const HEADS: usize = 58;
    pub(super) const SECTORS: usize = 59;
    pub(super) const DISK_TYPE: usize = 60;
    pub(super) const CHECKSUM: usize = 64;
    pub(super) const UNIQUE_ID: usize = 68;
}

/// Offsets of the dynamic disk header's fields.
mod dynamic {
    pub(super) const DATA_OFFSET: usize = 8;
    pub(super) const TABLE_OFFSET: usize = 16;
    pub(super) const VERSION: usize = 24;
    pub(super) const MAX_TABLE_ENTRIES: usize = 28;
    pub(super) const BLOCK_SIZE: usize = 32;
    pub(super) const CHECKSUM: usize = 36;
}

/// A disk's geometry.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Geometry {
    pub(super) cylinders: u16,
    pub(super) heads: u8,
    pub(super) sectors: u8,
}

impl Geometry {
    /// The calculation in the specification's appendix.
    pub(super) fn of_sectors(total: u64) -> Self {
        // The largest geometry, which stands for every larger disk as well.
        let total = total.min(65535 * 16 * 255);
        let (sectors, heads, tracks) =
            if total >= 65535 * 16 * 63 { (255, 16, total / 255) } else { Self::with_small_tracks(total) };
        Self { cylinders: (tracks / heads) as u16, heads: heads as u8, sectors: sectors as u8 }
    }

    /// Sectors of a track, heads, and tracks on all heads' cylinders together.
    fn with_small_tracks(total: u64) -> (u64, u64, u64) {
        let tracks = total / 17;
        let heads = tracks.div_ceil(1024).max(4);
        if tracks < heads * 1024 && heads <= 16 {
            return (17, heads, tracks);
        }
        let tracks = total / 31;
        if tracks < 16 * 1024 { (31, 16, tracks) } else { (63, 16, total / 63) }
    }
}

/// The footer of a new file.
pub(super) fn footer(options: &Options, disk_bytes: u64) -> [u8; FOOTER_BYTES] {
    let (data_offset, disk_type) = match options.layout {
        Layout::Fixed => (NOWHERE, TYPE_FIXED),
        Layout::Dynamic => (DYNAMIC_OFFSET, TYPE_DYNAMIC),
    };
    let geometry = Geometry::of_sectors(disk_bytes / SECTOR_BYTES);
    let mut footer = [0; FOOTER_BYTES];
    put(&mut footer, 0, COOKIE);
    put_u32_be(&mut footer, field::FEATURES, FEATURES);
    put_u32_be(&mut footer, field::VERSION, VERSION);
    put_u64_be(&mut footer, field::DATA_OFFSET, data_offset);
    put_u32_be(&mut footer, field::TIMESTAMP, options.timestamp);
    put(&mut footer, field::CREATOR_APPLICATION, CREATOR_APPLICATION);
    put_u32_be(&mut footer, field::CREATOR_VERSION, CREATOR_VERSION);
    put(&mut footer, field::CREATOR_HOST_OS, CREATOR_HOST_OS);
    put_u64_be(&mut footer, field::ORIGINAL_SIZE, disk_bytes);
    put_u64_be(&mut footer, field::CURRENT_SIZE, disk_bytes);
    put_u16_be(&mut footer, field::CYLINDERS, geometry.cylinders);
    footer[field::HEADS] = geometry.heads;
    footer[field::SECTORS] = geometry.sectors;
    put_u32_be(&mut footer, field::DISK_TYPE, disk_type);
    put(&mut footer, field::UNIQUE_ID, &options.identity);
    let checksum = checksum(&footer, field::CHECKSUM);
    put_u32_be(&mut footer, field::CHECKSUM, checksum);
    footer
}

/// The dynamic disk header of a new file.
pub(super) fn dynamic_header(disk_bytes: u64) -> [u8; DYNAMIC_BYTES] {
    let mut header = [0; DYNAMIC_BYTES];
    put(&mut header, 0, DYNAMIC_COOKIE);
    put_u64_be(&mut header, dynamic::DATA_OFFSET, NOWHERE);
    put_u64_be(&mut header, dynamic::TABLE_OFFSET, BAT_OFFSET);
    put_u32_be(&mut header, dynamic::VERSION, VERSION);
    put_u32_be(&mut header, dynamic::MAX_TABLE_ENTRIES, disk_bytes.div_ceil(BLOCK_BYTES) as u32);
    put_u32_be(&mut header, dynamic::BLOCK_SIZE, BLOCK_BYTES as u32);
    let checksum = checksum(&header, dynamic::CHECKSUM);
    put_u32_be(&mut header, dynamic::CHECKSUM, checksum);
    header
}

/// The complement of the sum of all bytes but those of the checksum at `at`.
fn checksum(bytes: &[u8], at: usize) -> u32 {
    let others = bytes[..at].iter().chain(&bytes[at + 4..]);
    !others.map(|byte| u32::from(*byte)).sum::<u32>()
}

/// What a footer says.
pub(super) struct Footer {
    pub(super) disk_bytes: u64,
    /// Where the dynamic disk header is; `None` for a fixed disk.
    pub(super) dynamic_offset: Option<u64>,
}

impl Footer {
    /// Reads the footer at the file's end, or its copy at the start when there is none.
    pub(super) fn read(file: &Input) -> Result<Self, Error> {
        let end = file.length().saturating_sub(FOOTER_BYTES as u64);
        match Self::read_at(file, end) {
            Err(_) if file.entry::<8>("the footer", 0)? == COOKIE => Self::read_at(file, 0),
            read => read,
        }
    }

    fn read_at(file: &Input, offset: u64) -> Result<Self, Error> {
        let footer: [u8; FOOTER_BYTES] = file.read_array("the footer", offset)?;
        check(file, "the footer", offset, &footer, COOKIE, field::CHECKSUM)?;
        let disk_type = get_u32_be(&footer, field::DISK_TYPE);
        let dynamic_offset = match disk_type {
            TYPE_FIXED => None,
            TYPE_DYNAMIC => Some(get_u64_be(&footer, field::DATA_OFFSET)),
            TYPE_DIFFERENCING => return Err(file.unsupported("another image below it (differencing)")),
            _ => return Err(file.unsupported(format!("disk type {disk_type}"))),
        };
        Ok(Self { disk_bytes: get_u64_be(&footer, field::CURRENT_SIZE), dynamic_offset })
    }
}

/// What a dynamic disk header says.
pub(super) struct Dynamic {
    pub(super) table_offset: u64,
    pub(super) block_bytes: u64,
}

impl Dynamic {
    /// Reads the header at `offset` of a disk of `disk_bytes`.
    pub(super) fn read(file: &Input, offset: u64, disk_bytes: u64) -> Result<Self, Error> {
        let what = "the dynamic disk header";
        let header: [u8; DYNAMIC_BYTES] = file.read_array(what, offset)?;
        check(file, what, offset, &header, DYNAMIC_COOKIE, dynamic::CHECKSUM)?;
        let block_bytes = u64::from(get_u32_be(&header, dynamic::BLOCK_SIZE));
        if !block_bytes.is_power_of_two() || block_bytes < SECTOR_BYTES {
            return Err(file.corrupt(what, offset, format!("blocks of {block_bytes} bytes")));
        }
        let entries = u64::from(get_u32_be(&header, dynamic::MAX_TABLE_ENTRIES));
        let needed = disk_bytes.div_ceil(block_bytes);
        if entries < needed {
            let why = format!("{entries} blocks, not the {needed} of a disk of {disk_bytes} bytes");
            return Err(file.corrupt(what, offset, why));
        }
        let table_offset = get_u64_be(&header, dynamic::TABLE_OFFSET);
        if table_offset.checked_add(entries * ENTRY_BYTES).is_none_or(|end| end > file.length()) {
            let why = format!("its table at byte {table_offset} is not within the file");
            return Err(file.corrupt(what, offset, why));
        }
        Ok(Self { table_offset, block_bytes })
    }
}

/// Checks what footer and header have in common.
fn check(
    file: &Input,
    what: &'static str,
    offset: u64,
    bytes: &[u8],
    cookie: &[u8],
    checksum_at: usize,
) -> Result<(), Error> {
    if !bytes.starts_with(cookie) {
        let why = format!("it does not start with {}", cookie.escape_ascii());
        return Err(file.corrupt(what, offset, why));
    }
    // What is tried at random has hardly ever the right one.
    if !cfg!(fuzzing) && get_u32_be(bytes, checksum_at) != checksum(bytes, checksum_at) {
        return Err(file.corrupt(what, offset, "its checksum is wrong"));
    }
    Ok(())
}
