//! GUID partition tables: UEFI 2.10, section 5.3.

use super::mbr;
use super::plan::{Layout, Partition};
use super::request::SECTOR_BYTES;
use super::{Write, attribute};
use crate::field::{put_u32, put_u64};
use flate2::Crc;

/// How many entries the array has: the fewest that the specification allows, and what everybody writes.
pub(super) const ENTRIES: usize = 128;
/// UTF-16 units of a partition's name.
pub(super) const NAME_UNITS: usize = 36;
/// Header and array at the end of the disk.
pub(super) const BACKUP_BYTES: u64 = SECTOR_BYTES + ARRAY_BYTES as u64;
/// The first byte that a partition may have: after the protective MBR, the header and the array.
pub(super) const FIRST_USABLE: u64 = SECTOR_BYTES + BACKUP_BYTES;

const ENTRY_BYTES: usize = 128;
const ARRAY_BYTES: usize = ENTRIES * ENTRY_BYTES;
const HEADER_BYTES: usize = 92;
const REVISION: u32 = 0x0001_0000;

pub(super) fn writes(layout: &Layout) -> Vec<Write> {
    let array = array(layout);
    let last = layout.size / SECTOR_BYTES - 1;
    let first_header = header(layout, &array, 1, last, 2);
    let backup_array = last - (ARRAY_BYTES as u64 / SECTOR_BYTES);
    let backup_header = header(layout, &array, last, 1, backup_array);
    vec![
        mbr::protective(layout),
        Write { offset: SECTOR_BYTES, bytes: [&first_header[..], &array].concat() },
        Write { offset: backup_array * SECTOR_BYTES, bytes: [&array[..], &backup_header].concat() },
    ]
}

/// One of the two headers; places are in sectors.
fn header(
    layout: &Layout,
    array: &[u8],
    own: u64,
    other: u64,
    array_sector: u64,
) -> [u8; SECTOR_BYTES as usize] {
    let mut header = [0; SECTOR_BYTES as usize];
    header[..8].copy_from_slice(b"EFI PART");
    put_u32(&mut header, 8, REVISION);
    put_u32(&mut header, 12, HEADER_BYTES as u32);
    put_u64(&mut header, 24, own);
    put_u64(&mut header, 32, other);
    put_u64(&mut header, 40, FIRST_USABLE / SECTOR_BYTES);
    put_u64(&mut header, 48, (layout.size - BACKUP_BYTES) / SECTOR_BYTES - 1);
    header[56..72].copy_from_slice(&layout.disk_guid.to_disk());
    put_u64(&mut header, 72, array_sector);
    put_u32(&mut header, 80, ENTRIES as u32);
    put_u32(&mut header, 84, ENTRY_BYTES as u32);
    put_u32(&mut header, 88, crc32(array));
    let checksum = crc32(&header[..HEADER_BYTES]);
    put_u32(&mut header, 16, checksum);
    header
}

fn array(layout: &Layout) -> Vec<u8> {
    let mut array = vec![0; ARRAY_BYTES];
    for partition in &layout.partitions {
        let at = (partition.number as usize - 1) * ENTRY_BYTES;
        put_entry(&mut array[at..at + ENTRY_BYTES], partition);
    }
    array
}

fn put_entry(entry: &mut [u8], partition: &Partition) {
    let kind = partition.kind.gpt().expect("a plan for a GPT has types of GPT");
    let uuid = partition.uuid.expect("a plan for a GPT has a GUID for every partition");
    let active = if partition.active { attribute::LEGACY_BIOS_BOOTABLE } else { 0 };
    entry[..16].copy_from_slice(&kind.to_disk());
    entry[16..32].copy_from_slice(&uuid.to_disk());
    put_u64(entry, 32, partition.start / SECTOR_BYTES);
    put_u64(entry, 40, (partition.start + partition.length) / SECTOR_BYTES - 1);
    put_u64(entry, 48, partition.attributes | active);
    let name = partition.name.as_deref().unwrap_or_default();
    for (unit, place) in name.encode_utf16().zip(entry[56..].chunks_exact_mut(2)) {
        place.copy_from_slice(&unit.to_le_bytes());
    }
}

fn crc32(bytes: &[u8]) -> u32 {
    let mut crc = Crc::new();
    crc.update(bytes);
    crc.sum()
}
