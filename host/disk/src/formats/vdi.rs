//! VDI: VirtualBox's format, version 1.1.
//!
//! # Primer
//! A header, a map with a 32-bit number for each block of 1 MiB of the disk, and blocks in any order:
//!
//! ```text
//! | header | block map | ... up to a MiB | block 0 | block 1 | ...
//! ```
//!
//! The map says which block of the file a block of the disk is, or that it was never written, or is zero. Data start at a
//! multiple of 1 MiB, so that blocks are aligned. All fields are little-endian.
//!
//! There is no specification; VirtualBox's `src/VBox/Storage/VDICore.h`
//! (<https://www.virtualbox.org/svn/vbox/trunk/src/VBox/Storage/VDICore.h>) defines the structures. Differential images
//! are refused.

use super::blocks::{Blocks, Layout, Place};
use super::output::{self, Output, TableWriter};
use super::{DiskFormat, Identity, bytes::*, input::Input, scan};
use crate::{Error, sparse::Source, sparse::Target};

/// How a VDI file is made.
#[derive(Clone, Copy, Debug)]
pub struct Options {
    /// The image's UUID; VirtualBox registers no two images with the same one.
    pub identity: Identity,
}

impl Options {
    /// The defaults, with this UUID.
    pub fn new(identity: Identity) -> Self {
        Self { identity }
    }
}

/// Where the signature is.
pub(super) const MAGIC_OFFSET: usize = 0x40;
/// `VDI_IMAGE_SIGNATURE`.
pub(super) const MAGIC: [u8; 4] = 0xbeda_107f_u32.to_le_bytes();
/// `szFileInfo`, for people.
const FILE_INFO: &[u8] = b"<<< Oracle VM VirtualBox Disk Image >>>\n";
/// Major version in the upper, minor in the lower half.
const VERSION: u32 = 0x0001_0001;
/// `VDIHEADER1PLUS`, from the field that holds its size.
const HEADER_BYTES: u32 = 0x190;
/// Of the pre-header with the header, in whole sectors: where the map starts.
const MAP_OFFSET: u64 = 512;
/// `VDI_IMAGE_TYPE_NORMAL` (grows), `_FIXED`.
const TYPE_NORMAL: u32 = 1;
const TYPE_FIXED: u32 = 2;
/// The only size that QEMU reads.
const BLOCK_BYTES: u64 = 1 << 20;
/// `VDI_IMAGE_BLOCK_FREE` and `_ZERO`.
const FREE: u32 = u32::MAX;
const ZERO: u32 = u32::MAX - 1;
/// Bytes of an entry of the map.
const ENTRY_BYTES: u64 = 4;
/// QEMU's limit: 512 TiB.
const DISK_BYTES_MAX: u64 = 0x2000_0000 * BLOCK_BYTES;

/// Offsets of fields.
mod field {
    pub(super) const VERSION: usize = 0x44;
    pub(super) const HEADER_SIZE: usize = 0x48;
    pub(super) const IMAGE_TYPE: usize = 0x4c;
    pub(super) const OFFSET_BLOCKS: usize = 0x154;
    pub(super) const OFFSET_DATA: usize = 0x158;
    pub(super) const SECTOR_SIZE: usize = 0x168;
    pub(super) const DISK_SIZE: usize = 0x170;
    pub(super) const BLOCK_SIZE: usize = 0x178;
    pub(super) const BLOCK_EXTRA: usize = 0x17c;
    pub(super) const BLOCKS: usize = 0x180;
    pub(super) const BLOCKS_ALLOCATED: usize = 0x184;
    pub(super) const UUID_CREATE: usize = 0x188;
}

/// Writes `source` as a VDI file that grows.
pub(super) fn write(source: &dyn Source, options: &Options, target: &mut dyn Target) -> Result<(), Error> {
    let disk_bytes = output::disk_bytes(source, DiskFormat::Vdi, DISK_BYTES_MAX)?;
    let mut output = Output::new(DiskFormat::Vdi, target);
    let blocks = disk_bytes.div_ceil(BLOCK_BYTES);
    let data_offset = (MAP_OFFSET + blocks * ENTRY_BYTES).next_multiple_of(BLOCK_BYTES);
    let mut map = TableWriter::new(MAP_OFFSET, blocks, FREE.to_le_bytes());
    let (mut current, mut allocated) = (None, 0_u32);
    scan::for_each_run(source, scan::HOLE_BYTES, |offset, bytes| {
        let block = offset / BLOCK_BYTES;
        if current != Some(block) {
            map.set(block, allocated.to_le_bytes(), &mut output)?;
            (current, allocated) = (Some(block), allocated + 1);
        }
        output.write(bytes, data_offset + u64::from(allocated - 1) * BLOCK_BYTES + offset % BLOCK_BYTES)
    })?;
    map.finish(&mut output)?;
    output.write(&header(options, disk_bytes, data_offset, allocated), 0)?;
    output.set_len(data_offset + u64::from(allocated) * BLOCK_BYTES)
}

