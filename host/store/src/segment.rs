//! Disks composed of parts of files.

use crate::error::Kind;
use crate::{Error, Store, pending};
use kiln_disk::erofs::{BLOCK_SIZE, Layout};
use kiln_image::tree::Tree;
use std::fs::File;
use std::io::{self, BufWriter, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::FileExt;
use std::sync::Arc;

/// A run of a file on a disk. On the disk it is followed by zeros up to a whole number of
/// [`BLOCK_SIZE`] bytes.
#[derive(Debug, Clone)]
pub struct Segment {
    /// The file. Shared: use positioned reads.
    pub file: Arc<File>,
    /// First byte in the file.
    pub offset: u64,
    /// Bytes.
    pub length: u64,
}

impl Segment {
    /// All of a file.
    ///
    /// # Errors
    /// When its size cannot be asked for.
    pub fn whole(file: File) -> io::Result<Self> {
        let length = file.metadata()?.len();
        Ok(Self { file: Arc::new(file), offset: 0, length })
    }

    /// Bytes on the disk, the zeros behind included.
    pub fn padded_length(&self) -> u64 {
        self.length.next_multiple_of(BLOCK_SIZE)
    }

    /// Reads the run from its start, without the zeros behind.
    pub fn reader(&self) -> SegmentReader {
        SegmentReader { segment: self.clone(), position: 0 }
    }
}

/// Reads a segment without moving the position of its file, which others may use at the same time.
#[derive(Debug, Clone)]
pub struct SegmentReader {
    segment: Segment,
    /// Bytes from the segment's start.
    position: u64,
}

impl Read for SegmentReader {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let left = self.segment.length.saturating_sub(self.position);
        let wanted = usize::try_from(left).unwrap_or(usize::MAX).min(buffer.len());
        if wanted == 0 {
            return Ok(0);
        }
        let count = self.segment.file.read_at(&mut buffer[..wanted], self.segment.offset + self.position)?;
        self.position += count as u64;
        Ok(count)
    }
}

impl Seek for SegmentReader {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        let position = match to {
            SeekFrom::Start(position) => Some(position),
            SeekFrom::Current(by) => self.position.checked_add_signed(by),
            SeekFrom::End(by) => self.segment.length.checked_add_signed(by),
        };
        self.position = position.ok_or(io::ErrorKind::InvalidInput)?;
        Ok(self.position)
    }
}

impl Store {
    /// Makes a disk of a tree whose extents refer to `sources`, such as a build's contents: the index,
    /// which goes with its last user, and then the sources.
    ///
    /// Extents that start on a [`BLOCK_SIZE`] boundary of their source stay where they are, others
    /// are copied behind the index.
    ///
    /// # Errors
    /// When the tree cannot be laid out, a source not be read or the index not be written.
    pub fn compose(&self, tree: &Tree, sources: &[Segment]) -> Result<Vec<Segment>, Error> {
        let layout = layout(tree, sources)?;
        let file = self.temporary_file()?;
        let written = write_index(&layout, sources, BufWriter::new(&file));
        written.map_err(|e| Error::writing(&self.tmp(), e, |source| Kind::Layout { source }))?;
        let index = Segment { file: Arc::new(file), offset: 0, length: layout.index_length() };
        Ok([index].into_iter().chain(sources.iter().cloned()).collect())
    }

    /// A file without a name, empty, on the store's disk: for what goes with the process, such as
    /// scratch disks.
    ///
    /// # Errors
    /// When it cannot be made.
    pub fn temporary_file(&self) -> Result<File, Error> {
        pending::temporary_file(&self.tmp())
    }
}

pub(crate) fn layout<'t>(tree: &'t Tree, sources: &[Segment]) -> Result<Layout<'t>, Error> {
    let lengths: Vec<u64> = sources.iter().map(|source| source.length).collect();
    Ok(Layout::new(tree, &lengths).map_err(|source| Kind::Layout { source })?)
}

