//! What is asked of a disk.

use super::chs::Geometry;
use super::guid::Guid;
use super::partition_type::PartitionType;

/// Bytes of a sector, in which tables count: what virtual disks have.
pub const SECTOR_BYTES: u64 = 512;
/// Bytes of a mebibyte, the default alignment.
pub const MEBIBYTE: u64 = 1 << 20;

/// Which table tells where partitions lie.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TableKind {
    /// Master boot record: 4 partitions, more by an extended one; up to 2 TiB.
    Mbr,
    /// GUID partition table: 128 partitions.
    Gpt,
    /// No table: one file system is the whole disk.
    None,
}

/// A disk and its partitions, as asked.
#[derive(Clone, Debug)]
pub struct DiskRequest {
    /// Which table.
    pub table: TableKind,
    /// MBR's disk signature, of which Linux makes `PARTUUID=`. Of GPT's protective MBR too: 0 there as a rule.
    pub disk_signature: u32,
    /// GPT's disk GUID.
    pub disk_guid: Guid,
    /// Bytes of the disk, of whole sectors; `None` for as many as its partitions need.
    pub size: Option<u64>,
    /// Where partitions may start.
    pub alignment: Alignment,
    /// What cylinders, heads and sectors are counted with.
    pub geometry: Geometry,
    /// In the order of their numbers.
    pub partitions: Vec<PartitionRequest>,
}

impl DiskRequest {
    /// A disk as large as needed, with partitions at mebibytes.
    pub fn new(table: TableKind) -> Self {
        Self {
            table,
            disk_signature: 0,
            disk_guid: Guid::default(),
            size: None,
            alignment: Alignment::default(),
            geometry: Geometry::default(),
            partitions: Vec::new(),
        }
    }
}

/// Where partitions may start.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Alignment {
    /// At multiples of so many bytes: whole sectors, up to 1 GiB.
    Bytes(u64),
    /// At cylinders of the geometry, as tools of the last century did it: the first partition, and every logical
    /// one, a track after its start; all end with a cylinder. MBR only.
    Cylinder,
}

impl Default for Alignment {
    fn default() -> Self {
        Self::Bytes(MEBIBYTE)
    }
}

/// A partition, as asked.
#[derive(Clone, Debug)]
pub struct PartitionRequest {
    /// GPT's partition name. In an MBR it names the partition in errors only.
    pub name: Option<String>,
    /// What it is for.
    pub kind: PartitionType,
    /// How large.
    pub size: PartitionSize,
    /// MBR: the one to boot from. GPT: the same as [`attribute::LEGACY_BIOS_BOOTABLE`].
    pub active: bool,
    /// GPT's attribute bits; none in an MBR.
    pub attributes: u64,
    /// GPT's partition GUID; `None` for one made of the disk's GUID and the partition's number.
    pub uuid: Option<Guid>,
    /// Its first byte; `None` for the next aligned one after the partition before.
    pub start: Option<u64>,
}

impl PartitionRequest {
    /// A partition without name, flags, or a place of its own.
    pub fn new(kind: PartitionType, size: PartitionSize) -> Self {
        Self { name: None, kind, size, active: false, attributes: 0, uuid: None, start: None }
    }
}

/// How large a partition is to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PartitionSize {
    /// So many bytes, rounded up to whole sectors.
    Bytes(u64),
    /// What the others leave, in whole units of the alignment. One partition may ask for that.
    Rest,
}

/// Attributes of a GPT partition: UEFI 2.10, table 5.8, and the discoverable partitions specification.
pub mod attribute {
    use super::super::error::Problem;
    use crate::Error;

    /// The firmware or the operating system needs it.
    pub const REQUIRED: u64 = 1 << 0;
    /// Firmware is to make no block device of it.
    pub const NO_BLOCK_IO: u64 = 1 << 1;
    /// `gptmbr.bin` boots from it.
    pub const LEGACY_BIOS_BOOTABLE: u64 = 1 << 2;
    /// Its file system grows to its size when it is mounted.
    pub const GROW_FILE_SYSTEM: u64 = 1 << 59;
    /// Mounted read-only.
    pub const READ_ONLY: u64 = 1 << 60;
    /// Not mounted of itself.
    pub const NO_AUTO: u64 = 1 << 63;

    const NAMES: [(&str, u64); 9] = [
        ("required", REQUIRED),
        ("no-block-io", NO_BLOCK_IO),
        ("legacy-bios-bootable", LEGACY_BIOS_BOOTABLE),
        ("grow-fs", GROW_FILE_SYSTEM),
        ("grow-file-system", GROW_FILE_SYSTEM),
        ("growfs", GROW_FILE_SYSTEM),
        ("read-only", READ_ONLY),
        ("no-auto", NO_AUTO),
        ("noauto", NO_AUTO),
    ];

    /// The bit of a name or of a number from 0 to 63.
    ///
    /// # Errors
    /// When it is neither.
    pub fn parse(text: &str) -> Result<u64, Error> {
        let named = NAMES.iter().find(|(name, _)| *name == text).map(|(_, bit)| *bit);
        let number = || text.parse::<u32>().ok().and_then(|bit| 1u64.checked_shl(bit));
        named.or_else(number).ok_or_else(|| Problem::AttributeName(text.to_owned()).into())
    }
}
