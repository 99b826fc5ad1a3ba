//! Which file it is, and whether it is still as it was.

use crate::Error;
use kiln_image::digest::Digest;
use kiln_image::reference::Choice;
use std::fs::{self, File};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

/// A file changed so shortly ago may change again without a sign: clocks of file systems go in steps,
/// of up to two seconds on some.
const SETTLED_AFTER: Duration = Duration::from_secs(2);

/// What changes when a file does. Programs can set the modification time, but not the status
/// change's.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Identity {
    path: PathBuf,
    device: u64,
    inode: u64,
    size: u64,
    /// Nanoseconds since the Unix epoch.
    modified_ns: i128,
    /// Nanoseconds since the Unix epoch.
    changed_ns: i128,
}

impl Identity {
    /// The identity of an open file, or `None` for what is not a regular file.
    pub(super) fn of(file: &File, path: &Path) -> Result<Option<Self>, Error> {
        let metadata = file.metadata().map_err(|e| Error::io("examine", path, e))?;
        if !metadata.is_file() {
            return Ok(None);
        }
        let nanoseconds = |seconds: i64, rest: i64| i128::from(seconds) * 1_000_000_000 + i128::from(rest);
        Ok(Some(Self {
            path: fs::canonicalize(path).map_err(|e| Error::io("find", path, e))?,
            device: metadata.dev(),
            inode: metadata.ino(),
            size: metadata.len(),
            modified_ns: nanoseconds(metadata.mtime(), metadata.mtime_nsec()),
            changed_ns: nanoseconds(metadata.ctime(), metadata.ctime_nsec()),
        }))
    }

    /// Whether the last change is long enough ago that another would show.
    pub(super) fn is_settled(&self) -> bool {
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        let last = self.modified_ns.max(self.changed_ns);
        i128::try_from(now.as_nanos()).is_ok_and(|now| now - last >= SETTLED_AFTER.as_nanos() as i128)
    }

    /// One name for all of it, and for which of the archive's images is meant.
    pub(super) fn key(&self, choice: &Choice) -> Digest {
        let choice = match choice {
            Choice::Only => String::new(),
            Choice::Name(name) => format!(":{name}"),
            Choice::Index(index) => format!("@{index}"),
        };
        let numbers =
            format!("{} {} {} {} {}", self.device, self.inode, self.size, self.modified_ns, self.changed_ns);
        Digest::of(&[numbers.as_bytes(), choice.as_bytes(), self.path.as_os_str().as_bytes()].join(&0))
    }
}
