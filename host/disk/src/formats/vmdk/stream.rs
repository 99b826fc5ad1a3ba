//! Writes `streamOptimized`, from the first byte to the last.

use super::super::{
    DiskFormat,
    bytes::*,
    codec::{self, Codec},
    error::FormatError,
    output, scan,
};
use super::header::{DESCRIPTOR_SECTOR, DIRECTORY_AT_END, NewHeader};
use super::{
    DISK_BYTES_MAX, GRAIN_BYTES, Options, Subformat, TABLE_COVERS, TABLE_ENTRIES, descriptor, sector_of,
};
use crate::{Error, sparse::Source, sparse::Target};
use std::io::{self, Write};

/// Sectors before the first grain.
const OVERHEAD: u64 = 128;
/// Types of markers.
const MARKER_END_OF_STREAM: u32 = 0;
const MARKER_GRAIN_TABLE: u32 = 1;
const MARKER_GRAIN_DIRECTORY: u32 = 2;
const MARKER_FOOTER: u32 = 3;

/// Writes `source` as a `streamOptimized` file, whatever subformat the options say.
///
/// # Errors
/// When the disk cannot be read, the stream not be written, or the disk or an option is not one for this format.
pub fn write_stream_optimized(
    source: &dyn Source,
    options: &Options,
    output: &mut dyn Write,
) -> Result<(), Error> {
    let options = Options { subformat: Subformat::StreamOptimized, ..options.clone() };
    options.check()?;
    let disk_bytes = output::disk_bytes(source, DiskFormat::Vmdk, DISK_BYTES_MAX)?;
    let mut stream = Stream::start(&options, disk_bytes, output)?;
    let mut batch: Vec<(u64, Vec<u8>)> = Vec::new();
    scan::for_each_block(source, GRAIN_BYTES as usize, |offset, grain| {
        batch.push((offset, grain.to_vec()));
        if batch.len() < codec::batch_length(options.threads) {
            return Ok(());
        }
        stream.put_grains(std::mem::take(&mut batch))
    })?;
    stream.put_grains(batch)?;
    stream.finish()
}

/// The same, into a file.
pub(super) fn write(source: &dyn Source, options: &Options, target: &mut dyn Target) -> Result<(), Error> {
    let mut file = Append { target, length: 0 };
    write_stream_optimized(source, options, &mut file)?;
    let Append { target, length } = file;
    output::Output::new(DiskFormat::Vmdk, target).set_len(length)
}

/// A file that is written from its start on.
struct Append<'a> {
    target: &'a mut dyn Target,
    length: u64,
}

impl Write for Append<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.target.write_at(bytes, self.length)?;
        self.length += bytes.len() as u64;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// A grain table that is being filled.
struct Table {
    /// Its index in the directory.
    index: u64,
    entries: Vec<u32>,
}

struct Stream<'a> {
    options: &'a Options,
    output: &'a mut dyn Write,
    header: NewHeader,
    /// Bytes written so far: whole sectors.
    position: u64,
    directory: Vec<u32>,
    table: Option<Table>,
}

impl<'a> Stream<'a> {
    fn start(options: &'a Options, disk_bytes: u64, output: &'a mut dyn Write) -> Result<Self, Error> {
        let header = NewHeader {
            stream: true,
            disk_bytes,
            redundant_directory: 0,
            directory: DIRECTORY_AT_END,
            overhead: OVERHEAD,
        };
        let directory = vec![0; disk_bytes.div_ceil(TABLE_COVERS) as usize];
        let start = header.to_bytes();
        let mut stream = Self { options, output, header, position: 0, directory, table: None };
        stream.write(&start)?;
        let mut descriptor = descriptor::descriptor(options, disk_bytes).into_bytes();
        descriptor.resize(((OVERHEAD - DESCRIPTOR_SECTOR) * SECTOR_BYTES) as usize, 0);
        stream.write(&descriptor)?;
        Ok(stream)
    }

    /// Writes `bytes`, and zeroes up to the next sector.
    fn write(&mut self, bytes: &[u8]) -> Result<(), Error> {
        let padding = bytes.len().next_multiple_of(SECTOR_BYTES as usize) - bytes.len();
        let written = self
            .output
            .write_all(bytes)
            .and_then(|()| self.output.write_all(&[0; SECTOR_BYTES as usize][..padding]));
        let offset = self.position;
        written.map_err(|source| FormatError::WriteFile { format: DiskFormat::Vmdk, offset, source })?;
        self.position += (bytes.len() + padding) as u64;
        Ok(())
    }

    /// Compresses and writes grains by their offsets on the disk.
    fn put_grains(&mut self, batch: Vec<(u64, Vec<u8>)>) -> Result<(), Error> {
        let grains: Vec<&[u8]> = batch.iter().map(|(_, grain)| grain.as_slice()).collect();
        let failed = |source| FormatError::Compress { offset: batch[0].0, source };
        let Options { level, threads, .. } = *self.options;
        let packed = codec::pack_all(Codec::Zlib, level, threads, &grains).map_err(failed)?;
        for ((offset, _), packed) in batch.iter().zip(packed) {
            self.put_grain(*offset, &packed)?;
        }
        Ok(())
    }

    fn put_grain(&mut self, offset: u64, packed: &[u8]) -> Result<(), Error> {
        let index = offset / TABLE_COVERS;
        if self.table.as_ref().is_some_and(|table| table.index != index) {
            self.finish_table()?;
        }
        let sector = sector_of(self.position)?;
        let new = || Table { index, entries: vec![0; TABLE_ENTRIES as usize] };
        let table = self.table.get_or_insert_with(new);
        table.entries[(offset % TABLE_COVERS / GRAIN_BYTES) as usize] = sector;
        let mut grain = Vec::with_capacity(12 + packed.len());
        grain.extend((offset / SECTOR_BYTES).to_le_bytes());
        grain.extend((packed.len() as u32).to_le_bytes());
        grain.extend(packed);
        self.write(&grain)
    }

    fn finish_table(&mut self) -> Result<(), Error> {
        let Some(table) = self.table.take() else { return Ok(()) };
        let sector = self.write_entries(MARKER_GRAIN_TABLE, &table.entries)?;
        self.directory[table.index as usize] = sector;
        Ok(())
    }

    /// A table or directory behind its marker; the sector where it starts.
    fn write_entries(&mut self, marker: u32, entries: &[u32]) -> Result<u32, Error> {
        let bytes: Vec<u8> = entries.iter().flat_map(|entry| entry.to_le_bytes()).collect();
        self.write_marker(marker, (bytes.len() as u64).div_ceil(SECTOR_BYTES))?;
        let sector = sector_of(self.position)?;
        self.write(&bytes)?;
        Ok(sector)
    }

    /// A marker of this type for what comes next, which is so many sectors long.
    fn write_marker(&mut self, marker: u32, sectors: u64) -> Result<(), Error> {
        let mut bytes = [0; SECTOR_BYTES as usize];
        put_u64(&mut bytes, 0, sectors);
        put_u32(&mut bytes, 12, marker);
        self.write(&bytes)
    }

    fn finish(mut self) -> Result<(), Error> {
        self.finish_table()?;
        let directory = std::mem::take(&mut self.directory);
        let sector = self.write_entries(MARKER_GRAIN_DIRECTORY, &directory)?;
        self.write_marker(MARKER_FOOTER, 1)?;
        self.header.directory = sector.into();
        let footer = self.header.to_bytes();
        self.write(&footer)?;
        self.write_marker(MARKER_END_OF_STREAM, 0)
    }
}
