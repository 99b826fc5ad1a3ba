//! Copying a tree with everything that a layer keeps of a file.

use crate::{
    failure::{Result, Trying},
    tree::{Extent, Place, Xattrs, extents, file_type, permissions, size, sorted_names},
};
use rustix::{
    fs::{
        AtFlags, FileType, Gid, Mode, OFlags, SeekFrom, Stat, Timespec, Timestamps, UTIME_OMIT, Uid,
        XattrFlags, chmodat, chownat, ftruncate, linkat, lsetxattr, mkdirat, mknodat, openat, seek, sendfile,
        symlinkat, utimensat,
    },
    io::retry_on_intr,
};
use std::{
    collections::HashMap,
    ffi::{CStr, CString},
    fs::File,
    os::fd::OwnedFd,
    vec::IntoIter,
};

/// Copies what is in the directory `from` into the directory `to`, which has none of it yet. Their
/// own metadata is left alone.
///
/// # Errors
/// Any of the file systems', `ENOSPC` among them.
pub fn copy_entries(from: OwnedFd, to: OwnedFd) -> Result<()> {
    let root = to.try_clone().trying(|| "copy contents")?;
    let mut copy = Copy { root, links: HashMap::new(), path: Vec::new() };
    let mut stack = vec![Level { names: sorted_names(&from)?.into_iter(), from, to, path_length: 0 }];
    while let Some(level) = stack.last_mut() {
        copy.path.truncate(level.path_length);
        let Some(name) = level.names.next() else {
            stack.pop();
            // Last, as making entries changed the directory's modification time.
            if let Some(parent) = stack.last() {
                copy.finish_directory(parent)?;
            }
            continue;
        };
        copy.enter(name.as_bytes());
        if let Some(child) = copy.entry(level, &name)? {
            stack.push(child);
        }
    }
    Ok(())
}

/// Copies owner, mode, attributes and times of one directory to another.
///
/// # Errors
/// Any of the file systems'.
pub fn copy_directory_metadata(from: Place<'_>, to: Place<'_>) -> Result<()> {
    let stat = rustix::fs::fstat(from.open_directory()?).trying(|| from.describe("look at"))?;
    set_metadata(to, &stat, &from.xattrs()?)
}

/// A directory being copied.
struct Level {
    from: OwnedFd,
    to: OwnedFd,
    names: IntoIter<CString>,
    path_length: usize,
}

struct Copy {
    /// Where everything goes.
    root: OwnedFd,
    /// The first copied path of each file with several names, by inode.
    links: HashMap<u64, CString>,
    /// Relative to `root`.
    path: Vec<u8>,
}

impl Copy {
    fn enter(&mut self, name: &[u8]) {
        if !self.path.is_empty() {
            self.path.push(b'/');
        }
        self.path.extend_from_slice(name);
    }

    fn finish_directory(&self, parent: &Level) -> Result<()> {
        let start = if parent.path_length == 0 { 0 } else { parent.path_length + 1 };
        let name = CString::new(&self.path[start..]).expect("a name from a directory has no NUL");
        copy_directory_metadata(Place::new(&parent.from, &name), Place::new(&parent.to, &name))
    }

    /// Copies one file; a directory only begins, and comes back to be filled.
    fn entry(&mut self, level: &Level, name: &CStr) -> Result<Option<Level>> {
        let (from, to) = (Place::new(&level.from, name), Place::new(&level.to, name));
        let Some(stat) = from.stat()? else { return Ok(None) };
        if file_type(&stat) == FileType::Directory {
            return self.begin_directory(from, to).map(Some);
        }
        if stat.st_nlink > 1 && self.link(&stat, to)? {
            return Ok(None);
        }
        match file_type(&stat) {
            FileType::RegularFile => copy_data(from, to, &stat)?,
            FileType::Symlink => copy_symlink(from, to)?,
            FileType::Socket => return Ok(None),
            other => mknodat(to.directory, name, other, Mode::empty(), stat.st_rdev)
                .trying(|| to.describe("make"))?,
        }
        set_metadata(to, &stat, &from.xattrs()?)?;
        Ok(None)
    }

