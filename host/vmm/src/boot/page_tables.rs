//! Page tables that map addresses one to one, in pages of 2 MiB
//! ([Intel SDM](https://www.intel.com/sdm), volume 3, section 4.5, "4-level paging").

use crate::layout;

/// Each maps 1 GiB. They map all below 4 GiB: memory and devices.
const PAGE_DIRECTORIES: u64 = 4;

const TABLE_BYTES: u64 = 0x1000;
const ENTRIES: u64 = 512;
const LARGE_PAGE_BYTES: u64 = 2 << 20;

const PRESENT: u64 = 1;
const WRITABLE: u64 = 1 << 1;
/// In a page directory: the entry maps a page of 2 MiB.
const PAGE_SIZE: u64 = 1 << 7;

/// The PML4, the page-directory-pointer table and the page directories, for [`layout::PAGE_TABLES`].
pub fn bytes() -> Vec<u8> {
    let pointer_table = layout::PAGE_TABLES.0 + TABLE_BYTES;
    let directories = (1..=PAGE_DIRECTORIES).map(|index| pointer_table + index * TABLE_BYTES);
    let pages = (0..PAGE_DIRECTORIES * ENTRIES).map(|index| index * LARGE_PAGE_BYTES);
    let mut tables = table([pointer_table | PRESENT | WRITABLE]);
    tables.extend(table(directories.map(|address| address | PRESENT | WRITABLE)));
    tables.extend(table(pages.map(|address| address | PRESENT | WRITABLE | PAGE_SIZE)));
    tables
}

/// Entries as bytes, filled up with absent ones to whole tables.
fn table(entries: impl IntoIterator<Item = u64>) -> Vec<u8> {
    let mut bytes: Vec<u8> = entries.into_iter().flat_map(u64::to_le_bytes).collect();
    bytes.resize(bytes.len().next_multiple_of(TABLE_BYTES as usize), 0);
    bytes
}
