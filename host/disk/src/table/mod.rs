//! Partition tables: where partitions lie, and the bytes that say so.
//!
//! A [`DiskRequest`] says what is wanted; [`plan`] gives every partition its place and refuses, before anything is done, what
//! cannot be; [`Layout::writes`] are the bytes of the tables.
//!
//! An **MBR** is one sector with four entries. Where more than four partitions are asked for, the fourth entry is
//! an *extended* partition, and the fourth partition and those after it are *logical* ones within, numbered from 5: each
//! behind a sector of its own, an EBR, that also names the next. A **GPT** is a header and an array of entries, both at the start
//! of the disk and once more at its end, behind a *protective* MBR that keeps old tools away.

mod check;
mod chs;
mod error;
mod gpt;
mod guid;
mod label;
mod mbr;
mod partition_type;
mod plan;
mod request;
#[cfg(test)]
mod tests;

pub use chs::Geometry;
pub use guid::Guid;
pub use label::{FileSystem, check_label};
pub use mbr::{BOOT_CODE_BYTES, boot_code};
pub use partition_type::{Known, PartitionType};
pub use plan::{Layout, Partition, plan};
pub use request::{
    Alignment, DiskRequest, MEBIBYTE, PartitionRequest, PartitionSize, SECTOR_BYTES, TableKind, attribute,
};

pub(crate) use error::Problem;

/// Bytes to put at a place of the disk.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Write {
    /// Where, in bytes from the start of the disk.
    pub offset: u64,
    /// What.
    pub bytes: Vec<u8>,
}

impl Layout {
    /// The tables: what a disk must hold besides its partitions' contents. The first 440 bytes are left to boot code.
    pub fn writes(&self) -> Vec<Write> {
        match self.table {
            TableKind::Mbr => mbr::writes(self),
            TableKind::Gpt => gpt::writes(self),
            TableKind::None => Vec::new(),
        }
    }
}
