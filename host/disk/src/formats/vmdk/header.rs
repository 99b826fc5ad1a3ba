//! The header of a sparse extent, which is the footer as well.

use super::super::{bytes::*, input::Input};
use super::{ENTRY_BYTES, GRAIN_BYTES, TABLE_ENTRIES};
use crate::Error;

/// Magic number of sparse extents.
const MAGIC: &[u8] = b"KDMV";
/// A descriptor in a file of its own starts so.
const DESCRIPTOR_MAGIC: &[u8] = b"# Disk DescriptorFile";
/// Magic number of ESX Server's sparse extents.
const COWD_MAGIC: &[u8] = b"COWD";
/// What VMDK files start with.
pub(in super::super) const MAGICS: [&[u8]; 3] = [MAGIC, DESCRIPTOR_MAGIC, COWD_MAGIC];

/// Bytes of the header.
pub(super) const HEADER_BYTES: usize = 512;
/// Flags: `singleEndLineChar` and so on are right; there is a redundant directory; an entry of 1 is a grain of zeroes;
/// grains are compressed; there are markers.
const VALID_NEWLINES: u32 = 1;
const REDUNDANT: u32 = 1 << 1;
const ZEROED_GRAINS: u32 = 1 << 2;
const COMPRESSED: u32 = 1 << 16;
const MARKERS: u32 = 1 << 17;
/// `compressAlgorithm`: deflate, as RFC 1950 has it.
const DEFLATE: u16 = 1;
/// `gdOffset` of a header whose footer has the right one.
pub(super) const DIRECTORY_AT_END: u64 = u64::MAX;
/// Where the descriptor is in our files, and what there is room for, in sectors.
pub(super) const DESCRIPTOR_SECTOR: u64 = 1;
pub(super) const DESCRIPTOR_SECTORS: u64 = 20;
/// A newline, something else than one, and a DOS newline: all that shows a transfer as text.
const NEWLINES: &[u8] = b"\n \r\n";
/// Bytes of a grain that is read, at most.
const GRAIN_BYTES_MAX: u64 = 2 << 20;

/// Offsets of fields.
mod field {
    pub(super) const VERSION: usize = 4;
    pub(super) const FLAGS: usize = 8;
    pub(super) const CAPACITY: usize = 12;
    pub(super) const GRAIN_SIZE: usize = 20;
    pub(super) const DESCRIPTOR_OFFSET: usize = 28;
    pub(super) const DESCRIPTOR_SIZE: usize = 36;
    pub(super) const NUM_GTES_PER_GT: usize = 44;
    pub(super) const RGD_OFFSET: usize = 48;
    pub(super) const GD_OFFSET: usize = 56;
    pub(super) const OVER_HEAD: usize = 64;
    pub(super) const NEWLINES: usize = 73;
    pub(super) const COMPRESS_ALGORITHM: usize = 77;
}

/// What differs between the headers that are written.
pub(super) struct NewHeader {
    pub(super) stream: bool,
    pub(super) disk_bytes: u64,
    /// The directories' places in sectors; a stream has no redundant one.
    pub(super) redundant_directory: u64,
    pub(super) directory: u64,
    /// Sectors before the first grain.
    pub(super) overhead: u64,
}

impl NewHeader {
    pub(super) fn to_bytes(&self) -> [u8; HEADER_BYTES] {
        let (version, flags, algorithm) = match self.stream {
            false => (1, VALID_NEWLINES | REDUNDANT, 0),
            true => (3, VALID_NEWLINES | COMPRESSED | MARKERS, DEFLATE),
        };
        let mut bytes = [0; HEADER_BYTES];
        put(&mut bytes, 0, MAGIC);
        put_u32(&mut bytes, field::VERSION, version);
        put_u32(&mut bytes, field::FLAGS, flags);
        put_u64(&mut bytes, field::CAPACITY, self.disk_bytes / SECTOR_BYTES);
        put_u64(&mut bytes, field::GRAIN_SIZE, GRAIN_BYTES / SECTOR_BYTES);
        put_u64(&mut bytes, field::DESCRIPTOR_OFFSET, DESCRIPTOR_SECTOR);
        put_u64(&mut bytes, field::DESCRIPTOR_SIZE, DESCRIPTOR_SECTORS);
        put_u32(&mut bytes, field::NUM_GTES_PER_GT, TABLE_ENTRIES as u32);
        put_u64(&mut bytes, field::RGD_OFFSET, self.redundant_directory);
        put_u64(&mut bytes, field::GD_OFFSET, self.directory);
        put_u64(&mut bytes, field::OVER_HEAD, self.overhead);
        put(&mut bytes, field::NEWLINES, NEWLINES);
        put_u16(&mut bytes, field::COMPRESS_ALGORITHM, algorithm);
        bytes
    }
}

