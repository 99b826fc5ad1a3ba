//! A file that gets its name when it is complete.

use rustix::fs::{AtFlags, CWD, Mode, OFlags};
use std::{
    fs::{self, File},
    io::{self, Write},
    os::{fd::AsRawFd, unix::fs::FileTypeExt},
    path::{Path, PathBuf},
};
use tempfile::{NamedTempFile, TempPath};

/// Names of this process's descriptors.
const DESCRIPTORS: &str = "/proc/self/fd";

/// A file under way to `dest`. Dropped before [`commit`](Self::commit), it leaves nothing behind;
/// where the file system has unnamed files (O_TMPFILE of open(2)), not even when killed.
#[derive(Debug)]
pub struct PendingFile {
    file: File,
    dest: PathBuf,
    place: Place,
}

#[derive(Debug)]
enum Place {
    /// No name yet.
    Unnamed,
    /// A temporary name, removed when dropped.
    Named(TempPath),
    /// A device or pipe, written directly.
    Direct,
}

impl PendingFile {
    /// Opens a file that becomes `dest`.
    ///
    /// # Errors
    /// When nothing can be made there.
    pub fn create(dest: &Path) -> io::Result<Self> {
        // What a link points to is replaced, not the link.
        let dest = &fs::canonicalize(dest).unwrap_or_else(|_| dest.to_owned());
        let (file, place) = match fs::metadata(dest) {
            Ok(metadata) if is_stream(&metadata) => (File::options().write(true).open(dest)?, Place::Direct),
            Ok(metadata) if metadata.is_dir() => return Err(io::ErrorKind::IsADirectory.into()),
            _ => Self::create_aside(parent(dest))?,
        };
        Ok(Self { file, dest: dest.to_owned(), place })
    }

    /// Whether one could be made: makes it and drops it. Not where there is a pipe, for that would wait for its reader.
    ///
    /// # Errors
    /// As [`create`](Self::create).
    pub fn check(dest: &Path) -> io::Result<()> {
        if fs::metadata(dest).is_ok_and(|metadata| is_stream(&metadata)) {
            return Ok(());
        }
        Self::create(dest).map(drop)
    }

    /// Opens a file that becomes `dest` itself, whatever has that name: a link in a directory that others made must not
    /// lead elsewhere.
    ///
    /// # Errors
    /// When nothing can be made there.
    pub fn create_exactly(dest: &Path) -> io::Result<Self> {
        let (file, place) = Self::create_aside(parent(dest))?;
        Ok(Self { file, dest: dest.to_owned(), place })
    }

    fn create_aside(directory: &Path) -> io::Result<(File, Place)> {
        let flags = OFlags::TMPFILE | OFlags::RDWR | OFlags::CLOEXEC;
        // Such a file can only be named by way of /proc.
        let opened = if Path::new(DESCRIPTORS).exists() {
            rustix::fs::open(directory, flags, Mode::from_raw_mode(0o666))
        } else {
            Err(rustix::io::Errno::OPNOTSUPP)
        };
        match opened {
            Ok(descriptor) => Ok((descriptor.into(), Place::Unnamed)),
            // Older overlay and network file systems.
            Err(rustix::io::Errno::OPNOTSUPP | rustix::io::Errno::ISDIR | rustix::io::Errno::INVAL) => {
                let (file, path) = tempfile::Builder::new()
                    .prefix(".kiln-")
                    .permissions(std::os::unix::fs::PermissionsExt::from_mode(0o666))
                    .tempfile_in(directory)?
                    .into_parts();
                Ok((file, Place::Named(path)))
            }
            Err(error) => Err(error.into()),
        }
    }

    /// The file, to be written anywhere.
    pub fn file(&self) -> &File {
        &self.file
    }

    /// Whether it is a device or pipe, which takes bytes one after the other.
    pub fn is_stream(&self) -> bool {
        matches!(self.place, Place::Direct)
    }

    /// Gives the file its name, replacing what had it. Returns its size.
    ///
    /// # Errors
    /// When it cannot be made durable, or named.
    pub fn commit(self) -> io::Result<u64> {
        let size = self.file.metadata()?.len();
        match self.place {
            Place::Direct => {}
            Place::Named(path) => {
                self.file.sync_data()?;
                path.persist(&self.dest)?;
            }
            Place::Unnamed => {
                self.file.sync_data()?;
                link(&self.file, parent(&self.dest))?.persist(&self.dest)?;
            }
        }
        Ok(size)
    }
}

impl Write for PendingFile {
    fn write(&mut self, buffer: &[u8]) -> io::Result<usize> {
        self.file.write(buffer)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

/// linkat(2) does not replace an existing name, so the file gets a temporary one first.
fn link(file: &File, directory: &Path) -> io::Result<TempPath> {
    let descriptor = format!("{DESCRIPTORS}/{}", file.as_raw_fd());
    let linked = tempfile::Builder::new().prefix(".kiln-").make_in(directory, |path| {
        rustix::fs::linkat(CWD, &descriptor, CWD, path, AtFlags::SYMLINK_FOLLOW).map_err(io::Error::from)
    });
    linked.map(NamedTempFile::into_temp_path)
}

fn is_stream(metadata: &fs::Metadata) -> bool {
    let kind = metadata.file_type();
    kind.is_char_device() || kind.is_fifo()
}

fn parent(path: &Path) -> &Path {
    path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(directory: &Path) -> Vec<String> {
        let entries = fs::read_dir(directory).unwrap();
        entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
    }

    #[test]
    fn an_unfinished_file_leaves_what_was_there() {
        let directory = tempfile::tempdir().unwrap();
        let dest = directory.path().join("out.tar");
        fs::write(&dest, "old").unwrap();
        let mut pending = PendingFile::create(&dest).unwrap();
        pending.write_all(b"new").unwrap();
        drop(pending);
        assert_eq!(fs::read(&dest).unwrap(), b"old");
        assert_eq!(names(directory.path()), ["out.tar"]);
    }

    #[test]
    fn a_finished_file_replaces_it() {
        let directory = tempfile::tempdir().unwrap();
        let dest = directory.path().join("out.tar");
        fs::write(&dest, "old").unwrap();
        let mut pending = PendingFile::create(&dest).unwrap();
        pending.write_all(b"newer").unwrap();
        assert_eq!(pending.commit().unwrap(), 5);
        assert_eq!(fs::read(&dest).unwrap(), b"newer");
        assert_eq!(names(directory.path()), ["out.tar"]);
    }

    #[test]
    fn a_link_is_followed_or_replaced() {
        let directory = tempfile::tempdir().unwrap();
        let (target, link) = (directory.path().join("target"), directory.path().join("link"));
        std::os::unix::fs::symlink("target", &link).unwrap();
        fs::write(&target, "old").unwrap();
        let mut pending = PendingFile::create(&link).unwrap();
        pending.write_all(b"new").unwrap();
        pending.commit().unwrap();
        assert_eq!(fs::read(&target).unwrap(), b"new");
        let mut pending = PendingFile::create_exactly(&link).unwrap();
        pending.write_all(b"newer").unwrap();
        pending.commit().unwrap();
        assert_eq!(
            (fs::read(&target).unwrap(), fs::read(&link).unwrap()),
            (b"new".to_vec(), b"newer".to_vec())
        );
    }

    #[test]
    fn devices_are_written_directly() {
        let mut pending = PendingFile::create(Path::new("/dev/null")).unwrap();
        pending.write_all(b"gone").unwrap();
        pending.commit().unwrap();
        assert!(is_stream(&fs::metadata("/dev/null").unwrap()));
    }
}
