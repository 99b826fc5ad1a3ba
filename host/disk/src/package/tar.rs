//! Archives whose members may be disks.
//!
//! Headers are those of kiln's own tar writer; members are written past it, so that zeroes need not be.

use super::copy::Sink;
use super::error::Problem;
use crate::Error;
use kiln_image::entry::{Entry, Kind, Metadata};
use kiln_image::tar::Writer;

/// Bytes of a block, in which members are padded.
const BLOCK_BYTES: u64 = 512;

/// An archive of regular files of user and group 0.
pub(super) struct Tar<S> {
    out: S,
    /// Seconds since the Unix epoch, of every member.
    mtime: i64,
}

impl<S: Sink> Tar<S> {
    pub fn new(out: S, mtime: i64) -> Self {
        Self { out, mtime }
    }

    /// A member of `size` bytes, which `content` must write.
    pub fn member(
        &mut self,
        path: &str,
        size: u64,
        content: impl FnOnce(&mut dyn Sink) -> Result<(), Error>,
    ) -> Result<(), Error> {
        let failed = |error| Error::from(Problem::Write(path.to_owned(), error));
        self.out.data(&self.header(path, size)?).map_err(failed)?;
        content(&mut self.out)?;
        self.out.zeroes(size.next_multiple_of(BLOCK_BYTES) - size).map_err(failed)
    }

    /// A member that is in memory.
    pub fn bytes(&mut self, path: &str, bytes: &[u8]) -> Result<(), Error> {
        self.member(path, bytes.len() as u64, |out| {
            out.data(bytes).map_err(|error| Problem::Write(path.to_owned(), error).into())
        })
    }

    /// The end of the archive; gives what it was written to.
    pub fn finish(mut self) -> Result<S, Error> {
        let failed = |error| Problem::Write("the end of the archive".to_owned(), error);
        self.out.zeroes(2 * BLOCK_BYTES).map_err(failed)?;
        Ok(self.out)
    }

    fn header(&self, path: &str, size: u64) -> Result<Vec<u8>, Error> {
        let metadata = Metadata { mode: 0o644, mtime: self.mtime, ..Metadata::default() };
        let entry = Entry { path: path.as_bytes().to_vec(), metadata, kind: Kind::File { size } };
        let mut header = Vec::new();
        let failed = |error| Problem::Tar(path.to_owned(), error);
        Writer::new(&mut header).begin(&entry).map_err(failed)?;
        Ok(header)
    }
}
