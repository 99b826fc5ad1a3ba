//! An empty ext4 file system for a scratch disk: a few writes into a sparse file, however large.
//!
//! # How a terabyte costs a few hundred kilobytes
//! An ext4 disk is cut into groups of 128 MiB, each with two bitmaps and a table of inodes. With
//! group checksums (`gdt_csum`) a group's descriptor can say that its bitmaps were never written
//! and that its inode table is zero already, which in a sparse file is true: the kernel then makes
//! the bitmaps up when it first uses the group, and starts no thread to zero tables. So only the
//! superblock, the descriptors, group 0 and the last bitmap are written.
//!
//! What makes a file system survive crashes is left out, because a scratch disk does not outlive
//! its machine: no journal, no backup superblocks (`sparse_super2` with none named), no metadata
//! checksums. Each group keeps its bitmaps and inodes to itself (no `flex_bg`): a group can only be
//! left unwritten when it holds nobody else's metadata.
//!
//! The format is described in <https://www.kernel.org/doc/html/latest/filesystems/ext4/>.

mod group;
mod superblock;

use crate::Error;
use crate::error::Kind;
use crate::field::{low_u32, put_u16, put_u32};

/// Smallest disk that is made, in bytes.
pub const MIN_SIZE: u64 = 16 << 20;
/// Largest disk that is made, in bytes: the descriptors of more would not fit beside group 0's
/// inode table.
pub const MAX_SIZE: u64 = 64 << 40;

const BLOCK_SIZE: u64 = 4096;
/// As many as one block of bitmap can describe.
const BLOCKS_PER_GROUP: u64 = 8 * BLOCK_SIZE;
const INODE_SIZE: u64 = 256;
const ROOT_INODE: u64 = 2;
/// Inodes below this are the file system's own.
const FIRST_INODE: u64 = 11;
/// The two bitmaps at the start of each group, in blocks.
const BITMAP_BLOCKS: u64 = 2;
/// A shorter rest of a group is left unused, in blocks beyond its own metadata.
const MIN_DATA_BLOCKS: u64 = 64;

/// What the file system is to be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Options {
    /// Bytes of the disk, [`MIN_SIZE`] to [`MAX_SIZE`].
    pub size: u64,
    /// Identity of the file system.
    pub uuid: [u8; 16],
    /// Seed of the directories' hashes: fixed, so that the order of readdir(3) is.
    pub hash_seed: [u8; 16],
    /// Volume name, padded with zeros.
    pub volume_name: [u8; 16],
}

/// Bytes to put on the disk; what no write covers is zero.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Write {
    /// Bytes from the start of the disk.
    pub offset: u64,
    /// What to write there.
    pub bytes: Vec<u8>,
}

/// The writes that turn a disk of zeros into an empty ext4 file system, by rising offset. The root
/// directory is owned by root with mode 0755 and has no `lost+found`.
///
/// # Errors
/// When the size is outside [`MIN_SIZE`] to [`MAX_SIZE`].
pub fn make(options: &Options) -> Result<Vec<Write>, Error> {
    if !(MIN_SIZE..=MAX_SIZE).contains(&options.size) {
        return Err(Kind::ScratchSize(options.size).into());
    }
    let geometry = Geometry::of(options.size);
    let mut first = superblock::encode(options, &geometry);
    first.extend(group::descriptors(&geometry, &options.uuid));
    let mut writes = vec![
        Write { offset: 0, bytes: first },
        at_block(geometry.block_bitmap(0), geometry.block_bitmap_of(0)),
        at_block(geometry.inode_bitmap(0), geometry.first_inode_bitmap()),
        Write { offset: geometry.inode_offset(ROOT_INODE), bytes: root_inode(&geometry) },
        at_block(geometry.root_directory(), root_directory()),
    ];
    if geometry.groups > 1 {
        // The kernel can pad this one itself too, but e2fsprogs expects it on the disk.
        let last = geometry.groups - 1;
        writes.push(at_block(geometry.block_bitmap(last), geometry.block_bitmap_of(last)));
    }
    Ok(writes)
}

fn at_block(block: u64, bytes: Vec<u8>) -> Write {
    Write { offset: block * BLOCK_SIZE, bytes }
}

/// Where everything is, in blocks unless named otherwise.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Geometry {
    blocks: u64,
    groups: u64,
    inodes_per_group: u64,
    /// Bytes of a group descriptor: 64 where block numbers need more than 32 bits.
    descriptor_size: u64,
}

impl Geometry {
    fn of(size: u64) -> Self {
        let blocks = size / BLOCK_SIZE;
        let groups = blocks.div_ceil(BLOCKS_PER_GROUP);
        let descriptor_size = if blocks > u64::from(u32::MAX) { 64 } else { 32 };
        let inodes_per_group = inodes_per_group(blocks, groups);
        let mut geometry = Self { blocks, groups, inodes_per_group, descriptor_size };
        let rest = blocks % BLOCKS_PER_GROUP;
        let least = BITMAP_BLOCKS + geometry.inode_table_blocks() + MIN_DATA_BLOCKS;
        if groups > 1 && rest != 0 && rest < least {
            geometry.blocks -= rest;
            geometry.groups -= 1;
        }
        geometry
    }

    fn inodes(&self) -> u64 {
        self.groups * self.inodes_per_group
    }

    fn inode_table_blocks(&self) -> u64 {
        self.inodes_per_group * INODE_SIZE / BLOCK_SIZE
    }

    fn descriptor_blocks(&self) -> u64 {
        (self.groups * self.descriptor_size).div_ceil(BLOCK_SIZE)
    }

    fn is_64bit(&self) -> bool {
        self.descriptor_size == 64
    }

