//! The partition's bytes, by their offsets in it.

use super::fault::Fault;
use crate::sparse::{Source, Target};
use std::ops::Range;

/// Unit in which stale bytes are looked for and written over: one that leaves holes in files be.
const BLOCK: u64 = 4096;

/// A partition of a disk; no offset leads out of it.
pub(super) struct Volume<'a, D: ?Sized> {
    disk: &'a mut D,
    start: u64,
    length: u64,
}

impl<'a, D: Source + Target + ?Sized> Volume<'a, D> {
    pub(super) fn new(disk: &'a mut D, partition: Range<u64>) -> Result<Self, Fault> {
        let Range { start, end } = partition;
        match end.checked_sub(start) {
            Some(length) if end <= disk.len() => Ok(Self { disk, start, length }),
            _ => Err(Fault::BeyondEnd(start, end.saturating_sub(start))),
        }
    }

    /// Size in bytes.
    pub(super) fn len(&self) -> u64 {
        self.length
    }

    fn place(&self, offset: u64, length: usize) -> Result<u64, Fault> {
        let end = offset.checked_add(length as u64).filter(|end| *end <= self.length);
        end.map(|_| self.start + offset).ok_or(Fault::BeyondEnd(offset, length as u64))
    }

    pub(super) fn read(&self, offset: u64, buffer: &mut [u8]) -> Result<(), Fault> {
        let place = self.place(offset, buffer.len())?;
        self.disk.read_at(buffer, place).map_err(|error| Fault::Read(offset, error))
    }

    pub(super) fn write(&mut self, offset: u64, bytes: &[u8]) -> Result<(), Fault> {
        let place = self.place(offset, bytes.len())?;
        self.disk.write_at(bytes, place).map_err(|error| Fault::Write(offset, error))
    }

    /// Makes all zero in a range, writing only where something else is.
    pub(super) fn clear(&mut self, range: Range<u64>) -> Result<(), Fault> {
        let mut at = range.start;
        while let Some(data) = self.next_data(at)?.filter(|data| data.start < range.end) {
            let end = data.end.min(range.end);
            self.clear_data(data.start.max(at)..end)?;
            at = end;
        }
        Ok(())
    }

    /// The next range that may hold data, never an empty one.
    fn next_data(&self, offset: u64) -> Result<Option<Range<u64>>, Fault> {
        if offset >= self.length {
            return Ok(None);
        }
        let found = self.disk.next_data(self.start + offset).map_err(|error| Fault::Read(offset, error))?;
        let inside = found.map(|data| {
            let start = data.start.saturating_sub(self.start).max(offset);
            start..data.end.saturating_sub(self.start).min(self.length)
        });
        Ok(inside.filter(|data| !data.is_empty()))
    }

    fn clear_data(&mut self, range: Range<u64>) -> Result<(), Fault> {
        let mut buffer = [0; BLOCK as usize];
        let mut at = range.start;
        while at < range.end {
            let end = (at / BLOCK * BLOCK).saturating_add(BLOCK).min(range.end);
            let bytes = &mut buffer[..(end - at) as usize];
            self.read(at, bytes)?;
            if bytes.iter().any(|byte| *byte != 0) {
                bytes.fill(0);
                self.write(at, bytes)?;
            }
            at = end;
        }
        Ok(())
    }
}
