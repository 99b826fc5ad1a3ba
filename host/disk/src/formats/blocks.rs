//! A disk in blocks, each of which a table places somewhere in a file.

use super::{bytes::SECTOR_BYTES, error::into_io, input::Input};
use crate::{Error, sparse::Source};
use std::sync::{Mutex, PoisonError};
use std::{io, ops::Range};

/// Where a block's bytes are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Place {
    /// Nowhere: they are zero.
    Zero,
    /// In the disk below.
    Below,
    /// In the file, from this byte on.
    At(u64),
    /// Compressed, in `length` bytes of the file from `offset` on.
    Packed { offset: u64, length: usize },
}

/// What a format's tables say.
pub(super) trait Layout: Send + Sync {
    /// The file.
    fn file(&self) -> &Input;

    /// Bytes of the disk.
    fn disk_bytes(&self) -> u64;

    /// Bytes of a block.
    fn block_bytes(&self) -> u64;

    /// Where a block of the disk is; and, when it is not in the file, how many from it on are not there in the same way
    /// (at least one, and no more than it has in one go).
    fn place(&self, block: u64) -> Result<(Place, u64), Error>;

    /// Unpacks the block that is compressed in `packed`, `offset` being its place for errors.
    fn unpack(&self, block: u64, packed: &[u8], offset: u64, bytes: &mut [u8]) -> Result<(), Error> {
        let _ = (block, packed, offset, bytes);
        Err(self.file().unsupported("compressed blocks"))
    }

    /// The disk that is seen where this one has nothing.
    fn below(&self) -> Option<&dyn Source> {
        None
    }
}

/// The disk.
pub(super) struct Blocks<L> {
    layout: L,
    /// The last block that was unpacked: who reads a disk in order reads it in pieces.
    unpacked: Mutex<Option<(u64, Vec<u8>)>>,
}

impl<L: Layout> Blocks<L> {
    pub(super) fn new(layout: L) -> Self {
        Self { layout, unpacked: Mutex::new(None) }
    }

    /// Fills `buffer` from byte `within` of a block on.
    fn read_block(&self, block: u64, within: u64, buffer: &mut [u8]) -> io::Result<()> {
        match self.layout.place(block).map_err(into_io)?.0 {
            Place::Zero => buffer.fill(0),
            Place::Below => self.read_below(block * self.layout.block_bytes() + within, buffer)?,
            Place::At(start) => {
                let offset = start.checked_add(within).ok_or(io::ErrorKind::InvalidData)?;
                self.layout.file().read("a block of data", buffer, offset).map_err(into_io)?;
            }
            Place::Packed { offset, length } => {
                let mut unpacked = self.unpacked.lock().unwrap_or_else(PoisonError::into_inner);
                if unpacked.as_ref().is_none_or(|(number, _)| *number != block) {
                    let bytes = unpacked.take().map(|(_, bytes)| bytes).unwrap_or_default();
                    *unpacked = Some((block, self.unpack(block, offset, length, bytes).map_err(into_io)?));
                }
                let (_, bytes) = unpacked.as_ref().expect("it was just unpacked");
                buffer.copy_from_slice(&bytes[within as usize..within as usize + buffer.len()]);
            }
        }
        Ok(())
    }

    fn unpack(&self, block: u64, offset: u64, length: usize, mut bytes: Vec<u8>) -> Result<Vec<u8>, Error> {
        let file = self.layout.file();
        // Lengths are given in sectors, and the file may end within the last.
        let there = file.length().next_multiple_of(SECTOR_BYTES).saturating_sub(offset);
        let mut packed = vec![0; length.min(usize::try_from(there).unwrap_or(usize::MAX))];
        file.read("a compressed block", &mut packed, offset)?;
        bytes.clear();
        bytes.resize(self.layout.block_bytes() as usize, 0);
        self.layout.unpack(block, &packed, offset, &mut bytes)?;
        Ok(bytes)
    }

    /// The disk below may be shorter.
    fn read_below(&self, offset: u64, buffer: &mut [u8]) -> io::Result<()> {
        let Some(below) = self.layout.below() else {
            buffer.fill(0);
            return Ok(());
        };
        let there = below.len().saturating_sub(offset).min(buffer.len() as u64) as usize;
        let (there, beyond) = buffer.split_at_mut(there);
        beyond.fill(0);
        if there.is_empty() { Ok(()) } else { below.read_at(there, offset) }
    }

    /// What of `range`, which is nowhere here, is data in the disk below. `known` is the answer of the last time.
    fn data_below(
        &self,
        range: Range<u64>,
        known: &mut Option<Option<Range<u64>>>,
    ) -> io::Result<Option<Range<u64>>> {
        let Some(below) = self.layout.below() else { return Ok(None) };
        let outdated =
            known.as_ref().is_none_or(|data| data.as_ref().is_some_and(|data| data.end <= range.start));
        if outdated {
            let data = if range.start < below.len() { below.next_data(range.start)? } else { None };
            if data.as_ref().is_some_and(|data| data.end <= range.start) {
                return Err(io::ErrorKind::InvalidData.into());
            }
            *known = Some(data);
        }
        let data = known.clone().flatten();
        let data = data.map(|data| data.start.max(range.start)..data.end.min(range.end));
        Ok(data.filter(|data| data.start < data.end))
    }
}

impl<L: Layout> Source for Blocks<L> {
    fn len(&self) -> u64 {
        self.layout.disk_bytes()
    }

    fn read_at(&self, mut buffer: &mut [u8], mut offset: u64) -> io::Result<()> {
        let end = offset.checked_add(buffer.len() as u64).filter(|end| *end <= self.len());
        end.ok_or(io::ErrorKind::UnexpectedEof)?;
        let block_bytes = self.layout.block_bytes();
        while !buffer.is_empty() {
            let within = offset % block_bytes;
            let length = (block_bytes - within).min(buffer.len() as u64) as usize;
            let (part, rest) = buffer.split_at_mut(length);
            self.read_block(offset / block_bytes, within, part)?;
            (buffer, offset) = (rest, offset + length as u64);
        }
        Ok(())
    }

    fn next_data(&self, offset: u64) -> io::Result<Option<Range<u64>>> {
        let (block_bytes, end) = (self.layout.block_bytes(), self.len());
        let (mut position, mut known) = (offset, None);
        while position < end {
            let block = position / block_bytes;
            let (place, run) = self.layout.place(block).map_err(into_io)?;
            let run = if matches!(place, Place::Zero | Place::Below) { run } else { 1 };
            let run_end = block.saturating_add(run).saturating_mul(block_bytes).min(end);
            let data = match place {
                Place::Zero => None,
                Place::Below => self.data_below(position..run_end, &mut known)?,
                Place::At(_) | Place::Packed { .. } => Some(position..run_end),
            };
            if data.is_some() {
                return Ok(data);
            }
            position = run_end;
        }
        Ok(None)
    }
}
