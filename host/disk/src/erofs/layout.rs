//! Where every inode, block and source is: worked out from sizes alone, before a byte is written.

use super::file::{File, Form};
use super::inode::{self, DataLayout};
use super::superblock;
use super::walk::{Visit, Walk};
use super::{BLOCK_BITS, directory, xattr};
use crate::Error;
use crate::error::Kind;
use kiln_image::path::MAX_PATH;
use kiln_image::tree::{Content, NodeId, Tree};
use std::collections::BTreeMap;

/// A tree laid out as an EROFS index in front of its sources.
#[derive(Debug)]
pub struct Layout<'t> {
    pub(super) walk: Walk<'t>,
    pub(super) inodes: Vec<Placed<'t>>,
    pub(super) block_bits: u8,
    index_length: u64,
    /// Bytes from the start of the disk.
    source_offsets: Vec<u64>,
    disk_length: u64,
}

/// An inode with its place.
#[derive(Debug)]
pub(super) struct Placed<'t> {
    pub(super) visit: Visit<'t>,
    /// Bytes from the start of the disk.
    pub(super) offset: u64,
    pub(super) xattrs: Vec<u8>,
    pub(super) data: Data<'t>,
    /// Whether the data directly follows the attributes.
    pub(super) inline: bool,
    /// First byte on the disk of the data that is neither inline nor in a source.
    pub(super) data_offset: u64,
}