/// What a header says, checked.
pub(super) struct Header {
    pub(super) compressed: bool,
    pub(super) zeroed_grains: bool,
    pub(super) disk_bytes: u64,
    pub(super) grain_bytes: u64,
    pub(super) table_entries: u64,
    /// Where the directory is, in bytes.
    pub(super) directory: u64,
    /// Where the descriptor is, and its length, in bytes.
    pub(super) descriptor: (u64, u64),
}

impl Header {
    /// Reads the header, or the footer when that has the directory's place.
    pub(super) fn read(file: &Input) -> Result<Self, Error> {
        let start: [u8; HEADER_BYTES] = file.read_array("the header", 0)?;
        if start.starts_with(DESCRIPTOR_MAGIC) {
            return Err(file.unsupported("its data in other files"));
        }
        if start.starts_with(COWD_MAGIC) {
            return Err(file.unsupported("the layout of ESX Server's sparse extents (COWD)"));
        }
        if get_u64(&start, field::GD_OFFSET) != DIRECTORY_AT_END {
            return Self::parse(file, &start, 0);
        }
        // The footer stands before the end marker.
        let offset = (file.length() - file.length() % SECTOR_BYTES).saturating_sub(2 * SECTOR_BYTES);
        let footer: [u8; HEADER_BYTES] = file.read_array("the footer", offset)?;
        let mut header = Self::parse(file, &footer, offset)?;
        header.descriptor = descriptor_range(file, &start, 0)?;
        Ok(header)
    }

    fn parse(file: &Input, bytes: &[u8], offset: u64) -> Result<Self, Error> {
        let wrong = |why: String| file.corrupt("the header or footer", offset, why);
        if !bytes.starts_with(MAGIC) {
            return Err(wrong("it does not start with KDMV".to_owned()));
        }
        let version = get_u32(bytes, field::VERSION);
        if !(1..=3).contains(&version) {
            return Err(file.unsupported(format!("version {version}")));
        }
        let bytes_of = |field| get_u64(bytes, field).checked_mul(SECTOR_BYTES);
        let too_large = || wrong("a number of sectors that is too large".to_owned());
        let header = Self {
            compressed: read_compression(file, bytes)?,
            zeroed_grains: get_u32(bytes, field::FLAGS) & ZEROED_GRAINS != 0,
            disk_bytes: bytes_of(field::CAPACITY).ok_or_else(too_large)?,
            grain_bytes: bytes_of(field::GRAIN_SIZE).ok_or_else(too_large)?,
            table_entries: get_u32(bytes, field::NUM_GTES_PER_GT).into(),
            directory: bytes_of(field::GD_OFFSET).ok_or_else(too_large)?,
            descriptor: descriptor_range(file, bytes, offset)?,
        };
        header.check(file).map_err(wrong)?;
        Ok(header)
    }

    fn check(&self, file: &Input) -> Result<(), String> {
        let grains = SECTOR_BYTES..=GRAIN_BYTES_MAX;
        if !self.grain_bytes.is_power_of_two() || !grains.contains(&self.grain_bytes) {
            return Err(format!("grains of {} bytes, not a power of two up to 2 MiB", self.grain_bytes));
        }
        if self.table_entries == 0 || self.table_entries > TABLE_ENTRIES {
            return Err(format!("grain tables of {} entries, not 1 to {TABLE_ENTRIES}", self.table_entries));
        }
        let tables = self.disk_bytes.div_ceil(self.grain_bytes).div_ceil(self.table_entries);
        let end = self.directory.checked_add(tables * ENTRY_BYTES).filter(|end| *end <= file.length());
        if end.is_none() {
            return Err(format!(
                "a directory of {tables} tables at byte {}, beyond the file",
                self.directory
            ));
        }
        Ok(())
    }
}

fn read_compression(file: &Input, bytes: &[u8]) -> Result<bool, Error> {
    let flags = get_u32(bytes, field::FLAGS);
    if flags & COMPRESSED == 0 {
        return Ok(false);
    }
    match get_u16(bytes, field::COMPRESS_ALGORITHM) {
        DEFLATE if flags & MARKERS != 0 => Ok(true),
        DEFLATE => Err(file.unsupported("compressed grains without markers")),
        other => Err(file.unsupported(format!("compression algorithm {other}"))),
    }
}

fn descriptor_range(file: &Input, bytes: &[u8], offset: u64) -> Result<(u64, u64), Error> {
    let bytes_of = |field| get_u64(bytes, field).checked_mul(SECTOR_BYTES);
    let range = bytes_of(field::DESCRIPTOR_OFFSET).zip(bytes_of(field::DESCRIPTOR_SIZE));
    range.ok_or_else(|| file.corrupt("the header or footer", offset, "a descriptor that is too far away"))
}
