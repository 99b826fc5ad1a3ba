//! How large a file system must be for what goes into it.

use super::plan::FileSystem;
use kiln_image::tree::{Content, NodeId, Tree};

const BLOCK: u64 = 4096;
const MIB: u64 = 1 << 20;
/// mkfs.xfs refuses less (xfsprogs, `mkfs/xfs_mkfs.c`).
const XFS_LEAST: u64 = 300 * MIB;
/// mkfs.btrfs refuses less (btrfs-progs, `btrfs_min_dev_size`).
const BTRFS_LEAST: u64 = 109 * MIB;

/// What goes onto a file system.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Contents {
    /// Of files, rounded up to blocks, and of directories.
    pub bytes: u64,
    /// Files, directories, links and all.
    pub inodes: u64,
}

impl Contents {
    /// Of a directory of the tree without those below it that are elsewhere.
    pub fn of(tree: &Tree, top: NodeId, elsewhere: &[NodeId]) -> Self {
        let mut contents = Self::default();
        let mut seen = vec![false; tree.node_count()];
        let mut pending = vec![top];
        while let Some(id) = pending.pop() {
            if std::mem::replace(&mut seen[id.index()], true) {
                continue;
            }
            contents.inodes += 1;
            match &tree.node(id).content {
                Content::File { extents, .. } => {
                    // Holes stay holes.
                    let data: u64 = extents.iter().map(|extent| extent.length.div_ceil(BLOCK) * BLOCK).sum();
                    contents.bytes += data;
                }
                Content::Directory(children) => {
                    let names: u64 = children.keys().map(|name| name.len() as u64 + 16).sum();
                    contents.bytes += names.max(1).div_ceil(BLOCK) * BLOCK;
                    if !elsewhere.contains(&id) || id == top {
                        pending.extend(children.values());
                    }
                }
                _ => contents.bytes += BLOCK,
            }
        }
        contents
    }

    /// A size in bytes below which nobody could make the file system; above it, its tool may still refuse.
    pub fn least(self, file_system: Option<FileSystem>) -> u64 {
        let Self { bytes, inodes } = self;
        match file_system {
            Some(FileSystem::Ext2 | FileSystem::Ext3 | FileSystem::Ext4) => {
                bytes.saturating_add(inodes.saturating_mul(128))
            }
            Some(FileSystem::Xfs) => bytes.max(XFS_LEAST),
            Some(FileSystem::Btrfs) => bytes.max(BTRFS_LEAST),
            _ => bytes,
        }
    }

    /// A size in bytes that is enough, with `slack` left over.
    pub fn room(self, file_system: Option<FileSystem>, slack: u64) -> u64 {
        let Self { bytes, inodes } = self;
        let needed = match file_system {
            // Inode tables, journal and what is kept for root take shares of the whole.
            Some(FileSystem::Ext2 | FileSystem::Ext3 | FileSystem::Ext4) => {
                let inodes = inodes.saturating_mul(256);
                let plain = bytes + inodes + journal(bytes) + 8 * MIB + slack;
                // 5 per cent for root, 1.6 for inodes, and group descriptors.
                plain + plain / 11
            }
            // A log of 64 MiB.
            Some(FileSystem::Xfs) => {
                let plain = bytes + inodes * 512 + 96 * MIB + slack;
                (plain + plain / 16).max(XFS_LEAST)
            }
            // Metadata twice, in chunks of their own.
            Some(FileSystem::Btrfs) => {
                let plain = bytes + inodes * 2048 + slack;
                (plain + plain / 5 + 160 * MIB).max(256 * MIB)
            }
            Some(FileSystem::Vfat) => (bytes + bytes / 32 + 2 * MIB + slack).max(34 * MIB),
            Some(FileSystem::Squashfs | FileSystem::Erofs) => bytes + inodes * 128 + MIB + slack,
            Some(FileSystem::Swap | FileSystem::None) | None => slack.max(MIB),
        };
        needed.div_ceil(MIB) * MIB
    }
}

/// mke2fs takes more for larger file systems (`ext2fs_default_journal_size`).
fn journal(bytes: u64) -> u64 {
    match bytes / MIB {
        0..128 => 8 * MIB,
        128..1024 => 32 * MIB,
        1024..2048 => 64 * MIB,
        2048..4096 => 128 * MIB,
        4096..16384 => 256 * MIB,
        _ => 1024 * MIB,
    }
}