/// What an inode has to have written besides itself.
#[derive(Debug)]
pub(super) enum Data<'t> {
    Directory { children: &'t BTreeMap<Vec<u8>, NodeId>, size: u64 },
    Symlink(&'t [u8]),
    File(File),
    Device(u32),
    Fifo,
}

impl<'t> Layout<'t> {
    /// Lays out `tree` whose extents count sources in the order of `source_lengths`, in bytes.
    ///
    /// # Errors
    /// When a node cannot be told in EROFS (each names its path), an extent is outside of its file
    /// or source, or the disk would have more than 2^32 blocks (2 TiB).
    pub fn new(tree: &'t Tree, source_lengths: &[u64]) -> Result<Self, Error> {
        Self::with_block_bits(tree, source_lengths, BLOCK_BITS)
    }

    /// Other block sizes are for tests with readers that do not know the small one.
    ///
    /// # Errors
    /// As [`new`](Self::new).
    #[doc(hidden)]
    pub fn with_block_bits(tree: &'t Tree, source_lengths: &[u64], block_bits: u8) -> Result<Self, Error> {
        let walk = Walk::new(tree)?;
        let mut inodes = Vec::with_capacity(walk.visits.len());
        for (position, visit) in walk.visits.iter().enumerate() {
            let placed = Placed::new(*visit, source_lengths, block_bits);
            inodes.push(placed.map_err(|kind| Error::at(&walk.path(position), kind))?);
        }
        let block_size = 1 << block_bits;
        let inodes_end = place_inodes(&mut inodes, block_size)?;
        let index_length = place_data(&mut inodes, inodes_end, block_size)?;
        let (source_offsets, disk_length) = place_sources(source_lengths, index_length, block_size)?;
        Ok(Self { walk, inodes, block_bits, index_length, source_offsets, disk_length })
    }

    /// Bytes of the index, whole blocks.
    pub fn index_length(&self) -> u64 {
        self.index_length
    }

    /// Where each source starts, in bytes from the start of the disk.
    pub fn source_offsets(&self) -> &[u64] {
        &self.source_offsets
    }

    /// Bytes of the disk: index and sources, each padded to whole blocks.
    pub fn disk_length(&self) -> u64 {
        self.disk_length
    }

    pub(super) fn block_size(&self) -> u64 {
        1 << self.block_bits
    }
}

impl<'t> Placed<'t> {
    fn new(visit: Visit<'t>, source_lengths: &[u64], block_bits: u8) -> Result<Self, Kind> {
        let xattrs = xattr::encode(&visit.node.metadata.xattrs)?;
        let data = Data::new(&visit.node.content, source_lengths, block_bits)?;
        let mut placed = Self { visit, offset: 0, xattrs, data, inline: false, data_offset: 0 };
        placed.inline = placed.fits_inline(1 << block_bits);
        Ok(placed)
    }

    /// Inline data must not cross a block; older kernels want the inode itself in the same one.
    fn fits_inline(&self, block_size: u64) -> bool {
        let inlined = matches!(self.data, Data::Directory { .. } | Data::Symlink(_));
        inlined && self.head_bytes() + self.size() <= block_size
    }

    /// Bytes of the inode and its attributes.
    pub(super) fn head_bytes(&self) -> u64 {
        inode::SIZE + self.xattrs.len() as u64
    }

    /// Bytes of the inode and all that directly follows it.
    fn record_bytes(&self) -> u64 {
        let following = match &self.data {
            Data::File(file) => file.table_bytes(),
            _ if self.inline => self.size(),
            _ => 0,
        };
        self.head_bytes() + following
    }

    /// `i_size`.
    pub(super) fn size(&self) -> u64 {
        match &self.data {
            Data::Directory { size, .. } => *size,
            Data::Symlink(target) => target.len() as u64,
            Data::File(file) => file.size,
            Data::Device(_) | Data::Fifo => 0,
        }
    }

    /// Bytes in blocks of the index.
    fn data_bytes(&self) -> u64 {
        match &self.data {
            Data::File(file) => file.copied(),
            _ if self.inline => 0,
            _ => self.size(),
        }
    }

    pub(super) fn layout(&self) -> DataLayout {
        match &self.data {
            Data::File(file) if matches!(file.form, Form::Chunks { .. }) => DataLayout::ChunkBased,
            _ if self.inline => DataLayout::FlatInline,
            _ => DataLayout::FlatPlain,
        }
    }

    pub(super) fn nid(&self) -> u64 {
        self.offset / inode::SLOT_SIZE
    }
}

impl<'t> Data<'t> {
    fn new(content: &'t Content, source_lengths: &[u64], block_bits: u8) -> Result<Self, Kind> {
        Ok(match content {
            Content::Directory(children) => {
                let names = sorted_names(children);
                Self::Directory { children, size: directory::size(names.into_iter(), 1 << block_bits) }
            }
            Content::File { size, extents } => {
                Self::File(File::new(*size, extents, source_lengths, block_bits)?)
            }
            Content::Symlink(target) if target.is_empty() || target.len() > SYMLINK_MAX => {
                return Err(Kind::SymlinkTarget(target.len()));
            }
            Content::Symlink(target) => Self::Symlink(target),
            Content::CharacterDevice { major, minor } | Content::BlockDevice { major, minor } => {
                Self::Device(inode::device_number(*major, *minor).ok_or(Kind::DeviceNumber(*major, *minor))?)
            }
            Content::Fifo => Self::Fifo,
        })
    }
}

/// Longest target of a symbolic link, in bytes: a path without the zero at its end.
const SYMLINK_MAX: usize = MAX_PATH - 1;

/// All names of a directory in the order of their bytes, which does not put `.` and `..` first.
pub(super) fn sorted_names(children: &BTreeMap<Vec<u8>, NodeId>) -> Vec<&[u8]> {
    let mut names: Vec<&[u8]> = vec![b".", b".."];
    names.extend(children.keys().map(Vec::as_slice));
    names.sort();
    names
}

/// Gives each inode its place and returns the end of the last, in bytes. The first, the root, comes
/// straight behind the superblock's block, which its checksum covers.
fn place_inodes(inodes: &mut [Placed<'_>], block_size: u64) -> Result<u64, Kind> {
    let mut end = (superblock::OFFSET + superblock::SIZE).next_multiple_of(block_size);
    for placed in inodes {
        // Twice the slot size, so that no inode crosses a block.
        let mut offset = end.next_multiple_of(inode::SIZE);
        if placed.inline && offset % block_size + placed.record_bytes() > block_size {
            offset = offset.next_multiple_of(block_size);
        }
        placed.offset = offset;
        end = grow(offset, placed.record_bytes())?;
    }
    Ok(end.next_multiple_of(block_size))
}

fn place_data(inodes: &mut [Placed<'_>], start: u64, block_size: u64) -> Result<u64, Kind> {
    let mut end = start;
    for placed in inodes {
        placed.data_offset = end;
        end = grow(end, placed.data_bytes())?.next_multiple_of(block_size);
    }
    Ok(end)
}

fn place_sources(lengths: &[u64], start: u64, block_size: u64) -> Result<(Vec<u64>, u64), Kind> {
    let (mut offsets, mut end) = (Vec::with_capacity(lengths.len()), start);
    for length in lengths {
        offsets.push(end);
        end = grow(end, *length)?.next_multiple_of(block_size);
    }
    let blocks = end / block_size;
    if blocks > u64::from(u32::MAX) { Err(Kind::DiskLength(end, MAX_DISK)) } else { Ok((offsets, end)) }
}

/// Blocks are counted in 32 bits, and the last number means a hole.
const MAX_DISK: u64 = (u32::MAX as u64) << BLOCK_BITS;

fn grow(end: u64, by: u64) -> Result<u64, Kind> {
    // Far below where rounding up could overflow, and above what any block size can tell.
    let limit = u64::MAX >> 8;
    let grown = end.checked_add(by).filter(|end| *end <= limit);
    grown.ok_or(Kind::DiskLength(end.saturating_add(by), MAX_DISK))
}
