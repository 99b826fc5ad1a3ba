//! Master boot records, extended ones, and the protective one of GPT.
//!
//! Layout: UEFI 2.10, section 5.2.1; EBRs as Linux's `block/partitions/msdos.c` reads them.

use super::Write;
use super::chs::Geometry;
use super::error::Problem;
use super::plan::{Layout, Partition};
use super::request::SECTOR_BYTES;
use crate::Error;
use crate::field::{put_u16, put_u32};
use std::ops::Range;

/// Bytes of boot code before the disk's signature.
pub const BOOT_CODE_BYTES: usize = 440;
/// How many logical partitions there are at most: sfdisk's limit of 60 partitions, 4 of which are in the MBR.
pub(super) const MAX_LOGICAL: usize = 56;
/// Type of an extended partition that is counted in sectors.
pub(super) const EXTENDED_LBA: u8 = 0x0f;
/// Type of an EBR's link to the next.
const EXTENDED: u8 = 0x05;
/// Type of the protective partition of a GPT.
const PROTECTIVE: u8 = 0xee;

const SECTOR: usize = SECTOR_BYTES as usize;
const ENTRIES: usize = 446;
const ENTRY_BYTES: usize = 16;
const BOOT_SIGNATURE: (usize, u16) = (510, 0xaa55);

/// Puts boot code, such as `mbr.bin` of syslinux or the start of GRUB's `boot.img`, before the table.
///
/// # Errors
/// When it is longer than [`BOOT_CODE_BYTES`].
pub fn boot_code(code: &[u8]) -> Result<Write, Error> {
    if code.len() > BOOT_CODE_BYTES {
        return Err(Problem::BootCode(code.len()).into());
    }
    Ok(Write { offset: 0, bytes: code.to_vec() })
}

pub(super) fn writes(layout: &Layout) -> Vec<Write> {
    let mut sector = [0; SECTOR];
    for partition in layout.partitions.iter().filter(|partition| partition.ebr.is_none()) {
        let at = partition.number as usize - 1;
        put_entry(&mut sector, at, &Entry::of(partition, 0), layout.geometry);
    }
    if let Some(extended) = &layout.extended {
        let entry = Entry { active: false, kind: EXTENDED_LBA, range: extended.clone(), base: 0 };
        put_entry(&mut sector, 3, &entry, layout.geometry);
    }
    let mut writes = vec![after_boot_code(sector, layout.disk_signature)];
    writes.extend(layout.extended.iter().flat_map(|extended| records(layout, extended)));
    writes
}

/// The MBR that says to tools without GPT that the disk is full.
pub(super) fn protective(layout: &Layout) -> Write {
    let mut sector = [0; SECTOR];
    let last_sector = u32::try_from(layout.size / SECTOR_BYTES - 1).unwrap_or(u32::MAX);
    let entry = &mut sector[ENTRIES..ENTRIES + ENTRY_BYTES];
    entry[1..4].copy_from_slice(&[0x00, 0x02, 0x00]);
    entry[4] = PROTECTIVE;
    entry[5..8].copy_from_slice(&[0xff, 0xff, 0xff]);
    put_u32(entry, 8, 1);
    put_u32(entry, 12, last_sector);
    after_boot_code(sector, layout.disk_signature)
}

fn after_boot_code(mut sector: [u8; SECTOR], disk_signature: u32) -> Write {
    put_u32(&mut sector, BOOT_CODE_BYTES, disk_signature);
    put_u16(&mut sector, BOOT_SIGNATURE.0, BOOT_SIGNATURE.1);
    Write { offset: BOOT_CODE_BYTES as u64, bytes: sector[BOOT_CODE_BYTES..].to_vec() }
}

/// The EBRs: each counts its partition from itself, and the next EBR from the start of the extended partition.
fn records(layout: &Layout, extended: &Range<u64>) -> Vec<Write> {
    let logical: Vec<(u64, &Partition)> =
        layout.partitions.iter().filter_map(|partition| Some((partition.ebr?, partition))).collect();
    let record = |(index, (ebr, partition)): (usize, &(u64, &Partition))| {
        let mut sector = [0; SECTOR];
        put_entry(&mut sector, 0, &Entry::of(partition, *ebr), layout.geometry);
        if let Some((next, following)) = logical.get(index + 1) {
            let link = Entry {
                active: false,
                kind: EXTENDED,
                range: *next..following.start + following.length,
                base: extended.start,
            };
            put_entry(&mut sector, 1, &link, layout.geometry);
        }
        put_u16(&mut sector, BOOT_SIGNATURE.0, BOOT_SIGNATURE.1);
        Write { offset: *ebr, bytes: sector.to_vec() }
    };
    logical.iter().enumerate().map(record).collect()
}

/// An entry of a table, in bytes; `base` is what its start is counted from.
struct Entry {
    active: bool,
    kind: u8,
    range: Range<u64>,
    base: u64,
}

impl Entry {
    fn of(partition: &Partition, base: u64) -> Self {
        let kind = partition.kind.mbr().expect("a plan for an MBR has types of MBR");
        let range = partition.start..partition.start + partition.length;
        Self { active: partition.active, kind, range, base }
    }
}

/// Cylinders, heads and sectors are those of the disk, whatever `base` is.
fn put_entry(sector: &mut [u8; SECTOR], index: usize, entry: &Entry, geometry: Geometry) {
    let at = ENTRIES + index * ENTRY_BYTES;
    let bytes = &mut sector[at..at + ENTRY_BYTES];
    let (first, end) = (entry.range.start / SECTOR_BYTES, entry.range.end / SECTOR_BYTES);
    bytes[0] = if entry.active { 0x80 } else { 0 };
    bytes[1..4].copy_from_slice(&geometry.address(first));
    bytes[4] = entry.kind;
    bytes[5..8].copy_from_slice(&geometry.address(end - 1));
    put_u32(bytes, 8, sectors(entry.range.start - entry.base));
    put_u32(bytes, 12, sectors(entry.range.end - entry.range.start));
}

fn sectors(bytes: u64) -> u32 {
    u32::try_from(bytes / SECTOR_BYTES).expect("a plan for an MBR ends before 2 TiB")
}
