//! Disks composed of parts of files.

use crate::Error;
use crate::error::Kind;
use kiln_disk::erofs::{BLOCK_SIZE, Layout};
use kiln_image::tree::Tree;
use std::fs::File;
use std::io::{self, Write};
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
    /// Bytes on the disk, the zeros behind included.
    pub fn padded_length(&self) -> u64 {
        self.length.next_multiple_of(BLOCK_SIZE)
    }
}

/// A tree as a disk: its index in memory, and its sources.
#[derive(Debug)]
pub struct Composed {
    /// The EROFS index: the disk's first bytes, whole blocks.
    pub index: Vec<u8>,
    /// What follows the index.
    pub sources: Vec<Segment>,
}

/// Makes a disk of a tree whose extents refer to `sources`, such as a build's contents.
///
/// # Errors
/// When the tree cannot be laid out, or a source not be read.
pub fn compose(tree: &Tree, sources: Vec<Segment>) -> Result<Composed, Error> {
    let layout = layout(tree, &sources)?;
    let mut index = Vec::new();
    write_index(&layout, &sources, &mut index).map_err(|source| Kind::Layout { source })?;
    Ok(Composed { index, sources })
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
