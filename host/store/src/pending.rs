//! Files being written: without a name until they are whole.
//!
//! A file of O_TMPFILE goes with its process, however that ends, even by a mere exit while one of its
//! threads still writes. Where the file system has none, or there is no /proc by which to give such a
//! file its name, it is in `tmp/` meanwhile, and the next to open the store removes what is left.
//! <https://man7.org/linux/man-pages/man2/open.2.html>

use crate::Error;
use crate::held;
use rustix::fs::{AtFlags, CWD, Mode, OFlags};
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::fd::AsRawFd;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

/// Only for the store's user.
const MODE: u32 = 0o600;

/// A file that is gone when it is dropped before it is published.
#[derive(Debug)]
pub(crate) struct Pending {
    file: File,
    tmp: PathBuf,
    /// In `tmp`, where it has one.
    name: Option<PathBuf>,
}

static NEXT: AtomicU64 = AtomicU64::new(0);

impl Pending {
    pub(crate) fn create(tmp: &Path) -> Result<Self, Error> {
        match create_nameless(tmp)? {
            Some(file) if entry_in_proc(&file).exists() => {
                held::lock_shared(&file, tmp)?;
                Ok(Self { file, tmp: tmp.to_path_buf(), name: None })
            }
            _ => Self::create_named(tmp),
        }
    }

    fn create_named(tmp: &Path) -> Result<Self, Error> {
        loop {
            let path = next_name(tmp);
            let created = OpenOptions::new().read(true).write(true).create_new(true).mode(MODE).open(&path);
            let file = match created {
                Ok(file) => file,
                Err(e) if e.kind() == io::ErrorKind::AlreadyExists => continue,
                Err(e) => return Err(Error::io("create", &path, e)),
            };
            held::lock_shared(&file, &path)?;
            // Before it was locked it looked abandoned.
            if held::is_linked(&file, &path)? {
                return Ok(Self { file, tmp: tmp.to_path_buf(), name: Some(path) });
            }
        }
    }

    /// Gives the file its name, once its bytes are on the disk: after a power failure a name must not
    /// lead to half a file. What had the name before is replaced. Returns the file, still locked.
    pub(crate) fn publish(mut self, to: &Path) -> Result<File, Error> {
        self.file.sync_data().map_err(|e| Error::io("write", to, e))?;
        if self.name.is_some() || !self.link(to)? {
            self.rename(to)?;
        }
        self.file(to)
    }

    /// The file, still locked. `path` is for messages.
    pub(crate) fn file(&self, path: &Path) -> Result<File, Error> {
        self.file.try_clone().map_err(|e| Error::io("open", path, e))
    }

    /// Gives a nameless file a name; false when something has it.
    fn link(&self, to: &Path) -> Result<bool, Error> {
        match rustix::fs::linkat(CWD, entry_in_proc(&self.file), CWD, to, AtFlags::SYMLINK_FOLLOW) {
            Ok(()) => Ok(true),
            Err(rustix::io::Errno::EXIST) => Ok(false),
            Err(e) => Err(Error::io("create", to, e.into())),
        }
    }

    /// linkat(2) never replaces, so that a nameless file is in `tmp` for a moment first. To keep what
    /// has the name instead would keep what may be damaged.
    fn rename(&mut self, to: &Path) -> Result<(), Error> {
        while self.name.is_none() {
            let name = next_name(&self.tmp);
            if self.link(&name)? {
                self.name = Some(name);
            }
        }
        let name = self.name.as_ref().expect("was just given");
        fs::rename(name, to).map_err(|e| Error::io("create", to, e))?;
        self.name = None;
        Ok(())
    }
}

impl Pending {
    /// Writes all of `bytes` at this place of the file.
    pub(crate) fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        self.file.write_all_at(bytes, offset)
    }

    /// Makes the file end here.
    pub(crate) fn set_length(&self, length: u64) -> io::Result<()> {
        self.file.set_len(length)
    }
}

impl Drop for Pending {
    fn drop(&mut self) {
        if let Some(name) = &self.name {
            // Nothing can be done about a failure; the next to open the store tries again.
            let _ = fs::remove_file(name);
        }
    }
}

/// A file that never had a name, or `None` where there are none.
fn create_nameless(directory: &Path) -> Result<Option<File>, Error> {
    use rustix::io::Errno;
    let flags = OFlags::TMPFILE | OFlags::RDWR | OFlags::CLOEXEC;
    match rustix::fs::open(directory, flags, Mode::from_raw_mode(MODE)) {
        Ok(file) => Ok(Some(file.into())),
        // Of file systems, and of kernels, that do not know the flag.
        Err(Errno::OPNOTSUPP | Errno::ISDIR | Errno::INVAL | Errno::NOSYS) => Ok(None),
        Err(e) => Err(Error::io("create a file in", directory, e.into())),
    }
}

/// A file that nothing leads to but its descriptor.
pub(crate) fn temporary_file(tmp: &Path) -> Result<File, Error> {
    if let Some(file) = create_nameless(tmp)? {
        return Ok(file);
    }
    // Dropping it takes its name away.
    Pending::create_named(tmp)?.file(tmp)
}

