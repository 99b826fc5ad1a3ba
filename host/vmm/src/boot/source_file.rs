//! A file that goes into guest memory.

use super::Failure;
use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use vm_memory::{Bytes, GuestAddress, GuestMemoryMmap};

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

    /// Reads `part` straight into `memory`.
    pub fn copy(
        &mut self,
        part: &str,
        (offset, bytes): (u64, u64),
        memory: &GuestMemoryMmap,
        address: GuestAddress,
    ) -> Result<(), Failure> {
        self.require(part, offset, bytes)?;
        let sought = self.file.seek(SeekFrom::Start(offset));
        sought.map_err(|source| self.read_failure(offset, bytes, source))?;
        let mut done = 0;
        // One read(2) gives at most 2 GiB.
        while done < bytes {
            done += self.copy_some((offset + done, bytes - done), memory, GuestAddress(address.0 + done))?;
        }
        Ok(())
    }

    /// Reads up to `bytes` from where the file is, at least one.
    fn copy_some(
        &mut self,
        (offset, bytes): (u64, u64),
        memory: &GuestMemoryMmap,
        address: GuestAddress,
    ) -> Result<u64, Failure> {
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
