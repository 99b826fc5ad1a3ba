//! The superblock, `struct erofs_super_block`.

use super::{BLOCK_BITS, BLOCK_SIZE};
use crate::field::{put_u16, put_u32, put_u64};

/// Bytes from the start of the disk.
pub(super) const OFFSET: u64 = 1024;
/// Bytes of the superblock itself.
pub(super) const SIZE: u64 = 128;

const EROFS_SUPER_MAGIC_V1: u32 = 0xe0f5_e1e2;
const EROFS_FEATURE_COMPAT_SB_CHKSUM: u32 = 1;
const EROFS_FEATURE_COMPAT_MTIME: u32 = 2;
const EROFS_FEATURE_INCOMPAT_CHUNKED_FILE: u32 = 4;
/// Bytes from the start of the superblock.
const MAGIC: usize = 0x00;
const CHECKSUM: usize = 0x04;
const BLKSZBITS: usize = 0x0c;
const BLOCKS: usize = 0x24;

/// What differs from one index to the next.
#[derive(Debug, Clone, Copy)]
pub(super) struct Superblock {
    /// Binary logarithm of the block size.
    pub(super) block_bits: u8,
    pub(super) root_nid: u16,
    /// Number of inodes.
    pub(super) inodes: u64,
    /// Blocks of the whole disk, sources included.
    pub(super) blocks: u32,
    /// Whether any file is `CHUNK_BASED`.
    pub(super) chunked: bool,
}

impl Superblock {
    /// The disk from its start to the first block boundary behind the superblock. UUID, volume name
    /// and build time are zero: an index has no other identity than its bytes.
    pub(super) fn encode(&self) -> Vec<u8> {
        let mut start = vec![0; (OFFSET + SIZE).next_multiple_of(1 << self.block_bits) as usize];
        let bytes = &mut start[OFFSET as usize..];
        let incompat = if self.chunked { EROFS_FEATURE_INCOMPAT_CHUNKED_FILE } else { 0 };
        put_u32(bytes, MAGIC, EROFS_SUPER_MAGIC_V1);
        put_u32(bytes, 0x08, EROFS_FEATURE_COMPAT_SB_CHKSUM | EROFS_FEATURE_COMPAT_MTIME);
        bytes[BLKSZBITS] = self.block_bits;
        put_u16(bytes, 0x0e, self.root_nid);
        put_u64(bytes, 0x10, self.inodes); // inos
        put_u32(bytes, BLOCKS, self.blocks);
        put_u32(bytes, 0x50, incompat); // feature_incompat
        let checksum = crc32c(bytes);
        put_u32(bytes, CHECKSUM, checksum);
        start
    }
}

/// Bytes at the start of an index from which [`disk_length`] tells whether it is undamaged: to the end
/// of the block that the superblock is in.
pub const START_LENGTH: usize = (OFFSET + BLOCK_SIZE) as usize;

/// The length in bytes of the disk that an index was written for, from the index's start: what the
/// kernel looks at before it mounts. `None` when it is no index of ours, or a damaged one.
pub fn disk_length(start: &[u8; START_LENGTH]) -> Option<u64> {
    let mut summed = start[OFFSET as usize..].to_vec();
    let u32_at = |at: usize| Some(u32::from_le_bytes(*start[OFFSET as usize + at..].first_chunk()?));
    put_u32(&mut summed, CHECKSUM, 0);
    let is_intact = u32_at(MAGIC)? == EROFS_SUPER_MAGIC_V1
        && summed[BLKSZBITS] == BLOCK_BITS
        && u32_at(CHECKSUM)? == crc32c(&summed);
    is_intact.then_some(u64::from(u32_at(BLOCKS)?) * BLOCK_SIZE)
}

/// CRC-32C with all bits set at the start and, as the kernel's `crc32c` has it, not inverted at the
/// end.
fn crc32c(bytes: &[u8]) -> u32 {
    bytes.iter().fold(u32::MAX, |sum, byte| {
        (0..8).fold(sum ^ u32::from(*byte), |sum, _| (sum >> 1) ^ if sum & 1 == 1 { 0x82f6_3b78 } else { 0 })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn crc32c_gives_the_check_value_of_its_catalogue_entry() {
        assert_eq!(!crc32c(b"123456789"), 0xe306_9283);
    }

    #[test]
    fn an_index_tells_its_disks_length_unless_it_is_damaged() {
        let superblock =
            Superblock { block_bits: BLOCK_BITS, root_nid: 40, inodes: 1, blocks: 77, chunked: false };
        let encoded = superblock.encode();
        let mut start = [0; START_LENGTH];
        start.copy_from_slice(&encoded[..START_LENGTH]);
        assert_eq!(disk_length(&start), Some(77 * BLOCK_SIZE));
        for at in (OFFSET as usize)..START_LENGTH {
            let mut damaged = start;
            damaged[at] ^= 0x10;
            assert_eq!(disk_length(&damaged), None, "byte {at}");
        }
    }
}
