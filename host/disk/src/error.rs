//! What can go wrong when a file system is laid out.

use crate::btrfs::fault::Fault;
use crate::formats::FormatError;
use crate::{ext4, package, table, uki};
use kiln_image::tree::Extent;
use std::io;

/// The file system cannot be made as asked.
#[derive(Debug, thiserror::Error)]
#[error(transparent)]
pub struct Error(#[from] Kind);

impl Error {
    /// What was read ends too early.
    pub fn is_truncated(&self) -> bool {
        matches!(&self.0, Kind::Format(error) if matches!(**error, FormatError::Truncated { .. }))
    }

    /// What was read contradicts itself.
    pub fn is_corrupt(&self) -> bool {
        matches!(&self.0, Kind::Format(error) if matches!(**error, FormatError::Corrupt { .. }))
    }

    /// What was read is of a kind that is not read here.
    pub fn is_unsupported(&self) -> bool {
        matches!(&self.0, Kind::Format(error) if matches!(**error, FormatError::Unsupported { .. }))
    }

    /// The error of a file of the tree.
    pub(crate) fn at(path: &[u8], kind: Kind) -> Self {
        let shown = if path.is_empty() { "/".to_owned() } else { path.escape_ascii().to_string() };
        Kind::At(shown, Box::new(kind)).into()
    }
}

impl From<package::Problem> for Error {
    fn from(problem: package::Problem) -> Self {
        Kind::from(problem).into()
    }
}

impl From<table::Problem> for Error {
    fn from(problem: table::Problem) -> Self {
        Kind::from(problem).into()
    }
}

impl From<uki::Problem> for Error {
    fn from(problem: uki::Problem) -> Self {
        Kind::from(problem).into()
    }
}

#[derive(Debug, thiserror::Error)]
pub(crate) enum Kind {
    #[error(
        "a scratch disk of {0} bytes: it must have {min} (16 MiB) to {max} (64 TiB)",
        min = ext4::MIN_SIZE,
        max = ext4::MAX_SIZE
    )]
    ScratchSize(u64),
    #[error("cannot put {0} into a file system index")]
    At(String, #[source] Box<Kind>),
    #[error("its name is not one that a file can have: 1 to 255 bytes, no '/', no zero, not '.' or '..'")]
    FileName,
    #[error("it is a directory with a second name")]
    LinkedDirectory,
    #[error("extended attribute {} has a name of more than 255 bytes", .0.escape_ascii())]
    XattrName(Vec<u8>),
    #[error("extended attribute {} has a value of {length} bytes, more than 65535", name.escape_ascii())]
    XattrValue { name: Vec<u8>, length: usize },
    #[error("extended attributes of {0} bytes together, more than {1}")]
    Xattrs(usize, usize),
    #[error("a symbolic link to a target of {0} bytes, not 1 to 4095")]
    SymlinkTarget(usize),
    #[error("a device with major number {0} and minor number {1}, more than Linux's 12 and 20 bits")]
    DeviceNumber(u32, u32),
    #[error("a size of {0} bytes, more than a file can have")]
    FileSize(u64),
    #[error("its contents ({0:?}) are not within the file, or not within their source")]
    Extent(Extent),
    #[error("a disk of {0} bytes for an index and its layers, more than the {1} (2 TiB) there can be")]
    DiskLength(u64, u64),
    #[error(transparent)]
    Package(#[from] package::Problem),
    #[error(transparent)]
    Table(#[from] table::Problem),
    #[error(transparent)]
    Uki(#[from] uki::Problem),
    #[error("cannot write the index at byte {0}")]
    Write(u64, #[source] io::Error),
    /// A format of virtual disks.
    #[error(transparent)]
    Format(Box<FormatError>),
    #[error("cannot read layer {0} at byte {1}")]
    Read(u32, u64, #[source] io::Error),
    #[error("cannot make the btrfs file system at byte {0} the same as its like")]
    Btrfs(u64, #[source] Fault),
}
