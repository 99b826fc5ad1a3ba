//! VHD: the format of Virtual PC, older Hyper-V, Azure and XenServer.
//!
//! # Primer
//! A fixed VHD is the disk's bytes with a footer of 512 bytes behind them. A dynamic one starts with a copy of the
//! footer:
//!
//! ```text
//! | footer | dynamic disk header | BAT | bitmap, block | bitmap, block | ... | footer |
//! ```
//!
//! The block allocation table (BAT) has for each block of the disk, usually 2 MiB, the sector of the file where the block's
//! bitmap starts, whose data follow. A bit of the bitmap says that a sector was written. Like QEMU, we
//! write all ones and do not look at them when reading. All fields are big-endian.
//!
//! # How large is it?
//! The footer has a size in bytes and a geometry (cylinders, heads, sectors), and the two rarely agree. Azure and
//! Hyper-V take the size; Virtual PC took the geometry, and so does QEMU, unless it knows the creator as one that means the
//! size (`win ` among others), which is why that is what ours say. When reading, we take the size.
//!
//! The specification: "Virtual Hard Disk Image Format Specification", version 1.0,
//! <https://learn.microsoft.com/en-us/windows/win32/vstor/about-vhd>, whose names are used here. Differencing disks are
//! refused.

mod footer;
mod read;
mod write;

pub(super) use footer::COOKIE;
pub(super) use read::open;
pub(super) use write::write;

use super::Identity;

/// How a VHD file is made.
#[derive(Clone, Copy, Debug)]
pub struct Options {
    /// Fixed or dynamic. Azure takes fixed ones only, of whole MiB.
    pub layout: Layout,
    /// When it says that it was made, in seconds since 2000-01-01 00:00 UTC.
    pub timestamp: u32,
    /// Its `UniqueId`.
    pub identity: Identity,
}

impl Options {
    /// A dynamic one, made in the first second of 2000.
    pub fn new(identity: Identity) -> Self {
        Self { layout: Layout::Dynamic, timestamp: 0, identity }
    }
}

/// Where the data of a VHD are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Layout {
    /// All in place.
    Fixed,
    /// In blocks, of which only those with data are there.
    Dynamic,
}

/// Bytes of a block of ours.
const BLOCK_BYTES: u64 = 2 << 20;
/// Entry of the BAT: the block is not there.
const ABSENT: u32 = u32::MAX;
/// Bytes of an entry of the BAT.
const ENTRY_BYTES: u64 = 4;
