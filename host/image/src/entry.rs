//! Files as a layer describes them.

use std::collections::BTreeMap;

/// Extended attributes: full name (`security.capability`) to value.
pub type Xattrs = BTreeMap<Vec<u8>, Vec<u8>>;

/// What a layer keeps of a file besides its contents.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default)]
pub struct Metadata {
    /// Permission bits with setuid, setgid and sticky: `0o7777`.
    pub mode: u16,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// Seconds since the Unix epoch.
    pub mtime: i64,
    /// Extended attributes.
    pub xattrs: Xattrs,
}

/// What a file is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Kind {
    /// A regular file of this many bytes.
    File {
        /// Bytes when read, holes included.
        size: u64,
    },
    /// A directory.
    Directory,
    /// A symbolic link.
    Symlink {
        /// As readlink(2) gives it.
        target: Vec<u8>,
    },
    /// Another name of an earlier file of the same layer.
    HardLink {
        /// The earlier file's path, in the form of [`Entry::path`].
        target: Vec<u8>,
    },
    /// A character device.
    CharacterDevice {
        /// Major number.
        major: u32,
        /// Minor number.
        minor: u32,
    },
    /// A block device.
    BlockDevice {
        /// Major number.
        major: u32,
        /// Minor number.
        minor: u32,
    },
    /// A named pipe.
    Fifo,
}

/// One file of a layer, its contents apart.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// Relative to the root, components joined by `/`: no leading or trailing `/`, no `.`, no `..`,
    /// no empty component. The root itself is the empty path.
    pub path: Vec<u8>,
    /// Owner, mode, times, attributes.
    pub metadata: Metadata,
    /// What it is.
    pub kind: Kind,
}
