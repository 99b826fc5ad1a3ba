//! Files of virtual disks by somebody who means harm. An input is a format, and pieces of a sparse file; checksums are
//! not looked at, or nothing would be read.
//!
//! A file is refused, or its disk is read to some length: only what is within the file is asked for, ranges of data are in order
//! and on the disk, reading in pieces gives the same as reading at once. A small disk is the same when it is written in
//! any format and read again, and the same file when it is written twice.

use kiln_disk::formats::{self, DiskFormat, Options, qcow2};
use kiln_disk::sparse::{Source, Target};
use std::{collections::BTreeMap, io, ops::Range, sync::Arc};

/// Bytes of a file at most.
const FILE_MAX: u64 = 16 << 20;
/// Bytes of a disk that are read at most.
const READ_MAX: u64 = 4 << 20;
/// Bytes of a disk that is written again.
const REWRITE_MAX: u64 = 8 << 20;
/// Bytes of a page of a file.
const PAGE: u64 = 4096;
/// Bytes before the pieces: the format, another one, the file's length.
const START: usize = 6;

/// Plays an input.
pub fn play(input: &[u8]) {
    let Some((format, other, file)) = file(input) else { return };
    let file: Arc<File> = Arc::new(file);
    let Ok(disk) = open(&file, format) else { return };
    walk(&*disk);
    if disk.len() <= REWRITE_MAX {
        rewrite(&*disk, other);
    }
}

fn open(file: &Arc<File>, format: DiskFormat) -> Result<Box<dyn Source>, kiln_disk::Error> {
    if format != DiskFormat::Qcow2 {
        return formats::open(Box::new(Shared(file.clone())), format);
    }
    let image = qcow2::Image::open(Box::new(Shared(file.clone())))?;
    // Whatever is below: here the file itself.
    if image.backing_file().is_some() {
        Ok(image.over(Box::new(Shared(file.clone()))))
    } else {
        image.alone()
    }
}

fn walk(disk: &dyn Source) {
    let (mut position, mut read) = (0, 0);
    let mut buffer = vec![0; 100_000];
    while read < READ_MAX {
        let Ok(Some(range)) = disk.next_data(position) else { break };
        assert!(range.start >= position && range.start < range.end && range.end <= disk.len(), "{range:?}");
        let part = (range.end - range.start).min(buffer.len() as u64);
        let bytes = &mut buffer[..part as usize];
        if disk.read_at(bytes, range.start).is_ok() {
            let mut one = [0];
            disk.read_at(&mut one, range.start + part - 1).expect("it could be read before");
            assert_eq!(one[..], bytes[bytes.len() - 1..]);
        }
        (position, read) = (range.start + part, read + part);
    }
    assert!(disk.read_at(&mut [0; 2], disk.len().saturating_sub(1)).is_err(), "there is nothing behind it");
}

/// Writes what can be read as another format, and reads that.
fn rewrite(disk: &dyn Source, format: DiskFormat) {
    let mut bytes = vec![0; disk.len() as usize];
    if bytes.is_empty() || disk.read_at(&mut bytes, 0).is_err() {
        return;
    }
    let write = || {
        let mut file = File::default();
        formats::write(disk, &Options::new(format, [1; 16]), &mut file)
            .expect("it can be read and is not large");
        file
    };
    let file = write();
    assert!(file == write(), "it is not the same again");
    let again = formats::open(Box::new(Shared(Arc::new(file))), format).expect("it is ours");
    let mut read = vec![0; bytes.len()];
    again.read_at(&mut read, 0).expect("it is ours");
    assert!(bytes == read, "as {format} it is another disk");
}

/// The formats and the file of an input.
fn file(input: &[u8]) -> Option<(DiskFormat, DiskFormat, File)> {
    let (start, mut rest) = input.split_first_chunk::<START>()?;
    let format = |byte: u8| DiskFormat::ALL[usize::from(byte) % DiskFormat::ALL.len()];
    let length = u64::from(u32::from_le_bytes([start[2], start[3], start[4], start[5]])) % FILE_MAX;
    let mut file = File { length, pages: BTreeMap::new() };
    while let Some((head, tail)) = rest.split_first_chunk::<4>() {
        let offset = u64::from(u32::from_le_bytes([head[0], head[1], head[2], 0]));
        let piece = &tail[..tail.len().min(usize::from(head[3]))];
        let space = length.saturating_sub(offset).min(piece.len() as u64);
        file.write_at(&piece[..space as usize], offset).expect("memory takes it");
        rest = &tail[piece.len()..];
    }
    file.length = length;
    Some((format(start[0]), format(start[1]), file))
}

