//! The new layer on its way from the guest.
//!
//! Entries come sorted by path (bytewise, component by component), so that the receiver can
//! write them as they come; each regular file is followed by exactly its size in
//! [`Data`](LayerRecord::Data) and [`Zeroes`](LayerRecord::Zeroes).

use serde::{Deserialize, Serialize};

/// A piece of the layer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum LayerRecord {
    /// The next file.
    Entry(LayerEntry),
    /// Bytes of the current file; at most [`MAX_DATA`](crate::MAX_DATA).
    Data(#[serde(with = "serde_bytes")] Vec<u8>),
    /// This many zero bytes of the current file: a hole.
    Zeroes(u64),
    /// The layer is complete.
    End {
        /// Number of entries sent.
        entries: u64,
    },
}

/// A file's metadata, everything of it that a layer keeps.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LayerEntry {
    /// Relative to the root, without leading `/`, `.` or `..`; the root itself is empty.
    #[serde(with = "serde_bytes")]
    pub path: Vec<u8>,
    /// What it is.
    pub kind: EntryKind,
    /// Permission bits with setuid, setgid and sticky: `0o7777`.
    pub mode: u16,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// Seconds since the Unix epoch, before clamping.
    pub mtime: i64,
    /// Sorted by name; without the overlay's own.
    pub xattrs: Vec<(serde_bytes::ByteBuf, serde_bytes::ByteBuf)>,
}

/// What an entry is. Metadata of [`HardLink`](EntryKind::HardLink) and
/// [`Whiteout`](EntryKind::Whiteout) entries is zero.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum EntryKind {
    /// A regular file of this many bytes.
    File {
        /// Bytes that follow.
        size: u64,
    },
    /// A directory.
    Directory {
        /// Hides everything the base has below this path.
        opaque: bool,
    },
    /// A symbolic link.
    Symlink {
        /// As readlink(2) gives it.
        #[serde(with = "serde_bytes")]
        target: Vec<u8>,
    },
    /// Another name of an earlier entry.
    HardLink {
        /// The earlier entry's path.
        #[serde(with = "serde_bytes")]
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
    /// The base's file of this path is deleted.
    Whiteout,
}
