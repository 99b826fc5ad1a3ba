//! Writes a file.

use super::super::{
    DiskFormat,
    bytes::SECTOR_BYTES,
    output::{self, Output, TableWriter},
    scan,
};
use super::footer::{self, BAT_OFFSET, DYNAMIC_OFFSET, FOOTER_BYTES};
use super::{ABSENT, BLOCK_BYTES, ENTRY_BYTES, Layout, Options};
use crate::{Error, sparse::Source, sparse::Target};

/// Bytes of a block's bitmap, which is a sector for blocks of 2 MiB.
const BITMAP_BYTES: u64 = BLOCK_BYTES / SECTOR_BYTES / 8;
/// What the BAT's 32-bit sectors can reach, and what every reader takes: 2040 GiB.
const DISK_BYTES_MAX: u64 = 2040 << 30;

/// Writes `source` as a VHD file.
pub(in super::super) fn write(
    source: &dyn Source,
    options: &Options,
    target: &mut dyn Target,
) -> Result<(), Error> {
    let disk_bytes = output::disk_bytes(source, DiskFormat::Vhd, DISK_BYTES_MAX)?;
    let mut output = Output::new(DiskFormat::Vhd, target);
    let footer = footer::footer(options, disk_bytes);
    let end = match options.layout {
        Layout::Fixed => {
            scan::for_each_run(source, scan::HOLE_BYTES, |offset, bytes| output.write(bytes, offset))?;
            disk_bytes
        }
        Layout::Dynamic => {
            output.write(&footer, 0)?;
            output.write(&footer::dynamic_header(disk_bytes), DYNAMIC_OFFSET)?;
            write_blocks(source, disk_bytes, &mut output)?
        }
    };
    output.write(&footer, end)?;
    output.set_len(end + FOOTER_BYTES as u64)
}

/// Writes the BAT and the blocks; the offset behind the last of them.
fn write_blocks(source: &dyn Source, disk_bytes: u64, output: &mut Output<'_>) -> Result<u64, Error> {
    let entries = disk_bytes.div_ceil(BLOCK_BYTES);
    let mut bat = TableWriter::new(BAT_OFFSET, entries, ABSENT.to_be_bytes());
    // The table fills its last sector with entries that are absent, too.
    let table_bytes = (entries * ENTRY_BYTES).next_multiple_of(SECTOR_BYTES);
    let padding = table_bytes - entries * ENTRY_BYTES;
    output.write(&vec![0xff; padding as usize], BAT_OFFSET + entries * ENTRY_BYTES)?;
    let mut end = BAT_OFFSET + table_bytes;
    let mut current = None;
    scan::for_each_run(source, scan::HOLE_BYTES, |offset, bytes| {
        let block = offset / BLOCK_BYTES;
        if current != Some(block) {
            bat.set(block, ((end / SECTOR_BYTES) as u32).to_be_bytes(), output)?;
            output.write(&[0xff; BITMAP_BYTES as usize], end)?;
            (current, end) = (Some(block), end + BITMAP_BYTES + BLOCK_BYTES);
        }
        output.write(bytes, end - BLOCK_BYTES + offset % BLOCK_BYTES)
    })?;
    bat.finish(output)?;
    Ok(end)
}
