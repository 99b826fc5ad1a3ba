//! Files being written: in `tmp/` until they are whole.

use crate::Error;
use crate::held;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

/// A file that is removed when it is dropped before it is published.
#[derive(Debug)]
pub(crate) struct Pending {
    file: File,
    path: PathBuf,
    published: bool,
}

static NEXT: AtomicU64 = AtomicU64::new(0);

impl Pending {
    pub(crate) fn create(tmp: &Path) -> Result<Self, Error> {
        loop {
            let number = NEXT.fetch_add(1, Ordering::Relaxed);
            let path = tmp.join(format!("{}-{number}", std::process::id()));
            let created = OpenOptions::new().read(true).write(true).create_new(true).mode(0o600).open(&path);
            let file = match created {
                Ok(file) => file,
                // Of another process with this number: in another container, or long dead.
                Err(e) if e.kind() == io::ErrorKind::AlreadyExists => continue,
                Err(e) => return Err(Error::io("create", &path, e)),
            };
            held::lock_shared(&file, &path)?;
            // Before it was locked it looked abandoned.
            if held::is_linked(&file, &path)? {
                return Ok(Self { file, path, published: false });
            }
        }
    }

    /// Gives the file its name, once its bytes are on the disk: after a power failure a name must not
    /// lead to half a file. Returns the file, still locked.
    pub(crate) fn publish(mut self, to: &Path) -> Result<File, Error> {
        self.file.sync_data().map_err(|e| Error::io("write", to, e))?;
        fs::rename(&self.path, to).map_err(|e| Error::io("create", to, e))?;
        self.published = true;
        self.file.try_clone().map_err(|e| Error::io("open", to, e))
    }

    /// Takes the file's name away.
    pub(crate) fn into_nameless(mut self) -> Result<File, Error> {
        fs::remove_file(&self.path).map_err(|e| Error::io("remove", &self.path, e))?;
        self.published = true;
        self.file.try_clone().map_err(|e| Error::io("open", &self.path, e))
    }
}

impl Drop for Pending {
    fn drop(&mut self) {
        if !self.published {
            // Nothing can be done about a failure; the next to open the store tries again.
            let _ = fs::remove_file(&self.path);
        }
    }
}

impl Write for &Pending {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        (&self.file).write(bytes)
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

    #[test]
    fn what_is_not_published_is_removed() {
        let directory = tempfile::tempdir().unwrap();
        let pending = Pending::create(directory.path()).unwrap();
        let path = pending.path.clone();
        assert!(path.exists());
        drop(pending);
        assert!(!path.exists());
    }

    #[test]
    fn only_the_files_of_the_dead_are_abandoned() {
        let directory = tempfile::tempdir().unwrap();
        let dead = directory.path().join("1-0");
        fs::write(&dead, "half").unwrap();
        let alive = Pending::create(directory.path()).unwrap();
        remove_abandoned(directory.path()).unwrap();
        assert!(!dead.exists());
        assert!(alive.path.exists());
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
