//! A sparse file in memory.

use crate::sparse::{Source, Target};
use std::{collections::BTreeMap, io, ops::Range};

/// Bytes of a page.
const PAGE: u64 = 4096;

/// Pages that were written; all others are holes.
#[derive(Clone, Default, Debug, PartialEq, Eq)]
pub(super) struct Memory {
    length: u64,
    pages: BTreeMap<u64, Vec<u8>>,
}

impl Memory {
    /// A disk of `length` bytes with these pieces in it.
    pub(super) fn disk(length: u64, pieces: &[(u64, &[u8])]) -> Self {
        let mut disk = Self::default();
        for (offset, bytes) in pieces {
            disk.write_at(bytes, *offset).unwrap();
        }
        disk.set_len(length).unwrap();
        disk
    }

    /// Bytes that take space.
    pub(super) fn space(&self) -> u64 {
        self.pages.len() as u64 * PAGE
    }

    /// Numbers of pages that were written.
    pub(super) fn pages(&self) -> Vec<u64> {
        self.pages.keys().copied().collect()
    }

    pub(super) fn to_vec(&self) -> Vec<u8> {
        let mut bytes = vec![0; self.length as usize];
        self.read_at(&mut bytes, 0).unwrap();
        bytes
    }

    /// Its first `length` bytes.
    pub(super) fn cut(&self, length: u64) -> Self {
        let pages = self.pages.range(..length.div_ceil(PAGE)).map(|(page, bytes)| (*page, bytes.clone()));
        Self { length, pages: pages.collect() }
    }

    pub(super) fn boxed(&self) -> Box<dyn Source> {
        Box::new(self.clone())
    }

    /// Calls `each` with a page's number, the range within it, and the range within the buffer.
    fn for_each_page(offset: u64, length: usize, mut each: impl FnMut(u64, Range<usize>, Range<usize>)) {
        let mut done = 0;
        while done < length {
            let position = offset + done as u64;
            let within = (position % PAGE) as usize;
            let part = (PAGE as usize - within).min(length - done);
            each(position / PAGE, within..within + part, done..done + part);
            done += part;
        }
    }
}

impl Source for Memory {
    fn len(&self) -> u64 {
        self.length
    }

    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<()> {
        if offset.checked_add(buffer.len() as u64).is_none_or(|end| end > self.length) {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        Self::for_each_page(offset, buffer.len(), |page, within, part| match self.pages.get(&page) {
            Some(bytes) => buffer[part].copy_from_slice(&bytes[within]),
            None => buffer[part].fill(0),
        });
        Ok(())
    }

    fn next_data(&self, offset: u64) -> io::Result<Option<Range<u64>>> {
        let page = self.pages.range(offset / PAGE..).next().map(|(page, _)| *page);
        let range = page.map(|page| offset.max(page * PAGE)..((page + 1) * PAGE).min(self.length));
        Ok(range.filter(|range| !range.is_empty()))
    }
}

impl Target for Memory {
    fn write_at(&mut self, bytes: &[u8], offset: u64) -> io::Result<()> {
        Self::for_each_page(offset, bytes.len(), |page, within, part| {
            let page = self.pages.entry(page).or_insert_with(|| vec![0; PAGE as usize]);
            page[within].copy_from_slice(&bytes[part]);
        });
        self.length = self.length.max(offset + bytes.len() as u64);
        Ok(())
    }

    fn set_len(&mut self, length: u64) -> io::Result<()> {
        assert!(self.pages.keys().all(|page| page * PAGE < length), "it cuts off what was written");
        self.length = length;
        Ok(())
    }
}
