//! Reads a file.

use super::super::{
    DiskFormat,
    blocks::{Blocks, Layout, Place},
    bytes::SECTOR_BYTES,
    input::Input,
};
use super::footer::{Dynamic, Footer};
use super::{ABSENT, ENTRY_BYTES};
use crate::{Error, sparse::Source};
use std::{io, ops::Range};

/// The disk in a VHD file.
pub(in super::super) fn open(file: Box<dyn Source>) -> Result<Box<dyn Source>, Error> {
    let file = Input::new(DiskFormat::Vhd, file);
    let Footer { disk_bytes, dynamic_offset } = Footer::read(&file)?;
    let Some(offset) = dynamic_offset else {
        if disk_bytes > file.length() {
            let why = format!("it says that the disk has {disk_bytes} bytes, more than the file");
            return Err(file.corrupt("the footer", file.length(), why));
        }
        return Ok(Box::new(Fixed { file: file.into_file(), disk_bytes }));
    };
    let dynamic = Dynamic::read(&file, offset, disk_bytes)?;
    Ok(Box::new(Blocks::new(Disk { file, disk_bytes, dynamic })))
}

/// The start of a file.
struct Fixed {
    file: Box<dyn Source>,
    disk_bytes: u64,
}

impl Source for Fixed {
    fn len(&self) -> u64 {
        self.disk_bytes
    }

    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<()> {
        let end = offset.checked_add(buffer.len() as u64).filter(|end| *end <= self.disk_bytes);
        end.ok_or(io::ErrorKind::UnexpectedEof)?;
        self.file.read_at(buffer, offset)
    }

    fn next_data(&self, offset: u64) -> io::Result<Option<Range<u64>>> {
        if offset >= self.disk_bytes {
            return Ok(None);
        }
        let data = self.file.next_data(offset)?;
        let data = data.map(|data| data.start..data.end.min(self.disk_bytes));
        Ok(data.filter(|data| data.start < data.end))
    }
}

struct Disk {
    file: Input,
    disk_bytes: u64,
    dynamic: Dynamic,
}

impl Layout for Disk {
    fn file(&self) -> &Input {
        &self.file
    }

    fn disk_bytes(&self) -> u64 {
        self.disk_bytes
    }

    fn block_bytes(&self) -> u64 {
        self.dynamic.block_bytes
    }

    fn place(&self, block: u64) -> Result<(Place, u64), Error> {
        let at = self.dynamic.table_offset + block * ENTRY_BYTES;
        let left = self.disk_bytes.div_ceil(self.block_bytes()).saturating_sub(block);
        let (entry, run) = self.file.entry_run("the block allocation table", at, left)?;
        let place = match u32::from_be_bytes(entry) {
            ABSENT => Place::Zero,
            sector => {
                let bitmap_bytes =
                    (self.block_bytes() / SECTOR_BYTES).div_ceil(8).next_multiple_of(SECTOR_BYTES);
                Place::At(u64::from(sector) * SECTOR_BYTES + bitmap_bytes)
            }
        };
        Ok((place, run))
    }
}
