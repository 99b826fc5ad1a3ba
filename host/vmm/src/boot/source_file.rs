//! A file that goes into guest memory.

use super::Failure;
use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use vm_memory::{Bytes, GuestAddress, GuestMemoryBackend, GuestMemoryMmap, GuestMemoryRegion};

/// An open file and its length.
pub struct SourceFile<'a> {
    /// What errors call it.
    name: &'static str,
    file: &'a mut File,
    length: u64,
}

impl<'a> SourceFile<'a> {
    pub fn new(name: &'static str, file: &'a mut File) -> Result<Self, Failure> {
        let length = file.seek(SeekFrom::End(0)).map_err(|source| Failure::Length { file: name, source })?;
        Ok(Self { name, file, length })
    }

    pub fn length(&self) -> u64 {
        self.length
    }

    /// The bytes of `part`. `bytes` is the caller's to bound.
    pub fn read(&mut self, part: &str, offset: u64, bytes: usize) -> Result<Vec<u8>, Failure> {
        self.require(part, offset, bytes as u64)?;
        let mut buffer = vec![0; bytes];
        let read = self.file.seek(SeekFrom::Start(offset)).and_then(|_| self.file.read_exact(&mut buffer));
        read.map_err(|source| self.read_failure(offset, bytes as u64, source))?;
        Ok(buffer)
    }

    /// Copies `part` into `memory`.
    pub fn copy(
        &mut self,
        part: &str,
        (offset, bytes): (u64, u64),
        memory: &GuestMemoryMmap,
        address: GuestAddress,
    ) -> Result<(), Failure> {
        self.require(part, offset, bytes)?;
        let mut done = 0;
        // One call moves at most 2 GiB.
        while done < bytes {
            let (rest, to) = ((offset + done, bytes - done), GuestAddress(address.0 + done));
            done += match self.send_some(rest, memory, to) {
                Some(sent) => sent,
                None => self.read_some(rest, memory, to)?,
            };
        }
        Ok(())
    }

    /// Copies up to `bytes`, at least one, to the file behind guest memory, without a page fault for each page. `None`
    /// when there is no such file, or the host cannot; why not, reading tells.
    fn send_some(
        &self,
        (mut offset, bytes): (u64, u64),
        memory: &GuestMemoryMmap,
        address: GuestAddress,
    ) -> Option<u64> {
        let (region, inside) = memory.to_region_addr(address)?;
        let backing = region.file_offset()?;
        let count = usize::try_from(bytes.min(region.len() - inside.0)).ok()?;
        rustix::fs::seek(backing.file(), rustix::fs::SeekFrom::Start(backing.start() + inside.0)).ok()?;
        let sent = rustix::fs::sendfile(backing.file(), &*self.file, Some(&mut offset), count).ok()?;
        (sent > 0).then_some(sent as u64)
    }

    /// Reads up to `bytes`, at least one, through the mapping of guest memory.
    fn read_some(
        &mut self,
        (offset, bytes): (u64, u64),
        memory: &GuestMemoryMmap,
        address: GuestAddress,
    ) -> Result<u64, Failure> {
        let sought = self.file.seek(SeekFrom::Start(offset));
        sought.map_err(|source| self.read_failure(offset, bytes, source))?;
        let count = usize::try_from(bytes).unwrap_or(usize::MAX);
        match memory.read_volatile_from(address, self.file, count) {
            Ok(0) => Err(self.read_failure(offset, bytes, io::ErrorKind::UnexpectedEof.into())),
            Ok(read) => Ok(read as u64),
            Err(source) => {
                Err(Failure::ReadIntoMemory { file: self.name, offset, address: address.0, source })
            }
        }
    }

    /// Fails if `part` does not lie within the file.
    pub fn require(&self, part: &str, offset: u64, bytes: u64) -> Result<(), Failure> {
        let end = u128::from(offset) + u128::from(bytes);
        if end > u128::from(self.length) {
            let (file, part, length) = (self.name, part.to_owned(), self.length);
            return Err(Failure::Truncated { file, part, end, length });
        }
        Ok(())
    }

    fn read_failure(&self, offset: u64, bytes: u64, source: io::Error) -> Failure {
        Failure::Read { file: self.name, offset, bytes, source }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::layout::DEVICE_HOLE;
    use std::io::Write;

    /// Memory that goes on behind a hole, with a file behind it and without.
    fn memories() -> [GuestMemoryMmap; 2] {
        let mebibytes = u32::try_from(DEVICE_HOLE.start >> 20).unwrap() + 64;
        let ranges = crate::layout::memory_ranges(u64::from(mebibytes) << 20);
        let ranges: Vec<_> = ranges.into_iter().map(|(start, bytes)| (start, bytes as usize)).collect();
        [crate::memory::create(mebibytes).unwrap(), GuestMemoryMmap::from_ranges(&ranges).unwrap()]
    }

    fn source() -> (File, Vec<u8>) {
        let content: Vec<u8> = (0..100_000_u32).map(|index| (index % 251) as u8).collect();
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(&content).unwrap();
        (file, content)
    }

    #[test]
    fn a_part_is_where_it_should_be_in_any_memory() {
        let (mut file, content) = source();
        for memory in memories() {
            for start in [0x1003, DEVICE_HOLE.end + 5] {
                let mut source = SourceFile::new("kernel", &mut file).unwrap();
                source.copy("part", (77, 70_000), &memory, GuestAddress(start)).unwrap();
                let mut found = vec![0; 70_002];
                memory.read_slice(&mut found, GuestAddress(start - 1)).unwrap();
                assert!(found[1..70_001] == content[77..70_077], "{start:#x}");
                assert_eq!((found[0], found[70_001]), (0, 0), "{start:#x}");
            }
        }
    }

    #[test]
    fn what_has_no_room_is_refused_in_any_memory() {
        let (mut file, _) = source();
        for memory in memories() {
            let mut source = SourceFile::new("kernel", &mut file).unwrap();
            let failure = source.copy("part", (0, 100_000), &memory, GuestAddress(DEVICE_HOLE.start - 4096));
            match failure {
                Err(Failure::ReadIntoMemory { file: "kernel", offset: 4096, address, .. }) => {
                    assert_eq!(address, DEVICE_HOLE.start);
                }
                other => panic!("{other:?}"),
            }
        }
    }
}
