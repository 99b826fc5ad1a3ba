//! VHDX: Hyper-V's format since 2012.
//!
//! # Primer
//! The first MiB of a file holds an identifier, two headers (the valid one with the higher sequence number counts), and two
//! copies of the region table, which says where the other two structures are:
//!
//! ```text
//! | identifier, headers, region tables | log | metadata | BAT | block 0 | block 1 | ...
//! '--------------- 1 MiB --------------'- 1 -'--- 1 ----'
//! ```
//!
//! The metadata have the disk's size, its block and sector sizes and its identity. The block allocation table (BAT) has
//! 64 bits for each block: its state and its place in the file in MiB. After the entries of as many blocks as a
//! sector bitmap of 1 MiB covers (the chunk ratio) follows an entry for that bitmap, which only differencing disks use. Changes
//! of metadata and BAT go through the log; ours is empty. Checksums are CRC-32C. All fields are little-endian.
//!
//! The specification: [MS-VHDX], <https://learn.microsoft.com/en-us/openspecs/windows_protocols/ms-vhdx/>, whose names are
//! used here. Differencing disks are refused, and so are files whose log has to be replayed first.

pub(super) mod checksum;
mod read;
mod structures;
mod write;

pub(super) use read::open;
pub(super) use structures::MAGIC;
pub(super) use write::write;

use super::Identity;

/// How a VHDX file is made.
#[derive(Clone, Copy, Debug)]
pub struct Options {
    /// The disk's `VirtualDiskId`, from which the file's other GUIDs follow.
    pub identity: Identity,
    /// Bytes of a block: a power of two from 1 to 256 MiB. Otherwise the smallest for which the BAT has not more than
    /// some million entries.
    pub block_bytes: Option<u64>,
}

impl Options {
    /// The defaults, with this `VirtualDiskId`.
    pub fn new(identity: Identity) -> Self {
        Self { identity, block_bytes: None }
    }
}

/// The unit of the file's layout.
const MIB: u64 = 1 << 20;
/// What a block may be long, in bytes.
const BLOCK_BYTES_MIN: u64 = MIB;
const BLOCK_BYTES_MAX: u64 = 256 * MIB;
/// Bytes of an entry of the BAT.
const ENTRY_BYTES: u64 = 8;
/// States of a block (`PAYLOAD_BLOCK_*`): 0 to 3 mean that there are no data; `_FULLY_PRESENT`, `_PARTIALLY_PRESENT`.
const FULLY_PRESENT: u64 = 6;
/// Bits of a BAT entry that are the state, and those that are the place in MiB.
const STATE_MASK: u64 = 7;
const PLACE_SHIFT: u32 = 20;

/// Blocks between two entries of sector bitmaps.
fn chunk_ratio(block_bytes: u64, logical_sector_bytes: u64) -> u64 {
    // A bitmap has 1 MiB, and so 2^23 bits.
    (logical_sector_bytes << 23) / block_bytes
}

/// Entries of the BAT.
fn bat_entries(disk_bytes: u64, block_bytes: u64, chunk_ratio: u64) -> u64 {
    let blocks = disk_bytes.div_ceil(block_bytes);
    blocks + blocks.saturating_sub(1) / chunk_ratio
}
