//! `kiln convert`.

use crate::{arguments::ConvertArguments, build::source_date_epoch, machine};
use anyhow::{Context, Result, bail};
use kiln_builder::{DiskBytes, FileSource, write_disk};
use kiln_disk::{
    formats::{DiskFormat, open, qcow2},
    sparse::Source,
};
use kiln_image::{compress, digest::Digest};
use std::{
    fs::File,
    io::{self, Seek, Write},
    ops::Range,
    path::Path,
};

/// Files over one another, at most.
const CHAIN_MAX: usize = 64;
/// Bytes looked at to tell what a file is.
const HEAD_SIZE: usize = 512;

/// Converts a disk.
pub fn run(arguments: &ConvertArguments) -> Result<()> {
    let source = open_disk(&arguments.input, arguments.from, 0)?;
    // The same disk gets the same identity; whose it is, is not known here.
    let name = arguments.input.file_name().unwrap_or_default();
    let digest = Digest::of(format!("kiln convert\n{}\n{}\n", source.len(), name.display()).as_bytes());
    let mut identity = [0; 16];
    let hex = digest.to_string();
    let digits = hex.rsplit(':').next().unwrap_or_default();
    for (byte, pair) in identity.iter_mut().zip(digits.as_bytes().chunks(2)) {
        *byte = u8::from_str_radix(std::str::from_utf8(pair)?, 16)?;
    }
    let epoch_s = source_date_epoch()?.unwrap_or_default().unix_seconds();
    write_disk(
        &DiskBytes { source: source.as_ref(), identity, epoch_s },
        &arguments.output,
        machine::threads(),
    )?;
    Ok(())
}

fn open_disk(path: &Path, format: Option<DiskFormat>, depth: usize) -> Result<Box<dyn Source>> {
    let shown = || format!("cannot read {}", path.display());
    if depth >= CHAIN_MAX {
        bail!(
            "more than {CHAIN_MAX} files lie under one another, or in a circle; the last one is {}",
            path.display()
        );
    }
    let file = File::open(path).with_context(shown)?;
    let file = plain(file).with_context(shown)?;
    let source: Box<dyn Source> = match disk_of_appliance(&file).with_context(shown)? {
        Some(range) => Box::new(Part { source: FileSource::new(file).with_context(shown)?, range }),
        None => Box::new(FileSource::new(file).with_context(shown)?),
    };
    let detected = DiskFormat::detect_file(&*source).with_context(shown)?;
    match format.or(detected).unwrap_or(DiskFormat::Raw) {
        DiskFormat::Qcow2 => open_qcow2(source, path, depth),
        format => open(source, format).with_context(shown),
    }
}

/// With the files below it, which it names as seen from its own directory.
fn open_qcow2(source: Box<dyn Source>, path: &Path, depth: usize) -> Result<Box<dyn Source>> {
    let shown = || format!("cannot read {}", path.display());
    let image = qcow2::Image::open(source).with_context(shown)?;
    let Some(backing) = image.backing_file().cloned() else { return image.alone().with_context(shown) };
    if backing.file_name.contains(':') {
        bail!("{} lies over {:?}, which is no file", path.display(), backing.file_name);
    }
    let below = path.parent().unwrap_or(Path::new("")).join(&backing.file_name);
    // Without a format said, QEMU guesses; a guest that writes a header to a raw disk could then choose.
    let format = backing
        .format
        .as_deref()
        .with_context(|| format!("{}: its backing file's format is not said", path.display()))?;
    let format: DiskFormat = format.parse().with_context(shown)?;
    let disk = open_disk(&below, Some(format), depth + 1)?;
    Ok(image.over(disk))
}

/// The file as it is, or what it decompresses to.
fn plain(mut file: File) -> io::Result<File> {
    let mut input = compress::Decompressor::new(&file).map_err(io::Error::other)?;
    if input.format() == compress::Format::None {
        drop(input);
        file.rewind()?;
        return Ok(file);
    }
    let mut plain = tempfile::tempfile()?;
    copy_sparsely(&mut input, &mut plain)?;
    Ok(plain)
}

fn copy_sparsely(from: &mut dyn io::Read, to: &mut File) -> io::Result<()> {
    let mut buffer = vec![0; 1 << 16];
    let mut length = 0;
    loop {
        let count = from.read(&mut buffer)?;
        if count == 0 {
            return to.set_len(length);
        }
        if buffer[..count].iter().all(|byte| *byte == 0) {
            to.seek(io::SeekFrom::Current(count as i64))?;
        } else {
            to.write_all(&buffer[..count])?;
        }
        length += count as u64;
    }
}

/// Where in an OVA its disk lies.
fn disk_of_appliance(file: &File) -> Result<Option<Range<u64>>> {
    use std::os::unix::fs::FileExt;
    let mut head = [0; HEAD_SIZE];
    let count = file.read_at(&mut head, 0)?;
    if count < HEAD_SIZE || &head[257..262] != b"ustar" {
        return Ok(None);
    }
    let reader = kiln_image::tar::Reader::seekable(io::BufReader::new(file.try_clone()?));
    let mut reader = reader.context("it looks like an OVA")?;
    for entry in reader.entries() {
        let found = entry.context("it looks like an OVA")?;
        if found.entry.path.ends_with(b".vmdk") {
            let start = found.location.data_offset;
            return Ok(Some(start..start.saturating_add(found.location.stored_size)));
        }
    }
    bail!("it is a tar without a .vmdk, and no OVA then")
}

/// A part of a file.
struct Part {
    source: FileSource,
    range: Range<u64>,
}

impl Source for Part {
    fn len(&self) -> u64 {
        self.range.end - self.range.start
    }

    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<()> {
        let end = offset.checked_add(buffer.len() as u64).filter(|end| *end <= self.len());
        end.ok_or(io::ErrorKind::UnexpectedEof)?;
        self.source.read_at(buffer, self.range.start + offset)
    }

    fn next_data(&self, offset: u64) -> io::Result<Option<Range<u64>>> {
        if offset >= self.len() {
            return Ok(None);
        }
        let found = self.source.next_data(self.range.start + offset)?;
        let found = found.filter(|found| found.start < self.range.end);
        Ok(found
            .map(|found| found.start - self.range.start..found.end.min(self.range.end) - self.range.start))
    }
}
