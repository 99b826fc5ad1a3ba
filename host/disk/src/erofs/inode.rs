//! Inodes, `struct erofs_inode_extended`: always the long form, which alone has a time and 32-bit
//! owners.

use crate::field::{put_u16, put_u32, put_u64};
use kiln_image::entry::Metadata;
use kiln_image::tree::Content;

/// Bytes of an inode without its attributes and inline data.
pub(super) const SIZE: u64 = 64;
/// A `nid` counts these from the start of the disk.
pub(super) const SLOT_SIZE: u64 = 32;

const EXTENDED: u16 = 1;

const S_IFIFO: u16 = 0o010_000;
const S_IFCHR: u16 = 0o020_000;
const S_IFDIR: u16 = 0o040_000;
const S_IFBLK: u16 = 0o060_000;
const S_IFREG: u16 = 0o100_000;
const S_IFLNK: u16 = 0o120_000;

const EROFS_FT_REG_FILE: u8 = 1;
const EROFS_FT_DIR: u8 = 2;
const EROFS_FT_CHRDEV: u8 = 3;
const EROFS_FT_BLKDEV: u8 = 4;
const EROFS_FT_FIFO: u8 = 5;
const EROFS_FT_SYMLINK: u8 = 7;

/// Where an inode's data is: `EROFS_INODE_FLAT_PLAIN` and so on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum DataLayout {
    FlatPlain = 0,
    FlatInline = 2,
    ChunkBased = 4,
}

/// One inode's fields, as far as they are not in its [`Metadata`].
#[derive(Debug, Clone, Copy)]
pub(super) struct Inode<'t> {
    pub(super) metadata: &'t Metadata,
    pub(super) content: &'t Content,
    pub(super) layout: DataLayout,
    pub(super) size: u64,
    /// `i_u`: the first block, the device, or the form of the chunks.
    pub(super) union: u32,
    /// Counts from 1.
    pub(super) number: u32,
    pub(super) links: u32,
    /// Bytes of attributes behind the inode.
    pub(super) xattr_bytes: usize,
}

impl Inode<'_> {
    pub(super) fn encode(&self) -> [u8; SIZE as usize] {
        let mut bytes = [0; SIZE as usize];
        put_u16(&mut bytes, 0x00, EXTENDED | ((self.layout as u16) << 1)); // i_format
        put_u16(&mut bytes, 0x02, super::xattr::count(self.xattr_bytes)); // i_xattr_icount
        put_u16(&mut bytes, 0x04, format_bits(self.content) | (self.metadata.mode & 0o7777)); // i_mode
        put_u64(&mut bytes, 0x08, self.size); // i_size
        put_u32(&mut bytes, 0x10, self.union); // i_u
        put_u32(&mut bytes, 0x14, self.number); // i_ino
        put_u32(&mut bytes, 0x18, self.metadata.uid); // i_uid
        put_u32(&mut bytes, 0x1c, self.metadata.gid); // i_gid
        put_u64(&mut bytes, 0x20, self.metadata.mtime.cast_unsigned()); // i_mtime
        put_u32(&mut bytes, 0x2c, self.links); // i_nlink
        bytes
    }
}

fn format_bits(content: &Content) -> u16 {
    match content {
        Content::Directory(_) => S_IFDIR,
        Content::File { .. } => S_IFREG,
        Content::Symlink(_) => S_IFLNK,
        Content::CharacterDevice { .. } => S_IFCHR,
        Content::BlockDevice { .. } => S_IFBLK,
        Content::Fifo => S_IFIFO,
    }
}

/// The type a directory says its entry has.
pub(super) fn file_type(content: &Content) -> u8 {
    match content {
        Content::Directory(_) => EROFS_FT_DIR,
        Content::File { .. } => EROFS_FT_REG_FILE,
        Content::Symlink(_) => EROFS_FT_SYMLINK,
        Content::CharacterDevice { .. } => EROFS_FT_CHRDEV,
        Content::BlockDevice { .. } => EROFS_FT_BLKDEV,
        Content::Fifo => EROFS_FT_FIFO,
    }
}

/// A device number as Linux's `new_encode_dev` puts it; `None` when it is larger than Linux's 12
/// bits of major and 20 of minor.
pub(super) fn device_number(major: u32, minor: u32) -> Option<u32> {
    let fits = major < 1 << 12 && minor < 1 << 20;
    fits.then_some((minor & 0xff) | (major << 8) | ((minor & !0xff) << 12))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn device_numbers_are_split_as_linux_does() {
        assert_eq!(device_number(1, 3), Some(0x103));
        assert_eq!(device_number(0xfff, 0xf_ffff), Some(0xffff_ffff));
        assert_eq!(device_number(8, 0x12345), Some(0x1230_0845));
        assert_eq!(device_number(1 << 12, 0), None);
        assert_eq!(device_number(0, 1 << 20), None);
    }
}
