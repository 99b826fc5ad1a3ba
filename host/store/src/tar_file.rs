//! A layer's tar on its way to the disk.

use crate::Error;
use crate::pending::Pending;
use std::io::{self, Write};
use std::path::Path;

/// Runs of zeroes that are not written, where they fill whole pieces of this many bytes: no file system has larger blocks
/// on the machines kiln runs on.
const HOLE_SIZE: usize = 4096;

/// Zeroes to compare with.
static ZEROES: [u8; HOLE_SIZE] = [0; HOLE_SIZE];

/// Writes a file, with holes for long runs of zeroes.
#[derive(Debug)]
pub(crate) struct TarFile {
    pending: Pending,
    /// Bytes so far, those of holes included.
    position: u64,
}

impl TarFile {
    pub(crate) fn new(pending: Pending) -> Self {
        Self { pending, position: 0 }
    }

    /// The whole file, which ends where it should also when a hole is last. `path` is for messages.
    pub(crate) fn finish(self, path: &Path) -> Result<Pending, Error> {
        self.pending.set_length(self.position).map_err(|e| Error::io("write", path, e))?;
        Ok(self.pending)
    }

    fn put(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.pending.write_at(bytes, self.position)?;
        self.position += bytes.len() as u64;
        Ok(())
    }
}

impl Write for TarFile {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let aligned = usize::try_from(self.position % HOLE_SIZE as u64).expect("less than a piece");
        let first = ((HOLE_SIZE - aligned) % HOLE_SIZE).min(bytes.len());
        let (mut data, mut rest) = bytes.split_at(first);
        // `data` grows by pieces until a hole comes.
        while let Some((piece, _)) = rest.split_at_checked(HOLE_SIZE) {
            let length = data.len();
            if piece == ZEROES {
                self.put(data)?;
                self.position += HOLE_SIZE as u64;
                rest = &rest[HOLE_SIZE..];
                data = &rest[..0];
            } else {
                let start = bytes.len() - rest.len() - length;
                rest = &rest[HOLE_SIZE..];
                data = &bytes[start..start + length + HOLE_SIZE];
            }
        }
        let start = bytes.len() - rest.len() - data.len();
        self.put(&bytes[start..])?;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    #[test]
    fn what_is_written_is_read() {
        let directory = tempfile::tempdir().unwrap();
        let mut bytes: Vec<u8> = vec![0; 50_000];
        for at in [0, 5000, 5001, 9000, 20_000, 33_333, 45_000] {
            bytes[at] = 7;
        }
        for size in [1, 100, 4096, 4097, 10_000, 50_000] {
            let mut file = TarFile::new(Pending::create(directory.path()).unwrap());
            bytes.chunks(size).for_each(|piece| file.write_all(piece).unwrap());
            let path = directory.path().join("file");
            file.finish(&path).unwrap().publish(&path).unwrap();
            assert!(fs::read(&path).unwrap() == bytes, "{size}");
        }
    }
}
