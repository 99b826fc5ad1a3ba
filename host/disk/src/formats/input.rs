//! The file that is read: nothing in it is trusted.

use super::{DiskFormat, bytes::SECTOR_BYTES, error::FormatError};
use crate::{Error, sparse::Source};
use std::sync::{Mutex, PoisonError};

/// Bytes of a table that are read at a time, and how many such pieces are kept: what of a file's tables is in memory.
const PIECE_BYTES: u64 = 1 << 16;
const PIECES: u64 = 32;

/// A file of a format. What it says of offsets and lengths is checked here against its own length.
pub(super) struct Input {
    pub(super) format: DiskFormat,
    file: Box<dyn Source>,
    pieces: Mutex<Vec<Option<Piece>>>,
}

/// A piece of the file, aligned.
struct Piece {
    number: u64,
    bytes: Vec<u8>,
}

impl Input {
    pub(super) fn new(format: DiskFormat, file: Box<dyn Source>) -> Self {
        let pieces = (0..PIECES).map(|_| None).collect();
        Self { format, file, pieces: Mutex::new(pieces) }
    }

    /// The file itself.
    pub(super) fn into_file(self) -> Box<dyn Source> {
        self.file
    }

    /// Bytes of the file.
    pub(super) fn length(&self) -> u64 {
        self.file.len()
    }

    /// Fills `buffer` from `offset` on. A last sector that is not whole is taken as filled up with zeroes, as QEMU
    /// does and relies upon.
    pub(super) fn read(&self, structure: &'static str, buffer: &mut [u8], offset: u64) -> Result<(), Error> {
        let (length, needed) = (self.file.len(), buffer.len() as u64);
        let end = offset.checked_add(needed).filter(|end| *end <= length.next_multiple_of(SECTOR_BYTES));
        let Some(end) = end else {
            return Err(
                FormatError::Truncated { format: self.format, structure, offset, needed, length }.into()
            );
        };
        let there = (end.min(length).saturating_sub(offset)) as usize;
        buffer[there..].fill(0);
        if there == 0 {
            return Ok(());
        }
        let failed = |source| FormatError::ReadFile { format: self.format, structure, offset, source };
        Ok(self.file.read_at(&mut buffer[..there], offset).map_err(failed)?)
    }

    /// A structure of a fixed size.
    pub(super) fn read_array<const N: usize>(
        &self,
        structure: &'static str,
        offset: u64,
    ) -> Result<[u8; N], Error> {
        let mut bytes = [0; N];
        self.read(structure, &mut bytes, offset)?;
        Ok(bytes)
    }

    /// An entry of a table, whose neighbours are likely to be asked for next.
    pub(super) fn entry<const N: usize>(
        &self,
        structure: &'static str,
        offset: u64,
    ) -> Result<[u8; N], Error> {
        Ok(self.entry_run(structure, offset, 1)?.0)
    }

    /// An entry of a table, and how many from it on are known to be the same: at least one, at most `most`.
    pub(super) fn entry_run<const N: usize>(
        &self,
        structure: &'static str,
        offset: u64,
        most: u64,
    ) -> Result<([u8; N], u64), Error> {
        let (number, at) = (offset / PIECE_BYTES, (offset % PIECE_BYTES) as usize);
        let length = self.file.len().saturating_sub(number * PIECE_BYTES).min(PIECE_BYTES) as usize;
        if at + N > length {
            // Across pieces, or beyond the file.
            return Ok((self.read_array(structure, offset)?, 1));
        }
        // A reader that panicked has left whole pieces.
        let mut pieces = self.pieces.lock().unwrap_or_else(PoisonError::into_inner);
        let slot = &mut pieces[(number % PIECES) as usize];
        if slot.as_ref().is_none_or(|piece| piece.number != number) {
            let mut bytes = slot.take().map(|piece| piece.bytes).unwrap_or_default();
            bytes.resize(length, 0);
            self.read(structure, &mut bytes, number * PIECE_BYTES)?;
            *slot = Some(Piece { number, bytes });
        }
        let piece = slot.as_ref().expect("it was just read");
        let (entries, _) = piece.bytes[at..].as_chunks::<N>();
        let most = entries.len().min(usize::try_from(most).unwrap_or(usize::MAX)).max(1);
        let run = entries[..most].iter().take_while(|entry| **entry == entries[0]).count();
        Ok((entries[0], run as u64))
    }

    /// The error for a structure that says what cannot be.
    pub(super) fn corrupt(&self, structure: &'static str, offset: u64, why: impl Into<String>) -> Error {
        FormatError::Corrupt { format: self.format, structure, offset, why: why.into() }.into()
    }

    /// The error for what is known, and not read.
    pub(super) fn unsupported(&self, what: impl Into<String>) -> Error {
        FormatError::Unsupported { format: self.format, what: what.into() }.into()
    }
}
