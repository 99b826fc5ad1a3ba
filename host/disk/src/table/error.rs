//! What a disk cannot be asked for.

use super::label::FileSystem;
use super::mbr::{BOOT_CODE_BYTES, MAX_LOGICAL};
use super::partition_type::PartitionType;
use super::request::MEBIBYTE;
use std::fmt;

/// A size or a place, for a person.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Bytes(pub u64);

impl fmt::Display for Bytes {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0 < MEBIBYTE {
            return write!(out, "{} bytes", self.0);
        }
        let (whole, rest) = (self.0 / MEBIBYTE, self.0 % MEBIBYTE);
        match (rest, rest * 10 / MEBIBYTE) {
            (0, _) => write!(out, "{} bytes ({whole} MiB)", self.0),
            (_, 0) => write!(out, "{} bytes (about {whole} MiB)", self.0),
            (_, tenths) => write!(out, "{} bytes (about {whole}.{tenths} MiB)", self.0),
        }
    }
}

/// A partition, for a person: its place in the request, from 1, and its name.
#[derive(Clone, Debug)]
pub(crate) struct Which {
    pub place: usize,
    pub name: Option<String>,
}

impl fmt::Display for Which {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.name {
            Some(name) => write!(out, "partition {} ({name})", self.place),
            None => write!(out, "partition {}", self.place),
        }
    }
}

#[derive(Debug, thiserror::Error)]
pub(crate) enum Problem {
    #[error("{0:?} is no GUID: it has 32 hexadecimal digits as 01234567-89ab-cdef-0123-456789abcdef")]
    Guid(String),
    #[error(
        "{0:?} is no type of partition: it is a GUID of GPT, a byte of MBR such as 0x83, or one of {names}",
        names = PartitionType::names().collect::<Vec<_>>().join(", ")
    )]
    TypeName(String),
    #[error(
        "{0:?} is no attribute of a partition: it is a bit from 0 to 63, or one of required, no-block-io, \
         legacy-bios-bootable, grow-fs, read-only, no-auto"
    )]
    AttributeName(String),
    #[error("{0:?} is no file system: it is one of {names}", names = FileSystem::names().collect::<Vec<_>>().join(", "))]
    FileSystemName(String),
    #[error(
        "a geometry of {heads} heads and {sectors_per_track} sectors per track: it must have 1 to 255 heads and \
         1 to 63 sectors"
    )]
    Geometry { heads: u32, sectors_per_track: u32 },
    #[error("an alignment of {0}: it must be of whole sectors of 512 bytes, up to 1 GiB")]
    Alignment(Bytes),
    #[error("an alignment to cylinders is for MBR: ask for table mbr, or for an alignment in bytes")]
    CylindersOfGpt,
    #[error("a disk of {0}: it must be of whole sectors of 512 bytes, up to 1 PiB")]
    DiskSize(Bytes),
    #[error("{0} is to start or end behind 1 PiB: no disk is so large")]
    TooFar(Which),
    #[error("{0} has a size of zero: give it one")]
    Empty(Which),
    #[error("{0} and {1} both ask for the rest of the disk: only one can have it")]
    TwoRests(Which, Which),
    #[error("{0} asks for the rest of a disk of no given size: give the disk a size, or the partition")]
    RestOfNothing(Which),
    #[error(
        "the disk of {size} leaves {left} to {which}, which asks for the rest: that takes at least {unit}; \
         make the disk larger, or other partitions smaller"
    )]
    NoRest { which: Which, size: Bytes, left: Bytes, unit: Bytes },
    #[error(
        "the disk of {size} is too small for its partitions and its table: {missing} are missing; \
         make it at least {needed}"
    )]
    DiskTooSmall { size: Bytes, needed: Bytes, missing: Bytes },
    #[error(
        "{which} starts at byte {start}, which is no multiple of {unit}: {nearest} is the next one that is"
    )]
    Misaligned { which: Which, start: u64, unit: Bytes, nearest: u64 },
    #[error(
        "{which} starts at {start}, where the partition table lies: the first byte it may start at is {first}; \
         leave its start out to have it chosen"
    )]
    OverTable { which: Which, start: Bytes, first: u64 },
    #[error(
        "{second}, from {start}, overlaps {first}, which ends at {end}: move or shrink one by {by}, \
         or leave the starts out to have them chosen"
    )]
    Overlap { first: Which, end: Bytes, second: Which, start: Bytes, by: Bytes },
    #[error("{primary} lies within the extended partition from {start} to {end}: move it before or behind")]
    WithinExtended { primary: Which, start: Bytes, end: Bytes },
    #[error(
        "{second} lies before {first}, but both are logical partitions: ask for them in the order of their starts"
    )]
    LogicalOrder { first: Which, second: Which },
    #[error("{0} partitions on a disk without a table: it has room for one; ask for table gpt or mbr")]
    NoTable(usize),
    #[error("{0} starts at byte {1} of a disk without a table: it can start at 0 only")]
    NoTableStart(Which, u64),
    #[error("{0} partitions, more than the {max} that an MBR has here: ask for table gpt", max = 3 + MAX_LOGICAL)]
    MbrCount(usize),
    #[error("{0} partitions, more than the 128 that a GPT has")]
    GptCount(usize),
    #[error("{which} ends at {end}, but an MBR reaches to 2 TiB only: ask for table gpt")]
    MbrReach { which: Which, end: Bytes },
    #[error("{which} has type {kind}, which table {table} has none for: {hint}")]
    NoSuchType { which: Which, kind: String, table: &'static str, hint: &'static str },
    #[error("{0} has {1}, which an MBR cannot hold: ask for table gpt")]
    NotInMbr(Which, &'static str),
    #[error("{0} and {1} are both active: boot code boots from one only")]
    TwoActive(Which, Which),
    #[error("the name of {which} has {units} UTF-16 units, more than the 36 of a GPT: shorten it")]
    NameLength { which: Which, units: usize },
    #[error("the name of {0} has a zero character")]
    NameZero(Which),
    #[error("{0} and {1} have the same UUID")]
    SameUuid(Which, Which),
    #[error("boot code of {0} bytes, more than the {BOOT_CODE_BYTES} before the partition table")]
    BootCode(usize),
    #[error("label {label:?} has {length} bytes, more than the {max} of {file_system}: shorten it")]
    LabelLength { file_system: &'static str, label: String, length: usize, max: usize },
    #[error("label {label:?} has {character:?}, which {file_system} does not allow in a label")]
    LabelCharacter { file_system: &'static str, label: String, character: char },
    #[error("label {label:?} for {file_system}, which has no labels: leave it out")]
    NoLabel { file_system: &'static str, label: String },
}
