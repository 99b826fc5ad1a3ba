//! What of the overlay's upper directory differs from the base below it.

use crate::{
    failure::{Result, Trying},
    tree::{Place, Xattrs, file_type, has_entries, permissions, size},
};
use rustix::{
    fs::{FileType, Mode, OFlags, Stat, openat},
    io::Errno,
};
use std::{fs::File, io::Read, os::fd::OwnedFd};

/// Bytes of each file that are compared at once.
const COMPARE_BUFFER: usize = 128 * 1024;

/// A file of the upper directory.
pub struct Upper<'a> {
    /// Where it is.
    pub place: Place<'a>,
    /// Its metadata.
    pub stat: &'a Stat,
    /// Its attributes.
    pub xattrs: &'a Xattrs,
}

/// The base's directory at a place, if there is one.
///
/// # Errors
/// Any other than that it does not exist or is something else.
pub fn open_directory(place: Place<'_>) -> Result<Option<OwnedFd>> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    match openat(place.directory, place.name, flags, Mode::empty()) {
        Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => Ok(None),
        other => other.map(Some).trying(|| place.describe("open")),
    }
}

/// Whether hiding the base's directory hides anything.
///
/// # Errors
/// When it cannot be read.
pub fn hides_anything(base: Option<&OwnedFd>) -> Result<bool> {
    base.map_or(Ok(false), has_entries)
}

impl Upper<'_> {
    /// Whether owner, mode and attributes are the base file's.
    ///
    /// # Errors
    /// When the base cannot be read.
    pub fn same_metadata(&self, base: Place<'_>, base_stat: &Stat) -> Result<bool> {
        let same = (self.stat.st_uid, self.stat.st_gid, file_type(self.stat))
            == (base_stat.st_uid, base_stat.st_gid, file_type(base_stat))
            && permissions(self.stat) == permissions(base_stat);
        Ok(same && *self.xattrs == base.xattrs()?)
    }

    /// Whether the base's file is the same, but for being touched since `clock` (seconds since the Unix epoch).
    ///
    /// # Errors
    /// When either cannot be read.
    pub fn is_unchanged(&self, base: Place<'_>, clock: i64) -> Result<bool> {
        let Some(base_stat) = base.stat()? else { return Ok(false) };
        let same_time = self.stat.st_mtime == base_stat.st_mtime || self.stat.st_mtime >= clock;
        Ok(same_time && self.same_metadata(base, &base_stat)? && self.same_content(base, &base_stat)?)
    }

    /// Both are of the same type.
    fn same_content(&self, base: Place<'_>, base_stat: &Stat) -> Result<bool> {
        Ok(match file_type(self.stat) {
            FileType::RegularFile => {
                size(self.stat) == size(base_stat)
                    && same_bytes(&self.place.open_file()?, &base.open_file()?)?
            }
            FileType::Symlink => self.place.read_link()? == base.read_link()?,
            FileType::CharacterDevice | FileType::BlockDevice => self.stat.st_rdev == base_stat.st_rdev,
            _ => true,
        })
    }
}

fn same_bytes(one: &File, other: &File) -> Result<bool> {
    let (mut left, mut right) = (Vec::new(), Vec::new());
    loop {
        fill(one, &mut left)?;
        fill(other, &mut right)?;
        if left != right {
            return Ok(false);
        }
        if left.is_empty() {
            return Ok(true);
        }
    }
}

fn fill(file: &File, buffer: &mut Vec<u8>) -> Result<()> {
    buffer.clear();
    file.take(COMPARE_BUFFER as u64).read_to_end(buffer).trying(|| "compare a file with the base")?;
    Ok(())
}
