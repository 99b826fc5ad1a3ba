//! qcow2: QEMU's copy on write format, version 3.
//!
//! # Primer
//! The file is a sequence of clusters. Two levels of tables say for each cluster of the disk where it is: entries of
//! the L1 table point to L2 tables of one cluster each, whose entries point to data. An entry of an L2 table says that
//! the cluster is not here (and is the backing file's, or zero), is zero, is at an offset, or is compressed within some
//! sectors at an offset. For each cluster of the file a 16-bit count says how often it is used; those are in refcount
//! blocks of one cluster each, which the refcount table lists.
//!
//! A file of ours:
//!
//! ```text
//! | header, backing file's name | L1 table | clusters of data, L2 tables, refcount blocks as they become full | refcount table |
//! ```
//!
//! Compressed clusters lie one behind the other without regard to clusters of the file, each of which is counted once
//! for every compressed one that touches it.
//!
//! Our own code because `imago`, which has the format too, is asynchronous, bound to files, and writes no
//! compressed clusters.
//!
//! The format: <https://gitlab.com/qemu-project/qemu/-/blob/master/docs/interop/qcow2.txt>, whose names are used here.
//! Sizes are rounded up to whole sectors, as QEMU does. Internal snapshots are ignored; encrypted images, external data
//! files and extended L2 entries are refused.

mod header;
mod read;
mod refcount;
mod write;

pub use header::BackingFile;
pub(super) use header::MAGIC;
pub use read::Image;
pub(super) use write::write;

use super::DiskFormat;
use crate::sparse::Source;
use std::num::NonZero;

/// How a qcow2 file is made.
#[derive(Clone)]
pub struct Options<'a> {
    /// Bytes of a cluster: a power of two from 512 to 2 MiB.
    pub cluster_bytes: u64,
    /// Compresses clusters that become smaller by it.
    pub compression: Option<Compression>,
    /// Threads that compress. The file is the same for any number.
    pub threads: NonZero<usize>,
    /// The disk below, whose clusters are left out where they are the same.
    pub backing: Option<Backing<'a>>,
}

impl Default for Options<'_> {
    /// Clusters of 64 KiB, as `qemu-img` makes them; nothing compressed, nothing below.
    fn default() -> Self {
        Self { cluster_bytes: 1 << 16, compression: None, threads: NonZero::<usize>::MIN, backing: None }
    }
}

/// How clusters are compressed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Compression {
    /// Deflate, at a level of 1 to 9.
    Zlib(u32),
    /// zstd, at a level of 1 to 19; read by QEMU 5.1 and newer.
    Zstd(u32),
}

/// The disk below a qcow2 file.
#[derive(Clone)]
pub struct Backing<'a> {
    /// How QEMU finds it: a path as seen from the directory of the new file, at most 1023 bytes.
    pub file_name: String,
    /// Its format.
    pub format: DiskFormat,
    /// Its contents.
    pub disk: &'a dyn Source,
}

/// Flags of entries of both tables: exactly one user, so that it may be written in place.
const COPIED: u64 = 1 << 63;
/// Flag of an L2 entry: the cluster is compressed.
const COMPRESSED: u64 = 1 << 62;
/// Flag of an L2 entry of version 3: the cluster is zero.
const ZERO: u64 = 1;
/// Bits of an entry of either table that are an offset in the file.
const OFFSET_MASK: u64 = 0x00ff_ffff_ffff_fe00;
/// Bytes of an entry of either table.
const ENTRY_BYTES: u64 = 8;
/// QEMU's limit for the L1 table, in bytes.
const L1_BYTES_MAX: u64 = 32 << 20;
/// QEMU's limits for clusters: 512 bytes to 2 MiB.
const CLUSTER_BITS: std::ops::RangeInclusive<u32> = 9..=21;

/// Bits of a compressed cluster's entry that are its offset; the bits above, up to [`COMPRESSED`], count its sectors.
fn compressed_offset_bits(cluster_bits: u32) -> u32 {
    62 - (cluster_bits - 8)
}
