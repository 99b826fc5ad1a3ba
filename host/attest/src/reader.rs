//! Bounded reading of a root file system's files.

use crate::Files;
use crate::error::{Error, Kind, Path};
use std::cell::Cell;

/// Most bytes read of one file, unless its format is known to need more.
pub(crate) const FILE_LIMIT: u64 = 64 << 20;
/// Most bytes read of one image: a hostile one can have a million names for one large file.
const TOTAL_LIMIT: u64 = 1 << 30;

/// [`Files`] with limits, and with errors that name the file.
pub(crate) struct Reader<'a> {
    files: &'a dyn Files,
    remaining: Cell<u64>,
}

impl<'a> Reader<'a> {
    pub(crate) fn new(files: &'a dyn Files) -> Self {
        Self { files, remaining: Cell::new(TOTAL_LIMIT) }
    }

    /// All of a file, which must not have more than `limit` bytes.
    pub(crate) fn read(&self, path: &[u8], limit: u64) -> Result<Option<Vec<u8>>, Error> {
        let remaining = self.remaining.get();
        let io = |source| Kind::Io { path: Path::new(path), source };
        let Some(contents) = self.files.read(path, limit.min(remaining) + 1).map_err(io)? else {
            return Ok(None);
        };
        let length = contents.len() as u64;
        self.remaining.set(remaining.saturating_sub(length));
        match length {
            _ if length > limit => Err(Kind::TooLarge { path: Path::new(path), limit }.into()),
            _ if length > remaining => Err(Kind::Budget { path: Path::new(path), limit: TOTAL_LIMIT }.into()),
            _ => Ok(Some(contents)),
        }
    }

    /// The names in a directory, sorted bytewise.
    pub(crate) fn list(&self, directory: &[u8]) -> Vec<Vec<u8>> {
        self.files.list(directory)
    }

    /// As of [`Files::locate`].
    pub(crate) fn locate(&self, path: &[u8]) -> Option<Vec<u8>> {
        self.files.locate(path)
    }
}
