//! VMDK: VMware's format, as one sparse file, or one compressed stream.
//!
//! # Primer
//! The disk is a sequence of grains of 64 KiB. A grain directory has the places of grain tables, each of which has those of 512
//! grains, as 32-bit sectors of the file; 0 means that there is none. Text in the file, the
//! descriptor, has what VMware wants to know besides: the geometry, the adapter, a content ID.
//!
//! `monolithicSparse` has everything at its place, the tables twice:
//!
//! ```text
//! | header | descriptor | redundant directory, tables | directory, tables | grains, each in place ...
//! ```
//!
//! `streamOptimized` can be written to a pipe. Compressed grains come with the sector of the disk that they start at;
//! everything else is announced by a marker, and tables come behind what they are about:
//!
//! ```text
//! | header | descriptor | grains | marker, grain table | grains | ... | marker, directory | marker, footer | end marker |
//! ```
//!
//! The footer is the header once more, with the directory's place. All fields are little-endian.
//!
//! The specification: "Virtual Disk Format 5.0", VMware,
//! <https://www.vmware.com/app/vmdk/?src=vmdk>, whose names are used here. Disks in several files and those with a parent are
//! refused.

mod descriptor;
mod header;
mod read;
mod sparse;
mod stream;

pub(super) use header::MAGICS;
pub(super) use read::open;
pub use stream::write_stream_optimized;

use super::{DiskFormat, Identity, error::FormatError};
use crate::{Error, sparse::Source, sparse::Target};
use std::num::NonZero;

/// How a VMDK file is made.
#[derive(Clone, Debug)]
pub struct Options {
    /// What kind of file.
    pub subformat: Subformat,
    /// The controller the disk is for.
    pub adapter: Adapter,
    /// `ddb.virtualHWVersion`: the version of VMware's virtual hardware.
    pub hardware_version: u32,
    /// `CID`, which changes with the contents. VMware takes `ffffffff` and `fffffffe` for something else.
    pub content_id: u32,
    /// `ddb.uuid`; left out when there is none.
    pub uuid: Option<Identity>,
    /// The name of the file, which its descriptor repeats.
    pub file_name: String,
    /// zlib's level of `streamOptimized`, 1 to 9.
    pub level: u32,
    /// Threads that compress. The file is the same for any number.
    pub threads: NonZero<usize>,
}

impl Options {
    /// A `monolithicSparse` file for an LSI Logic controller, its content ID being the start of `identity`.
    pub fn new(identity: Identity) -> Self {
        let content_id = u32::from_be_bytes([identity[0], identity[1], identity[2], identity[3]]);
        Self {
            subformat: Subformat::MonolithicSparse,
            adapter: Adapter::LsiLogic,
            hardware_version: HARDWARE_VERSION,
            content_id: content_id.min(CONTENT_ID_MAX),
            uuid: None,
            file_name: "disk.vmdk".to_owned(),
            level: 6,
            threads: NonZero::<usize>::MIN,
        }
    }

    fn check(&self) -> Result<(), Error> {
        let refuse = |why: String| Err(FormatError::Option { format: DiskFormat::Vmdk, why }.into());
        let plain = |letter: char| !letter.is_control() && letter != '"';
        if self.file_name.is_empty() || self.file_name.len() > 255 || !self.file_name.chars().all(plain) {
            return refuse(format!("its descriptor cannot name the file {:?}", self.file_name));
        }
        if self.content_id > CONTENT_ID_MAX {
            return refuse(format!("content ID {:08x} means that there is none", self.content_id));
        }
        if !(1..=9).contains(&self.level) {
            return refuse(format!("zlib level {}, not 1 to 9", self.level));
        }
        Ok(())
    }
}

/// A kind of VMDK file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Subformat {
    /// One file that grows.
    MonolithicSparse,
    /// One compressed file that cannot be changed: what is in an OVA.
    StreamOptimized,
}

/// The controller of a disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Adapter {
    /// IDE.
    Ide,
    /// BusLogic SCSI.
    BusLogic,
    /// LSI Logic SCSI.
    LsiLogic,
}

impl Adapter {
    /// As `ddb.adapterType` spells it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Ide => "ide",
            Self::BusLogic => "buslogic",
            Self::LsiLogic => "lsilogic",
        }
    }
}

/// Hardware of ESXi 5.5 and Workstation 10.
const HARDWARE_VERSION: u32 = 10;
/// Above it are `CID_NOPARENT` and a value that VMware's tools take for "changing".
const CONTENT_ID_MAX: u32 = 0xffff_fffd;
/// Bytes of a grain of ours.
const GRAIN_BYTES: u64 = 64 << 10;
/// Entries of a grain table.
const TABLE_ENTRIES: u64 = 512;
/// Bytes of an entry of directory and tables.
const ENTRY_BYTES: u64 = 4;
/// What a grain table covers, in bytes.
const TABLE_COVERS: u64 = GRAIN_BYTES * TABLE_ENTRIES;
/// Places are 32-bit sectors: a file ends here at the latest, in bytes.
const FILE_BYTES_MAX: u64 = (u32::MAX as u64) * super::bytes::SECTOR_BYTES;
/// A disk's size that VMware's products take: 62 TiB.
const DISK_BYTES_MAX: u64 = 62 << 40;

/// Writes `source` as a VMDK file.
pub(super) fn write(source: &dyn Source, options: &Options, target: &mut dyn Target) -> Result<(), Error> {
    match options.subformat {
        Subformat::MonolithicSparse => sparse::write(source, options, target),
        Subformat::StreamOptimized => stream::write(source, options, target),
    }
}

/// The place of `offset` in an entry.
fn sector_of(offset: u64) -> Result<u32, Error> {
    u32::try_from(offset / super::bytes::SECTOR_BYTES).map_err(|_| {
        let why = format!("it would be longer than {FILE_BYTES_MAX} bytes (2 TiB)");
        FormatError::Option { format: DiskFormat::Vmdk, why }.into()
    })
}