    fn begin_directory(&self, from: Place<'_>, to: Place<'_>) -> Result<Level> {
        mkdirat(to.directory, to.name, Mode::RWXU).trying(|| to.describe("make"))?;
        let (from, to) = (from.open_directory()?, to.open_directory()?);
        Ok(Level { names: sorted_names(&from)?.into_iter(), from, to, path_length: self.path.len() })
    }

    /// Makes another name of a file that was copied before, or remembers this one as the first.
    fn link(&mut self, stat: &Stat, to: Place<'_>) -> Result<bool> {
        if let Some(first) = self.links.get(&stat.st_ino) {
            linkat(&self.root, first, to.directory, to.name, AtFlags::empty())
                .trying(|| to.describe("link"))?;
            return Ok(true);
        }
        let path = CString::new(&self.path[..]).expect("names from a directory have no NUL");
        self.links.insert(stat.st_ino, path);
        Ok(false)
    }
}

fn copy_symlink(from: Place<'_>, to: Place<'_>) -> Result<()> {
    let target = from.read_link()?;
    symlinkat(&target[..], to.directory, to.name).trying(|| to.describe("make the link"))
}

fn copy_data(from: Place<'_>, to: Place<'_>, stat: &Stat) -> Result<()> {
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let target =
        openat(to.directory, to.name, flags, Mode::RUSR | Mode::WUSR).trying(|| to.describe("make"))?;
    let source = from.open_file()?;
    let (mut parts, mut at) = (extents(&source, stat), 0);
    while let Some(part) = parts.next()? {
        at += match part {
            Extent::Hole(length) => length,
            Extent::Data(length) => {
                seek(&target, SeekFrom::Start(at))
                    .and_then(|_| send(&source, &target, length))
                    .trying(|| to.describe("write"))?;
                length
            }
        };
    }
    // A hole at the end is only told by the size.
    ftruncate(&target, size(stat)).trying(|| to.describe("write"))
}

/// Copies within the kernel.
fn send(from: &File, to: &OwnedFd, mut length: u64) -> rustix::io::Result<()> {
    while length > 0 {
        let wanted = usize::try_from(length).unwrap_or(usize::MAX);
        match retry_on_intr(|| sendfile(to, from, None, wanted))? {
            0 => return Err(rustix::io::Errno::IO),
            sent => length -= sent as u64,
        }
    }
    Ok(())
}

/// In an order that loses nothing: a new owner takes away setuid bits and capabilities, and every
/// change is a newer change time only.
fn set_metadata(to: Place<'_>, stat: &Stat, xattrs: &Xattrs) -> Result<()> {
    let (owner, group) = (Uid::from_raw(stat.st_uid), Gid::from_raw(stat.st_gid));
    chownat(to.directory, to.name, Some(owner), Some(group), AtFlags::SYMLINK_NOFOLLOW)
        .trying(|| to.describe("set the owner of"))?;
    if file_type(stat) != FileType::Symlink {
        let mode = Mode::from_raw_mode(permissions(stat).into());
        chmodat(to.directory, to.name, mode, AtFlags::empty()).trying(|| to.describe("set the mode of"))?;
    }
    set_xattrs(to, xattrs)?;
    let unchanged = Timespec { tv_sec: 0, tv_nsec: UTIME_OMIT };
    let modified = Timespec { tv_sec: stat.st_mtime, tv_nsec: nanoseconds(stat) };
    let times = Timestamps { last_access: unchanged, last_modification: modified };
    utimensat(to.directory, to.name, &times, AtFlags::SYMLINK_NOFOLLOW)
        .trying(|| to.describe("set the time of"))
}

fn nanoseconds(stat: &Stat) -> i64 {
    stat.st_mtime_nsec.try_into().unwrap_or(0)
}

fn set_xattrs(to: Place<'_>, xattrs: &Xattrs) -> Result<()> {
    if xattrs.is_empty() {
        return Ok(());
    }
    let path = to.magic_path();
    for (name, value) in xattrs {
        lsetxattr(&path[..], &name[..], value, XattrFlags::empty())
            .trying(|| to.describe("set an extended attribute of"))?;
    }
    Ok(())
}
