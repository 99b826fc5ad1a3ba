//! A disk's bytes on their way into a package.

use super::error::Problem;
use crate::Error;
use crate::sparse::Source;
use kiln_image::digest::{Digest, Hasher};
use std::io::{self, Write};
use std::ops::Range;

/// Bytes that are read at a time.
pub(super) const PIECE_BYTES: usize = 1 << 20;
static ZEROES: [u8; 64 * 1024] = [0; 64 * 1024];

/// Where bytes go, to which zeroes may be cheaper.
pub(super) trait Sink {
    fn data(&mut self, bytes: &[u8]) -> io::Result<()>;
    fn zeroes(&mut self, count: u64) -> io::Result<()>;
}

/// Zeroes as they are.
impl Sink for &mut (dyn Write + '_) {
    fn data(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.write_all(bytes)
    }

    fn zeroes(&mut self, mut count: u64) -> io::Result<()> {
        while count > 0 {
            let length = count.min(ZEROES.len() as u64);
            self.write_all(&ZEROES[..length as usize])?;
            count -= length;
        }
        Ok(())
    }
}

/// Only the digest of what comes.
impl Sink for Hasher {
    fn data(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.update(bytes);
        Ok(())
    }

    fn zeroes(&mut self, count: u64) -> io::Result<()> {
        let mut hashed: &mut dyn Write = &mut HasherWriter(self);
        Sink::zeroes(&mut hashed, count)
    }
}

struct HasherWriter<'a>(&'a mut Hasher);

impl Write for HasherWriter<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.update(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// What is copied, by the name that errors have for it.
#[derive(Clone, Copy)]
pub(super) struct Named<'a> {
    pub name: &'a str,
    pub source: &'a dyn Source,
}

impl Named<'_> {
    /// All of it.
    pub fn copy(&self, out: &mut dyn Sink) -> Result<(), Error> {
        self.copy_range(0..self.source.len(), out)
    }

    /// A part of it.
    pub fn copy_range(&self, range: Range<u64>, out: &mut dyn Sink) -> Result<(), Error> {
        let mut buffer = vec![0; PIECE_BYTES.min((range.end - range.start) as usize)];
        let mut at = range.start;
        while at < range.end {
            let data = self.source.next_data(at).map_err(|source| self.unread(at, source))?;
            // A source may tell of data before, or of none that goes on.
            let data = data.map_or(range.end..range.end, |data| data.start.max(at)..data.end.min(range.end));
            let start = data.start.min(range.end);
            out.zeroes(start - at).map_err(|source| self.unwritten(source))?;
            at = start;
            while at < data.end {
                let piece = &mut buffer[..PIECE_BYTES.min((data.end - at) as usize)];
                self.source.read_at(piece, at).map_err(|source| self.unread(at, source))?;
                out.data(piece).map_err(|source| self.unwritten(source))?;
                at += piece.len() as u64;
            }
        }
        Ok(())
    }

    /// Its digest.
    pub fn digest(&self) -> Result<Digest, Error> {
        let mut hasher = Hasher::new();
        self.copy(&mut hasher)?;
        Ok(hasher.finish().digest)
    }

    fn unread(&self, offset: u64, source: io::Error) -> Error {
        Problem::Read { name: self.name.to_owned(), offset, source }.into()
    }

    fn unwritten(&self, source: io::Error) -> Error {
        Problem::Write(self.name.to_owned(), source).into()
    }
}

/// Passes on what it hashes.
pub(super) struct Hashing<'a> {
    pub out: &'a mut dyn Sink,
    pub hasher: Hasher,
}

impl Sink for Hashing<'_> {
    fn data(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.hasher.update(bytes);
        self.out.data(bytes)
    }

    fn zeroes(&mut self, count: u64) -> io::Result<()> {
        self.hasher.zeroes(count)?;
        self.out.zeroes(count)
    }
}

/// Whether all bytes are zero.
pub(super) fn is_zero(bytes: &[u8]) -> bool {
    bytes.chunks(ZEROES.len()).all(|part| part == &ZEROES[..part.len()])
}
