//! Writes `monolithicSparse`: all tables before the grains.

use super::super::{
    DiskFormat,
    bytes::SECTOR_BYTES,
    output::{self, Output, TableWriter},
    scan,
};
use super::header::{DESCRIPTOR_SECTOR, DESCRIPTOR_SECTORS, NewHeader};
use super::{
    DISK_BYTES_MAX, ENTRY_BYTES, GRAIN_BYTES, Options, TABLE_COVERS, TABLE_ENTRIES, descriptor, sector_of,
};
use crate::{Error, sparse::Source, sparse::Target};

/// Bytes of a grain table.
const TABLE_BYTES: u64 = TABLE_ENTRIES * ENTRY_BYTES;

/// A directory with its tables right behind it.
#[derive(Clone, Copy)]
struct Tables {
    /// Where the directory is, in bytes.
    directory: u64,
    count: u64,
}

impl Tables {
    /// Where the first table is, in bytes.
    fn first(&self) -> u64 {
        (self.directory + self.count * ENTRY_BYTES).next_multiple_of(SECTOR_BYTES)
    }

    fn end(&self) -> u64 {
        self.first() + self.count * TABLE_BYTES
    }

    fn write_directory(&self, output: &mut Output<'_>) -> Result<(), Error> {
        let mut entries = TableWriter::new(self.directory, self.count, [0; 4]);
        for table in 0..self.count {
            let sector = sector_of(self.first() + table * TABLE_BYTES)?;
            entries.set(table, sector.to_le_bytes(), output)?;
        }
        entries.finish(output)
    }
}

/// Writes `source` as a file that grows.
pub(super) fn write(source: &dyn Source, options: &Options, target: &mut dyn Target) -> Result<(), Error> {
    options.check()?;
    let disk_bytes = output::disk_bytes(source, DiskFormat::Vmdk, DISK_BYTES_MAX)?;
    let mut output = Output::new(DiskFormat::Vmdk, target);
    let count = disk_bytes.div_ceil(TABLE_COVERS);
    let redundant = Tables { directory: (DESCRIPTOR_SECTOR + DESCRIPTOR_SECTORS) * SECTOR_BYTES, count };
    let tables = Tables { directory: redundant.end(), count };
    let overhead = tables.end().next_multiple_of(GRAIN_BYTES);
    let header = NewHeader {
        stream: false,
        disk_bytes,
        redundant_directory: redundant.directory / SECTOR_BYTES,
        directory: tables.directory / SECTOR_BYTES,
        overhead: overhead / SECTOR_BYTES,
    };
    output.write(&header.to_bytes(), 0)?;
    output.write(descriptor::descriptor(options, disk_bytes).as_bytes(), DESCRIPTOR_SECTOR * SECTOR_BYTES)?;
    redundant.write_directory(&mut output)?;
    tables.write_directory(&mut output)?;
    let end = write_grains(source, disk_bytes, [redundant.first(), tables.first()], overhead, &mut output)?;
    output.set_len(end)
}

/// Writes grains from `end` on and their places into both sets of tables; the offset behind the last grain.
fn write_grains(
    source: &dyn Source,
    disk_bytes: u64,
    tables: [u64; 2],
    mut end: u64,
    output: &mut Output<'_>,
) -> Result<u64, Error> {
    let grains = disk_bytes.div_ceil(GRAIN_BYTES);
    let mut tables = tables.map(|first| TableWriter::new(first, grains, [0; 4]));
    scan::for_each_block(source, GRAIN_BYTES as usize, |offset, grain| {
        let sector = sector_of(end)?;
        for table in &mut tables {
            table.set(offset / GRAIN_BYTES, sector.to_le_bytes(), output)?;
        }
        output.write(grain, end)?;
        end += GRAIN_BYTES;
        Ok(())
    })?;
    for table in tables {
        table.finish(output)?;
    }
    Ok(end)
}
