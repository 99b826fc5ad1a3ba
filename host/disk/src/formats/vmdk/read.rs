//! Reads a file.

use super::super::{
    DiskFormat,
    blocks::{Blocks, Layout, Place},
    bytes::*,
    codec::{self, Codec},
    input::Input,
};
use super::header::Header;
use super::{ENTRY_BYTES, descriptor};
use crate::{Error, sparse::Source};

/// Bytes of a descriptor, at most.
const DESCRIPTOR_BYTES_MAX: u64 = 1 << 20;
/// Bytes before a compressed grain: its sector and its length.
const GRAIN_MARKER_BYTES: usize = 12;
/// Entry of a grain table: the grain is zero, where the header says so.
const ZEROED_GRAIN: u32 = 1;

/// The disk in a VMDK file.
pub(in super::super) fn open(file: Box<dyn Source>) -> Result<Box<dyn Source>, Error> {
    let file = Input::new(DiskFormat::Vmdk, file);
    let header = Header::read(&file)?;
    check_descriptor(&file, header.descriptor)?;
    Ok(Box::new(Blocks::new(Disk { file, header })))
}

/// Refuses what is only a part of a disk.
fn check_descriptor(file: &Input, (offset, length): (u64, u64)) -> Result<(), Error> {
    if offset == 0 || length == 0 {
        return Err(file.unsupported("no descriptor: it is a part of a disk in several files"));
    }
    if length > DESCRIPTOR_BYTES_MAX {
        return Err(file.corrupt(
            "the descriptor",
            offset,
            format!("it says that it is {length} bytes long"),
        ));
    }
    let mut text = vec![0; length as usize];
    file.read("the descriptor", &mut text, offset)?;
    text.truncate(text.iter().position(|byte| *byte == 0).unwrap_or(text.len()));
    let text = String::from_utf8_lossy(&text);
    let Some(create_type) = descriptor::value(&text, "createType") else {
        return Err(file.unsupported("no type in its descriptor: it is a part of a disk in several files"));
    };
    if !["monolithicSparse", "streamOptimized"].contains(&create_type) {
        return Err(
            file.unsupported(format!("type {create_type:?}, not monolithicSparse or streamOptimized"))
        );
    }
    let parent = descriptor::value(&text, "parentCID").unwrap_or(descriptor::NO_PARENT);
    if !parent.eq_ignore_ascii_case(descriptor::NO_PARENT) {
        return Err(file.unsupported("another image below it (parentCID)"));
    }
    match descriptor::extents(&text) {
        1 => Ok(()),
        count => Err(file.unsupported(format!("{count} extents, not one"))),
    }
}

struct Disk {
    file: Input,
    header: Header,
}

impl Disk {
    /// Where a compressed grain is, from the marker before it.
    fn packed(&self, block: u64, offset: u64) -> Result<Place, Error> {
        let what = "a grain's marker";
        let marker: [u8; GRAIN_MARKER_BYTES] = self.file.read_array(what, offset)?;
        let (sector, length) = (get_u64(&marker, 0), u64::from(get_u32(&marker, 8)));
        if sector != block * (self.header.grain_bytes / SECTOR_BYTES) {
            return Err(self.file.corrupt(what, offset, format!("it is for sector {sector}, not this one")));
        }
        // Deflate adds little to what it cannot compress.
        if length == 0 || length > 2 * self.header.grain_bytes {
            return Err(self.file.corrupt(what, offset, format!("a compressed grain of {length} bytes")));
        }
        Ok(Place::Packed { offset: offset + GRAIN_MARKER_BYTES as u64, length: length as usize })
    }
}

impl Layout for Disk {
    fn file(&self) -> &Input {
        &self.file
    }

    fn disk_bytes(&self) -> u64 {
        self.header.disk_bytes
    }

    fn block_bytes(&self) -> u64 {
        self.header.grain_bytes
    }

    fn place(&self, block: u64) -> Result<(Place, u64), Error> {
        let entries = self.header.table_entries;
        let directory_at = self.header.directory + block / entries * ENTRY_BYTES;
        let tables_left = self.disk_bytes().div_ceil(self.block_bytes() * entries) - block / entries;
        let (table, tables) = self.file.entry_run("the grain directory", directory_at, tables_left)?;
        let table = u32::from_le_bytes(table);
        if table == 0 {
            return Ok((Place::Zero, tables * entries - block % entries));
        }
        let at = u64::from(table) * SECTOR_BYTES + block % entries * ENTRY_BYTES;
        let (entry, run) = self.file.entry_run("a grain table", at, entries - block % entries)?;
        let place = match u32::from_le_bytes(entry) {
            0 => Place::Zero,
            ZEROED_GRAIN if self.header.zeroed_grains => Place::Zero,
            sector if self.header.compressed => self.packed(block, u64::from(sector) * SECTOR_BYTES)?,
            sector => Place::At(u64::from(sector) * SECTOR_BYTES),
        };
        Ok((place, run))
    }

    fn unpack(&self, block: u64, packed: &[u8], offset: u64, bytes: &mut [u8]) -> Result<(), Error> {
        let damaged = |why: String| self.file.corrupt("a compressed grain", offset, why);
        let length = codec::unpack(Codec::Zlib, packed, bytes).map_err(|error| damaged(error.to_string()))?;
        // The last grain ends with the disk.
        let needed = (self.header.disk_bytes - block * self.header.grain_bytes).min(bytes.len() as u64);
        if (length as u64) < needed {
            return Err(damaged(format!("it is only {length} bytes long, not {needed}")));
        }
        Ok(())
    }
}
