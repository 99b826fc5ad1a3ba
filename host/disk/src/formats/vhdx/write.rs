//! Writes a file.

use super::super::{
    DiskFormat,
    bytes::SECTOR_BYTES,
    error::FormatError,
    output::{self, Output, TableWriter},
    scan,
};
use super::structures::{self, BAT_OFFSET, HEADER_OFFSETS, METADATA_OFFSET, REGION_TABLE_OFFSETS};
use super::{
    BLOCK_BYTES_MAX, BLOCK_BYTES_MIN, ENTRY_BYTES, FULLY_PRESENT, MIB, Options, PLACE_SHIFT, bat_entries,
    chunk_ratio,
};
use crate::{Error, sparse::Source, sparse::Target};

/// The specification's limit: 64 TiB.
const DISK_BYTES_MAX: u64 = 64 << 40;
/// Blocks that a BAT has at most, unless asked for otherwise: 8 MiB of entries.
const BLOCKS_MAX: u64 = 1 << 20;

/// Writes `source` as a dynamic VHDX file.
pub(in super::super) fn write(
    source: &dyn Source,
    options: &Options,
    target: &mut dyn Target,
) -> Result<(), Error> {
    let disk_bytes = output::disk_bytes(source, DiskFormat::Vhdx, DISK_BYTES_MAX)?;
    let block_bytes = block_bytes(options, disk_bytes)?;
    let mut output = Output::new(DiskFormat::Vhdx, target);
    let entries = bat_entries(disk_bytes, block_bytes, chunk_ratio(block_bytes, SECTOR_BYTES));
    let bat_bytes = (entries * ENTRY_BYTES).next_multiple_of(MIB);
    output.write(&structures::identifier(), 0)?;
    for (sequence_number, offset) in (1..).zip(HEADER_OFFSETS) {
        output.write(&structures::new_header(&options.identity, sequence_number), offset)?;
    }
    for offset in REGION_TABLE_OFFSETS {
        output.write(&structures::region_table(bat_bytes), offset)?;
    }
    output.write(&structures::metadata(&options.identity, disk_bytes, block_bytes), METADATA_OFFSET)?;
    let bat = TableWriter::new(BAT_OFFSET, entries, [0; ENTRY_BYTES as usize]);
    let end = write_blocks(source, block_bytes, bat, BAT_OFFSET + bat_bytes, &mut output)?;
    output.set_len(end)
}

fn block_bytes(options: &Options, disk_bytes: u64) -> Result<u64, Error> {
    let usual = disk_bytes.div_ceil(BLOCKS_MAX).next_power_of_two().max(BLOCK_BYTES_MIN);
    let bytes = options.block_bytes.unwrap_or(usual);
    if bytes.is_power_of_two() && (BLOCK_BYTES_MIN..=BLOCK_BYTES_MAX).contains(&bytes) {
        return Ok(bytes);
    }
    let why = format!("blocks of {bytes} bytes, not a power of two from 1 to 256 MiB");
    Err(FormatError::Option { format: DiskFormat::Vhdx, why }.into())
}

/// Writes the BAT, and blocks from `end` on; the offset behind the last of them.
fn write_blocks(
    source: &dyn Source,
    block_bytes: u64,
    mut bat: TableWriter<{ ENTRY_BYTES as usize }>,
    mut end: u64,
    output: &mut Output<'_>,
) -> Result<u64, Error> {
    let chunk_ratio = chunk_ratio(block_bytes, SECTOR_BYTES);
    let mut current = None;
    scan::for_each_run(source, scan::HOLE_BYTES, |offset, bytes| {
        let block = offset / block_bytes;
        if current != Some(block) {
            let entry = ((end / MIB) << PLACE_SHIFT) | FULLY_PRESENT;
            bat.set(block + block / chunk_ratio, entry.to_le_bytes(), output)?;
            (current, end) = (Some(block), end + block_bytes);
        }
        output.write(bytes, end - block_bytes + offset % block_bytes)
    })?;
    bat.finish(output)?;
    Ok(end)
}
