//! Whether an index begins as it was written: what the kernel looks at before it mounts.
//!
//! <https://docs.kernel.org/filesystems/erofs.html>

use kiln_disk::erofs::BLOCK_SIZE;
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

/// Bytes from the start of the disk.
const OFFSET: u64 = 1024;
/// Bytes that the checksum covers: to the end of the block that the superblock is in.
const COVERED: usize = BLOCK_SIZE as usize;

const EROFS_SUPER_MAGIC_V1: u32 = 0xe0f5_e1e2;
const MAGIC: usize = 0;
const CHECKSUM: usize = 4;
/// Binary logarithm of the block size.
const BLKSZBITS: usize = 0x0c;
/// Blocks of the whole disk, sources included.
const BLOCKS: usize = 0x24;

/// True when the file begins with a superblock that is undamaged and is one of a disk of this length
/// in bytes.
///
/// # Errors
/// When it cannot be read.
pub(super) fn is_of_disk(index: &File, length: u64) -> io::Result<bool> {
    let mut covered = [0; COVERED];
    match index.read_exact_at(&mut covered, OFFSET) {
        Ok(()) => Ok(is_intact(&covered) && disk_length(&covered) == Some(length)),
        Err(e) if e.kind() == io::ErrorKind::UnexpectedEof => Ok(false),
        Err(e) => Err(e),
    }
}

fn is_intact(covered: &[u8; COVERED]) -> bool {
    let mut summed = *covered;
    summed[CHECKSUM..CHECKSUM + 4].fill(0);
    u32_at(covered, MAGIC) == EROFS_SUPER_MAGIC_V1 && u32_at(covered, CHECKSUM) == crc32c(&summed)
}

fn disk_length(covered: &[u8; COVERED]) -> Option<u64> {
    let block_size = 1_u64.checked_shl(covered[BLKSZBITS].into())?;
    u64::from(u32_at(covered, BLOCKS)).checked_mul(block_size)
}

fn u32_at(bytes: &[u8; COVERED], at: usize) -> u32 {
    u32::from_le_bytes(bytes[at..at + 4].try_into().expect("four bytes"))
}

/// CRC-32C with all bits set at the start and not inverted at the end, as the kernel's `crc32c` has it.
fn crc32c(bytes: &[u8]) -> u32 {
    bytes.iter().fold(u32::MAX, |sum, byte| {
        (0..8).fold(sum ^ u32::from(*byte), |sum, _| (sum >> 1) ^ if sum & 1 == 1 { 0x82f6_3b78 } else { 0 })
    })
}