fn header(options: &Options, disk_bytes: u64, data_offset: u64, allocated: u32) -> Vec<u8> {
    let mut header = vec![0; MAP_OFFSET as usize];
    put(&mut header, 0, FILE_INFO);
    put(&mut header, MAGIC_OFFSET, &MAGIC);
    put_u32(&mut header, field::VERSION, VERSION);
    put_u32(&mut header, field::HEADER_SIZE, HEADER_BYTES);
    put_u32(&mut header, field::IMAGE_TYPE, TYPE_NORMAL);
    put_u32(&mut header, field::OFFSET_BLOCKS, MAP_OFFSET as u32);
    put_u32(&mut header, field::OFFSET_DATA, data_offset as u32);
    put_u32(&mut header, field::SECTOR_SIZE, SECTOR_BYTES as u32);
    put_u64(&mut header, field::DISK_SIZE, disk_bytes);
    put_u32(&mut header, field::BLOCK_SIZE, BLOCK_BYTES as u32);
    put_u32(&mut header, field::BLOCKS, disk_bytes.div_ceil(BLOCK_BYTES) as u32);
    put_u32(&mut header, field::BLOCKS_ALLOCATED, allocated);
    put(&mut header, field::UUID_CREATE, &options.identity);
    header
}

/// The disk in a VDI file.
pub(super) fn open(file: Box<dyn Source>) -> Result<Box<dyn Source>, Error> {
    let file = Input::new(DiskFormat::Vdi, file);
    let header: [u8; MAP_OFFSET as usize] = file.read_array("the header", 0)?;
    check(&file, &header)?;
    let disk = Disk {
        disk_bytes: get_u64(&header, field::DISK_SIZE),
        map_offset: get_u32(&header, field::OFFSET_BLOCKS).into(),
        data_offset: get_u32(&header, field::OFFSET_DATA).into(),
        blocks: get_u32(&header, field::BLOCKS).into(),
        file,
    };
    disk.check()?;
    Ok(Box::new(Blocks::new(disk)))
}

fn check(file: &Input, header: &[u8]) -> Result<(), Error> {
    if header[MAGIC_OFFSET..MAGIC_OFFSET + 4] != MAGIC {
        return Err(file.corrupt("the header", MAGIC_OFFSET as u64, "it has no signature"));
    }
    let version = get_u32(header, field::VERSION);
    if version != VERSION {
        return Err(file.unsupported(format!("version {}.{}", version >> 16, version & 0xffff)));
    }
    match get_u32(header, field::IMAGE_TYPE) {
        TYPE_NORMAL | TYPE_FIXED => {}
        3 | 4 => return Err(file.unsupported("another image below it (undo or differencing)")),
        other => return Err(file.unsupported(format!("image type {other}"))),
    }
    let block_bytes = u64::from(get_u32(header, field::BLOCK_SIZE));
    if block_bytes != BLOCK_BYTES || get_u32(header, field::BLOCK_EXTRA) != 0 {
        return Err(file.unsupported(format!("blocks of {block_bytes} bytes, or with something before them")));
    }
    Ok(())
}

struct Disk {
    file: Input,
    disk_bytes: u64,
    map_offset: u64,
    data_offset: u64,
    blocks: u64,
}

impl Disk {
    fn check(&self) -> Result<(), Error> {
        let (needed, have) = (self.disk_bytes.div_ceil(BLOCK_BYTES), self.blocks);
        if needed > have {
            let why = format!("{have} blocks, not the {needed} of a disk of {} bytes", self.disk_bytes);
            return Err(self.file.corrupt("the header", field::BLOCKS as u64, why));
        }
        Ok(())
    }
}

impl Layout for Disk {
    fn file(&self) -> &Input {
        &self.file
    }

    fn disk_bytes(&self) -> u64 {
        self.disk_bytes
    }

    fn block_bytes(&self) -> u64 {
        BLOCK_BYTES
    }

    fn place(&self, block: u64) -> Result<(Place, u64), Error> {
        let at = self.map_offset + block * ENTRY_BYTES;
        let (entry, run) = self.file.entry_run("the block map", at, self.blocks - block)?;
        let place = match u32::from_le_bytes(entry) {
            FREE | ZERO => Place::Zero,
            number if u64::from(number) < self.blocks => {
                Place::At(self.data_offset + u64::from(number) * BLOCK_BYTES)
            }
            number => {
                let why = format!("block {number} of {}", self.blocks);
                return Err(self.file.corrupt("the block map", at, why));
            }
        };
        Ok((place, run))
    }
}
