//! The new layer on its way from the guest.
//!
//! Entries come sorted by path (bytewise, component by component), so that the receiver can
//! write them as they come; each regular file is followed by exactly its size in
//! [`Data`](LayerRecord::Data) and [`Zeroes`](LayerRecord::Zeroes).

use serde::{Deserialize, Deserializer, Serialize, de};
use serde_bytes::ByteBuf;
use std::fmt;

/// Most extended attributes of an entry. Linux lists no more than 64 KiB of names
/// ([xattr(7)](https://man7.org/linux/man-pages/man7/xattr.7.html)), of which none is shorter than
/// `user.a`. An attribute takes two bytes on the wire but many times that in memory: without a bound
/// a frame of [`MAX_FRAME`](crate::MAX_FRAME) would become hundreds of megabytes.
const MAX_XATTRS: usize = 16 * 1024;

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
    #[serde(deserialize_with = "bounded_xattrs")]
    pub xattrs: Vec<(ByteBuf, ByteBuf)>,
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

fn bounded_xattrs<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<(ByteBuf, ByteBuf)>, D::Error> {
    struct Bounded;

    impl<'de> de::Visitor<'de> for Bounded {
        type Value = Vec<(ByteBuf, ByteBuf)>;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            write!(f, "at most {MAX_XATTRS} extended attributes")
        }

        fn visit_seq<A: de::SeqAccess<'de>>(self, mut xattrs: A) -> Result<Self::Value, A::Error> {
            let mut bounded = Vec::new();
            while let Some(xattr) = xattrs.next_element()? {
                if bounded.len() == MAX_XATTRS {
                    return Err(de::Error::invalid_length(MAX_XATTRS + 1, &self));
                }
                bounded.push(xattr);
            }
            Ok(bounded)
        }
    }

    deserializer.deserialize_seq(Bounded)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Decoder, FromGuest, encode};

    fn with_xattrs(count: usize) -> FromGuest {
        FromGuest::Layer(LayerRecord::Entry(LayerEntry {
            path: b"file".to_vec(),
            kind: EntryKind::Fifo,
            mode: 0o644,
            uid: 0,
            gid: 0,
            mtime: 0,
            xattrs: vec![(ByteBuf::new(), ByteBuf::new()); count],
        }))
    }

    #[test]
    fn attributes_are_bounded_by_number() {
        for (count, accepted) in [(0, true), (MAX_XATTRS, true), (MAX_XATTRS + 1, false)] {
            let (sent, mut wire, mut decoder) = (with_xattrs(count), Vec::new(), Decoder::new());
            encode(&sent, &mut wire).unwrap();
            decoder.push(&wire);
            let received = decoder.next::<FromGuest>();
            assert_eq!(received.is_ok(), accepted, "{count}");
            if accepted {
                assert_eq!(received.unwrap(), Some(sent));
            }
        }
    }
}