/// A sparse file.
#[derive(Default, PartialEq, Eq)]
struct File {
    length: u64,
    pages: BTreeMap<u64, Vec<u8>>,
}

impl File {
    fn read(&self, buffer: &mut [u8], offset: u64) {
        for (byte, position) in buffer.chunks_mut(1).zip(offset..) {
            byte[0] = self.pages.get(&(position / PAGE)).map_or(0, |page| page[(position % PAGE) as usize]);
        }
    }
}

impl Target for File {
    fn write_at(&mut self, bytes: &[u8], offset: u64) -> io::Result<()> {
        for (byte, position) in bytes.iter().zip(offset..) {
            let page = self.pages.entry(position / PAGE).or_insert_with(|| vec![0; PAGE as usize]);
            page[(position % PAGE) as usize] = *byte;
        }
        self.length = self.length.max(offset + bytes.len() as u64);
        Ok(())
    }

    fn set_len(&mut self, length: u64) -> io::Result<()> {
        self.length = length;
        Ok(())
    }
}

/// A file that is opened.
struct Shared(Arc<File>);

impl Source for Shared {
    fn len(&self) -> u64 {
        self.0.length
    }

    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<()> {
        let end = offset.checked_add(buffer.len() as u64);
        if end.is_none_or(|end| end > self.len()) {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        assert!(buffer.len() <= 8 << 20, "that much at once");
        self.0.read(buffer, offset);
        Ok(())
    }

    fn next_data(&self, offset: u64) -> io::Result<Option<Range<u64>>> {
        let page = self.0.pages.range(offset / PAGE..).next().map(|(page, _)| *page);
        let range = page.map(|page| offset.max(page * PAGE)..((page + 1) * PAGE).min(self.0.length));
        Ok(range.filter(|range| !range.is_empty()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::seed;
    use kiln_disk::formats::{vhd, vmdk};

    /// The input that is a file.
    fn input(format: DiskFormat, other: DiskFormat, file: &File) -> Vec<u8> {
        let number = |format| DiskFormat::ALL.iter().position(|known| *known == format).unwrap() as u8;
        let mut input = vec![number(format), number(other)];
        input.extend((file.length as u32).to_le_bytes());
        for (page, bytes) in &file.pages {
            for (index, piece) in
                bytes.chunks(32).enumerate().filter(|(_, piece)| piece.iter().any(|byte| *byte != 0))
            {
                let offset = (page * PAGE) as u32 + index as u32 * 32;
                input.extend(&offset.to_le_bytes()[..3]);
                input.push(piece.len() as u8);
                input.extend(piece);
            }
        }
        input
    }

    #[test]
    fn small_disks_of_every_format() {
        let mut disk = File::default();
        disk.write_at(b"start", 0).unwrap();
        disk.write_at(&[7; 300], 200_000).unwrap();
        disk.set_len(1 << 20).unwrap();
        let disk = Shared(Arc::new(disk));
        let qcow2 = |compression| {
            Options::Qcow2(qcow2::Options {
                compression: Some(compression),
                cluster_bytes: 512,
                ..Default::default()
            })
        };
        let stream =
            vmdk::Options { subformat: vmdk::Subformat::StreamOptimized, ..vmdk::Options::new([2; 16]) };
        let fixed = vhd::Options { layout: vhd::Layout::Fixed, ..vhd::Options::new([2; 16]) };
        let mut ways = DiskFormat::ALL.map(|format| Options::new(format, [2; 16])).to_vec();
        ways.extend([
            qcow2(qcow2::Compression::Zlib(6)),
            qcow2(qcow2::Compression::Zstd(3)),
            Options::Vmdk(stream),
            Options::Vhd(fixed),
        ]);
        for (options, other) in ways.iter().zip(DiskFormat::ALL.into_iter().cycle()) {
            let mut written = File::default();
            formats::write(&disk, options, &mut written).unwrap();
            let input = input(options.format(), other, &written);
            let (format, _, read) = file(&input).unwrap();
            assert!(read.length == written.length && open(&Arc::new(read), format).is_ok(), "{format}");
            play(&input);
            seed::keep("disk_format", &input);
        }
    }
}