    fn group_start(&self, group: u64) -> u64 {
        group * BLOCKS_PER_GROUP
    }

    fn group_blocks(&self, group: u64) -> u64 {
        (self.blocks - self.group_start(group)).min(BLOCKS_PER_GROUP)
    }

    /// Superblock and descriptors are in group 0 only.
    fn block_bitmap(&self, group: u64) -> u64 {
        let before = if group == 0 { 1 + self.descriptor_blocks() } else { 0 };
        self.group_start(group) + before
    }

    fn inode_bitmap(&self, group: u64) -> u64 {
        self.block_bitmap(group) + 1
    }

    fn inode_table(&self, group: u64) -> u64 {
        self.inode_bitmap(group) + 1
    }

    fn root_directory(&self) -> u64 {
        self.inode_table(0) + self.inode_table_blocks()
    }

    fn used_blocks(&self, group: u64) -> u64 {
        let metadata = self.inode_table(group) + self.inode_table_blocks() - self.group_start(group);
        metadata + u64::from(group == 0)
    }

    fn free_blocks(&self, group: u64) -> u64 {
        self.group_blocks(group) - self.used_blocks(group)
    }

    /// Only the root directory is no overhead.
    fn overhead_blocks(&self) -> u64 {
        (self.groups - 1) * (BITMAP_BLOCKS + self.inode_table_blocks()) + self.used_blocks(0) - 1
    }

    fn free_inodes(&self, group: u64) -> u64 {
        self.inodes_per_group - if group == 0 { FIRST_INODE - 1 } else { 0 }
    }

    /// Bytes from the start of the disk to an inode of group 0. Inodes count from 1.
    fn inode_offset(&self, inode: u64) -> u64 {
        self.inode_table(0) * BLOCK_SIZE + (inode - 1) * INODE_SIZE
    }

    fn block_bitmap_of(&self, group: u64) -> Vec<u8> {
        let mut bitmap = Bitmap::new();
        bitmap.set(0..self.used_blocks(group));
        bitmap.set(self.group_blocks(group)..BLOCKS_PER_GROUP);
        bitmap.0
    }

    fn first_inode_bitmap(&self) -> Vec<u8> {
        let mut bitmap = Bitmap::new();
        bitmap.set(0..FIRST_INODE - 1);
        bitmap.set(self.inodes_per_group..8 * BLOCK_SIZE);
        bitmap.0
    }
}

/// An inode for each 8 KiB of disk: they cost nothing until they are used. Fewer on disks so small
/// that the table would be a good part of it, or so large that inode numbers would run out.
fn inodes_per_group(blocks: u64, groups: u64) -> u64 {
    let mut inodes: u64 = 16384;
    while inodes * INODE_SIZE / BLOCK_SIZE > blocks / 8 || inodes * groups > u64::from(u32::MAX) {
        inodes /= 2;
    }
    inodes
}

/// One block of bits, lowest bit of the first byte first; padding past the end is set.
struct Bitmap(Vec<u8>);

impl Bitmap {
    fn new() -> Self {
        Self(vec![0; BLOCK_SIZE as usize])
    }

    fn set(&mut self, bits: std::ops::Range<u64>) {
        for bit in bits {
            self.0[(bit / 8) as usize] |= 1 << (bit % 8);
        }
    }
}

const S_IFDIR: u16 = 0o040_000;
/// The inode's blocks are a tree of extents.
const EXT4_EXTENTS_FL: u32 = 0x8_0000;
/// Magic number of each node of a tree of extents.
const EXTENT_MAGIC: u16 = 0xf30a;
/// Extents that fit in the inode.
const EXTENTS_IN_INODE: u16 = 4;
const EXTRA_ISIZE: u16 = 32;

fn root_inode(geometry: &Geometry) -> Vec<u8> {
    let mut inode = vec![0; INODE_SIZE as usize];
    put_u16(&mut inode, 0x00, S_IFDIR | 0o755); // i_mode
    put_u32(&mut inode, 0x04, BLOCK_SIZE as u32); // i_size_lo
    put_u16(&mut inode, 0x1a, 2); // i_links_count
    put_u32(&mut inode, 0x1c, (BLOCK_SIZE / 512) as u32); // i_blocks_lo
    put_u32(&mut inode, 0x20, EXT4_EXTENTS_FL); // i_flags
    put_u16(&mut inode, 0x28, EXTENT_MAGIC); // eh_magic
    put_u16(&mut inode, 0x2a, 1); // eh_entries
    put_u16(&mut inode, 0x2c, EXTENTS_IN_INODE); // eh_max
    put_u16(&mut inode, 0x38, 1); // ee_len
    put_u32(&mut inode, 0x3c, low_u32(geometry.root_directory())); // ee_start_lo
    put_u16(&mut inode, 0x80, EXTRA_ISIZE); // i_extra_isize
    inode
}

/// `file_type` of a directory's entry for a directory.
const EXT4_FT_DIR: u8 = 2;
/// Bytes of a directory entry whose name is `.` or `..`.
const SHORT_ENTRY_BYTES: u16 = 12;

fn root_directory() -> Vec<u8> {
    let mut block = vec![0; BLOCK_SIZE as usize];
    let rest = BLOCK_SIZE as u16 - SHORT_ENTRY_BYTES;
    for (offset, rec_len, name) in [(0, SHORT_ENTRY_BYTES, &b"."[..]), (12, rest, b"..")] {
        put_u32(&mut block, offset, ROOT_INODE as u32);
        put_u16(&mut block, offset + 4, rec_len);
        block[offset + 6] = name.len() as u8;
        block[offset + 7] = EXT4_FT_DIR;
        block[offset + 8..offset + 8 + name.len()].copy_from_slice(name);
    }
    block
}

#[cfg(test)]
mod tests;
