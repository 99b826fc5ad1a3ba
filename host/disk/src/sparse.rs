//! The bytes of a disk, most of which nobody ever wrote.
//!
//! A disk of 100 GiB with 1 GiB in it must cost 1 GiB of time and space everywhere. So who reads a disk asks where its
//! data are, and who writes one leaves out what is zero. Both sides are traits, because this crate opens no
//! files: the file behind them is somebody else's.

use std::{io, ops::Range};

/// A disk to read.
pub trait Source: Send + Sync {
    /// Size in bytes.
    fn len(&self) -> u64;

    /// True for a disk of no bytes.
    fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Fills `buffer` from `offset` on.
    ///
    /// # Errors
    /// When it cannot be read, or ends before.
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<()>;

    /// The first range at or after `offset` that may hold something else than zeroes; `None` when nothing does. What
    /// lies between is zero for certain. A source that knows no holes gives all from `offset` on.
    ///
    /// # Errors
    /// When that cannot be found out.
    fn next_data(&self, offset: u64) -> io::Result<Option<Range<u64>>>;
}

/// A file to write, all zero at first.
pub trait Target {
    /// Writes all of `bytes` at `offset`; what lies between written ranges stays zero, and takes no space.
    ///
    /// # Errors
    /// When it cannot be written.
    fn write_at(&mut self, bytes: &[u8], offset: u64) -> io::Result<()>;

    /// Makes the file this long, in bytes.
    ///
    /// # Errors
    /// When it cannot be made so.
    fn set_len(&mut self, length: u64) -> io::Result<()>;
}

impl<T: Source + ?Sized> Source for &T {
    fn len(&self) -> u64 {
        (**self).len()
    }

    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<()> {
        (**self).read_at(buffer, offset)
    }

    fn next_data(&self, offset: u64) -> io::Result<Option<Range<u64>>> {
        (**self).next_data(offset)
    }
}

/// Bytes in memory, for what is small and for tests.
impl Source for [u8] {
    fn len(&self) -> u64 {
        <[u8]>::len(self) as u64
    }

    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<()> {
        let from = usize::try_from(offset).ok().and_then(|from| self.get(from..));
        let part = from.and_then(|from| from.get(..buffer.len())).ok_or(io::ErrorKind::UnexpectedEof)?;
        buffer.copy_from_slice(part);
        Ok(())
    }

    fn next_data(&self, offset: u64) -> io::Result<Option<Range<u64>>> {
        let end = Source::len(self);
        Ok((offset < end).then_some(offset..end))
    }
}

impl Target for Vec<u8> {
    fn write_at(&mut self, bytes: &[u8], offset: u64) -> io::Result<()> {
        let start = usize::try_from(offset).map_err(|_| io::ErrorKind::OutOfMemory)?;
        let end = start.checked_add(bytes.len()).ok_or(io::ErrorKind::OutOfMemory)?;
        if self.len() < end {
            self.resize(end, 0);
        }
        self[start..end].copy_from_slice(bytes);
        Ok(())
    }

    fn set_len(&mut self, length: u64) -> io::Result<()> {
        self.resize(usize::try_from(length).map_err(|_| io::ErrorKind::OutOfMemory)?, 0);
        Ok(())
    }
}
