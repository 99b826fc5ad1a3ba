//! The superblock: <https://www.kernel.org/doc/html/latest/filesystems/ext4/super.html>

use super::{BLOCK_SIZE, BLOCKS_PER_GROUP, EXTRA_ISIZE, FIRST_INODE, Geometry, INODE_SIZE, Options};
use crate::field::{high_u32, low_u32, put_u16, put_u32};

/// Bytes from the start of the disk; what is before it is left to boot loaders.
const OFFSET: usize = 1024;
const EXT4_SUPER_MAGIC: u16 = 0xef53;
const EXT4_VALID_FS: u16 = 1;
const EXT4_ERRORS_RO: u16 = 2;
const EXT4_DYNAMIC_REV: u32 = 1;
/// Block size is 2 to the power of (10 + this).
const LOG_BLOCK_SIZE: u32 = 2;
const DX_HASH_HALF_MD4: u8 = 1;
/// Directory hashes take `char` as signed, as x86 does.
const EXT2_FLAGS_SIGNED_HASH: u32 = 1;
const EXT4_DEFM_XATTR_USER: u32 = 4;
const EXT4_DEFM_ACL: u32 = 8;

const COMPAT_EXT_ATTR: u32 = 0x8;
const COMPAT_DIR_INDEX: u32 = 0x20;
/// With no group named in `s_backup_bgs`: no backups.
const COMPAT_SPARSE_SUPER2: u32 = 0x200;

const INCOMPAT_FILETYPE: u32 = 0x2;
const INCOMPAT_EXTENTS: u32 = 0x40;
const INCOMPAT_64BIT: u32 = 0x80;
/// Attribute values larger than a block get an inode: up to the 64 KiB Linux allows.
const INCOMPAT_EA_INODE: u32 = 0x400;

const RO_COMPAT_LARGE_FILE: u32 = 0x2;
const RO_COMPAT_HUGE_FILE: u32 = 0x8;
const RO_COMPAT_GDT_CSUM: u32 = 0x10;
const RO_COMPAT_DIR_NLINK: u32 = 0x20;
const RO_COMPAT_EXTRA_ISIZE: u32 = 0x40;

/// Block 0: the boot sector's place, the superblock, zeros.
pub(super) fn encode(options: &Options, geometry: &Geometry) -> Vec<u8> {
    let mut block = vec![0; BLOCK_SIZE as usize];
    let bytes = &mut block[OFFSET..];
    put_counts(bytes, geometry);
    put_state(bytes);
    put_features(bytes, geometry);
    bytes[0x68..0x78].copy_from_slice(&options.uuid); // s_uuid
    bytes[0x78..0x88].copy_from_slice(&options.volume_name); // s_volume_name
    bytes[0xec..0xfc].copy_from_slice(&options.hash_seed); // s_hash_seed
    block
}

fn put_counts(bytes: &mut [u8], geometry: &Geometry) {
    let free_blocks: u64 = (0..geometry.groups).map(|group| geometry.free_blocks(group)).sum();
    let free_inodes: u64 = (0..geometry.groups).map(|group| geometry.free_inodes(group)).sum();
    put_u32(bytes, 0x00, low_u32(geometry.inodes())); // s_inodes_count
    put_u32(bytes, 0x04, low_u32(geometry.blocks)); // s_blocks_count_lo
    put_u32(bytes, 0x0c, low_u32(free_blocks)); // s_free_blocks_count_lo
    put_u32(bytes, 0x10, low_u32(free_inodes)); // s_free_inodes_count
    put_u32(bytes, 0x18, LOG_BLOCK_SIZE); // s_log_block_size
    put_u32(bytes, 0x1c, LOG_BLOCK_SIZE); // s_log_cluster_size
    put_u32(bytes, 0x20, low_u32(BLOCKS_PER_GROUP)); // s_blocks_per_group
    put_u32(bytes, 0x24, low_u32(BLOCKS_PER_GROUP)); // s_clusters_per_group
    put_u32(bytes, 0x28, low_u32(geometry.inodes_per_group)); // s_inodes_per_group
    if geometry.is_64bit() {
        put_u32(bytes, 0x150, high_u32(geometry.blocks)); // s_blocks_count_hi
        put_u32(bytes, 0x158, high_u32(free_blocks)); // s_free_blocks_count_hi
    }
    // Given, so that mounting does not add it up group by group.
    put_u32(bytes, 0x248, low_u32(geometry.overhead_blocks())); // s_overhead_blocks
}

fn put_state(bytes: &mut [u8]) {
    put_u16(bytes, 0x36, u16::MAX); // s_max_mnt_count: never ask for a check
    put_u16(bytes, 0x38, EXT4_SUPER_MAGIC); // s_magic
    put_u16(bytes, 0x3a, EXT4_VALID_FS); // s_state
    put_u16(bytes, 0x3c, EXT4_ERRORS_RO); // s_errors
    put_u32(bytes, 0x4c, EXT4_DYNAMIC_REV); // s_rev_level
    put_u32(bytes, 0x54, low_u32(FIRST_INODE)); // s_first_ino
    put_u16(bytes, 0x58, INODE_SIZE as u16); // s_inode_size
    bytes[0xfc] = DX_HASH_HALF_MD4; // s_def_hash_version
    put_u32(bytes, 0x100, EXT4_DEFM_XATTR_USER | EXT4_DEFM_ACL); // s_default_mount_opts
    put_u16(bytes, 0x15c, EXTRA_ISIZE); // s_min_extra_isize
    put_u16(bytes, 0x15e, EXTRA_ISIZE); // s_want_extra_isize
    put_u32(bytes, 0x160, EXT2_FLAGS_SIGNED_HASH); // s_flags
}

fn put_features(bytes: &mut [u8], geometry: &Geometry) {
    let compat = COMPAT_EXT_ATTR | COMPAT_DIR_INDEX | COMPAT_SPARSE_SUPER2;
    let wide = if geometry.is_64bit() { INCOMPAT_64BIT } else { 0 };
    let incompat = INCOMPAT_FILETYPE | INCOMPAT_EXTENTS | INCOMPAT_EA_INODE | wide;
    let ro_compat = RO_COMPAT_LARGE_FILE
        | RO_COMPAT_HUGE_FILE
        | RO_COMPAT_GDT_CSUM
        | RO_COMPAT_DIR_NLINK
        | RO_COMPAT_EXTRA_ISIZE;
    put_u32(bytes, 0x5c, compat); // s_feature_compat
    put_u32(bytes, 0x60, incompat); // s_feature_incompat
    put_u32(bytes, 0x64, ro_compat); // s_feature_ro_compat
    if geometry.is_64bit() {
        put_u16(bytes, 0xfe, geometry.descriptor_size as u16); // s_desc_size
    }
}
