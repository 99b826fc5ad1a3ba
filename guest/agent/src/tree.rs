//! Reading a directory tree as it is, without following symbolic links.
//!
//! Everything is named by an open directory and a name in it: no path grows longer than the kernel
//! takes, however deep a step's directories are.

use crate::failure::{Failure, Result, Trying};
use rustix::{
    buffer::spare_capacity,
    fs::{
        AtFlags, FileType, Mode, OFlags, RawDir, SeekFrom, Stat, lgetxattr, llistxattr, openat, readlinkat,
        seek, statat,
    },
    io::Errno,
};
use std::{
    collections::BTreeMap,
    ffi::{CStr, CString},
    fs::File,
    os::{fd::AsFd, fd::AsRawFd, fd::BorrowedFd, fd::OwnedFd, unix::ffi::OsStrExt},
};

/// Extended attributes, sorted by name.
pub type Xattrs = BTreeMap<Vec<u8>, Vec<u8>>;

/// Bytes of directory entries that one system call reads.
const DIRECTORY_BUFFER: usize = 32 * 1024;
/// Most bytes of an attribute list or value
/// ([xattr(7)](https://man7.org/linux/man-pages/man7/xattr.7.html), `XATTR_SIZE_MAX`).
const XATTR_MAX: usize = 64 * 1024;
/// Most attributes fit in this many bytes.
const XATTR_USUAL: usize = 512;

/// A file in an open directory.
#[derive(Clone, Copy)]
pub struct Place<'a> {
    /// The directory.
    pub directory: BorrowedFd<'a>,
    /// The name in it; `.` for the directory itself.
    pub name: &'a CStr,
}

impl<'a> Place<'a> {
    /// The file of that name.
    pub fn new(directory: &'a impl AsFd, name: &'a CStr) -> Self {
        Self { directory: directory.as_fd(), name }
    }

    /// The directory itself.
    pub fn itself(directory: &'a impl AsFd) -> Self {
        Self::new(directory, c".")
    }

    /// Its metadata, or `None` if there is no such file.
    ///
    /// # Errors
    /// Any other than that it does not exist.
    pub fn stat(self) -> Result<Option<Stat>> {
        match statat(self.directory, self.name, AtFlags::SYMLINK_NOFOLLOW) {
            Err(Errno::NOENT) => Ok(None),
            other => other.map(Some).trying(|| self.describe("look at")),
        }
    }

    /// Opens a directory.
    ///
    /// # Errors
    /// That of open(2).
    pub fn open_directory(self) -> Result<OwnedFd> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        openat(self.directory, self.name, flags, Mode::empty()).trying(|| self.describe("open"))
    }

    /// Opens a regular file for reading.
    ///
    /// # Errors
    /// That of open(2).
    pub fn open_file(self) -> Result<File> {
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        openat(self.directory, self.name, flags, Mode::empty())
            .map(File::from)
            .trying(|| self.describe("open"))
    }

    /// A symbolic link's target.
    ///
    /// # Errors
    /// That of readlink(2).
    pub fn read_link(self) -> Result<Vec<u8>> {
        readlinkat(self.directory, self.name, Vec::new())
            .map(CString::into_bytes)
            .trying(|| self.describe("read the link"))
    }

    /// Its extended attributes, without the overlay's own. No attributes where the file system has none.
    ///
    /// # Errors
    /// That of listxattr(2) or getxattr(2).
    pub fn xattrs(self) -> Result<Xattrs> {
        let mut all = self.all_xattrs()?;
        remove_overlay_xattrs(&mut all);
        Ok(all)
    }

    /// Its extended attributes, all of them.
    ///
    /// # Errors
    /// That of listxattr(2) or getxattr(2).
    pub fn all_xattrs(self) -> Result<Xattrs> {
        let path = self.magic_path();
        let names = match grow(|list| llistxattr(&path, spare_capacity(list))) {
            Err(Errno::OPNOTSUPP) => Vec::new(),
            names => names.trying(|| self.describe("list the extended attributes of"))?,
        };
        let names = names.split(|&b| b == 0).filter(|name| !name.is_empty());
        names.map(|name| Ok((name.to_vec(), self.xattr(&path, name)?))).collect()
    }

    fn xattr(self, path: &[u8], name: &[u8]) -> Result<Vec<u8>> {
        grow(|value| lgetxattr(path, name, spare_capacity(value)))
            .trying(|| self.describe("read an extended attribute of"))
    }

    /// A path for calls that take no directory. `/proc` is mounted in the agent.
    pub fn magic_path(self) -> Vec<u8> {
        let mut path = format!("/proc/self/fd/{}/", self.directory.as_raw_fd()).into_bytes();
        path.extend_from_slice(self.name.to_bytes());
        path
    }

    /// `verb`, and the file's path as far as the kernel can tell it.
    pub fn describe(self, verb: &str) -> String {
        let directory = std::fs::read_link(format!("/proc/self/fd/{}", self.directory.as_raw_fd()));
        let directory = directory.unwrap_or_default();
        let (directory, name) = (directory.as_os_str().as_bytes(), self.name.to_bytes());
        format!("{verb} {}/{}", String::from_utf8_lossy(directory), String::from_utf8_lossy(name))
    }
}

