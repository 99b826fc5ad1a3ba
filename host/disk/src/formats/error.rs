//! What can go wrong with a format of virtual disks.

use super::DiskFormat;
use crate::Error;
use std::io;

#[derive(Debug, thiserror::Error)]
pub(crate) enum FormatError {
    #[error("{0:?} is not a disk format: they are raw, qcow2, vmdk, vhd, vhdx and vdi")]
    Name(String),
    /// The user's wish, which the format cannot fulfil.
    #[error("cannot make a {format} disk: {why}")]
    Option { format: DiskFormat, why: String },
    #[error("cannot make a {format} disk of {size} bytes: it may have 1 to {max}")]
    Size { format: DiskFormat, size: u64, max: u64 },
    #[error("cannot read the disk at byte {offset}")]
    ReadDisk { offset: u64, source: io::Error },
    #[error("the disk says that its data after byte {0} end before they start")]
    DataRange(u64),
    #[error("cannot write the {format} file at byte {offset}")]
    WriteFile { format: DiskFormat, offset: u64, source: io::Error },
    #[error("cannot compress what is at byte {offset} of the disk")]
    Compress { offset: u64, source: io::Error },
    #[error("cannot read the {format} file at byte {offset}: {structure}")]
    ReadFile { format: DiskFormat, structure: &'static str, offset: u64, source: io::Error },
    #[error(
        "the {format} file ends early: {structure} at byte {offset} is {needed} bytes long, the file {length}"
    )]
    Truncated { format: DiskFormat, structure: &'static str, offset: u64, needed: u64, length: u64 },
    #[error("the {format} file is corrupt: {structure} at byte {offset}: {why}")]
    Corrupt { format: DiskFormat, structure: &'static str, offset: u64, why: String },
    #[error(
        "the {format} file has {what}, which is not supported; `qemu-img convert` may make a raw disk of it"
    )]
    Unsupported { format: DiskFormat, what: String },
}

impl From<FormatError> for Error {
    fn from(error: FormatError) -> Self {
        crate::error::Kind::Format(Box::new(error)).into()
    }
}

/// What a disk's reader says through [`crate::sparse::Source`].
pub(super) fn into_io(error: Error) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, error)
}