pub(crate) fn write_index(
    layout: &Layout<'_>,
    sources: &[Segment],
    out: impl Write,
) -> Result<(), kiln_disk::Error> {
    let mut read = |source: u32, offset: u64, buffer: &mut [u8]| {
        let segment = usize::try_from(source).ok().and_then(|source| sources.get(source));
        let segment = segment.ok_or(io::ErrorKind::InvalidInput)?;
        segment.file.read_exact_at(buffer, segment.offset + offset)
    };
    layout.write(out, &mut read)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sample::Sample;
    use kiln_image::entry::Metadata;
    use kiln_image::tree::{Content, Extent, Node};

    /// A tree of one file, at this offset of its source.
    fn tree(source_offset: u64, length: u64) -> Tree {
        let extents = vec![Extent { file_offset: 0, length, source: 0, source_offset }];
        let content = Content::File { size: length, extents };
        let mut tree = Tree::new();
        let id = tree.insert(Node { metadata: Metadata::default(), content });
        tree.children_mut(Tree::ROOT).unwrap().insert(b"file".to_vec(), id);
        tree
    }

    fn source(sample: &Sample, offset: u64) -> Segment {
        std::fs::write(sample.path("source"), [b'x'; 5000]).unwrap();
        let file = Arc::new(File::open(sample.path("source")).unwrap());
        Segment { file, offset, length: 5000 - offset }
    }

    fn bytes(segment: &Segment) -> Vec<u8> {
        let mut bytes = vec![0; segment.length as usize];
        segment.file.read_exact_at(&mut bytes, segment.offset).unwrap();
        bytes
    }

    #[test]
    fn the_index_comes_first_and_leaves_no_name() {
        let sample = Sample::new(&[]);
        let segments = sample.store().compose(&tree(512, 1000), &[source(&sample, 0)]).unwrap();
        assert_eq!(segments.iter().map(Segment::padded_length).collect::<Vec<_>>(), [2048, 5120]);
        // EROFS_SUPER_MAGIC_V1
        assert_eq!(bytes(&segments[0])[1024..1028], 0xe0f5_e1e2_u32.to_le_bytes());
        assert_eq!(std::fs::read_dir(sample.store().tmp()).unwrap().count(), 0);
    }

    #[test]
    fn alignment_counts_from_the_segments_start() {
        let sample = Sample::new(&[]);
        let aligned = sample.store().compose(&tree(0, 1000), &[source(&sample, 7)]).unwrap();
        assert!(!bytes(&aligned[0]).contains(&b'x'));
        let misaligned = sample.store().compose(&tree(7, 1000), &[source(&sample, 0)]).unwrap();
        assert_eq!(bytes(&misaligned[0]).iter().filter(|byte| **byte == b'x').count(), 1000);
    }

    #[test]
    fn a_segment_reads_as_its_run_only() {
        let sample = Sample::new(&[]);
        std::fs::write(sample.path("source"), b"0123456789").unwrap();
        let file = Arc::new(File::open(sample.path("source")).unwrap());
        let mut reader = Segment { file, offset: 2, length: 5 }.reader();
        let mut text = String::new();
        reader.read_to_string(&mut text).unwrap();
        assert_eq!(text, "23456");
        assert_eq!(reader.seek(SeekFrom::End(-2)).unwrap(), 3);
        text.clear();
        reader.read_to_string(&mut text).unwrap();
        assert_eq!(text, "56");
        assert!(reader.seek(SeekFrom::Current(-6)).is_err());
        reader.seek(SeekFrom::Start(u64::MAX)).unwrap();
        assert_eq!(reader.read(&mut [0]).unwrap(), 0);
    }

    #[test]
    fn a_source_that_is_shorter_than_it_was_said_is_an_error() {
        let sample = Sample::new(&[]);
        let mut short = source(&sample, 0);
        short.length = 9000;
        let error = sample.store().compose(&tree(7001, 1000), &[short]).unwrap_err();
        assert_eq!(error.to_string(), "cannot lay out a disk over the layers");
        assert!(!error.is_full());
    }
}
