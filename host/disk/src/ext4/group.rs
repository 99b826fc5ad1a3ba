//! Group descriptors: <https://www.kernel.org/doc/html/latest/filesystems/ext4/group_descr.html>

use super::{BLOCK_SIZE, Geometry};
use crate::field::{high_u32, low_u32, put_u16, put_u32};

/// The inode bitmap was never written and no inode is used.
const EXT4_BG_INODE_UNINIT: u16 = 1;
/// The block bitmap was never written: only the group's own metadata is used.
const EXT4_BG_BLOCK_UNINIT: u16 = 2;
/// The inode table is zero.
const EXT4_BG_INODE_ZEROED: u16 = 4;
/// Where the checksum is in the descriptor; it covers what is around it.
const BG_CHECKSUM: usize = 0x1e;

/// All descriptors, padded with zeros to whole blocks.
pub(super) fn descriptors(geometry: &Geometry, uuid: &[u8; 16]) -> Vec<u8> {
    let mut table = Vec::with_capacity((geometry.descriptor_blocks() * BLOCK_SIZE) as usize);
    for group in 0..geometry.groups {
        table.extend(descriptor(geometry, group, uuid));
    }
    table.resize((geometry.descriptor_blocks() * BLOCK_SIZE) as usize, 0);
    table
}

fn descriptor(geometry: &Geometry, group: u64, uuid: &[u8; 16]) -> Vec<u8> {
    let mut bytes = vec![0; geometry.descriptor_size as usize];
    let block_bitmap = geometry.block_bitmap(group);
    let inode_bitmap = geometry.inode_bitmap(group);
    let inode_table = geometry.inode_table(group);
    put_u32(&mut bytes, 0x00, low_u32(block_bitmap)); // bg_block_bitmap_lo
    put_u32(&mut bytes, 0x04, low_u32(inode_bitmap)); // bg_inode_bitmap_lo
    put_u32(&mut bytes, 0x08, low_u32(inode_table)); // bg_inode_table_lo
    put_u16(&mut bytes, 0x0c, geometry.free_blocks(group) as u16); // bg_free_blocks_count_lo
    put_u16(&mut bytes, 0x0e, geometry.free_inodes(group) as u16); // bg_free_inodes_count_lo
    put_u16(&mut bytes, 0x10, u16::from(group == 0)); // bg_used_dirs_count_lo
    put_u16(&mut bytes, 0x12, flags(geometry, group)); // bg_flags
    put_u16(&mut bytes, 0x1c, geometry.free_inodes(group) as u16); // bg_itable_unused_lo
    if geometry.is_64bit() {
        put_u32(&mut bytes, 0x20, high_u32(block_bitmap)); // bg_block_bitmap_hi
        put_u32(&mut bytes, 0x24, high_u32(inode_bitmap)); // bg_inode_bitmap_hi
        put_u32(&mut bytes, 0x28, high_u32(inode_table)); // bg_inode_table_hi
    }
    let checksum = checksum(&bytes, low_u32(group), uuid);
    put_u16(&mut bytes, BG_CHECKSUM, checksum);
    bytes
}

fn flags(geometry: &Geometry, group: u64) -> u16 {
    let inodes = if group == 0 { 0 } else { EXT4_BG_INODE_UNINIT };
    let written = group == 0 || group == geometry.groups - 1;
    let blocks = if written { 0 } else { EXT4_BG_BLOCK_UNINIT };
    EXT4_BG_INODE_ZEROED | inodes | blocks
}

fn checksum(descriptor: &[u8], group: u32, uuid: &[u8; 16]) -> u16 {
    let sum = crc16(u16::MAX, uuid);
    let sum = crc16(sum, &group.to_le_bytes());
    let sum = crc16(sum, &descriptor[..BG_CHECKSUM]);
    crc16(sum, &descriptor[BG_CHECKSUM + 2..])
}

/// CRC-16 with the reversed polynomial 0x8005, as the kernel's `crc16`.
fn crc16(seed: u16, bytes: &[u8]) -> u16 {
    bytes.iter().fold(seed, |sum, byte| {
        (0..8).fold(sum ^ u16::from(*byte), |sum, _| (sum >> 1) ^ if sum & 1 == 1 { 0xa001 } else { 0 })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn crc16_gives_the_check_value_of_its_catalogue_entry() {
        // CRC-16/MODBUS: this polynomial and this seed.
        assert_eq!(crc16(u16::MAX, b"123456789"), 0x4b37);
    }
}
