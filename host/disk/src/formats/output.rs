//! The file that is written: where each thing goes, and errors that say so.

use super::{DiskFormat, bytes::SECTOR_BYTES, error::FormatError};
use crate::{Error, sparse::Source, sparse::Target};

/// Bytes of a table that are collected before they are written.
const TABLE_PIECE_BYTES: usize = 1 << 16;

/// A file of a format.
pub(super) struct Output<'a> {
    format: DiskFormat,
    target: &'a mut dyn Target,
}

impl<'a> Output<'a> {
    pub(super) fn new(format: DiskFormat, target: &'a mut dyn Target) -> Self {
        Self { format, target }
    }

    /// Writes all of `bytes` at `offset`.
    pub(super) fn write(&mut self, bytes: &[u8], offset: u64) -> Result<(), Error> {
        let failed = |source| FormatError::WriteFile { format: self.format, offset, source };
        Ok(self.target.write_at(bytes, offset).map_err(failed)?)
    }

    /// Makes the file this long.
    pub(super) fn set_len(&mut self, length: u64) -> Result<(), Error> {
        let failed = |source| FormatError::WriteFile { format: self.format, offset: length, source };
        Ok(self.target.set_len(length).map_err(failed)?)
    }
}

/// The disk's size in bytes, in whole sectors, when the format takes it.
pub(super) fn disk_bytes(source: &dyn Source, format: DiskFormat, max: u64) -> Result<u64, Error> {
    let size = source.len();
    if size == 0 || size > max {
        return Err(FormatError::Size { format, size, max }.into());
    }
    Ok(size.next_multiple_of(SECTOR_BYTES))
}

/// A table of entries that become known in order, and are `absent` otherwise. Only a piece of it is in memory.
pub(super) struct TableWriter<const N: usize> {
    /// Where the table starts in the file, in bytes.
    offset: u64,
    entries: u64,
    absent: [u8; N],
    /// Index of the first entry in `piece`.
    first: u64,
    piece: Vec<u8>,
}

impl<const N: usize> TableWriter<N> {
    pub(super) fn new(offset: u64, entries: u64, absent: [u8; N]) -> Self {
        let mut table = Self { offset, entries, absent, first: 0, piece: Vec::new() };
        table.start_piece();
        table
    }

    /// The entry at `index`, which is no smaller than the one before.
    pub(super) fn set(&mut self, index: u64, entry: [u8; N], output: &mut Output<'_>) -> Result<(), Error> {
        self.advance(index, output)?;
        let at = (index - self.first) as usize * N;
        self.piece[at..at + N].copy_from_slice(&entry);
        Ok(())
    }

    /// Writes what is left.
    pub(super) fn finish(mut self, output: &mut Output<'_>) -> Result<(), Error> {
        self.advance(self.entries, output)
    }

    /// Writes what comes before the piece with the entry at `index`.
    fn advance(&mut self, index: u64, output: &mut Output<'_>) -> Result<(), Error> {
        while self.first < index && index >= self.first + (self.piece.len() / N) as u64 {
            self.write_piece(output)?;
            if self.absent == [0; N] {
                // Nothing but zeroes up to there.
                let entries = (TABLE_PIECE_BYTES / N) as u64;
                self.first = self.first.max(index.min(self.entries) / entries * entries);
                self.start_piece();
            }
        }
        Ok(())
    }

    fn write_piece(&mut self, output: &mut Output<'_>) -> Result<(), Error> {
        if !super::scan::is_zero(&self.piece) {
            output.write(&self.piece, self.offset + self.first * N as u64)?;
        }
        self.first += (self.piece.len() / N) as u64;
        self.start_piece();
        Ok(())
    }

    fn start_piece(&mut self) {
        let entries = (self.entries - self.first).min((TABLE_PIECE_BYTES / N) as u64) as usize;
        self.piece.clear();
        for _ in 0..entries {
            self.piece.extend_from_slice(&self.absent);
        }
    }
}
