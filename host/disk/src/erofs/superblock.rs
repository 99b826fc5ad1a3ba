//! The superblock, `struct erofs_super_block`.

use crate::field::{put_u16, put_u32, put_u64};

/// Bytes from the start of the disk.
pub(super) const OFFSET: u64 = 1024;
/// Bytes of the superblock itself.
pub(super) const SIZE: u64 = 128;

const EROFS_SUPER_MAGIC_V1: u32 = 0xe0f5_e1e2;
const EROFS_FEATURE_COMPAT_SB_CHKSUM: u32 = 1;
const EROFS_FEATURE_COMPAT_MTIME: u32 = 2;
const EROFS_FEATURE_INCOMPAT_CHUNKED_FILE: u32 = 4;
const CHECKSUM: usize = 4;

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
        put_u32(bytes, 0x00, EROFS_SUPER_MAGIC_V1);
        put_u32(bytes, 0x08, EROFS_FEATURE_COMPAT_SB_CHKSUM | EROFS_FEATURE_COMPAT_MTIME);
        bytes[0x0c] = self.block_bits; // blkszbits
        put_u16(bytes, 0x0e, self.root_nid);
        put_u64(bytes, 0x10, self.inodes); // inos
        put_u32(bytes, 0x24, self.blocks);
        put_u32(bytes, 0x50, incompat); // feature_incompat
        let checksum = crc32c(bytes);
        put_u32(bytes, CHECKSUM, checksum);
        start
    }
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
}
