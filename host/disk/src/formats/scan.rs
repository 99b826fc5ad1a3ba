//! What of a disk is not zero.
//!
//! The holes that a source knows of save reading, but decide nothing: which blocks count as empty follows from their
//! bytes alone. So the same bytes give the same file, wherever they were read from.

use super::error::FormatError;
use crate::{Error, sparse::Source};
use std::ops::Range;

/// Bytes that are read at a time, at least.
const WINDOW_BYTES: usize = 1 << 20;
/// Bytes of the smallest hole within larger blocks and raw files: what file systems give space in.
pub(super) const HOLE_BYTES: usize = 4096;

/// True when no byte is set.
pub(super) fn is_zero(bytes: &[u8]) -> bool {
    // Pieces without an early end become vector instructions.
    bytes.chunks(256).all(|piece| piece.iter().fold(0, |all, byte| all | byte) == 0)
}

/// Calls `take` with the offset and bytes of each block that is not all zero, in order. The last block is filled up
/// with zeroes. `block_bytes` is a power of two.
pub(super) fn for_each_block(
    source: &dyn Source,
    block_bytes: usize,
    mut take: impl FnMut(u64, &[u8]) -> Result<(), Error>,
) -> Result<(), Error> {
    let mut windows = Windows::new(vec![source], source.len(), block_bytes);
    while let Some(start) = windows.next()? {
        for (offset, block) in (start..).step_by(block_bytes).zip(windows.bytes(0).chunks(block_bytes)) {
            if !is_zero(block) {
                take(offset, block)?;
            }
        }
    }
    Ok(())
}

/// Calls `take` with runs of blocks that are not all zero, in order; a run ends before the disk does.
pub(super) fn for_each_run(
    source: &dyn Source,
    block_bytes: usize,
    mut take: impl FnMut(u64, &[u8]) -> Result<(), Error>,
) -> Result<(), Error> {
    let mut windows = Windows::new(vec![source], source.len(), block_bytes);
    while let Some(start) = windows.next()? {
        let length = (source.len() - start).min(windows.window_bytes as u64) as usize;
        for run in runs(&windows.bytes(0)[..length], block_bytes) {
            take(start + run.start as u64, &windows.bytes(0)[run])?;
        }
    }
    Ok(())
}

/// Where in `bytes` blocks are not zero, neighbours together.
fn runs(bytes: &[u8], block_bytes: usize) -> Vec<Range<usize>> {
    let mut runs: Vec<Range<usize>> = Vec::new();
    for (index, block) in bytes.chunks(block_bytes).enumerate() {
        let start = index * block_bytes;
        match runs.last_mut() {
            _ if is_zero(block) => {}
            Some(last) if last.end == start => last.end += block.len(),
            _ => runs.push(start..start + block.len()),
        }
    }
    runs
}

/// Walks one disk, or several beside each other, by windows of which at least one may hold data.
pub(super) struct Windows<'a> {
    sources: Vec<&'a dyn Source>,
    length: u64,
    window_bytes: usize,
    position: u64,
    buffers: Vec<Vec<u8>>,
}

impl<'a> Windows<'a> {
    /// Windows of whole blocks over the first `length` bytes; a source that is shorter is zero from there on.
    pub(super) fn new(sources: Vec<&'a dyn Source>, length: u64, block_bytes: usize) -> Self {
        let window_bytes = block_bytes.max(WINDOW_BYTES);
        let buffers = vec![vec![0; window_bytes]; sources.len()];
        Self { sources, length, window_bytes, position: 0, buffers }
    }

    /// Reads the next window, and says where it starts.
    pub(super) fn next(&mut self) -> Result<Option<u64>, Error> {
        let mut start = None;
        for source in &self.sources {
            let data = next_data(*source, self.position, self.length)?.map(|range| range.start);
            start = [start, data].into_iter().flatten().min();
        }
        let Some(start) = start.map(|start| start - start % self.window_bytes as u64) else {
            return Ok(None);
        };
        for (source, buffer) in self.sources.iter().zip(&mut self.buffers) {
            fill(*source, start, self.length, buffer)?;
        }
        self.position = start + self.window_bytes as u64;
        Ok(Some(start))
    }

    /// The window of the source with this index, zero after its end.
    pub(super) fn bytes(&self, source: usize) -> &[u8] {
        &self.buffers[source]
    }
}

/// Reads what lies between `start` and `length`, as far as it may be data.
fn fill(source: &dyn Source, start: u64, length: u64, buffer: &mut [u8]) -> Result<(), Error> {
    buffer.fill(0);
    let end = length.min(start.saturating_add(buffer.len() as u64));
    let mut position = start;
    while let Some(range) = next_data(source, position, end)? {
        let part = &mut buffer[(range.start - start) as usize..(range.end - start) as usize];
        source
            .read_at(part, range.start)
            .map_err(|error| FormatError::ReadDisk { offset: range.start, source: error })?;
        position = range.end;
    }
    Ok(())
}

/// The next data from `position` to `end`: never empty, never before `position`.
fn next_data(source: &dyn Source, position: u64, end: u64) -> Result<Option<Range<u64>>, Error> {
    let end = end.min(source.len());
    if position >= end {
        return Ok(None);
    }
    let found = source.next_data(position);
    let Some(found) = found.map_err(|source| FormatError::ReadDisk { offset: position, source })? else {
        return Ok(None);
    };
    let range = found.start.max(position)..found.end.min(end);
    if found.end <= position || found.is_empty() {
        return Err(FormatError::DataRange(position).into());
    }
    Ok((range.start < end).then_some(range))
}
