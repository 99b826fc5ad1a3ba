//! Files of the host as sparse disks.

use kiln_disk::sparse::{Source, Target};
use rustix::{fs::SeekFrom, io::Errno};
use std::{fs::File, io, ops::Range, os::unix::fs::FileExt};

/// A file as a disk to read; its holes are found.
#[derive(Debug)]
pub struct FileSource {
    file: File,
    length: u64,
}

impl FileSource {
    /// All of the file.
    ///
    /// # Errors
    /// When its length cannot be asked for.
    pub fn new(file: File) -> io::Result<Self> {
        let length = rustix::fs::seek(&file, SeekFrom::End(0))?;
        Ok(Self { file, length })
    }
}

impl Source for FileSource {
    fn len(&self) -> u64 {
        self.length
    }

    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<()> {
        self.file.read_exact_at(buffer, offset)
    }

    fn next_data(&self, offset: u64) -> io::Result<Option<Range<u64>>> {
        if offset >= self.length {
            return Ok(None);
        }
        let start = match rustix::fs::seek(&self.file, SeekFrom::Data(offset)) {
            Ok(start) => start,
            // Nothing but a hole up to the end.
            Err(Errno::NXIO) => return Ok(None),
            // File systems that know no holes, and devices.
            Err(Errno::INVAL) => return Ok(Some(offset..self.length)),
            Err(error) => return Err(error.into()),
        };
        let end = rustix::fs::seek(&self.file, SeekFrom::Hole(start)).unwrap_or(self.length);
        Ok(Some(start..end.min(self.length)))
    }
}

/// A new file, written sparsely.
#[derive(Debug)]
pub struct FileTarget<'f>(pub &'f File);

impl Target for FileTarget<'_> {
    fn write_at(&mut self, bytes: &[u8], offset: u64) -> io::Result<()> {
        self.0.write_all_at(bytes, offset)
    }

    fn set_len(&mut self, length: u64) -> io::Result<()> {
        self.0.set_len(length)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn holes_are_found() {
        let file = tempfile::tempfile().unwrap();
        file.set_len(1 << 30).unwrap();
        file.write_all_at(b"x", 512 << 20).unwrap();
        let source = FileSource::new(file).unwrap();
        assert_eq!(source.len(), 1 << 30);
        let found = source.next_data(0).unwrap().unwrap();
        assert!(found.contains(&(512 << 20)) && found.end - found.start <= 1 << 20, "{found:?}");
        assert_eq!(source.next_data(found.end).unwrap(), None);
        assert_eq!(source.next_data(1 << 30).unwrap(), None);
    }
}
