//! Reads a file.

use super::super::{
    DiskFormat,
    blocks::{Blocks, Layout, Place},
    bytes::SECTOR_BYTES,
    codec::{self, Codec},
    input::Input,
};
use super::header::{BackingFile, Header};
use super::{COMPRESSED, ENTRY_BYTES, OFFSET_MASK, ZERO, compressed_offset_bits};
use crate::{Error, sparse::Source};

/// A qcow2 file whose disk below is not there yet.
pub struct Image {
    file: Input,
    header: Header,
}

impl Image {
    /// Reads the header of a file.
    ///
    /// # Errors
    /// When it is no qcow2 file, damaged, or uses something that is not supported.
    pub fn open(file: Box<dyn Source>) -> Result<Self, Error> {
        let file = Input::new(DiskFormat::Qcow2, file);
        let header = Header::read(&file)?;
        Ok(Self { file, header })
    }

    /// What the file says of the disk below, if there is one.
    pub fn backing_file(&self) -> Option<&BackingFile> {
        self.header.backing.as_ref()
    }

    /// The disk, alone.
    ///
    /// # Errors
    /// When it needs a disk below.
    pub fn alone(self) -> Result<Box<dyn Source>, Error> {
        match &self.header.backing {
            Some(backing) => Err(self.file.unsupported(format!(
                "a backing file ({}) that was not given",
                backing.file_name.escape_default()
            ))),
            None => Ok(Box::new(Blocks::new(Disk { image: self, below: None }))),
        }
    }

    /// The disk over the contents of its backing file.
    pub fn over(self, below: Box<dyn Source>) -> Box<dyn Source> {
        Box::new(Blocks::new(Disk { image: self, below: Some(below) }))
    }
}

struct Disk {
    image: Image,
    below: Option<Box<dyn Source>>,
}

impl Disk {
    /// Where a cluster is that has no entry of its own.
    fn absent(&self) -> Place {
        if self.below.is_some() { Place::Below } else { Place::Zero }
    }

    fn l2_entry_place(&self, entry: u64, entry_offset: u64) -> Result<Place, Error> {
        let Header { version, cluster_bits, .. } = self.image.header;
        if entry & COMPRESSED != 0 {
            let offset_bits = compressed_offset_bits(cluster_bits);
            let offset = entry & ((1 << offset_bits) - 1);
            let sectors = (entry & (COMPRESSED - 1)) >> offset_bits;
            let length = (sectors + 1) * SECTOR_BYTES - offset % SECTOR_BYTES;
            return Ok(Place::Packed { offset, length: length as usize });
        }
        if version >= 3 && entry & ZERO != 0 {
            return Ok(Place::Zero);
        }
        match entry & OFFSET_MASK {
            0 => Ok(self.absent()),
            offset if offset % self.block_bytes() == 0 => Ok(Place::At(offset)),
            _ => {
                Err(self.image.file.corrupt("an L2 entry", entry_offset, "its cluster does not start at one"))
            }
        }
    }
}

impl Layout for Disk {
    fn file(&self) -> &Input {
        &self.image.file
    }

    fn disk_bytes(&self) -> u64 {
        self.image.header.disk_bytes
    }

    fn block_bytes(&self) -> u64 {
        self.image.header.cluster_bytes()
    }

    fn place(&self, block: u64) -> Result<(Place, u64), Error> {
        let (file, entries) = (&self.image.file, self.block_bytes() / ENTRY_BYTES);
        let (index, at) = (block / entries, block % entries);
        let l1_at = self.image.header.l1_offset.saturating_add(index * ENTRY_BYTES);
        let tables_left = self.image.header.l1_entries.saturating_sub(index);
        let (l2_offset, tables) = file.entry_run("the L1 table", l1_at, tables_left)?;
        let l2_offset = u64::from_be_bytes(l2_offset) & OFFSET_MASK;
        if l2_offset == 0 {
            return Ok((self.absent(), tables * entries - at));
        }
        if !l2_offset.is_multiple_of(self.block_bytes()) {
            return Err(file.corrupt("an L1 entry", l1_at, "its L2 table does not start at a cluster"));
        }
        let l2_at = l2_offset + at * ENTRY_BYTES;
        let (entry, run) = file.entry_run("an L2 table", l2_at, entries - at)?;
        Ok((self.l2_entry_place(u64::from_be_bytes(entry), l2_at)?, run))
    }

    fn unpack(&self, block: u64, packed: &[u8], offset: u64, bytes: &mut [u8]) -> Result<(), Error> {
        let codec = if self.image.header.zstd { Codec::Zstd } else { Codec::RawDeflate };
        let damaged = |why: String| self.image.file.corrupt("a compressed cluster", offset, why);
        let length = codec::unpack(codec, packed, bytes).map_err(|error| damaged(error.to_string()))?;
        if length < bytes.len() {
            return Err(damaged(format!("cluster {block} is only {length} bytes long")));
        }
        Ok(())
    }

    fn below(&self) -> Option<&dyn Source> {
        self.below.as_deref()
    }
}
