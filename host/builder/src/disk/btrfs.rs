//! btrfs, whose tool leaves identities and times to chance.

use super::file::{FileSource, FileTarget};
use crate::{Error, error::Kind};
use kiln_disk::{
    btrfs::{InodeTimes, Options, canonicalise as rewrite},
    sparse::{Source, Target},
};
use std::{fs::File, io, ops::Range};

/// Gives a new file system the identities and times that it would have in any other run.
pub(crate) fn canonicalise(file: &File, range: Range<u64>, time_s: u64) -> Result<(), Error> {
    let failed = |source| Kind::DiskFile { source };
    let source = file.try_clone().and_then(FileSource::new).map_err(failed)?;
    let options = Options { time_s, inode_times: InodeTimes::OfModification, ..Options::default() };
    let mut both = Both { source, target: FileTarget(file) };
    rewrite(&mut both, range, &options).map_err(|source| {
        let what = "cannot make the btrfs file system the same in every run".to_owned();
        Kind::Disk { what, source }.into()
    })
}

/// A file that is read and written.
struct Both<'f> {
    source: FileSource,
    target: FileTarget<'f>,
}

impl Source for Both<'_> {
    fn len(&self) -> u64 {
        self.source.len()
    }

    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<()> {
        self.source.read_at(buffer, offset)
    }

    fn next_data(&self, offset: u64) -> io::Result<Option<Range<u64>>> {
        self.source.next_data(offset)
    }
}

impl Target for Both<'_> {
    fn write_at(&mut self, bytes: &[u8], offset: u64) -> io::Result<()> {
        self.target.write_at(bytes, offset)
    }

    fn set_len(&mut self, length: u64) -> io::Result<()> {
        self.target.set_len(length)
    }
}
