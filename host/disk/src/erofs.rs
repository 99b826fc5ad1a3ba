//! An EROFS index over tars: a read-only file system whose contents stay where they are.
//!
//! # One disk out of an index and its sources
//! EROFS keeps metadata and data apart, and says of a file's data only in which block it starts.
//! Tar keeps each file's bytes in one piece on a 512-byte boundary. So with blocks of 512 bytes an
//! index that comes first on a disk can point into uncompressed tars that follow it:
//!
//! ```text
//! | superblock | inodes, small directories | large directories, copies | source 0 | source 1 | ...
//! '--------------------------- the index ---------------------------'
//! ```
//!
//! Every source starts on a block boundary, the gap before the next is zero. A [`Layout`] is worked
//! out in full before a byte is written, because the index's length moves the sources.
//!
//! # Contents
//! A file that is one run of a source, on a block boundary, is `FLAT_PLAIN`. Any other is
//! `CHUNK_BASED`: a table says of each chunk of the file where it is, or that it is a hole. A chunk
//! that is not one aligned run is copied into the index. The chunk's size is the one for which
//! table and copies together are smallest, so that neither a huge sparse file nor an unaligned one
//! needs a special case.
//!
//! # What is left out
//! Attributes in namespaces that Linux does not have (`com.apple.` and such), because no file
//! system of Linux can hold them and every other tool leaves them out too.
//!
//! The format: <https://erofs.docs.kernel.org/en/latest/core_ondisk.html> and Linux's
//! `fs/erofs/erofs_fs.h`, whose names are used here. The kernel has read blocks of 512 bytes since
//! Linux 6.4.

mod directory;
mod file;
mod inode;
mod layout;
mod superblock;
mod walk;
mod write;
mod xattr;

pub use layout::Layout;
pub use superblock::{START_LENGTH, disk_length};
pub use write::ReadSource;

/// Bytes of a block, and so the alignment of every source on the disk. Indexes made with another
/// value are of no use to the sources' readers: a change makes a new index format.
pub const BLOCK_SIZE: u64 = 1 << BLOCK_BITS;

/// Binary logarithm of [`BLOCK_SIZE`].
const BLOCK_BITS: u8 = 9;

/// Changes whenever the same tree would give another index.
pub const FORMAT_VERSION: u32 = 1;

#[cfg(test)]
mod tests;