/// Calls with a buffer that is large enough.
fn grow(call: impl Fn(&mut Vec<u8>) -> rustix::io::Result<usize>) -> rustix::io::Result<Vec<u8>> {
    let mut buffer = Vec::with_capacity(XATTR_USUAL);
    match call(&mut buffer) {
        Err(Errno::RANGE) => {
            buffer.reserve(XATTR_MAX);
            call(&mut buffer)?;
        }
        other => _ = other?,
    }
    Ok(buffer)
}

/// Drops the attributes in which the overlay keeps notes of its own
/// ([overlayfs](https://docs.kernel.org/filesystems/overlayfs.html)).
pub fn remove_overlay_xattrs(xattrs: &mut Xattrs) {
    xattrs.retain(|name, _| !name.starts_with(b"trusted.overlay.") && !name.starts_with(b"user.overlay."));
}

/// The names in a directory, sorted bytewise, without `.` and `..`.
///
/// # Errors
/// That of getdents(2).
pub fn sorted_names(directory: &impl AsFd) -> Result<Vec<CString>> {
    let mut names = Vec::new();
    let mut buffer = Vec::with_capacity(DIRECTORY_BUFFER);
    let mut entries = RawDir::new(directory, buffer.spare_capacity_mut());
    while let Some(entry) = entries.next() {
        let entry = entry.trying(|| Place::itself(directory).describe("list"))?;
        if !matches!(entry.file_name().to_bytes(), b"." | b"..") {
            names.push(entry.file_name().to_owned());
        }
    }
    names.sort_unstable();
    Ok(names)
}

/// Whether a directory has entries.
///
/// # Errors
/// That of getdents(2).
pub fn has_entries(directory: &impl AsFd) -> Result<bool> {
    let mut buffer = Vec::with_capacity(DIRECTORY_BUFFER);
    let mut entries = RawDir::new(directory, buffer.spare_capacity_mut());
    while let Some(entry) = entries.next() {
        let entry = entry.trying(|| Place::itself(directory).describe("list"))?;
        if !matches!(entry.file_name().to_bytes(), b"." | b"..") {
            return Ok(true);
        }
    }
    Ok(false)
}

/// What kind of file it is.
pub fn file_type(stat: &Stat) -> FileType {
    FileType::from_raw_mode(stat.st_mode)
}

/// Permission bits with setuid, setgid and sticky.
pub fn permissions(stat: &Stat) -> u16 {
    (stat.st_mode & 0o7777) as u16
}

/// Whether it is the overlay's mark for a deleted file: a character device 0:0.
pub fn is_whiteout(stat: &Stat) -> bool {
    file_type(stat) == FileType::CharacterDevice && stat.st_rdev == 0
}

/// File size in bytes.
pub fn size(stat: &Stat) -> u64 {
    u64::try_from(stat.st_size).unwrap_or(0)
}

/// A part of a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Extent {
    /// This many bytes; the file stands at their start.
    Data(u64),
    /// This many zero bytes that take no space.
    Hole(u64),
}

/// Walks over a file's data and holes.
pub struct Extents<'a> {
    file: &'a File,
    size: u64,
    at: u64,
    sparse: bool,
}

/// The extents of a regular file, from its start.
pub fn extents<'a>(file: &'a File, stat: &Stat) -> Extents<'a> {
    // Blocks are counted in 512 bytes (inode(7)); a file that has them all has no holes to look for.
    let sparse = u64::try_from(stat.st_blocks).unwrap_or(0).saturating_mul(512) < size(stat);
    Extents { file, size: size(stat), at: 0, sparse }
}

impl Extents<'_> {
    /// The next extent; all together are exactly the file's size.
    ///
    /// # Errors
    /// That of lseek(2).
    pub fn next(&mut self) -> Result<Option<Extent>> {
        if self.at >= self.size {
            return Ok(None);
        }
        if !self.sparse {
            self.at = self.size;
            return Ok(Some(Extent::Data(self.size)));
        }
        let data = self.seek(SeekFrom::Data(self.at))?;
        if data > self.at {
            let hole = data - self.at;
            self.at = data;
            return Ok(Some(Extent::Hole(hole)));
        }
        let end = self.seek(SeekFrom::Hole(self.at))?;
        let length = end
            .checked_sub(self.at)
            .filter(|&l| l > 0)
            .ok_or_else(|| Failure::new("a file changed its holes"))?;
        self.seek(SeekFrom::Start(self.at))?;
        self.at = end;
        Ok(Some(Extent::Data(length)))
    }

    /// Where the file then stands, at most its size.
    fn seek(&self, to: SeekFrom) -> Result<u64> {
        match seek(self.file, to) {
            // No data until the end.
            Err(Errno::NXIO) => Ok(self.size),
            other => other.map(|at| at.min(self.size)).trying(|| "look for holes in a file"),
        }
    }
}
