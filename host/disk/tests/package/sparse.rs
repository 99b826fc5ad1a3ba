//! A disk in memory that is mostly holes.

use kiln_disk::sparse::Source;
use std::io;
use std::ops::Range;

pub struct Sparse {
    pub length: u64,
    /// Where something is, in order.
    pub data: Vec<(u64, Vec<u8>)>,
    /// Whether it tells where its holes are.
    pub knows_holes: bool,
}

impl Sparse {
    fn range(&self, index: usize) -> Range<u64> {
        let (start, bytes) = &self.data[index];
        *start..start + bytes.len() as u64
    }
}

impl Source for Sparse {
    fn len(&self) -> u64 {
        self.length
    }

    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<()> {
        buffer.fill(0);
        let end = offset + buffer.len() as u64;
        for (index, (_, bytes)) in self.data.iter().enumerate() {
            let range = self.range(index);
            let (from, to) = (range.start.max(offset), range.end.min(end));
            if from < to {
                let part = &bytes[(from - range.start) as usize..(to - range.start) as usize];
                buffer[(from - offset) as usize..(to - offset) as usize].copy_from_slice(part);
            }
        }
        Ok(())
    }

    fn next_data(&self, offset: u64) -> io::Result<Option<Range<u64>>> {
        if !self.knows_holes {
            return Ok((offset < self.length).then_some(offset..self.length));
        }
        let ranges = (0..self.data.len()).map(|index| self.range(index));
        Ok(ranges.map(|range| range.start.max(offset)..range.end).find(|range| !range.is_empty()))
    }
}