/// Where linkat(2) finds a file without a name.
fn entry_in_proc(file: &File) -> PathBuf {
    format!("/proc/self/fd/{}", file.as_raw_fd()).into()
}

/// A name that may be taken: by another process with this number, in another container or long dead.
fn next_name(tmp: &Path) -> PathBuf {
    tmp.join(format!("{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed)))
}

impl Write for &Pending {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        (&self.file).write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Write for Pending {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.file.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Writes a small file at once.
pub(crate) fn write_file(tmp: &Path, to: &Path, bytes: &[u8]) -> Result<File, Error> {
    let pending = Pending::create(tmp)?;
    (&pending).write_all(bytes).map_err(|e| Error::io("write", to, e))?;
    pending.publish(to)
}

/// Removes files whose writers are dead.
pub(crate) fn remove_abandoned(tmp: &Path) -> Result<(), Error> {
    let entries = fs::read_dir(tmp).map_err(|e| Error::io("list", tmp, e))?;
    for entry in entries {
        let path = entry.map_err(|e| Error::io("list", tmp, e))?.path();
        remove_unused(&path)?;
    }
    Ok(())
}

/// Removes a file unless somebody uses it, and says whether it did.
pub(crate) fn remove_unused(path: &Path) -> Result<bool, Error> {
    let file = match File::open(path) {
        Ok(file) => file,
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(false),
        Err(e) => return Err(Error::io("open", path, e)),
    };
    if !held::lock_exclusive(&file, path)? || !is_same(&file, path) {
        return Ok(false);
    }
    match fs::remove_file(path) {
        Ok(()) => Ok(true),
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(e) => Err(Error::io("remove", path, e)),
    }
}

/// Whether the name still leads to the file that was locked: it may have been published since, or
/// made again.
fn is_same(file: &File, path: &Path) -> bool {
    use std::os::unix::fs::MetadataExt;
    let identity = |metadata: fs::Metadata| (metadata.dev(), metadata.ino());
    match (file.metadata(), fs::symlink_metadata(path)) {
        (Ok(locked), Ok(named)) => identity(locked) == identity(named),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(directory: &Path) -> usize {
        fs::read_dir(directory).unwrap().count()
    }

    #[test]
    fn what_is_not_published_never_had_a_name() {
        let directory = tempfile::tempdir().unwrap();
        let pending = Pending::create(directory.path()).unwrap();
        (&pending).write_all(b"half").unwrap();
        assert_eq!(names(directory.path()), 0);
        drop(pending);
        assert_eq!(names(directory.path()), 0);
    }

    #[test]
    fn a_name_that_was_needed_is_taken_away() {
        let directory = tempfile::tempdir().unwrap();
        let pending = Pending::create_named(directory.path()).unwrap();
        assert_eq!(names(directory.path()), 1);
        drop(pending);
        assert_eq!(names(directory.path()), 0);
    }

    #[test]
    fn only_the_files_of_the_dead_are_abandoned() {
        let directory = tempfile::tempdir().unwrap();
        let dead = directory.path().join("1-0");
        fs::write(&dead, "half").unwrap();
        let alive = Pending::create_named(directory.path()).unwrap();
        remove_abandoned(directory.path()).unwrap();
        assert!(!dead.exists());
        assert!(alive.name.as_ref().unwrap().exists());
    }

    #[test]
    fn a_temporary_file_has_no_name() {
        let directory = tempfile::tempdir().unwrap();
        let file = temporary_file(directory.path()).unwrap();
        (&file).write_all(b"scratch").unwrap();
        assert_eq!(names(directory.path()), 0);
    }

    #[test]
    fn what_has_the_name_is_replaced() {
        let directory = tempfile::tempdir().unwrap();
        let (tmp, to) = (directory.path().join("tmp"), directory.path().join("file"));
        fs::create_dir(&tmp).unwrap();
        type Create = fn(&Path) -> Result<Pending, Error>;
        for (create, bytes) in [
            (Pending::create as Create, "1"),
            (Pending::create, "2"),
            (Pending::create_named, "3"),
            (Pending::create, "4"),
        ] {
            let pending = create(&tmp).unwrap();
            (&pending).write_all(bytes.as_bytes()).unwrap();
            let file = pending.publish(&to).unwrap();
            assert_eq!(fs::read_to_string(&to).unwrap(), bytes);
            assert!(is_same(&file, &to));
            assert_eq!(names(&tmp), 0);
        }
    }

    #[test]
    fn a_published_file_is_whole_and_in_use_until_it_is_closed() {
        let directory = tempfile::tempdir().unwrap();
        let to = directory.path().join("file");
        let file = write_file(directory.path(), &to, b"whole").unwrap();
        assert_eq!(fs::read(&to).unwrap(), b"whole");
        assert!(!remove_unused(&to).unwrap());
        drop(file);
        assert!(remove_unused(&to).unwrap());
        assert!(!remove_unused(&to).unwrap());
    }
}
